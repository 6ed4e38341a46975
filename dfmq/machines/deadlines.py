"""Named instants and which of them comes first. No clock: `now` is an argument."""

from __future__ import annotations

import heapq
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Deadlines(Generic[K]):
    """At most one instant a key. Law: every live key stands in the heap at its instant; stale entries are skipped;
    no live key's instant is before `soonest`."""

    def __init__(self) -> None:
        self._at: dict[K, float] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._turn = 0
        #: `due` finds nothing before this; who has many of these need not ask each
        self.soonest = float("inf")

    def set(self, key: K, at: float) -> None:
        """Give or move a key's instant."""
        if self._at.get(key) == at:
            return
        self._at[key] = at
        if at < self.soonest:
            self.soonest = at
        self._turn += 1
        heapq.heappush(self._heap, (at, self._turn, key))
        if len(self._heap) > 64 and len(self._heap) > 4 * len(self._at):
            self._heap = [(when, turn, k) for turn, (k, when) in enumerate(self._at.items(), self._turn)]
            self._turn += len(self._at)
            heapq.heapify(self._heap)

    def clear(self, key: K) -> None:
        """Forget a key; unknown keys are fine."""
        self._at.pop(key, None)

    def at(self, key: K) -> float | None:
        """The key's instant."""
        return self._at.get(key)

    def next(self) -> float | None:
        """The earliest instant."""
        heap = self._heap
        while heap and self._at.get(heap[0][2]) != heap[0][0]:
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def due(self, now: float) -> list[K]:
        """Take out every key whose instant has come, earliest first."""
        keys: list[K] = []
        if now < self.soonest:
            return keys
        while (at := self.next()) is not None and at <= now:
            key = heapq.heappop(self._heap)[2]
            del self._at[key]
            keys.append(key)
        self.soonest = float("inf") if at is None else at
        return keys

    def __len__(self) -> int:
        return len(self._at)
