"""Permits: asking and reading sources until the content is here. Which bytes are needed is in reading, which generation
an answer is of in generations, when to ask again in questions, what the broker is told in announcements."""

from __future__ import annotations

import random
from collections.abc import Callable

from dfmq.errors import InvariantViolated
from dfmq.machines.effects import (
    DropSource,
    DropTask,
    FinishStore,
    LoadTask,
    OpenStore,
    PaceSource,
    PeerEffect,
    ProveContent,
    ReadSource,
    Record,
    SealStore,
)
from dfmq.machines.events import (
    ContentProved,
    SourceAnswered,
    SourceBroke,
    SourceChunk,
    SourceEnded,
    StoreFailed,
    StoreLoaded,
    StoreOpened,
)
from dfmq.machines.peer.announcements import Announcements
from dfmq.machines.peer.generations import Generations
from dfmq.machines.peer.holding import Holding, Holdings
from dfmq.machines.peer.questions import Questions
from dfmq.machines.peer.reading import LEAST_GAP, Reading, State
from dfmq.model import pieces
from dfmq.model.digest import parse_digest
from dfmq.model.ids import PermitId, TaskId
from dfmq.model.pieces import PieceMap
from dfmq.model.settings import SourceSettings
from dfmq.model.task import credential, shown
from dfmq.wire.messages import Permit, Quit


class Fetching:
    """All permits of this peer.

    Law: a task is read at most once at a time; every permit is served by one Reading and ends with Sourced (a check),
    with every piece Proven, with one SourceFailed, or with Quit; a piece is told only after it is stored.
    """

    def __init__(
        self,
        holdings: Holdings,
        settings: SourceSettings,
        algorithm: str,
        rng: random.Random,
        cut: Callable[[int | None], PieceMap] = pieces.cut,
        limit_of: Callable[[TaskId], int] = lambda task: 0,
    ) -> None:
        """`algorithm`: of the chunk digests the node computes. `cut`: how a content of that length is cut. `limit_of`:
        bytes per second that those who get the task here want at most, 0 any."""
        self._holdings = holdings
        self._window_bytes = settings.window_bytes
        #: the one that reads, or is going to
        self._main: dict[TaskId, Reading] = {}
        self._by_permit: dict[PermitId, Reading] = {}
        self._questions = Questions(settings, rng)
        self._cut = cut
        self._limit_of = limit_of
        self._generations = Generations(settings, algorithm, rng, cut)
        self._announcements = Announcements()

    def reads(self, task: TaskId) -> bool:
        """The task's pieces come (or are about to come) from the source, through us."""
        return task in self._main

    # ── what the broker says ──────────────────────────────────────────────────────────────────────────────────

    def permitted(self, message: Permit, now: float) -> list[PeerEffect]:
        """Leave to ask the source."""
        permit, task = PermitId(message.permit), TaskId(message.task)
        if permit in self._by_permit:
            return []
        if not message.check_only:
            self._announcements.forget(task)
        main = self._main.get(task)
        if main is not None and not message.check_only and credential(message.request) == credential(main.request):
            return self._attach(permit, main, now)
        # Beside a read under way, a fetch with other credentials first asks whether they are good.
        only_asks = message.check_only or main is not None
        reading = Reading(task, message.request, only_asks=only_asks, wants_content=not message.check_only)
        reading.checked = message.generation
        if not only_asks:
            self._main[task] = reading
        reading.permits[permit] = None
        self._by_permit[permit] = reading
        return self._start(reading, now)

    def _attach(self, permit: PermitId, main: Reading, now: float) -> list[PeerEffect]:
        main.permits[permit] = None
        self._by_permit[permit] = main
        return self._announcements.settled(main, now) if main.is_settled else []

    def quit(self, message: Quit, now: float) -> list[PeerEffect]:
        """Nobody wants it any more."""
        permit = PermitId(message.permit)
        reading = self._by_permit.pop(permit, None)
        if reading is None:
            return []
        del reading.permits[permit]
        return [] if reading.permits else self._remove(reading, now)

    def forget_broker(self, now: float) -> list[PeerEffect]:
        """The broker is lost, and with it all permits. What is being read is read on: the next permit for it is served
        from there."""
        effects: list[PeerEffect] = []
        self._announcements.forget_all()
        readings = set(self._by_permit.values())
        self._by_permit.clear()
        for reading in readings:
            reading.permits.clear()
            if reading.only_asks:
                effects += self._remove(reading, now)
        return effects

    # ── asking ────────────────────────────────────────────────────────────────────────────────────────────────

    def _start(self, reading: Reading, now: float) -> list[PeerEffect]:
        main = self._main.get(reading.task)
        if main is not None and main is not reading and not main.is_settled:
            reading.state = "queued"
            return []
        holding = self._holdings.get(reading.task)
        if holding is None or not (holding.is_open or reading.only_asks):
            reading.state = "loading"
            return [LoadTask(reading.task)]
        return self._ask(reading)

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
        for reading in self._in_state(event.task, "loading"):
            effects += self._ask(reading)
        return effects

    def _ask(self, reading: Reading) -> list[PeerEffect]:
        question = reading.question(self._questions.open(reading), self._holdings.get(reading.task))
        reading.state, reading.asked_offset = "asking", question.offset
        url = shown(reading.request.url)
        told = {"task": reading.task, "ask": question.permit, "url": url, "offset": question.offset}
        return [Record("source.asked", told), question]

    def answered(self, event: SourceAnswered, now: float) -> list[PeerEffect]:
        """The source's headers are here."""
        reading = self._questions.of(event.permit)
        if reading is None or reading.state != "asking":
            return [DropSource(event.permit)] if reading is None and event.kind != "unchanged" else []
        reading.body_offset = event.offset if event.kind == "partial" else 0
        told = {"task": reading.task, "ask": event.permit, "kind": event.kind, "length": event.length}
        if wrong := pieces.flaw(self._cut(event.length)):
            text = f"{shown(reading.request.url)} cannot be distributed: {wrong}"
            effects = self._fail(reading, now, "source_failed", text)
        else:
            effects = self._checked(reading, event, now) if reading.only_asks else self._begin(reading, event, now)
        return [Record("source.answered", told), *effects]

    def _checked(self, reading: Reading, answer: SourceAnswered, now: float) -> list[PeerEffect]:
        """The answer to a question that wants no body."""
        task, rules = reading.task, self._generations
        main, holding = self._main.get(task), self._holdings.get(task)
        is_news = holding is not None and holding.content.generation != reading.checked
        if main is None and (reading.wants_content or is_news or not rules.is_same(reading, holding, answer)):
            # Also when all of it is here: the broker knows of another content only, and is told of this one anew.
            self._announcements.forget(task)
            reading.only_asks, reading.wants_content = False, True
            self._main[task] = reading
            return self._begin(reading, answer, now)
        effects = self._questions.drop(reading)
        if main is not None:
            holding = main.holding
            if not main.is_settled:
                reading.state = "queued"
                return effects
            if reading.wants_content or (is_news and not main.permits):
                for permit in reading.permits:
                    effects += self._attach(permit, main, now)
                return effects
        # What is being read now is what there is now; if the source has changed meanwhile, ask again soon.
        same = main is None or rules.is_same(reading, holding, answer) or rules.goes_on(holding, answer)
        fresh = rules.fresh_seconds(answer) if same else 0.0
        content = holding.content if holding is not None else rules.content(task, answer)
        effects += [self._announcements.sourced(permit, task, content, fresh) for permit in reading.permits]
        if holding is not None:
            holding.learn_validators(answer.etag, answer.last_modified)
            effects += self._announcements.pieces(holding)
        return effects + self._remove(reading, now)

    # ── what the answer means ─────────────────────────────────────────────────────────────────────────────────

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
        reading.is_settled, reading.from_zero, reading.is_doubtful = True, False, False
        holding.learn_validators(answer.etag, answer.last_modified)
        named = bool(holding.etag or holding.last_modified or reading.request.digest)
        reading.takes_ranges = answer.ranges and named
        reading.fresh_until = now + rules.fresh_seconds(answer)
        effects = self._announcements.settled(reading, now)
        for queued in self._in_state(reading.task, "queued"):
            effects += self._start(queued, now)
        if answer.kind == "unchanged":
            return effects + self._body_over(reading, now)
        if reading.is_opened or (holding.is_open and reading.position() is None):
            return effects + self._read(reading, now)
        reading.state = "opening"
        content, etag, last_modified = holding.content, holding.etag, holding.last_modified
        return [*effects, OpenStore(reading.task, content, reading.request, etag, last_modified)]

    def _ask_for_all(self, reading: Reading, now: float) -> list[PeerEffect]:
        """The answer is the end of something else than we hold: ask for all of it."""
        effects = self._questions.drop(reading)
        if reading.from_zero:
            text = f"{shown(reading.request.url)} answers a plain request with a part"
            return effects + self._retry(reading, now, "source_failed", text)
        reading.from_zero = True
        return effects + self._ask(reading)

    # ── reading ───────────────────────────────────────────────────────────────────────────────────────────────

    def opened(self, event: StoreOpened, now: float) -> list[PeerEffect]:
        """The store is ready for this content."""
        holding = self._holdings.get(event.task)
        if holding is None or holding.content.generation != event.generation:
            return []
        holding.opened(event.held, event.partial, event.proofs)
        reading = self._main.get(event.task)
        if reading is None or reading.state != "opening" or reading.holding is not holding:
            return []
        reading.is_opened = True
        return self._announcements.settled(reading, now) + self._read(reading, now)

    def _read(self, reading: Reading, now: float) -> list[PeerEffect]:
        """Read the body that waits, from the first byte that is needed."""
        holding, offset = reading.holding, reading.first_byte()
        if holding is None or reading.ask is None or offset is None:
            return self._body_over(reading, now)
        skip = offset - reading.body_offset
        could_ask = reading.takes_ranges and reading.asked_offset != offset
        if skip < 0 or (skip >= LEAST_GAP and could_ask):
            return self._questions.drop(reading) + self._ask(reading)
        reading.state = "reading"
        generation, cut, window = holding.content.generation, holding.cut, self._window_bytes
        reading.rate = self._limit_of(reading.task)
        return [ReadSource(reading.ask, reading.task, generation, cut, offset, skip, window, reading.rate)]

    def pace(self) -> list[PeerEffect]:
        """Whoever gets a task, and how fast, may have changed: reads go on at the rate that is wanted now."""
        effects: list[PeerEffect] = []
        for task, reading in self._main.items():
            rate = self._limit_of(task)
            if reading.state == "reading" and reading.ask is not None and reading.rate != rate:
                reading.rate = rate
                effects.append(PaceSource(reading.ask, rate))
        return effects

    def chunk(self, event: SourceChunk, now: float) -> list[PeerEffect]:
        """A chunk of a body came."""
        reading = self._questions.of(event.permit)
        if reading is None or reading.state != "reading":
            return []
        holding = reading.holding
        if holding is None or self._holdings.get(reading.task) is not holding:
            return self._restart(reading, now)
        reading.untold_bytes += event.length
        if event.piece >= holding.cut.limit:
            text = f"{shown(reading.request.url)} goes on beyond {event.piece} pieces: it cannot be distributed"
            return self._fail(reading, now, "source_failed", text)
        stored = reading.take(event)
        if stored is None:
            return self._doubt(reading, now)
        effects: list[PeerEffect] = [*stored]
        if reading.reproven:
            reproven, reading.reproven = reading.reproven, []
            for piece in reproven if reading.permits else ():
                effects += self._announcements.piece(holding, piece)
        gap = reading.gap_after(event)
        if gap < 0:
            effects += self._body_over(reading, now)
        elif gap >= LEAST_GAP and reading.takes_ranges:
            effects += self._questions.drop(reading) + self._ask(reading)
        return effects

    def ended(self, event: SourceEnded, now: float) -> list[PeerEffect]:
        """A body is over."""
        reading = self._questions.of(event.permit)
        if reading is None or reading.state != "reading":
            return []
        holding = reading.holding
        if holding is None or self._holdings.get(reading.task) is not holding:
            return self._restart(reading, now)
        self._questions.close(reading)
        effects: list[PeerEffect] = []
        if holding.cut.length is None:
            if not reading.can_end_at(event.length):
                return self._doubt(reading, now)
            holding.seal(event.length)
            effects += self._announcements.sealed(reading, holding, event.length)
            effects.append(SealStore(reading.task, holding.content.generation, event.length))
            last = reading.take_pending()
            if last is None:
                return effects + self._doubt(reading, now)
            effects += last
        elif event.length != holding.cut.length:
            text = f"the content ended at {event.length} bytes and should have {holding.cut.length}"
            return self._retry(reading, now, "source_failed", text)
        return effects + self._body_over(reading, now)

    def piece_whole(self, task: TaskId, piece: int, now: float) -> list[PeerEffect]:
        """The piece is held: tell the broker, if it came through us."""
        reading = self._main.get(task)
        if reading is None or not reading.is_settled:
            return []
        holding = reading.holding
        if holding is None or self._holdings.get(task) is not holding:
            return []
        effects: list[PeerEffect] = []
        if reading.permits and reading.touched >> piece & 1:
            effects += self._announcements.piece(holding, piece)
        if reading.state == "storing":
            effects += self._finish(reading, now)
        return effects

    # ── the end ───────────────────────────────────────────────────────────────────────────────────────────────

    def _body_over(self, reading: Reading, now: float) -> list[PeerEffect]:
        """Nothing more is wanted of this answer: if something is still missing, ask for it."""
        effects = self._questions.drop(reading)
        if reading.position() is None:
            reading.state = "storing"
            return effects + self._finish(reading, now)
        if reading.brought:
            reading.brought, reading.fruitless = False, 0
            return effects + self._ask(reading)
        return effects + self._retry(reading, now, "source_failed", "the source gave less than it promised")

    def _finish(self, reading: Reading, now: float) -> list[PeerEffect]:
        """All is read; when all is stored too, prove the whole against the digest in the request."""
        holding = reading.holding
        if holding is None or not holding.is_complete:
            return []
        effects: list[PeerEffect] = []
        if not holding.is_finished:
            holding.is_finished = True
            effects.append(FinishStore(reading.task, holding.content.generation))
        if reading.request.digest:
            algorithm = parse_digest(reading.request.digest).algorithm
            if not holding.proved.get(algorithm):
                reading.state = "proving"
                if holding.ask_proof(algorithm):
                    effects.append(ProveContent(reading.task, holding.content.generation, algorithm))
                return effects
        return effects + self._conclude(reading, holding, now)

    def proved(self, event: ContentProved, now: float) -> list[PeerEffect]:
        """The digest of the whole content is known."""
        holding = self._holdings.get(event.task)
        if holding is None or holding.content.generation != event.generation:
            return []
        if event.hex:
            holding.proved[event.algorithm] = event.hex
        else:
            holding.proved.pop(event.algorithm, None)
        reading = self._main.get(event.task)
        if reading is None or reading.state != "proving" or reading.holding is not holding:
            return []
        if parse_digest(reading.request.digest).algorithm != event.algorithm:
            return []
        if not event.hex:
            text = f"what was stored of {shown(reading.request.url)} cannot be read back to prove it"
            return self._fail(reading, now, "store", text)
        return self._conclude(reading, holding, now)

    def _conclude(self, reading: Reading, holding: Holding, now: float) -> list[PeerEffect]:
        """The permit is fulfilled, unless the whole is not what the digest in the request names."""
        task = reading.task
        if reading.request.digest:
            wanted = parse_digest(reading.request.digest)
            found = holding.proved[wanted.algorithm]
            if found != wanted.hex:
                del self._holdings[task]
                self._announcements.forget(task)
                text = f"{shown(reading.request.url)} gives {wanted.algorithm}:{found}, and not {wanted}"
                return [*self._fail(reading, now, "digest_mismatch", text), DropTask(task)]
        # Pieces that became whole in the same turn may not have been told yet.
        effects = self._announcements.pieces(holding) if reading.permits else []
        return [
            *effects,
            Record("source.ended", {"task": task, "bytes": reading.tell_bytes()}),
            *self._remove(reading, now),
        ]

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
            return [record, *self._fail(reading, now, event.code, event.text, event.retry_after)]
        return [record, *self._retry(reading, now, event.code, event.text, event.retry_after)]

    def _retry(self, reading: Reading, now: float, code: str, text: str, retry_after: float = 0.0) -> list[PeerEffect]:
        """Try again later, unless that has been done often enough without a byte to show for it."""
        seconds = self._questions.postpone(reading, retry_after, now)
        if seconds is None:
            return self._fail(reading, now, code, text, retry_after)
        reading.state = "waiting"
        told = {"task": reading.task, "fruitless": reading.fruitless, "seconds": seconds, "code": code}
        return [Record("source.retried", told)]

    def _doubt(self, reading: Reading, now: float) -> list[PeerEffect]:
        """The body is not what was proven before: the source has something else under the same name, or a nameless
        content has changed. All of it is read again, as a new generation."""
        effects = self._questions.drop(reading)
        reading.is_doubtful = reading.from_zero = True
        reading.is_settled = False
        text = f"{shown(reading.request.url)} changed while it was read"
        return effects + self._retry(reading, now, "source_failed", text)

    def task_changed(self, task: TaskId, now: float) -> list[PeerEffect]:
        """What is held of the task was dropped or replaced by another part of this peer: read for what is there now."""
        reading = self._main.get(task)
        if reading is None or reading.holding is None or self._holdings.get(task) is reading.holding:
            return []
        return self._restart(reading, now)

    def _restart(self, reading: Reading, now: float) -> list[PeerEffect]:
        effects = self._questions.drop(reading)
        self._announcements.forget(reading.task)
        reading.forget()
        return effects + self._start(reading, now)

    def store_failed(self, event: StoreFailed, now: float) -> list[PeerEffect]:
        """The disk does not take the content: nothing is to be had by reading on."""
        holding = self._holdings.get(event.task)
        if holding is not None:
            holding.abandon()
        reading = self._main.get(event.task)
        return self._fail(reading, now, event.code, event.text) if reading is not None else []

    def _fail(self, reading: Reading, now: float, code: str, text: str, retry_after: float = 0.0) -> list[PeerEffect]:
        return self._announcements.failed(reading, code, text, retry_after) + self._remove(reading, now)

    # ── time, and the books ───────────────────────────────────────────────────────────────────────────────────

    def deadline(self, now: float) -> list[PeerEffect]:
        """Tries that have become due."""
        effects: list[PeerEffect] = []
        for reading in self._questions.due(now):
            effects += self._ask(reading)
        return effects

    def next_deadline(self) -> float | None:
        """When `deadline` is to be called at the latest."""
        return self._questions.next_deadline()

    def _in_state(self, task: TaskId, state: State) -> list[Reading]:
        return [reading for reading in self._everyone() if reading.task == task and reading.state == state]

    def _everyone(self) -> list[Reading]:
        """Every reading there is, each once."""
        return list(dict.fromkeys([*self._main.values(), *self._by_permit.values()]))

    def _remove(self, reading: Reading, now: float) -> list[PeerEffect]:
        """The reading is over. Who waited for what it would find out asks for itself."""
        effects = self._questions.drop(reading)
        for permit in reading.permits:
            self._by_permit.pop(permit, None)
        reading.permits.clear()
        if self._main.get(reading.task) is reading:
            del self._main[reading.task]
            for queued in self._in_state(reading.task, "queued"):
                effects += self._start(queued, now)
        return effects

    def check(self) -> None:
        """See the class's law."""
        everyone = self._everyone()
        for reading in everyone:
            reading.check()
            if any(self._by_permit.get(permit) is not reading for permit in reading.permits):
                raise InvariantViolated(f"task {reading.task.hex()}: serves a permit that is another's")
        if any(permit not in reading.permits for permit, reading in self._by_permit.items()):
            raise InvariantViolated("a permit is served by nobody")
        if any(task != reading.task or reading.only_asks for task, reading in self._main.items()):
            raise InvariantViolated("a reading that only asks stands for a task's one reading")
        self._questions.check(everyone)
