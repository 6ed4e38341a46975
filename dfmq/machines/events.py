"""Facts that are told to machines. Messages between nodes are in wire/messages; what machines ask for is in effects."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from dfmq.model.host import HostSample
from dfmq.model.ids import Generation, LeaseId, PeerId, PermitId, TaskId
from dfmq.model.task import Shelved
from dfmq.wire.messages import Message


class Event(msgspec.Struct, frozen=True, gc=False):
    """A fact."""


# ── for both machines ─────────────────────────────────────────────────────────────────────────────────────────────


class DeadlineReached(Event, frozen=True, gc=False):
    """The time the machine asked for has come. Too early or twice does no harm."""


# ── for the broker ────────────────────────────────────────────────────────────────────────────────────────────────


class PeerSaid(Event, frozen=True, gc=False):
    """A peer's message came in on the control socket. `peer` is the routing id: nobody else can send under it now."""

    peer: PeerId
    message: Message


class FellBehind(Event, frozen=True, gc=False):
    """More has come in on the control socket than could be read in a row: what came after `since` may lie unread."""

    since: float


class CaughtUp(Event, frozen=True, gc=False):
    """Everything on the control socket has been read again."""


class PeerUnreachable(Event, frozen=True, gc=False):
    """A message to the peer could not be routed: its connection is gone."""

    peer: PeerId


# ── for the peer: the bus ─────────────────────────────────────────────────────────────────────────────────────────


class BrokerSaid(Event, frozen=True, gc=False):
    """The broker's message came in."""

    message: Message


class ChildSaid(Event, frozen=True, gc=False):
    """A child's message (Fetch, Credit, Stop) came in on our exchange ROUTER; `child` is its routing id there."""

    child: bytes
    message: Message


class ParentSaid(Event, frozen=True, gc=False):
    """A parent's message (Stop, Error) came in; `endpoint` is the parent's exchange as the Lease named it."""

    endpoint: str
    message: Message


class NeighbourHinted(Event, frozen=True, gc=False):
    """A neighbour's hint (wire Hint) was heard."""

    message: Message


class NeighbourListens(Event, frozen=True, gc=False):
    """Somebody begins to listen to our hints on the task. Who it is cannot be told."""

    task: TaskId


class NoticeHeard(Event, frozen=True, gc=False):
    """A broker's notice was heard. Nothing may depend on one arriving."""

    message: Message


class ChunkArrived(Event, frozen=True, gc=False):
    """A chunk came into the inbox. `digest` was computed over the payload on arrival with the node's algorithm; the
    machine compares it with the broker's word. `payload` is opaque: the received frame, kept as it came."""

    lease: LeaseId
    piece: int
    chunk: int
    length: int
    digest: bytes
    payload: Any


class ClientSaid(Event, frozen=True, gc=False):
    """A local client's message (Get, Release) came in; `client` is its routing id on the local socket."""

    client: bytes
    message: Message


class ClientLost(Event, frozen=True, gc=False):
    """A local client cannot be reached any more."""

    client: bytes


class ChunkUnsent(Event, frozen=True, gc=False):
    """A SendChunk could not be sent: the child's inbox takes nothing more (it is gone, or broke its credit)."""

    lease: LeaseId


# ── for the peer: the disk ────────────────────────────────────────────────────────────────────────────────────────


class StoreLoaded(Event, frozen=True, gc=False):
    """Answers LoadTask: what an earlier life left of this task; None: nothing."""

    task: TaskId
    shelved: Shelved | None


class StoreOpened(Event, frozen=True, gc=False):
    """Answers OpenStore: the content may be written now; what of this very generation is held already."""

    task: TaskId
    generation: Generation
    held: int
    partial: dict[int, int]
    proofs: dict[int, bytes]


class StoreFailed(Event, frozen=True, gc=False):
    """Answers OpenStore, or comes by itself when a write failed. `code`: no_space or store."""

    task: TaskId
    code: str
    text: str


class ChunksStored(Event, frozen=True, gc=False):
    """These chunks are written and journalled. Pairs (piece, chunk)."""

    task: TaskId
    generation: Generation
    chunks: list[tuple[int, int]]


class ContentProved(Event, frozen=True, gc=False):
    """Answers ProveContent: the digest of the whole stored content, hex; "" when it could not be read."""

    task: TaskId
    generation: Generation
    algorithm: str
    hex: str


class StoreDoubted(Event, frozen=True, gc=False):
    """Answers PinTask where it has to: the file of this complete content was touched, and must not be given away before
    OpenStore or LoadTask is answered, which proves it."""

    task: TaskId


class StoreDamaged(Event, frozen=True, gc=False):
    """Stored content does not stand any more as it was told. `why`: changed (its file was, from outside) · unsynced
    (the disk did not keep what was written) · evicted (it had to make room)."""

    task: TaskId
    why: Literal["changed", "unsynced", "evicted"] = "changed"


# ── for the peer: the source ──────────────────────────────────────────────────────────────────────────────────────


class SourceAnswered(Event, frozen=True, gc=False):
    """Answers AskSource: the source's headers are here, the body waits.

    `kind`: "full" the body is the whole content from 0 · "partial" the body begins at `offset`, as asked ·
    "unchanged" the validators still hold, no body.
    """

    permit: PermitId
    kind: str
    offset: int
    #: of the whole content; None unknown
    length: int | None
    etag: str
    last_modified: str
    #: from Cache-Control/Expires; None: the source does not say
    fresh_seconds: float | None
    #: the source says it takes byte ranges
    ranges: bool
    #: `last_modified` is so much older than the answer that it names these very octets (RFC 9110, section 8.8.2.2)
    strong_date: bool = False


class SourceChunk(Event, frozen=True, gc=False):
    """A chunk of the source's body. Cut as ReadSource asked."""

    permit: PermitId
    piece: int
    chunk: int
    length: int
    digest: bytes
    payload: Any


class SourceEnded(Event, frozen=True, gc=False):
    """The body is over, and as long as promised; `length` is the whole content's."""

    permit: PermitId
    length: int


class SourceBroke(Event, frozen=True, gc=False):
    """The source refused, broke off, or stalled. `code`: a failure's name of dfmq.errors; `permanent`: no use in
    trying again at once."""

    permit: PermitId
    code: str
    text: str
    permanent: bool
    retry_after: float


class HostSampled(Event, frozen=True, gc=False):
    """A look at our own host."""

    sample: HostSample


BrokerEvent = DeadlineReached | PeerSaid | PeerUnreachable | FellBehind | CaughtUp
PeerEvent = (
    DeadlineReached
    | BrokerSaid
    | ChildSaid
    | ParentSaid
    | NeighbourHinted
    | NeighbourListens
    | NoticeHeard
    | ChunkArrived
    | ClientSaid
    | ClientLost
    | ChunkUnsent
    | StoreLoaded
    | StoreOpened
    | StoreFailed
    | ChunksStored
    | ContentProved
    | StoreDoubted
    | StoreDamaged
    | SourceAnswered
    | SourceChunk
    | SourceEnded
    | SourceBroke
    | HostSampled
)
