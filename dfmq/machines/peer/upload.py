"""Serving children: whose turn it is, how fast, and how many at once. One stream's books are in stream."""

from __future__ import annotations

from collections import deque
from typing import TypeVar

from dfmq.errors import InvariantViolated
from dfmq.machines.effects import ForgetInbox, PeerEffect, Record, SendChunk, TellChild
from dfmq.machines.peer.alarm import Alarm, AlarmedDeadlines
from dfmq.machines.peer.holding import Holdings
from dfmq.machines.peer.limits import RateMeter, TokenBucket
from dfmq.machines.peer.stream import Stream
from dfmq.model.host import Pressure
from dfmq.model.ids import LeaseId, TaskId
from dfmq.model.pieces import MIB
from dfmq.wire.messages import Credit, Fetch, Stop

_K = TypeVar("_K")

#: Twice what a child keeps in flight at most (design, section 2: 16), for it may ask before its last streams end.
MOST_OF_A_CHILD = 32
#: Streams at once; about 1 KiB each. A seed has 32 slots, scaled by its bandwidth.
MOST_STREAMS = {"calm": 1024, "busy": 256, "full": 8}
#: A pressed host serves at half of what it was measured to do, and never less than this: a parent that stands still is
#: worse than none.
LEAST_RATE = MIB
#: A child's lease may reach us before our own on the same piece: it is given so long before it is refused.
PATIENCE_SECONDS = 0.5
#: A stream nobody moves for so long belongs to a child that is gone (a lease's own default deadline).
IDLE_STREAM_SECONDS = 60.0
#: A connection costs 30 KiB on each side and some 0.4 ms to make: kept so long for the next lease, and so many of them.
IDLE_INBOX_SECONDS = 60.0
MOST_IDLE_INBOXES = 1024


class Upload:
    """All streams to all children.

    Law: no stream sends beyond its credit or a chunk twice; of streams that can send, each is served once before any is
    served twice; every stream with something to send and credit for it stands in the row exactly once.
    """

    def __init__(self, holdings: Holdings, up_limit: int, alarm: Alarm) -> None:
        """`up_limit`: bytes per second, 0 none."""
        self._holdings = holdings
        self._limit = up_limit
        self._bucket = TokenBucket(up_limit)
        #: bytes per second, to all children
        self.meter = RateMeter()
        self._level: Pressure = "calm"
        self._streams: dict[tuple[bytes, int], Stream] = {}
        self._by_piece: dict[tuple[TaskId, int], dict[tuple[bytes, int], Stream]] = {}
        self._count_by_child: dict[bytes, int] = {}
        self._count_by_inbox: dict[str, int] = {}
        #: streams that can send, in the order of their turns
        self._row: deque[Stream] = deque()
        self._alarm = alarm
        #: when the bucket lets the next chunk through; None: nothing waits for it
        self._pump_at: float | None = None
        #: when to see whether a stream is still alive
        self._looks: AlarmedDeadlines[tuple[bytes, int]] = AlarmedDeadlines(alarm)
        #: inboxes without a stream, and when their connection may go
        self._idle: AlarmedDeadlines[str] = AlarmedDeadlines(alarm)
        self._seen = 0.0

    @property
    def active(self) -> int:
        """Streams under way."""
        return len(self._streams)

    # ── what children say ─────────────────────────────────────────────────────────────────────────────────────

    def child_said(self, child: bytes, message: Fetch | Credit | Stop, now: float) -> list[PeerEffect]:
        """Take a child's message."""
        if isinstance(message, Credit):
            stream = self._streams.get((child, message.lease))
            if stream is None:
                return []
            stream.allow(message.credit, now)
            self._line_up(stream)
            return self._pump(now)
        if isinstance(message, Fetch):
            return self._fetch(child, message, now)
        stream = self._streams.get((child, message.lease))
        return self._end(stream, now) if stream is not None else []

    def _fetch(self, child: bytes, fetch: Fetch, now: float) -> list[PeerEffect]:
        effects: list[PeerEffect] = []
        former = self._streams.get((child, fetch.lease))
        if former is not None:
            effects += self._forget(former, now)
        refusal = self._refusal(child, fetch)
        if refusal:
            return [*effects, *self._refuse(child, fetch.lease, TaskId(fetch.task), fetch.piece, refusal)]
        stream = Stream(child, fetch, self._holdings[TaskId(fetch.task)], now)
        self._add(stream, now)
        if not stream.wanted:
            return [*effects, *self._end(stream, now)]
        self._line_up(stream)
        return [*effects, *self._pump(now)]

    def _refusal(self, child: bytes, fetch: Fetch) -> str:
        """Why this Fetch is not served; "" it is."""
        holding = self._holdings.get(TaskId(fetch.task))
        if holding is None or holding.content.generation != fetch.generation:
            return "not_held"
        length = holding.cut.length
        if length is not None and fetch.piece >= holding.cut.count:
            return "not_held"
        if self._count_by_child.get(child, 0) >= MOST_OF_A_CHILD or len(self._streams) >= MOST_STREAMS[self._level]:
            return "busy"
        return ""

    def _refuse(self, child: bytes, lease: int, task: TaskId, piece: int, code: str) -> list[PeerEffect]:
        return [
            TellChild(child, Stop(lease=lease, code=code)),
            Record("stream.refused", {"task": task, "piece": piece, "lease": lease, "code": code}),
        ]

    # ── what happens here ─────────────────────────────────────────────────────────────────────────────────────

    def chunk_proven(self, task: TaskId, piece: int, chunk: int, now: float) -> list[PeerEffect]:
        """This chunk can be sent from now on."""
        streams = self._by_piece.get((task, piece))
        if streams is None:
            return []
        bit = 1 << chunk
        for stream in streams.values():
            if stream.wanted & bit:
                stream.ready |= bit
                self._line_up(stream)
        return self._pump(now)

    def unsent(self, lease: LeaseId, now: float) -> list[PeerEffect]:
        """A chunk of this lease could not be sent: the child's inbox takes nothing more. Its stream ends, and the
        connection with the last stream to that inbox."""
        effects: list[PeerEffect] = []
        for stream in [stream for stream in self._streams.values() if stream.lease == lease]:
            effects += self._end(stream, now, "busy")
            if stream.inbox not in self._count_by_inbox:
                self._idle.clear(stream.inbox)
                effects.append(ForgetInbox(stream.inbox))
        return effects

    def task_changed(self, task: TaskId, now: float) -> list[PeerEffect]:
        """The task's content is another, is gone, or has got its end: streams of what is not here any more end."""
        effects: list[PeerEffect] = []
        holding = self._holdings.get(task)
        for stream in [stream for stream in self._streams.values() if stream.holding.task == task]:
            if stream.holding is not holding:
                effects += self._end(stream, now, "not_held")
                continue
            stream.look_again()
            if not stream.wanted:
                effects += self._end(stream, now)
            elif stream.has_turn and not stream.can_send:
                stream.has_turn = False
                self._row.remove(stream)
            else:
                self._line_up(stream)
        return effects + self._pump(now)

    def pressure(self, level: Pressure) -> None:
        """The host is so pressed: fewer streams at once are begun, and a full host also sends slower."""
        if level == self._level:
            return
        self._level = level
        rate = self._limit
        if level == "full":
            half = max(LEAST_RATE, self.meter.rate(self._seen) // 2)
            rate = min(rate, half) if rate else half
        self._bucket.set_rate(rate, self._seen)

    def deadline(self, now: float) -> list[PeerEffect]:
        """What has become due."""
        effects: list[PeerEffect] = []
        if self._pump_at is not None and self._pump_at <= now:
            effects += self._pump(now)
        for key in self._looks.due(now):
            effects += self._look_at(self._streams[key], now)
        for inbox in self._idle.due(now):
            effects.append(ForgetInbox(inbox))
        return effects

    def next_deadline(self) -> float | None:
        """When `deadline` is to be called at the latest."""
        instants = [at for at in (self._pump_at, self._looks.next(), self._idle.next()) if at is not None]
        return min(instants, default=None)

    def _look_at(self, stream: Stream, now: float) -> list[PeerEffect]:
        """Patience is over, or it is time to see whether the child still lives."""
        if not stream.is_gathered:
            return self._end(stream, now, "not_held")
        over_at = stream.used_at + IDLE_STREAM_SECONDS
        if over_at <= now:
            return self._end(stream, now, "going")
        self._looks.set(stream.key, over_at)
        return []

    # ── turns ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _line_up(self, stream: Stream) -> None:
        """Give the stream a place in the row if it can send and has none."""
        if not stream.has_turn and stream.can_send:
            stream.has_turn = True
            self._row.append(stream)

    def _pump(self, now: float) -> list[PeerEffect]:
        """Send what may be sent, a chunk a turn."""
        effects: list[PeerEffect] = []
        row, bucket = self._row, self._bucket
        self._seen = now
        self._pump_at = None
        while row:
            stream = row[0]
            holding = stream.holding
            if self._holdings.get(holding.task) is not holding:
                effects += self._end(stream, now, "not_held")
                continue
            chunk = stream.next_chunk()
            size = stream.size(chunk)
            if bucket.rate and (wait := bucket.ready_in(size, now)):
                self._pump_at = self._alarm.by(now + wait)
                break
            row.popleft()
            stream.has_turn = False
            payload = holding.chunk(stream.piece, chunk)
            if payload is None:
                # It was here and is not any more (a failed store): it comes again, or the child gives up.
                stream.ready &= ~(1 << chunk)
            else:
                if bucket.rate:
                    bucket.take(size, now)
                self.meter.add(size, now)
                stream.sent(chunk, size, now)
                effects.append(SendChunk(stream.inbox, stream.lease, stream.piece, chunk, payload))
            if not stream.wanted:
                effects += self._end(stream, now)
            else:
                self._line_up(stream)
        return effects

    # ── the books ─────────────────────────────────────────────────────────────────────────────────────────────

    def _add(self, stream: Stream, now: float) -> None:
        key = stream.key
        self._streams[key] = stream
        self._by_piece.setdefault((stream.holding.task, stream.piece), {})[key] = stream
        self._count_by_child[stream.child] = self._count_by_child.get(stream.child, 0) + 1
        self._count_by_inbox[stream.inbox] = self._count_by_inbox.get(stream.inbox, 0) + 1
        self._idle.clear(stream.inbox)
        self._looks.set(key, now + (IDLE_STREAM_SECONDS if stream.is_gathered else PATIENCE_SECONDS))

    def _forget(self, stream: Stream, now: float) -> list[PeerEffect]:
        """Out of all books. Its inbox may be idle now, and then the one that was idle longest may have to go."""
        key = stream.key
        del self._streams[key]
        self._looks.clear(key)
        place = (stream.holding.task, stream.piece)
        del self._by_piece[place][key]
        if not self._by_piece[place]:
            del self._by_piece[place]
        if stream.has_turn:
            stream.has_turn = False
            self._row.remove(stream)
        _take_one(self._count_by_child, stream.child)
        _take_one(self._count_by_inbox, stream.inbox)
        if stream.inbox not in self._count_by_inbox:
            self._idle.set(stream.inbox, now + IDLE_INBOX_SECONDS)
        longest = self._idle.next() if len(self._idle) > MOST_IDLE_INBOXES else None
        return [ForgetInbox(inbox) for inbox in self._idle.due(longest)] if longest is not None else []

    def _end(self, stream: Stream, now: float, code: str = "") -> list[PeerEffect]:
        """The stream is over; with a code: before its time, and the child is told."""
        effects = self._forget(stream, now)
        task, piece, lease = stream.holding.task, stream.piece, stream.lease
        if code:
            return [*effects, *self._refuse(stream.child, lease, task, piece, code)]
        fields = {
            "task": task,
            "piece": piece,
            "lease": lease,
            "bytes": stream.sent_bytes,
            "seconds": now - stream.since,
        }
        return [*effects, Record("stream.served", fields)]

    def check(self) -> None:
        """See the class's law."""
        for key, stream in self._streams.items():
            stream.check()
            if key != stream.key or stream not in self._by_piece[stream.holding.task, stream.piece].values():
                raise InvariantViolated(f"lease {stream.lease}: its stream is not where it belongs")
            if stream.has_turn != (stream in self._row):
                raise InvariantViolated(f"lease {stream.lease}: its stream has lost its turn")
            if stream.can_send and not stream.has_turn:
                raise InvariantViolated(f"lease {stream.lease}: its stream could send and nobody asks it to")
        children = sum(self._count_by_child.values()), sum(self._count_by_inbox.values())
        placed = sum(len(streams) for streams in self._by_piece.values())
        if children != (self.active, self.active) or placed != self.active or len(self._row) != len(set(self._row)):
            raise InvariantViolated(f"{self.active} streams, but {children} by child and inbox, {placed} by piece")
        if self._row and self._pump_at is None:
            raise InvariantViolated(f"{len(self._row)} streams can send and nothing is going to")
        self._bucket.check()
        self.meter.check()


def _take_one(counts: dict[_K, int], key: _K) -> None:
    """One less of this key; none left: the key goes."""
    counts[key] -= 1
    if not counts[key]:
        del counts[key]
