"""A BrokerMachine and peers that take turns, without any socket: the broker's own work, for bench/micro."""

from __future__ import annotations

from collections import deque
from random import Random

from dfmq.machines import effects as do
from dfmq.machines import events as told
from dfmq.machines.broker.machine import BrokerMachine
from dfmq.model import bitfield
from dfmq.model.ids import HostId, PeerId, TaskId
from dfmq.model.pieces import PieceMap
from dfmq.model.settings import BrokerSettings
from dfmq.model.task import Request, task_id
from dfmq.wire import messages as said

CUT = PieceMap(96 << 20, 1 << 20, 64 << 10)
REQUEST = Request(url="https://source.example/content")
TASK = TaskId(task_id(REQUEST))
GENERATION = bytes(8)
IN_FLIGHT = 3
RATE = 25_000_000
#: 20,000 wants a second
TURN_SECONDS = 0.00005


class Member:
    """A child: what it holds, and what it was granted."""

    def __init__(self, number: int) -> None:
        self.peer = PeerId(number.to_bytes(16, "big"))
        self.held = 0
        self.leases: dict[int, int] = {}


class Turns:
    """A seed that has it all, and children who want it, one turn each: Have what was granted, Want as much again. Who
    has it all begins anew."""

    def __init__(self, peers: int) -> None:
        self._machine = BrokerMachine(BrokerSettings(home="", seed_slots=96), 7, Random(1))
        self._now = 100.0
        self._members: dict[PeerId, Member] = {}
        self._seed = self._join(0, is_seed=True)
        children = [self._join(number) for number in range(1, peers + 1)]
        for child in children:
            self._say(child, said.Open(task=TASK, request=REQUEST, want=IN_FLIGHT))
        self._line = deque(children)

    def take(self, turns: int) -> None:
        """So many turns."""
        for _ in range(turns):
            self._now += TURN_SECONDS
            member = self._line[0]
            self._line.rotate(-1)
            if member.leases:
                pieces = list(member.leases.values())
                member.leases.clear()
                member.held |= bitfield.of(pieces)
                self._say(member, said.Have(task=TASK, generation=GENERATION, pieces=pieces))
            if member.held == bitfield.full(CUT.count):
                member.held = 0
                self._say(member, said.Lost(task=TASK, all_pieces=True))
                self._say(member, said.Close(task=TASK))
                self._say(member, said.Open(task=TASK, request=REQUEST))
            more = min(IN_FLIGHT, CUT.count - member.held.bit_count())
            self._say(member, said.Want(task=TASK, count=more, down_rate=RATE, up_rate=RATE))

    def _join(self, number: int, *, is_seed: bool = False) -> Member:
        member = Member(number)
        self._members[member.peer] = member
        where = f"tcp://10.{number >> 16}.{number >> 8 & 255}.{number & 255}:7000"
        host, slots = HostId(member.peer), 96 if is_seed else 4
        self._say(member, said.Hello(peer=member.peer, host=host, exchange=where, seed=is_seed, slots=slots))
        return member

    def _say(self, member: Member, message: said.Message) -> None:
        machine = self._machine
        effects = machine.handle(told.PeerSaid(member.peer, message), self._now)
        while effects:
            for effect in effects:
                if isinstance(effect, do.Send):
                    self._hear(self._members[effect.peer], effect.message)
            due = machine.next_deadline()
            effects = [] if due is None or due > self._now else machine.handle(told.DeadlineReached(), self._now)

    def _hear(self, member: Member, message: said.Message) -> None:
        if isinstance(message, said.Grant):
            member.leases.update({lease.lease: lease.piece for lease in message.leases})
        elif isinstance(message, said.Revoke):
            for lease in message.leases:
                member.leases.pop(lease, None)
        elif isinstance(message, said.Permit):
            self._read_source(message)

    def _read_source(self, permit: said.Permit) -> None:
        """The seed has read everything at once."""
        sourced = said.Sourced(
            permit=permit.permit, task=TASK, generation=GENERATION, length=CUT.length, piece_length=CUT.piece_length,
            chunk_length=CUT.chunk_length, fresh_seconds=86_400.0,
        )  # fmt: skip
        self._say(self._seed, sourced)
        for piece in range(CUT.count):
            proofs = bytes([piece]) * 16 * CUT.chunks_in(piece)
            self._say(self._seed, said.Proven(task=TASK, generation=GENERATION, piece=piece, proofs=proofs))
