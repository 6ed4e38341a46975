"""One piece on its way to one child: what is still to be sent and how much may be. Whose turn it is, is upload's."""

from __future__ import annotations

from dfmq.errors import InvariantViolated
from dfmq.machines.peer.holding import Holding
from dfmq.model import bitfield
from dfmq.model.ids import LeaseId
from dfmq.wire.messages import Fetch


class Stream:
    """A Fetch being answered.

    Law: ready ⊆ wanted ⊆ {0 … count-1}; a chunk leaves both when it is sent, so none is sent twice;
    sent_bytes + credit = the credit that was given, and credit is never below zero.
    """

    __slots__ = (
        "child",
        "chunk_length",
        "count",
        "credit",
        "given",
        "has_turn",
        "holding",
        "inbox",
        "last_length",
        "lease",
        "piece",
        "ready",
        "sent_bytes",
        "since",
        "used_at",
        "wanted",
        "wasted",
    )

    def __init__(self, child: bytes, fetch: Fetch, holding: Holding, now: float) -> None:
        self.child = child
        self.lease = LeaseId(fetch.lease)
        self.piece = fetch.piece
        self.inbox = fetch.inbox
        self.holding = holding
        self._measure()
        #: chunks still to be sent, bit set
        self.wanted = bitfield.from_bytes(fetch.chunks) & bitfield.full(self.count)
        #: those of them that are here now
        self.ready = self.wanted & self.available()
        #: bytes that may be sent now
        self.credit = fetch.credit
        #: all the credit there ever was
        self.given = fetch.credit
        self.sent_bytes = 0
        #: it stands in upload's row
        self.has_turn = False
        self.since = now
        #: when it last got credit or was served
        self.used_at = now

    @property
    def key(self) -> tuple[bytes, int]:
        """Its name: leases are told apart by child, so no child reaches another's stream."""
        return self.child, self.lease

    @property
    def is_gathered(self) -> bool:
        """The piece is here or on its way here."""
        return bool(self.holding.held >> self.piece & 1) or self.piece in self.holding.assemblies

    def available(self) -> int:
        """Chunks of the piece that are here, bit set."""
        if self.holding.held >> self.piece & 1:
            return bitfield.full(self.count)
        assembly = self.holding.assemblies.get(self.piece)
        return assembly.proven if assembly is not None else 0

    def next_chunk(self) -> int:
        """The first chunk that is ready; there must be one."""
        return (self.ready & -self.ready).bit_length() - 1

    def size(self, chunk: int) -> int:
        """Bytes of a chunk."""
        return self.last_length if chunk == self.count - 1 else self.chunk_length

    @property
    def can_send(self) -> bool:
        """There is a chunk to send and credit for it."""
        if not self.ready:
            return False
        return self.credit >= self.chunk_length or self.credit >= self.size(self.next_chunk())

    def _measure(self) -> None:
        """How many chunks the piece has, and how long they are."""
        cut = self.holding.cut
        self.count = cut.chunks_in(self.piece)
        self.chunk_length = cut.chunk_length
        self.last_length = cut.chunk_span(self.piece, self.count - 1)[1]

    def allow(self, credit: int, now: float) -> None:
        """The child gives leave for so many bytes more."""
        self.credit += credit
        self.given += credit
        self.used_at = now

    def sent(self, chunk: int, size: int, now: float) -> None:
        """The chunk is on its way."""
        bit = 1 << chunk
        self.ready &= ~bit
        self.wanted &= ~bit
        self.credit -= size
        self.sent_bytes += size
        self.used_at = now

    def look_again(self) -> None:
        """The content may have got its end, and the piece be shorter than it was; see what is here."""
        self._measure()
        self.wanted &= bitfield.full(self.count)
        self.ready = self.wanted & self.available()

    def check(self) -> None:
        """See the class's law."""
        if self.ready & ~self.wanted or self.wanted >> self.count:
            raise InvariantViolated(f"lease {self.lease}: ready {self.ready:b}, wanted {self.wanted:b} of {self.count}")
        if self.credit < 0 or self.sent_bytes + self.credit != self.given:
            raise InvariantViolated(
                f"lease {self.lease}: sent {self.sent_bytes}, may send {self.credit}, was given {self.given} bytes"
            )
