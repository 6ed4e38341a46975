"""What earlier lives of a peer left in its store: told to its machine at the start, so that the broker hears of it."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable

from dfmq.edges.store.content import Store
from dfmq.machines.events import StoreLoaded
from dfmq.model.ids import TaskId
from dfmq.model.task import Shelved

log = logging.getLogger(__name__)

#: Those used last; each costs some KiB of memory, a look into its journal and a message.
MOST_RECALLED = 4096


class Remains:
    """Recalls the store's tasks one after the other, in between of whatever else is to be done.

    Law: at most one recall is under way, and nothing is told of a task that was dropped meanwhile.
    """

    def __init__(self, store: Store, loop: asyncio.AbstractEventLoop, feed: Callable[[StoreLoaded], None]) -> None:
        self._store = store
        self._loop = loop
        self._feed = feed
        self._left: deque[TaskId] = deque()
        self._awaited: TaskId | None = None
        self._listing: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """To be called once."""
        self._listing = self._loop.create_task(self._list())

    async def _list(self) -> None:
        try:
            tasks = await asyncio.to_thread(self._store.tasks)
        except OSError as error:
            log.warning("what is in the store cannot be listed: %s", error)
            return
        self._left.extend(tasks[:MOST_RECALLED])
        self._next()

    def _next(self) -> None:
        if self._left:
            self._awaited = self._left.popleft()
            self._store.recall(self._awaited)

    def recalled(self, task: TaskId, shelved: Shelved | None) -> None:
        """The store's answer."""
        if shelved is not None and self._awaited == task:
            self._feed(StoreLoaded(task, shelved))
        self._next()

    def dropped(self, task: TaskId) -> None:
        """What was recalled of it is not so any more."""
        if self._awaited == task:
            self._awaited = None

    def end(self) -> None:
        """Recall nothing more."""
        self._left.clear()
        if self._listing is not None:
            self._listing.cancel()
