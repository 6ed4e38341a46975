"""Permits: asking and reading sources, and telling the broker what came of it. The bytes' own books are in reading."""

from __future__ import annotations

import random

from dfmq.errors import InvariantViolated
from dfmq.machines.deadlines import Deadlines
from dfmq.machines.effects import (
    AskSource,
    DropSource,
    DropTask,
    FinishStore,
    LoadTask,
    OpenStore,
    PeerEffect,
    ProveContent,
    ReadSource,
    Record,
    SealStore,
    TellBroker,
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
from dfmq.machines.peer import generations
from dfmq.machines.peer.announcements import Announcements
from dfmq.machines.peer.holding import Holding, Holdings
from dfmq.machines.peer.reading import LEAST_GAP, Reading
from dfmq.model import pieces
from dfmq.model.digest import parse_digest
from dfmq.model.ids import GENERATION_BYTES, Generation, PermitId, TaskId
from dfmq.model.settings import SourceSettings
from dfmq.model.task import Content, credential, shown
from dfmq.wire.messages import Permit, Quit, Sealed, Sourced, SourceFailed

#: Seconds between tries: doubling from the first to the last, ± a quarter so that readers of one source spread out.
FIRST_BACKOFF = 0.2
LAST_BACKOFF = 5.0
#: A source that asks to be left alone for longer has failed for now: people wait, and the broker can tell them.
LONGEST_WAIT = 30.0
#: Content that nothing names is new whenever it is asked for again: that is not to be done all the time.
NAMELESS_SECONDS = 60.0
_MOST_TEXT = 2000


class Fetching:
    """All permits of this peer.

    Law: a task is read at most once at a time; every permit is served by one Reading and ends with Sourced (a check),
    with every piece Proven, with one SourceFailed, or with Quit; a piece is told only after it is stored.
    """

    def __init__(self, holdings: Holdings, settings: SourceSettings, algorithm: str, rng: random.Random) -> None:
        """`algorithm`: of the chunk digests the node computes."""
        self._holdings = holdings
        self._settings = settings
        self._algorithm = algorithm
        self._rng = rng
        #: the one that reads, or is going to
        self._main: dict[TaskId, Reading] = {}
        self._by_permit: dict[PermitId, Reading] = {}
        #: by the number of the open question: late answers to older questions are told from those to newer ones
        self._by_ask: dict[PermitId, Reading] = {}
        self._asked = 0
        self._retries: Deadlines[Reading] = Deadlines()
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
        return self._tell_settled(main, now) if main.is_settled else []

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
        if holding is None or not holding.is_open:
            reading.state = "loading"
            return [LoadTask(reading.task)]
        return self._ask(reading, now)

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
            effects += self._ask(reading, now)
        return effects

    def _ask(self, reading: Reading, now: float) -> list[PeerEffect]:
        """Ask for what is missing; when nothing is, ask whether it is still the same."""
        holding = self._holdings.get(reading.task)
        offset, etag, last_modified, unchanged_will_do = 0, "", "", False
        if holding is not None and not reading.from_zero:
            etag, last_modified = holding.etag, holding.last_modified
            position = None
            if not reading.only_asks:
                reading.begin(holding)
                position = reading.position()
            if position is None:
                unchanged_will_do = bool(etag or last_modified)
            else:
                offset = holding.cut.chunk_span(*position)[0]
                if reading.request.digest:
                    etag = last_modified = ""
                elif not offset or not (etag or last_modified):
                    offset, etag, last_modified = 0, "", ""
        self._asked += 1
        number = PermitId(self._asked)
        reading.state, reading.ask, reading.asked_offset = "asking", number, offset
        self._by_ask[number] = reading
        url = shown(reading.request.url)
        return [
            Record("source.asked", {"task": reading.task, "ask": number, "url": url, "offset": offset}),
            AskSource(number, reading.request, offset, etag, last_modified, unchanged_will_do),
        ]

    def answered(self, event: SourceAnswered, now: float) -> list[PeerEffect]:
        """The source's headers are here."""
        reading = self._by_ask.get(event.permit)
        if reading is None or reading.state != "asking":
            return [DropSource(event.permit)] if reading is None and event.kind != "unchanged" else []
        reading.body_offset = event.offset if event.kind == "partial" else 0
        said = {"task": reading.task, "ask": event.permit, "kind": event.kind, "length": event.length}
        record = Record("source.answered", said)
        return [record, *(self._checked if reading.only_asks else self._begin)(reading, event, now)]

    def _checked(self, reading: Reading, answer: SourceAnswered, now: float) -> list[PeerEffect]:
        """The answer to a question that wants no body."""
        task = reading.task
        main, holding = self._main.get(task), self._holdings.get(task)
        if main is not None and not main.is_settled:
            reading.state = "queued"
            return self._drop(reading)
        if main is None:
            if reading.wants_content or not self._is_same(reading, holding, answer):
                reading.only_asks, reading.wants_content = False, True
                self._main[task] = reading
                return self._begin(reading, answer, now)
        else:
            holding = main.holding
            if reading.wants_content:
                effects = self._drop(reading)
                for permit in reading.permits:
                    effects += self._attach(permit, main, now)
                return effects
        # What is being read now is what there is now; if the source has changed meanwhile, ask again soon.
        same = main is None or self._is_same(reading, holding, answer) or _goes_on(reading, holding, answer)
        fresh = self._fresh_seconds(answer) if same else 0.0
        content = holding.content if holding is not None else self._content(task, answer)
        effects = self._drop(reading)
        for permit in reading.permits:
            effects.append(_sourced(permit, task, content, fresh))
        if holding is not None:
            effects += self._announcements.pieces(holding)
        return effects + self._remove(reading, now)

    def _is_same(self, reading: Reading, holding: Holding | None, answer: SourceAnswered) -> bool:
        """The answer is of what we hold; holding nothing: of what the broker knows."""
        if holding is None:
            named = generations.has_name(reading.request, answer)
            return named and self._content(reading.task, answer).generation == reading.checked
        return generations.is_of(holding, reading.request, answer, pieces.cut(answer.length))

    # ── what the answer means ─────────────────────────────────────────────────────────────────────────────────

    def _begin(self, reading: Reading, answer: SourceAnswered, now: float) -> list[PeerEffect]:
        """Decide which generation the answer is of, say so, and go on to its body."""
        holding = self._holdings.get(reading.task)
        reading.compares = False
        if holding is not None and not reading.is_doubtful:
            if not self._is_same(reading, holding, answer):
                reading.compares = reading.holding is holding and _goes_on(reading, holding, answer)
                holding = holding if reading.compares else None
        else:
            holding = None
        if holding is None and answer.kind != "full":
            effects = self._drop(reading)
            if reading.from_zero:
                text = f"{shown(reading.request.url)} answers a plain request with a part"
                return effects + self._retry(reading, now, "source_failed", text)
            reading.from_zero = True
            return effects + self._ask(reading, now)
        if holding is None:
            holding = self._renew(reading, answer)
        reading.begin(holding)
        reading.is_settled, reading.from_zero, reading.is_doubtful = True, False, False
        if not holding.etag and not holding.last_modified:
            holding.etag, holding.last_modified = answer.etag, answer.last_modified
        named = bool(holding.etag or holding.last_modified or reading.request.digest)
        reading.takes_ranges = answer.ranges and named
        reading.fresh_until = now + self._fresh_seconds(answer)
        effects = self._tell_settled(reading, now)
        for queued in self._in_state(reading.task, "queued"):
            effects += self._start(queued, now)
        if answer.kind == "unchanged" or (reading.position() is None and not reading.compares):
            return effects + self._drop(reading) + self._body_over(reading, now)
        if reading.is_opened:
            return effects + self._read(reading, now)
        reading.state = "opening"
        content, etag, last_modified = holding.content, holding.etag, holding.last_modified
        return [*effects, OpenStore(reading.task, content, reading.request, etag, last_modified)]

    def _content(self, task: TaskId, answer: SourceAnswered) -> Content:
        cut = pieces.cut(answer.length)
        return Content(generations.derive(task, answer, cut, self._algorithm), cut, self._algorithm)

    def _renew(self, reading: Reading, answer: SourceAnswered) -> Holding:
        """The source has something else than we hold: a new generation takes its place."""
        content = self._content(reading.task, answer)
        if reading.is_doubtful or not generations.has_name(reading.request, answer):
            generation = Generation(self._rng.randbytes(GENERATION_BYTES))
            content = Content(generation, content.cut, content.algorithm)
        holding = self._holdings[reading.task] = Holding(reading.task, content, reading.request)
        holding.etag, holding.last_modified = answer.etag, answer.last_modified
        return holding

    def _fresh_seconds(self, answer: SourceAnswered) -> float:
        if answer.fresh_seconds is not None:
            return min(answer.fresh_seconds, 1e9)
        named = answer.etag or answer.last_modified
        seconds = self._settings.revalidate_seconds
        return seconds if named else max(seconds, NAMELESS_SECONDS)

    def _tell_settled(self, reading: Reading, now: float) -> list[PeerEffect]:
        """Say which generation it is to every permit that was not told, and which pieces of it are here."""
        holding = reading.holding
        if holding is None or not reading.permits:
            return []
        effects: list[PeerEffect] = []
        for permit, told in reading.permits.items():
            if told != holding.content.generation:
                fresh = max(0.0, reading.fresh_until - now)
                effects.append(_sourced(permit, reading.task, holding.content, fresh))
                reading.permits[permit] = holding.content.generation
        return effects + self._announcements.pieces(holding)

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
        return self._tell_settled(reading, now) + self._read(reading, now)

    def _read(self, reading: Reading, now: float) -> list[PeerEffect]:
        """Read the body that waits, from the first byte that is needed."""
        holding, position = reading.holding, reading.position()
        if holding is None or reading.ask is None or (position is None and not reading.compares):
            return self._drop(reading) + self._body_over(reading, now)
        cut = holding.cut
        offset = reading.body_offset if reading.compares or position is None else cut.chunk_span(*position)[0]
        skip = offset - reading.body_offset
        could_ask = reading.takes_ranges and reading.asked_offset != offset
        if skip < 0 or (skip >= LEAST_GAP and could_ask):
            return self._drop(reading) + self._ask(reading, now)
        reading.state = "reading"
        window = self._settings.window_bytes
        generation = holding.content.generation
        return [ReadSource(reading.ask, reading.task, generation, cut, offset, skip, window)]

    def chunk(self, event: SourceChunk, now: float) -> list[PeerEffect]:
        """A chunk of a body came."""
        reading = self._by_ask.get(event.permit)
        if reading is None or reading.state != "reading":
            return []
        holding = reading.holding
        if holding is None or self._holdings.get(reading.task) is not holding:
            return self._restart(reading, now)
        stored = reading.take(event)
        if stored is None:
            return self._doubt(reading, now)
        effects: list[PeerEffect] = [*stored]
        if reading.reproven:
            effects += self._tell_reproven(reading, holding)
        cut = holding.cut
        at = cut.chunk_span(event.piece, event.chunk)[0] + event.length
        if cut.length is not None and at < cut.length and not at % cut.piece_length and not reading.compares:
            gap = reading.gap(at)
            if gap < 0:
                effects += self._drop(reading) + self._body_over(reading, now)
            elif gap >= LEAST_GAP and reading.takes_ranges:
                effects += self._drop(reading) + self._ask(reading, now)
        return effects

    def _tell_reproven(self, reading: Reading, holding: Holding) -> list[PeerEffect]:
        told, reading.reproven = reading.reproven, []
        effects: list[PeerEffect] = []
        if reading.permits:
            for piece in told:
                effects += self._announcements.piece(holding, piece)
        return effects

    def ended(self, event: SourceEnded, now: float) -> list[PeerEffect]:
        """A body is over."""
        reading = self._by_ask.get(event.permit)
        if reading is None or reading.state != "reading":
            return []
        holding = reading.holding
        if holding is None or self._holdings.get(reading.task) is not holding:
            return self._restart(reading, now)
        self._close(reading)
        effects: list[PeerEffect] = []
        if holding.cut.length is None:
            sealed = self._seal(reading, holding, event.length)
            if sealed is None:
                return self._doubt(reading, now)
            effects += sealed
        elif event.length != holding.cut.length:
            text = f"the content ended at {event.length} bytes and should have {holding.cut.length}"
            return self._retry(reading, now, "source_failed", text)
        return effects + self._body_over(reading, now)

    def _seal(self, reading: Reading, holding: Holding, length: int) -> list[PeerEffect] | None:
        """A growing content has ended. None: not where it can have ended, so it is not what we held of it."""
        last = reading.pending
        end = holding.cut.chunk_span(last.piece, last.chunk)[0] + last.length if last is not None else length
        begun = holding.held.bit_length() * holding.cut.piece_length
        if end != length or length < begun or (last is None and holding.assemblies):
            return None
        generation = holding.content.generation
        holding.seal(length)
        effects: list[PeerEffect] = []
        if reading.permits:
            effects.append(TellBroker(Sealed(task=reading.task, generation=generation, length=length)))
        effects.append(SealStore(reading.task, generation, length))
        stored = reading.take_pending()
        return None if stored is None else [*effects, *stored]

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
        """Nothing more comes from this answer: if something is still missing, ask for it."""
        if reading.position() is not None:
            if reading.brought:
                reading.brought, reading.fruitless = False, 0
                return self._ask(reading, now)
            return self._retry(reading, now, "source_failed", "the source gave less than it promised")
        reading.state = "storing"
        return self._finish(reading, now)

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
        return effects + self._conclude(reading, now)

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
        return self._conclude(reading, now)

    def _conclude(self, reading: Reading, now: float) -> list[PeerEffect]:
        """The permit is fulfilled, unless the whole is not what the digest in the request names."""
        holding = reading.holding
        if holding is not None and reading.request.digest:
            wanted = parse_digest(reading.request.digest)
            found = holding.proved[wanted.algorithm]
            if found != wanted.hex:
                del self._holdings[reading.task]
                self._announcements.forget(reading.task)
                text = f"{shown(reading.request.url)} gives {wanted.algorithm}:{found}, and not {wanted}"
                return [*self._fail(reading, now, "digest_mismatch", text), DropTask(reading.task)]
        length = holding.cut.length if holding is not None else None
        record = Record("source.ended", {"task": reading.task, "bytes": length})
        return [record, *self._remove(reading, now)]

    def broke(self, event: SourceBroke, now: float) -> list[PeerEffect]:
        """The source refused, broke off or stalled."""
        reading = self._by_ask.get(event.permit)
        if reading is None:
            return []
        self._close(reading)
        record = Record("source.broke", {"task": reading.task, "ask": event.permit, "code": event.code})
        return [record, *self._retry(reading, now, event.code, event.text, event.retry_after, event.permanent)]

    def _retry(
        self, reading: Reading, now: float, code: str, text: str, retry_after: float = 0.0, permanent: bool = False
    ) -> list[PeerEffect]:
        """Try again later, unless that has been done often enough without a byte to show for it."""
        reading.pending = None
        reading.fruitless = 0 if reading.brought else reading.fruitless + 1
        reading.brought = False
        if permanent or reading.fruitless >= self._settings.retries or retry_after > LONGEST_WAIT:
            return self._fail(reading, now, code, text, retry_after)
        backoff = min(LAST_BACKOFF, FIRST_BACKOFF * 2 ** max(0, reading.fruitless - 1))
        wait = max(retry_after, backoff * self._rng.uniform(0.75, 1.25))
        reading.state = "waiting"
        self._retries.set(reading, now + wait)
        told = {"task": reading.task, "fruitless": reading.fruitless, "seconds": wait, "code": code}
        return [Record("source.retried", told)]

    def _doubt(self, reading: Reading, now: float) -> list[PeerEffect]:
        """The body is not what was proven before: the source has something else under the same name, or a nameless
        content has changed. All of it is read again, as a new generation."""
        effects = self._drop(reading)
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
        effects = self._drop(reading)
        self._retries.clear(reading)
        self._announcements.forget(reading.task)
        reading.holding, reading.pending = None, None
        reading.is_settled = reading.is_opened = reading.from_zero = reading.is_doubtful = False
        for permit in reading.permits:
            reading.permits[permit] = None
        return effects + self._start(reading, now)

    def store_failed(self, event: StoreFailed, now: float) -> list[PeerEffect]:
        """The disk does not take the content: nothing is to be had by reading on."""
        holding = self._holdings.get(event.task)
        if holding is not None:
            holding.abandon()
        reading = self._main.get(event.task)
        return self._fail(reading, now, event.code, event.text) if reading is not None else []

    def _fail(self, reading: Reading, now: float, code: str, text: str, retry_after: float = 0.0) -> list[PeerEffect]:
        effects: list[PeerEffect] = []
        for permit in reading.permits:
            told = SourceFailed(
                permit=permit, task=reading.task, code=code, text=text[:_MOST_TEXT], retry_after=retry_after
            )
            effects.append(TellBroker(told))
        return effects + self._remove(reading, now)

    # ── time, and the books ───────────────────────────────────────────────────────────────────────────────────

    def deadline(self, now: float) -> list[PeerEffect]:
        """Tries that have become due."""
        effects: list[PeerEffect] = []
        for reading in self._retries.due(now):
            effects += self._ask(reading, now)
        return effects

    def next_deadline(self) -> float | None:
        """When `deadline` is to be called at the latest."""
        return self._retries.next()

    def _in_state(self, task: TaskId, state: str) -> list[Reading]:
        return [reading for reading in self._everyone() if reading.task == task and reading.state == state]

    def _everyone(self) -> list[Reading]:
        """Every reading there is, each once, in the order of their permits."""
        return list(dict.fromkeys([*self._main.values(), *self._by_permit.values()]))

    def _close(self, reading: Reading) -> None:
        """The question is no longer open."""
        if reading.ask is not None:
            del self._by_ask[reading.ask]
            reading.ask = None

    def _drop(self, reading: Reading) -> list[PeerEffect]:
        """The question is closed by us: what still comes is not wanted."""
        number = reading.ask
        self._close(reading)
        return [DropSource(number)] if number is not None else []

    def _remove(self, reading: Reading, now: float) -> list[PeerEffect]:
        """The reading is over. Who waited for what it would find out asks for itself."""
        effects = self._drop(reading)
        self._retries.clear(reading)
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
            if reading.ask is not None and self._by_ask.get(reading.ask) is not reading:
                raise InvariantViolated(f"task {reading.task.hex()}: its question {reading.ask} is nobody's")
            if (reading.state == "waiting") != (self._retries.at(reading) is not None):
                raise InvariantViolated(f"task {reading.task.hex()}: {reading.state}, and a deadline to try again")
            if any(self._by_permit.get(permit) is not reading for permit in reading.permits):
                raise InvariantViolated(f"task {reading.task.hex()}: serves a permit that is another's")
        if any(permit not in reading.permits for permit, reading in self._by_permit.items()):
            raise InvariantViolated("a permit is served by nobody")
        if set(self._by_ask.values()) - set(everyone):
            raise InvariantViolated("a question is open for nobody")
        if any(task != reading.task or reading.only_asks for task, reading in self._main.items()):
            raise InvariantViolated("a reading that only asks stands for a task's one reading")


def _goes_on(reading: Reading, holding: Holding | None, answer: SourceAnswered) -> bool:
    """Nothing names the version, but a read of it is under way here and the answer is of the same length: it is taken
    for the same until its bytes say otherwise."""
    if holding is None or holding.etag or holding.last_modified or answer.etag or answer.last_modified:
        return False
    return answer.kind == "full" and answer.length == holding.cut.length


def _sourced(permit: PermitId, task: TaskId, content: Content, fresh_seconds: float) -> PeerEffect:
    cut = content.cut
    return TellBroker(
        Sourced(
            permit=permit,
            task=task,
            generation=content.generation,
            length=cut.length,
            piece_length=cut.piece_length,
            chunk_length=cut.chunk_length,
            algorithm=content.algorithm,
            fresh_seconds=fresh_seconds,
        )
    )
