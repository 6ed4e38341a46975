"""What takes long (syncing, reading whole contents), beside the writer's thread. What it is for, shelves knows."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event
from typing import TypeVar

from dfmq.edges import hashing
from dfmq.edges.store import loading
from dfmq.edges.store.journal import ChunkLine
from dfmq.edges.store.shelf import Shelf
from dfmq.edges.store.writer import Job
from dfmq.errors import SettingsError
from dfmq.model.ids import short

log = logging.getLogger(__name__)

#: Reading and syncing wait for the disk, and hashing runs without the GIL; more than two at once only make a disk seek.
_THREADS = 2

T = TypeVar("T")


class SlowWork:
    """A small pool whose results come back as jobs of the writer's thread."""

    def __init__(self, put: Callable[[Job], None]) -> None:
        self._put = put
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="dfmq-store-slow")
        self._is_closing = False
        self._stop = Event()

    def is_stopped(self) -> bool:
        """Whether long work is to end early; its result is then not worth anything."""
        return self._stop.is_set()

    def do(self, work: Callable[[], T], then: Callable[[T], object]) -> None:
        """Do `work` in the pool, go on with its result in the writer's thread. An exception of it, a bug of ours,
        comes up there too. After `end` nothing is done."""
        if self._is_closing:
            return

        def back(future: Future[T]) -> None:
            self._put(lambda: then(future.result()))

        self._pool.submit(work).add_done_callback(back)

    def end(self) -> None:
        """Take nothing new, stop what goes on and wait for it; results come back as jobs. Twice does no harm."""
        self._is_closing = True
        self._stop.set()
        self._pool.shutdown()


def sync(files: list[list[int]]) -> list[OSError | None]:
    """fdatasync each of these and close them; what went wrong with each row of them."""
    return [_sync(fds) for fds in files]


def _sync(fds: list[int]) -> OSError | None:
    try:
        for fd in fds:
            os.fdatasync(fd)
    except OSError as error:
        return error
    finally:
        for fd in fds:
            os.close(fd)
    return None


def prove_lines(shelf: Shelf, lines: list[ChunkLine], is_stopped: Callable[[], bool]) -> list[ChunkLine]:
    """Those lines that are still true of the file."""
    try:
        return loading.prove(shelf, lines, is_stopped)
    except OSError as error:
        log.warning("task %s: what was stored cannot be read: %s", short(shelf.task), error)
        return []


def prove_content(shelf: Shelf, algorithm: str, is_stopped: Callable[[], bool]) -> str:
    """The digest of a complete shelf's content, hex; "" when it cannot be had."""
    try:
        fd = os.open(shelf.data_path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return hashing.hash_file(fd, shelf.content.cut.length or 0, algorithm, is_stopped)
        finally:
            os.close(fd)
    except (OSError, SettingsError) as error:
        log.warning("task %s: no %s of its content: %s", short(shelf.task), algorithm, error)
        return ""
