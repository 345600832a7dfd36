"""Trains the built-in model from scratch on the rendered world; ``README.md`` says in which order."""
