"""How long a lease may take before it is looked at: learnt from those that go well. What is done then is the
scheduler's."""

from __future__ import annotations

from collections.abc import Iterable

from dfmq.machines.broker.catalog import Member, Task
from dfmq.machines.broker.leases import LiveLease
from dfmq.machines.broker.rates import Rates

#: A lease that takes so many times as long as leases do that go well is moved, if there is a better parent. Measured by
#: simulation (400 peers, 10 % of them at a tenth of the rate and nobody's rate known at the start, mean / slowest of
#: the fast, in multiples of size/rate): 1.07 / 1.22; without moving 1.72 / 2.90.
PATIENCE = 2.5
#: and each time in a row that this brings nothing, twice as long
MOST_MOVES = 10
#: one that takes so many times as long as even that may never have reached its child: it is granted anew
OVERDUE = 4
#: seconds a lease is taken to need while nothing was measured
UNKNOWN_SECONDS = 0.4
#: how fast the estimate of what goes well follows a quicker lease, and a slower one
FOLLOWS_QUICKER, FOLLOWS_SLOWER = 0.3, 0.1


class Patience:
    """Of each child with its leases. What is learnt stands in the task (`usual_seconds`), its members have `moves`."""

    def __init__(self, rates: Rates) -> None:
        self._rates = rates

    def of(self, task: Task, child: int) -> float:
        """Seconds until a lease of the child is looked at."""
        usual = task.usual_seconds or self._rates.expected_seconds(child, task.cut.piece_length)
        return PATIENCE * (usual or UNKNOWN_SECONDS) * 2.0 ** task.members[child].moves

    def is_overdue(self, task: Task, lease: LiveLease, now: float) -> bool:
        """Its Grant may have been lost."""
        return now > lease.granted_at + OVERDUE * self.of(task, lease.child)

    def moved(self, member: Member) -> None:
        """One of the child's leases is moved to another parent."""
        member.moves = min(MOST_MOVES, member.moves + 1)

    def learn(self, task: Task, child: int, leases: Iterable[LiveLease], now: float) -> None:
        """These of the child's are done: how long they took is what others may expect. The estimate follows the quicker
        ones, so that it says what a piece takes when all goes well."""
        usual, quickest = task.usual_seconds, now
        for lease in leases:
            took = now - lease.granted_at
            quickest = min(quickest, took)
            follows = FOLLOWS_QUICKER if took < usual else FOLLOWS_SLOWER
            usual = usual + (took - usual) * follows if usual else took
        task.usual_seconds = usual
        member = task.members.get(child)
        if member is not None and quickest < PATIENCE * usual:
            member.moves = 0
