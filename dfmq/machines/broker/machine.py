"""The broker's one door: what peers say, in; what is to be said, out. The order of things is here, the books are in the
parts beside it."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from dfmq.errors import SettingsError, TransferError
from dfmq.machines.broker import agreement, views
from dfmq.machines.broker.admission import Admission
from dfmq.machines.broker.backlog import NEVER, Backlog
from dfmq.machines.broker.catalog import Member
from dfmq.machines.broker.choosing import Choosing
from dfmq.machines.broker.desk import Desk
from dfmq.machines.broker.discipline import Discipline
from dfmq.machines.broker.holders import Holders
from dfmq.machines.broker.roster import Peer
from dfmq.machines.broker.scheduler import Scheduler
from dfmq.machines.effects import BrokerEffect
from dfmq.machines.events import BrokerEvent, CaughtUp, FellBehind, PeerSaid, PeerUnreachable
from dfmq.model import bitfield
from dfmq.model.ids import Generation, LeaseId, TaskId
from dfmq.model.settings import BrokerSettings
from dfmq.model.task import credential, mirror, shown, task_id, validate
from dfmq.wire import messages as said
from dfmq.wire.messages import BeatSeen, Error, Message, Notice, Welcome
from dfmq.wire.topics import ALL


class BrokerMachine:
    """Law: those of the parts; and what the catalog says is being taken are the live leases, every peer named anywhere
    is on the roster, and when nobody is here nothing is counted."""

    def __init__(
        self, settings: BrokerSettings, epoch: int, rng: random.Random, notices: str = "", most_hosts: int = 0
    ) -> None:
        """`epoch`: new at every start, positive; `notices`: where the PUB socket is heard, "" nowhere; `most_hosts`:
        how many there were in an earlier life."""
        self._notices = notices
        self._now = 0.0
        self._desk = Desk(settings, epoch)
        self._backlog = Backlog(settings.beat_seconds)
        desk = self._desk
        desk.roster.most_hosts = most_hosts
        choosing = Choosing(desk.leases, desk.slots, desk.rates, desk.health, desk.zones, rng)
        self._scheduler = Scheduler(self._desk, choosing)
        self._admission = Admission(self._desk, self._scheduler, rng)
        self._discipline = Discipline(self._desk, self._scheduler, self._admission)
        self._holders = Holders(self._desk, self._scheduler, self._admission, self._discipline)
        self._on: dict[type[Message], Callable[[Peer, Any, float], None]] = {
            said.Open: self._open,
            said.Held: self._holders.held,
            said.Want: self._want,
            said.Have: self._holders.have,
            said.Lost: self._holders.lost,
            said.Failed: self._failed,
            said.Close: self._close,
            said.Beat: self._beat,
            said.Bye: self._bye,
            said.Sourced: self._admission.sourced,
            said.Proven: self._holders.proven,
            said.Sealed: self._holders.sealed,
            said.SourceFailed: self._admission.source_failed,
            said.Error: self._error,
        }

    # ── the door ─────────────────────────────────────────────────────────────────────────────────────────────────

    def handle(self, event: BrokerEvent, now: float) -> list[BrokerEffect]:
        """Take one fact; answer with what is to be said, in order."""
        self._now = now
        if isinstance(event, PeerSaid):
            self._hear(event)
        elif isinstance(event, PeerUnreachable):
            peer = self._desk.roster.get(event.peer)
            if peer is not None:
                self._lose(peer, "unreachable")
        elif isinstance(event, FellBehind):
            self._backlog.fell_behind(event.since, now)
        elif isinstance(event, CaughtUp):
            self._backlog.caught_up()
        self._due()
        self._scheduler.work(now)
        return self._desk.outbox.take()

    def next_deadline(self) -> float | None:
        """When to call again at the latest; at once while work is listed."""
        if self._scheduler.wants.has_duties:
            return self._now
        desk = self._desk
        at = min(
            self._backlog.due_at(min(desk.roster.deadlines.soonest, desk.leases.looks.soonest)),
            self._backlog.say_at,
            desk.health.deadlines.soonest,
            desk.backsource.unwanted.soonest,
            self._scheduler.wants.resting.soonest,
            desk.catalog.next_deadline(),
        )
        return at if at < NEVER else None

    def tasks(self) -> list[dict[str, Any]]:
        """Every task, for people: plain values, no secrets."""
        return views.tasks(self._desk, self._scheduler.wants)

    def peers(self) -> list[dict[str, Any]]:
        """Every peer, for people: plain values."""
        return views.peers(self._desk, self._now)

    @property
    def most_hosts(self) -> int:
        """The most hosts there were at once, in an earlier life or this one; 0 while none is here."""
        roster = self._desk.roster
        return roster.most_hosts if len(roster) > len(roster.seeds) else 0

    def counts(self) -> dict[str, int]:
        """How much of everything there is now, for metrics."""
        return views.counts(self._desk, self._scheduler.wants)

    # ── peers come and go ────────────────────────────────────────────────────────────────────────────────────────

    def _hear(self, event: PeerSaid) -> None:
        message = event.message
        if isinstance(message, said.Hello):
            self._hello(event, message)
            return
        peer = self._desk.roster.get(event.peer)
        if peer is None:
            if not isinstance(message, said.Bye | said.Error):
                self._desk.outbox.send(event.peer, Error(code="unknown_peer", text="say Hello first"))
            return
        peer.heard_at = self._now
        act = self._on.get(type(message))
        if act is None:
            self._desk.outbox.refuse(peer.id, message, "not for a broker")
            self._desk.outbox.send(peer.id, Error(code="unknown_message", text=f"{type(message).__name__} to a broker"))
            return
        act(peer, message, self._now)

    def _hello(self, event: PeerSaid, hello: said.Hello) -> None:
        if hello.peer != event.peer:
            self._desk.outbox.refuse(event.peer, hello, "another's name")
            self._desk.outbox.send(event.peer, Error(code="malformed", text="Hello names another peer than its sender"))
            return
        if (older := self._desk.roster.predecessor(hello)) is not None:
            self._lose(older, "replaced")
        peer = self._desk.roster.get(event.peer)
        if peer is not None:
            self._desk.roster.rejoin(peer, hello, self._now)
            self._desk.rates.renew(peer.index, hello.slots, hello.up_limit, hello.down_limit)
        else:
            peer = self._desk.roster.join(hello, self._now)
            index, desk = peer.index, self._desk
            zone = desk.zones.join(index, peer.zone, hello.up_limit)
            desk.rates.join(index, hello.slots, peer.is_seed, hello.up_limit, hello.down_limit, zone)
            desk.slots.join(index, desk.rates.capacity(index))
            desk.health.join(peer.host, index)
        self._desk.outbox.send(
            peer.id,
            Welcome(epoch=self._desk.epoch, notices=self._notices, beat_seconds=self._desk.settings.beat_seconds),
        )
        self._desk.outbox.record("peer.welcomed", peer=peer.id, name=peer.name, seed=peer.is_seed)
        for permit in self._desk.backsource.of_holder(peer.index):
            self._admission.say_permit(permit)

    def _bye(self, peer: Peer, _: said.Bye, __: float) -> None:
        self._lose(peer, "bye")

    def _lose(self, peer: Peer, why: str) -> None:
        """The peer is gone: out of every book; who depended on it is served anew."""
        index = peer.index
        unread = self._admission.end_permits_of(index, say_quit=False)
        for lease in self._desk.leases.of_parent(index):
            self._scheduler.revoke(self._desk.catalog.tasks[lease.task], lease)
        tasks = self._desk.catalog.of_peer(index)
        for task in tasks:
            self._admission.depart(task, index, self._now)
            task.claims.pop(index, None)
            task.unhold(index, task.held.get(index, 0))
            self._desk.catalog.untie(task, index)
        zone = self._desk.zones.of(index)
        self._desk.zones.leave(index)
        self._desk.slots.leave(index)
        self._desk.leases.forget(index)
        self._desk.rates.leave(index)
        self._desk.health.leave(peer.host, index, self._now)
        self._desk.roster.leave(peer)
        self._desk.outbox.record("peer.lost", peer=peer.id, why=why)
        for task in unread:
            self._admission.readmit(task, self._now)
        for task in dict.fromkeys([*tasks, *unread]):
            self._scheduler.lost_holder(task, zone)
            self._admission.restock(task, self._now)

    def _due(self) -> None:
        """Everything whose time has come."""
        now, desk = self._now, self._desk
        if self._backlog.is_to_say(now):
            desk.outbox.publish(ALL, Notice(kind="behind", epoch=desk.epoch))
        # Of who was silent, and which lease takes too long, the word may lie unread.
        read_until = self._backlog.read_until(now)
        if read_until >= desk.roster.deadlines.soonest:
            for peer in desk.roster.silent(read_until):
                self._lose(peer, "silent")
        if read_until >= desk.leases.looks.soonest:
            for lease in desk.leases.due(read_until):
                if desk.leases.get(lease.id) is lease:
                    self._discipline.look_at(lease, read_until)
        if now >= desk.health.deadlines.soonest:
            self._discipline.release(now)
        if now >= desk.backsource.unwanted.soonest:
            self._admission.end_unwanted(now)
        while now >= desk.catalog.next_deadline():
            self._holders.forget_longest_idle(now)

    # ── tasks and pieces ─────────────────────────────────────────────────────────────────────────────────────────

    def _open(self, peer: Peer, message: said.Open, now: float) -> None:
        try:
            is_named_rightly = task_id(validate(message.request)) == message.task
            why = "the task's id does not follow from the request"
        except SettingsError as error:
            is_named_rightly, why = False, str(error)
        if not is_named_rightly:
            self._turn_away(peer, message, SettingsError.code, why)
            return
        task = self._holders.tie(TaskId(message.task), peer, shown(message.request.url), now)
        if task is None:
            self._turn_away(peer, message, TransferError.code, "the broker remembers no more tasks; try again later")
            return
        if message.held:
            self._holders.note(task, peer, Generation(message.generation), bitfield.from_bytes(message.held), now)
        self._scheduler.wants.forget(task.id, peer.index)
        asked = message.request
        member = Member(asked, credential(asked), message.no_source, mirror=mirror(asked))
        self._admission.ask(task, peer.index, member, now)
        if peer.index in task.members:
            self._scheduler.want(task, peer.index, message.want, now)

    def _turn_away(self, peer: Peer, message: said.Open, code: str, text: str) -> None:
        self._desk.outbox.send(peer.id, said.Refused(task=message.task, code=code, text=text))
        self._desk.outbox.record("task.refused", task=message.task, peer=peer.id, code=code)

    def _want(self, peer: Peer, message: said.Want, now: float) -> None:
        self._measure(peer, message.down_rate, message.up_rate, message.in_flight)
        task = self._desk.catalog.get(TaskId(message.task))
        if task is None or peer.index not in task.members:
            self._desk.outbox.send(peer.id, Error(code="unknown_task", text="say Open first"))
            return
        self._scheduler.want(task, peer.index, message.count, now)

    def _measure(self, peer: Peer, down: int, up: int, in_flight: int) -> None:
        index = peer.index
        is_loaded = 2 * self._desk.slots.booked[index] >= self._desk.slots.capacity[index]
        before, was_slow = self._desk.rates.enough(index), self._desk.rates.slow >> index & 1
        slower = self._desk.rates.slower_than(index)
        change = self._desk.rates.report(index, down, up, in_flight, is_loaded)
        if self._desk.rates.enough(index) > before:
            self._scheduler.hungrier(index)
        has_room = self._desk.slots.resize(index, self._desk.rates.capacity(index))
        if change or has_room:
            self._scheduler.rated(index, change, has_room)
        if index in self._desk.leases.trials:
            # It may have more slots than before, and so room for more trials.
            self._scheduler.offer(index)
        if slower & ~self._desk.rates.slower_than(index):
            # It takes less than before, and some parents are too slow for it no more.
            self._scheduler.look_at(index)
        if self._desk.rates.slow >> index & 1 > was_slow:
            self._discipline.slowed(index)

    def _close(self, peer: Peer, message: said.Close, now: float) -> None:
        task = self._desk.catalog.get(TaskId(message.task))
        if task is not None and peer.index in task.members:
            self._admission.depart(task, peer.index, now)

    def _beat(self, peer: Peer, message: said.Beat, _: float) -> None:
        peer.sample = message.sample
        self._measure(peer, message.down_rate, message.up_rate, 0)
        self._desk.outbox.send(peer.id, BeatSeen(stamp=message.stamp, behind=self._backlog.is_behind))

    def _error(self, peer: Peer, message: Error, _: float) -> None:
        self._desk.outbox.refuse(peer.id, message, message.code)

    # ── what went wrong ──────────────────────────────────────────────────────────────────────────────────────────

    def _failed(self, peer: Peer, message: said.Failed, now: float) -> None:
        lease = self._desk.leases.get(LeaseId(message.lease))
        # A broker that began anew numbers from the start again: the word may be of an earlier one's lease.
        if lease is None or (lease.child, lease.task, lease.piece) != (peer.index, message.task, message.piece):
            return
        task = self._desk.catalog.tasks[lease.task]
        if message.code != "cancelled":
            self._discipline.judge(task, lease, message.code, now)
        if self._desk.leases.get(lease.id) is lease:
            self._scheduler.end(task, lease, again=message.code != "cancelled")

    # ── laws ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def check(self) -> None:
        """See the class's law."""
        self._desk.check()
        self._backlog.check()
        self._scheduler.check()
        agreement.check(self._desk)
