"""What the store and the source say, into the holdings, and who has to hear of it: broker, downloads, children,
neighbours, the read under way. Each of them decides for itself what follows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dfmq.machines import events as told
from dfmq.machines.effects import PeerEffect, Record, SealStore, StoreChunk
from dfmq.machines.peer.fetching import Fetching
from dfmq.machines.peer.gets import Gets
from dfmq.machines.peer.holding import Holding, Holdings
from dfmq.machines.peer.inflow import Inflow
from dfmq.machines.peer.intake import Intake
from dfmq.machines.peer.neighbours import Neighbours
from dfmq.machines.peer.session import Session
from dfmq.machines.peer.upload import Upload
from dfmq.model import bitfield
from dfmq.model.ids import TaskId
from dfmq.model.pieces import flaw
from dfmq.wire.messages import Have, Held, Lost

Effects = list[PeerEffect]
Answered = told.SourceAnswered | told.SourceEnded | told.SourceBroke


class Keeping:
    """Keeps the books that several parts share in step.

    Law: whenever one content takes another's place, children, downloads and reads of the old one are told in the same
    turn; a piece is told to others after it is stored.
    """

    def __init__(
        self,
        holdings: Holdings,
        session: Session,
        gets: Gets,
        intake: Intake,
        upload: Upload,
        fetching: Fetching,
        neighbours: Neighbours,
    ) -> None:
        self._holdings = holdings
        self._session = session
        self._gets = gets
        self._intake = intake
        self._upload = upload
        self._fetching = fetching
        self._neighbours = neighbours
        self._answers: dict[type, Callable[[Any, float], Effects]] = {
            told.SourceAnswered: fetching.answered,
            told.SourceEnded: fetching.ended,
            told.SourceBroke: fetching.broke,
        }

    # ── chunks on the disk ────────────────────────────────────────────────────────────────────────────────────

    def stored(self, event: told.ChunksStored, now: float) -> Effects:
        """Chunks are written."""
        holding = self._holdings.get(event.task)
        if holding is None or holding.content.generation != event.generation:
            return []
        download = self._gets.downloads.get(event.task)
        leases = download.leases if download is not None else None
        inflows: dict[int, Inflow] = {}
        whole: list[int] = []
        for piece, chunk in event.chunks:
            assembly = holding.assemblies.get(piece)
            if assembly is None:
                continue
            if leases is not None and (inflow := leases.inflow_of(piece)) is not None:
                self._intake.stored(inflow, chunk)
                inflows[piece] = inflow
            if assembly.mark_stored(chunk):
                holding.keep(piece)
                whole.append(piece)
        if download is not None:
            download.progressed(now)
        effects: Effects = []
        if whole:
            effects += self._kept(holding, whole, now)
            if download is not None:
                effects += self._gets.settle(download, download.held(whole, now), now)
        return effects + self._intake.settled(inflows.values(), now)

    def _kept(self, holding: Holding, pieces: list[int], now: float) -> Effects:
        """Pieces are held from now on."""
        task = holding.task
        download = self._gets.downloads.get(task)
        haves: list[int] = []
        effects: Effects = []
        for piece in pieces:
            inflow = download.leases.inflow_of(piece) if download is not None else None
            if inflow is not None or not self._fetching.reads(task):
                haves.append(piece)
            parent, length = inflow.lease.parent if inflow is not None else b"", holding.cut.piece_span(piece)[1]
            effects.append(Record("piece.held", {"task": task, "piece": piece, "parent": parent, "bytes": length}))
        if haves and download is not None:
            effects += download.note_held(haves)
        elif haves:
            effects += self._session.tell(Have(task=task, generation=holding.content.generation, pieces=haves))
        for piece in pieces:
            effects += self._fetching.piece_whole(task, piece, now)
            self._neighbours.tell(task, piece, now)
        return effects + self._gets.finish(holding)

    # ── the store's answers ───────────────────────────────────────────────────────────────────────────────────

    def loaded(self, event: told.StoreLoaded, now: float) -> Effects:
        """What an earlier life left of a task, asked for or (at the start) not."""
        task = event.task
        download = self._gets.downloads.get(task)
        is_new = task not in self._holdings
        effects = self.fetched(self._fetching.loaded, event, now, task)
        holding = self._holdings.get(task)
        if download is not None and download.phase == "loading":
            return self._gets.settle(download, effects + download.ask(now), now)
        if is_new and holding is not None and holding.held and not self._fetching.reads(task):
            effects += self.say_held(holding)
        return effects

    def opened(self, event: told.StoreOpened, now: float) -> Effects:
        """The store is ready for a content."""
        holding, download = self._holdings.get(event.task), self._gets.downloads.get(event.task)
        if holding is None or holding.content.generation != event.generation:
            return []
        held = holding.held
        effects = self.fetched(self._fetching.opened, event, now, event.task)
        if holding.held != held and not self._fetching.reads(event.task):
            effects += self.say_held(holding)
        effects += self._gets.finish(holding)
        return self._gets.settle(download, effects + download.prepared(now), now) if download is not None else effects

    def failed(self, event: told.StoreFailed, now: float) -> Effects:
        """The disk does not take a content."""
        task = event.task
        holding, download = self._holdings.get(task), self._gets.downloads.get(task)
        effects: Effects = [Record("store.failed", {"task": task, "code": event.code, "text": event.text})]
        effects += self._fetching.store_failed(event, now)
        if download is not None:
            download.fail(event.code, event.text)
            effects += self._gets.settle(download, [], now)
        if holding is not None and self._holdings.get(task) is holding:
            holding.abandon()
            if not holding.held and not holding.leftover:
                del self._holdings[task]
            effects += self._upload.task_changed(task, now)
        return effects

    def proved(self, event: told.ContentProved, now: float) -> Effects:
        """The digest of a whole content is known."""
        holding, download = self._holdings.get(event.task), self._gets.downloads.get(event.task)
        if holding is None or holding.content.generation != event.generation:
            return []
        effects = self._gets.guard(self._fetching.proved(event, now))
        if download is not None:
            effects += self._gets.settle(download, download.proved(event.algorithm, event.hex), now)
        return effects

    def doubted(self, event: told.StoreDoubted, now: float) -> Effects:
        """What is about to be given away may have been written to: the store is to be opened again before."""
        holding = self._holdings.get(event.task)
        if holding is not None and holding.is_complete:
            holding.is_open = False
        return []

    def damaged(self, event: told.StoreDamaged, now: float) -> Effects:
        """What stood in the store is no good any more, and gone: begin again with nothing."""
        task = event.task
        effects: Effects = [_record_of(event)]
        if task in self._holdings:
            del self._holdings[task]
            effects += self._session.tell(Lost(task=task, all_pieces=True))
        effects += self.changed(now)
        return effects + self._gets.of(task, now, lambda download: download.anew(now))

    def sealed(self, task: TaskId, generation: bytes, length: int, now: float) -> Effects:
        """The broker says that a growing content has ended."""
        holding, download = self._holdings.get(task), self._gets.downloads.get(task)
        if holding is None or holding.content.generation != generation or holding.cut.length is not None:
            return []
        if flaw(holding.cut.sealed(length)):
            return [Record("message.refused", {"code": "malformed", "op": "sealed", "task": task})]
        if not holding.may_end_at(length):
            return self.contradicted(task, now)
        effects: Effects = [SealStore(task, holding.content.generation, length)]
        holding.seal(length)
        effects += self._upload.task_changed(task, now) + self._gets.finish(holding)
        return self._gets.settle(download, effects + download.look(now), now) if download is not None else effects

    def contradicted(self, task: TaskId, now: float) -> Effects:
        """The broker's word on the content's end denies what a neighbour gave while no broker answered. Who lied about
        one piece may have lied about all: begin again with nothing."""
        fields = {"task": task, "why": "it lies beyond the content's end; all of the content is fetched anew"}
        effects: Effects = [Record("chunk.rejected", fields), *self._gets.drop(task), *self.changed(now)]
        return effects + self._gets.of(task, now, lambda download: download.ask(now))

    def say_held(self, holding: Holding) -> Effects:
        """Tell the broker what is here of a task that is not being fetched."""
        held = bitfield.to_bytes(holding.held)
        return self._session.tell(Held(task=holding.task, generation=holding.content.generation, held=held))

    # ── the source ────────────────────────────────────────────────────────────────────────────────────────────

    def source_chunk(self, event: told.SourceChunk, now: float) -> Effects:
        """A chunk of a source's body."""
        self._intake.purse.spent(event.length, now)
        task = self._fetching.asked_for(event.permit)
        if task in self._gets.downloads and (holding := self._holdings.get(task)) and holding.leftover:
            # Reading may write what is left over from an earlier life again: the long way, which counts that right.
            effects = self.fetched(self._fetching.chunk, event, now, task)
        else:
            effects = self._fetching.chunk(event, now)
            self._count_source(effects, now)
        if self._upload.active:
            for effect in [effect for effect in effects if type(effect) is StoreChunk]:
                effects += self._upload.chunk_proven(effect.task, effect.piece, effect.chunk, now)
        return effects

    def _count_source(self, effects: Effects, now: float) -> None:
        """Chunks the source gave, into the receipts, and against the limits of those who get them."""
        for effect in effects:
            if type(effect) is StoreChunk and (download := self._gets.downloads.get(effect.task)) is not None:
                length = self._holdings[effect.task].cut.chunk_span(effect.piece, effect.chunk)[1]
                download.tally.from_source += length
                if (bucket := download.leases.bucket) is not None:
                    bucket.take(length, now)

    def answered(self, event: Answered, now: float) -> Effects:
        """What the source says to a question."""
        call: Callable[[Any, float], Effects] = self._answers[type(event)]
        return self.fetched(call, event, now, self._fetching.asked_for(event.permit))

    def fetched(self, call: Callable[[Any, float], Effects], event: Any, now: float, task: TaskId | None) -> Effects:
        """Let fetching do something rare for this task (None: for nobody's); then see what of it concerns its download
        and its children."""
        holdings = self._holdings
        download = self._gets.downloads.get(task) if task is not None else None
        holding = holdings.get(task) if task is not None else None
        before = holding.proven_bytes() if download is not None and holding is not None else 0
        effects = call(event, now)
        sealed = [effect.task for effect in effects if isinstance(effect, SealStore)]
        self._count_source(effects, now)
        effects = self._gets.guard(effects) + self.changed(now)
        for ended in sealed:
            effects += self._upload.task_changed(ended, now)
        if download is None or (present := holdings.get(download.task)) is None:
            return effects
        # What is here and did not just come was found in the store; what is gone is not believed any more.
        if (proven := present.proven_bytes()) != before:
            download.tally.from_store += proven - download.tally.total
        return effects + self._gets.settle(download, self._gets.finish(present) + download.look(now), now)

    def changed(self, now: float) -> Effects:
        """Where one content took another's place, those who are at the old one are told."""
        effects: Effects = []
        for task in self._holdings.take_changes():
            effects += self._upload.task_changed(task, now)
            download = self._gets.downloads.get(task)
            if download is not None:
                effects += self._gets.settle(download, download.replaced(now), now)
            effects += self._gets.guard(self._fetching.task_changed(task, now))
        return effects


def _record_of(event: told.StoreDamaged) -> Record:
    if event.why == "evicted":
        return Record("store.evicted", {"task": event.task})
    text = "changed from outside" if event.why == "changed" else "the disk did not keep what was written"
    return Record("store.failed", {"task": event.task, "code": "store", "text": text})
