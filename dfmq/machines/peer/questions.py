"""Questions to sources: which are open, and when to ask again after a failure. What is asked is fetching's."""

from __future__ import annotations

import random

from dfmq.errors import InvariantViolated
from dfmq.machines.effects import DropSource, PeerEffect
from dfmq.machines.peer.alarm import Alarm, AlarmedDeadlines
from dfmq.machines.peer.reading import Reading
from dfmq.model.ids import PermitId
from dfmq.model.settings import SourceSettings

#: Seconds between tries: doubling from the first to the last, ± a quarter so that readers of one source spread out.
FIRST_BACKOFF = 0.2
LAST_BACKOFF = 5.0
#: A read that has brought something is given so many times the tries: a server that restarts is away for seconds, and
#: everybody has part of what it gave. With four tries this outlasts 16 s, without it 1.4 s.
MORE_TRIES_ONCE_BEGUN = 2
#: A source that asks to be left alone for longer has failed for now: people wait, and the broker can tell them.
LONGEST_WAIT = 30.0


class Questions:
    """Every question has a number of its own, so that what an older one still says is never heard as a newer one's
    answer (permits cannot serve for that: several questions belong to one, and a new broker counts from 1 again).

    Law: a reading has at most one question open, and none while it waits for its next try.
    """

    def __init__(self, settings: SourceSettings, rng: random.Random, alarm: Alarm) -> None:
        self._retries = settings.retries
        self._rng = rng
        self._asked = 0
        self._open: dict[PermitId, Reading] = {}
        self._waiting: AlarmedDeadlines[Reading] = AlarmedDeadlines(alarm)

    def open(self, reading: Reading) -> PermitId:
        """A new question for the reading; its number."""
        self._asked += 1
        number = reading.ask = PermitId(self._asked)
        self._open[number] = reading
        return number

    def of(self, number: PermitId) -> Reading | None:
        """Whose question this is, if it is open."""
        return self._open.get(number)

    def close(self, reading: Reading) -> None:
        """The question is answered to the end."""
        if reading.ask is not None:
            del self._open[reading.ask]
            reading.ask = None

    def drop(self, reading: Reading) -> list[PeerEffect]:
        """The question is closed by us: what still comes is not wanted. Nor is another try."""
        number = reading.ask
        self.close(reading)
        self._waiting.clear(reading)
        return [DropSource(number)] if number is not None else []

    def postpone(self, reading: Reading, retry_after: float, now: float) -> float | None:
        """A try has failed: seconds until the next one; None: it has failed too often in a row, or is not to be
        repeated soon. A try that brought something begins the count anew."""
        reading.fruitless = 0 if reading.brought else reading.fruitless + 1
        reading.brought = False
        most = self._retries * (MORE_TRIES_ONCE_BEGUN if reading.touched else 1)
        if reading.fruitless >= most or retry_after > LONGEST_WAIT:
            return None
        backoff = min(LAST_BACKOFF, FIRST_BACKOFF * 2.0 ** max(0, reading.fruitless - 1))
        seconds = max(retry_after, backoff * self._rng.uniform(0.75, 1.25))
        self._waiting.set(reading, now + seconds)
        return seconds

    def due(self, now: float) -> list[Reading]:
        """Readings whose next try has come."""
        return self._waiting.due(now)

    def next_deadline(self) -> float | None:
        """When the next try comes."""
        return self._waiting.next()

    def check(self, readings: list[Reading]) -> None:
        """See the class's law; `readings`: all there are."""
        for reading in readings:
            if reading.ask is not None and self._open.get(reading.ask) is not reading:
                raise InvariantViolated(f"task {reading.task.hex()}: its question {reading.ask} is nobody's")
            if (reading.state == "waiting") != (self._waiting.at(reading) is not None):
                raise InvariantViolated(f"task {reading.task.hex()}: {reading.state}, and a time to try again")
        if set(self._open.values()) - set(readings):
            raise InvariantViolated("a question is open for nobody")
