"""What happens when, on a virtual clock. Knows no network, no machine: only instants and what to call at them."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any, Protocol


class Settles(Protocol):
    """Somebody with something to do at the end of an instant."""

    def settle(self) -> None: ...


class Agenda:
    """Calls in the order of their instants; of equal ones in the order they were entered. Time only goes forward.

    Law: time does not go on while anybody is unsettled.
    """

    __slots__ = ("_entered", "_heap", "_unsettled", "is_over", "now", "turns")

    def __init__(self) -> None:
        #: seconds since the world began
        self.now = 0.0
        #: calls made so far
        self.turns = 0
        #: set it to end `run` after the call under way
        self.is_over = False
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._entered = 0
        self._unsettled: dict[Settles, None] = {}

    def at(self, when: float, call: Callable[..., None], *arguments: Any) -> None:
        """Call at this instant; one that has passed means now, after what is already entered for now."""
        self._entered += 1
        heapq.heappush(self._heap, (when if when > self.now else self.now, self._entered, call, arguments))

    def after(self, seconds: float, call: Callable[..., None], *arguments: Any) -> None:
        """Call so many seconds from now."""
        self.at(self.now + seconds, call, *arguments)

    def unsettled(self, who: Settles) -> None:
        """Let it settle once before time goes on, however often this is said: what a loop does at the end of a pass."""
        self._unsettled[who] = None

    def run(self, until: float) -> None:
        """Make calls until it is over, nothing is left, or the next one is due after `until`."""
        heap = self._heap
        pop = heapq.heappop
        while not self.is_over:
            if self._unsettled and (not heap or heap[0][0] > self.now):
                unsettled, self._unsettled = self._unsettled, {}
                for who in unsettled:
                    who.settle()
                continue
            if not heap or heap[0][0] > until:
                return
            self.now, _, call, arguments = pop(heap)
            self.turns += 1
            call(*arguments)
