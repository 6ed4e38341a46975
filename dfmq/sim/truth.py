"""What simulated content consists of: for every chunk, which bytes of which version it is. No payload is ever made."""

from __future__ import annotations

from hashlib import blake2b
from typing import NamedTuple


class Truth(NamedTuple):
    """A span of one version of one source file, made by `truth_of`; stands for its bytes wherever a payload would."""

    url: str
    version: int
    offset: int
    length: int
    #: 16 octets that stand for the chunk's digest, a pure function of the rest
    digest: bytes


def truth_of(url: str, version: int, offset: int, length: int) -> Truth:
    """The truth on a span, with its digest: computed once, where the chunk is read, though every peer proves it."""
    digest = blake2b(repr((url, version, offset, length)).encode(), digest_size=16).digest()
    return Truth(url, version, offset, length, digest)


def content_hex(url: str, version: int, length: int, size: int = 64) -> str:
    """What stands for the digest of a whole version, as `size` hex digits."""
    return blake2b(f"{url} {version} {length}".encode(), digest_size=size // 2).hexdigest()


def flaw(chunks: list[Truth], url: str, length: int) -> str:
    """Why these chunks, in order, are not one version of the content; "" when they are."""
    position = 0
    for truth in chunks:
        if truth.url != url:
            return f"{truth} is not of {url}"
        if truth.version != chunks[0].version:
            return f"{truth} is of another version than {chunks[0]}"
        if truth.offset != position:
            return f"{truth} stands at {position}"
        position += truth.length
    return "" if position == length else f"{position} bytes of {length}"
