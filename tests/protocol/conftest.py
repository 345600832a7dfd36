"""What every test here is held to."""

from tests.protocol.leaks import nothing_leaks  # noqa: F401  used by every test
