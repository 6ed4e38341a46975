"""The book of wants of one download: how many leases the broker owes us, as the broker counts them. It asks nobody."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from dfmq.errors import InvariantViolated
from dfmq.machines.peer.holding import Holding
from dfmq.machines.peer.inflow import Inflow
from dfmq.machines.peer.window import MOST_IN_FLIGHT
from dfmq.model.pieces import MOST_PIECES_KNOWN

#: Leases that are over, remembered so that a Revoke that crossed their end is counted right.
MOST_ENDED = 64


class Wants:
    """Law: once all that was said is heard, `owed` is what the broker has in its own book: Open states it, Want adds
    to it, a Grant takes off, a lease that failed or was revoked counts again, once."""

    def __init__(self) -> None:
        #: leases the broker owes us
        self.owed = 0
        #: whether the broker still counts the wants of a generation that is gone is not said: they are to be stated
        self.is_unsure = False
        #: leases from before the last Welcome: the broker may not know them
        self._doubtful: set[int] = set()
        #: lease that is over → whether the want it answered counts again already
        self._ended: dict[int, bool] = {}

    def state(self, count: int) -> None:
        """Open says so many."""
        self.owed = count
        self.is_unsure = False

    def granted(self, lease: int) -> None:
        """A want is answered."""
        self.owed = max(0, self.owed - 1)
        self._doubtful.discard(lease)

    def ended(self, lease: int, *, counts_again: bool) -> bool:
        """A lease is over, and we have said so. Whether the broker may not know it, so that all is to be stated."""
        self._note(lease, counts_again)
        self.owed += counts_again
        return counts_again and lease in self._doubtful

    def revoked(self, lease: int, *, was_live: bool) -> None:
        """The broker has taken a lease back, and counts its want again; if that crossed our own word, only once."""
        if was_live or not self._ended.get(lease, True):
            self._note(lease, True)
            self.owed += 1

    def _note(self, lease: int, counts_again: bool) -> None:
        self._ended.pop(lease, None)
        if len(self._ended) >= MOST_ENDED:
            del self._ended[next(iter(self._ended))]
        self._ended[lease] = counts_again

    def welcomed(self, leases: Iterable[int]) -> None:
        """A broker has us again; these leases are from before."""
        self._doubtful = set(leases)

    def forget_leases(self) -> None:
        """No lease of before means anything any more."""
        self._doubtful.clear()
        self._ended.clear()

    def room(self, in_flight: int, inflows: Collection[Inflow], early: int, holding: Holding | None) -> int:
        """Leases to want now, over those that we have (`early`: not begun yet) or are owed."""
        if holding is not None and holding.is_complete and holding.is_open:
            return 0
        landed = spares = 0
        for inflow in inflows:
            landed += inflow.has_landed
            spares += inflow.spare is not None
        taken = len(inflows) + early + self.owed
        # The broker counts a piece that has landed until we Have it, and keeps no more wants than these.
        room = min(in_flight - taken + landed, MOST_IN_FLIGHT - taken - spares)
        return max(0, min(room, self.left(len(inflows), early, holding)))

    def left(self, inflows: int, early: int, holding: Holding | None) -> int:
        """Pieces that nobody has, takes or owes; any number while it is not known how many there are."""
        if holding is None or holding.cut.length is None:
            return MOST_PIECES_KNOWN
        return holding.cut.count - holding.held.bit_count() - inflows - early - self.owed

    def check(self) -> None:
        """As far as one side can tell."""
        if self.owed < 0:
            raise InvariantViolated(f"the broker owes us {self.owed} leases")
