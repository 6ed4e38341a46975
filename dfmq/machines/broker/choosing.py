"""What could be granted now, and the best of it. Reads the books and changes none; the order of preference is in
ranking."""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterable, Iterator
from itertools import islice

from dfmq.machines.broker import ranking
from dfmq.machines.broker.catalog import Task
from dfmq.machines.broker.health import Health
from dfmq.machines.broker.leases import Leases, LiveLease
from dfmq.machines.broker.rates import Rates
from dfmq.machines.broker.slots import Slots
from dfmq.machines.broker.zones import EVERYBODY, Zones
from dfmq.model import bitfield

#: whole holders with room that are looked at for a lease that drags
SAMPLED_RELIEF = 4

#: (piece, parent)
Choice = tuple[int, int]


class Choosing:
    """Law: what it proposes may be granted: the parent has room, holds the piece or is taking it, is not the child, not
    in quarantine, and its own parents lead to somebody who holds the piece and not to the child. A parent that is on
    probation, or slower than the child, is proposed only for a piece that nobody better holds whole. A parent in
    another zone is proposed only for a piece that nobody good in the child's zone holds or is getting, or only such
    as are too meagre to wait for. A child that is unreached is proposed no parent that has its share of trials."""

    def __init__(
        self, leases: Leases, slots: Slots, rates: Rates, health: Health, zones: Zones, rng: random.Random
    ) -> None:
        self._leases = leases
        self._slots = slots
        self._rates = rates
        self._health = health
        self._zones = zones
        self._rng = rng

    # ── for a child ──────────────────────────────────────────────────────────────────────────────────────────────

    def choices(self, task: Task, child: int) -> Iterator[Choice]:
        """Pieces and their parents for the child, one after the other, until there is nothing at all. Each must be
        granted before the next is asked for. Sampled; only when that finds nothing, everything is looked at."""
        while (lacking := task.lacking(child)) and (room := self._parents(task, child)):
            doubtful = self._doubtful(child)
            later = task.members[child].shunned | self._rates.unwelcome_to(child)
            good, is_found = room & ~(doubtful | later), False
            if good:
                few = ranking.sample(lacking, ranking.SAMPLED_PIECES, self._rng)
                candidates = self._candidates(task, child, few, good)
                for choice in islice(self._ranked(task, child, candidates), ranking.TAKEN_OF_A_SAMPLE):
                    is_found = True
                    yield choice
            if not is_found:
                found = self._found_at_last(task, child, lacking, good, room & later & ~doubtful, room & doubtful)
                if found is None:
                    return
                yield found

    def _found_at_last(
        self, task: Task, child: int, lacking: int, good: int, later: int, doubtful: int
    ) -> Choice | None:
        """A choice nobody can miss. Parents that failed the child, or are slow, come later."""
        for parents in (good, later):
            if parents and (found := self._best_of_all(task, child, lacking, parents)):
                return found
        if not doubtful:
            return None
        only_there = bitfield.of(p for p in bitfield.members(lacking) if self._last_resorts(task, child, p))
        return self._best_of_all(task, child, only_there, doubtful, are_doubtful=True)

    def _parents(self, task: Task, child: int) -> int:
        """Peers with room that may serve the child something."""
        room, near = self._slots.room & ~(1 << child | self._tried(child)), self._zones.near(child)
        if near != EVERYBODY and not self._zones.has_way_in(task.id, self._zones.of(child)):
            return room & near
        return room

    def _tried(self, child: int) -> int:
        """Parents that have no slot for one like this child, a bit set."""
        return self._leases.tried() if self._health.unreached >> child & 1 else 0

    def _doubtful(self, child: int) -> int:
        return self._health.suspected | self._rates.slower_than(child)

    def _candidates(
        self, task: Task, child: int, pieces: Iterable[int], parents: int, *, are_doubtful: bool = False
    ) -> list[ranking.Candidate]:
        """Some of these parents for each of these pieces they could give. All of them are doubtful, or none."""
        whole, taken, takers_of = task.whole, task.taken, self._leases.of_pieces(task.id)
        level_of, chance, candidates = self._slots.level_of, self._rng.random, []
        whole_only = self._rates.slow | self._health.barred | self._health.unreached
        far = parents & ~self._zones.near(child)
        acquainted = self._leases.acquainted.get(child, 0)
        if acquainted.bit_count() < ranking.ENOUGH_PARENTS:
            acquainted = 0
        for piece in pieces:
            holders = whole[piece]
            if piece in taken:
                holders |= taken[piece] & ~whole_only if whole_only else taken[piece]
            possible = holders & parents
            if possible & far:
                possible &= self._field(task, child, piece)
            if are_doubtful and possible:
                possible &= self._last_resorts(task, child, piece)
            if not possible:
                continue
            rarity, takers = holders.bit_count(), takers_of.get(piece)
            is_new = 0
            if acquainted:
                if known := possible & acquainted:
                    possible = known
                else:
                    is_new = 1
            at = int(chance() * possible.bit_length())
            rest = possible >> at
            for _ in range(ranking.SAMPLED_HOLDERS):
                if not rest:
                    at, rest = 0, possible
                step = (rest ^ (rest - 1)).bit_length()
                at, rest = at + step, rest >> step
                parent = at - 1
                depth = takers[parent].depth + 1 if takers and parent in takers else 0
                candidates.append((is_new, level_of[parent], depth, rarity, chance(), piece, parent))
        return candidates

    def _ranked(self, task: Task, child: int, candidates: list[ranking.Candidate]) -> Iterator[Choice]:
        """The best candidates first, of those whose own parents lead to a whole holder and not to the child. A parent
        that was granted from meanwhile stands where it belongs now."""
        level_of, taken, near = self._slots.level_of, 0, self._zones.near(child)
        heapq.heapify(candidates)
        while candidates:
            is_new, level, depth, rarity, chance, piece, parent = heapq.heappop(candidates)
            if taken >> piece & 1:
                continue
            if (now := level_of[parent]) != level:
                if now >= 0:
                    heapq.heappush(candidates, (is_new, now, depth, rarity, chance, piece, parent))
            elif not near >> parent & 1 and not self._reaches(task, child, parent):
                # What was granted meanwhile has taken the last way in.
                continue
            elif self._leads_home(task, child, piece, parent):
                taken |= 1 << piece
                yield piece, parent

    def _best_of_all(
        self, task: Task, child: int, lacking: int, parents: int, *, are_doubtful: bool = False
    ) -> Choice | None:
        """The best over all lacking pieces, missing none; by parent instead of by piece where these are fewer. All of
        the parents are doubtful, or none."""
        if lacking.bit_count() <= parents.bit_count():
            pieces = bitfield.members(lacking)
            candidates = self._candidates(task, child, pieces, parents, are_doubtful=are_doubtful)
            if not candidates:
                # Nobody among these holds or takes any of them.
                return None
            found = next(self._ranked(task, child, candidates), None)
            if found:
                return found
            givers = 0
            for piece in bitfield.members(lacking):
                givers |= task.whole[piece] | task.taken.get(piece, 0)
            parents &= givers
        for parent in bitfield.members(parents):
            offered = self.offered(task, parent) & lacking
            is_sure = not (are_doubtful or self._zones.is_far(child, parent))
            if is_sure and (whole := offered & task.held.get(parent, 0)):
                return ranking.pick(whole, self._rng), parent
            for piece in bitfield.members(offered):
                if self.may(task, child, piece, parent):
                    return piece, parent
        return None

    # ── for a parent ─────────────────────────────────────────────────────────────────────────────────────────────

    def offered(self, task: Task, parent: int) -> int:
        """The pieces this peer could give: what it holds and, unless it is slow or unreached, what it is taking."""
        if self._health.barred >> parent & 1:
            return 0
        pieces = task.held.get(parent, 0)
        if not (self._rates.slow | self._health.unreached) >> parent & 1:
            pieces |= task.taking.get(parent, 0)
        return pieces & task.available

    def from_parent(self, task: Task, child: int, parent: int, offered: int) -> int | None:
        """The rarest of some pieces this parent may serve to this child; if it may serve any, one is found."""
        fitting = offered & ~(task.held.get(child, 0) | task.taking.get(child, 0))
        if not fitting or child == parent:
            return None
        few = ranking.sample(fitting, ranking.SAMPLED_PIECES, self._rng)
        for pieces in (sorted(few, key=lambda piece: self._rarity(task, piece)), bitfield.members(fitting)):
            for piece in pieces:
                if self.may(task, child, piece, parent):
                    return piece
        return None

    @staticmethod
    def _rarity(task: Task, piece: int) -> int:
        return task.whole[piece].bit_count() + task.taken.get(piece, 0).bit_count()

    def may(self, task: Task, child: int, piece: int, parent: int) -> bool:
        """This parent, which offers the piece and has room, may serve it to this child."""
        if not self._field(task, child, piece) >> parent & 1 or not self._reaches(task, child, parent):
            return False
        if self._tried(child) >> parent & 1:
            return False
        if self._doubtful(child) >> parent & 1 and not self._last_resorts(task, child, piece) >> parent & 1:
            return False
        return self._leads_home(task, child, piece, parent)

    def _reaches(self, task: Task, child: int, parent: int) -> bool:
        """The parent stands in the child's zone, or something may come in from elsewhere now."""
        return not self._zones.is_far(child, parent) or self._zones.has_way_in(task.id, self._zones.of(child))

    def _field(self, task: Task, child: int, piece: int) -> int:
        """Among whom a parent for the piece is looked for: in the child's zone, when somebody good there holds it or is
        getting it and may pass it on, even if the child has to wait for room; else everybody. A bit set."""
        near = self._zones.near(child)
        if near == EVERYBODY:
            return near
        good, suffice = near & ~(self._unfit_for_a_zone() | 1 << child), self._zones.suffice
        if suffice(holders := task.whole.get(piece, 0) & good & ~task.members[child].shunned):
            return near
        # Who is getting it and failed the child, waits itself for what comes in.
        for taker in bitfield.members(task.taken.get(piece, 0) & good & ~self._health.unreached):
            if self._leads_home(task, child, piece, taker) and suffice(holders := holders | 1 << taker):
                return near
        return EVERYBODY

    def _last_resorts(self, task: Task, child: int, piece: int) -> int:
        """Which doubtful parents may serve the piece, a bit set: of the good holders in the child's zone the slower
        ones, where there is no other or they are too meagre to wait for; and any, where nobody better holds it
        anywhere. That the zone is getting it makes no doubtful one better: the child waits."""
        doubtful, whole, near = self._doubtful(child), task.whole[piece] & ~(1 << child), self._zones.near(child)
        if near != EVERYBODY:
            good = whole & near & ~(self._unfit_for_a_zone() | task.members[child].shunned)
            if self._zones.suffice(good):
                return 0 if good & ~doubtful else good
            if good and whole & ~doubtful:
                return good
        return 0 if whole & ~doubtful else EVERYBODY

    def _unfit_for_a_zone(self) -> int:
        """Whose holding a piece, or getting it, is no reason for their zone to wait for them; a bit set. Who is in
        quarantine gets pieces like everybody, and may pass on none."""
        return self._health.suspected | self._health.barred | self._rates.slow

    def may_enter(self, task: Task, zone: int, pieces: int) -> int:
        """Which of these pieces may have to come into the zone, and could: nobody good there holds them, or only such
        as are too meagre to wait for, and somebody elsewhere has them and room, or one there who is no good one. Maybe
        some more."""
        near, room = self._zones.peers_of(zone), self._slots.room
        good, far = near & ~self._unfit_for_a_zone(), room & ~near
        whole, taken = task.whole, task.taken
        return bitfield.of(
            piece
            for piece in bitfield.members(pieces)
            if not self._zones.suffice((held := whole.get(piece, 0)) & good)
            and (held & room or taken.get(piece, 0) & far)
        )

    def _leads_home(self, task: Task, child: int, piece: int, parent: int) -> bool:
        """The chain of parents for the piece ends at somebody who holds it, and the child is not in it."""
        whole = task.whole.get(piece, 0)
        if whole >> parent & 1:
            return True
        last = parent
        for last in self._leases.ancestors(task.id, piece, parent):
            if last == child:
                return False
        return bool(whole >> last & 1)

    # ── for a lease that drags ───────────────────────────────────────────────────────────────────────────────────

    def relief(self, task: Task, lease: LiveLease, *, is_overdue: bool = False) -> int | None:
        """A whole holder with room that will do better than the lease's parent: one that waits itself, or is slow or
        doubtful, is beaten by any; another only by one that is less loaded. From one zone into another only from a
        parent that stands elsewhere itself and has failed others, or has not got the piece whole; and from one that is
        meagre, where nobody near is to be waited for. `is_overdue`: where a near holder is not to be left for others,
        the lease may be tried again with itself."""
        suspected = self._health.suspected
        unfit = suspected | self._rates.unwelcome_to(lease.child) | self._tried(lease.child)
        whole = task.whole.get(lease.piece, 0)
        good = whole & self._slots.room & ~(unfit | 1 << lease.child | 1 << lease.parent)
        near, levels = self._zones.near(lease.child), self._slots.level_of
        if lease.is_far and good & near:
            return self._least_loaded(good & near)
        if lease.is_far:
            if not (suspected | ~whole) >> lease.parent & 1 or self._field(task, lease.child, lease.piece) == near:
                return None
        elif (
            not self._zones.meagre >> lease.parent & 1
            or not self._zones.has_way_in(task.id, self._zones.of(lease.child))
            or self._field(task, lease.child, lease.piece) == near
        ):
            good &= near
        if not good:
            can_give = whole & near & ~(suspected | self._health.barred)
            return lease.parent if is_overdue and can_give >> lease.parent & 1 and near != EVERYBODY else None
        found = self._least_loaded(good)
        if (unfit | ~whole) >> lease.parent & 1:
            return found
        here = levels[lease.parent]
        return found if here < 0 or levels[found] < here else None

    def _least_loaded(self, peers: int) -> int:
        return min(ranking.sample(peers, SAMPLED_RELIEF, self._rng), key=lambda peer: self._slots.level_of[peer])

    # ── for check() ──────────────────────────────────────────────────────────────────────────────────────────────

    def is_grantable(self, task: Task, child: int) -> bool:
        """Slow and exact: is there a piece and a parent for the child now?"""
        for parent in bitfield.members(self._slots.room & ~(1 << child)):
            for piece in bitfield.members(self.offered(task, parent) & task.lacking(child)):
                if self.may(task, child, piece, parent):
                    return True
        return False
