"""Chunks coming in under leases: proven by comparison, stored, credited, missed when they stay away. Every chunk passes
here, so this is the hot path. Knows no broker; what a piece is wanted for is in download."""

from __future__ import annotations

from collections.abc import Iterable

from dfmq.errors import InvariantViolated
from dfmq.machines.effects import AskParent, PeerEffect, Record, StoreChunk
from dfmq.machines.events import ChunkArrived
from dfmq.machines.peer.alarm import Alarm, AlarmedDeadlines
from dfmq.machines.peer.holding import Holding, Holdings
from dfmq.machines.peer.inflow import Inflow, Owner
from dfmq.machines.peer.limits import RateMeter
from dfmq.machines.peer.purse import Purse
from dfmq.machines.peer.window import Window
from dfmq.model.ids import TaskId
from dfmq.wire.messages import Lease, Stop

#: Leases that are over and whose late chunks are still welcome ("hedging").
MOST_PAST = 256
#: Seconds until an inflow is looked at again at the latest: how long it may stay away follows how the others fare, and
#: what was right while the way was cut would be waited for long after it is whole again.
LOOK_SECONDS = 1.0
#: Seconds: called so much later than asked for, we were asleep ourselves, and chunks may lie unread.
ASLEEP_SECONDS = 0.5


class Intake:
    """All live inflows of this host.

    Law: `inflows` names each inflow by its lease and agrees with its owner's book by piece; nothing is given to the
    store that was not proven against the proofs of the holding's generation.
    """

    def __init__(self, holdings: Holdings, window: Window, purse: Purse, alarm: Alarm, remembered: int = 0) -> None:
        """`remembered`: bytes per second that an earlier life of this peer received."""
        self.inflows: dict[int, Inflow] = {}
        self.purse = purse
        self.window = window
        #: bytes per second of the whole host, through leases
        self.meter = RateMeter(remembered)
        self._holdings = holdings
        self._past: dict[int, Inflow] = {}
        #: bytes per second that may be sent, as far as it is known; as the machine last saw it
        self.up_rate = 0
        #: downloads that share the way in
        self.downloads = 0
        self._stalls: AlarmedDeadlines[int] = AlarmedDeadlines(alarm)

    def rate_each(self, now: float) -> int:
        """Bytes per second one download may hope for; 0 unknown."""
        return self.meter.rate(now) // max(1, self.downloads)

    def begin(self, lease: Lease, owner: Owner, holding: Holding, now: float, *, is_own: bool) -> list[PeerEffect]:
        """Take the piece from the parent. Chunks that are here already are not asked for."""
        assembly = holding.gather(lease.piece, lease.proofs)
        inflow = Inflow(lease, owner, holding, assembly, is_own=is_own)
        self.inflows[lease.lease] = inflow
        self._past.pop(lease.lease, None)
        if not inflow.wanted:
            return []
        self._stalls.set(lease.lease, now + LOOK_SECONDS)
        return self.purse.owe(inflow, now)

    def arrived(self, event: ChunkArrived, now: float) -> list[PeerEffect]:
        """A chunk came into the inbox."""
        inflow = self.inflows.get(event.lease)
        chunk, length = event.chunk, event.length
        if inflow is None or inflow.piece != event.piece or chunk >= inflow.assembly.count:
            return self._stray(event, now)
        assembly, owner = inflow.assembly, inflow.owner
        if assembly.proofs.get(chunk) != event.digest or length != inflow.length_of(chunk):
            return self._rejected(inflow, event, "corrupt", "not what the broker's digest names", now)
        is_first, asked_at = not inflow.received, inflow.heard_at
        if not inflow.take(length, now):
            return self._rejected(inflow, event, "refused", "sent beyond its credit", now)
        if is_first:
            self.window.answered(now - asked_at)
        self.meter.add(length, now)
        if assembly.proven >> chunk & 1:
            self.purse.returned(length)
            # Where late chunks of another lease have brought the whole piece, its parent sends all of it in good faith.
            if not inflow.waste(length) and not inflow.has_landed:
                return self._rejected(inflow, event, "refused", "sent a whole piece that was here already", now)
            return self.purse.owe(inflow, now)
        assembly.add(chunk, event.payload)
        inflow.unstored |= 1 << chunk
        if inflow.lease.seed:
            owner.tally.from_seed += length
        else:
            owner.tally.from_peers += length
        has_landed = assembly.proven == assembly.everything
        store = StoreChunk(
            owner.task,
            inflow.generation,
            inflow.piece,
            chunk,
            inflow.offset + chunk * inflow.chunk_length,
            event.digest,
            event.payload,
            not has_landed and self._may_wait(inflow),
        )
        if has_landed:
            owner.tally.gap = inflow.gap
            return [store, *owner.landed(inflow, now)]
        return [store]

    def _may_wait(self, inflow: Inflow) -> bool:
        """Its parent is not soon out of credit, which comes back with what is written; or needs no more."""
        unwritten = inflow.received - inflow.returned
        return inflow.given == inflow.need or 2 * unwritten < self.window.credit(inflow.chunk_length)

    def _stray(self, event: ChunkArrived, now: float) -> list[PeerEffect]:
        """A chunk under a lease that is over, or is another piece's by now: welcome if it is missing and proves."""
        inflow = self._past.get(event.lease)
        piece, chunk = event.piece, event.chunk
        holding = self._holdings.get(inflow.owner.task) if inflow is not None else None
        assembly = holding.assemblies.get(piece) if holding is not None else None
        if (
            inflow is None
            or holding is None
            or assembly is None
            or chunk >= assembly.count
            or assembly.proven >> chunk & 1
            or not assembly.is_true(chunk, event.digest)
            or holding.cut.chunk_span(piece, chunk)[1] != event.length
        ):
            return []
        owner = inflow.owner
        assembly.add(chunk, event.payload)
        if inflow.lease.seed:
            owner.tally.from_seed += event.length
        else:
            owner.tally.from_peers += event.length
        offset = holding.cut.chunk_span(piece, chunk)[0]
        generation = holding.content.generation
        effects: list[PeerEffect] = [
            StoreChunk(owner.task, generation, piece, chunk, offset, event.digest, event.payload)
        ]
        live = owner.inflow_of(piece)
        if live is not None and live.has_landed:
            effects += owner.landed(live, now)
        return effects

    def _rejected(self, inflow: Inflow, event: ChunkArrived, code: str, why: str, now: float) -> list[PeerEffect]:
        fields = {
            "task": inflow.owner.task,
            "lease": event.lease,
            "piece": event.piece,
            "chunk": event.chunk,
            "parent": inflow.lease.parent,
            "why": why,
        }
        text = f"chunk {event.chunk} of {event.length} bytes: {why}"
        return [Record("chunk.rejected", fields), *inflow.owner.failed(inflow, code, text, now)]

    def stored(self, inflow: Inflow, chunk: int) -> None:
        """The chunk is on disk; its credit comes back. `settled` gives it out again."""
        back = inflow.stored(chunk)
        if back:
            self.purse.returned(back)

    def settled(self, inflows: Iterable[Inflow], now: float) -> list[PeerEffect]:
        """After a batch of stored chunks: credit for these inflows, and for whoever waits for room."""
        effects: list[PeerEffect] = []
        for inflow in inflows:
            if inflow.given < inflow.need and inflow.lease.lease in self.inflows:
                effects += self.purse.owe(inflow, now)
        if self.purse.has_waiting:
            effects += self.purse.serve(now)
        return effects

    def end(self, inflow: Inflow, code: str, now: float) -> list[PeerEffect]:
        """The lease is over, for us. The parent is told to stop if it may still send; "" it knows."""
        lease = inflow.lease.lease
        del self.inflows[lease]
        self._stalls.clear(lease)
        still_comes = inflow.is_asked and inflow.received < inflow.need
        self.purse.settle(inflow, now)
        if still_comes:
            if len(self._past) >= MOST_PAST:
                del self._past[next(iter(self._past))]
            self._past[lease] = inflow
            if code:
                return [AskParent(inflow.lease.endpoint, Stop(lease=lease, code=code))]
        return []

    def forget(self, task: TaskId) -> None:
        """Late chunks of this task are not wanted any more."""
        for lease in [lease for lease, inflow in self._past.items() if inflow.owner.task == task]:
            del self._past[lease]

    def pressed(self, now: float) -> list[PeerEffect]:
        """The window has changed: whoever is owed more now gets it."""
        effects: list[PeerEffect] = []
        for inflow in list(self.inflows.values()):
            effects += self.purse.owe(inflow, now)
        return effects

    def next_deadline(self) -> float | None:
        """When a inflow may have stalled."""
        return self._stalls.next()

    def deadline(self, now: float) -> list[PeerEffect]:
        """Give up the inflows that have stalled."""
        asked_at = self._stalls.next()
        if asked_at is None or asked_at > now:
            return []
        was_asleep = now - asked_at > ASLEEP_SECONDS
        effects: list[PeerEffect] = []
        per_byte = len(self.inflows) / rate if (rate := self.meter.rate(now)) else 0.0
        for lease in self._stalls.due(now):
            inflow = self.inflows.get(lease)
            if inflow is None or inflow.has_landed:
                continue
            if was_asleep:
                inflow.excuse(now)
            stalls_at = inflow.stalls_at(inflow.chunk_length * per_byte)
            if stalls_at is None or stalls_at > now:
                look_at = now + LOOK_SECONDS
                self._stalls.set(lease, look_at if stalls_at is None else min(stalls_at, look_at))
                continue
            effects += inflow.owner.failed(inflow, "stalled", f"nothing for {now - inflow.heard_at:.1f} s", now)
        return effects

    def check(self) -> None:
        """See the class's law."""
        for lease, inflow in self.inflows.items():
            inflow.check()
            holding = self._holdings.get(inflow.owner.task)
            if lease != inflow.lease.lease or inflow.owner.inflow_of(inflow.piece) is not inflow:
                raise InvariantViolated(f"lease {lease}: the books by lease and by piece disagree")
            if holding is None or holding.content.generation != inflow.generation:
                raise InvariantViolated(f"lease {lease}: lives on after its generation")
            if holding.assemblies.get(inflow.piece) is not inflow.assembly:
                raise InvariantViolated(f"lease {lease}: gathers beside the holding")
        self.purse.check(self.inflows)
