"""What peers say of the pieces they hold, and a reader of the source's word on them. The book is the catalog; who has
to hear of a change in it is here."""

from __future__ import annotations

from dfmq.machines.broker.admission import Admission
from dfmq.machines.broker.catalog import Task
from dfmq.machines.broker.desk import Desk
from dfmq.machines.broker.discipline import Discipline
from dfmq.machines.broker.roster import Peer
from dfmq.machines.broker.scheduler import Scheduler
from dfmq.model import bitfield
from dfmq.model.ids import Generation, TaskId
from dfmq.model.pieces import DIGEST_BYTES, MOST_PIECES_KNOWN, flaw
from dfmq.wire import messages as said


class Holders:
    """Hears Held, Have, Lost, Proven and Sealed. Has no book of its own, so no law but those of the parts."""

    def __init__(self, desk: Desk, scheduler: Scheduler, admission: Admission, discipline: Discipline) -> None:
        self._desk = desk
        self._scheduler = scheduler
        self._admission = admission
        self._discipline = discipline

    # ── what peers say ───────────────────────────────────────────────────────────────────────────────────────────

    def held(self, peer: Peer, message: said.Held, now: float) -> None:
        """It holds these and will serve them, and wants nothing."""
        task = self.tie(TaskId(message.task), peer, "", now)
        if task is None:
            self._desk.outbox.refuse(peer.id, message, "too many tasks")
            return
        self.note(task, peer, Generation(message.generation), bitfield.from_bytes(message.held), now)
        self._desk.catalog.untie(task, peer.index)

    def have(self, peer: Peer, message: said.Have, now: float) -> None:
        """It holds these as well, and may have had them under leases."""
        task = self.tie(TaskId(message.task), peer, "", now)
        if task is None:
            return
        index, generation = peer.index, Generation(message.generation)
        self.note(task, peer, generation, bitfield.of_below(message.pieces, MOST_PIECES_KNOWN), now)
        self._desk.catalog.untie(task, index)
        self._desk.catalog.touch(task, now)
        permit = self._desk.backsource.fetch_of(task.id)
        if permit is not None and permit.holder == index:
            self._admission.finish_if_done(task, now)

    def lost(self, peer: Peer, message: said.Lost, now: float) -> None:
        """It holds these no more: whoever takes one from it goes elsewhere, unless it is getting that one again."""
        task = self._desk.catalog.get(TaskId(message.task))
        if task is None:
            return
        index = peer.index
        pieces = -1 if message.all_pieces else bitfield.of_below(message.pieces, MOST_PIECES_KNOWN)
        task.unhold(index, pieces)
        if message.all_pieces:
            task.claims.pop(index, None)
        elif index in task.claims:
            generation, claimed = task.claims[index]
            task.claims[index] = (generation, claimed & ~pieces)
        for lease in self._desk.leases.of_parent(index):
            is_forwarding = task.taking.get(index, 0) >> lease.piece & 1
            if lease.task == task.id and pieces >> lease.piece & 1 and not is_forwarding:
                self._scheduler.revoke(task, lease)
        if index in task.members:
            self._scheduler.wants.look_at(task.id, index)
        self._desk.catalog.untie(task, index)
        self._scheduler.lost_holder(task, self._desk.zones.of(index))
        self._admission.restock(task, now)

    # ── a reader's word ──────────────────────────────────────────────────────────────────────────────────────────

    def proven(self, peer: Peer, message: said.Proven, now: float) -> None:
        """The source gave this piece, and these are its chunks' digests."""
        task = self._speaks_for_source(peer, message)
        if task is None:
            return
        cut, piece = task.cut, message.piece
        if piece >= cut.limit or len(message.proofs) != DIGEST_BYTES * cut.chunks_in(piece):
            self._desk.outbox.refuse(peer.id, message, "not the piece's chunks")
            return
        before = task.available
        if not task.prove(piece, message.proofs):
            self._desk.outbox.refuse(peer.id, message, "contradicts what was proven before")
            return
        self.tie(task.id, peer, "", now)
        self.note(task, peer, Generation(message.generation), 1 << piece, now)
        self._desk.catalog.untie(task, peer.index)
        if task.available != before:
            self._scheduler.stir(task)
        self._admission.finish_if_done(task, now)

    def sealed(self, peer: Peer, message: said.Sealed, now: float) -> None:
        """The source has come to its end, and so long is the content."""
        task = self._speaks_for_source(peer, message)
        if task is None or task.is_sealed:
            return
        if wrong := flaw(task.cut.sealed(message.length)):
            self._desk.outbox.refuse(peer.id, message, wrong)
            return
        self._admission.seal(task, message.length)
        self._admission.finish_if_done(task, now)

    def _speaks_for_source(self, peer: Peer, message: said.Proven | said.Sealed) -> Task | None:
        """The task, if it is of this generation and the peer is a seed or reads it by permit."""
        task = self._desk.catalog.get(TaskId(message.task))
        permit = self._desk.backsource.fetch_of(TaskId(message.task))
        is_reader = peer.is_seed or (permit is not None and permit.holder == peer.index)
        if task is None or task.content is None or task.content.generation != message.generation or not is_reader:
            self._desk.outbox.refuse(peer.id, message, "no word on this content")
            return None
        return task

    # ── the book ─────────────────────────────────────────────────────────────────────────────────────────────────

    def tie(self, task_id: TaskId, peer: Peer, url: str, now: float) -> Task | None:
        """The task, and the peer bound to it; None when no more can be remembered."""
        if self._desk.catalog.get(task_id) is None and self._desk.catalog.is_full():
            self.forget_longest_idle(now)
        self._desk.catalog.make_way(task_id, peer.index, self._desk.backsource.of_task)
        task = self._desk.catalog.enter(task_id, peer.index, url, now)
        if task is not None and self._desk.health.barred >> peer.index & 1:
            task.bar(peer.index)
        return task

    def forget_longest_idle(self, now: float) -> None:
        """Make room for a task, unless the one that would have to go is being read."""
        task = self._desk.catalog.longest_idle()
        if task is None:
            return
        if self._desk.backsource.of_task(task.id):
            self._desk.catalog.touch(task, now)
            return
        self._desk.backsource.forget(task.id)
        self._desk.catalog.forget(task)
        self._desk.outbox.record("task.forgotten", task=task.id)

    def note(self, task: Task, peer: Peer, generation: Generation, pieces: int, now: float) -> None:
        """The peer holds these pieces of this generation: its leases on them are over, and others may take them."""
        if task.content is not None and task.content.generation == generation:
            self._discipline.done(task, peer, pieces, now)
        if self._admission.hold(task, peer.index, generation, pieces):
            self._scheduler.stir(task)
        else:
            self._scheduler.offer_in(task, peer.index)
