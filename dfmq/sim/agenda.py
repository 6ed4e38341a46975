"""What happens when, on a virtual clock. Knows no network, no machine: only instants and what to call at them."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any, Protocol

#: When, how manieth, what to call with what.
Entry = tuple[float, int, Callable[..., None], tuple[Any, ...]]


class Settles(Protocol):
    """Somebody with something to do at the end of an instant."""

    def settle(self) -> None: ...


#: Instants this close are kept in one order; all later ones only by their slot.
SLOTS_PER_SECOND = 4096


class Agenda:
    """Calls in the order of their instants; of equal ones in the order they were entered. Time only goes forward.

    Law: time does not go on while anybody is unsettled; what is due in the slot at hand or before stands in the heap,
    everything later in its slot. (One heap of a hundred thousand calls, far apart in memory, took a fifth of the time.)
    """

    __slots__ = ("_coming", "_entered", "_heap", "_later", "_slot", "is_over", "now", "turns", "unsettled")

    def __init__(self) -> None:
        #: seconds since the world began
        self.now = 0.0
        #: calls made so far
        self.turns = 0
        #: set it to end `run` after the call under way
        self.is_over = False
        #: who settles once before time goes on, however often it enters here: what a loop does at the end of a pass
        self.unsettled: dict[Settles, None] = {}
        self._entered = 0
        #: the slot at hand, and what is due in it
        self._slot = 0
        self._heap: list[Entry] = []
        #: later slots in no order, and their numbers as a heap
        self._later: dict[int, list[Entry]] = {}
        self._coming: list[int] = []

    def at(self, when: float, call: Callable[..., None], *arguments: Any) -> None:
        """Call at this instant; one that has passed means now, after what is already entered for now."""
        self.enter(when, call, arguments)

    def after(self, seconds: float, call: Callable[..., None], *arguments: Any) -> None:
        """Call so many seconds from now."""
        self.enter(self.now + seconds, call, arguments)

    def enter(self, when: float, call: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        """As `at`, for those who have the arguments in one."""
        self._entered += 1
        entry = (when if when > self.now else self.now, self._entered, call, arguments)
        slot = int(when * SLOTS_PER_SECOND)
        if slot <= self._slot:
            heapq.heappush(self._heap, entry)
        elif (later := self._later.get(slot)) is not None:
            later.append(entry)
        else:
            self._later[slot] = [entry]
            heapq.heappush(self._coming, slot)

    def run(self, until: float) -> None:
        """Make calls until it is over, nothing is left, or the next one is due after `until`."""
        unsettled, pop = self.unsettled, heapq.heappop
        heap = self._heap
        while not self.is_over:
            if unsettled and (not heap or heap[0][0] > self.now):
                those = list(unsettled)
                unsettled.clear()
                for who in those:
                    who.settle()
            elif heap:
                if heap[0][0] > until:
                    return
                self.now, _, call, arguments = pop(heap)
                self.turns += 1
                call(*arguments)
            elif self._coming and self._coming[0] <= until * SLOTS_PER_SECOND:
                self._slot = pop(self._coming)
                heap = self._heap = self._later.pop(self._slot)
                heapq.heapify(heap)
            else:
                return
