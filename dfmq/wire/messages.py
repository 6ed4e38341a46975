"""Every message of the bus, one Struct each, bounds in the type. docs/protocol.md is the norm; no behaviour here.

Map encoding with a text tag `op`. New fields go last and have defaults; unknown fields are ignored.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from dfmq.model.host import HostSample
from dfmq.model.task import Request
from dfmq.wire.version import PROTOCOL_VERSION as PROTOCOL_VERSION

TaskIdField = Annotated[bytes, Meta(min_length=16, max_length=16)]
PeerIdField = Annotated[bytes, Meta(min_length=16, max_length=16)]
HostIdField = Annotated[bytes, Meta(min_length=16, max_length=16)]
GenerationField = Annotated[bytes, Meta(min_length=8, max_length=8)]
#: b"" stands for "none yet"
MaybeGeneration = Annotated[bytes, Meta(max_length=8)]
Endpoint = Annotated[str, Meta(max_length=256)]
Name = Annotated[str, Meta(max_length=256)]
Code = Annotated[str, Meta(max_length=32)]
Explanation = Annotated[str, Meta(max_length=2048)]
#: set of pieces or chunks, see model/bitfield; 8 KiB carry 65,536 pieces
Bits = Annotated[bytes, Meta(max_length=8192)]
#: the chunk digests of one piece, one after the other, 16 octets each; at most 1024 chunks
Proofs = Annotated[bytes, Meta(max_length=16384)]
PieceIndex = Annotated[int, Meta(ge=0, lt=2**24)]
Id63 = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Bytes = Annotated[int, Meta(ge=0, lt=2**60)]
Rate = Annotated[int, Meta(ge=0, lt=2**50)]
Seconds = Annotated[float, Meta(ge=0, le=1e9)]
Count = Annotated[int, Meta(ge=0, lt=2**16)]


class Message(msgspec.Struct, frozen=True, tag_field="op", kw_only=True, omit_defaults=True):
    """What one node says to another."""


# ── control: peer → broker ────────────────────────────────────────────────────────────────────────────────────────


class Hello(Message, frozen=True, tag="hello"):
    """A peer comes, or comes back. Answered by Welcome. Said again whenever the broker's epoch is new to the peer."""

    peer: PeerIdField
    host: HostIdField
    #: where children reach the peer's exchange ROUTER
    exchange: Endpoint
    #: where neighbours hear the peer's hints (PUB); "" none
    hints: Endpoint = ""
    name: Name = ""
    seed: bool = False
    #: leases the peer will serve at once before its rates are known
    slots: Count = 4
    #: configured limits, bytes per second; 0 none
    up_limit: Rate = 0
    down_limit: Rate = 0
    zone: Name = ""
    software: Name = ""


class Open(Message, frozen=True, tag="open"):
    """The peer wants a task. Answered by Opened or Refused, maybe late; said again after a new Welcome."""

    task: TaskIdField
    request: Request
    #: what the peer holds of it already
    generation: MaybeGeneration = b""
    held: Bits = b""
    #: leases wanted at once, as in Want
    want: Count = 0
    #: True: do not go to the source for this; only what the swarm has
    no_source: bool = False


class Held(Message, frozen=True, tag="held"):
    """The peer holds pieces of a task and will serve them; it wants nothing."""

    task: TaskIdField
    generation: GenerationField
    held: Bits


class Want(Message, frozen=True, tag="want"):
    """Leave to take `count` more pieces is wanted. Wants add up; the broker remembers them until granted or Closed."""

    task: TaskIdField
    count: Count
    #: how many pieces the peer keeps in flight now; a broker scales the peer's slots by it
    in_flight: Count = 3
    #: measured, bytes per second, decaying maximum; 0 unknown
    down_rate: Rate = 0
    up_rate: Rate = 0


class Have(Message, frozen=True, tag="have"):
    """The peer has proven and stored these pieces. Ends its leases on them."""

    task: TaskIdField
    generation: GenerationField
    pieces: Annotated[list[PieceIndex], Meta(max_length=4096)]


class Lost(Message, frozen=True, tag="lost"):
    """The peer no longer holds these pieces (purged, damaged); `all_pieces` for the whole task."""

    task: TaskIdField
    pieces: Annotated[list[PieceIndex], Meta(max_length=4096)] = []
    all_pieces: bool = False


class Failed(Message, frozen=True, tag="failed"):
    """A lease came to nothing. Codes: stalled, corrupt, refused, unreachable, cancelled. Ends the lease;
    the want it answered counts again unless the code is cancelled."""

    task: TaskIdField
    lease: Id63
    piece: PieceIndex
    code: Code
    text: Explanation = ""


class Close(Message, frozen=True, tag="close"):
    """The peer wants no more of this task. Ends its wants and leases; what it holds it still serves."""

    task: TaskIdField


class Beat(Message, frozen=True, tag="beat"):
    """The peer lives. Any message proves life; a Beat also carries the host's sample. Answered by BeatSeen."""

    stamp: Id63 = 0
    sample: HostSample = HostSample()
    down_rate: Rate = 0
    up_rate: Rate = 0


class Bye(Message, frozen=True, tag="bye"):
    """The peer goes, in order."""


# ── control: seed → broker, about the source ──────────────────────────────────────────────────────────────────────


class Sourced(Message, frozen=True, tag="sourced"):
    """The source answered a Permit with yes: this is the content's generation and cut. Pieces follow as Proven."""

    permit: Id63
    task: TaskIdField
    generation: GenerationField
    #: None: the source does not say; a Sealed follows at the end
    length: Bytes | None
    piece_length: Annotated[int, Meta(ge=1, le=1 << 30)]
    chunk_length: Annotated[int, Meta(ge=1, le=1 << 24)]
    algorithm: Name = "xxh3_128"
    #: how long the answer may be used without asking the source again
    fresh_seconds: Seconds = 0.0


class Proven(Message, frozen=True, tag="proven"):
    """The seed holds this piece, and these are the digests of its chunks: the broker's word on what is true."""

    task: TaskIdField
    generation: GenerationField
    piece: PieceIndex
    proofs: Proofs


class Sealed(Message, frozen=True, tag="sealed"):
    """A growing content is at its end: this is its length. Seed → broker, then broker → every peer of the task."""

    task: TaskIdField
    generation: GenerationField
    length: Bytes


class SourceFailed(Message, frozen=True, tag="source-failed"):
    """The source gave nothing, or stopped giving. `code` is a failure's name of dfmq.errors."""

    permit: Id63
    task: TaskIdField
    code: Code
    text: Explanation
    retry_after: Seconds = 0.0


# ── control: broker → peer ────────────────────────────────────────────────────────────────────────────────────────


class Welcome(Message, frozen=True, tag="welcome"):
    """The broker knows the peer now."""

    #: new at every start of the broker
    epoch: Id63
    #: where the broker's notices are heard (SUB)
    notices: Endpoint = ""
    beat_seconds: Seconds = 2.0


class Opened(Message, frozen=True, tag="opened"):
    """The task's content as it is now. Said again with another generation when the content changed: the peer drops
    what it holds of any other generation."""

    task: TaskIdField
    generation: GenerationField
    length: Bytes | None
    piece_length: Annotated[int, Meta(ge=1, le=1 << 30)]
    chunk_length: Annotated[int, Meta(ge=1, le=1 << 24)]
    algorithm: Name = "xxh3_128"
    #: hint endpoints of peers of the same task, to carry on with while no broker answers
    neighbours: Annotated[list[Endpoint], Meta(max_length=16)] = []


class Refused(Message, frozen=True, tag="refused"):
    """The task cannot be had. `code` is a failure's name of dfmq.errors; told to all who wait at once."""

    task: TaskIdField
    code: Code
    text: Explanation
    retry_after: Seconds = 0.0


class Lease(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Leave, until a deadline, for a child to take one piece from a parent."""

    lease: Id63
    piece: PieceIndex
    parent: PeerIdField
    endpoint: Endpoint
    proofs: Proofs
    #: from now on; after that the broker takes the lease as failed
    seconds: Seconds = 60.0
    #: the parent is a seed (for the receipt)
    seed: bool = False


class Grant(Message, frozen=True, tag="grant"):
    """Leases for one task, each answering one want."""

    task: TaskIdField
    generation: GenerationField
    leases: Annotated[list[Lease], Meta(max_length=64)]


class Revoke(Message, frozen=True, tag="revoke"):
    """These leases are void; the wants they answered count again."""

    task: TaskIdField
    leases: Annotated[list[Id63], Meta(max_length=256)]


class Permit(Message, frozen=True, tag="permit"):
    """Leave to read the source, once. `check_only`: ask whether the content is still `generation` and whether the
    request's credentials are good for it; answer Sourced or SourceFailed. If the content has changed, fetch it."""

    permit: Id63
    task: TaskIdField
    request: Request
    generation: MaybeGeneration = b""
    check_only: bool = False
    #: the most hosts the broker has had at once: how a new content is cut depends on it
    hosts: Count = 0
    #: a generation that somebody says to hold, of a task the broker knows nothing of: it keeps its cut
    claimed: MaybeGeneration = b""


class Quit(Message, frozen=True, tag="quit"):
    """A permit is void: nobody wants the content any more."""

    permit: Id63
    task: TaskIdField


class BeatSeen(Message, frozen=True, tag="beat-seen"):
    """Echo of a Beat's stamp: the peer measures the control round trip with it. `behind`: more has come in than the
    broker gets through, and fewer messages are of use."""

    stamp: Id63
    behind: bool = False


class Error(Message, frozen=True, tag="error"):
    """Something said was not understood or not allowed. Codes: unknown_message, malformed, version, unknown_peer
    (say Hello again), unknown_task."""

    code: Code
    text: Explanation = ""
    version: Count = PROTOCOL_VERSION


# ── notices: broker PUB → peer SUB; hints only ────────────────────────────────────────────────────────────────────


class Notice(Message, frozen=True, tag="notice"):
    """Something peers may like to know early. Kinds: behind, generation, quarantine; others are passed over."""

    kind: Code
    epoch: Id63 = 0
    task: Annotated[bytes, Meta(max_length=16)] = b""
    generation: MaybeGeneration = b""
    peer: Annotated[bytes, Meta(max_length=16)] = b""


# ── hints: peer PUB → neighbours' SUB ─────────────────────────────────────────────────────────────────────────────


class Hint(Message, frozen=True, tag="hint"):
    """A neighbour has this piece; with the broker's word on its chunks, passed on."""

    task: TaskIdField
    generation: GenerationField
    piece: PieceIndex
    peer: PeerIdField
    endpoint: Endpoint
    proofs: Proofs


# ── exchange: child DEALER → parent ROUTER, and back ──────────────────────────────────────────────────────────────


class Fetch(Message, frozen=True, tag="fetch"):
    """Send these chunks of a piece to my inbox. The parent sends what it has, and the rest as it comes in."""

    lease: Id63
    task: TaskIdField
    generation: GenerationField
    piece: PieceIndex
    #: chunks wanted, a bit set
    chunks: Bits
    #: bytes the parent may send before it needs more
    credit: Bytes
    inbox: Endpoint


class Credit(Message, frozen=True, tag="credit"):
    """The parent may send so many bytes more on this lease."""

    lease: Id63
    credit: Bytes


class Stop(Message, frozen=True, tag="stop"):
    """Child → parent: send no more on this lease. Parent → child: I shall send no more. Codes of parents:
    not_held, busy, going, damaged. Of children: done, cancelled, corrupt, stalled."""

    lease: Id63
    code: Code = "done"


# ── local: dfmq-get DEALER → peer ipc ROUTER, and back ────────────────────────────────────────────────────────────


class Ask(Message, frozen=True, tag="ask"):
    """Who are you? Answered by Answer."""


class Answer(Message, frozen=True, tag="answer"):
    """The host's peer, and whether it has a broker."""

    pid: Id63
    software: Name
    brokers: Annotated[list[Endpoint], Meta(max_length=16)] = []
    #: True: the peer runs a broker of its own, for none is configured
    alone: bool = False
    broker_seen: bool = False


class Get(Message, frozen=True, tag="get"):
    """Bring this content into the store and keep it there until Release. Answered by Progress… then Done or Sorry."""

    get: Id63
    request: Request
    #: bytes per second, 0 none
    limit: Rate = 0
    no_source: bool = False
    #: nobody is shown how far it is: progress is a sign of life
    unwatched: bool = False


class Release(Message, frozen=True, tag="release"):
    """The client no longer wants this get, done or not. `linked`: the stored file has got a second name."""

    get: Id63
    linked: bool = False
    #: of the stored file, nanoseconds: just before it got that name, and just after; 0 not known
    ctime_before: Id63 = 0
    ctime_after: Id63 = 0


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """Where the bytes came from; bytes. They add up to the content's length when a get is done."""

    from_source: Bytes = 0
    from_seed: Bytes = 0
    from_peers: Bytes = 0
    from_store: Bytes = 0


class Progress(Message, frozen=True, tag="progress"):
    """How far a get is."""

    get: Id63
    #: None: not known yet
    length: Bytes | None = None
    held: Bytes = 0
    bytes_per_second: Rate = 0
    parents: Count = 0
    receipt: Receipt = Receipt()


class Done(Message, frozen=True, tag="done"):
    """The whole content stands proven at `path`, and stays until Release."""

    get: Id63
    path: Annotated[str, Meta(max_length=4096)]
    length: Bytes
    task: TaskIdField
    generation: GenerationField
    receipt: Receipt


class Sorry(Message, frozen=True, tag="sorry"):
    """The get failed. `code` is a failure's name of dfmq.errors."""

    get: Id63
    code: Code
    text: Explanation
    retry_after: Seconds = 0.0


CONTROL_TO_BROKER = (
    Hello
    | Open
    | Held
    | Want
    | Have
    | Lost
    | Failed
    | Close
    | Beat
    | Bye
    | Sourced
    | Proven
    | Sealed
    | SourceFailed
    | Error
)
CONTROL_TO_PEER = Welcome | Opened | Refused | Grant | Revoke | Permit | Quit | BeatSeen | Sealed | Error
EXCHANGE_TO_PARENT = Fetch | Credit | Stop
EXCHANGE_TO_CHILD = Stop | Error
NOTICES = Notice
HINTS = Hint
LOCAL_TO_PEER = Ask | Get | Release
LOCAL_TO_CLIENT = Answer | Progress | Done | Sorry | Error
