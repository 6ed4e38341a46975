"""Every read of a source there is, by task and by permit: begun, asked for, tried again, given up, over. What is asked
and what comes of it is in reading; what the broker and the source say, in fetching."""

from __future__ import annotations

from collections.abc import Callable

from dfmq.errors import InvariantViolated
from dfmq.machines.effects import LoadTask, PeerEffect, PinTask, Record
from dfmq.machines.peer.alarm import Alarm, AlarmedDeadlines
from dfmq.machines.peer.announcements import Announcements
from dfmq.machines.peer.holding import Holdings
from dfmq.machines.peer.questions import Questions
from dfmq.machines.peer.reading import Reading, State
from dfmq.model.ids import PermitId, TaskId
from dfmq.model.task import shown

#: A read whose permits went with their broker goes on so long for nobody: a permit of the next broker finds it still
#: going. Then it is over, unless somebody here wants it.
ORPHAN_SECONDS = 60.0


class Readings:
    """Law: a task has at most one reading that takes its content, and that is in `main`; every permit stands with the
    one reading that serves it; a reading that is over stands nowhere, and who was queued behind it goes on; one without
    a permit has a deadline."""

    def __init__(
        self,
        holdings: Holdings,
        questions: Questions,
        announcements: Announcements,
        alarm: Alarm,
        is_wanted: Callable[[TaskId], bool],
        may_read: Callable[[TaskId], bool],
    ) -> None:
        """`is_wanted`: whether somebody on this host gets the task; `may_read`: and may go to the source for it."""
        self._is_wanted = is_wanted
        self._may_read = may_read
        #: tasks that are read without a permit → until when
        self._orphans: AlarmedDeadlines[TaskId] = AlarmedDeadlines(alarm)
        self._holdings = holdings
        self._questions = questions
        self._announcements = announcements
        #: the one that reads, or is going to
        self.main: dict[TaskId, Reading] = {}
        self._by_permit: dict[PermitId, Reading] = {}
        #: all of them, the oldest first
        self._by_task: dict[TaskId, list[Reading]] = {}

    # ── who serves a permit ───────────────────────────────────────────────────────────────────────────────────

    def of(self, permit: PermitId) -> Reading | None:
        """The reading that serves this permit."""
        return self._by_permit.get(permit)

    def enter(self, reading: Reading, permit: PermitId, now: float) -> list[PeerEffect]:
        """A new reading for a permit. One that takes the content is the task's main one; there must be none."""
        if not reading.only_asks:
            self.main[reading.task] = reading
        reading.permits[permit] = None
        self._by_permit[permit] = reading
        self._by_task.setdefault(reading.task, []).append(reading)
        return self.start(reading, now)

    def attach(self, permit: PermitId, main: Reading, now: float) -> list[PeerEffect]:
        """The permit is served by what is being read already."""
        main.permits[permit] = None
        self._by_permit[permit] = main
        self._orphans.clear(main.task)
        return self._announcements.settled(main, now) if main.is_settled else []

    def hand_over(self, reading: Reading, main: Reading, now: float) -> list[PeerEffect]:
        """All permits of a reading are served by what is being read; it is over."""
        permits = list(reading.permits)
        effects = self.remove(reading, now)
        for permit in permits:
            effects += self.attach(permit, main, now)
        return effects

    def detach(self, permit: PermitId, now: float) -> list[PeerEffect]:
        """The permit is void."""
        reading = self._by_permit.pop(permit, None)
        if reading is None:
            return []
        del reading.permits[permit]
        if reading.permits:
            return []
        return self._quit(reading, now)

    def _quit(self, reading: Reading, now: float) -> list[PeerEffect]:
        """It is wanted no more."""
        effects: list[PeerEffect] = []
        if count := reading.tell_bytes():
            effects.append(Record("source.quit", {"task": reading.task, "bytes": count}))
        return effects + self.remove(reading, now)

    def detach_all(self, now: float) -> list[PeerEffect]:
        """All permits are void. What is being read is read on for a while, what only asks is not."""
        effects: list[PeerEffect] = []
        readings = dict.fromkeys(self._by_permit.values())
        self._by_permit.clear()
        for reading in readings:
            reading.permits.clear()
            if reading.only_asks:
                effects += self.remove(reading, now)
            else:
                self._orphans.set(reading.task, now + ORPHAN_SECONDS)
        return effects

    def is_orphan(self, reading: Reading) -> bool:
        """It is read by nobody's leave, and for nobody here that may cause it."""
        return not reading.permits and not self._may_read(reading.task)

    def deadline(self, now: float) -> list[PeerEffect]:
        """What is read by nobody's leave, and for nobody here that may cause it, is given up."""
        effects: list[PeerEffect] = []
        for task in self._orphans.due(now):
            reading = self.main[task]
            if self.is_orphan(reading):
                effects += self._quit(reading, now)
            else:
                self._orphans.set(task, now + ORPHAN_SECONDS)
        return effects

    def next_deadline(self) -> float | None:
        """When `deadline` is to be called at the latest."""
        return self._orphans.next()

    def in_state(self, task: TaskId, state: State) -> list[Reading]:
        """The readings of a task that are in this state."""
        return [reading for reading in self._by_task.get(task, ()) if reading.state == state]

    # ── how one goes ──────────────────────────────────────────────────────────────────────────────────────────

    def start(self, reading: Reading, now: float) -> list[PeerEffect]:
        """Ask the source, after another read that is about to settle what the content is, and after the store."""
        main = self.main.get(reading.task)
        if main is not None and main is not reading and not main.is_settled:
            reading.state = "queued"
            return []
        holding = self._holdings.get(reading.task)
        if holding is None or not (holding.is_open or reading.only_asks):
            reading.state = "loading"
            return [LoadTask(reading.task)]
        return self.ask(reading)

    def ask(self, reading: Reading) -> list[PeerEffect]:
        """Put the question to the source."""
        question = reading.question(self._questions.open(reading), self._holdings.get(reading.task))
        reading.state, reading.asked_offset = "asking", question.offset
        url = shown(reading.request.url)
        told = {"task": reading.task, "ask": question.permit, "url": url, "offset": question.offset}
        return [Record("source.asked", told), question]

    def retry(self, reading: Reading, now: float, code: str, text: str, retry_after: float = 0.0) -> list[PeerEffect]:
        """Try again later, unless that has been done often enough without a byte to show for it."""
        seconds = self._questions.postpone(reading, retry_after, now)
        if seconds is None:
            return self.fail(reading, now, code, text, retry_after)
        reading.state = "waiting"
        told = {"task": reading.task, "fruitless": reading.fruitless, "seconds": seconds, "code": code}
        return [Record("source.retried", told)]

    def doubt(self, reading: Reading, now: float) -> list[PeerEffect]:
        """The body is not what was proven before: the source has something else under the same name, or a nameless
        content has changed. All of it is read again, as a new generation."""
        effects = self._questions.drop(reading)
        reading.is_doubtful = reading.from_zero = True
        reading.is_settled = False
        text = f"{shown(reading.request.url)} changed while it was read"
        return effects + self.retry(reading, now, "source_failed", text)

    def restart(self, reading: Reading, now: float) -> list[PeerEffect]:
        """What is held is not what was being read into: begin anew, with the same permits."""
        effects = self._questions.drop(reading)
        self._announcements.forget(reading.task)
        reading.forget()
        return effects + self.start(reading, now)

    def fail(self, reading: Reading, now: float, code: str, text: str, retry_after: float = 0.0) -> list[PeerEffect]:
        """Nothing comes of it: that is told, and it is over."""
        return self._announcements.failed(reading, code, text, retry_after) + self.remove(reading, now)

    def remove(self, reading: Reading, now: float) -> list[PeerEffect]:
        """The reading is over. Who waited for what it would find out asks for itself."""
        effects = self._questions.drop(reading)
        for permit in reading.permits:
            self._by_permit.pop(permit, None)
        reading.permits.clear()
        readings = self._by_task[reading.task]
        readings.remove(reading)
        if not readings:
            del self._by_task[reading.task]
        if self.main.get(reading.task) is reading:
            del self.main[reading.task]
            self._orphans.clear(reading.task)
            holding = self._holdings.get(reading.task)
            if holding is not None and not holding.is_complete and not self._is_wanted(reading.task):
                # Broken off for good: the store lets go of its files, and may delete them when room is short.
                effects.append(PinTask(reading.task, False))
            for queued in self.in_state(reading.task, "queued"):
                effects += self.start(queued, now)
        return effects

    def check(self) -> None:
        """See the class's law."""
        everyone = list(dict.fromkeys([*self.main.values(), *self._by_permit.values()]))
        by_task = [(task, reading) for task, readings in self._by_task.items() for reading in readings]
        if len(by_task) != len(everyone) or {(reading.task, reading) for reading in everyone} != set(by_task):
            raise InvariantViolated("the readings of tasks are others than those that are read or serve a permit")
        for reading in everyone:
            reading.check()
            if any(self._by_permit.get(permit) is not reading for permit in reading.permits):
                raise InvariantViolated(f"task {reading.task.hex()}: serves a permit that is another's")
        if any(permit not in reading.permits for permit, reading in self._by_permit.items()):
            raise InvariantViolated("a permit is served by nobody")
        if any((self._orphans.at(task) is None) != bool(reading.permits) for task, reading in self.main.items()):
            raise InvariantViolated("a read without a permit goes on for ever, or one with a permit does not")
        if any(task != reading.task or reading.only_asks for task, reading in self.main.items()):
            raise InvariantViolated("a reading that only asks stands for a task's one reading")
        self._questions.check(everyone)
