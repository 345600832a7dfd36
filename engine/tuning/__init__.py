"""One-shot tuning: an image checkpoint and one clip become a tuned video checkpoint."""
