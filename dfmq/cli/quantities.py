"""Sizes, rates and durations as people type them. Knows no setting and no flag."""

from __future__ import annotations

import re

from dfmq.cli.amounts import show_bytes
from dfmq.errors import SettingsError

#: SI prefixes are decimal, IEC prefixes binary; a bare K, M, G, T counts as SI, as disk and network makers count.
FACTORS = {
    "": 1,
    "k": 10**3,
    "m": 10**6,
    "g": 10**9,
    "t": 10**12,
    "ki": 1 << 10,
    "mi": 1 << 20,
    "gi": 1 << 30,
    "ti": 1 << 40,
}
SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
#: The bus carries sizes below 2**60 and rates below 2**50 (wire/messages).
MOST_BYTES = 2**60 - 1
MOST_RATE = 2**50 - 1
#: wire/messages.Seconds
MOST_SECONDS = 1e9

NOTHING = ("0", "none", "off", "unlimited")

#: ASCII digits, and no more of them than a float can hold.
_NUMBER = r"[0-9]{1,30}(?:\.[0-9]{1,30})?"
_SIZE = re.compile(rf"({_NUMBER})\s*([kKmMgGtT][iI]?|)([bB]|[bB][yY][tT][eE][sS]?|)\Z")
_RATE = re.compile(rf"({_NUMBER})\s*([kKmMgGtT]i?|)(B|bytes?|bits?|b|)(/s|ps|)\Z")
_DURATION = re.compile(rf"({_NUMBER})\s*(ms|s|m|h|d)")


def parse_size(text: str) -> int:
    """`20MB`, `1.5GiB`, `4096` → bytes; `0` and `none` → 0. Raises SettingsError."""
    value = text.strip()
    if value.lower() in NOTHING:
        return 0
    found = _SIZE.match(value)
    if found is None:
        raise SettingsError(f"{text!r} is no size: write 20MB, 1.5GiB or a number of bytes; 0 means none")
    return _bounded(float(found[1]) * FACTORS[found[2].lower()], found[1], found[2], MOST_BYTES, text)


def parse_rate(text: str) -> int:
    """`20MB/s`, `200Mbit/s`, `20MB`, `4096` → bytes per second; `0` and `none` → 0. Raises SettingsError.

    A lower-case b alone is refused: half the world means bits by it.
    """
    value = text.strip()
    if value.lower() in NOTHING:
        return 0
    found = _RATE.match(value)
    if found is None:
        raise SettingsError(f"{text!r} is no rate: write 20MB/s, 200Mbit/s or a number of bytes; 0 means no limit")
    number, prefix, unit = found[1], found[2], found[3]
    if unit == "b":
        raise SettingsError(
            f"{text!r} may be bits or bytes: write {number}{prefix}B/s for bytes or {number}{prefix}bit/s for bits"
        )
    per_unit = 0.125 if unit.startswith("bit") else 1.0
    return _bounded(float(number) * FACTORS[prefix.lower()] * per_unit, number, prefix, MOST_RATE, text)


def _bounded(value: float, number: str, prefix: str, most: int, text: str) -> int:
    exact = int(number) * FACTORS[prefix.lower()] if number.isdigit() and value >= 2**53 else round(value)
    if exact > most:
        raise SettingsError(f"{text!r} is more than dfmq can count ({show_bytes(most)}); leave it at 0 for none")
    return exact


def parse_duration(text: str) -> float:
    """`5m`, `90s`, `1h30m`, `250ms`, `10` → seconds; `0` and `none` → 0. Raises SettingsError."""
    value = text.strip().lower()
    if value in NOTHING:
        return 0.0
    if re.fullmatch(_NUMBER, value):
        value += "s"
    total, at = 0.0, 0
    for found in _DURATION.finditer(value):
        if found.start() != at:
            break
        total += float(found[1]) * SECONDS[found[2]]
        at = found.end()
    if at != len(value) or not value:
        raise SettingsError(f"{text!r} is no duration: write 90s, 5m, 1h30m or a number of seconds")
    if total > MOST_SECONDS:
        raise SettingsError(f"{text!r} is longer than dfmq can wait; write 0 for no end")
    return total
