"""When to look at which lease. As machines/deadlines, for instants that are many, need not be met exactly and hardly
ever come."""

from __future__ import annotations

import heapq

from dfmq.errors import InvariantViolated
from dfmq.model.ids import LeaseId

#: an instant is rounded up to the next of so many steps a second
STEPS_PER_SECOND = 64


class Looks:
    """Law: whatever was set and is not due yet stands in the row of its step; `_steps` are the rows there are; nothing
    is due before `soonest`.

    Nothing is ever cleared: a lease mostly ends long before it is looked at, and whoever owns the leases passes over
    those that are gone. What is kept for nothing are the leases of a few seconds.
    """

    def __init__(self) -> None:
        self._rows: dict[int, list[LeaseId]] = {}
        #: a heap
        self._steps: list[int] = []
        self.soonest = float("inf")

    def set(self, lease: LeaseId, at: float) -> None:
        """To be looked at then."""
        step = int(at * STEPS_PER_SECOND) + 1
        row = self._rows.get(step)
        if row is not None:
            row.append(lease)
            return
        self._rows[step] = [lease]
        heapq.heappush(self._steps, step)
        self.soonest = self._steps[0] / STEPS_PER_SECOND

    def due(self, now: float) -> list[LeaseId]:
        """Take out what has come, earliest first."""
        due: list[LeaseId] = []
        while now >= self.soonest:
            due += self._rows.pop(heapq.heappop(self._steps))
            self.soonest = self._steps[0] / STEPS_PER_SECOND if self._steps else float("inf")
        return due

    def has(self, lease: LeaseId, at: float) -> bool:
        """It will be looked at then."""
        return lease in self._rows.get(int(at * STEPS_PER_SECOND) + 1, ())

    def check(self) -> None:
        """See the class's law."""
        if sorted(self._rows) != sorted(self._steps) or not all(self._rows.values()):
            raise InvariantViolated("the steps are not those of the rows")
        if self.soonest != (min(self._steps) / STEPS_PER_SECOND if self._steps else float("inf")):
            raise InvariantViolated(f"{self.soonest} is not when the next row is due")
