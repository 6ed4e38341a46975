"""What follows when a lease comes to nothing: whose fault it is, who is trusted less, who not at all. The standing of
each host is in health."""

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
        if lease.is_far and code in ("stalled", "expired"):
            desk.zones.narrow(lease.child)
        if code == "corrupt":
            if desk.health.accuse(parent.host, child.host, parent.is_seed, now):
                self._quarantine(parent.host, now)
            else:
                self._suspect(parent.host)
        elif code in BLAMED:
            had_it = task.held.get(lease.parent, 0) >> lease.piece & 1
            if had_it and desk.health.blame(parent.host, child.host, now):
                self._suspect(parent.host)

    def done(self, task: Task, child: Peer, pieces: int, now: float) -> None:
        """The peer holds these pieces. It takes them no more, and the hosts it had them from are trusted more."""
        leases, index = self._desk.leases, child.index
        for piece in bitfield.members(pieces & leases.served_pieces(task.id, index)):
            *_, root = leases.ancestors(task.id, piece, index)
            if not task.whole.get(piece, 0) >> root & 1:
                # Those below it waited for somebody who had lost their own parent: they can serve others once more.
                self._scheduler.stir(task)
        done = leases.of_child(task.id, index, pieces & task.taking.get(index, 0))
        for lease in done:
            self._praise(lease, child, now)
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
