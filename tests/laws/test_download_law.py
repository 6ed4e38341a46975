"""The download's law under any order of events: chunks twice, late, lying, of wrong length or lost; leases revoked,
failed, taken twice; contents that change; brokers that fall silent and come back.

The test keeps the broker's book and the disk; whatever the machine says must fit them, after every step.
"""

from __future__ import annotations

import random
from typing import Any

import hypothesis.strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from support.talk import CHUNKS, CUT, REQUEST, TASK, exchange, peer_id

from dfmq.machines import effects as do
from dfmq.machines import events as told
from dfmq.machines.peer.machine import PeerMachine
from dfmq.machines.peer.neighbours import OWN_LEASES_FROM
from dfmq.model import bitfield
from dfmq.model.ids import Generation, HostId, LeaseId
from dfmq.model.pieces import PieceMap
from dfmq.model.settings import PeerSettings
from dfmq.wire import messages as said

PIECES = 5
LENGTH = PIECES * CUT.piece_length - 1000
MAP = PieceMap(LENGTH, CUT.piece_length, CUT.chunk_length)
EVERYTHING = {(piece, chunk) for piece in range(PIECES) for chunk in range(MAP.chunks_in(piece))}

pieces = st.integers(0, PIECES - 1)
chunks = st.integers(0, CHUNKS - 1)


class Download(RuleBasedStateMachine):
    """One peer; broker, parents, disk and client are this class."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 10.0
        self.version = 0
        self.epoch = 1
        #: the broker's book
        self.broker_answers = True
        self.is_member = False
        #: the generation it has told; it grants nothing before
        self.told_version = -1
        self.owed = 0
        self.leases: dict[int, int] = {}
        self.next_lease = 0
        #: every lease that was ever asked of a parent: lease → [piece, version, credit]
        self.asked: dict[int, list[int]] = {}
        #: the disk: chunks stored of the present version, chunks on their way
        self.disk: set[tuple[int, int]] = set()
        self.disk_version = -1
        self.writing: list[tuple[int, int, int]] = []
        self.opening: list[Generation] = []
        self.gets = 0
        self.is_wanted = False
        self.has_shelf = False
        self.machine = PeerMachine(
            PeerSettings(home="", brokers=("tcp://b:1",)), peer_id("me"), HostId(b"h" * 16), random.Random(3)
        )

    # ── the world ─────────────────────────────────────────────────────────────────────────────────────────────

    def generation(self, version: int) -> Generation:
        return Generation(version.to_bytes(8, "big"))

    def digest(self, piece: int, chunk: int, version: int | None = None) -> bytes:
        return bytes([self.version if version is None else version, piece, chunk]).ljust(16, b"-")

    def proofs(self, piece: int) -> bytes:
        return b"".join(self.digest(piece, chunk) for chunk in range(MAP.chunks_in(piece)))

    def tell(self, event: Any) -> None:
        for effect in self.machine.handle(event, self.now):
            self.perform(effect)
        self.machine.check()

    def hear(self, message: said.Message) -> None:
        self.tell(told.BrokerSaid(message))

    def perform(self, effect: Any) -> None:
        if isinstance(effect, do.TellBroker):
            self.broker_hears(effect.message)
        elif isinstance(effect, do.AskParent):
            self.parent_hears(effect.message)
        elif isinstance(effect, do.StoreChunk):
            self.write(effect)
        elif isinstance(effect, do.OpenStore):
            self.opening.append(effect.content.generation)
        elif isinstance(effect, do.TellClient):
            self.client_hears(effect.message)
        elif isinstance(effect, do.DropTask):
            self.disk.clear()
            self.disk_version = -1

    def broker_hears(self, message: said.Message) -> None:
        if not self.broker_answers:
            return
        if isinstance(message, said.Open):
            if not self.is_member:
                self.told_version = -1
            self.is_member, self.owed = True, message.want
            if message.held and message.generation == self.generation(self.version):
                self.believe(list(bitfield.members(bitfield.from_bytes(message.held))))
        elif isinstance(message, said.Want):
            assert self.is_member
            self.owed += message.count
        elif isinstance(message, said.Have):
            assert message.generation == self.generation(self.disk_version)
            self.believe(message.pieces)
            for lease in [lease for lease, piece in self.leases.items() if piece in message.pieces]:
                del self.leases[lease]
        elif isinstance(message, said.Failed):
            if self.leases.pop(message.lease, None) is not None and message.code != "cancelled":
                self.owed += 1
        elif isinstance(message, said.Close):
            self.is_member, self.owed = False, 0
            self.leases.clear()

    def believe(self, told_held: list[int]) -> None:
        """What is said to be held stands on the disk."""
        for piece in told_held:
            assert {(piece, chunk) for chunk in range(MAP.chunks_in(piece))} <= self.disk

    def parent_hears(self, message: said.Message) -> None:
        if isinstance(message, said.Fetch):
            assert message.generation == self.generation(self.version)
            self.asked[message.lease] = [message.piece, self.version, message.credit]
        elif isinstance(message, said.Credit):
            self.asked[message.lease][2] += message.credit

    def write(self, effect: do.StoreChunk) -> None:
        version = int.from_bytes(effect.generation, "big")
        assert effect.digest == self.digest(effect.piece, effect.chunk, version), "stored and not proven"
        assert effect.payload == effect.digest, "another payload than the one that was proven"
        assert effect.offset == MAP.chunk_span(effect.piece, effect.chunk)[0]
        assert version == self.disk_version, "written into another generation's file"
        assert (effect.piece, effect.chunk) not in self.disk
        assert (version, effect.piece, effect.chunk) not in self.writing
        self.writing.append((version, effect.piece, effect.chunk))

    def client_hears(self, message: said.Message) -> None:
        if isinstance(message, said.Done):
            assert self.disk == EVERYTHING
            assert message.generation == self.generation(self.disk_version)
            receipt = message.receipt
            total = receipt.from_peers + receipt.from_seed + receipt.from_store + receipt.from_source
            assert total == message.length == LENGTH
            self.is_wanted = False
        elif isinstance(message, said.Sorry):
            assert message.code == "broker_unreachable"
            self.is_wanted = False
        elif isinstance(message, said.Progress):
            assert message.held <= LENGTH

    # ── what happens ──────────────────────────────────────────────────────────────────────────────────────────

    @initialize()
    def birth(self) -> None:
        for effect in self.machine.bound(exchange("me"), "tcp://me:1", "tcp://me:2", self.now):
            self.perform(effect)
        self.hear(said.Welcome(epoch=1))
        self.get()

    @precondition(lambda self: not self.is_wanted)
    @rule()
    def get(self) -> None:
        self.is_wanted = True
        self.gets += 1
        self.tell(told.ClientSaid(b"client", said.Get(get=self.gets, request=REQUEST)))
        self.tell(told.StoreLoaded(TASK, None))

    @precondition(lambda self: self.is_wanted or self.gets)
    @rule()
    def release(self) -> None:
        self.tell(told.ClientSaid(b"client", said.Release(get=self.gets)))
        self.is_wanted = False

    @precondition(lambda self: self.is_member)
    @rule()
    def opened(self) -> None:
        self.told_version = self.version
        self.hear(
            said.Opened(
                task=TASK,
                generation=self.generation(self.version),
                length=LENGTH,
                piece_length=MAP.piece_length,
                chunk_length=MAP.chunk_length,
                neighbours=["tcp://one:2"],
            )
        )

    @precondition(lambda self: self.opening)
    @rule()
    def store_opened(self) -> None:
        generation = self.opening.pop(0)
        version = int.from_bytes(generation, "big")
        if version != self.disk_version:
            self.disk_version = version
            self.disk.clear()
            self.writing.clear()
        held, partial, proofs = 0, {}, {}
        for piece in range(PIECES):
            here = bitfield.of(chunk for p, chunk in self.disk if p == piece)
            if here == bitfield.full(MAP.chunks_in(piece)):
                held |= 1 << piece
                proofs[piece] = b"".join(self.digest(piece, c, version) for c in range(MAP.chunks_in(piece)))
            elif here:
                partial[piece] = here
        self.tell(told.StoreOpened(TASK, generation, held, partial, proofs))

    @precondition(lambda self: self.is_member and self.owed and self.told_version == self.version)
    @rule(piece=pieces, again=st.booleans())
    def grant(self, piece: int, again: bool) -> None:
        if piece in self.leases.values() and not again:
            return
        self.owed -= 1
        self.next_lease += 1
        self.leases[self.next_lease] = piece
        lease = said.Lease(
            lease=self.next_lease,
            piece=piece,
            parent=peer_id("p"),
            endpoint=exchange(f"p{self.next_lease % 3}"),
            proofs=self.proofs(piece),
            seed=self.next_lease % 4 == 0,
        )
        self.hear(said.Grant(task=TASK, generation=self.generation(self.version), leases=[lease]))

    @precondition(lambda self: self.asked)
    @rule(data=st.data(), chunk=chunks, fault=st.sampled_from(["", "", "", "lie", "length", "piece", "beyond"]))
    def chunk(self, data: st.DataObject, chunk: int, fault: str) -> None:
        number = data.draw(st.sampled_from(sorted(self.asked)))
        piece, version, credit = self.asked[number]
        if fault == "piece":
            piece = (piece + 1) % PIECES
        length = MAP.chunk_span(piece, chunk)[1]
        if not length or (credit < length and fault != "beyond"):
            return
        self.asked[number][2] -= length
        digest = self.digest(piece, chunk, version)
        if fault == "lie":
            digest = b"lie".ljust(16, b"-")
        self.tell(told.ChunkArrived(LeaseId(number), piece, chunk, length - (fault == "length"), digest, digest))

    @precondition(lambda self: self.writing)
    @rule(data=st.data())
    def stored(self, data: st.DataObject) -> None:
        some = data.draw(st.lists(st.sampled_from(self.writing), min_size=1, unique=True))
        for entry in some:
            self.writing.remove(entry)
            self.disk.add(entry[1:])
        self.tell(told.ChunksStored(TASK, self.generation(self.disk_version), [entry[1:] for entry in some]))

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def revoke(self, data: st.DataObject) -> None:
        lease = data.draw(st.sampled_from(sorted(self.leases)))
        del self.leases[lease]
        self.owed += 1
        self.hear(said.Revoke(task=TASK, leases=[lease]))

    @precondition(lambda self: self.asked)
    @rule(data=st.data())
    def parent_stops(self, data: st.DataObject) -> None:
        lease = data.draw(st.sampled_from(sorted(self.asked)))
        self.tell(told.ParentSaid(exchange(f"p{lease % 3}"), said.Stop(lease=lease, code="busy")))

    @precondition(lambda self: self.is_member and self.broker_answers)
    @rule()
    def content_changes(self) -> None:
        self.version += 1
        self.leases.clear()
        self.opened()

    @rule(seconds=st.sampled_from([0.1, 0.6, 3.0]), behind=st.booleans())
    def time_passes(self, seconds: float, behind: bool) -> None:
        end = self.now + seconds
        while (at := self.machine.next_deadline()) is not None and at <= end:
            self.now = max(self.now, at)
            if self.broker_answers:
                self.hear(said.BeatSeen(stamp=0, behind=behind))
            self.tell(told.DeadlineReached())
        self.now = end

    @precondition(lambda self: self.broker_answers)
    @rule(knows=st.booleans())
    def broker_dies(self, knows: bool) -> None:
        self.broker_answers = self.is_member = False
        self.leases.clear()
        self.owed = 0
        if knows:
            self.tell(told.BrokerSaid(said.Error(code="unknown_peer")))

    @precondition(lambda self: not self.broker_answers)
    @rule()
    def broker_comes_back(self) -> None:
        self.broker_answers = True
        self.epoch += 1
        self.hear(said.Welcome(epoch=self.epoch))

    @rule(piece=pieces, peer=st.integers(0, 5))
    def neighbour_hints(self, piece: int, peer: int) -> None:
        hint = said.Hint(
            task=TASK,
            generation=self.generation(self.version),
            piece=piece,
            peer=peer_id(f"n{peer}"),
            endpoint=exchange(f"n{peer}"),
            proofs=self.proofs(piece),
        )
        self.tell(told.NeighbourHinted(hint))

    # ── what always holds ─────────────────────────────────────────────────────────────────────────────────────

    @invariant()
    def both_sides_count_the_same_wants(self) -> None:
        download = self.machine.status(self.now)["downloads"].get(TASK.hex())
        if download is not None and self.is_member and self.broker_answers and self.machine.is_welcomed:
            assert download["wanted"] == self.owed

    def teardown(self) -> None:
        """And when everything goes well from here on, it comes to its end."""
        if not self.broker_answers:
            self.broker_comes_back()
        if not self.is_wanted:
            self.get()
        for _ in range(400):
            if not self.is_wanted:
                break
            self.one_good_turn()
        assert not self.is_wanted, self.machine.status(self.now)

    def one_good_turn(self) -> None:
        if self.opening:
            self.store_opened()
        elif self.writing:
            some, self.writing = self.writing, []
            self.disk |= {entry[1:] for entry in some}
            self.tell(told.ChunksStored(TASK, self.generation(self.disk_version), [entry[1:] for entry in some]))
        elif self.is_member and self.machine.status(self.now)["downloads"].get(TASK.hex(), {}).get("phase") == "asking":
            self.opened()
        elif not self.deliver():
            free = [p for p in range(PIECES) if p not in self.leases.values() and not self.has(p)]
            if self.owed and self.is_member and free:
                self.grant(free[0], again=False)
            else:
                self.time_passes(0.6, behind=False)

    def has(self, piece: int) -> bool:
        return all((piece, chunk) in self.disk for chunk in range(MAP.chunks_in(piece)))

    def deliver(self) -> bool:
        """One chunk that is missing, under a lease with credit for it."""
        for number, (piece, version, credit) in self.asked.items():
            if version != self.version or (number not in self.leases and number < OWN_LEASES_FROM):
                continue
            for chunk in range(MAP.chunks_in(piece)):
                length = MAP.chunk_span(piece, chunk)[1]
                if (piece, chunk) not in self.disk and credit >= length:
                    self.asked[number][2] -= length
                    digest = self.digest(piece, chunk)
                    self.tell(told.ChunkArrived(LeaseId(number), piece, chunk, length, digest, digest))
                    return True
        return False


TestDownload = Download.TestCase
