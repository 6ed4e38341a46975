"""Facts of other threads on their way into the loop's: gathered while it is busy, taken in a row. Judges nothing."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from dfmq.edges.bus.loop import Turn


class Hops:
    """Waking the loop for every fact costs a write, a read and a turn of its own; for what the store tells of many
    small contents that was a tenth of a peer's work.

    Law: what was put is taken once, in the order in which it was put, in the loop's thread.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, turn: Turn) -> None:
        """`turn` begins before a row and ends after it."""
        self._loop = loop
        self._turn = turn
        self._waiting: deque[tuple[Callable[[Any], None], Any]] = deque()
        #: the loop knows that something waits
        self._is_called = False

    def put(self, take: Callable[[Any], None], fact: Any) -> None:
        """Let the loop's thread call `take(fact)`. From any thread."""
        self._waiting.append((take, fact))
        # The loop says that it was called before it looks: whoever still finds it called is looked for.
        if not self._is_called:
            self._is_called = True
            self._loop.call_soon_threadsafe(self._take)

    def _take(self) -> None:
        self._is_called = False
        waiting = self._waiting
        self._turn.begin()
        try:
            for _ in range(len(waiting)):
                take, fact = waiting.popleft()
                take(fact)
        finally:
            self._turn.end()
            if waiting and not self._is_called:
                self._is_called = True
                self._loop.call_soon(self._take)
