"""One read of a task's source: where it stands, which chunks it still needs, what it took. Speaks to nobody."""

from __future__ import annotations

from typing import Literal

from dfmq.errors import InvariantViolated
from dfmq.machines.effects import AskSource, StoreChunk
from dfmq.machines.events import SourceChunk
from dfmq.machines.peer.holding import Holding
from dfmq.model import bitfield
from dfmq.model.ids import Generation, PermitId, TaskId
from dfmq.model.pieces import DIGEST_BYTES, MIB
from dfmq.model.task import Request

#: loading: what the store has is being looked up · queued: another read of the task is about to settle what the content
#: is · asking, waiting: for the source's answer, for the next try · opening: the store · reading: the body comes ·
#: storing: all is read · proving: all is stored, its digest is being computed
State = Literal["loading", "queued", "asking", "waiting", "opening", "reading", "storing", "proving"]

#: What is held already is read past when it is shorter than this: a new request costs one or two round trips, in which
#: a source at 1 Gbit/s sends some MiB.
LEAST_GAP = 8 * MIB


class Reading:
    """What one permit, or several for the same task, set going.

    Law: it has a question open (`ask`) exactly while asking, opening or reading; a chunk is taken once; every piece it
    read any chunk of is `touched`.
    """

    def __init__(self, task: TaskId, request: Request, *, only_asks: bool, wants_content: bool = True) -> None:
        self.task = task
        self.request = request
        #: it asks the source and takes no body (a check, or a second requester's credentials)
        self.only_asks = only_asks
        #: False: a check; the broker wants no more than an answer
        self.wants_content = wants_content
        #: the broker's generation of the task, as the check names it; b"" none
        self.checked: bytes = b""
        #: a generation that somebody holds; b"" nobody says so
        self.claimed: bytes = b""
        #: the most hosts the broker has had at once
        self.hosts = 0
        #: permits that are served by this, and which generation each was told
        self.permits: dict[PermitId, Generation | None] = {}
        self.state: State = "loading"
        #: the open question's number
        self.ask: PermitId | None = None
        #: where the answer was asked to begin, and where the body begins, bytes
        self.asked_offset = 0
        self.body_offset = 0
        self.holding: Holding | None = None
        #: the source has said which generation it is: `holding` is of it
        self.is_settled = False
        #: the store was opened for it
        self.is_opened = False
        #: ask for all of it, without conditions
        self.from_zero = False
        #: bytes were other than those proven before under the same validators: nothing held is believed
        self.is_doubtful = False
        #: nothing names the version: what is held is compared with the body again, from its first byte
        self.compares = False
        #: the source takes ranges and names the version
        self.takes_ranges = False
        self.fresh_until = 0.0
        #: tries in a row that brought nothing
        self.fruitless = 0
        self.brought = False
        #: bytes per second it may read, 0 any
        self.rate = 0
        #: bytes that came of bodies and stand in no record yet
        self.untold_bytes = 0
        #: pieces of which a chunk came through this read, bit set
        self.touched = 0
        #: digests of chunks of pieces that are held, but whose digests nobody knew
        self.digests: dict[int, dict[int, bytes]] = {}
        #: pieces whose digests have just become known that way
        self.reproven: list[int] = []
        #: the last chunk of a growing content: kept back until it is known whether it is the last one
        self.pending: SourceChunk | None = None

    # ── what is needed ────────────────────────────────────────────────────────────────────────────────────────

    def begin(self, holding: Holding) -> None:
        """Fill this holding from now on."""
        if self.holding is not holding:
            self.holding = holding
            self.is_settled = self.is_opened = False
            self.touched = 0
            self.digests.clear()
        self.pending = None

    def _the_holding(self) -> Holding:
        if self.holding is None:
            raise InvariantViolated(f"task {self.task.hex()}: reads ({self.state}) into no holding")
        return self.holding

    def _needs(self, piece: int) -> bool:
        """Whether anything of the piece is to be read: its chunks, or just their digests."""
        holding = self._the_holding()
        if holding.held >> piece & 1:
            return piece not in holding.proofs
        assembly = holding.assemblies.get(piece)
        return assembly is None or assembly.missing() != 0 or len(assembly.proofs) < assembly.count

    def position(self) -> tuple[int, int] | None:
        """The first (piece, chunk) that is needed; None: nothing is. Of a growing content there is always one."""
        cut = self._the_holding().cut
        piece = 0
        while cut.length is None or piece < cut.count:
            if self._needs(piece):
                return piece, self._first_chunk(piece)
            piece += 1
        return None

    def _first_chunk(self, piece: int) -> int:
        holding = self._the_holding()
        if holding.held >> piece & 1:
            known = self.digests.get(piece, {})
            return next(chunk for chunk in range(holding.cut.chunks_in(piece)) if chunk not in known)
        assembly = holding.assemblies.get(piece)
        if assembly is None:
            left = self._usable_leftover(piece)
            return next(chunk for chunk in range(holding.cut.chunks_in(piece)) if chunk not in left)
        return next(c for c in range(assembly.count) if not assembly.proven >> c & 1 or c not in assembly.proofs)

    def _usable_leftover(self, piece: int) -> dict[int, bytes]:
        """Digests of the chunks an earlier life left of a piece, if it can be gone on with: not when one of them has
        none, nor in a growing content, of which any chunk may be the last one."""
        holding = self._the_holding()
        known = holding.leftover_digests.get(piece, {})
        return known if bitfield.of(known) == holding.leftover.get(piece, 0) and holding.cut.length is not None else {}

    def question(self, number: PermitId, holding: Holding | None) -> AskSource:
        """What to ask: for what is missing of this holding; when nothing is, whether it is still the same. Without
        anything that names the version, there is no asking for a part of it; but what a digest names may be read on
        from another of its sources, which knows nothing of the first one's names."""
        request = self.request
        if holding is None or self.from_zero:
            return AskSource(number, request, 0, "", "", False)
        etag, last_modified = holding.etag, holding.last_modified
        is_named = bool(etag or last_modified)
        if not self.only_asks:
            self.begin(holding)
            if holding.is_pinned:
                # Whether it is to be compared, the next answer says: it may come under the name again.
                self.compares = False
            offset = self.first_byte()
            if offset is not None and not holding.is_from(request):
                return AskSource(number, request, offset, "", "", False)
            if offset is not None and holding.is_pinned and offset:
                return AskSource(number, request, offset, etag, last_modified, False)
            if offset is not None:
                return AskSource(number, request, 0, "", "", False)
        return AskSource(number, request, 0, etag, last_modified, is_named)

    def first_byte(self) -> int | None:
        """Where the body is to be read from; None: nothing of it is needed. What is compared is read from its start."""
        if self.compares:
            return 0
        position = self.position()
        return self._the_holding().cut.chunk_span(*position)[0] if position is not None else None

    def gap_after(self, event: SourceChunk) -> int:
        """Bytes after this chunk that are not needed; -1: nothing is needed any more, though the body goes on. Looked
        for where a piece ends."""
        holding = self._the_holding()
        cut = holding.cut
        at = cut.chunk_span(event.piece, event.chunk)[0] + event.length
        if at % cut.piece_length or cut.length is None or at >= cut.length or self.compares:
            return 0
        piece = at // cut.piece_length
        if not holding.held >> piece & 1 and piece not in holding.assemblies:
            return 0
        position = self.position()
        return max(0, cut.chunk_span(*position)[0] - at) if position is not None else -1

    def can_end_at(self, length: int) -> bool:
        """Whether a growing content of which we have this much can have ended there."""
        holding, last = self._the_holding(), self.pending
        if last is None:
            return length == holding.held.bit_length() * holding.cut.piece_length and not holding.assemblies
        begun = max(holding.held.bit_length() - 1, *holding.assemblies, last.piece)
        return begun == last.piece and length == holding.cut.chunk_span(last.piece, last.chunk)[0] + last.length

    def forget(self) -> None:
        """Begin anew, with the same permits: nobody was told anything."""
        self.holding = self.pending = None
        self.is_settled = self.is_opened = self.from_zero = self.is_doubtful = False
        for permit in self.permits:
            self.permits[permit] = None

    # ── what comes ────────────────────────────────────────────────────────────────────────────────────────────

    def take(self, event: SourceChunk) -> list[StoreChunk] | None:
        """A chunk of the body; None: it is not what was proven before, so the content has changed."""
        if self._the_holding().cut.length is not None:
            return self._add(event)
        former, self.pending = self.pending, event
        return self._add(former) if former is not None else []

    def take_pending(self) -> list[StoreChunk] | None:
        """The body is over and the holding sealed: the chunk kept back is the last."""
        last, self.pending = self.pending, None
        if last is not None and last.piece not in self._the_holding().assemblies:
            self._the_holding().forget_leftover(last.piece)
        return self._add(last) if last is not None else []

    def _add(self, event: SourceChunk) -> list[StoreChunk] | None:
        holding = self._the_holding()
        piece, chunk, digest = event.piece, event.chunk, event.digest
        self.touched |= 1 << piece
        if holding.held >> piece & 1:
            return self._again(holding, piece, chunk, digest)
        assembly = holding.assemblies.get(piece)
        if assembly is None:
            if not self._usable_leftover(piece):
                # It is read and written again.
                holding.forget_leftover(piece)
            assembly = holding.gather(piece, None)
        if assembly.proofs.setdefault(chunk, digest) != digest:
            return None
        if assembly.proven >> chunk & 1:
            return []
        assembly.add(chunk, event.payload)
        self.brought = True
        offset = holding.cut.chunk_span(piece, chunk)[0]
        return [StoreChunk(self.task, holding.content.generation, piece, chunk, offset, digest, event.payload)]

    def _again(self, holding: Holding, piece: int, chunk: int, digest: bytes) -> list[StoreChunk] | None:
        """A chunk of a piece that is held: compare it, or learn its digest."""
        proofs = holding.proofs.get(piece)
        if proofs is not None:
            return [] if proofs[chunk * DIGEST_BYTES : (chunk + 1) * DIGEST_BYTES] == digest else None
        known = self.digests.setdefault(piece, {})
        known[chunk] = digest
        count = holding.cut.chunks_in(piece)
        if len(known) == count:
            holding.proofs[piece] = b"".join(known[i] for i in range(count))
            del self.digests[piece]
            self.reproven.append(piece)
            self.brought = True
        return []

    def tell_bytes(self) -> int:
        """Bytes that came since the last call, for a record."""
        count, self.untold_bytes = self.untold_bytes, 0
        return count

    def check(self) -> None:
        """See the class's law."""
        if (self.ask is not None) != (self.state in ("asking", "opening", "reading")):
            raise InvariantViolated(f"task {self.task.hex()}: {self.state} with question {self.ask}")
        if self.state in ("opening", "reading", "storing", "proving") and not self.is_settled:
            raise InvariantViolated(f"task {self.task.hex()}: {self.state}, but the generation is not settled")
