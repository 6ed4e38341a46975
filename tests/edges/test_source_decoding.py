"""Bodies that came encoded: what is read as gzip reads it, and what is no such thing."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator

import pytest

from dfmq.edges.source.decoding import decoded
from dfmq.errors import SourceError

CONTENT = bytes(range(256)) * 100
MEMBER = gzip.compress(CONTENT)


async def _read(*blocks: bytes, encoding: str = "gzip") -> bytes:
    async def body() -> AsyncIterator[bytes]:
        for block in blocks:
            yield block

    return b"".join([out async for out in decoded(body(), encoding, "http://source/x")])


@pytest.mark.parametrize("blocks", [(MEMBER + bytes(700),), (MEMBER, bytes(300), bytes(400)), (MEMBER + b"\0", b"")])
async def test_zeros_after_the_end_are_padding(blocks: tuple[bytes, ...]) -> None:
    assert await _read(*blocks) == CONTENT


async def test_another_member_may_follow_with_or_without_padding() -> None:
    assert await _read(MEMBER + bytes(100) + MEMBER, MEMBER) == CONTENT * 3


@pytest.mark.parametrize("blocks", [(MEMBER + b"garbage",), (MEMBER + bytes(9) + b"garbage",), (bytes(9) + MEMBER,)])
async def test_anything_else_there_is_an_error(blocks: tuple[bytes, ...]) -> None:
    with pytest.raises(SourceError, match="says its body is gzip, but it is not"):
        await _read(*blocks)


async def test_a_member_that_breaks_off_is_an_error() -> None:
    with pytest.raises(SourceError, match="broke off"):
        await _read(MEMBER + bytes(8), MEMBER[:-9])
