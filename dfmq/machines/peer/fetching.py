"""Permits: what is asked of sources, and what their answers mean. Bodies are read in bodies; who reads what is noted in
readings, which generation an answer is of is found in generations."""

from __future__ import annotations

import random
from collections.abc import Callable

from dfmq.machines.effects import DropSource, PeerEffect, Record
from dfmq.machines.events import SourceAnswered, SourceBroke, StoreFailed, StoreLoaded
from dfmq.machines.peer.alarm import Alarm
from dfmq.machines.peer.announcements import Announcements
from dfmq.machines.peer.bodies import Bodies
from dfmq.machines.peer.generations import Generations
from dfmq.machines.peer.holding import Holding, Holdings
from dfmq.machines.peer.questions import Questions
from dfmq.machines.peer.reading import Reading
from dfmq.machines.peer.readings import Readings
from dfmq.model import pieces
from dfmq.model.ids import PermitId, TaskId
from dfmq.model.pieces import PieceMap
from dfmq.model.settings import SourceSettings
from dfmq.model.task import credential, shown
from dfmq.wire.messages import Permit, Quit


class Fetching:
    """All permits of this peer.

    Law: those of its parts; and every permit ends with Sourced (a check), with every piece Proven, with one
    SourceFailed, or with Quit.
    """

    def __init__(
        self,
        holdings: Holdings,
        settings: SourceSettings,
        algorithm: str,
        rng: random.Random,
        alarm: Alarm,
        cut: Callable[[int | None, int], PieceMap] = pieces.cut,
        limit_of: Callable[[TaskId], int] = lambda task: 0,
        is_wanted: Callable[[TaskId], bool] = lambda task: False,
        may_read: Callable[[TaskId], bool] = lambda task: False,
    ) -> None:
        """`algorithm`: of the chunk digests the node computes. `cut`: how a content of that length is cut. `limit_of`:
        bytes per second that those who get the task here want at most, 0 any. `is_wanted`: whether there are any.
        `may_read`: whether any of these may go to the source for it."""
        self._holdings = holdings
        self._cut = cut
        self._questions = Questions(settings, rng, alarm)
        self._announcements = Announcements()
        self._generations = Generations(settings, algorithm, rng, cut)
        readings = self._readings = Readings(holdings, self._questions, self._announcements, alarm, is_wanted, may_read)
        bodies = self._bodies = Bodies(
            holdings, readings, self._questions, self._announcements, settings.window_bytes, limit_of
        )
        # What is heard of bodies, and of the store for them, goes there straight.
        self.opened, self.chunk, self.ended = bodies.opened, bodies.chunk, bodies.ended
        self.piece_whole, self.proved, self.pace = bodies.piece_whole, bodies.proved, bodies.pace

    def reads(self, task: TaskId) -> bool:
        """The task's pieces come (or are about to come) from the source, through us."""
        return task in self._readings.main

    @property
    def reads_any(self) -> bool:
        """Any task's pieces do."""
        return bool(self._readings.main)

    def asked_for(self, number: PermitId) -> TaskId | None:
        """The task an open question is about."""
        reading = self._questions.of(number)
        return reading.task if reading is not None else None

    # ── what the broker says ──────────────────────────────────────────────────────────────────────────────────

    def permitted(self, message: Permit, now: float) -> list[PeerEffect]:
        """Leave to ask the source."""
        permit, task = PermitId(message.permit), TaskId(message.task)
        if self._readings.of(permit) is not None:
            return []
        if not message.check_only:
            self._announcements.forget(task)
        main = self._readings.main.get(task)
        if main is not None and not message.check_only and credential(message.request) == credential(main.request):
            return self._readings.attach(permit, main, now)
        # Beside a read under way, a fetch with other credentials first asks whether they are good.
        only_asks = message.check_only or main is not None
        reading = Reading(task, message.request, only_asks=only_asks, wants_content=not message.check_only)
        reading.checked, reading.claimed, reading.hosts = message.generation, message.claimed, message.hosts
        return self._readings.enter(reading, permit, now)

    def quit(self, message: Quit, now: float) -> list[PeerEffect]:
        """Nobody wants it any more."""
        return self._readings.detach(PermitId(message.permit), now)

    def forget_broker(self, now: float) -> list[PeerEffect]:
        """The broker is lost, and with it all permits. What is being read is read on for a while: the next permit is
        served from there."""
        self._announcements.forget_all()
        return self._readings.detach_all(now)

    # ── answers ───────────────────────────────────────────────────────────────────────────────────────────────

    def loaded(self, event: StoreLoaded, now: float) -> list[PeerEffect]:
        """What an earlier life left is known."""
        shelved = event.shelved
        if shelved is not None:
            holding = self._holdings.get(event.task)
            if holding is None:
                self._holdings[event.task] = Holding.of_shelved(event.task, shelved)
            elif holding.content.generation == shelved.content.generation:
                holding.merge(shelved.held, shelved.partial, shelved.proofs)
        effects: list[PeerEffect] = []
        for reading in self._readings.in_state(event.task, "loading"):
            effects += self._readings.ask(reading)
        return effects

    def answered(self, event: SourceAnswered, now: float) -> list[PeerEffect]:
        """The source's headers are here."""
        reading = self._questions.of(event.permit)
        if reading is None or reading.state != "asking":
            return [DropSource(event.permit)] if reading is None and event.kind != "unchanged" else []
        reading.body_offset = event.offset if event.kind == "partial" else 0
        told = {"task": reading.task, "ask": event.permit, "kind": event.kind, "length": event.length}
        if wrong := pieces.flaw(self._cut(event.length, reading.hosts)):
            text = f"{shown(reading.request.url)} cannot be distributed: {wrong}"
            effects = self._readings.fail(reading, now, "source_failed", text)
        else:
            effects = self._checked(reading, event, now) if reading.only_asks else self._begin(reading, event, now)
        return [Record("source.answered", told), *effects]

    def _checked(self, reading: Reading, answer: SourceAnswered, now: float) -> list[PeerEffect]:
        """The answer to a question that wants no body."""
        task, rules = reading.task, self._generations
        main, holding = self._readings.main.get(task), self._holdings.get(task)
        is_news = holding is not None and holding.content.generation != reading.checked
        if main is None and (reading.wants_content or is_news or not rules.is_same(reading, holding, answer)):
            # Also when all of it is here: the broker knows of another content only, and is told of this one anew.
            self._announcements.forget(task)
            reading.only_asks, reading.wants_content = False, True
            self._readings.main[task] = reading
            return self._begin(reading, answer, now)
        effects = self._questions.drop(reading)
        if main is not None:
            holding = main.holding
            if not main.is_settled:
                reading.state = "queued"
                return effects
            if reading.wants_content or (is_news and not main.permits):
                return effects + self._readings.hand_over(reading, main, now)
        # What is being read now is what there is now; if the source has changed meanwhile, ask again soon.
        same = main is None or rules.is_same(reading, holding, answer) or rules.goes_on(holding, answer)
        fresh = rules.fresh_seconds(answer) if same else 0.0
        content = holding.content if holding is not None else rules.content(task, answer, rules.cut(reading, answer))
        effects += [self._announcements.sourced(permit, task, content, fresh) for permit in reading.permits]
        if holding is not None:
            if same:
                holding.learn_validators(answer)
            effects += self._announcements.pieces(holding)
        return effects + self._readings.remove(reading, now)

    def _begin(self, reading: Reading, answer: SourceAnswered, now: float) -> list[PeerEffect]:
        """Decide which generation the answer is of, say so, and go on to its body."""
        rules = self._generations
        holding = None if reading.is_doubtful else self._holdings.get(reading.task)
        reading.compares = False
        if holding is not None and not rules.is_same(reading, holding, answer):
            reading.compares = reading.is_settled and rules.goes_on(holding, answer)
            holding = holding if reading.compares else None
        if holding is None and answer.kind != "full":
            return self._ask_for_all(reading, now)
        if holding is None:
            holding = self._holdings[reading.task] = rules.begin(reading, answer)
        reading.begin(holding)
        # A source that was asked for a part and gave none to use is read as it comes: at each gap it would be asked for
        # a part again, and give none.
        is_whole_anyway = reading.from_zero or (answer.kind == "full" and reading.asked_offset > 0)
        reading.is_settled, reading.from_zero, reading.is_doubtful = True, False, False
        holding.learn_validators(answer)
        is_pinned = holding.is_pinned or bool(reading.request.digest)
        reading.takes_ranges = answer.ranges and is_pinned and not is_whole_anyway
        if answer.kind == "full" and reading.position() is not None and rules.may_differ(reading, holding, answer):
            reading.compares = True
        reading.fresh_until = now + rules.fresh_seconds(answer)
        effects = self._announcements.settled(reading, now)
        for queued in self._readings.in_state(reading.task, "queued"):
            effects += self._readings.start(queued, now)
        if answer.kind == "unchanged":
            return effects + self._bodies.over(reading, now)
        if reading.is_opened or (holding.is_open and reading.position() is None):
            return effects + self._bodies.read(reading, now)
        reading.state = "opening"
        return [*effects, holding.to_open(reading.request)]

    def _ask_for_all(self, reading: Reading, now: float) -> list[PeerEffect]:
        """The answer is the end of something else than we hold: ask for all of it."""
        effects = self._questions.drop(reading)
        if reading.from_zero:
            text = f"{shown(reading.request.url)} answers a plain request with a part"
            return effects + self._readings.retry(reading, now, "source_failed", text)
        reading.from_zero = True
        return effects + self._readings.ask(reading)

    # ── trouble ───────────────────────────────────────────────────────────────────────────────────────────────

    def broke(self, event: SourceBroke, now: float) -> list[PeerEffect]:
        """The source refused, broke off or stalled."""
        reading = self._questions.of(event.permit)
        if reading is None:
            return []
        self._questions.close(reading)
        told = {"task": reading.task, "ask": event.permit, "code": event.code, "bytes": reading.tell_bytes()}
        record = Record("source.broke", told)
        if event.permanent:
            return [record, *self._readings.fail(reading, now, event.code, event.text, event.retry_after)]
        return [record, *self._readings.retry(reading, now, event.code, event.text, event.retry_after)]

    def task_changed(self, task: TaskId, now: float) -> list[PeerEffect]:
        """What is held of the task was dropped or replaced by another part of this peer: read for what is there now."""
        reading = self._readings.main.get(task)
        if reading is None or reading.holding is None or self._holdings.get(task) is reading.holding:
            return []
        return self._readings.restart(reading, now)

    def store_failed(self, event: StoreFailed, now: float) -> list[PeerEffect]:
        """The disk does not take the content: nothing is to be had by reading on."""
        holding = self._holdings.get(event.task)
        if holding is not None:
            holding.abandon()
        reading = self._readings.main.get(event.task)
        return self._readings.fail(reading, now, event.code, event.text) if reading is not None else []

    # ── time, and the books ───────────────────────────────────────────────────────────────────────────────────

    def deadline(self, now: float) -> list[PeerEffect]:
        """Tries that have become due, and reads that are over."""
        effects = self._readings.deadline(now)
        for reading in self._questions.due(now):
            effects += self._readings.ask(reading)
        return effects

    def next_deadline(self) -> float | None:
        """When `deadline` is to be called at the latest."""
        instants = (self._questions.next_deadline(), self._readings.next_deadline())
        return min((at for at in instants if at is not None), default=None)

    def check(self) -> None:
        """See the class's law."""
        self._readings.check()
