"""Sizes, rates and durations as they are printed. Apart from how they are read, which takes expressions that take
milliseconds to compile: whoever only prints needs none."""

from __future__ import annotations


def show_bytes(count: float) -> str:
    """A size to read: `1.5 GiB`, `312 B`."""
    if count < 1024:
        return f"{count:.0f} B"
    for unit in ("KiB", "MiB", "GiB", "TiB", "PiB"):
        count /= 1024
        # 1023.95 would be printed as 1024.0 of the smaller unit
        if count < 1023.95 or unit == "PiB":
            break
    return f"{count:.1f} {unit}"


def show_rate(bytes_per_second: float) -> str:
    """A rate to read: `117.3 MiB/s`."""
    return f"{show_bytes(bytes_per_second)}/s"


def show_seconds(seconds: float) -> str:
    """A duration to read: `0.42 s`, `8.3 s`, `3m20s`, `2h05m`."""
    if seconds < 1:
        return f"{seconds:.2f} s"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
