"""Credit given to parents: how much may be out on this host, and how fast. What one inflow is owed stands in inflow."""

from __future__ import annotations

from dfmq.errors import InvariantViolated
from dfmq.machines.effects import PeerEffect
from dfmq.machines.peer.alarm import Alarm
from dfmq.machines.peer.inflow import Inflow
from dfmq.machines.peer.limits import TokenBucket
from dfmq.machines.peer.window import Window

#: Less could not hold one window of the largest chunks.
LEAST_CEILING = 8 << 20


class Purse:
    """All credit of this host.

    Law: `out` = Σ over live inflows of (given − returned), and ≤ the ceiling; a inflow that is owed credit either has
    got it or stands in the queue. Whoever is held up by its own limit holds up nobody else.
    """

    def __init__(self, window: Window, ceiling: int, down_limit: int, alarm: Alarm) -> None:
        """`ceiling`: bytes that may be on their way or not yet stored, so that a slow disk stops the net."""
        self.inbox = ""
        self.out = 0
        self._window = window
        self._ceiling = max(LEAST_CEILING, ceiling)
        self._bucket = TokenBucket(down_limit) if down_limit else None
        self._queue: dict[int, Inflow] = {}
        self._alarm = alarm
        self._due_at: float | None = None

    def owe(self, inflow: Inflow, now: float) -> list[PeerEffect]:
        """Give the inflow what it is owed, or let it wait in turn."""
        due = inflow.due(self._window.credit(inflow.chunk_length))
        if due == 0:
            return []
        if not self._queue and self._bucket is None and inflow.owner.bucket is None and self.out + due <= self._ceiling:
            self.out += due
            return [inflow.give(due, self.inbox, now)]
        self._queue[inflow.lease.lease] = inflow
        return self.serve(now)

    def spent(self, amount: int, now: float) -> None:
        """Bytes came in by another way than a lease: the host's limit is theirs too."""
        if self._bucket is not None:
            self._bucket.take(amount, now)

    def returned(self, amount: int) -> None:
        """Bytes came back: stored, or thrown away."""
        self.out -= amount

    def settle(self, inflow: Inflow, now: float) -> None:
        """The inflow is over; what it was given is void."""
        self.out -= inflow.given - inflow.returned
        self._queue.pop(inflow.lease.lease, None)
        unused = inflow.given - inflow.received
        for bucket in (self._bucket, inflow.owner.bucket):
            if bucket is not None and unused:
                bucket.take(-unused, now)

    def serve(self, now: float) -> list[PeerEffect]:
        """Give the waiting inflows a chunk each in turn, as long as anything may be given."""
        amounts: dict[int, int] = {}
        self._due_at = None
        turn = list(self._queue.values())
        while turn:
            turn = [inflow for inflow in turn if self._one_chunk(inflow, amounts, now)]
        effects: list[PeerEffect] = []
        for lease, amount in amounts.items():
            inflow = self._queue[lease]
            effects.append(inflow.give(amount, self.inbox, now))
            if inflow.due(self._window.credit(inflow.chunk_length)) == 0:
                del self._queue[lease]
        return effects

    def _one_chunk(self, inflow: Inflow, amounts: dict[int, int], now: float) -> bool:
        """Whether the inflow was given a chunk more; if not, it has all, or waits."""
        lease = inflow.lease.lease
        given = amounts.get(lease, 0)
        due = inflow.due(self._window.credit(inflow.chunk_length)) - given
        if due <= 0:
            if not given:
                del self._queue[lease]
            return False
        chunk = min(due, inflow.chunk_length)
        if self.out + chunk > self._ceiling:
            return False
        wait = 0.0
        buckets = [bucket for bucket in (self._bucket, inflow.owner.bucket) if bucket is not None]
        for bucket in buckets:
            wait = max(wait, bucket.ready_in(chunk, now))
        if wait > 0.0:
            at = self._alarm.by(now + wait)
            self._due_at = at if self._due_at is None else min(self._due_at, at)
            return False
        for bucket in buckets:
            bucket.take(chunk, now)
        self.out += chunk
        amounts[lease] = given + chunk
        return True

    def next_deadline(self) -> float | None:
        """When a limit lets the next chunk through."""
        return self._due_at

    def deadline(self, now: float) -> list[PeerEffect]:
        """The time has come, maybe."""
        return self.serve(now) if self._due_at is not None and now >= self._due_at else []

    @property
    def has_waiting(self) -> bool:
        """Somebody waits for credit."""
        return bool(self._queue)

    def check(self, inflows: dict[int, Inflow]) -> None:
        """See the class's law."""
        out = sum(inflow.given - inflow.returned for inflow in inflows.values())
        if out != self.out or not 0 <= out <= self._ceiling:
            raise InvariantViolated(f"purse: {self.out} bytes out, the inflows say {out}, ceiling {self._ceiling}")
        for lease, inflow in self._queue.items():
            if inflows.get(lease) is not inflow:
                raise InvariantViolated(f"purse: lease {lease} waits for credit and is not live")
        for lease, inflow in inflows.items():
            if lease not in self._queue and inflow.due(self._window.credit(inflow.chunk_length)) > 0:
                raise InvariantViolated(f"purse: lease {lease} is owed credit and does not wait for it")
