"""Wants → grants: when to look at whom, and the booking of what was chosen. What can be chosen is in choosing; who is
parked is in wants."""

from __future__ import annotations

from dfmq.errors import InvariantViolated
from dfmq.machines.broker.catalog import Task
from dfmq.machines.broker.choosing import Choosing
from dfmq.machines.broker.desk import Desk
from dfmq.machines.broker.leases import LiveLease
from dfmq.machines.broker.patience import PATIENCE, Patience
from dfmq.machines.broker.rates import MOST_IN_FLIGHT
from dfmq.machines.broker.wants import Queue, Wants
from dfmq.model import bitfield
from dfmq.model.ids import TaskId
from dfmq.wire.messages import Lease

#: pieces of work done per event; the rest is done at once after the next events, so that nobody's message waits long
WORK_PER_EVENT = 64
#: parked children looked at in the order they came, before they are found by piece
SCANNED_IN_ORDER = 64
#: this many failures in a row and a child's wants rest, doubling: who fails at once everywhere must not spin the broker
FAILURES_BEFORE_REST = 4
REST_SECONDS = 0.1
MOST_REST_SECONDS = 5.0


class Scheduler:
    """Law: a child with a want that is open, not resting, not held back and not sated is parked, and then nothing can
    be granted to it, or a duty is listed that will look at it; per child wants + leases keep within MOST_IN_FLIGHT."""

    def __init__(self, desk: Desk, choosing: Choosing) -> None:
        self._desk = desk
        self._choosing = choosing
        self._patience = Patience(desk.rates)
        self.wants = Wants()
        #: task → children that have enough until all of it can be had
        self._sated: dict[TaskId, dict[int, None]] = {}

    # ── wants ────────────────────────────────────────────────────────────────────────────────────────────────────

    def want(self, task: Task, child: int, count: int, now: float) -> None:
        """The child wants so many pieces more."""
        self.wants.add(task.id, child, count, task.taking.get(child, 0).bit_count())
        self.serve(task, child, now)

    def serve(self, task: Task, child: int, now: float) -> None:
        """Grant the child what it wants as far as can be; park the rest."""
        member = task.members.get(child)
        if member is None or not member.is_open:
            return
        choices, left = self._choosing.choices(task, child), self.wants.count(task.id, child)
        while left:
            if self._is_put_off(task, child):
                return
            choice = next(choices, None)
            if choice is None:
                self._park(task, child)
                return
            left = self._grant(task, child, *choice, now)

    def _is_put_off(self, task: Task, child: int) -> bool:
        """It gets no more now, and is not parked: it is looked at again when what holds it back is over."""
        if not self._is_held_back(task, child):
            if not self._is_sated(task, child):
                return False
            self._sated.setdefault(task.id, {})[child] = None
        self.wants.unpark(task.id, child)
        return True

    def _is_held_back(self, task: Task, child: int) -> bool:
        """Looked at again when its rest is over, or when the lease of a slow child ends: that gets one piece at a
        time (design, section 2). So does one that is unreached, until one has come."""
        if (self._desk.rates.slow | self._desk.health.unreached) >> child & 1 and child in task.taking:
            return True
        is_failing = task.members[child].failures >= FAILURES_BEFORE_REST
        return is_failing and self.wants.resting.at((task.id, child)) is not None

    def _is_sated(self, task: Task, child: int) -> bool:
        """It has enough leases while pieces of the content are still missing everywhere: all children then take the
        same few, one below the other, and each lease more makes those trees deeper. It is looked at again when all can
        be had, or when one of its leases ends. Measured by simulation (300 peers, the source at 1.5 times their rate,
        mean completion in multiples of size/rate): 1.144, with any number of leases 1.172; at 0.75 times, where the
        source alone takes 1.333: 1.508 and 1.548."""
        if task.is_available() or child not in task.taking:
            return False
        return task.taking[child].bit_count() >= self._desk.rates.enough(child)

    def _look_at_the_sated(self) -> None:
        for task_id in [task_id for task_id in self._sated if self._is_to_be_had(task_id)]:
            for child in self._sated.pop(task_id):
                self.wants.look_at(task_id, child)

    def _is_to_be_had(self, task_id: TaskId) -> bool:
        task = self._desk.catalog.get(task_id)
        return task is None or task.is_available()

    def _park(self, task: Task, child: int) -> None:
        if self.wants.park(task.id, child, task.lacking(child)):
            peer = self._desk.roster.at(child)
            count = self.wants.count(task.id, child)
            self._desk.outbox.record("want.parked", task=task.id, child=peer.id, count=count)

    def _grant(self, task: Task, child: int, piece: int, parent: int, now: float) -> int:
        """Book it and say it; how many wants of the child are left."""
        desk = self._desk
        if task.content is None:
            raise InvariantViolated(f"task {task.id.hex()} would be granted and is not known")
        # What comes from another zone, or by way of somebody who takes it there, is as slow as the link between them.
        is_long = desk.zones.are_several and (desk.zones.is_far(child, parent) or not task.whole[piece] >> parent & 1)
        cost, seconds = desk.rates.terms(child, parent, task.content.cut.piece_length, is_long=is_long)
        patience = self._patience.of(task, child)
        is_trial = bool(desk.health.unreached >> child & 1)
        lease = desk.leases.grant(task.id, piece, child, parent, cost, now, seconds, patience, is_trial=is_trial)
        task.take(child, piece)
        left = self.wants.granted(task.id, child)
        taker, giver = desk.roster.at(child), desk.roster.at(parent)
        said = Lease(
            lease=lease.id, piece=piece, parent=giver.id, endpoint=giver.exchange, proofs=task.proofs[piece],
            seconds=seconds, seed=giver.is_seed,
        )  # fmt: skip
        desk.outbox.grant(taker.id, task.id, task.content.generation, said)
        desk.outbox.record(
            "lease.granted", lease=lease.id, task=task.id, piece=piece, child=taker.id, parent=giver.id, cost=cost
        )
        if desk.leases.serves(task.id, piece, child):
            # It takes the piece again: those below it can serve others once more.
            self.stir(task)
        elif self.wants.parked:
            self.offer_in(task, child)
        return left

    # ── leases that end ──────────────────────────────────────────────────────────────────────────────────────────

    def end(self, task: Task, lease: LiveLease, *, again: bool) -> None:
        """A lease is over; `again`: the want it answered counts again. Its slot is offered to the parked."""
        self._desk.leases.end(lease)
        task.untake(lease.child, lease.piece)
        if lease.child in task.members:
            if again:
                self.wants.add(task.id, lease.child, 1, task.taking.get(lease.child, 0).bit_count())
            self.wants.look_at(task.id, lease.child)
        if self.wants.parked:
            self.offer(lease.parent)
            # Whoever got the piece by way of this child, in whatever zone, gets it no more.
            for zone in self._desk.zones.all():
                self._let_in(task.id, zone)

    def revoke(self, task: Task, lease: LiveLease) -> None:
        """End a lease and tell the child that it is void; its want counts again."""
        child = self._desk.roster.at(lease.child)
        self._desk.outbox.revoke(child.id, task.id, lease.id)
        self._desk.outbox.record("lease.revoked", lease=lease.id, task=task.id, piece=lease.piece, child=child.id)
        self.end(task, lease, again=True)

    def failed(self, task: Task, lease: LiveLease, now: float) -> None:
        """The lease came to nothing: its parent comes last for the child, which after some failures rests."""
        child = lease.child
        member = task.members.get(child)
        if member is None:
            return
        member.shunned |= 1 << lease.parent
        member.failures += 1
        if member.failures >= FAILURES_BEFORE_REST:
            doublings = min(member.failures - FAILURES_BEFORE_REST, 16)
            self.wants.resting.set((task.id, child), now + min(MOST_REST_SECONDS, REST_SECONDS * 2.0**doublings))
            self.wants.unpark(task.id, child)

    def done(self, task: Task, child: int, leases: list[LiveLease], now: float) -> None:
        """The child has the pieces: what it held against parents is forgotten."""
        is_wider = False
        for lease in leases:
            if lease.is_far:
                took = now - lease.granted_at
                is_wider |= self._desk.zones.widen(child, task.cut.piece_length / took if took else 0.0)
            self._desk.leases.end(lease)
            task.untake(child, lease.piece)
        self._patience.learn(task, child, leases, now)
        member = task.members.get(child)
        if member is not None:
            if member.failures:
                member.failures = 0
                self.wants.resting.clear((task.id, child))
            member.shunned = 0
            self.wants.look_at(task.id, child)
        if self.wants.parked:
            for lease in leases:
                self.offer(lease.parent)
                if lease.is_far:
                    self._let_in(task.id, self._desk.zones.of(child))
            if is_wider:
                # One number is the bound for each of the zone's tasks.
                for task_id in self.wants.parked:
                    self._let_in(task_id, self._desk.zones.of(child))

    # ── leases that drag ─────────────────────────────────────────────────────────────────────────────────────────

    def relieve(self, task: Task, lease: LiveLease, now: float) -> None:
        """Move a lease that takes too long to a better parent, so that nobody waits for the slowest. What the child has
        got of the piece it keeps."""
        leases = self._desk.leases
        patience = self._patience.of(task, lease.child)
        if now < lease.granted_at + 0.99 * patience:
            leases.look_again(lease, lease.granted_at + patience)
        elif (
            not task.members[lease.child].is_open
            or (parent := self._choosing.relief(task, lease, is_overdue=self._patience.is_overdue(task, lease, now)))
            is None
        ):
            leases.look_again(lease, now + patience / PATIENCE)
        else:
            self._move(task, lease, parent, now)

    def _move(self, task: Task, lease: LiveLease, parent: int, now: float) -> None:
        self._patience.moved(task.members[lease.child])
        self.revoke(task, lease)
        self._grant(task, lease.child, lease.piece, parent, now)

    # ── whom to look at ──────────────────────────────────────────────────────────────────────────────────────────

    def offer(self, parent: int) -> None:
        """The peer may have room or something new to give: parked children of its tasks shall be looked at."""
        for task_id in self.wants.parked:
            if self._desk.catalog.has_peer(parent, task_id):
                self.wants.list(("give", task_id, parent))

    def offer_in(self, task: Task, parent: int) -> None:
        """As `offer`, in one task."""
        if task.id in self.wants.parked:
            self.wants.list(("give", task.id, parent))

    def stir(self, task: Task) -> None:
        """Something changed for everybody: all parked children of the task shall be looked at."""
        queue = self.wants.parked.get(task.id)
        if queue is not None:
            queue.unmet |= task.available
            self.wants.list(("stir", task.id, 0))

    def lost_holder(self, task: Task, zone: int) -> None:
        """A good holder is lost: where only doubtful ones are left, or in its zone none, these or those of other zones
        may serve now."""
        desk = self._desk
        if task.id in self.wants.parked and desk.slots.room & (desk.health.suspected | desk.rates.laggards()):
            self.stir(task)
        self._let_in(task.id, zone)

    def _let_in(self, task_id: TaskId, zone: int) -> None:
        """Something may come into a zone from others that could not before."""
        if self._desk.zones.are_several and task_id in self.wants.parked:
            self.wants.list(("enter", task_id, zone))

    def rated(self, peer: int, change: int, has_room: bool) -> None:
        """The peer's rates are others now: better (1) or worse (-1) as a parent; `has_room`: since just now."""
        is_slow = self._desk.rates.slow >> peer & 1
        if change > 0 or has_room or not is_slow:
            self.offer(peer)
        # Measured anew it may give more than before and take so little that it counts as slow from now on.
        if change < 0 or is_slow:
            for task_id in self.wants.parked:
                if self._desk.catalog.has_peer(peer, task_id):
                    self.lost_holder(self._desk.catalog.tasks[task_id], self._desk.zones.of(peer))
        if change:
            self.look_at(peer)

    def reached(self, peer: int) -> None:
        """Whether anything reaches the peer is judged otherwise now: it gets more at a time, or less, and others may
        wait for what it takes, or what it would have brought into its zone comes by another."""
        self.look_at(peer)
        self.offer(peer)
        for task_id in self.wants.parked:
            self._let_in(task_id, self._desk.zones.of(peer))

    def look_at(self, peer: int) -> None:
        """Others may serve the peer now than before: it is looked at as a child, in each of its tasks."""
        for task_id in self.wants.queues:
            self.wants.look_at(task_id, peer)

    def hungrier(self, peer: int) -> None:
        """The peer keeps more in flight than before: it may not have enough any more."""
        for task in self._desk.catalog.of_peer(peer):
            if peer in self._sated.get(task.id, {}):
                self.wants.look_at(task.id, peer)

    def work(self, now: float) -> None:
        """Do some of what is listed; bounded, the caller comes again."""
        for task_id, child in self.wants.resting.due(now):
            self.wants.list(("serve", task_id, child))
        if self._sated:
            self._look_at_the_sated()
        left = WORK_PER_EVENT
        while left and (duty := self.wants.next_duty()) is not None:
            what, task_id, whom = duty
            task = self._desk.catalog.get(task_id)
            if task is None:
                continue
            if what == "serve":
                left -= 1
                self.serve(task, whom, now)
            elif what == "give":
                if self._give(task, whom, now):
                    left -= 1
                    self.wants.list(duty)
            elif (queue := self.wants.parked.get(task_id)) is None:
                continue
            elif what == "enter":
                self._enter(task, queue, whom, now)
            else:
                for child in self._desk.slots.in_order_of_room(queue.parked):
                    self.wants.list(("serve", task_id, child))

    def _enter(self, task: Task, queue: Queue, zone: int, now: float) -> None:
        """Serve those who may bring something into the zone, first who can pass it on there."""
        desk = self._desk
        parked = queue.parked_bits & desk.zones.peers_of(zone)
        if not parked or not desk.zones.has_way_in(task.id, zone):
            return
        pieces = self._choosing.may_enter(task, zone, queue.unmet)
        for child in desk.slots.in_order_of_room(bitfield.members(parked)):
            if not desk.zones.has_way_in(task.id, zone):
                return
            if task.lacking(child) & pieces or task.members[child].shunned:
                self.serve(task, child, now)

    # ── serving the parked from one parent ───────────────────────────────────────────────────────────────────────

    def _give(self, task: Task, parent: int, now: float) -> bool:
        """Grant one parked child something from this parent, if there is any."""
        queue = self.wants.parked.get(task.id)
        if queue is None or not self._desk.slots.room >> parent & 1:
            return False
        offered = self._choosing.offered(task, parent) & queue.unmet
        if not offered:
            return False
        choice = self._first_in_order(task, queue, parent, offered)
        if choice is None and len(queue.parked) > SCANNED_IN_ORDER:
            choice = self._first_by_piece(task, queue, parent, offered)
        elif choice is None:
            queue.unmet = 0
            for child in queue.parked:
                queue.unmet |= task.lacking(child)
        if choice is None:
            return False
        child, piece = choice
        self._grant(task, child, piece, parent, now)
        if child in queue.parked and not self._is_put_off(task, child):
            self.wants.to_the_end(task.id, child)
        return True

    def _first_in_order(self, task: Task, queue: Queue, parent: int, offered: int) -> tuple[int, int] | None:
        """Of those that came first, one that can pass it on; if there is none, who came first of all."""
        room, found = self._desk.slots.room, None
        for at, child in enumerate(queue.parked):
            if at == SCANNED_IN_ORDER:
                break
            has_room = room >> child & 1
            if found is None or has_room:
                piece = self._choosing.from_parent(task, child, parent, offered)
                if piece is not None:
                    found = child, piece
                    if has_room:
                        break
        return found

    def _first_by_piece(self, task: Task, queue: Queue, parent: int, offered: int) -> tuple[int, int] | None:
        """Many are parked: find one that lacks something offered, and note what nobody lacks."""
        for piece in bitfield.members(offered):
            lacking = queue.parked_bits & ~(task.whole[piece] | task.taken.get(piece, 0) | 1 << parent)
            if not lacking:
                queue.unmet &= ~(1 << piece)
            for child in bitfield.members(lacking):
                if not task.held.get(child, 0) >> piece & 1 and self._choosing.may(task, child, piece, parent):
                    return child, piece
        return None

    # ── laws ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def check(self) -> None:
        """See the class's law."""
        self.wants.check()
        for task_id, queue in self.wants.queues.items():
            task = self._desk.catalog.tasks[task_id]
            for child, count in queue.want.items():
                taking = task.taking.get(child, 0).bit_count()
                if count + taking > MOST_IN_FLIGHT or child not in task.members:
                    raise InvariantViolated(f"task {task_id.hex()}: {child} wants {count} and takes {taking}")
                if not self.wants.is_listed(("serve", task_id, child)):
                    self._check_want(task, queue, child)

    def _check_want(self, task: Task, queue: Queue, child: int) -> None:
        is_waiting = not task.members[child].is_open or self._is_held_back(task, child)
        if child not in queue.parked:
            is_sated = self._is_sated(task, child) and child in self._sated.get(task.id, {})
            if not is_waiting and not is_sated:
                raise InvariantViolated(f"task {task.id.hex()}: {child} wants, and nobody looks at it")
            return
        if is_waiting:
            raise InvariantViolated(f"task {task.id.hex()}: {child} is parked and held back")
        if task.lacking(child) & ~queue.unmet:
            raise InvariantViolated(f"task {task.id.hex()}: {child} lacks what no parked child should lack")
        if not self.wants.has_duties and self._choosing.is_grantable(task, child):
            raise InvariantViolated(f"task {task.id.hex()}: {child} is parked and could be granted")
