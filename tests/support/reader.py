"""A peer's Fetching with a source, a store and a broker played by the test. No machine; time is moved by hand."""

from __future__ import annotations

import hashlib
import random
from typing import Any, TypeVar

from dfmq.machines import effects as want
from dfmq.machines import events as told
from dfmq.machines.peer.alarm import Alarm
from dfmq.machines.peer.fetching import Fetching
from dfmq.machines.peer.holding import Holding, Holdings
from dfmq.model import bitfield
from dfmq.model.ids import Generation, TaskId
from dfmq.model.pieces import KIB
from dfmq.model.settings import SourceSettings
from dfmq.model.task import Request, Shelved, task_id
from dfmq.wire import messages as say

M = TypeVar("M")

CHUNK = 64 * KIB
PIECE = 256 * KIB
ETAG = '"one"'


def digest_of(data: bytes) -> bytes:
    """What stands for a chunk's digest in these tests."""
    return hashlib.blake2b(data, digest_size=16).digest()


class Reader:
    """Performs what Fetching wants as far as the test lets it. Books are checked after every event."""

    def __init__(self, content: bytes = b"", *, request: Request | None = None, **settings: Any) -> None:
        self.content = content
        self.request = request if request is not None else Request(url="http://source/file")
        self.task = task_id(self.request)
        self.now = 0.0
        self.effects: list[Any] = []
        self.disk: dict[TaskId, Shelved] = {}
        self.source_bytes = 0
        self.settings = SourceSettings(**settings)
        self.starts = 0
        #: somebody on this host gets the task, at most so fast
        self.is_wanted, self.limit = False, 0
        #: and must not go to the source for it
        self.is_frugal = False
        self.start()

    def start(self) -> None:
        """A new process: nothing is in memory."""
        self.holdings = Holdings()
        self.starts += 1
        self.fetching = Fetching(
            self.holdings,
            self.settings,
            "xxh3_128",
            random.Random(self.starts),
            Alarm(),
            limit_of=lambda _: self.limit,
            is_wanted=lambda _: self.is_wanted,
            may_read=lambda _: self.is_wanted and not self.is_frugal,
        )
        self.ask: want.AskSource | None = None
        self.read: want.ReadSource | None = None
        self.position = 0
        self.unstored: list[want.StoreChunk] = []

    # ── performing ────────────────────────────────────────────────────────────────────────────────────────────

    def feed(self, effects: list[Any]) -> list[Any]:
        """Note effects; the latest question and its read are the ones the test answers. To play with several, put
        `ask`, `read` and `position` aside."""
        self.fetching.check()
        self.holdings.check()
        for effect in effects:
            self.effects.append(effect)
            if isinstance(effect, want.AskSource):
                assert self.ask is None, "asks while a question is open"
                self.ask, self.read = effect, None
            elif isinstance(effect, want.ReadSource):
                self.source_bytes += effect.skip
                if self.ask is not None and effect.permit == self.ask.permit:
                    self.read, self.position = effect, effect.offset
            elif isinstance(effect, want.DropSource):
                if self.ask is not None and effect.permit == self.ask.permit:
                    self.ask = self.read = None
            elif isinstance(effect, want.StoreChunk):
                self.unstored.append(effect)
        return effects

    def take(self, kind: type[M]) -> list[M]:
        """The effects, or the messages to the broker, of this kind since the last take of it."""
        found, rest = [], []
        for effect in self.effects:
            message = effect.message if isinstance(effect, want.TellBroker) else effect
            (found if isinstance(message, kind) else rest).append(message if isinstance(message, kind) else effect)
        self.effects = rest
        return found

    def one(self, kind: type[M]) -> M:
        """The only one of this kind since the last take."""
        found = self.take(kind)
        assert len(found) == 1, f"{len(found)} {kind.__name__} in {self.effects + found}"
        return found[0]

    @property
    def holding(self) -> Holding:
        return self.holdings[self.task]

    # ── the broker ────────────────────────────────────────────────────────────────────────────────────────────

    def permit(
        self,
        permit: int = 1,
        *,
        check: bool = False,
        generation: bytes = b"",
        request: Request | None = None,
        hosts: int = 0,
        claimed: bytes = b"",
    ) -> list[Any]:
        """A Permit; what the store has is looked up at once."""
        message = say.Permit(
            permit=permit,
            task=self.task,
            request=request or self.request,
            generation=generation,
            check_only=check,
            hosts=hosts,
            claimed=claimed,
        )
        effects = self.feed(self.fetching.permitted(message, self.now))
        return effects + self.load() if any(isinstance(e, want.LoadTask) for e in effects) else effects

    def load(self) -> list[Any]:
        return self.feed(self.fetching.loaded(told.StoreLoaded(self.task, self.disk.get(self.task)), self.now))

    # ── the source ────────────────────────────────────────────────────────────────────────────────────────────

    def answer(
        self,
        kind: str = "full",
        *,
        length: int | None = -1,
        etag: str = ETAG,
        last_modified: str = "",
        strong_date: bool = False,
        fresh: float | None = None,
        ranges: bool = True,
        ask: want.AskSource | None = None,
    ) -> list[Any]:
        """The source's headers; then the store is opened at once if that is wanted."""
        asked = ask or self.ask
        assert asked is not None
        event = told.SourceAnswered(
            asked.permit,
            kind,
            asked.offset if kind == "partial" else 0,
            len(self.content) if length == -1 else length,
            etag,
            last_modified,
            fresh,
            ranges,
            strong_date,
        )
        effects = self.feed(self.fetching.answered(event, self.now))
        return effects + self.open() if any(isinstance(e, want.OpenStore) for e in effects) else effects

    def open(self) -> list[Any]:
        opened = self.take(want.OpenStore)[-1]
        generation = opened.content.generation
        shelved = self.disk.get(self.task)
        if shelved is None or shelved.content.generation != generation:
            shelved = Shelved(opened.content, 0, {}, {}, self.request)
        event = told.StoreOpened(self.task, generation, shelved.held, shelved.partial, shelved.proofs)
        return self.feed(self.fetching.opened(event, self.now))

    def chunks(self, count: int = 1) -> None:
        """The next chunks of the body."""
        for _ in range(count):
            read = self.read
            assert read is not None, "no body is being read"
            payload = self.content[self.position : self.position + read.cut.chunk_length]
            assert payload, "the body has no more chunks"
            piece, inside = divmod(self.position, read.cut.piece_length)
            chunk = inside // read.cut.chunk_length
            event = told.SourceChunk(read.permit, piece, chunk, len(payload), digest_of(payload), payload)
            self.position += len(payload)
            self.source_bytes += len(payload)
            self.feed(self.fetching.chunk(event, self.now))

    def body(self) -> None:
        """What is left of the body, to its end."""
        while self.read is not None and self.position < len(self.content):
            self.chunks()
        if self.read is not None:
            self.end()

    def end(self) -> list[Any]:
        read, self.ask, self.read = self.read, None, None
        assert read is not None
        return self.feed(self.fetching.ended(told.SourceEnded(read.permit, len(self.content)), self.now))

    def breaks(
        self, code: str = "source_failed", *, permanent: bool = False, retry_after: float = 0.0, text: str = "it broke"
    ) -> list[Any]:
        """The source breaks off, or refuses."""
        assert self.ask is not None
        number, self.ask, self.read = self.ask.permit, None, None
        event = told.SourceBroke(number, code, text, permanent, retry_after)
        return self.feed(self.fetching.broke(event, self.now))

    def wait(self) -> float:
        """Until the next deadline; how long that was."""
        at = self.fetching.next_deadline()
        assert at is not None, "waits for nothing"
        waited, self.now = at - self.now, max(self.now, at)
        self.feed(self.fetching.deadline(self.now))
        return waited

    # ── the store ─────────────────────────────────────────────────────────────────────────────────────────────

    def store(self) -> None:
        """Everything that is to be written is written: what the machine does on ChunksStored."""
        unstored, self.unstored = self.unstored, []
        whole: list[int] = []
        for effect in unstored:
            holding = self.holdings.get(effect.task)
            if holding is None or holding.content.generation != effect.generation:
                continue
            assembly = holding.assemblies.get(effect.piece)
            if assembly is not None and assembly.mark_stored(effect.chunk):
                holding.keep(effect.piece)
                whole.append(effect.piece)
        for piece in whole:
            self.feed(self.fetching.piece_whole(self.task, piece, self.now))

    def proved(self, algorithm: str, hex_digest: str) -> list[Any]:
        event = told.ContentProved(self.task, self.holding.content.generation, algorithm, hex_digest)
        return self.feed(self.fetching.proved(event, self.now))

    def shelve(self) -> None:
        """What is held goes to disk, as a later process finds it."""
        holding = self.holding
        partial = {piece: assembly.stored for piece, assembly in holding.assemblies.items() if assembly.stored}
        proofs = dict(holding.proofs)
        for piece in partial:
            assembly = holding.assemblies[piece]
            proofs[piece] = b"".join(assembly.proofs.get(chunk, bytes(16)) for chunk in range(assembly.count))
        names = holding.etag, holding.last_modified, holding.strong_date
        self.disk[self.task] = Shelved(holding.content, holding.held, partial, proofs, self.request, *names)

    def fetch(self, permit: int = 1, **answer: Any) -> Generation:
        """A whole fetch that meets no trouble; what was said is forgotten."""
        self.permit(permit)
        self.answer(**answer)
        self.body()
        self.store()
        self.effects.clear()
        assert self.holding.is_complete
        assert not self.fetching.reads(self.task)
        return self.holding.content.generation

    def proven(self) -> list[int]:
        """Pieces told to be proven, in order; their proofs must be those of the content."""
        pieces = []
        for message in self.take(say.Proven):
            cut = self.holding.cut
            data = self.content[message.piece * cut.piece_length : (message.piece + 1) * cut.piece_length]
            chunks = [data[i : i + cut.chunk_length] for i in range(0, len(data), cut.chunk_length)]
            assert message.proofs == b"".join(map(digest_of, chunks))
            assert message.generation == self.holding.content.generation
            pieces.append(message.piece)
        return pieces

    def held(self) -> list[int]:
        return list(bitfield.members(self.holding.held))


def a_content(size: int, seed: int = 1) -> bytes:
    """So many octets that are the same in every run."""
    return random.Random(seed).randbytes(size)
