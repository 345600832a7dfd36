"""The engine: FateZero on a GPU or CPU, as a library, a command line and a service."""

__version__ = "0.1.0"
