"""Undoing a Content-Encoding nobody asked for. Which encodings we can read, and reading them; no HTTP."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator

from dfmq.errors import SourceError
from dfmq.model.pieces import MIB

READABLE = frozenset({"gzip", "x-gzip", "deflate"})
#: A block of 256 KiB may inflate to 256 MiB: what is given out at once is bounded instead.
_MOST_AT_ONCE = MIB
_GZIP = 16 + zlib.MAX_WBITS


async def decoded(blocks: AsyncIterator[bytes], encoding: str, where: str) -> AsyncIterator[bytes]:
    """The content of an encoded body, block by block; the work is done in a thread. Raises SourceError for what is no
    such encoding, and for a body that ends too early."""
    inflater: zlib._Decompress | None = None
    async for block in blocks:
        rest = block
        while rest:
            if inflater is not None and inflater.eof and encoding != "deflate":
                # What was padded with zeros to whole blocks is read by gzip without a word.
                rest = rest.lstrip(b"\0")
                if not rest:
                    break
            if inflater is None or inflater.eof:
                # gzip may have several members, one after the other (RFC 1952, section 2.2).
                inflater = zlib.decompressobj(_window_bits(encoding, rest))
            try:
                out = await asyncio.to_thread(inflater.decompress, rest, _MOST_AT_ONCE)
            except zlib.error as error:
                raise SourceError(f"{where} says its body is {encoding}, but it is not: {error}") from error
            rest = inflater.unconsumed_tail
            if inflater.eof:
                rest = inflater.unused_data
            if out:
                yield out
    if inflater is not None and not inflater.eof:
        # A raw deflate body has no trailer: what the bound held back may be all that is missing.
        out = inflater.flush()
        if out:
            yield out
    if inflater is None or not inflater.eof:
        raise SourceError(f"{where} broke off: its {encoding} body has no end")


def _window_bits(encoding: str, start: bytes) -> int:
    """`deflate` is zlib's format by the book, and raw deflate by some servers; the first octets tell."""
    if encoding != "deflate":
        return _GZIP
    with_header = len(start) > 1 and start[0] & 0x0F == 8 and (start[0] << 8 | start[1]) % 31 == 0
    return zlib.MAX_WBITS if with_header else -zlib.MAX_WBITS
