"""Every live lease, findable by id, parent and piece, with its deadline. Who gets one is in scheduler."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import msgspec

from dfmq.errors import InvariantViolated
from dfmq.machines.broker.looks import Looks
from dfmq.machines.broker.slots import SLOT, Slots
from dfmq.machines.broker.zones import Zones
from dfmq.model import bitfield
from dfmq.model.ids import LeaseId, TaskId


class LiveLease(msgspec.Struct, eq=False, gc=False):
    """Leave for `child` to take `piece` from `parent`; both are roster indices."""

    id: LeaseId
    task: TaskId
    piece: int
    child: int
    parent: int
    #: thousandths of the parent's slots; also in Slots.booked
    cost: int
    granted_at: float
    #: by then one of both has said how it ended, or it has failed
    expires_at: float
    #: when to see whether it takes longer than it should, or has failed; also in Leases.looks
    look_at: float
    #: parents between the child and one that held the piece whole, when this was granted
    depth: int
    #: the parent stands in another zone; also counted in Zones
    is_far: bool
    #: nothing had reached the child when this was granted, though it was tried
    is_trial: bool


_NONE: dict[int, dict[int, LiveLease]] = {}
_NOBODY: dict[LeaseId, LiveLease] = {}


#: Ids of leases begin as many 2**32 above one as the epoch's last 29 bits say, below those that peers give themselves.
EPOCHS_APART = 1 << 29
LEASES_AN_EPOCH_BITS = 32
#: One slot in so many may go to trials, and one at least: what a child gets that nothing has reached stands until it is
#: given up, half a minute maybe, and nobody else has the slot.
SLOTS_A_TRIAL = 8


class Leases:
    """Law: a lease stands in all three indices or in none; a child has at most one lease on a piece; what is booked on
    a parent is the sum of its leases' costs, and into a zone come those of its children from elsewhere; every lease is
    looked at by its deadline; `trials` counts each parent's leases that are trials."""

    def __init__(self, slots: Slots, zones: Zones, epoch: int = 0) -> None:
        self._slots = slots
        self._zones = zones
        self._by_id: dict[LeaseId, LiveLease] = {}
        self._by_parent: dict[int, dict[LeaseId, LiveLease]] = {}
        #: task → piece → child → lease
        self._by_piece: dict[TaskId, dict[int, dict[int, LiveLease]]] = {}
        #: A chunk says its lease and no epoch: a late one of an earlier broker's lease must not meet one of ours.
        self._next_id = ((epoch % EPOCHS_APART) << LEASES_AN_EPOCH_BITS) + 1
        #: child → the parents it has had, a bit set: they are connected. A guess: peers come and go
        self.acquainted: dict[int, int] = {}
        self.looks = Looks()
        #: parent → its leases that are trials; only who has one
        self.trials: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def grant(
        self, task: TaskId, piece: int, child: int, parent: int, cost: int, now: float, seconds: float, patience: float,
        *, is_trial: bool = False,
    ) -> LiveLease:  # fmt: skip
        """Book a lease. The child must have none on this piece."""
        pieces = self._by_piece.get(task)
        if pieces is None:
            pieces = self._by_piece[task] = {}
        takers = pieces.get(piece)
        if takers is None:
            takers = pieces[piece] = {}
        if child in takers or child == parent:
            raise InvariantViolated(f"child {child} would take piece {piece} twice or from itself")
        above = takers.get(parent)
        depth = above.depth + 1 if above is not None else 0
        is_far = self._zones.is_far(child, parent)
        if is_far:
            self._zones.enters(task, child)
        lease_id = LeaseId(self._next_id)
        self._next_id += 1
        takers[child] = self._by_id[lease_id] = lease = LiveLease(
            lease_id, task, piece, child, parent, cost, now, now + seconds, now + min(seconds, patience), depth, is_far,
            is_trial,
        )  # fmt: skip
        self.looks.set(lease_id, lease.look_at)
        served = self._by_parent.get(parent)
        if served is None:
            self._by_parent[parent] = {lease_id: lease}
        else:
            served[lease_id] = lease
        self._slots.book(parent, cost)
        if is_trial:
            self.trials[parent] = self.trials.get(parent, 0) + 1
        self.acquainted[child] = self.acquainted.get(child, 0) | 1 << parent
        return lease

    def due(self, now: float) -> list[LiveLease]:
        """The leases to be looked at, those whose deadline has come first. Each is to be ended, or looked at again."""
        due = [lease for key in self.looks.due(now) if (lease := self._by_id.get(key)) is not None]
        return sorted(due, key=lambda lease: lease.expires_at > now)

    def look_again(self, lease: LiveLease, at: float) -> None:
        """It was looked at: then again, or when its deadline has come."""
        lease.look_at = min(at, lease.expires_at)
        self.looks.set(lease.id, lease.look_at)

    def weigh(self, lease: LiveLease, cost: int) -> None:
        """What it takes of its parent is another now, in thousandths of a slot."""
        self._slots.book(lease.parent, cost - lease.cost)
        lease.cost = cost

    def end(self, lease: LiveLease) -> None:
        """Take a lease out of the books and give the parent its slot back."""
        del self._by_id[lease.id]
        served = self._by_parent[lease.parent]
        del served[lease.id]
        if not served:
            del self._by_parent[lease.parent]
        pieces = self._by_piece[lease.task]
        takers = pieces[lease.piece]
        del takers[lease.child]
        if not takers:
            del pieces[lease.piece]
            if not pieces:
                del self._by_piece[lease.task]
        self._slots.book(lease.parent, -lease.cost)
        if lease.is_trial:
            self._end_trial(lease.parent)
        if lease.is_far:
            self._zones.entered(lease.task, lease.child)

    def _end_trial(self, parent: int) -> None:
        left = self.trials[parent] - 1
        if left:
            self.trials[parent] = left
        else:
            del self.trials[parent]

    def tried(self) -> int:
        """Parents with as many trials as they may have; a bit set."""
        capacity = self._slots.capacity
        return bitfield.of(p for p, n in self.trials.items() if n >= max(1, capacity[p] // (SLOTS_A_TRIAL * SLOT)))

    def forget(self, child: int) -> None:
        """The peer is gone; its leases were ended before. Whoever gets its index may be taken for an acquaintance of
        others, and costs them a connection."""
        self.acquainted.pop(child, None)

    def get(self, lease: LeaseId) -> LiveLease | None:
        """The live lease of this id."""
        return self._by_id.get(lease)

    def taking(self, task: TaskId, piece: int, child: int) -> LiveLease | None:
        """The child's lease on the piece."""
        pieces = self._by_piece.get(task)
        takers = pieces.get(piece) if pieces else None
        return takers.get(child) if takers else None

    def of_child(self, task: TaskId, child: int, pieces: int) -> list[LiveLease]:
        """The child's leases on these pieces, all of which it is taking."""
        by_piece = self._by_piece.get(task, _NONE)
        return [by_piece[piece][child] for piece in bitfield.members(pieces)]

    def of_pieces(self, task: TaskId) -> dict[int, dict[int, LiveLease]]:
        """Piece → child → lease of those that are being taken. Not to be changed."""
        return self._by_piece.get(task, _NONE)

    def of_parent(self, parent: int) -> list[LiveLease]:
        """Everything this peer is serving."""
        return list(self._by_parent.get(parent, {}).values())

    def of_task(self, task: TaskId) -> list[LiveLease]:
        """Every lease of a task."""
        return [lease for takers in self._by_piece.get(task, {}).values() for lease in takers.values()]

    def served_on(self, task: TaskId, piece: int, parent: int) -> list[LiveLease]:
        """The leases on this piece that this parent serves."""
        return [x for x in self.of_parent(parent) if x.piece == piece and x.task == task]

    def serves(self, task: TaskId, piece: int, parent: int) -> bool:
        """This parent serves this piece to somebody."""
        for lease in self._by_parent.get(parent, _NOBODY).values():
            if lease.piece == piece and lease.task == task:
                return True
        return False

    def served_pieces(self, task: TaskId, parent: int) -> int:
        """The pieces of the task that this parent serves to somebody."""
        pieces = 0
        for lease in self._by_parent.get(parent, _NOBODY).values():
            if lease.task == task:
                pieces |= 1 << lease.piece
        return pieces

    def ancestors(self, task: TaskId, piece: int, parent: int) -> Iterator[int]:
        """`parent`, the parent it takes the piece from itself, and so on; the last takes it from nobody."""
        takers = self._by_piece.get(task, {}).get(piece, {})
        at = parent
        while True:
            yield at
            lease = takers.get(at)
            if lease is None:
                return
            at = lease.parent

    def serving(self, parent: int) -> int:
        """How many streams this peer serves."""
        return len(self._by_parent.get(parent, ()))

    def __iter__(self) -> Iterator[LiveLease]:
        return iter(self._by_id.values())

    def check(self) -> None:
        """See the class's law; and no chain of parents closes a ring."""
        if sum(map(len, self._by_parent.values())) != len(self._by_id) or not all(self._by_parent.values()):
            raise InvariantViolated("leases by parent are not the leases")
        if sum(len(t) for p in self._by_piece.values() for t in p.values()) != len(self._by_id):
            raise InvariantViolated("leases by piece are not the leases")
        booked = dict.fromkeys(self._slots.booked, 0)
        for key, lease in self._by_id.items():
            booked[lease.parent] += lease.cost
            if key != lease.id or lease.look_at > lease.expires_at or not self.looks.has(key, lease.look_at):
                raise InvariantViolated(f"lease {key} is not looked at by its deadline")
            if self._by_parent[lease.parent].get(key) is not lease:
                raise InvariantViolated(f"lease {key} is not with its parent")
            self._check_ring(lease)
        if self.trials != Counter(lease.parent for lease in self if lease.is_trial):
            raise InvariantViolated(f"the trials are not {self.trials}")
        if booked != self._slots.booked:
            raise InvariantViolated(f"booked {self._slots.booked}, but the leases cost {booked}")
        self.looks.check()
        self._zones.check_entering((lease.task, lease.child) for lease in self._by_id.values() if lease.is_far)

    def _check_ring(self, lease: LiveLease) -> None:
        if self.taking(lease.task, lease.piece, lease.child) is not lease:
            raise InvariantViolated(f"lease {lease.id} is not the one its child has on piece {lease.piece}")
        seen = {lease.child}
        for at in self.ancestors(lease.task, lease.piece, lease.parent):
            if at in seen:
                raise InvariantViolated(f"the parents of piece {lease.piece} close a ring at {at}")
            seen.add(at)
