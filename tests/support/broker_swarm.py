"""A BrokerMachine and peers that keep books of their own: who was let in, who has which lease. For laws and kills."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import msgspec

from dfmq.machines import effects as do
from dfmq.machines import events as told
from dfmq.machines.broker.machine import BrokerMachine
from dfmq.model import bitfield
from dfmq.model.ids import HostId, PeerId, TaskId
from dfmq.model.pieces import KIB, PieceMap
from dfmq.model.settings import BrokerSettings
from dfmq.model.task import Request, task_id
from dfmq.wire import messages as said
from dfmq.wire.messages import Message

CUT = PieceMap(6 * 256 * KIB, 256 * KIB, 64 * KIB)
PIECES = CUT.count
REQUESTS = [Request(url=f"http://source.example/{name}") for name in ("one", "two")]
TASKS = [task_id(request) for request in REQUESTS]
#: one content that is named by its digest, and its sources
MIRRORS = [Request(url=f"http://{name}.example/x", digest="md5:" + "ab" * 16) for name in ("one", "two", "three")]
MIRRORED = task_id(MIRRORS[0])


def proofs(piece: int, generation: bytes) -> bytes:
    return bytes([piece, generation[0]]) * 8 * CUT.chunks_in(piece)


class Member:
    """One peer as it sees itself."""

    def __init__(self, peer: PeerId, is_seed: bool, zone: str, up_limit: int) -> None:
        self.peer = peer
        self.zone = zone
        self.up_limit = up_limit
        self.is_seed = is_seed
        #: task → generation it was told
        self.opened: dict[TaskId, bytes] = {}
        self.asking: dict[TaskId, Request] = {}
        self.refused: dict[TaskId, str] = {}
        self.held: dict[TaskId, tuple[bytes, int]] = {}
        self.leases: dict[int, tuple[TaskId, said.Lease]] = {}
        self.permits: dict[int, said.Permit] = {}
        self.quit: set[int] = set()

    def has(self, task: TaskId) -> int:
        """Pieces it holds of the generation it was told last."""
        generation, pieces = self.held.get(task, (b"", 0))
        return pieces if generation == self.opened.get(task, generation) else 0


class Swarm:
    """Says what it is told to say, hears what the broker answers, and checks the broker's law after every event."""

    def __init__(self, seed: int = 1, *, checks: bool = True) -> None:
        self.machine = BrokerMachine(BrokerSettings(home=""), 7, random.Random(seed))
        self.now = 100.0
        self.checks = checks
        self.members: dict[PeerId, Member] = {}
        self.generation = {task: b"g%d" % n + bytes(6) for n, task in enumerate([*TASKS, MIRRORED])}
        #: tasks whose content has changed: when it changes back, the broker no longer knows who has what of it
        self.changed: set[TaskId] = set()
        self.granted = 0
        self.granted_to: list[PeerId] = []
        self._born = 0

    # ── talk ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def say(self, member: Member, *messages: Message) -> None:
        for message in messages:
            self._handle(told.PeerSaid(member.peer, message))

    def falls_behind(self, seconds: float) -> None:
        """For so long something has waited to be read."""
        self._handle(told.FellBehind(self.now - seconds))

    def catches_up(self) -> None:
        """Nothing waits."""
        self._handle(told.CaughtUp())

    def _handle(self, event: Any) -> None:
        effects = list(self.machine.handle(event, self.now))
        while (at := self.machine.next_deadline()) is not None and at <= self.now:
            effects += self.machine.handle(told.DeadlineReached(), self.now)
        if self.checks:
            self.machine.check()
        for effect in effects:
            if isinstance(effect, do.Send) and effect.peer in self.members:
                self._hear(self.members[effect.peer], effect.message)

    def _hear(self, member: Member, message: Message) -> None:
        if isinstance(message, said.Opened):
            task = TaskId(message.task)
            if member.opened.get(task) != message.generation:
                self._drop_leases(member, task)
            if member.held.get(task, (b"", 0))[0] != message.generation:
                member.held.pop(task, None)
            member.opened[task] = message.generation
        elif isinstance(message, said.Refused):
            task = TaskId(message.task)
            member.refused[task] = message.code
            member.opened.pop(task, None)
            member.asking.pop(task, None)
            self._drop_leases(member, task)
        elif isinstance(message, said.Grant):
            task = TaskId(message.task)
            for lease in message.leases:
                assert member.opened[task] == message.generation, "granted before it was opened"
                is_held = member.has(task) >> lease.piece & 1
                assert task in self.changed or not is_held, "granted what it has"
                member.leases[lease.lease] = (task, lease)
                self.granted += 1
                self.granted_to.append(member.peer)
        elif isinstance(message, said.Revoke):
            for lease_id in message.leases:
                member.leases.pop(lease_id, None)
        elif isinstance(message, said.Permit):
            member.permits[message.permit] = message
        elif isinstance(message, said.Quit):
            member.permits.pop(message.permit, None)
            member.quit.add(message.permit)

    @staticmethod
    def _drop_leases(member: Member, task: TaskId) -> None:
        member.leases = {i: entry for i, entry in member.leases.items() if entry[0] != task}

    def passes(self, seconds: float, *, beating: bool = True) -> None:
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + 1.0)
            self._handle(told.DeadlineReached())
            for member in list(self.members.values()) if beating else ():
                self.say(member, said.Beat())

    # ── what peers do ────────────────────────────────────────────────────────────────────────────────────────────

    def join(
        self, *, seed: bool = False, host: int | None = None, slots: int = 3, zone: str = "", up_limit: int = 0
    ) -> Member:
        self._born += 1
        peer = PeerId(b"%016d" % self._born)
        member = self.members[peer] = Member(peer, seed, zone, up_limit)
        self.hello(member, self._born if host is None else host, slots)
        return member

    def hello(self, member: Member, host: int, slots: int = 3) -> None:
        endpoint = f"tcp://{member.peer.decode()}:1"
        named = HostId(b"%016d" % host)
        self.say(
            member,
            said.Hello(
                peer=member.peer,
                host=named,
                exchange=endpoint,
                hints=endpoint,
                seed=member.is_seed,
                slots=slots,
                zone=member.zone,
                up_limit=member.up_limit,
            ),
        )

    def opens(
        self,
        member: Member,
        task: TaskId,
        want: int = 3,
        *,
        no_source: bool = False,
        token: str | None = None,
        mirror: int = 0,
    ) -> None:
        """`token`: credentials; None those it asked with before, "" none. `mirror`: which, where there are several."""
        request = MIRRORS[mirror] if task == MIRRORED else REQUESTS[TASKS.index(task)]
        if token is None:
            request = member.asking.get(task, request)
        elif token:
            request = msgspec.structs.replace(request, headers=(("Authorization", token),))
        member.asking[task] = request
        member.refused.pop(task, None)
        generation, held = member.held.get(task, (b"", 0))
        self.say(
            member,
            said.Open(
                task=task, request=request, want=want, no_source=no_source, generation=generation,
                held=bitfield.to_bytes(held),
            ),
        )  # fmt: skip

    def has(self, member: Member, lease_id: int) -> None:
        """The piece of a lease is here; the next is wanted."""
        task, lease = member.leases.pop(lease_id)
        generation = member.opened[task]
        member.held[task] = (generation, member.has(task) | 1 << lease.piece)
        self.say(
            member,
            said.Have(task=task, generation=generation, pieces=[lease.piece]),
            said.Want(task=task, count=1),
        )

    def fails(self, member: Member, lease_id: int, code: str) -> None:
        task, lease = member.leases.pop(lease_id)
        self.say(member, said.Failed(task=task, lease=lease_id, piece=lease.piece, code=code))

    def sources(self, member: Member, permit_id: int) -> None:
        """The source says yes, and all that is not held is read."""
        permit = member.permits.pop(permit_id, None)
        if permit is None:
            return
        task = TaskId(permit.task)
        generation = self.generation[task]
        self.permit_sourced(member, permit_id, task)
        if permit_id not in member.quit and (not permit.check_only or permit.generation != generation):
            member.held[task] = (generation, 0)
            for piece in range(PIECES):
                member.held[task] = (generation, member.held[task][1] | 1 << piece)
                self.say(member, self.proven(task, piece))

    def changes(self, task: TaskId) -> None:
        """The source has another content from now on, or the one before again."""
        generation = self.generation[task]
        self.generation[task] = bytes([generation[0] ^ 1]) + generation[1:]
        self.changed.add(task)

    def sources_late(self, member: Member, permit_id: int) -> None:
        """A check was answered before the source changed, or came back to what it was."""
        permit = member.permits.pop(permit_id)
        self.permit_sourced(member, permit_id, TaskId(permit.task), permit.generation)

    def permit_sourced(
        self, member: Member, permit_id: int, task: TaskId = TASKS[0], generation: bytes | None = None
    ) -> None:
        """The source answers; nothing is read yet. `generation`: None what there is now."""
        self.say(
            member,
            said.Sourced(
                permit=permit_id, task=task, generation=generation or self.generation[task], length=CUT.length,
                piece_length=CUT.piece_length, chunk_length=CUT.chunk_length, fresh_seconds=60.0,
            ),
        )  # fmt: skip

    def proven(self, task: TaskId, piece: int) -> said.Proven:
        generation = self.generation[task]
        return said.Proven(task=task, generation=generation, piece=piece, proofs=proofs(piece, generation))

    def closes(self, member: Member, task: TaskId) -> None:
        member.opened.pop(task, None)
        member.asking.pop(task, None)
        self._drop_leases(member, task)
        self.say(member, said.Close(task=task))

    def leaves(self, member: Member, *, how: str = "bye") -> None:
        del self.members[member.peer]
        if how == "bye":
            self.say(member, said.Bye())
        else:
            self._handle(told.PeerUnreachable(member.peer))

    def leases(self) -> Iterator[tuple[Member, int]]:
        for member in list(self.members.values()):
            for lease_id in list(member.leases):
                yield member, lease_id

    def settle(self) -> None:
        """From now on everybody does what it should, until there is nothing left to do."""
        for _ in range(400):
            before = (self.granted, self._standing())
            for member in list(self.members.values()):
                for permit_id in list(member.permits):
                    self.sources(member, permit_id)
            for member, lease_id in list(self.leases()):
                if lease_id in member.leases:
                    self.has(member, lease_id)
            if before == (self.granted, self._standing()):
                return
        raise AssertionError("it never comes to rest")

    def _standing(self) -> tuple[int, ...]:
        counts = self.machine.counts()
        return (*counts.values(), sum(len(member.permits) + len(member.leases) for member in self.members.values()))
