"""What machines ask for. Imperatives, performed in the order given; facts that answer them are in events."""

from __future__ import annotations

from typing import Any

import msgspec

from dfmq.model.ids import Generation, LeaseId, PeerId, PermitId, TaskId
from dfmq.model.pieces import PieceMap
from dfmq.model.task import Content, Request
from dfmq.wire.messages import Message


class Effect(msgspec.Struct, frozen=True, gc=False):
    """Something to be done."""


class Record(Effect, frozen=True, gc=False):
    """Tell the journal and the metrics: `noun.participle` and its fields (plain values, ids as bytes). No secrets.
    The closed list of names is RECORDS below."""

    name: str
    fields: dict[str, Any]


# ── the broker's ──────────────────────────────────────────────────────────────────────────────────────────────────


class Send(Effect, frozen=True, gc=False):
    """Say this to a peer on the control socket."""

    peer: PeerId
    message: Message


class Publish(Effect, frozen=True, gc=False):
    """Say this to whoever subscribed to the topic: a broker's notices, a peer's hints."""

    topic: bytes
    message: Message


# ── the peer's: the bus ───────────────────────────────────────────────────────────────────────────────────────────


class TellBroker(Effect, frozen=True, gc=False):
    """Say this to the broker. Those of one turn travel in one multipart message, in order."""

    message: Message


class NextBroker(Effect, frozen=True, gc=False):
    """The broker does not answer: make the connection anew, to the next configured address."""


class AskParent(Effect, frozen=True, gc=False):
    """Say this (Fetch, Credit, Stop) to the exchange of a parent; the connection is pooled."""

    endpoint: str
    message: Message


class TellChild(Effect, frozen=True, gc=False):
    """Say this (Stop) to a child on our exchange ROUTER."""

    child: bytes
    message: Message


class StoredSpan(msgspec.Struct, frozen=True, gc=False):
    """A slice of stored content, to be sent from the store without a copy."""

    task: TaskId
    generation: Generation
    offset: int
    length: int


class SendChunk(Effect, frozen=True, gc=False):
    """Send a chunk to a child's inbox. `payload`: the frame it came in, or where it is stored."""

    inbox: str
    lease: LeaseId
    piece: int
    chunk: int
    payload: Any


class ForgetInbox(Effect, frozen=True, gc=False):
    """The child at this inbox is gone or done: its pooled PUSH may be dropped, unsent chunks and all."""

    inbox: str


class TellClient(Effect, frozen=True, gc=False):
    """Say this to a local client."""

    client: bytes
    message: Message


class Listen(Effect, frozen=True, gc=False):
    """Hear these neighbours' hints on one task (replaces the earlier list; empty: none)."""

    task: TaskId
    endpoints: list[str]


# ── the peer's: the disk ──────────────────────────────────────────────────────────────────────────────────────────


class LoadTask(Effect, frozen=True, gc=False):
    """See what an earlier life left of this task. Answered by StoreLoaded."""

    task: TaskId


class OpenStore(Effect, frozen=True, gc=False):
    """Make ready to write this content; content of another generation under the task is dropped. Answered by
    StoreOpened or StoreFailed."""

    task: TaskId
    content: Content
    request: Request
    etag: str = ""
    last_modified: str = ""
    strong_date: bool = False


class StoreChunk(Effect, frozen=True, gc=False):
    """Write a proven chunk. Answered, batched, by ChunksStored or StoreFailed."""

    task: TaskId
    generation: Generation
    piece: int
    chunk: int
    offset: int
    digest: bytes
    payload: Any
    #: more of the same piece is on its way: writing it may wait a little for that
    may_wait: bool = False


class SealStore(Effect, frozen=True, gc=False):
    """A growing content has ended: its length is this."""

    task: TaskId
    generation: Generation
    length: int


class FinishStore(Effect, frozen=True, gc=False):
    """Every piece is held: sync what was deferred, and note the file's stamp."""

    task: TaskId
    generation: Generation


class ProveContent(Effect, frozen=True, gc=False):
    """Compute the digest of the whole stored content. Answered by ContentProved."""

    task: TaskId
    generation: Generation
    algorithm: str


class PinTask(Effect, frozen=True, gc=False):
    """In use: never to be evicted until unpinned. Said anew for each download, so that the store looks whether the file
    was touched since. Unpinned: its files need not stay open; said as well of what was written without being pinned."""

    task: TaskId
    pinned: bool


class LendTask(Effect, frozen=True, gc=False):
    """Its path is about to be told to a client: until it is unpinned, the file may get a second name at any moment, and
    whoever has that can change or truncate it."""

    task: TaskId


class NoteLink(Effect, frozen=True, gc=False):
    """A client has given the stored file another name; the file's ctime was `before` then, and `after` since, in
    nanoseconds."""

    task: TaskId
    generation: Generation
    before: int
    after: int


class DropTask(Effect, frozen=True, gc=False):
    """Delete what the store has of this task."""

    task: TaskId


# ── the peer's: the source ────────────────────────────────────────────────────────────────────────────────────────


class AskSource(Effect, frozen=True, gc=False):
    """Ask the source for the content from `offset` on. With validators: conditional (If-Range when offset > 0,
    If-None-Match / If-Modified-Since when `unchanged_will_do`). Answered by SourceAnswered or SourceBroke."""

    permit: PermitId
    request: Request
    offset: int
    etag: str
    last_modified: str
    unchanged_will_do: bool


class ReadSource(Effect, frozen=True, gc=False):
    """Read the body that waits: throw away its first `skip` bytes, then cut the rest, which begins at `offset` of the
    content (a chunk's first byte), into chunks. Answered by SourceChunk…, then SourceEnded or SourceBroke.
    At most `window` bytes of it may be unwritten at a time, and at most `rate` bytes per second are read, 0 any."""

    permit: PermitId
    task: TaskId
    generation: Generation
    cut: PieceMap
    offset: int
    skip: int
    window: int
    rate: int = 0


class PaceSource(Effect, frozen=True, gc=False):
    """From now on read at most so many bytes per second of the body that is being read, 0 any."""

    permit: PermitId
    rate: int


class DropSource(Effect, frozen=True, gc=False):
    """Close the connection to the source; whatever it still says is not wanted."""

    permit: PermitId


BrokerEffect = Send | Publish | Record
PeerEffect = (
    Record
    | Publish
    | TellBroker
    | NextBroker
    | AskParent
    | TellChild
    | SendChunk
    | ForgetInbox
    | TellClient
    | Listen
    | LoadTask
    | OpenStore
    | StoreChunk
    | SealStore
    | FinishStore
    | ProveContent
    | PinTask
    | LendTask
    | NoteLink
    | DropTask
    | AskSource
    | ReadSource
    | PaceSource
    | DropSource
)

#: The closed list of record names.
RECORDS = frozenset(
    {
        # broker
        "peer.welcomed", "peer.lost", "peer.quarantined", "host.suspected",
        "task.opened", "task.refused", "task.changed", "task.sealed", "task.forgotten",
        "permit.given", "permit.ended", "permit.failed",
        "lease.granted", "lease.done", "lease.failed", "lease.expired", "lease.revoked", "want.parked",
        "message.refused", "broker.stood_still",
        # peer
        "session.welcomed", "session.silent",
        "get.started", "get.done", "get.failed",
        "piece.held", "chunk.rejected", "stream.stalled", "stream.served", "stream.refused",
        "source.asked", "source.answered", "source.ended", "source.quit", "source.broke", "source.retried",
        "store.failed", "store.evicted", "host.pressed",
    }
)  # fmt: skip
