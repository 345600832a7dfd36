"""FateZero for the Video Sequencer: say what is in a strip and what shall be there instead."""

from .registration import register, unregister  # noqa: F401
