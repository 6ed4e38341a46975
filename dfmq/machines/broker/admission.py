"""Who is let to a task and who is told no: Opens, permits given, the source's answers. The book is in backsource; who
gets which piece is in scheduler."""

from __future__ import annotations

import random

from dfmq.errors import DigestMismatch, NoSpace, StoreError, TransferError
from dfmq.machines.broker.backsource import LivePermit, Refusal
from dfmq.machines.broker.catalog import Member, Task
from dfmq.machines.broker.desk import Desk
from dfmq.machines.broker.roster import Peer
from dfmq.machines.broker.scheduler import Scheduler
from dfmq.model import bitfield
from dfmq.model.ids import Generation, PermitId, TaskId
from dfmq.model.pieces import MOST_PIECES_KNOWN, PieceMap, flaw
from dfmq.model.task import Content
from dfmq.wire.messages import Notice, Opened, Permit, Quit, Refused, Sealed, Sourced, SourceFailed
from dfmq.wire.topics import ALL

MOST_NEIGHBOURS = 16
#: of these, at least, from other zones where there are any: a zone may lack what it wants
FAR_NEIGHBOURS = 4
#: the field's bound
MOST_HOSTS_SAID = 65_535
#: a member that failed so often in a row, with everybody who holds a piece it lacks, can reach none of them
FAILURES_BEFORE_RESCUE = 3
#: the reader's own trouble, not the source's word: another reader may do better
READER_TROUBLE = frozenset({NoSpace.code, StoreError.code})


class Admission:
    """Decides over Opens by what the source has said, and has the source asked where it has not.

    Law: a member that is not open waits for a permit that is under way; an open task that lacks a piece nobody holds
    has a permit to fetch, or no member that may go to the source.
    """

    def __init__(self, desk: Desk, scheduler: Scheduler, rng: random.Random) -> None:
        self._desk = desk
        self._scheduler = scheduler
        self._rng = rng

    # ── letting in, turning away ─────────────────────────────────────────────────────────────────────────────────

    def ask(self, task: Task, index: int, member: Member, now: float) -> None:
        """The peer wants the task. One that has it open already, with the same credentials, is only told again."""
        before = task.members.get(index)
        self._desk.catalog.join(task, index, member)
        self._note_wanted(task, now)
        if before is not None and before.is_open and before.credential == member.credential:
            self._open(task, index, member)
        else:
            self._admit(task, index, member, now)
        self.restock(task, now)

    def _note_wanted(self, task: Task, now: float) -> None:
        """Who may not go to the source takes what is read for others, and keeps no read going by itself."""
        if task.may_be_read():
            self._desk.backsource.wanted(task.id)
        else:
            self._desk.backsource.left(task.id, now)

    def _admit(self, task: Task, index: int, member: Member, now: float) -> None:
        is_known = task.content is not None
        is_here = task.is_available() or task.is_complete(index)
        verdict = self._desk.backsource.judge(
            task.id, is_known, is_here, member.credential, member.no_source, now, member.mirror
        )
        if verdict == "wait":
            return
        if verdict == "open":
            self._open(task, index, member)
        elif isinstance(verdict, Refusal):
            self._pass_on(task, index, verdict, now)
        elif not self._give(task, member, verdict == "check", index, 0, now):
            self.refuse(task, index, TransferError.code, "no peer is here that may read the source", 0.0, now)

    def readmit(self, task: Task, now: float) -> None:
        """The source has spoken, or the one that was to ask it is gone: judge anew over everybody who waits. First over
        those who may have it asked: the others may take what is read for them."""
        for index, member in sorted(task.members.items(), key=lambda entry: entry[1].no_source):
            if not member.is_open and task.members.get(index) is member:
                self._admit(task, index, member, now)

    def _open(self, task: Task, index: int, member: Member) -> None:
        if task.content is None:
            return
        member.is_open = True
        content, peer = task.content, self._desk.roster.at(index)
        self._desk.outbox.send(
            peer.id,
            Opened(
                task=task.id, generation=content.generation, length=content.cut.length,
                piece_length=content.cut.piece_length, chunk_length=content.cut.chunk_length,
                algorithm=content.algorithm, neighbours=self._neighbours(task, index),
            ),
        )  # fmt: skip
        self._desk.outbox.record("task.opened", task=task.id, peer=peer.id, generation=content.generation)
        self._scheduler.wants.look_at(task.id, index)

    def _neighbours(self, task: Task, index: int) -> list[str]:
        """Hint endpoints of some others that want or hold the task, most of them near."""
        others = list({**task.members, **task.held})
        zones = self._desk.zones
        far = [other for other in others if zones.is_far(index, other)] if zones.are_several else []
        if far:
            others = [other for other in others if not zones.is_far(index, other)]
        most_far = max(FAR_NEIGHBOURS, MOST_NEIGHBOURS + 1 - len(others))
        drawn = self._rng.sample(far, min(len(far), most_far))
        drawn += self._rng.sample(others, min(len(others), MOST_NEIGHBOURS + 1 - len(drawn)))
        found = [self._desk.roster.at(other).hints for other in drawn if other != index]
        return [endpoint for endpoint in found if endpoint][:MOST_NEIGHBOURS]

    def refuse(self, task: Task, index: int, code: str, text: str, retry_after: float, now: float) -> None:
        """Tell a member no; it is none any more."""
        peer = self._desk.roster.at(index)
        self._desk.outbox.send(peer.id, Refused(task=task.id, code=code, text=text, retry_after=retry_after))
        self._desk.outbox.record("task.refused", task=task.id, peer=peer.id, code=code)
        self.depart(task, index, now)

    def _pass_on(self, task: Task, index: int, refusal: Refusal, now: float) -> None:
        """Tell a member what the source said."""
        self.refuse(task, index, refusal.code, refusal.text, max(0.0, refusal.again_at - now), now)

    def depart(self, task: Task, index: int, now: float) -> None:
        """A member wants no more: its wants and leases end, and those who took from it what it was itself taking are
        told. The last one to go that may go to the source leaves its permits for a while."""
        self._scheduler.wants.forget(task.id, index)
        leases = self._desk.leases
        for lease in leases.of_child(task.id, index, task.taking.get(index, 0)):
            self._scheduler.end(task, lease, again=False)
            if not task.held.get(index, 0) >> lease.piece & 1:
                for orphan in leases.served_on(task.id, lease.piece, index):
                    self._scheduler.revoke(task, orphan)
        self._desk.catalog.part(task, index, now)
        self._note_wanted(task, now)

    # ── permits ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _give(
        self, task: Task, asking: Member | LivePermit, check_only: bool, asker: int, tried: int, now: float
    ) -> bool:
        """Give a permit to a seed, or where there is none to the asker or another member. `asking`: whose request it is
        for. False when nobody can."""
        reader = self._reader(task, asker, tried)
        if reader is None:
            return False
        permit = self._desk.backsource.give(
            task.id, reader.index, asking.request, asking.credential, check_only, tried, now, asking.mirror
        )
        permit.generation = task.content.generation if task.content is not None else b""
        self.say_permit(permit)
        self._desk.outbox.record("permit.given", permit=permit.id, task=task.id, peer=reader.id, check_only=check_only)
        return True

    def say_permit(self, permit: LivePermit) -> None:
        """Tell the holder of its permit; again when it comes back, for the first may be lost. The same id twice is one
        permit."""
        self._desk.outbox.send(
            self._desk.roster.at(permit.holder).id,
            Permit(
                permit=permit.id, task=permit.task, request=permit.request, generation=permit.generation,
                check_only=permit.check_only, hosts=min(self._desk.roster.most_hosts, MOST_HOSTS_SAID),
                claimed=self._desk.catalog.tasks[permit.task].claimed,
            ),
        )  # fmt: skip

    def _reader(self, task: Task, asker: int, tried: int) -> Peer | None:
        """Seeds first: the trusted, those that have it already, those with little to do. Then who wants it."""
        closed = tried | self._desk.health.barred
        suspected = self._desk.health.suspected
        seeds = [index for index in self._desk.roster.seeds if not closed >> index & 1]
        if seeds:
            first = min(
                seeds,
                key=lambda i: (
                    suspected >> i & 1, -task.held.get(i, 0).bit_count(), len(self._desk.backsource.of_holder(i)), i
                ),
            )  # fmt: skip
            return self._desk.roster.at(first)
        willing = [i for i, m in task.members.items() if not m.no_source and not closed >> i & 1]
        if asker in willing:
            return self._desk.roster.at(asker)
        return self._desk.roster.at(min(willing, key=lambda i: (suspected >> i & 1, i))) if willing else None

    def restock(self, task: Task, now: float) -> None:
        """Pieces that nobody holds any more, or that nobody is reading any more, are asked for again."""
        while task.content is not None and not task.is_available() and self._desk.backsource.fetch_of(task.id) is None:
            stranded = [i for i, m in task.members.items() if m.is_open and not task.is_complete(i)]
            if not stranded:
                return
            askers = [i for i in stranded if not task.members[i].no_source]
            if not askers:
                text = "no peer holds all of it, and the source must not be asked; leave out --no-source"
                self._refuse_all(task, stranded, text, now)
                return
            refusals = {i: r for i in askers if (r := self._refusal_of(task, i, now)) is not None}
            asker = next((i for i in askers if i not in refusals), None)
            if asker is None:
                for index, refusal in refusals.items():
                    self._pass_on(task, index, refusal, now)
                continue
            if self._give(task, task.members[asker], False, asker, 0, now):
                return
            self._refuse_all(task, stranded, "a piece is lost, and no peer is here that may read the source", now)

    def rescue(self, task: Task, index: int, now: float) -> None:
        """One that reaches nobody who holds what it lacks: a seed that has not got it, and has not failed it, reads it
        once more. What becomes of a member that no seed can serve either is its own peer's affair."""
        member = task.members.get(index)
        if member is None or member.no_source or member.failures < FAILURES_BEFORE_RESCUE:
            return
        if task.content is None or self._desk.backsource.fetch_of(task.id) is not None:
            return
        if self._refusal_of(task, index, now) is not None:
            return
        tried, missing = member.shunned | 1 << index, task.available & ~task.held.get(index, 0)
        if all(task.whole[piece] & ~tried for piece in bitfield.members(missing)):
            return
        fresh = [seed for seed in self._desk.roster.seeds if not task.is_complete(seed) and not tried >> seed & 1]
        if fresh:
            self._give(task, member, False, index, ~bitfield.of(fresh), now)

    def _refusal_of(self, task: Task, index: int, now: float) -> Refusal | None:
        member = task.members[index]
        return self._desk.backsource.refusal(task.id, member.mirror, member.credential, now)

    def _refuse_all(self, task: Task, indices: list[int], text: str, now: float) -> None:
        for index in indices:
            self.refuse(task, index, TransferError.code, text, 0.0, now)

    def end_permits_of(self, index: int, *, say_quit: bool) -> list[Task]:
        """The peer's permits are void; returns the tasks concerned, to be readmitted and restocked."""
        tasks = []
        for permit in self._desk.backsource.of_holder(index):
            self._void(permit, "lost", say_quit=say_quit)
            tasks.append(self._desk.catalog.tasks[permit.task])
        return tasks

    def end_unwanted(self, now: float) -> None:
        """What nobody who may go to the source has wanted for a while is not read on; whoever else waits for it is told
        so."""
        for task_id in self._desk.backsource.unwanted.due(now):
            permits = self._desk.backsource.of_task(task_id)
            for permit in permits:
                self._void(permit, "unwanted", say_quit=True)
            if permits:
                task = self._desk.catalog.tasks[task_id]
                self.readmit(task, now)
                self.restock(task, now)

    def _void(self, permit: LivePermit, why: str, *, say_quit: bool) -> None:
        if say_quit:
            self._desk.outbox.send(self._desk.roster.at(permit.holder).id, Quit(permit=permit.id, task=permit.task))
        self._desk.backsource.end(permit)
        self._desk.outbox.record("permit.ended", permit=permit.id, task=permit.task, why=why)

    def finish_if_done(self, task: Task, now: float) -> None:
        """A fetch is over when its holder holds everything, and has proven it: what it held before it only said."""
        permit = self._desk.backsource.fetch_of(task.id)
        if permit is not None and task.is_complete(permit.holder) and len(task.proofs) == task.cut.count:
            self._desk.backsource.end(permit)
            self._desk.outbox.record("permit.ended", permit=permit.id, task=task.id, why="done")
            self.restock(task, now)

    # ── the source's answers ─────────────────────────────────────────────────────────────────────────────────────

    def sourced(self, peer: Peer, said: Sourced, now: float) -> None:
        """The source said yes."""
        permit = self._desk.backsource.get(PermitId(said.permit), peer.index)
        if permit is None or permit.task != said.task:
            self._desk.outbox.record("message.refused", peer=peer.id, op="sourced", why="no such permit")
            return
        task = self._desk.catalog.tasks[permit.task]
        cut = PieceMap(said.length, said.piece_length, said.chunk_length)
        content = Content(Generation(said.generation), cut, said.algorithm)
        is_other = task.content is None or task.content.generation != content.generation
        wrong = flaw(cut)
        if not (wrong or is_other or said.length is None):
            wrong = flaw(task.cut.sealed(said.length))
        if wrong:
            self._fail(task, permit, TransferError.code, f"the content cannot be distributed: {wrong}", 0.0, now)
            return
        if is_other and permit.check_only and permit.generation == content.generation:
            # Still what it was told of; but that is not the task's content any more. It reads nothing: ask again.
            self._desk.backsource.end(permit)
            self._desk.outbox.record("permit.ended", permit=permit.id, task=task.id, why="overtaken")
            self.readmit(task, now)
            return
        if is_other:
            self._begin(task, permit, content)
        elif cut.length is not None and not task.is_sealed:
            self.seal(task, cut.length)
        self._desk.backsource.accepted(permit, bool(permit.request.digest), said.fresh_seconds, now)
        if permit.check_only:
            if permit.generation != content.generation:
                # It found another content than it was told of, and would fetch it: somebody does that already.
                self._desk.outbox.send(peer.id, Quit(permit=permit.id, task=task.id))
            self._desk.backsource.end(permit)
            self._desk.outbox.record("permit.ended", permit=permit.id, task=task.id, why="checked")
        self.readmit(task, now)
        self.finish_if_done(task, now)
        self.restock(task, now)

    def _begin(self, task: Task, permit: LivePermit, content: Content) -> None:
        """The content is known, or another than it was: nothing of the old counts any more, nobody is open."""
        if task.content is not None:
            self._close_content(task)
            self._desk.backsource.changed(permit)
            self._desk.outbox.record("task.changed", task=task.id, generation=content.generation)
            notice = Notice(kind="generation", epoch=self._desk.epoch, task=task.id, generation=content.generation)
            self._desk.outbox.publish(ALL, notice)
        if permit.check_only:
            older = self._desk.backsource.fetch_of(task.id)
            if older is not None:
                self._desk.outbox.send(self._desk.roster.at(older.holder).id, Quit(permit=older.id, task=task.id))
                self._desk.backsource.end(older)
            self._desk.backsource.promote(permit)
        self._desk.catalog.begin(task, content)

    def _close_content(self, task: Task) -> None:
        """Every lease on it is void, and the wants count again: the peers learn it from the next Opened or Refused.
        Nobody is granted anything before that; the source may refuse them what it has now."""
        for index, member in task.members.items():
            member.is_open = False
            self._scheduler.wants.unpark(task.id, index)
        for lease in self._desk.leases.of_task(task.id):
            self._scheduler.end(task, lease, again=True)

    def source_failed(self, peer: Peer, said: SourceFailed, now: float) -> None:
        """The source said no, or stopped giving, or gave what it should not."""
        permit = self._desk.backsource.get(PermitId(said.permit), peer.index)
        task = self._desk.catalog.get(TaskId(said.task))
        if permit is not None and task is not None and permit.task == said.task:
            self._fail(task, permit, said.code, said.text, said.retry_after, now)
        elif said.code == DigestMismatch.code and task is not None and peer.is_seed and task.is_complete(peer.index):
            # The whole is proven after the last piece was: the permit has ended by then.
            self._disown(task, said.text, now)
        else:
            self._desk.outbox.record("message.refused", peer=peer.id, op="source-failed", why="no such permit")

    def _fail(self, task: Task, permit: LivePermit, code: str, text: str, retry_after: float, now: float) -> None:
        self._desk.backsource.end(permit)
        self._desk.outbox.record("permit.failed", permit=permit.id, task=task.id, code=code)
        if code in READER_TROUBLE and self._give(task, permit, permit.check_only, permit.holder, permit.tried, now):
            return
        # Nobody is left who could read it, for whomever; but that is no word of the source's, and it may do soon.
        is_no_word = code in READER_TROUBLE
        refusal = Refusal(code, text)
        if not is_no_word:
            refusal = self._desk.backsource.refused(permit, code, text, retry_after, now)
        if code == DigestMismatch.code:
            self._disown(task, text, now)
            return
        for index, member in list(task.members.items()):
            is_meant = self._desk.backsource.is_meant(permit, code, member.mirror, member.credential)
            if (is_meant or (is_no_word and not permit.check_only)) and self._is_let_down(task, index, member, permit):
                self._pass_on(task, index, refusal, now)
        self.readmit(task, now)
        self.restock(task, now)

    @staticmethod
    def _is_let_down(task: Task, index: int, member: Member, permit: LivePermit) -> bool:
        """The member waits for the source's word, or lacks a piece that nobody holds and the permit was to bring."""
        if not member.is_open:
            return not member.no_source
        if permit.check_only:
            return False
        missing = task.all_pieces() & ~task.available
        return not task.is_sealed or bool(missing & ~task.held.get(index, 0))

    def _disown(self, task: Task, text: str, now: float) -> None:
        """What the source gave is not what the request names: nobody may have it."""
        if task.content is not None:
            self._close_content(task)
            holders = list(task.held)
            task.forget_content()
            for index in holders:
                self._desk.catalog.untie(task, index)
        self._desk.backsource.forget(task.id)
        for index in list(task.members):
            self.refuse(task, index, DigestMismatch.code, text, 0.0, now)

    def seal(self, task: Task, length: int) -> None:
        """A growing content has ended: everybody who has it open is told."""
        holders = list(task.held)
        task.seal(length)
        for lease in self._desk.leases.of_task(task.id):
            if lease.piece >= task.cut.count:
                self._scheduler.revoke(task, lease)
        for index in holders:
            self._desk.catalog.untie(task, index)
        if task.content is None:
            return
        said = Sealed(task=task.id, generation=task.content.generation, length=length)
        for index, member in task.members.items():
            if member.is_open:
                self._desk.outbox.send(self._desk.roster.at(index).id, said)
        self._desk.outbox.record("task.sealed", task=task.id, length=length)

    def hold(self, task: Task, index: int, generation: Generation, pieces: int) -> int:
        """The peer says it holds these pieces of this generation. Returns those that can be had since just now."""
        before = task.available
        if task.content is None:
            pieces &= bitfield.full(MOST_PIECES_KNOWN)
            known = task.claims.get(index)
            if pieces:
                task.claims[index] = (generation, pieces | (known[1] if known and known[0] == generation else 0))
        elif task.content.generation == generation:
            task.hold(index, pieces)
        return task.available & ~before
