"""What follows when a lease comes to nothing, or a peer turns out to be slow: whose fault it is, who is trusted less,
who not at all. The standing of each host is in health."""

from __future__ import annotations

from dfmq.machines.broker.admission import Admission
from dfmq.machines.broker.catalog import Task
from dfmq.machines.broker.desk import Desk
from dfmq.machines.broker.leases import LiveLease
from dfmq.machines.broker.roster import Peer
from dfmq.machines.broker.scheduler import Scheduler
from dfmq.model import bitfield
from dfmq.model.ids import HostId
from dfmq.wire.messages import Notice
from dfmq.wire.topics import ALL

#: failures that are held against the parent's host, unless the parent itself has not got the whole piece: it waits for
#: its own parent, or has just lost that
BLAMED = frozenset({"stalled", "unreachable", "refused", "expired"})
#: of these, failures that may as well be those of the way to the child
SILENT = frozenset({"stalled", "expired"})


class Discipline:
    """Law: whoever is put on probation or in quarantine, or comes out of it, everybody whom that concerns is looked at
    again; of a host in quarantine nobody takes anything, and it has no permit."""

    def __init__(self, desk: Desk, scheduler: Scheduler, admission: Admission) -> None:
        self._desk = desk
        self._scheduler = scheduler
        self._admission = admission

    def look_at(self, lease: LiveLease, now: float) -> None:
        """A lease takes long. When its deadline has come, it has failed: neither peer said how it ended."""
        task = self._desk.catalog.tasks[lease.task]
        if now < lease.expires_at:
            self._scheduler.relieve(task, lease, now)
            return
        self.judge(task, lease, "expired", now)
        self._scheduler.revoke(task, lease)

    def judge(self, task: Task, lease: LiveLease, code: str, now: float) -> None:
        """Count a failure where it belongs. In quarantine all leases of the parent are revoked, this one too."""
        desk = self._desk
        parent, child = desk.roster.at(lease.parent), desk.roster.at(lease.child)
        desk.outbox.record(
            "lease.expired" if code == "expired" else "lease.failed", lease=lease.id, task=task.id, piece=lease.piece,
            child=child.id, parent=parent.id, code=code,
        )  # fmt: skip
        self._scheduler.failed(task, lease, now)
        unreached = desk.health.unreached
        if lease.is_far and code in ("stalled", "expired"):
            desk.zones.narrow(lease.child)
        if code == "corrupt":
            if desk.health.accuse(parent.host, child.host, parent.is_seed, now, is_needed=self._is_last_seed(parent)):
                self._quarantine(parent.host, now)
            else:
                self._suspect(parent.host)
        elif code in BLAMED:
            had_it = task.held.get(lease.parent, 0) >> lease.piece & 1
            if had_it and code in SILENT:
                desk.health.missed(child.host)
            if had_it and desk.health.blame(parent.host, child.host, now):
                self._suspect(parent.host)
        self._look_at_changed(unreached)
        self._admission.rescue(task, lease.child, now)

    def _is_last_seed(self, peer: Peer) -> bool:
        """Without it nobody may read what the broker's host has, and permits go to whoever wants the content."""
        others = bitfield.of(index for index in self._desk.roster.seeds if index != peer.index)
        return peer.is_seed and not others & ~self._desk.health.barred

    def done(self, task: Task, child: Peer, pieces: int, now: float) -> None:
        """The peer holds these pieces. It takes them no more, and the hosts it had them from are trusted more."""
        leases, index = self._desk.leases, child.index
        for piece in bitfield.members(pieces & leases.served_pieces(task.id, index)):
            *_, root = leases.ancestors(task.id, piece, index)
            if not task.whole.get(piece, 0) >> root & 1:
                # Those below it waited for somebody who had lost their own parent: they can serve others once more.
                self._scheduler.stir(task)
        done = leases.of_child(task.id, index, pieces & task.taking.get(index, 0))
        unreached = self._desk.health.unreached
        for lease in done:
            self._praise(lease, child, now)
        self._look_at_changed(unreached)
        if done:
            self._scheduler.done(task, index, done, now)

    def _praise(self, lease: LiveLease, child: Peer, now: float) -> None:
        health, parent = self._desk.health, self._desk.roster.at(lease.parent)
        if health.praise(parent.host, child.host, now):
            for index in bitfield.members(health.peers_of(parent.host)):
                self._scheduler.offer(index)
        self._desk.outbox.record(
            "lease.done", lease=lease.id, task=lease.task, piece=lease.piece, child=child.id, parent=parent.id,
            seconds=now - lease.granted_at,
        )  # fmt: skip

    def _look_at_changed(self, unreached: int) -> None:
        """Who was not among these and is now gets one lease at a time, and nobody is given what it is taking; who is
        not any more, as many as it wants."""
        for index in bitfield.members(unreached ^ self._desk.health.unreached):
            self._scheduler.reached(index)

    def slowed(self, index: int) -> None:
        """The peer has turned out to be slow: whoever is not takes nothing from it any more that others have, and what
        it takes itself takes less of its parents.

        At the start nobody's rate is known, and a slow peer is parent to as many as another; the second report, after
        0.3 s, says what it is. Measured by simulation (300 peers, a tenth and three tenths of them at a tenth of the
        rate, mean of the others in size/rate): 1.052 and 1.082, left to their patience 1.099 and 1.153; with all rates
        known from the start 1.052 and 1.066. To move each child to another parent of the same piece, instead of taking
        what comes: 1.063 and 1.100.
        """
        desk = self._desk
        for lease in desk.leases.of_parent(index):
            task = desk.catalog.tasks[lease.task]
            if not desk.rates.slow >> lease.child & 1 and task.whole.get(lease.piece, 0) != 1 << index:
                self._cut_off(task, lease)
        for task in desk.catalog.of_peer(index):
            for lease in desk.leases.of_child(task.id, index, task.taking.get(index, 0)):
                cost, _ = desk.rates.terms(index, lease.parent, task.cut.piece_length)
                desk.leases.weigh(lease, cost)
                self._scheduler.offer(lease.parent)

    def _cut_off(self, task: Task, lease: LiveLease) -> None:
        """Revoke a lease, and those by which others wait for its child: all look for another way."""
        self._scheduler.revoke(task, lease)
        if not task.held.get(lease.child, 0) >> lease.piece & 1:
            for below in self._desk.leases.served_on(task.id, lease.piece, lease.child):
                self._cut_off(task, below)

    def release(self, now: float) -> None:
        """Probations and quarantines that are over."""
        cleared, released = self._desk.health.due(now)
        for index in bitfield.members(cleared):
            self._scheduler.offer(index)
        for index in bitfield.members(released):
            for task in self._desk.catalog.of_peer(index):
                task.unbar(index)
                self._scheduler.stir(task)

    def _suspect(self, host: HostId) -> None:
        """On probation now: what only it and others of that kind hold may be taken from them."""
        self._desk.outbox.record("host.suspected", host=host)
        for index in bitfield.members(self._desk.health.peers_of(host)):
            for task in self._desk.catalog.of_peer(index):
                self._scheduler.stir(task)

    def _quarantine(self, host: HostId, now: float) -> None:
        """Nobody takes anything from this host any more, nor does it read sources for others."""
        desk = self._desk
        tasks: list[Task] = []
        for index in bitfield.members(desk.health.peers_of(host)):
            peer = desk.roster.at(index)
            desk.outbox.publish(ALL, Notice(kind="quarantine", epoch=desk.epoch, peer=peer.id))
            desk.outbox.record("peer.quarantined", peer=peer.id, host=host)
            for task in desk.catalog.of_peer(index):
                task.bar(index)
                tasks.append(task)
            for lease in desk.leases.of_parent(index):
                self._scheduler.revoke(desk.catalog.tasks[lease.task], lease)
            tasks += self._admission.end_permits_of(index, say_quit=True)
        for task in dict.fromkeys(tasks):
            self._scheduler.stir(task)
            self._admission.readmit(task, now)
            self._admission.restock(task, now)
