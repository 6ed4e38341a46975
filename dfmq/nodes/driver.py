"""Runs a machine: feeds it events, performs its effects in order, arms one timer. Knows no particular machine."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from dfmq.machines.events import DeadlineReached
from dfmq.machines.machine import Machine

log = logging.getLogger(__name__)

#: events and effects kept to explain a failure of our own
STORY_LENGTH = 60

#: Seconds that the timer is late beyond what a long turn explains: the process, or its whole machine, stood still.
STOOD_STILL_SECONDS = 0.5

_DEADLINE = DeadlineReached()


class Driver:
    """One machine, one loop, one thread. A turn is everything fed between `begin` and `end`, or else in one pass of the
    loop; at its end `flush` sends what was batched and the timer is armed."""

    def __init__(
        self,
        machine: Machine[Any, Any],
        loop: asyncio.AbstractEventLoop,
        hands: Mapping[type, Callable[[Any], None]],
        flush: Callable[[], None],
        failed: Callable[[BaseException], None],
        stood_still: Callable[[float], None] | None = None,
    ) -> None:
        """`stood_still`: told, before anything else is, since when nothing was heard for as long as that."""
        self.machine = machine
        self._loop = loop
        self._hands = hands
        self._flush = flush
        self._failed = failed
        self._stood_still = stood_still
        self._events: deque[Any] = deque()
        self._running = False
        self._turn_ends: asyncio.Handle | None = None
        #: turns begun and not ended, one in the other
        self._begun = 0
        self._has_work = False
        self._timer: asyncio.TimerHandle | None = None
        self._story: deque[Any] = deque(maxlen=STORY_LENGTH)
        self._stopped = False

    def feed(self, event: Any) -> None:
        """Tell the machine a fact; from the loop's thread only."""
        self._events.append(event)
        if not self._running:
            self._run()

    def begin(self) -> None:
        """A row of events follows."""
        self._begun += 1
        if self._stood_still is not None and self._begun == 1 and self._timer is not None:
            due = self._timer.when()
            if self._loop.time() - due > STOOD_STILL_SECONDS:
                self._stood_still(due)

    def end(self) -> None:
        """The row is over: what came of it goes out now, not in a pass of the loop of its own."""
        self._begun -= 1
        if self._has_work and not self._begun:
            self._has_work = False
            self._end_turn()

    def perform(self, effects: list[Any]) -> None:
        """Perform effects that came by another way than an event (at birth)."""
        for effect in effects:
            self._hands[type(effect)](effect)
        self._end_turn_soon()

    def _run(self) -> None:
        if self._stopped:
            self._events.clear()
            return
        self._running = True
        events, handle, hands, now = self._events, self.machine.handle, self._hands, self._loop.time
        try:
            while events:
                event = events.popleft()
                self._story.append(event)
                for effect in handle(event, now()):
                    hands[type(effect)](effect)
        except Exception as error:  # noqa: BLE001  # the one place: our own bug; tell the story and stop the node
            self._stopped = True
            log.error("a bug of dfmq; the last events: %s", [type(event).__name__ for event in self._story])
            self._failed(error)
            return
        finally:
            self._running = False
        self._end_turn_soon()

    def _end_turn_soon(self) -> None:
        if self._begun:
            self._has_work = True
        elif self._turn_ends is None:
            self._turn_ends = self._loop.call_soon(self._end_turn)

    def _end_turn(self) -> None:
        if self._turn_ends is not None:
            self._turn_ends.cancel()
            self._turn_ends = None
        if self._stopped:
            return
        self._flush()
        at = self.machine.next_deadline()
        if self._timer is not None:
            if at is not None and self._timer.when() == at:
                return
            self._timer.cancel()
            self._timer = None
        if at is not None:
            self._timer = self._loop.call_at(at, self._deadline)

    def _deadline(self) -> None:
        self.begin()
        self._timer = None
        self.feed(_DEADLINE)
        self.end()

    def stop(self) -> None:
        """No more events; what was batched is flushed."""
        if self._turn_ends is not None:
            self._turn_ends.cancel()
            self._turn_ends = None
        if not self._stopped:
            self._stopped = True
            self._flush()
        if self._timer is not None:
            self._timer.cancel()
