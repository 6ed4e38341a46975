"""Wants → grants: who gets which piece from whom, and who is parked until somebody can serve. The rule of choice is in
ranking; the books are in leases, slots, catalog."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from dfmq.errors import InvariantViolated
from dfmq.machines.broker import ranking
from dfmq.machines.broker.catalog import Catalog, Task
from dfmq.machines.broker.health import Health
from dfmq.machines.broker.leases import Leases, LiveLease
from dfmq.machines.broker.outbox import Outbox
from dfmq.machines.broker.rates import MOST_IN_FLIGHT, Rates
from dfmq.machines.broker.roster import Roster
from dfmq.machines.broker.slots import Slots
from dfmq.machines.deadlines import Deadlines
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

#: a lease that takes so many times as long as the child's pieces usually do is moved, if another parent has room
PATIENCE = 2.5
#: what a piece is taken to need while nothing was measured
UNKNOWN_SECONDS = 0.4

#: marks in the list of work, instead of a parent's index
_SERVE_ALL = -1


@dataclass(slots=True, eq=False)
class Queue:
    """The wants of one task."""

    #: child → pieces wanted and not yet granted
    want: dict[int, int] = field(default_factory=dict)
    #: children for whom nothing can be done now, in the order they came
    parked: dict[int, None] = field(default_factory=dict)
    parked_bits: int = 0
    #: every piece a parked child lacks is in here, and maybe some more
    unmet: int = 0


class Scheduler:
    """Law: a child with a want, open and not resting nor held back, has nothing it could be granted or stands in the
    list of work; parked children are exactly those that were looked at in vain; wants are positive; per child
    wants + leases keep within MOST_IN_FLIGHT. Only quarantine forbids a parent: a host on probation, or one slower
    than the child, serves a piece when nobody better holds it whole."""

    def __init__(
        self,
        roster: Roster,
        catalog: Catalog,
        leases: Leases,
        slots: Slots,
        rates: Rates,
        health: Health,
        rng: random.Random,
        outbox: Outbox,
    ) -> None:
        self._roster = roster
        self._catalog = catalog
        self._leases = leases
        self._slots = slots
        self._rates = rates
        self._health = health
        self._rng = rng
        self._outbox = outbox
        self._queues: dict[TaskId, Queue] = {}
        #: tasks with somebody parked
        self._parked: dict[TaskId, Queue] = {}
        #: (task, child to serve, -) or (task, parent with room) or (task, _SERVE_ALL)
        self._work: deque[tuple[bool, TaskId, int]] = deque()
        self._listed: set[tuple[bool, TaskId, int]] = set()
        #: (task, child) whose wants rest
        self.resting: Deadlines[tuple[TaskId, int]] = Deadlines()

    # ── wants ────────────────────────────────────────────────────────────────────────────────────────────────────

    def want(self, task: Task, index: int, count: int, now: float) -> None:
        """The child wants so many pieces more."""
        queue = self._queues.setdefault(task.id, Queue())
        taking = task.taking.get(index, 0).bit_count()
        total = min(queue.want.get(index, 0) + count, MOST_IN_FLIGHT - taking)
        if total > 0:
            queue.want[index] = total
        self.serve(task, index, now)

    def forget_wants(self, task: Task, index: int) -> None:
        """The child wants nothing of this task any more."""
        queue = self._queues.get(task.id)
        if queue is None:
            return
        queue.want.pop(index, None)
        self.resting.clear((task.id, index))
        self._unpark(task, queue, index)
        if not queue.want:
            del self._queues[task.id]

    def wants(self, task: TaskId) -> int:
        """Pieces of the task that are wanted and not granted."""
        queue = self._queues.get(task)
        return sum(queue.want.values()) if queue else 0

    def is_wanting(self, task: TaskId, index: int) -> bool:
        """The child has an unanswered want."""
        queue = self._queues.get(task)
        return queue is not None and index in queue.want

    def parked(self) -> int:
        """How many children are parked."""
        return sum(len(queue.parked) for queue in self._parked.values())

    def total_wants(self) -> int:
        """Wants of all tasks."""
        return sum(sum(queue.want.values()) for queue in self._queues.values())

    # ── leases that end ──────────────────────────────────────────────────────────────────────────────────────────

    def end(self, task: Task, lease: LiveLease, *, again: bool) -> None:
        """A lease is over; `again`: the want it answered counts again. Its slot is offered to the parked."""
        self._leases.end(lease)
        task.untake(lease.child, lease.piece)
        if lease.child in task.members:
            queue = self._queues.setdefault(task.id, Queue())
            if again:
                queue.want[lease.child] = queue.want.get(lease.child, 0) + 1
            if lease.child in queue.want:
                self._list((True, task.id, lease.child))
            elif not queue.want:
                del self._queues[task.id]
        self.offer(lease.parent)

    def revoke(self, task: Task, lease: LiveLease, *, again: bool = True) -> None:
        """End a lease and tell the child that it is void."""
        child = self._roster.at(lease.child)
        self._outbox.revoke(child.id, task.id, lease.id)
        self._outbox.record("lease.revoked", lease=lease.id, task=task.id, piece=lease.piece, child=child.id)
        self.end(task, lease, again=again)

    def failed(self, task: Task, index: int, parent: int, now: float) -> None:
        """A lease of the child came to nothing: its parent comes last for it, and after some failures it rests."""
        member = task.members.get(index)
        if member is None:
            return
        member.shunned |= 1 << parent
        member.failures += 1
        if member.failures >= FAILURES_BEFORE_REST:
            doublings = min(member.failures - FAILURES_BEFORE_REST, 16)
            self.resting.set((task.id, index), now + min(MOST_REST_SECONDS, REST_SECONDS * 2.0**doublings))
            if (queue := self._queues.get(task.id)) is not None:
                self._unpark(task, queue, index)

    def succeeded(self, task: Task, lease: LiveLease, now: float) -> None:
        """The child has the piece: what it held against parents is forgotten, and how long it took is what others may
        expect. The estimate follows the quicker leases, so that it says what a piece takes when all goes well."""
        took = now - lease.granted_at
        usual = task.usual_seconds
        task.usual_seconds = usual + (took - usual) * (0.3 if took < usual else 0.1) if usual else took
        index = lease.child
        member = task.members.get(index)
        if member is None:
            return
        member.shunned = member.failures = 0
        if took < PATIENCE * task.usual_seconds:
            member.moves = 0
        if self.resting.at((task.id, index)) is not None:
            self.resting.clear((task.id, index))
            self.look_at(task, index)

    def _patience(self, task: Task, child: int) -> float:
        usual = task.usual_seconds or self._rates.expected_seconds(child, task.cut.piece_length)
        return float(PATIENCE * (usual or UNKNOWN_SECONDS) * 2 ** task.members[child].moves)

    def relieve(self, now: float) -> None:
        """Move leases that take too long to a better parent: a child must not wait for the slowest. What it has got of
        the piece it keeps."""
        for lease_id in self._leases.patience.due(now):
            lease = self._leases.get(lease_id)
            if lease is None:
                continue
            task = self._catalog.tasks[lease.task]
            patience = self._patience(task, lease.child)
            if now < lease.granted_at + 0.999 * patience:
                self._leases.patience.set(lease_id, lease.granted_at + patience)
                continue
            parent = self._better_parent(task, lease)
            if parent is None:
                self._leases.patience.set(lease_id, now + patience / PATIENCE)
                continue
            index = lease.child
            task.members[index].moves = min(task.members[index].moves + 1, 10)
            self.revoke(task, lease)
            self._grant(task, self._queues[task.id], index, lease.piece, parent, now)
            self.serve(task, index, now)

    def _better_parent(self, task: Task, lease: LiveLease) -> int | None:
        doubtful = self._health.suspected | self._rates.unwelcome_to(lease.child)
        if lease.piece not in task.whole:
            return None
        good = self._slots.room & ~(doubtful | 1 << lease.child | 1 << lease.parent)
        whole = task.whole[lease.piece]
        good &= whole
        is_bad = (doubtful | ~whole) >> lease.parent & 1
        levels = self._slots.level_of
        for p in ranking.sample(good, 4, self._rng) if good else ():
            if is_bad or 0 <= levels[p] < (levels[lease.parent] if levels[lease.parent] >= 0 else 4):
                return p
        return None

    # ── what can be served now ───────────────────────────────────────────────────────────────────────────────────

    def offer(self, parent: int) -> None:
        """The peer may have room or something new to give: parked children of its tasks shall be looked at."""
        if self._parked:
            for task_id in self._parked:
                if self._catalog.has_peer(parent, task_id):
                    self._list((False, task_id, parent))

    def offer_in(self, task: Task, parent: int) -> None:
        """As `offer`, in one task."""
        if task.id in self._parked:
            self._list((False, task.id, parent))

    def stir(self, task: Task) -> None:
        """Something changed for everybody: all parked children of the task shall be looked at."""
        queue = self._parked.get(task.id)
        if queue is not None:
            queue.unmet |= task.available
            self._list((False, task.id, _SERVE_ALL))

    def stir_if_doubtful(self, task: Task) -> None:
        """A good holder is lost: where only doubtful ones are left, these may serve now."""
        if task.id in self._parked and self._slots.room & (self._health.suspected | self._rates.laggards()):
            self.stir(task)

    def look_at(self, task: Task, index: int) -> None:
        """Something changed for this child."""
        if self.is_wanting(task.id, index):
            self._list((True, task.id, index))

    def rated(self, index: int, change: int, has_room: bool) -> None:
        """The peer's rates are others now: better (1) or worse (-1) as a parent; `has_room`: since just now."""
        if change > 0 or has_room:
            self.offer(index)
        if change < 0:
            for task_id in self._parked:
                if self._catalog.has_peer(index, task_id):
                    self.stir_if_doubtful(self._catalog.tasks[task_id])
        if change:
            for task in self._catalog.of_peer(index):
                self.look_at(task, index)

    def _list(self, item: tuple[bool, TaskId, int]) -> None:
        if item not in self._listed:
            self._listed.add(item)
            self._work.append(item)

    @property
    def has_work(self) -> bool:
        """Something is listed."""
        return bool(self._work)

    def work(self, now: float) -> None:
        """Do some of what is listed; bounded, the caller comes again."""
        for task_id, index in self.resting.due(now):
            self._list((True, task_id, index))
        left = WORK_PER_EVENT
        while self._work and left:
            item = self._work.popleft()
            self._listed.discard(item)
            is_child, task_id, index = item
            task = self._catalog.get(task_id)
            if task is None:
                continue
            if is_child:
                left -= 1
                self.serve(task, index, now)
            elif index == _SERVE_ALL:
                for child in self._parked[task_id].parked if task_id in self._parked else ():
                    self._list((True, task_id, child))
            elif self._give(task, index, now):
                left -= 1
                self._list(item)

    # ── serving a child ──────────────────────────────────────────────────────────────────────────────────────────

    def serve(self, task: Task, index: int, now: float) -> None:
        """Grant the child what it wants as far as can be; park the rest."""
        queue = self._queues.get(task.id)
        member = task.members.get(index)
        if queue is None or member is None or not member.is_open:
            return
        while index in queue.want:
            if self._is_held_back(task, index):
                self._unpark(task, queue, index)
                return
            choice = self._choose(task, index)
            if choice is None:
                self._park(task, queue, index)
                return
            self._grant(task, queue, index, *choice, now)
        self._unpark(task, queue, index)

    def _is_held_back(self, task: Task, index: int) -> bool:
        """Its wants are looked at again when the rest is over, or when the lease of a slow child ends."""
        if self._rates.slow >> index & 1 and index in task.taking:
            return True
        return self.resting.at((task.id, index)) is not None

    def _choose(self, task: Task, index: int) -> tuple[int, int] | None:
        """(piece, parent) for the child, None when nothing can be done. First among sampled pieces, then among all;
        parents that failed it come last, and doubtful ones serve only what nobody better holds."""
        lacking = task.lacking(index)
        room = self._slots.room & ~(1 << index)
        if not lacking or not room:
            return None
        doubtful = self._health.suspected | self._rates.slower_than(index)
        later = task.members[index].shunned | self._rates.unwelcome_to(index)
        if good := room & ~(doubtful | later):
            few = ranking.sample(lacking, ranking.SAMPLED_PIECES, self._rng)
            found = self._best(task, index, self._candidates(task, few, good))
            found = found or self._best_of_all(task, index, lacking, good)
            if found:
                return found
        if again := room & later & ~doubtful:
            found = self._best_of_all(task, index, lacking, again)
            if found:
                return found
        if last := room & doubtful:
            better = ~(doubtful | 1 << index)
            whole = task.whole
            only_there = bitfield.of(piece for piece in bitfield.members(lacking) if not whole[piece] & better)
            return self._best_of_all(task, index, only_there, last)
        return None

    def _candidates(self, task: Task, pieces: Iterable[int], parents: int) -> list[ranking.Candidate]:
        """Some of these parents for each of these pieces they could give."""
        whole, taken, partial = task.whole, task.taken, ~(self._rates.slow | self._health.barred)
        level_of, chance, candidates = self._slots.level_of, self._rng.random, []
        for piece in pieces:
            holders = whole[piece] | (taken.get(piece, 0) & partial)
            if possible := holders & parents:
                rarity, takers = holders.bit_count(), self._leases.takers(task.id, piece)
                for parent in ranking.sample(possible, ranking.SAMPLED_HOLDERS, self._rng):
                    taking = takers.get(parent)
                    depth = taking.depth + 1 if taking is not None else 0
                    candidates.append((level_of[parent], depth, rarity, chance(), piece, parent))
        return candidates

    def _best(self, task: Task, index: int, candidates: list[ranking.Candidate]) -> tuple[int, int] | None:
        """The best candidate whose own parents lead to a whole holder and not to the child."""
        if not candidates:
            return None
        best = min(candidates)
        if self._leads_home(task, index, best[4], best[5]):
            return best[4], best[5]
        for *_, piece, parent in sorted(candidates):
            if self._leads_home(task, index, piece, parent):
                return piece, parent
        return None

    def _best_of_all(self, task: Task, index: int, lacking: int, parents: int) -> tuple[int, int] | None:
        """As `_best` over all lacking pieces, missing none; by parent instead of by piece where these are fewer."""
        if lacking.bit_count() <= parents.bit_count():
            found = self._best(task, index, self._candidates(task, bitfield.members(lacking), parents))
            if found:
                return found
        for parent in bitfield.members(parents):
            offered = self._offered(task, parent) & lacking
            if whole := offered & task.held.get(parent, 0):
                return ranking.pick(whole, self._rng), parent
            for piece in bitfield.members(offered):
                if self._leads_home(task, index, piece, parent):
                    return piece, parent
        return None

    def _offered(self, task: Task, parent: int) -> int:
        """The pieces this peer could give: what it holds and, unless it is slow, what it is taking."""
        if self._health.barred >> parent & 1:
            return 0
        pieces = task.held.get(parent, 0)
        if not self._rates.slow >> parent & 1:
            pieces |= task.taking.get(parent, 0)
        return pieces & task.available

    def _leads_home(self, task: Task, child: int, piece: int, parent: int) -> bool:
        """The chain of parents for the piece ends at somebody who holds it, and the child is not in it."""
        whole = task.whole[piece]
        if whole >> parent & 1:
            return True
        last = parent
        for last in self._leases.ancestors(task.id, piece, parent):
            if last == child:
                return False
        return bool(whole >> last & 1)

    # ── serving the parked from one parent ───────────────────────────────────────────────────────────────────────

    def _give(self, task: Task, parent: int, now: float) -> bool:
        """Grant one parked child something from this parent, if there is any."""
        queue = self._parked.get(task.id)
        if queue is None or not self._slots.room >> parent & 1:
            return False
        offered = self._offered(task, parent) & queue.unmet
        if not offered:
            return False
        for at, child in enumerate(queue.parked):
            if at == SCANNED_IN_ORDER:
                return self._give_by_piece(task, queue, parent, offered, now)
            if self._give_child(task, queue, parent, child, offered, now):
                return True
        if len(queue.parked) <= SCANNED_IN_ORDER:
            self._recount_unmet(task, queue)
        return False

    def _give_child(self, task: Task, queue: Queue, parent: int, child: int, offered: int, now: float) -> bool:
        fitting = offered & ~(task.held.get(child, 0) | task.taking.get(child, 0))
        if not fitting or child == parent:
            return False
        taken, whole = task.taken, task.whole
        by_rarity = sorted(
            ranking.sample(fitting, ranking.SAMPLED_PIECES, self._rng),
            key=lambda piece: whole[piece].bit_count() + taken.get(piece, 0).bit_count(),
        )
        for pieces in (by_rarity, bitfield.members(fitting)):
            for piece in pieces:
                if self._may(task, child, piece, parent):
                    self._grant(task, queue, child, piece, parent, now)
                    self._requeue(task, queue, child)
                    return True
        return False

    def _give_by_piece(self, task: Task, queue: Queue, parent: int, offered: int, now: float) -> bool:
        """Many are parked: find one that lacks something offered, and note what nobody lacks."""
        for piece in bitfield.members(offered):
            lacking = queue.parked_bits & ~(task.whole[piece] | task.taken.get(piece, 0) | 1 << parent)
            if not lacking:
                queue.unmet &= ~(1 << piece)
            for child in bitfield.members(lacking):
                if not task.held.get(child, 0) >> piece & 1 and self._may(task, child, piece, parent):
                    self._grant(task, queue, child, piece, parent, now)
                    self._requeue(task, queue, child)
                    return True
        return False

    def _may(self, task: Task, child: int, piece: int, parent: int) -> bool:
        """This parent, which offers the piece and has room, may serve it to this child."""
        doubtful = self._health.suspected | self._rates.slower_than(child)
        if doubtful >> parent & 1 and task.whole[piece] & ~(doubtful | 1 << child):
            return False
        return self._leads_home(task, child, piece, parent)

    def _requeue(self, task: Task, queue: Queue, child: int) -> None:
        """A parked child got something: the others come first now, and it stays only if it wants more."""
        if child not in queue.parked:
            return
        if child in queue.want and not self._is_held_back(task, child):
            del queue.parked[child]
            queue.parked[child] = None
        else:
            self._unpark(task, queue, child)

    def _recount_unmet(self, task: Task, queue: Queue) -> None:
        queue.unmet = 0
        for child in queue.parked:
            queue.unmet |= task.lacking(child)

    def _park(self, task: Task, queue: Queue, index: int) -> None:
        queue.unmet |= task.lacking(index)
        if index not in queue.parked:
            queue.parked[index] = None
            queue.parked_bits |= 1 << index
            self._parked[task.id] = queue
            self._outbox.record("want.parked", task=task.id, child=self._roster.at(index).id, count=queue.want[index])

    def _unpark(self, task: Task, queue: Queue, index: int) -> None:
        if index in queue.parked:
            del queue.parked[index]
            queue.parked_bits ^= 1 << index
            if not queue.parked:
                queue.unmet = 0
                del self._parked[task.id]

    # ── granting ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _grant(self, task: Task, queue: Queue, index: int, piece: int, parent: int, now: float) -> None:
        if task.content is None:
            raise InvariantViolated(f"task {task.id.hex()} would be granted and is not known")
        seconds = self._rates.lease_seconds(index, parent, task.content.cut.piece_length)
        cost = self._rates.cost(index, parent)
        patience = self._patience(task, index)
        lease = self._leases.grant(task.id, piece, index, parent, cost, now, seconds, patience)
        heals = bool(self._leases.served_on(task.id, piece, index))
        task.take(index, piece)
        left = queue.want[index] - 1
        if left:
            queue.want[index] = left
        else:
            del queue.want[index]
        child, giver = self._roster.at(index), self._roster.at(parent)
        self._outbox.grant(
            child.id,
            task.id,
            task.content.generation,
            Lease(
                lease=lease.id, piece=piece, parent=giver.id, endpoint=giver.exchange, proofs=task.proofs[piece],
                seconds=seconds, seed=giver.is_seed,
            ),
        )  # fmt: skip
        self._outbox.record(
            "lease.granted", lease=lease.id, task=task.id, piece=piece, child=child.id, parent=giver.id, cost=cost
        )
        if heals:
            self.stir(task)
        else:
            self.offer_in(task, index)

    # ── laws ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def is_grantable(self, task: Task, index: int) -> bool:
        """Slow and exact: is there a piece and a parent for the child now?"""
        for piece in bitfield.members(task.lacking(index)):
            for parent in bitfield.members(self._slots.room & ~(1 << index)):
                offers = self._offered(task, parent) >> piece & 1
                if offers and self._may(task, index, piece, parent):
                    return True
        return False

    def check(self) -> None:
        """See the class's law."""
        if {t for t, q in self._queues.items() if q.parked} != set(self._parked):
            raise InvariantViolated("tasks with parked children are not those listed")
        if self._listed != set(self._work) or len(self._listed) != len(self._work):
            raise InvariantViolated("the list of work and its index differ")
        for task_id, queue in self._queues.items():
            task = self._catalog.tasks[task_id]
            if queue.parked_bits != bitfield.of(queue.parked):
                raise InvariantViolated(f"task {task_id.hex()}: parked children and their bits differ")
            for index, count in queue.want.items():
                taking = task.taking.get(index, 0).bit_count()
                if count < 1 or count + taking > MOST_IN_FLIGHT or index not in task.members:
                    raise InvariantViolated(f"task {task_id.hex()}: {index} wants {count} and takes {taking}")
                self._check_want(task, queue, index)
            if set(queue.parked) - set(queue.want):
                raise InvariantViolated(f"task {task_id.hex()}: parked without a want")

    def _check_want(self, task: Task, queue: Queue, index: int) -> None:
        if (True, task.id, index) in self._listed:
            return
        is_waiting = not task.members[index].is_open or self._is_held_back(task, index)
        if index in queue.parked:
            if is_waiting:
                raise InvariantViolated(f"task {task.id.hex()}: {index} is parked and held back")
            if task.lacking(index) & ~queue.unmet:
                raise InvariantViolated(f"task {task.id.hex()}: {index} lacks what no parked child should lack")
            if not self._work and self.is_grantable(task, index):
                raise InvariantViolated(f"task {task.id.hex()}: {index} is parked and could be granted")
        elif not is_waiting:
            raise InvariantViolated(f"task {task.id.hex()}: {index} wants, and nobody looks at it")
