"""Digests over bytes: of one chunk, while it is hot, and of a whole stored content. Comparing them is not done here."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from typing import Any

import xxhash

from dfmq.errors import SettingsError
from dfmq.model.digest import HEX_LENGTH
from dfmq.model.pieces import DIGEST_BYTES

#: One read of a whole content. 1 MiB keeps the buffer in the cache that the hash then finds it in.
READ_BYTES = 1 << 20

ChunkDigester = Callable[[Any], bytes]


def chunk_digest(buffer: Any) -> bytes:
    """xxh3_128 of a buffer (bytes, memoryview, …), 16 octets. Copies nothing and runs without the GIL."""
    return xxhash.xxh3_128_digest(buffer)


def chunk_digester(algorithm: str) -> ChunkDigester:
    """The function that digests a chunk by `algorithm`: xxh3_128, or blake3 cut to 16 octets. Raises SettingsError for
    any other name, and when the blake3 package is not installed."""
    if algorithm == "xxh3_128":
        return chunk_digest
    if algorithm == "blake3":
        blake3 = _blake3()

        def digest(buffer: Any) -> bytes:
            cut: bytes = blake3(buffer).digest(DIGEST_BYTES)
            return cut

        return digest
    raise SettingsError(f"chunk digests by {algorithm!r} are unknown here; the known ones are xxh3_128 and blake3")


def _blake3() -> Any:
    try:
        from blake3 import blake3
    except ImportError as error:
        raise SettingsError("blake3 digests need the package blake3: pip install 'dfmq[blake3]'") from error
    return blake3


def content_hash(algorithm: str) -> Any:
    """A fresh hash object (update, hexdigest) for whole contents: md5, sha1, sha256, sha512 or blake3. Raises
    SettingsError for any other name, and when the blake3 package is not installed."""
    if algorithm == "blake3":
        return _blake3()()
    if algorithm not in HEX_LENGTH:
        raise SettingsError(f"content digests by {algorithm!r} are unknown here: use one of {', '.join(HEX_LENGTH)}")
    # md5 and sha1 are compared with what a registry published, they keep nothing secret: allowed under FIPS too.
    return hashlib.new(algorithm, usedforsecurity=False)


def hash_file(fd: int, length: int, algorithm: str, is_stopped: Callable[[], bool]) -> str:
    """The digest of the file's first `length` octets, hex; "" when the file is shorter or `is_stopped` says so.

    Slow: for a worker thread, whose reads and updates run without the GIL. Raises OSError and SettingsError.
    """
    state = content_hash(algorithm)
    room = memoryview(bytearray(min(READ_BYTES, max(1, length))))
    offset = 0
    while offset < length:
        got = os.preadv(fd, [room[: min(len(room), length - offset)]], offset)
        if got == 0 or is_stopped():
            return ""
        state.update(room[:got])
        offset += got
    hexadecimal: str = state.hexdigest()
    return hexadecimal
