"""The engine as a service: a server process that never imports torch, and a worker process that does the edits."""
