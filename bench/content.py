"""Files for benchmarks: made, compared, warm in the page cache or cold. Starts no process."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import mmap
import os
from collections.abc import Iterator
from pathlib import Path

MIB = 1 << 20
GIB = 1 << 30


def make_file(path: Path, size: int) -> str:
    """A file of `size` bytes no compressor likes; its sha256."""
    digest = hashlib.sha256()
    block = os.urandom(4 * MIB)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        left, turn = size, 0
        while left:
            piece = (turn.to_bytes(8, "big") + block[8:])[: min(left, len(block))]
            file.write(piece)
            digest.update(piece)
            left -= len(piece)
            turn += 1
        # Clean pages: dirty ones cannot be thrown out of the cache, and would be written back in somebody's round.
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def sha256_of(path: Path) -> str:
    """A file's sha256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify(outputs: list[Path], digest: str) -> None:
    """Every output is the content, or RuntimeError."""
    for output in outputs:
        if sha256_of(output) != digest:
            raise RuntimeError(f"{output} is not the content")


@contextlib.contextmanager
def warmed(folder: Path, size: int) -> Iterator[None]:
    """Files of `size` bytes in all stand in the page cache inside, and are gone after: memory that the machine has in
    hand. A virtual machine's memory that nobody touched lately costs up to ten times as much to write to."""
    paths = [folder / f"warm{n}" for n in range(-(-size // (512 * MIB)))]
    block = bytes(MIB)
    left = size
    for path in paths:
        with path.open("wb") as file:
            for _ in range(min(512, -(-left // MIB))):
                file.write(block)
        left -= 512 * MIB
    try:
        yield
    finally:
        for path in paths:
            path.unlink()


def read_through(path: Path) -> None:
    """Bring a file into the page cache."""
    with path.open("rb") as file:
        while file.read(4 * MIB):
            pass


def forget(path: Path) -> None:
    """Throw a file out of the page cache. RuntimeError when it stays: its file system may have no other place."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    cached = cached_share(path)
    if cached > 0.01:
        raise RuntimeError(f"{cached:.0%} of {path} stay in the page cache: give a --dir on a disk, not on a tmpfs")


def cached_share(path: Path) -> float:
    """How much of a file is in the page cache, 0 to 1. Looks only: a read, even one that must not wait, reads ahead."""
    size = path.stat().st_size
    with path.open("rb") as file, mmap.mmap(file.fileno(), size, access=mmap.ACCESS_COPY) as mapped:
        pages = (ctypes.c_ubyte * -(-size // mmap.PAGESIZE))()
        start = ctypes.c_char.from_buffer(mapped)
        failed = ctypes.CDLL(None, use_errno=True).mincore(ctypes.byref(start), ctypes.c_size_t(size), pages)
        # The map cannot be closed while something points into it.
        del start
        if failed:
            raise OSError(ctypes.get_errno(), f"{path}: mincore")
    return sum(page & 1 for page in pages) / len(pages)
