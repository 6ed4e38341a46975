"""Who stands near whom, and how much is on its way from one zone into another. What follows from it is in choosing."""

from __future__ import annotations

from collections.abc import Iterable

from dfmq.errors import InvariantViolated
from dfmq.model import bitfield
from dfmq.model.ids import TaskId

#: every peer there can be
EVERYBODY = -1
#: Leases of a task that bring something into a zone at once: what four children have in flight (rates), four times what
#: the zone needs to be as fast as one of its hosts. Behind a link that is thinner so many would stall one another: each
#: that stalls halves the number, each that is done adds one, or takes one away where it was slow.
MOST_ENTERING = 12.0
LEAST_ENTERING = 4.0
MORE_ENTERING = 1.0
#: A peer that may send less than a quarter of what one lease brings into its zone is nobody to wait for, unless enough
#: of them hold a piece to send that together. What a lease brings follows the leases by steps of half.
MEAGRE_SHARE = 4
STEP = 1.5


class Zones:
    """Law: every peer stands in one zone, and a zone without a peer is forgotten; peers that named none stand in one
    together. No more than MOST_ENTERING leases of a task come into a zone from others. Meagre is who is told to send
    less than a quarter of what a lease brings into its zone, or, while that is not known, to send no more than so
    much."""

    def __init__(self) -> None:
        #: name → number; numbers are not used again
        self._numbers: dict[str, int] = {}
        self._next = 0
        #: peer → zone
        self._of: dict[int, int] = {}
        #: zone → its peers, a bit set of roster indices
        self._peers: dict[int, int] = {}
        #: (task, zone) → live leases of children there on parents elsewhere
        self._entering: dict[tuple[TaskId, int], int] = {}
        #: zone → leases of a task that may come in at once
        self._may_enter: dict[int, float] = {}
        #: zone → bytes per second that one of them brings when all goes well
        self._best: dict[int, float] = {}
        #: the same, as peers are judged by it
        self._yardstick: dict[int, float] = {}
        #: peer → what it was told to send at most, bytes per second
        self._limits: dict[int, int] = {}
        #: whom nobody in its zone need wait for, a bit set
        self.meagre = 0

    def join(self, index: int, name: str, up_limit: int = 0) -> int:
        """A peer that stands there, and sends so many bytes per second at most (0: as it can); the zone's number."""
        zone = self._numbers.setdefault(name, self._next)
        if zone == self._next:
            self._next += 1
            self._may_enter[zone] = LEAST_ENTERING
        self._of[index] = zone
        self._peers[zone] = self._peers.get(zone, 0) | 1 << index
        if up_limit:
            self._limits[index] = up_limit
            self._judge(index)
        return zone

    def leave(self, index: int) -> None:
        """The peer is gone; its leases were ended before."""
        zone = self._of.pop(index)
        self._peers[zone] &= ~(1 << index)
        self.meagre &= ~(1 << index)
        self._limits.pop(index, None)
        if not self._peers[zone]:
            del self._peers[zone]
            del self._may_enter[zone]
            self._best.pop(zone, None)
            self._yardstick.pop(zone, None)
            self._numbers = {name: number for name, number in self._numbers.items() if number != zone}

    # ── near and far ─────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def are_several(self) -> bool:
        """There is a near and a far."""
        return len(self._peers) > 1

    def all(self) -> list[int]:
        """Every zone."""
        return list(self._peers)

    def of(self, index: int) -> int:
        """Where the peer stands."""
        return self._of[index]

    def near(self, index: int) -> int:
        """The peers of this one's zone, itself too; a bit set."""
        return self._peers[self._of[index]] if len(self._peers) > 1 else EVERYBODY

    def peers_of(self, zone: int) -> int:
        """The peers of a zone; none if it is gone."""
        return self._peers.get(zone, 0)

    def is_far(self, child: int, parent: int) -> bool:
        """They stand in different zones."""
        return self._of[child] != self._of[parent]

    def suffice(self, peers: int) -> bool:
        """Whether these, all of one zone, are worth waiting for: one of them is not meagre, or they send enough
        together. A bit set."""
        if not peers & self.meagre:
            return peers != 0
        if peers & ~self.meagre:
            return True
        together = sum(self._limits[index] for index in bitfield.members(peers))
        return MEAGRE_SHARE * together >= self._mark(self._of[peers.bit_length() - 1])

    def _mark(self, zone: int) -> float:
        return self._yardstick.get(zone, float("inf"))

    def _judge(self, index: int) -> None:
        if MEAGRE_SHARE * self._limits[index] < self._mark(self._of[index]):
            self.meagre |= 1 << index
        else:
            self.meagre &= ~(1 << index)

    # ── what comes in ────────────────────────────────────────────────────────────────────────────────────────────

    def enters(self, task: TaskId, child: int) -> None:
        """The child takes something from afar."""
        key = task, self._of[child]
        self._entering[key] = self._entering.get(key, 0) + 1

    def entered(self, task: TaskId, child: int) -> None:
        """It takes that no more."""
        key = task, self._of[child]
        if self._entering[key] > 1:
            self._entering[key] -= 1
        else:
            del self._entering[key]

    def has_way_in(self, task: TaskId, zone: int) -> bool:
        """One more lease may bring something into the zone."""
        return self._entering.get((task, zone), 0) < self._may_enter[zone]

    def narrow(self, child: int) -> None:
        """A lease of this child on a parent elsewhere came to nothing: the way in may be too thin for so many."""
        zone = self._of[child]
        self._may_enter[zone] = max(LEAST_ENTERING, self._may_enter[zone] / 2)

    def widen(self, child: int, rate: float) -> bool:
        """A lease of this child on a parent elsewhere is done, and brought so many bytes per second: more of them at
        once are of use while each is as quick as fewer were. Whether there may be more now, of any task."""
        zone = self._of[child]
        best = self._best.get(zone, 0.0)
        now = self._best[zone] = rate if rate > best else best + (rate - best) / 16
        mark = self._yardstick.get(zone, 0.0)
        if not mark / STEP < now < mark * STEP:
            self._yardstick[zone] = now
            for index in self._limits:
                if self._of[index] == zone:
                    self._judge(index)
        step = MORE_ENTERING if 2 * rate > best else -MORE_ENTERING
        before = self._may_enter[zone]
        self._may_enter[zone] = max(LEAST_ENTERING, min(MOST_ENTERING, before + step))
        return self._may_enter[zone] > before or self._yardstick[zone] > mark

    # ── laws ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def check(self) -> None:
        """See the class's law."""
        peers: dict[int, int] = {}
        for index, zone in self._of.items():
            peers[zone] = peers.get(zone, 0) | 1 << index
        if peers != self._peers or sorted(peers) != sorted(self._numbers.values()):
            raise InvariantViolated("the zones' peers are not those that stand there")
        meagre = (i for i, most in self._limits.items() if MEAGRE_SHARE * most < self._mark(self._of[i]))
        if bitfield.of(meagre) != self.meagre:
            raise InvariantViolated(f"{self.meagre:b} are taken for meagre, and may send {self._limits}")
        if any(not 0 < count <= MOST_ENTERING for count in self._entering.values()):
            raise InvariantViolated(f"into zones come {self._entering}")
        if any(not LEAST_ENTERING <= most <= MOST_ENTERING for most in self._may_enter.values()):
            raise InvariantViolated(f"into zones may come {self._may_enter}")

    def check_entering(self, far: Iterable[tuple[TaskId, int]]) -> None:
        """The task and the child of every lease on a parent elsewhere: these are what is counted."""
        expected: dict[tuple[TaskId, int], int] = {}
        for task, child in far:
            key = task, self._of[child]
            expected[key] = expected.get(key, 0) + 1
        if expected != self._entering:
            raise InvariantViolated(f"into zones come {self._entering}, and the leases say {expected}")
