"""Reading what is stored, to send it: slices of a map, or pread. Writes nothing."""

from __future__ import annotations

import mmap
import os
import threading
from collections import OrderedDict

from dfmq.edges import hashing
from dfmq.edges.store.journal import Stamp
from dfmq.edges.store.shelf import Shelf
from dfmq.errors import StoreError
from dfmq.model.ids import TaskId, short

#: Files kept open for reading; each costs two descriptors, the map holds one of its own.
MOST_WINDOWS = 64
#: After so many octets given out of a map its pages are let go: they stay in the system's cache, and come back by
#: themselves where a slice is still being sent. Else a seed's memory would look as large as what it serves.
LET_GO_BYTES = 32 << 20
#: A file up to so long is read: to map it, and to take the map away again, costs more than to copy it.
LEAST_MAPPED_BYTES = 64 << 10


class Window:
    """One data file, open for reading. Its map is never closed by hand: a slice that is still being sent keeps it, and
    it goes with the last one."""

    def __init__(self, shelf: Shelf) -> None:
        self.shelf = shelf
        self.fd = os.open(shelf.data_path, os.O_RDONLY | os.O_CLOEXEC)
        self._map: mmap.mmap | None = None
        self._view = memoryview(b"")
        #: given out since the pages were let go
        self._given = 0

    def look(self) -> os.stat_result:
        """The file as it is now."""
        return os.fstat(self.fd)

    def mapped(self, size: int, offset: int, length: int) -> memoryview:
        """A slice of the file of `size` octets, at least one, as memory. A file that has grown is mapped anew; the old
        map lives on in its slices."""
        if self._map is None or len(self._view) < size:
            self._map = mmap.mmap(self.fd, size, mmap.MAP_SHARED, mmap.PROT_READ)
            self._view = memoryview(self._map)
        self._given += length
        if self._given > LET_GO_BYTES:
            self._given = length
            if hasattr(mmap, "MADV_DONTNEED"):
                self._map.madvise(mmap.MADV_DONTNEED)
        return self._view[offset : offset + length]

    def close(self) -> None:
        """Close the file; the map has a descriptor of its own."""
        self.unmap()
        os.close(self.fd)

    def unmap(self) -> None:
        """Forget the map; it goes when its last slice does."""
        self._map = None
        self._view = memoryview(b"")


class Damaged(StoreError):
    """The file's octets are not what was stored: the content must go."""


class Spans:
    """Open windows, least recently used first.

    A map is only given out of a file that the store alone owns (one name): whoever has another name for it can truncate
    it, and reading a map beyond the end of its file kills the process. Other files are read, short ones, and those that
    are lent, which may get another name at any moment. (That does not save a slice that was queued before and is still
    not sent when somebody truncates the file. To wait for it would hold up every get, to copy the output costs more.)

    The owner's thread reads; the writer's makes it forget what is deleted, or an open window would keep the blocks.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._windows: OrderedDict[TaskId, Window] = OrderedDict()
        #: only the owner's thread changes it
        self._lent: set[TaskId] = set()

    def read(self, shelf: Shelf, offset: int, length: int) -> memoryview | bytes:
        """The octets. Raises Damaged when they are not what was stored, StoreError when they cannot be read."""
        try:
            with self._lock:
                return _span(self._window(shelf), offset, length, may_map=shelf.task not in self._lent)
        except FileNotFoundError as error:
            raise Damaged(f"{shelf.data_path} is gone") from error
        except OSError as error:
            raise StoreError(f"task {short(shelf.task)} cannot be read in {shelf.folder}: {error}") from error

    def _window(self, shelf: Shelf) -> Window:
        window = self._windows.get(shelf.task)
        if window is None or window.shelf is not shelf:
            self._forget(shelf.task)
            window = self._windows[shelf.task] = Window(shelf)
            if window.look().st_ino != shelf.inode:
                self._forget(shelf.task)
                raise Damaged(f"{shelf.data_path} was replaced by another file")
            if len(self._windows) > MOST_WINDOWS:
                self._windows.popitem(last=False)[1].close()
        self._windows.move_to_end(shelf.task)
        return window

    def lend(self, task: TaskId) -> None:
        """Give no more slices of a map of it."""
        self._lent.add(task)

    def take_back(self, task: TaskId) -> None:
        """It is lent no more: how many names it has now is how many it stays with."""
        self._lent.discard(task)

    def forget(self, task: TaskId) -> None:
        """The task's file is not needed any more; unknown ones are fine. From any thread."""
        with self._lock:
            self._forget(task)

    def _forget(self, task: TaskId) -> None:
        window = self._windows.pop(task, None)
        if window is not None:
            window.close()

    def clear(self) -> None:
        """Forget every file."""
        for task in list(self._windows):
            self.forget(task)


def _span(window: Window, offset: int, length: int, *, may_map: bool) -> memoryview | bytes:
    shelf, look = window.shelf, window.look()
    if length <= 0 or offset < 0 or offset + length > look.st_size:
        raise _short(shelf, offset, length, look.st_size)
    if shelf.stamp is not None and not shelf.stamp.fits(Stamp.of(look)):
        window.unmap()
        return _proven(window, offset, length)
    if look.st_nlink == 1 and may_map and look.st_size >= LEAST_MAPPED_BYTES:
        return window.mapped(look.st_size, offset, length)
    window.unmap()
    return _read(window, offset, length)


def _short(shelf: Shelf, offset: int, length: int, size: int) -> StoreError:
    text = f"task {short(shelf.task)}: no {length} octets at {offset}, the file has {size}"
    return Damaged(text) if shelf.stamp is not None and size < shelf.stamp.size else StoreError(text)


def _read(window: Window, offset: int, length: int) -> bytes:
    octets = os.pread(window.fd, length, offset)
    if len(octets) != length:
        raise Damaged(f"{window.shelf.data_path} became shorter while it was read")
    return octets


def _proven(window: Window, offset: int, length: int) -> bytes:
    """The octets of a finished file that was touched since: each chunk of them is proven anew. Touching alone (a new
    time, as rsync or touch give, another name or mode) is no damage, and xxh3 costs less than fetching again."""
    shelf, cut = window.shelf, window.shelf.content.cut
    digest = hashing.chunk_digester(shelf.content.algorithm)
    parts, at = [], offset
    while at < offset + length:
        piece, inside = divmod(at, cut.piece_length)
        chunk = inside // cut.chunk_length
        first, size = cut.chunk_span(piece, chunk)
        octets = _read(window, first, size)
        if digest(octets) != shelf.digest(piece, chunk):
            raise Damaged(f"{shelf.data_path} was changed from outside: piece {piece}, chunk {chunk} proves no more")
        part = octets[at - first : offset + length - first]
        parts.append(part)
        at += len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)
