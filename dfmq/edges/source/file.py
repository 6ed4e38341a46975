"""file:///PATH as a source: read in blocks by a thread, never a mix of two versions, and only where that is allowed."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator
from urllib.parse import unquote_to_bytes, urlsplit

from dfmq.edges.source.reply import Asked, Head, SourceReply
from dfmq.errors import NotAuthorised, SourceError, SourceRefused
from dfmq.model.pieces import MIB

#: One pread. As large as the largest chunk and cut at its multiples, so a chunk is never put together from two blocks.
BLOCK_BYTES = MIB
#: O_NONBLOCK: opening a fifo without a writer would wait for ever; a regular file does not care.
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK


async def ask_file(asked: Asked, folders: tuple[str, ...] | None) -> SourceReply:
    """Open the file and say what it is. `folders`: it must be in one of them, in fact; None: anywhere. See
    Sources.ask."""
    url = asked.request.url.strip()
    path = unquote_to_bytes(urlsplit(url).path)
    handle, found = await asyncio.to_thread(_opened, path, folders)
    etag = _stamp(found)
    same = not asked.etag or asked.etag == etag
    if asked.unchanged_will_do and asked.etag == etag:
        os.close(handle)
        return FileReply(Head(kind="unchanged", length=found.st_size, etag=etag, ranges=True), None, os.fsdecode(path))
    partial = 0 < asked.offset <= found.st_size and same
    head = Head(
        kind="partial" if partial else "full",
        offset=asked.offset if partial else 0,
        length=found.st_size,
        etag=etag,
        ranges=True,
    )
    return FileReply(head, handle, os.fsdecode(path))


def _opened(path: bytes, folders: tuple[str, ...] | None) -> tuple[int, os.stat_result]:
    name = os.fsdecode(path)
    if b"\0" in path:
        raise SourceRefused(f"file {name!r}: no file has such a name", permanent=True)
    try:
        handle = os.open(path, _FLAGS) if folders is None else _open_inside(path, folders)
    except OSError as error:
        raise _refusal(name, error) from error
    try:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            what = "a directory" if stat.S_ISDIR(found.st_mode) else "not a regular file"
            raise SourceRefused(f"file {name} is {what}: only regular files can be sources", permanent=True)
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_SEQUENTIAL)
    except BaseException:
        os.close(handle)
        raise
    return handle, found


def _open_inside(path: bytes, folders: tuple[str, ...]) -> int:
    """Open a file that is in one of the folders once every link is followed. What is outside is refused whether it
    exists or not. Raises SourceRefused, OSError."""
    real = os.path.realpath(path)
    for folder in folders:
        root = os.path.realpath(os.fsencode(folder))
        inside = os.path.relpath(real, root)
        if inside != b"." and inside.split(b"/")[0] != b"..":
            return _walk(root, inside.split(b"/"))
    raise SourceRefused(
        f"file {os.fsdecode(path)}: this host gives no such file to others; dfmq-broker --files DIR lets it give "
        "those below DIR",
        permanent=True,
    )


def _walk(root: bytes, names: list[bytes]) -> int:
    """Open step by step and follow no link: one that is put there after the path was looked at leads nowhere."""
    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in names[:-1]:
            below = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            os.close(folder)
            folder = below
        return os.open(names[-1], _FLAGS | os.O_NOFOLLOW, dir_fd=folder)
    finally:
        os.close(folder)


def _refusal(name: str, error: OSError) -> SourceError:
    if isinstance(error, PermissionError):
        return NotAuthorised(f"file {name} may not be read by this process: change its permissions", permanent=True)
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return SourceRefused(f"file {name} does not exist on the host that reads it: check the path", permanent=True)
    return SourceError(f"file {name} cannot be opened: {error.strerror}", permanent=True)


def _stamp(found: os.stat_result) -> str:
    """What changes when the content does, written as a strong ETag."""
    return f'"{found.st_ino:x}-{found.st_size:x}-{found.st_mtime_ns:x}"'


class FileReply(SourceReply):
    """An open file. `handle` None: unchanged, nothing to read."""

    def __init__(self, head: Head, handle: int | None, name: str) -> None:
        super().__init__(head)
        self._handle = handle
        self._name = name
        self._reading: asyncio.Future[bytes] | None = None

    async def body(self) -> AsyncIterator[bytes]:
        """See SourceReply.body."""
        if self.kind == "unchanged":
            return
        position, end = self.offset, self.length or 0
        while position < end:
            wanted = min(end, position - position % BLOCK_BYTES + BLOCK_BYTES) - position
            block = await self._pread(wanted, position)
            if not block:
                raise SourceError(f"file {self._name} became shorter while it was read: it ends at byte {position}")
            position += len(block)
            if position == end:
                await self._check_unchanged()
            yield block
        if self.length == 0:
            await self._check_unchanged()

    async def _pread(self, wanted: int, position: int) -> bytes:
        if self._handle is None:
            raise SourceError(f"file {self._name} is closed", permanent=True)
        reading = asyncio.get_running_loop().run_in_executor(None, os.pread, self._handle, wanted, position)
        self._reading = reading
        try:
            # Shielded: the thread cannot be stopped, and close() must know that it still uses the handle.
            return await asyncio.shield(reading)
        except OSError as error:
            raise SourceError(f"file {self._name} broke at byte {position}: {error.strerror}") from error

    async def _check_unchanged(self) -> None:
        if self._handle is None:
            raise SourceError(f"file {self._name} is closed", permanent=True)
        found = await asyncio.to_thread(os.fstat, self._handle)
        if _stamp(found) != self.etag:
            raise SourceError(f"file {self._name} was changed while it was read: its content cannot be trusted")

    async def close(self) -> None:
        """See SourceReply.close."""
        handle, self._handle = self._handle, None
        if handle is None:
            return
        if self._reading is None or self._reading.done():
            os.close(handle)
        else:
            self._reading.add_done_callback(lambda reading: _let_go(reading, handle))


def _let_go(reading: asyncio.Future[bytes], handle: int) -> None:
    if not reading.cancelled():
        reading.exception()  # nobody waits for this block any more, so nobody is to hear how it went
    os.close(handle)
