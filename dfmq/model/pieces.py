"""How a length is cut into pieces and chunks. Pure arithmetic; who holds which piece is not here."""

from __future__ import annotations

import msgspec

KIB = 1 << 10
MIB = 1 << 20

#: 33 to 64 pieces a task: fewer make cut-through coarse, more cost a lease each. 20 MB to 40 peers in 39 pieces took as
#: long as in 77 (1.043 times size/rate, simulated), for half the messages at the broker.
MOST_PIECES = 64
LEAST_PIECE = 256 * KIB
MOST_PIECE = 64 * MIB
CHUNKS_PER_PIECE = 16
LEAST_CHUNK = 64 * KIB
#: Chunks are at least so long where that leaves four of them: 64 KiB instead was 0.8 % faster simulated (40 peers of
#: 20 Mbit/s, 20 MB) and 7 % slower measured, for its messages.
FEWEST_CHUNKS, USUAL_LEAST_CHUNK = 4, 128 * KIB
#: Larger chunks were measured slower (0.80 against 0.70 CPU-s/GiB at 4 MiB) and make cut-through coarse.
MOST_CHUNK = 1 * MIB
#: So many hosts and more are a matter for the broker: it grants each piece to each of them, some 4000 a second
#: (bench.broker). Then a piece has at least so many bytes for each host, which keeps them at 64 MiB/s, as long as it
#: leaves so many pieces. 1000 simulated hosts, 200 MiB, 150 µs a message: 200 Mbit/s 1.16 times size/rate instead of
#: 1.40, 1 Gbit/s 1.69 instead of 5.12. With few hosts longer pieces cost 1 to 4 % (decision 19).
MANY_HOSTS = 256
BYTES_PER_HOST = 16 * KIB
FEWEST_PIECES = 8
MOST_PIECE_OF_MANY = 256 * MIB
#: A cut with more is not taken: so many pieces can be named by a set on the wire, so many chunks have their digests in
#: one message.
MOST_PIECES_KNOWN = 65_536
MOST_CHUNKS_IN_PIECE = 1024
#: Every chunk's digest has so many octets, on the bus and on disk: xxh3_128, or blake3 cut to that.
DIGEST_BYTES = 16
#: A growing task (length not known yet) starts with this; it cannot be changed once pieces are out.
GROWING_PIECE = 4 * MIB


def piece_length_for(length: int | None) -> int:
    """The smallest power of two that gives at most MOST_PIECES pieces, within bounds; bytes."""
    if length is None:
        return GROWING_PIECE
    piece = LEAST_PIECE
    while piece < MOST_PIECE and piece * MOST_PIECES < length:
        piece *= 2
    return piece


def chunk_length_for(piece_length: int) -> int:
    """A sixteenth of the piece, within bounds; bytes."""
    least = max(LEAST_CHUNK, min(USUAL_LEAST_CHUNK, piece_length // FEWEST_CHUNKS))
    return min(MOST_CHUNK, max(least, piece_length // CHUNKS_PER_PIECE))


class PieceMap(msgspec.Struct, frozen=True):
    """The cut of one content. `length` None: still growing, every piece is taken as whole until it is sealed.

    Pieces partition [0, length), chunks partition each piece; the last of either may be short.
    A content of zero bytes has no piece.
    """

    length: int | None
    piece_length: int
    chunk_length: int

    @property
    def count(self) -> int:
        """How many pieces; of a growing content 0, for nobody knows."""
        if self.length is None:
            return 0
        return -(-self.length // self.piece_length)

    @property
    def limit(self) -> int:
        """Every piece's index is below this."""
        return MOST_PIECES_KNOWN if self.length is None else self.count

    def sealed(self, length: int) -> PieceMap:
        """The cut of a growing content that has ended at `length` bytes."""
        return PieceMap(length, self.piece_length, self.chunk_length)

    def piece_span(self, piece: int) -> tuple[int, int]:
        """(offset, length) of a piece in the content, bytes."""
        offset = piece * self.piece_length
        if self.length is None:
            return offset, self.piece_length
        return offset, max(0, min(self.piece_length, self.length - offset))

    def chunks_in(self, piece: int) -> int:
        """How many chunks the piece has."""
        return -(-self.piece_span(piece)[1] // self.chunk_length)

    def chunk_offset(self, piece: int, chunk: int) -> int:
        """Where a chunk begins in the content, bytes."""
        return piece * self.piece_length + chunk * self.chunk_length

    def chunk_span(self, piece: int, chunk: int) -> tuple[int, int]:
        """(offset, length) of a chunk in the content, bytes."""
        inside = chunk * self.chunk_length
        offset = piece * self.piece_length + inside
        length = min(self.chunk_length, self.piece_length - inside)
        if self.length is not None:
            length = min(length, self.length - offset)
        return offset, max(0, length)


def cut(length: int | None, hosts: int = 0) -> PieceMap:
    """The house's own cut of a content of `length` bytes for so many hosts. More hosts make no other chunks: how finely
    pieces are cut through does not change."""
    piece_length = piece_length_for(length)
    chunk_length = chunk_length_for(piece_length)
    if length is not None and hosts >= MANY_HOSTS:
        least = min(hosts * BYTES_PER_HOST, MOST_PIECE_OF_MANY)
        while piece_length < least and 2 * piece_length * FEWEST_PIECES <= length:
            piece_length *= 2
    return PieceMap(length, piece_length, chunk_length)


def flaw(cut: PieceMap) -> str:
    """What is wrong with a cut that somebody else made; "" nothing. No other is to be counted with: a set of all its
    pieces may not fit into memory."""
    if not 0 < cut.chunk_length <= cut.piece_length or (cut.length is not None and cut.length < 0):
        return f"pieces of {cut.piece_length} bytes cannot be cut into chunks of {cut.chunk_length}"
    if cut.count > MOST_PIECES_KNOWN:
        return f"{cut.length} bytes are more than {MOST_PIECES_KNOWN} pieces of {cut.piece_length}"
    if -(-cut.piece_length // cut.chunk_length) > MOST_CHUNKS_IN_PIECE:
        return f"a piece of {cut.piece_length} bytes is more than {MOST_CHUNKS_IN_PIECE} chunks of {cut.chunk_length}"
    return ""
