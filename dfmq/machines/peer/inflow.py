"""One lease at work: the chunks of one piece on their way in from one parent. Books only; who gives credit is in
purse, what a parent keeps of the same lease is in stream."""

from __future__ import annotations

from typing import Protocol

from dfmq.errors import InvariantViolated
from dfmq.machines.effects import AskParent, PeerEffect
from dfmq.machines.peer.assembly import Assembly
from dfmq.machines.peer.holding import Holding
from dfmq.machines.peer.limits import TokenBucket
from dfmq.model import bitfield
from dfmq.model.ids import TaskId
from dfmq.wire.messages import Credit, Fetch, Lease, Receipt

#: Seconds without a chunk after which an inflow is stalled: while nothing is known of the way, until a first chunk when
#: something is (a new connection takes some round trips), and once chunks have come.
UNKNOWN_STALL_SECONDS = 5.0
FIRST_STALL_SECONDS = 2.0
STALL_SECONDS = 1.0
#: "4 × expected seconds per chunk": what a parent's turns among its children may cost.
STALL_GAPS = 4.0
#: Each lease on a piece that stalled lets the next one wait twice as long, so often: where the way is thin for so many
#: streams, to give all of them up and ask anew makes it thinner.
MOST_DOUBLINGS = 4
#: How fast a long gap between chunks is forgotten, a chunk.
GAP_FORGOTTEN = 0.1


class Tally:
    """Where the bytes of one download came from, and how its chunks follow each other."""

    __slots__ = ("from_peers", "from_seed", "from_source", "from_store", "gap")

    def __init__(self, from_store: int = 0) -> None:
        self.from_source = 0
        self.from_seed = 0
        self.from_peers = 0
        self.from_store = from_store
        #: seconds between two chunks of an inflow, slow to fall; None: no chunk yet
        self.gap: float | None = None

    def restart(self) -> None:
        """The content is another one now: nothing of it has come."""
        self.from_source = self.from_seed = self.from_peers = self.from_store = 0

    @property
    def total(self) -> int:
        """All bytes."""
        return self.from_source + self.from_seed + self.from_peers + self.from_store

    def receipt(self) -> Receipt:
        """As it crosses the bus."""
        return Receipt(
            from_source=self.from_source,
            from_seed=self.from_seed,
            from_peers=self.from_peers,
            from_store=self.from_store,
        )


class Owner(Protocol):
    """Whoever wants the piece: a download's leases."""

    task: TaskId
    tally: Tally
    #: the task's own limit, None none
    bucket: TokenBucket | None

    def landed(self, inflow: Inflow, now: float) -> list[PeerEffect]:
        """Every chunk of the inflow's piece is proven, though maybe not stored."""
        ...

    def failed(self, inflow: Inflow, code: str, text: str, now: float, *, is_told: bool = False) -> list[PeerEffect]:
        """The lease came to nothing; `code` as in the message Failed. `is_told`: the parent said so itself."""
        ...

    def gives_way(self, inflow: Inflow, now: float) -> list[PeerEffect]:
        """A lease of another task has got the number of this one."""
        ...

    def inflow_of(self, piece: int) -> Inflow | None:
        """The live inflow of a piece."""
        ...


class Inflow:
    """One lease's flow.

    Law: returned ≤ received ≤ given ≤ need (bytes); what is outstanding is given − received; `unstored` names exactly
    the chunks this inflow brought that are not on disk yet.
    """

    __slots__ = (
        "assembly",
        "chunk_length",
        "gap",
        "generation",
        "given",
        "heard_at",
        "is_asked",
        "is_excused",
        "is_own",
        "last_length",
        "lease",
        "need",
        "offset",
        "owner",
        "piece",
        "received",
        "returned",
        "spare",
        "unstored",
        "wanted",
        "wasted",
    )

    def __init__(self, lease: Lease, owner: Owner, holding: Holding, assembly: Assembly, *, is_own: bool) -> None:
        """`is_own`: we took the leave ourselves from a neighbour's hint; the broker knows nothing of it."""
        cut = holding.cut
        self.lease = lease
        self.owner = owner
        self.piece = lease.piece
        self.generation = holding.content.generation
        self.assembly = assembly
        self.is_own = is_own
        #: another leave for the same piece, for when this one fails
        self.spare: Lease | None = None
        self.chunk_length = cut.chunk_length
        #: where the piece begins in the content
        self.offset = cut.piece_span(lease.piece)[0]
        self.last_length = cut.chunk_span(lease.piece, assembly.count - 1)[1]
        #: chunks to ask for, bit set
        self.wanted = assembly.missing()
        self.need = self.wanted.bit_count() * cut.chunk_length
        if self.wanted >> (assembly.count - 1) & 1:
            self.need -= cut.chunk_length - self.last_length
        self.given = 0
        self.received = 0
        #: of what was received: stored, or thrown away
        self.returned = 0
        #: of what was received: had already
        self.wasted = 0
        self.unstored = 0
        self.is_asked = False
        #: the silence since the last chunk was once taken for our own
        self.is_excused = False
        self.heard_at = 0.0
        self.gap = 0.0

    def length_of(self, chunk: int) -> int:
        """Bytes the chunk must have."""
        return self.last_length if chunk == self.assembly.count - 1 else self.chunk_length

    @property
    def has_landed(self) -> bool:
        """Every chunk of the piece is proven."""
        return self.assembly.proven == self.assembly.everything

    def due(self, window: int) -> int:
        """Bytes of credit the parent should now be given, whole chunks. In halves of the window, not chunk by chunk: a
        Credit costs both sides a message."""
        left = self.need - self.given
        room = window - self.given + self.returned
        if left <= room:
            return left
        if self.is_asked and 2 * room < window:
            return 0
        return max(0, room // self.chunk_length * self.chunk_length)

    def give(self, amount: int, inbox: str, now: float) -> AskParent:
        """Credit for so many bytes; the first comes with the Fetch."""
        if self.given == self.received:
            self.heard_at, self.is_excused = now, False
        self.given += amount
        if self.is_asked:
            return AskParent(self.lease.endpoint, Credit(lease=self.lease.lease, credit=amount))
        self.is_asked = True
        fetch = Fetch(
            lease=self.lease.lease,
            task=self.owner.task,
            generation=self.generation,
            piece=self.piece,
            chunks=bitfield.to_bytes(self.wanted),
            credit=amount,
            inbox=inbox,
        )
        return AskParent(self.lease.endpoint, fetch)

    def take(self, length: int, now: float) -> bool:
        """A chunk came. False: beyond the credit."""
        if self.received + length > self.given:
            return False
        gap = now - self.heard_at
        if not self.received:
            self.gap = min(gap, UNKNOWN_STALL_SECONDS / STALL_GAPS)
        elif gap > self.gap:
            self.gap = gap
        else:
            self.gap += GAP_FORGOTTEN * (gap - self.gap)
        self.received += length
        self.heard_at = now
        self.is_excused = False
        return True

    def waste(self, length: int) -> bool:
        """The chunk was not needed: it is ours again, and the parent may send as much for what is. False: that makes a
        whole piece for nothing."""
        self.returned += length
        self.need += length
        self.wasted += length
        return self.wasted < self.assembly.count * self.chunk_length

    def stored(self, chunk: int) -> int:
        """The chunk is on disk. Bytes that come back: 0 when another brought it."""
        if not self.unstored >> chunk & 1:
            return 0
        self.unstored ^= 1 << chunk
        length = self.length_of(chunk)
        self.returned += length
        return length

    def excuse(self, now: float) -> None:
        """We were asleep ourselves: begin to wait anew. Once for each silence, or who is late each time would wait for
        ever."""
        if not self.is_excused:
            self.is_excused, self.heard_at = True, now

    def is_silent(self, now: float) -> bool:
        """Something is owed, and nothing came for so long that any other leave for the piece is better."""
        return self.given > self.received and now - self.heard_at >= STALL_SECONDS

    def stalls_at(self, turn: float) -> float | None:
        """When to give the parent up; None: it owes nothing. `turn`: seconds in which our own link takes a chunk of
        every inflow. Until a gap between two chunks was seen, parents as slow as that are not stalled."""
        if self.given == self.received:
            return None
        if self.received > self.chunk_length:
            least, gap = STALL_SECONDS, self.gap
        elif self.received:
            least, gap = STALL_SECONDS, max(self.gap, turn)
        elif self.owner.tally.gap is not None:
            least, gap = FIRST_STALL_SECONDS, max(self.owner.tally.gap, turn)
        else:
            least, gap = UNKNOWN_STALL_SECONDS, turn
        return self.heard_at + max(least, STALL_GAPS * gap) * 2.0 ** min(self.assembly.stalls, MOST_DOUBLINGS)

    def check(self) -> None:
        """See the class's law."""
        if not 0 <= self.returned <= self.received <= self.given <= self.need:
            raise InvariantViolated(
                f"lease {self.lease.lease}: returned {self.returned} received {self.received}"
                f" given {self.given} need {self.need}"
            )
        unstored = sum(self.length_of(chunk) for chunk in bitfield.members(self.unstored))
        if unstored != self.received - self.returned:
            raise InvariantViolated(f"lease {self.lease.lease}: {unstored} bytes unstored, the books say otherwise")
        if self.unstored & (self.assembly.stored | ~self.assembly.proven):
            raise InvariantViolated(f"lease {self.lease.lease}: awaits the disk for chunks that are not on their way")
