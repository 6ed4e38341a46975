"""A peer's process in the simulator: its machine with hands for bus, store, source and clients."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from dfmq.machines import effects, events
from dfmq.machines.peer.machine import PeerMachine
from dfmq.model.ids import Generation, PeerId, TaskId
from dfmq.model.settings import PeerSettings
from dfmq.sim.process import Process
from dfmq.sim.shelf import StoredTask
from dfmq.sim.truth import Truth, content_hex, flaw, truth_of
from dfmq.wire import codec

if TYPE_CHECKING:
    from dfmq.sim.broker import BrokerProcess
    from dfmq.sim.host import SimHost
    from dfmq.sim.world import World

StoreWish = (
    effects.LoadTask
    | effects.OpenStore
    | effects.StoreChunk
    | effects.SealStore
    | effects.FinishStore
    | effects.ProveContent
    | effects.PinTask
    | effects.LendTask
    | effects.NoteLink
    | effects.DropTask
)


#: As the real store does (edges/store/writer) and its node (nodes/peer): a chunk that may wait is written with what
#: comes after it, at the latest when so many bytes wait, or after so many seconds.
MOST_ASLEEP = 2 << 20
WRITE_WITHIN_SECONDS = 0.5


class PeerProcess(Process):
    """One life of a peer on a host, or of the broker's embedded seed."""

    def __init__(self, world: World, host: SimHost, *, is_seed: bool, port: int) -> None:
        self.host = host
        self.peer = PeerId(world.rng.randbytes(16))
        plan = world.plan
        machine = PeerMachine(
            PeerSettings(home=f"/sim/{host.name}", brokers=("tcp://broker:7400",), slots=plan.slots, zone=host.zone),
            self.peer,
            host.id,
            Random(world.rng.random()),
            is_seed=is_seed,
            seed_slots=world.seed_slots,
            name=host.name,
            cut=plan.cut,
            remembered=host.remembered,
        )
        super().__init__(world, host.card, host.name, machine)
        self.peer_machine = machine
        self.exchange = f"tcp://{host.name}:{port}"
        self.inbox = f"tcp://{host.name}:{port + 1}"
        self.hints = f"tcp://{host.name}:{port + 2}"
        #: sends garbage for a tenth of its chunks
        self.lies = False
        #: the control DEALER is connected
        self.is_connected = False
        #: and never will be again
        self.is_stray = False
        #: what waits for a broker that is down: a DEALER keeps it until it is connected again
        self.held_bodies: list[list[bytes]] = []
        self._saying: list[bytes] = []
        self._wishes: list[StoreWish] = []
        self._disk_seconds = plan.disk
        #: not where all hints are lost
        self._publishes = plan.hint_loss < 1.0
        self._is_storing = False
        #: there is a wish that does not wait
        self._is_roused = False
        #: chunks among the wishes that may wait for more of their piece, and a call to `_rouse` is entered
        self._asleep_bytes = 0
        self._is_timed = False
        #: it was asked to read a source: that waits for what is written
        self._reads_source = False

    def start(self) -> None:
        """The sockets are bound: the machine's life begins."""
        self.perform(self.peer_machine.bound(self.exchange, self.inbox, self.hints, self.world.agenda.now))

    def kill(self) -> None:
        """End it; its sockets and the source's connections close."""
        super().kill()
        self.world.network.silence(self.card)
        self.world.source.close_all(self)

    # ── the broker ────────────────────────────────────────────────────────────────────────────────────────────

    def end_turn(self) -> None:
        """Say to the broker what the turn gathered, as one multipart message."""
        if self._saying:
            bodies, self._saying = self._saying, []
            self.say_to_broker(bodies)

    def say_to_broker(self, bodies: list[bytes]) -> None:
        """One multipart message on the control DEALER."""
        world = self.world
        broker = world.broker
        if broker is None or not self.is_connected:
            self.held_bodies.append(bodies)
            return
        world.network.control(self.card, broker.card, sum(map(len, bodies)), self._reach_broker, broker, bodies)

    def connect(self) -> None:
        """The control DEALER has reached the broker (again): what it kept goes out."""
        if not self.is_alive or self.world.broker is None or self.is_connected or self.is_stray:
            return
        self.is_connected = True
        held, self.held_bodies = self.held_bodies, []
        for bodies in held:
            self.say_to_broker(bodies)

    def stray(self) -> None:
        """Lose the way to the broker for good."""
        self.is_stray, self.is_connected = True, False

    def _reach_broker(self, broker: BrokerProcess, bodies: list[bytes]) -> None:
        # What was under way when either end was killed is gone with its connection.
        if broker is self.world.broker and self.is_alive:
            broker.arrive(self.peer, bodies)

    def arrive_from_broker(self, broker: BrokerProcess, bodies: list[bytes]) -> None:
        """A multipart message came in on the control DEALER."""
        if broker.is_alive:
            for body in bodies:
                self.hear(events.BrokerSaid(codec.peer_hears.decode(body)))

    def _tell_broker(self, effect: effects.TellBroker) -> None:
        self._saying.append(codec.encode(effect.message))

    def _next_broker(self, _: effects.NextBroker) -> None:
        # A new socket: what the old one kept is gone.
        self.held_bodies.clear()
        self._saying.clear()
        self.is_connected = False
        self.world.agenda.after(0.01, self.connect)

    # ── the exchange ──────────────────────────────────────────────────────────────────────────────────────────

    def _ask_parent(self, effect: effects.AskParent) -> None:
        parent = self.world.exchanges.get(effect.endpoint)
        if parent is not None:
            body = codec.encode(effect.message)
            self.world.network.control(self.card, parent.card, len(body), parent.arrive_from_child, self, body)

    def arrive_from_child(self, child: PeerProcess, body: bytes) -> None:
        """A message came in on the exchange ROUTER."""
        if child.is_alive:
            self.hear(events.ChildSaid(child.peer, codec.parent_hears.decode(body)))

    def _tell_child(self, effect: effects.TellChild) -> None:
        child = self.world.peer_of(PeerId(effect.child))
        if child is not None:
            body = codec.encode(effect.message)
            self.world.network.control(self.card, child.card, len(body), child.arrive_from_parent, self.exchange, body)

    def arrive_from_parent(self, endpoint: str, body: bytes) -> None:
        """A message came in on the DEALER to that parent."""
        self.hear(events.ParentSaid(endpoint, codec.child_hears.decode(body)))

    def _send_chunk(self, effect: effects.SendChunk) -> None:
        world = self.world
        truth = effect.payload
        if isinstance(truth, effects.StoredSpan):
            read = self.host.shelf.read(truth)
            if read is None:
                raise world.failure(f"{self.name} would send {truth}, which is not stored")
            truth = read
        child = world.inboxes.get(effect.inbox)
        if child is None:
            world.agenda.at(world.agenda.now, self.hear, events.ChunkUnsent(effect.lease))
            return
        if child.host.is_unreached:
            return
        if self.lies and world.rng.random() < 0.1:
            truth = truth_of("garbage", 0, truth.offset, truth.length)
        lease, piece, chunk = effect.lease, effect.piece, effect.chunk
        size = truth.length + len(codec.encode_chunk_header(lease, piece, chunk))
        if self.host.is_seed:
            world.seed_bytes += truth.length
        arrived = events.ChunkArrived(lease, piece, chunk, truth.length, truth.digest, truth)
        world.network.bulk(self.card, child.card, effect.inbox, size, child.take_chunk, self, arrived)

    def take_chunk(self, sent_at: float, sender: PeerProcess, arrived: events.ChunkArrived) -> None:
        """A chunk came into the inbox."""
        if self.is_alive and sender.died_at >= sent_at:
            self.world.chunks += 1
            self.hear(arrived)

    def _forget_inbox(self, effect: effects.ForgetInbox) -> None:
        self.world.network.forget(self.card, effect.inbox)

    # ── hints ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _publish(self, effect: effects.Publish) -> None:
        if self._publishes:
            self.world.publish_hint(self, effect.topic, codec.encode(effect.message))

    def _listen(self, effect: effects.Listen) -> None:
        self.world.listen(self, effect.task, effect.endpoints)

    def arrive_hint(self, body: bytes) -> None:
        """A neighbour's hint came in."""
        self.hear(events.NeighbourHinted(codec.hints.decode(body)))

    def arrive_listener(self, task: TaskId) -> None:
        """Somebody's subscription came in."""
        if self._publishes:
            self.hear(events.NeighbourListens(task))

    def arrive_notice(self, body: bytes) -> None:
        """A broker's notice came in."""
        self.hear(events.NoticeHeard(codec.notices.decode(body)))

    # ── clients ───────────────────────────────────────────────────────────────────────────────────────────────

    def _tell_client(self, effect: effects.TellClient) -> None:
        message = codec.client_hears.decode(codec.encode(effect.message))
        self.world.agenda.at(self.world.agenda.now, self.host.hear_as_client, self, effect.client, message)

    # ── the source ────────────────────────────────────────────────────────────────────────────────────────────

    def _ask_source(self, effect: effects.AskSource) -> None:
        self.world.source.ask(self, self.hear, effect)

    def _read_source(self, effect: effects.ReadSource) -> None:
        self._reads_source = True
        self.world.source.read(self, effect)

    def _drop_source(self, effect: effects.DropSource) -> None:
        self.world.source.close(self, effect.permit)

    # ── the store: one thread, wishes in order, answered after the disk's delay ────────────────────────────────

    def _wish(self, wish: StoreWish) -> None:
        self._wishes.append(wish)
        self._is_roused = True

    def _wish_chunk(self, wish: effects.StoreChunk) -> None:
        self._wishes.append(wish)
        self._asleep_bytes += wish.payload.length
        if not wish.may_wait or self._asleep_bytes >= MOST_ASLEEP:
            self._is_roused = True
        elif not self._is_timed:
            self._is_timed = True
            self._agenda.after(WRITE_WITHIN_SECONDS, self._rouse)

    def _rouse(self) -> None:
        self._is_timed = False
        if self._wishes:
            self._is_roused = True
            self._agenda.unsettled[self] = None

    def settle(self) -> None:
        """As every process; and what the store was asked for and does not wait is put before it."""
        if self._is_roused and not self._is_storing and self.is_alive:
            delay = self._disk_seconds
            if not delay and not self.is_frozen:
                # Its answers may be followed by more.
                self._store()
                self._agenda.unsettled[self] = None
                return
            self._is_storing = True
            self.world.agenda.after(delay, self._store)
        super().settle()

    def _store(self) -> None:
        if not self.is_alive:
            return
        if self.is_frozen:
            self.world.agenda.after(0.05, self._store)
            return
        self._is_storing = self._is_roused = False
        self._asleep_bytes = 0
        wishes, self._wishes = self._wishes, []
        written: dict[tuple[TaskId, Generation], list[effects.StoreChunk]] = {}
        for wish in wishes:
            if type(wish) is effects.StoreChunk:
                written.setdefault((wish.task, wish.generation), []).append(wish)
            else:
                self._write(written)
                self._grant(wish)
        self._write(written)

    def _write(self, written: dict[tuple[TaskId, Generation], list[effects.StoreChunk]]) -> None:
        """Put these chunks on the shelf, and tell so in one event a content."""
        for (task, generation), wishes in written.items():
            stored = self.host.shelf.of(task, generation)
            if stored is not None:
                for wish in wishes:
                    self._put(stored, wish)
                self.hear(events.ChunksStored(task, generation, [(wish.piece, wish.chunk) for wish in wishes]))
        written.clear()

    def _put(self, stored: StoredTask, wish: effects.StoreChunk) -> None:
        truth: Truth = wish.payload
        if truth.digest != wish.digest:
            raise self.world.failure(f"{self.name} stores {truth}, which is not what was proven")
        if not stored.content.cut.chunk_offset(wish.piece, wish.chunk) == wish.offset == truth.offset:
            raise self.world.failure(f"{self.name} stores {truth} at {wish.offset}")
        chunks = stored.pieces.get(wish.piece)
        if chunks is None:
            chunks = stored.pieces[wish.piece] = {}
        chunks[wish.chunk] = truth
        if self._reads_source:
            self.world.source.wrote(self, wish.task, truth.length)

    def _grant(self, wish: StoreWish) -> None:
        shelf = self.host.shelf
        if isinstance(wish, effects.LoadTask):
            self.hear(events.StoreLoaded(wish.task, shelf.load(wish.task)))
        elif isinstance(wish, effects.OpenStore):
            held, partial, proofs = shelf.open(wish).books()
            self.hear(events.StoreOpened(wish.task, wish.content.generation, held, partial, proofs))
        elif isinstance(wish, effects.SealStore):
            shelf.seal(wish.task, wish.generation, wish.length)
        elif isinstance(wish, effects.DropTask):
            shelf.tasks.pop(wish.task, None)
        elif isinstance(wish, effects.ProveContent):
            self._prove(wish)

    def _prove(self, wish: effects.ProveContent) -> None:
        stored = self.host.shelf.of(wish.task, wish.generation)
        digest = ""
        if stored is not None and stored.content.cut.length is not None:
            chunks = stored.in_order()
            length = stored.content.cut.length
            if not flaw(chunks, stored.request.url, length):
                digest = content_hex(stored.request.url, chunks[0].version if chunks else 1, length)
        self.hear(events.ContentProved(wish.task, wish.generation, wish.algorithm, digest))

    HANDS = {  # noqa: RUF012
        effects.Record: Process._record,
        effects.TellBroker: _tell_broker,
        effects.NextBroker: _next_broker,
        effects.AskParent: _ask_parent,
        effects.TellChild: _tell_child,
        effects.SendChunk: _send_chunk,
        effects.ForgetInbox: _forget_inbox,
        effects.TellClient: _tell_client,
        effects.Publish: _publish,
        effects.Listen: _listen,
        effects.AskSource: _ask_source,
        effects.ReadSource: _read_source,
        effects.DropSource: _drop_source,
        effects.StoreChunk: _wish_chunk,
        effects.LoadTask: _wish,
        effects.OpenStore: _wish,
        effects.SealStore: _wish,
        effects.FinishStore: _wish,
        effects.ProveContent: _wish,
        effects.PinTask: _wish,
        effects.LendTask: _wish,
        effects.NoteLink: _wish,
        effects.DropTask: _wish,
    }
