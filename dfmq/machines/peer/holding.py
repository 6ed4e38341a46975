"""What this peer holds of each task: the book that download, upload and fetch share. Decides nothing itself."""

from __future__ import annotations

from typing import Any

from dfmq.errors import InvariantViolated
from dfmq.machines.effects import OpenStore, StoredSpan
from dfmq.machines.events import SourceAnswered
from dfmq.machines.peer.assembly import Assembly
from dfmq.model import bitfield
from dfmq.model.ids import TaskId
from dfmq.model.pieces import DIGEST_BYTES, PieceMap
from dfmq.model.task import Content, Request, Shelved, canonical_url


class Holding:
    """One task's content here, of one generation.

    Law: a piece is in exactly one of absent (maybe with chunks `leftover`), gathering (`assemblies`), held; `held` and
    `proofs` name only pieces of the cut; nothing is gathered before the store is open.
    """

    def __init__(self, task: TaskId, content: Content, request: Request) -> None:
        self.task = task
        self.content = content
        self.request = request
        self.etag = ""
        self.last_modified = ""
        #: the date names these very octets, for it was old when they were read. It stays as it was then: that the same
        #: date is old by now says nothing of octets that were read when it was young
        self.strong_date = False
        #: the store has answered OpenStore (or LoadTask): chunks may be written
        self.is_open = False
        #: whole, proven, stored pieces; a bit set
        self.held = 0
        self.assemblies: dict[int, Assembly] = {}
        #: piece → the digests of its chunks, where known
        self.proofs: dict[int, bytes] = {}
        #: chunks an earlier life left of pieces that were not whole; consumed when the piece is gathered again
        self.leftover: dict[int, int] = {}
        #: piece → chunk → digest, of chunks left over
        self.leftover_digests: dict[int, dict[int, bytes]] = {}
        #: FinishStore was asked for
        self.is_finished = False
        #: algorithm → hex digest of the whole content; "" while it is being computed
        self.proved: dict[str, str] = {}

    @classmethod
    def of_shelved(cls, task: TaskId, shelved: Shelved) -> Holding:
        """What an earlier life left. Its store must be opened before anything is written, unless it is complete."""
        holding = cls(task, shelved.content, shelved.request)
        holding.learn_validators(shelved)
        holding.merge(shelved.held, shelved.partial, shelved.proofs)
        holding.is_open = holding.is_finished = holding.held != 0 and holding.is_complete
        return holding

    @property
    def cut(self) -> PieceMap:
        return self.content.cut

    @property
    def is_complete(self) -> bool:
        """The whole content is held."""
        return self.content.cut.length is not None and self.held == bitfield.full(self.content.cut.count)

    def merge(self, held: int, partial: dict[int, int], proofs: dict[int, bytes]) -> None:
        """Take in what the store has of this very generation. What is being gathered here is known better here."""
        if self.cut.length is not None:
            held &= bitfield.full(self.cut.count)
        self.held |= held & ~bitfield.of(self.assemblies)
        for piece, chunks in partial.items():
            everything = bitfield.full(self.cut.chunks_in(piece))
            if self.held >> piece & 1 or piece in self.assemblies or not chunks & everything:
                continue
            self.leftover[piece] = self.leftover.get(piece, 0) | chunks & everything
            if self.leftover[piece] == everything:
                self.held |= 1 << piece
        for piece in [piece for piece in self.leftover if self.held >> piece & 1]:
            self.forget_leftover(piece)
        for piece, joined in proofs.items():
            if self.held >> piece & 1:
                self.proofs.setdefault(piece, joined)
            elif piece in self.leftover:
                self._learn_leftover(piece, partial.get(piece, 0), joined)

    def _learn_leftover(self, piece: int, chunks: int, joined: bytes) -> None:
        known = self.leftover_digests.setdefault(piece, {})
        for chunk in bitfield.members(chunks & self.leftover[piece]):
            known.setdefault(chunk, joined[chunk * DIGEST_BYTES : (chunk + 1) * DIGEST_BYTES])

    def forget_leftover(self, piece: int) -> None:
        """What an earlier life left of the piece is not gone on with."""
        self.leftover.pop(piece, None)
        self.leftover_digests.pop(piece, None)

    def opened(self, held: int, partial: dict[int, int], proofs: dict[int, bytes]) -> None:
        """The store is ready for this generation (StoreOpened); asking twice does no harm."""
        self.merge(held, partial, proofs)
        self.is_open = True

    def abandon(self) -> None:
        """The store failed: what was on its way to the disk is gone, what is on the disk stays."""
        for piece, assembly in self.assemblies.items():
            if assembly.stored:
                self.leftover[piece] = assembly.stored
                known = {c: assembly.proofs[c] for c in bitfield.members(assembly.stored) if c in assembly.proofs}
                self.leftover_digests[piece] = known
        self.assemblies.clear()
        self.is_open = False

    def held_bytes(self) -> int:
        """Bytes that are stored, of whole pieces and of others."""
        rest = self.leftover.items()
        return self._bytes_of([*rest, *((piece, assembly.stored) for piece, assembly in self.assemblies.items())])

    def proven_bytes(self) -> int:
        """Bytes that are stored or on their way to the disk."""
        rest = self.leftover.items()
        return self._bytes_of([*rest, *((piece, assembly.proven) for piece, assembly in self.assemblies.items())])

    def _bytes_of(self, parts: list[tuple[int, int]]) -> int:
        """Bytes of the held pieces and of these chunks of others."""
        cut = self.cut
        total = self.held.bit_count() * cut.piece_length
        if cut.length is not None and cut.count and self.held >> (cut.count - 1) & 1:
            total -= cut.piece_length - cut.piece_span(cut.count - 1)[1]
        for piece, chunks in parts:
            total += sum(cut.chunk_span(piece, chunk)[1] for chunk in bitfield.members(chunks))
        return total

    def gather(self, piece: int, proofs: bytes | None) -> Assembly:
        """The piece's assembly, begun with what an earlier life left of it; it must not be held."""
        if self.held >> piece & 1:
            raise InvariantViolated(f"piece {piece} is held and would be gathered")
        assembly = self.assemblies.get(piece)
        if assembly is None:
            count = self.cut.chunks_in(piece)
            stored = self.leftover.get(piece, 0) & bitfield.full(count)
            known = self.leftover_digests.get(piece, {})
            self.forget_leftover(piece)
            assembly = self.assemblies[piece] = Assembly(piece, count, proofs, stored)
            if proofs is None:
                assembly.proofs.update((chunk, digest) for chunk, digest in known.items() if stored >> chunk & 1)
        elif proofs is not None:
            assembly.learn(proofs)
        return assembly

    def keep(self, piece: int) -> None:
        """The piece's assembly is whole: it is held from now on."""
        assembly = self.assemblies.pop(piece)
        if not assembly.is_whole:
            raise InvariantViolated(f"piece {piece} is not whole and would be kept")
        self.held |= 1 << piece
        if len(assembly.proofs) == assembly.count:
            self.proofs[piece] = assembly.joined_proofs()

    def chunk(self, piece: int, chunk: int) -> Any | None:
        """What to send for this chunk: the proven payload, a StoredSpan, or None when we do not have it yet."""
        if not self.held >> piece & 1:
            assembly = self.assemblies.get(piece)
            if assembly is None or not assembly.proven >> chunk & 1:
                return None
            if not assembly.stored >> chunk & 1:
                return assembly.payloads[chunk]
        offset, length = self.cut.chunk_span(piece, chunk)
        return StoredSpan(self.task, self.content.generation, offset, length)

    @property
    def is_named(self) -> bool:
        """The source gives this version a name."""
        return bool(self.etag or self.last_modified)

    @property
    def is_pinned(self) -> bool:
        """The source names this version octet for octet: parts of two answers may be put together (RFC 9110, section
        15.3.7.3). A weak ETag says no more than "as good as the same", with a date or without; a date alone says so
        much only if it is a strong one."""
        return not self.etag.startswith("W/") if self.etag else self.strong_date

    def is_from(self, request: Request) -> bool:
        """It came from this request's URL, and so did its validators. Another source of what a digest names may have
        others for the same octets."""
        ours = self.request
        return canonical_url(ours.url, ours.filters) == canonical_url(request.url, request.filters)

    def learn_validators(self, named: SourceAnswered | Shelved) -> None:
        """The source names this generation so; not when that is known (a mirror may call it otherwise)."""
        if not self.is_named:
            self.etag, self.last_modified, self.strong_date = named.etag, named.last_modified, named.strong_date

    def to_open(self, request: Request) -> OpenStore:
        """What makes the store ready for it; `request`: whose content it is."""
        return OpenStore(self.task, self.content, request, self.etag, self.last_modified, self.strong_date)

    def ask_proof(self, algorithm: str) -> bool:
        """Whether ProveContent is to be asked for now: not when it is known or under way."""
        if algorithm in self.proved:
            return False
        self.proved[algorithm] = ""
        return True

    def may_end_at(self, length: int) -> bool:
        """Whether a growing content of which we have this much can have ended there. What came while it grew are whole
        chunks, and what came of others, with digests of all its chunks, is of whole pieces."""
        whole, rest = divmod(length, self.cut.piece_length)
        chunks = rest // self.cut.chunk_length
        beyond = self.held >> whole != 0
        beyond |= any(p > whole or (p == whole and bits >> chunks != 0) for p, bits in self.leftover.items())
        for piece, assembly in self.assemblies.items():
            is_more = assembly.proven >> chunks != 0 or len(assembly.proofs) > chunks
            beyond |= piece > whole or (piece == whole and (is_more or not rest))
        return not beyond

    def seal(self, length: int) -> None:
        """A growing content has ended."""
        self.content = Content(self.content.generation, self.cut.sealed(length), self.content.algorithm)
        last = self.assemblies.get(self.cut.count - 1)
        if last is not None:
            last.shorten(self.cut.chunks_in(last.piece))

    def check(self) -> None:
        """See the class's law."""
        if self.held & bitfield.of(self.assemblies):
            raise InvariantViolated(f"task {self.task.hex()}: a piece is both held and gathered")
        if self.assemblies and not self.is_open:
            raise InvariantViolated(f"task {self.task.hex()}: gathers before its store is open")
        if self.cut.length is not None and self.held >> self.cut.count:
            raise InvariantViolated(f"task {self.task.hex()}: holds pieces beyond its end")
        if any(self.held >> piece & 1 or piece in self.assemblies for piece in self.leftover):
            raise InvariantViolated(f"task {self.task.hex()}: chunks left over of a piece that is held or gathered")
        if any(bitfield.of(known) & ~self.leftover.get(piece, 0) for piece, known in self.leftover_digests.items()):
            raise InvariantViolated(f"task {self.task.hex()}: digests of chunks that are not left over")
        for assembly in self.assemblies.values():
            assembly.check()


class Holdings(dict[TaskId, Holding]):
    """Every task of which something is here, or is about to be. Remembers where one content took another's place.

    Law: a holding stands under its own task's name; a task whose holding came, went or was replaced is `changed` until
    that is taken note of.
    """

    def __init__(self) -> None:
        super().__init__()
        #: tasks whose holding came, went or was replaced, and nobody was told yet
        self.changed: dict[TaskId, None] = {}

    def __setitem__(self, task: TaskId, holding: Holding) -> None:
        self.changed[task] = None
        super().__setitem__(task, holding)

    def __delitem__(self, task: TaskId) -> None:
        super().__delitem__(task)
        self.changed[task] = None

    def take_changes(self) -> list[TaskId]:
        """Tasks whose holding came, went or was replaced since this was asked."""
        changed = list(self.changed)
        self.changed.clear()
        return changed

    def check(self) -> None:
        """Every holding's law."""
        for task, holding in self.items():
            if task != holding.task:
                raise InvariantViolated("a holding stands under another task's name")
            holding.check()
