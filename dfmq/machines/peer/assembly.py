"""The chunks of one piece on their way to being held. Knows no lease and no disk; proving itself is a comparison."""

from __future__ import annotations

from typing import Any

from dfmq.errors import InvariantViolated
from dfmq.model import bitfield
from dfmq.model.pieces import DIGEST_BYTES


class Assembly:
    """One piece being gathered, by one writer.

    Law: stored ⊆ proven ⊆ {0 … count-1}; payloads are exactly those of proven minus stored; a chunk is proven once.
    """

    __slots__ = ("_word", "count", "everything", "payloads", "piece", "proofs", "proven", "stalls", "stored")

    def __init__(self, piece: int, count: int, proofs: bytes | None, stored: int = 0) -> None:
        """`proofs`: the broker's word, 16 octets a chunk; None: we read the source and make the proofs ourselves."""
        self.piece = piece
        self.count = count
        #: every chunk of the piece, bit set
        self.everything = bitfield.full(count)
        #: chunk → digest while we make them ourselves, else the broker's word
        self.proofs: dict[int, bytes] = {}
        #: the broker's word, as long as it is the word on every chunk
        self._word: bytes | None = None
        if proofs is not None:
            self.learn(proofs)
        #: proven chunks, in memory or stored
        self.proven = stored
        #: chunks that are on disk
        self.stored = stored
        #: chunk → opaque payload, from proof until it is stored: what cut-through sends on
        self.payloads: dict[int, Any] = {}
        #: leases that brought nothing for too long
        self.stalls = 0

    def learn(self, proofs: bytes) -> None:
        """Take the broker's word on every chunk of the piece."""
        self._word = proofs
        self.proofs = {i: proofs[i * DIGEST_BYTES : (i + 1) * DIGEST_BYTES] for i in range(self.count)}

    def missing(self) -> int:
        """Chunks not proven yet, bit set."""
        return self.everything & ~self.proven

    def is_true(self, chunk: int, digest: bytes) -> bool:
        """Whether this digest is the one the broker gave for the chunk."""
        return self.proofs.get(chunk) == digest

    def add(self, chunk: int, payload: Any) -> None:
        """Take in a proven chunk."""
        if self.proven >> chunk & 1 or chunk >= self.count:
            raise InvariantViolated(f"piece {self.piece}: chunk {chunk} proven twice, or beyond {self.count}")
        self.proven |= 1 << chunk
        self.payloads[chunk] = payload

    def mark_stored(self, chunk: int) -> bool:
        """The chunk is on disk, its payload may go. True if this makes the piece whole. Unknown chunks are no news."""
        bit = 1 << chunk
        if not self.proven & bit or self.stored & bit:
            return False
        self.stored |= bit
        self.payloads.pop(chunk, None)
        return self.stored == self.everything

    def shorten(self, count: int) -> None:
        """A growing content has ended within this piece: it has only so many chunks."""
        if self.proven >> count:
            raise InvariantViolated(f"piece {self.piece}: chunks {self.proven:b} are proven, but it ends at {count}")
        self.count = count
        self.everything = bitfield.full(count)
        self._word = None
        self.proofs = {chunk: digest for chunk, digest in self.proofs.items() if chunk < count}

    @property
    def is_whole(self) -> bool:
        """Every chunk is stored."""
        return self.stored == self.everything

    def joined_proofs(self) -> bytes:
        """The digests of all chunks, in order; of a whole piece."""
        return self._word or b"".join([self.proofs[i] for i in range(self.count)])

    def check(self) -> None:
        """See the class's law."""
        waiting = bitfield.of(self.payloads)
        beyond = self.proven & ~self.everything or self.everything != bitfield.full(self.count)
        if beyond or self.stored & ~self.proven or waiting != self.proven & ~self.stored:
            raise InvariantViolated(
                f"piece {self.piece} of {self.count}: proven {self.proven:b} stored {self.stored:b} waiting {waiting:b}"
            )
