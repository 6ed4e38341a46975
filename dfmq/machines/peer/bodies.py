"""The bodies of sources' answers: read into the store until the content is here, stored and proven. Which answer is
read is fetching's to say, which bytes are needed reading's."""

from __future__ import annotations

from collections.abc import Callable

from dfmq.machines.effects import (
    DropTask,
    FinishStore,
    PaceSource,
    PeerEffect,
    ProveContent,
    ReadSource,
    Record,
    SealStore,
)
from dfmq.machines.events import ContentProved, SourceChunk, SourceEnded, StoreOpened
from dfmq.machines.peer.announcements import Announcements
from dfmq.machines.peer.holding import Holding, Holdings
from dfmq.machines.peer.questions import Questions
from dfmq.machines.peer.reading import LEAST_GAP, Reading
from dfmq.machines.peer.readings import Readings
from dfmq.model.digest import parse_digest
from dfmq.model.ids import TaskId
from dfmq.model.task import shown


class Bodies:
    """Law: a body goes into the holding its answer was settled for, or nowhere; a piece is told only after it is
    stored; a read is fulfilled when all is stored and, where the request names a digest, proven."""

    def __init__(
        self,
        holdings: Holdings,
        readings: Readings,
        questions: Questions,
        announcements: Announcements,
        window_bytes: int,
        limit_of: Callable[[TaskId], int],
    ) -> None:
        """`window_bytes`: of a body that may wait for the store. `limit_of`: bytes per second at which a task is to be
        read at most, 0 any."""
        self._holdings = holdings
        self._readings = readings
        self._questions = questions
        self._announcements = announcements
        self._window_bytes = window_bytes
        self._limit_of = limit_of

    def opened(self, event: StoreOpened, now: float) -> list[PeerEffect]:
        """The store is ready for this content."""
        holding = self._holdings.get(event.task)
        if holding is None or holding.content.generation != event.generation:
            return []
        holding.opened(event.held, event.partial, event.proofs)
        reading = self._readings.main.get(event.task)
        if reading is None or reading.state != "opening" or reading.holding is not holding:
            return []
        reading.is_opened = True
        return self._announcements.settled(reading, now) + self.read(reading, now)

    def read(self, reading: Reading, now: float) -> list[PeerEffect]:
        """Read the body that waits, from the first byte that is needed."""
        holding, offset = reading.holding, reading.first_byte()
        if holding is None or reading.ask is None or offset is None:
            return self.over(reading, now)
        skip = offset - reading.body_offset
        could_ask = reading.takes_ranges and reading.asked_offset != offset
        if skip < 0 or (skip >= LEAST_GAP and could_ask):
            return self._questions.drop(reading) + self._readings.ask(reading)
        reading.state = "reading"
        generation, cut, window = holding.content.generation, holding.cut, self._window_bytes
        reading.rate = self._limit_of(reading.task)
        return [ReadSource(reading.ask, reading.task, generation, cut, offset, skip, window, reading.rate)]

    def pace(self) -> list[PeerEffect]:
        """Whoever gets a task, and how fast, may have changed: reads go on at the rate that is wanted now."""
        effects: list[PeerEffect] = []
        for task, reading in self._readings.main.items():
            if self._readings.is_orphan(reading):
                # What limit those have who may still want it is not known: it keeps the one it had.
                continue
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
            return self._readings.restart(reading, now)
        reading.untold_bytes += event.length
        if event.piece >= holding.cut.limit:
            text = f"{shown(reading.request.url)} goes on beyond {event.piece} pieces: it cannot be distributed"
            return self._readings.fail(reading, now, "source_failed", text)
        stored = reading.take(event)
        if stored is None:
            return self._readings.doubt(reading, now)
        effects: list[PeerEffect] = [*stored]
        if reading.reproven:
            reproven, reading.reproven = reading.reproven, []
            for piece in reproven if reading.permits else ():
                effects += self._announcements.piece(holding, piece)
        gap = reading.gap_after(event)
        if gap < 0:
            effects += self.over(reading, now)
        elif gap >= LEAST_GAP and reading.takes_ranges:
            effects += self._questions.drop(reading) + self._readings.ask(reading)
        return effects

    def ended(self, event: SourceEnded, now: float) -> list[PeerEffect]:
        """A body is over."""
        reading = self._questions.of(event.permit)
        if reading is None or reading.state != "reading":
            return []
        holding = reading.holding
        if holding is None or self._holdings.get(reading.task) is not holding:
            return self._readings.restart(reading, now)
        self._questions.close(reading)
        effects: list[PeerEffect] = []
        if holding.cut.length is None:
            if not reading.can_end_at(event.length):
                return self._readings.doubt(reading, now)
            holding.seal(event.length)
            effects += self._announcements.sealed(reading, holding, event.length)
            effects.append(SealStore(reading.task, holding.content.generation, event.length))
            last = reading.take_pending()
            if last is None:
                return effects + self._readings.doubt(reading, now)
            effects += last
        elif event.length != holding.cut.length:
            text = f"the content ended at {event.length} bytes and should have {holding.cut.length}"
            return self._readings.retry(reading, now, "source_failed", text)
        return effects + self.over(reading, now)

    def piece_whole(self, task: TaskId, piece: int, now: float) -> list[PeerEffect]:
        """The piece is held: tell the broker, if it came through us."""
        reading = self._readings.main.get(task)
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

    def over(self, reading: Reading, now: float) -> list[PeerEffect]:
        """Nothing more is wanted of this answer: if something is still missing, ask for it."""
        effects = self._questions.drop(reading)
        if reading.position() is None:
            reading.state = "storing"
            return effects + self._finish(reading, now)
        if reading.brought:
            reading.brought, reading.fruitless = False, 0
            return effects + self._readings.ask(reading)
        return effects + self._readings.retry(reading, now, "source_failed", "the source gave less than it promised")

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
        reading = self._readings.main.get(event.task)
        if reading is None or reading.state != "proving" or reading.holding is not holding:
            return []
        if parse_digest(reading.request.digest).algorithm != event.algorithm:
            return []
        if not event.hex:
            text = f"what was stored of {shown(reading.request.url)} cannot be read back to prove it"
            return self._readings.fail(reading, now, "store", text)
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
                return [*self._readings.fail(reading, now, "digest_mismatch", text), DropTask(task)]
        # Pieces that became whole in the same turn may not have been told yet.
        effects = self._announcements.pieces(holding) if reading.permits else []
        return [
            *effects,
            Record("source.ended", {"task": task, "bytes": reading.tell_bytes()}),
            *self._readings.remove(reading, now),
        ]
