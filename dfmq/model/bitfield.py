"""A set of pieces or chunks, compact: a Python int as bit set, and its wire form. No policy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator


def full(count: int) -> int:
    """The set {0 … count-1}."""
    return (1 << count) - 1


def of(members: Iterable[int]) -> int:
    """The set of the given members."""
    bits = 0
    for member in members:
        bits |= 1 << member
    return bits


def of_below(members: Iterable[int], limit: int) -> int:
    """The set of those members that are less than the limit; what others say may be beyond anything."""
    return of(member for member in members if member < limit)


def members(bits: int) -> Iterator[int]:
    """The members in ascending order."""
    while bits:
        low = bits & -bits
        yield low.bit_length() - 1
        bits ^= low


def to_bytes(bits: int) -> bytes:
    """Wire form: little-endian, bit i of octet i//8 is member i; no trailing zero octets; b"" is the empty set."""
    return bits.to_bytes((bits.bit_length() + 7) // 8, "little")


def from_bytes(data: bytes) -> int:
    """The inverse of to_bytes; trailing zero octets are allowed."""
    return int.from_bytes(data, "little")
