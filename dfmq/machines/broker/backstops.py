"""Named instants that hardly ever come, and which of them comes first. As machines/deadlines, for many keys."""

from __future__ import annotations

import heapq
from typing import Generic, TypeVar

K = TypeVar("K", bound=int)

#: instants that are not near stand by steps of so much, unsorted; a power of two, so that nothing is rounded
STEPS_PER_SECOND = 64
#: stale entries are dropped when they are so many times the live ones
MOST_STALE = 3
FEW = 64


class Backstops(Generic[K]):
    """At most one instant a key. Law: every live key has an entry at its instant, in the heap when that is before the
    horizon, in its step otherwise; stale entries are skipped; neither a live key's instant
    nor a step is before `soonest`.

    A lease ends long before its deadline: what is cleared by then never gets into the heap, which was a tenth of a
    grant's cost. Where instants do come, or keys are few, Deadlines is the quicker.
    """

    def __init__(self) -> None:
        self._at: dict[K, float] = {}
        self._heap: list[tuple[float, K]] = []
        self._horizon = float("-inf")
        #: step → its entries, and the steps there are, a heap
        self._later: dict[int, list[tuple[float, K]]] = {}
        self._steps: list[int] = []
        #: `due` finds nothing before this
        self.soonest = float("inf")
        self._entries = 0

    def set(self, key: K, at: float) -> None:
        """Give or move a key's instant."""
        if self._at.get(key) == at:
            return
        self._at[key] = at
        if at < self.soonest:
            self.soonest = int(at * STEPS_PER_SECOND) / STEPS_PER_SECOND
        self._entries += 1
        self._enter(at, key)
        if self._entries > FEW and self._entries > (1 + MOST_STALE) * len(self._at):
            self._rebuild()

    def _enter(self, at: float, key: K) -> None:
        if at < self._horizon:
            heapq.heappush(self._heap, (at, key))
            return
        step = int(at * STEPS_PER_SECOND)
        row = self._later.get(step)
        if row is None:
            self._later[step] = [(at, key)]
            heapq.heappush(self._steps, step)
        else:
            row.append((at, key))

    def _rebuild(self) -> None:
        self._heap, self._later, self._steps, self._horizon = [], {}, [], float("-inf")
        for key, at in self._at.items():
            self._enter(at, key)
        self._entries = len(self._at)
        self.soonest = self._steps[0] / STEPS_PER_SECOND if self._steps else float("inf")

    def clear(self, key: K) -> None:
        """Forget a key; unknown keys are fine."""
        self._at.pop(key, None)

    def at(self, key: K) -> float | None:
        """The key's instant."""
        return self._at.get(key)

    def next(self) -> float | None:
        """An instant not later than the earliest: a step is not looked into before it begins, for by then most of what
        stands in it, or all, is cleared."""
        if not self._at:
            return None
        heap, live = self._heap, self._at
        while heap:
            at, key = heap[0]
            if live.get(key) == at:
                return at
            heapq.heappop(heap)
            self._entries -= 1
        return self._steps[0] / STEPS_PER_SECOND

    def _open_step(self) -> None:
        """The heap is empty: what is still live of the earliest step goes there."""
        step = heapq.heappop(self._steps)
        row = self._later.pop(step)
        live = self._at
        self._heap = [entry for entry in row if live.get(entry[1]) == entry[0]]
        heapq.heapify(self._heap)
        self._entries -= len(row) - len(self._heap)
        self._horizon = (step + 1) / STEPS_PER_SECOND

    def due(self, now: float) -> list[K]:
        """Take out every key whose instant has come, earliest first."""
        keys: list[K] = []
        if now < self.soonest:
            return keys
        while (at := self.next()) is not None and at <= now:
            if not self._heap:
                self._open_step()
                continue
            key = heapq.heappop(self._heap)[1]
            self._entries -= 1
            del self._at[key]
            keys.append(key)
        if at is None:
            self._rebuild()
        else:
            self.soonest = at
        return keys

    def __len__(self) -> int:
        return len(self._at)
