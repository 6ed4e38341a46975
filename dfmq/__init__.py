"""dfmq: the same bytes onto many hosts."""

__version__ = "0.1.0"
