"""Bringing to the disk what was written: many small contents together, beside the writer's thread. What is written onto
a shelf is in scribe."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from functools import partial

from dfmq.edges.store import journal, slow
from dfmq.edges.store.shelf import Shelf
from dfmq.edges.store.shelves import Shelves
from dfmq.edges.store.writer import Job
from dfmq.errors import StoreError
from dfmq.model.ids import short

log = logging.getLogger(__name__)

#: What is to be synced waits so long for others: contents of 1 KiB come some hundred a second, and each alone costs two
#: threads a waking. Nobody waits for it, and what is not synced when the host fails is only proven once more.
GATHER_SECONDS = 0.05
#: Shelves in one go, each with four open files meanwhile; and goes under way. A disk that is slower than the network is
#: not overrun with open files.
MOST_TOGETHER = 64
MOST_UNDER_WAY = 2


class Syncs:
    """Law: a shelf is `is_syncing` from when its sync is wanted until that is done; its mark is journalled after the
    sync of what stood before it. Everything here but the syncing itself runs in the writer's thread."""

    def __init__(self, shelves: Shelves, later: Callable[[float, Job], None]) -> None:
        """`later`: do a job in the writer's thread after so many seconds, unless it ends before."""
        self._shelves = shelves
        self._later = later
        #: wanted, and not begun
        self._waiting: dict[Shelf, None] = {}
        self._is_gathering = False
        self._under_way = 0

    def want(self, shelf: Shelf) -> None:
        """Bring to the disk what is written of it so far, soon; one sync at a time for each task."""
        if self._shelves.slow.is_stopped():
            return
        shelf.unsynced_bytes = 0
        shelf.must_sync = shelf.is_syncing and shelf not in self._waiting
        if shelf.is_syncing:
            return
        shelf.is_syncing = True
        self._waiting[shelf] = None
        if len(self._waiting) > MOST_TOGETHER and shelf.stamp is not None:
            # Nothing more is written to it; it is opened again when its turn comes.
            shelf.close_files()
        self._look()

    def _look(self) -> None:
        """Begin if enough are gathered, or gather more."""
        if len(self._waiting) >= MOST_TOGETHER:
            self._begin()
        elif self._waiting and not self._is_gathering:
            self._is_gathering = True
            self._later(GATHER_SECONDS, self._gathered)

    def _gathered(self) -> None:
        self._is_gathering = False
        self._begin()

    def _begin(self) -> None:
        """Sync those that have waited longest. Copies of their files: a shelf may be closed while that goes on."""
        if self._under_way >= MOST_UNDER_WAY or self._shelves.slow.is_stopped():
            return
        begun: list[tuple[Shelf, int]] = []
        fds: list[list[int]] = []
        for shelf in list(self._waiting)[:MOST_TOGETHER]:
            del self._waiting[shelf]
            try:
                if self._is_there(shelf):
                    shelf.open_files()
                    fds.append(_copies(shelf))
                    begun.append((shelf, shelf.journal_bytes))
                    continue
            except (OSError, StoreError) as problem:
                log.warning("task %s: it cannot be synced: %s", short(shelf.task), problem)
            shelf.is_syncing = False
        if begun:
            self._under_way += 1
            self._shelves.slow.do(partial(slow.sync, fds), partial(self._synced, begun))
        elif self._waiting:
            # None of those was left: nobody comes back from the disk to begin with the next.
            self._look()

    def _is_there(self, shelf: Shelf) -> bool:
        return self._shelves.by_task.get(shelf.task) is shelf and not shelf.is_broken

    def _synced(self, begun: list[tuple[Shelf, int]], errors: list[OSError | None]) -> None:
        self._under_way -= 1
        for (shelf, mark), error in zip(begun, errors, strict=True):
            shelf.is_syncing = False
            if self._shelves.by_task.get(shelf.task) is shelf:
                self._end(shelf, mark, error)
        self._look()

    def _end(self, shelf: Shelf, mark: int, error: OSError | None) -> None:
        if error is not None:
            # The kernel has thrown away what it could not write: nothing in the file can be trusted any more.
            log.error("task %s: syncing %s failed, it is dropped: %s", short(shelf.task), shelf.folder, error)
            self._shelves.damage(shelf, "unsynced")
            return
        is_written = shelf.is_open and shelf.stamp is None
        try:
            shelf.open_files()
            shelf.append(journal.synced_record(mark))
            if shelf.must_sync:
                self.want(shelf)
        except (OSError, StoreError) as problem:
            log.warning("task %s: no sync mark could be written: %s", short(shelf.task), problem)
        if not is_written and not shelf.is_syncing:
            shelf.close_files()


def _copies(shelf: Shelf) -> list[int]:
    """Of its open files. Raises OSError, and has then opened none."""
    data = os.dup(shelf.data_fd)
    try:
        return [data, os.dup(shelf.journal_fd)]
    except OSError:
        os.close(data)
        raise
