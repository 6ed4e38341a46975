"""Peers without content: they speak the control protocol to a broker as real ones do, and move no data. Run by
bench/broker, which tells it on standard input when to go on; every answer is one JSON line.

    python -m bench.load BROKER PEERS TASKS OUTSTANDING IN_FLIGHT SECONDS URL LENGTH

Each peer holds its own DEALER, beats, wants IN_FLIGHT pieces, has each as soon as its turn comes again, and when it has
all of a task it loses all, closes and opens it anew. At most OUTSTANDING Wants of all peers together wait for an
answer; peers take turns. Reply time: from a Want's sending until the first Grant to that peer is decoded.
"""

from __future__ import annotations

import json
import os
import resource
import select
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable

import zmq

from bench.outcome import share
from dfmq.edges.bus import sockets
from dfmq.model import bitfield
from dfmq.model.ids import TaskId
from dfmq.model.pieces import PieceMap, cut
from dfmq.model.task import Request, task_id
from dfmq.wire import codec, envelope
from dfmq.wire import messages as said
from dfmq.wire.messages import Message

#: What a member says of itself: a card of 200 Mbit/s, both ways.
RATE = 25_000_000
#: Nothing is heard from the broker for so long: it, or this load, is broken.
PATIENCE_SECONDS = 30.0


class Part:
    """One peer's part in one task."""

    __slots__ = ("generation", "held", "is_listed", "leases", "member", "task", "waiting_since", "wanted")

    def __init__(self, member: Member, task: TaskId) -> None:
        self.member = member
        self.task = task
        self.generation = b""
        #: pieces, bit set
        self.held = 0
        #: pieces wanted and not granted
        self.wanted = 0
        #: lease → piece, granted and not yet had
        self.leases: dict[int, int] = {}
        #: when the Want that no Grant has answered yet was sent; 0 none
        self.waiting_since = 0.0
        #: it stands in the line of those whose turn comes
        self.is_listed = False


class Member:
    """One peer: its socket and its parts."""

    __slots__ = ("is_welcome", "parts", "peer", "socket")

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], broker: str, tasks: Iterable[TaskId]) -> None:
        self.peer = os.urandom(16)
        self.socket = sockets.dealer(context, self.peer)
        sockets.connect(self.socket, broker)
        self.is_welcome = False
        self.parts = {task: Part(self, task) for task in tasks}

    def say(self, *messages: Message) -> None:
        self.socket.send_multipart(envelope.wrap([codec.encode(message) for message in messages]), zmq.NOBLOCK)


class Load:
    """All of them, in one thread. Law: `waiting` counts the parts with a Want that no Grant has answered."""

    def __init__(
        self, broker: str, requests: list[Request], pieces: PieceMap, outstanding: int, in_flight: int
    ) -> None:
        self.pieces = pieces
        self.outstanding = outstanding
        self.in_flight = in_flight
        self.requests = {task_id(request): request for request in requests}
        self._broker = broker
        self._context = sockets.new_context()
        self._epoll = select.epoll()
        self._by_fd: dict[int, Member] = {}
        self.members: list[Member] = []
        self._turns: deque[Part] = deque()
        self.waiting = 0
        self._heard_at = time.monotonic()
        self._beat_seconds = 2.0
        self._beats_said = 0
        self._beats_since = time.monotonic()
        self.counts = dict.fromkeys(("wants", "grants", "haves", "beats", "revokes", "lives"), 0)
        self.replies: list[float] = []
        self._on: dict[type[Message], Callable[[Member, Message], None]] = {
            said.Welcome: self._welcome,
            said.Opened: self._opened,
            said.Grant: self._grant,
            said.Revoke: self._revoke,
        }

    # ── the stages ───────────────────────────────────────────────────────────────────────────────────────────────

    def register(self, count: int) -> None:
        """So many peers come; until all are welcome."""
        for _ in range(count):
            member = Member(self._context, self._broker, self.requests)
            descriptor = int(member.socket.getsockopt(zmq.FD))
            self._by_fd[descriptor] = member
            self._epoll.register(descriptor, select.EPOLLIN)
            self.members.append(member)
            number = len(self.members)
            where = f"tcp://10.{number >> 16}.{number >> 8 & 255}.{number & 255}:7000"
            member.say(
                said.Hello(peer=member.peer, host=member.peer, exchange=where, hints=where, name=f"load-{number}")
            )
            self._hear(0.0)
        self._until(lambda: all(member.is_welcome for member in self.members))
        self._beats_since = time.monotonic()

    def open(self, members: Iterable[Member]) -> None:
        """They open every task, wanting nothing yet."""
        parts = [part for member in members for part in member.parts.values()]
        for part in parts:
            part.member.say(said.Open(task=part.task, request=self.requests[part.task]))
            self._hear(0.0)
        self._until(lambda: all(part.generation for part in parts))

    def prime(self) -> None:
        """The first peer takes every piece once: the broker's seed has them all."""
        self.open(self.members[:1])
        for part in self.members[0].parts.values():
            self._line_up(part)
        self._until(lambda: self.counts["lives"] >= len(self.requests))
        for part in self.members[0].parts.values():
            self._turns.clear()
            part.is_listed = False

    def run(self, seconds: float) -> tuple[float, float]:
        """All peers take their turns for so long; the seconds it took, and ours of the CPU."""
        for member in self.members:
            for part in member.parts.values():
                self._line_up(part)
        # Everybody once before anything counts.
        turns = len(self.members) * len(self.requests)
        self._until(lambda: self.counts["wants"] >= 2 * turns)
        self.counts = dict.fromkeys(self.counts, 0)
        self.replies.clear()
        began, cpu = time.monotonic(), time.process_time()
        self._until(lambda: time.monotonic() - began >= seconds)
        return time.monotonic() - began, time.process_time() - cpu

    def close(self) -> None:
        for member in self.members:
            member.socket.close()
        self._context.term()

    # ── turns ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _until(self, is_over: Callable[[], bool]) -> None:
        self._heard_at = time.monotonic()
        while not is_over():
            while self._turns and self.waiting < self.outstanding:
                part = self._turns.popleft()
                part.is_listed = False
                self._take_turn(part)
            self._beat()
            self._hear(0.005)
            if time.monotonic() - self._heard_at > PATIENCE_SECONDS:
                raise SystemExit(f"the broker has said nothing for {PATIENCE_SECONDS:.0f} s")

    def _line_up(self, part: Part) -> None:
        if not part.is_listed:
            part.is_listed = True
            self._turns.append(part)

    def _take_turn(self, part: Part) -> None:
        """Have what was granted, want as much again; or begin anew."""
        saying: list[Message] = []
        if part.leases:
            pieces = list(part.leases.values())
            part.leases.clear()
            part.held |= bitfield.of(pieces)
            self.counts["haves"] += len(pieces)
            saying.append(said.Have(task=part.task, generation=part.generation, pieces=pieces))
        if part.held == bitfield.full(self.pieces.count):
            self.counts["lives"] += 1
            part.held = part.wanted = 0
            saying += [said.Lost(task=part.task, all_pieces=True), said.Close(task=part.task)]
            saying.append(said.Open(task=part.task, request=self.requests[part.task]))
        more = min(self.in_flight, self.pieces.count - part.held.bit_count()) - part.wanted
        if more > 0:
            part.wanted += more
            part.waiting_since = time.monotonic()
            self.waiting += 1
            self.counts["wants"] += 1
            rates = {"in_flight": self.in_flight, "down_rate": RATE, "up_rate": RATE}
            saying.append(said.Want(task=part.task, count=more, **rates))
        if saying:
            part.member.say(*saying)
        # What came in meanwhile may have taken the descriptor's sign with it.
        self._drain(part.member)

    def _beat(self) -> None:
        """Those whose time has come, in turn."""
        due = int((time.monotonic() - self._beats_since) * len(self.members) / self._beat_seconds)
        while self._beats_said < due:
            member = self.members[self._beats_said % len(self.members)]
            self._beats_said += 1
            self.counts["beats"] += 1
            member.say(said.Beat(stamp=self._beats_said, down_rate=RATE, up_rate=RATE))
            self._drain(member)

    # ── hearing ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _hear(self, patience: float) -> None:
        for descriptor, _ in self._epoll.poll(patience, 512):
            self._drain(self._by_fd[descriptor])

    def _drain(self, member: Member) -> None:
        while True:
            try:
                frames = member.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            self._heard_at = time.monotonic()
            for body in envelope.unwrap(frames):
                message: Message = codec.peer_hears.decode(body)
                act = self._on.get(type(message))
                if act is not None:
                    act(member, message)
                elif isinstance(message, said.Refused | said.Error):
                    raise SystemExit(f"the broker said {message}")

    def _welcome(self, member: Member, message: Message) -> None:
        assert isinstance(message, said.Welcome)
        member.is_welcome = True
        self._beat_seconds = message.beat_seconds

    def _opened(self, member: Member, message: Message) -> None:
        assert isinstance(message, said.Opened)
        member.parts[TaskId(message.task)].generation = message.generation

    def _grant(self, member: Member, message: Message) -> None:
        assert isinstance(message, said.Grant)
        part = member.parts[TaskId(message.task)]
        for lease in message.leases:
            part.leases[lease.lease] = lease.piece
        self.counts["grants"] += len(message.leases)
        # A lease that was revoked while its Have was on the way is granted once more than we know of.
        part.wanted = max(0, part.wanted - len(message.leases))
        if part.waiting_since:
            self.replies.append(self._heard_at - part.waiting_since)
            part.waiting_since = 0.0
            self.waiting -= 1
        self._line_up(part)

    def _revoke(self, member: Member, message: Message) -> None:
        assert isinstance(message, said.Revoke)
        part = member.parts[TaskId(message.task)]
        for lease in message.leases:
            if part.leases.pop(lease, None) is not None:
                self.counts["revokes"] += 1
                part.wanted += 1


def main() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    broker, peers, tasks, outstanding, in_flight, seconds, url, length = sys.argv[1:]
    requests = [Request(url=url, tag=f"task-{number}") for number in range(int(tasks))]
    load = Load(broker, requests, cut(int(length)), int(outstanding), int(in_flight))

    def say(**fields: object) -> None:
        """Tell where we are, and wait to be told to go on."""
        print(json.dumps(fields), flush=True)
        sys.stdin.readline()

    load.register(1)
    load.prime()
    say(event="primed")
    load.register(int(peers) - 1)
    say(event="registered")
    load.open(load.members[1:])
    say(event="opened")
    took, cpu = load.run(float(seconds))
    replies = load.replies or [0.0]
    found = {name: count / took for name, count in load.counts.items()}
    found |= {
        "p50_ms": share(replies, 0.5) * 1000,
        "p99_ms": share(replies, 0.99) * 1000,
        "max_ms": max(replies) * 1000,
    }
    say(event="run", load_cpu=cpu / took, **found)
    load.close()


if __name__ == "__main__":
    main()
