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

    __slots__ = ("_entered", "_heap", "is_over", "now", "turns", "unsettled")

    def __init__(self) -> None:
        #: seconds since the world began
        self.now = 0.0
        #: calls made so far
        self.turns = 0
        #: set it to end `run` after the call under way
        self.is_over = False
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._entered = 0
        #: who settles once before time goes on, however often it enters here: what a loop does at the end of a pass
        self.unsettled: dict[Settles, None] = {}

    def at(self, when: float, call: Callable[..., None], *arguments: Any) -> None:
        """Call at this instant; one that has passed means now, after what is already entered for now."""
        self.enter(when, call, arguments)

    def enter(self, when: float, call: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        """As `at`, for those who have the arguments in one."""
        self._entered += 1
        heapq.heappush(self._heap, (when if when > self.now else self.now, self._entered, call, arguments))

    def after(self, seconds: float, call: Callable[..., None], *arguments: Any) -> None:
        """Call so many seconds from now."""
        self.at(self.now + seconds, call, *arguments)

    def run(self, until: float) -> None:
        """Make calls until it is over, nothing is left, or the next one is due after `until`."""
        heap, unsettled, pop = self._heap, self.unsettled, heapq.heappop
        while not self.is_over:
            if unsettled and (not heap or heap[0][0] > self.now):
                those = list(unsettled)
                unsettled.clear()
                for who in those:
                    who.settle()
                continue
            if not heap or heap[0][0] > until:
                return
            self.now, _, call, arguments = pop(heap)
            self.turns += 1
            call(*arguments)
