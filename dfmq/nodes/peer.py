"""The peer node: a PeerMachine with its sockets, store and sources. A seed is the same node with more slots."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import secrets
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import zmq

from dfmq import __version__
from dfmq.edges import hashing, probes
from dfmq.edges.bus import sockets
from dfmq.edges.bus.links import Parents, Pipelines
from dfmq.edges.bus.loop import Drain
from dfmq.edges.source.sources import Sources
from dfmq.edges.store.content import Store
from dfmq.errors import ProtocolError, SettingsError, StoreError
from dfmq.machines import effects as do
from dfmq.machines import events as told
from dfmq.machines.peer.machine import PeerMachine
from dfmq.model.ids import PEER_ID_BYTES, HostId, LeaseId, PeerId, TaskId
from dfmq.model.settings import PeerSettings
from dfmq.model.task import Shelved
from dfmq.nodes.driver import Driver
from dfmq.nodes.fetch import Fetches
from dfmq.nodes.hearing import Hearing
from dfmq.nodes.hops import Hops
from dfmq.nodes.mail import Mail
from dfmq.nodes.remains import Remains
from dfmq.nodes.store_talk import StoreTalk
from dfmq.wire import codec, envelope, topics
from dfmq.wire.messages import Answer, Ask, Error, Welcome

log = logging.getLogger(__name__)

#: seconds between two looks at the host
SAMPLE_SECONDS = 2.0
#: A chunk whose piece goes on arriving is written so soon at the latest, with others where there are any; mostly its
#: piece's end comes first. What a kill -9 takes is fetched again. The loop, the writer and the loop again wake for it.
WRITE_WITHIN_SECONDS = 0.5

Context = zmq.Context[zmq.Socket[bytes]]


class PeerNode:
    """Owns every socket of one peer; the loop's thread owns this."""

    def __init__(
        self,
        settings: PeerSettings,
        host: HostId,
        context: Context,
        loop: asyncio.AbstractEventLoop,
        *,
        broker_endpoints: tuple[str, ...],
        advertise: str,
        local: str,
        is_seed: bool,
        remembered: int,
        note: Callable[[str, dict[str, Any]], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        """`local`: the ipc endpoint for clients of this host, "" none."""
        self._settings = settings
        self._context = context
        self._loop = loop
        self._note = note
        self._brokers = broker_endpoints
        self._broker_turn = 0
        self.peer = PeerId(secrets.token_bytes(PEER_ID_BYTES))
        self._digest = hashing.chunk_digest
        self._store = Store(Path(settings.home), settings.store, StoreTalk(self._hop, self._recalled), wakes=False)
        self._remains = Remains(self._store, loop, self._feed)
        self._fetches = Fetches(
            Sources(settings.source),
            self._digest,
            lambda: self._store.queued_bytes,
            self._feed,
            settings.down_limit,
        )
        self.machine = PeerMachine(
            settings,
            self.peer,
            host,
            random.Random(secrets.randbits(64)),
            is_seed=is_seed,
            seed_slots=settings.slots,
            name=advertise,
            remembered=remembered,
        )
        self._driver = Driver(self.machine, loop, self._hands(), self._flush, failed)
        self._hops = Hops(loop, self._driver)
        self._to_broker, self._to_parents, self._to_neighbours = Mail[None](), Mail[str](), Mail[bytes]()
        self._to_children, self._to_clients = Mail[bytes](), Mail[bytes]()
        self._writing: asyncio.TimerHandle | None = None
        self._pipelines = Pipelines(context)
        self._parents = Parents(context, loop, self.peer, self._hear_parent, self._driver)
        self._notices_heard: set[str] = set()
        self._sampling: asyncio.TimerHandle | None = None
        self._probe = probes.Probe(Path(settings.home))
        try:
            self._bind(advertise, local)
        except BaseException:
            self._store.close()
            raise

    # ── birth and death ──────────────────────────────────────────────────────────────────────────────────────────

    def _bind(self, advertise: str, local: str) -> None:
        context, loop, listen = self._context, self._loop, self._settings.listen
        any_port = listen.rpartition(":")[0] + ":0"

        def reachable(endpoint: str) -> str:
            return f"tcp://{advertise}:{endpoint.rpartition(':')[2]}"

        exchange, inbox = sockets.router(context), sockets.inbox(context)
        hints = sockets.heeding_publisher(context)
        self.exchange = reachable(sockets.bind(exchange, listen))
        inbox_endpoint = reachable(sockets.bind(inbox, any_port))
        hints_endpoint = reachable(sockets.bind(hints, any_port))
        self._exchange = Drain(loop, exchange, self._hear_child, turn=self._driver)
        self._inbox = Drain(loop, inbox, self._take_chunk, copy=False, turn=self._driver)
        self._listener = Drain(loop, sockets.subscriber(context), self._hear_published, turn=self._driver)
        self._hints = Drain(loop, hints, self._hear_subscription, turn=self._driver)
        self._hearing = Hearing(self._listener, self._reach)
        self._control = self._connect_broker()
        self._local: Drain | None = None
        if local:
            router = sockets.router(context)
            sockets.bind(router, local)
            self._local = Drain(loop, router, self._hear_client, turn=self._driver)
        self._driver.perform(self.machine.bound(self.exchange, inbox_endpoint, hints_endpoint, loop.time()))
        self._sample()
        self._remains.begin()

    def _connect_broker(self) -> Drain:
        socket = sockets.dealer(self._context, self.peer)
        sockets.connect(socket, self._brokers[self._broker_turn % len(self._brokers)])
        return Drain(self._loop, socket, self._hear_broker, turn=self._driver)

    async def prepare_sources(self) -> None:
        """Make ready for the first source, before somebody waits for it."""
        await self._fetches.prepare()

    async def close(self) -> None:
        """Say Bye, write what is queued, close everything."""
        self._driver.perform(list(self.machine.leave(self._loop.time())))
        self._driver.stop()
        self._remains.end()
        for timer in (self._sampling, self._writing):
            if timer is not None:
                timer.cancel()
        await self._fetches.close()
        self._control.socket.setsockopt(zmq.LINGER, 200)
        for drain in (self._control, self._exchange, self._inbox, self._listener, self._hints, self._local):
            if drain is not None:
                drain.close()
        self._parents.close()
        self._pipelines.close()
        await self._loop.run_in_executor(None, self._store.close)

    # ── hearing ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _feed(self, event: Any) -> None:
        self._driver.feed(event)

    def _hop(self, event: Any) -> None:
        """From a worker thread into the loop's."""
        self._hops.put(self._hopped, event)

    def _recalled(self, task: TaskId, shelved: Shelved | None) -> None:
        self._hops.put(lambda found: self._remains.recalled(*found), (task, shelved))

    def _hopped(self, event: Any) -> None:
        if isinstance(event, told.ChunksStored):
            self._fetches.written()
        self._feed(event)

    def _messages(
        self, frames: list[bytes], decoder: codec.Decoder[Any], answer: Callable[[Error], None] | None = None
    ) -> list[Any]:
        """The messages in these frames; what is garbage is counted, dropped, and answered where that can be."""
        try:
            bodies = envelope.unwrap(frames)
        except ProtocolError as error:
            self._note("message.refused", {"code": error.reason})
            if isinstance(error, envelope.OtherVersion) and decoder is codec.peer_hears:
                # Whatever the broker said: that we cannot read it is what the machine has to know.
                return [Error(code=error.reason, text=str(error), version=frames[0][2])]
            return []
        messages, refusal = [], None
        for body in bodies:
            try:
                messages.append(decoder.decode(body))
            except ProtocolError as error:
                self._note("message.refused", {"code": error.reason})
                refusal = refusal or Error(code=error.reason, text=str(error)[:200])
        if refusal is not None and answer is not None:
            answer(refusal)
            self._flush()
        return messages

    def _hear_broker(self, frames: list[bytes]) -> None:
        for message in self._messages(frames, codec.peer_hears, partial(self._to_broker.put, None)):
            if isinstance(message, Welcome):
                self._hear_notices(message.notices)
            self._feed(told.BrokerSaid(message))

    def _hear_notices(self, endpoint: str) -> None:
        if endpoint and endpoint not in self._notices_heard:
            self._notices_heard.add(endpoint)
            self._listener.socket.setsockopt(zmq.SUBSCRIBE, topics.ALL)
            self._reach(endpoint)
            self._listener.look()

    def _reach(self, endpoint: str) -> bool:
        """Hear what is published there; False: another node has said so, but there is no such place."""
        try:
            sockets.reach(self._listener.socket, endpoint)
        except SettingsError:
            self._note("message.refused", {"code": "malformed"})
            return False
        return True

    def _hear_child(self, frames: list[bytes]) -> None:
        for message in self._messages(frames[1:], codec.parent_hears, partial(self._to_children.put, frames[0])):
            self._feed(told.ChildSaid(frames[0], message))

    def _hear_parent(self, endpoint: str, frames: list[bytes]) -> None:
        for message in self._messages(frames, codec.child_hears):
            self._feed(told.ParentSaid(endpoint, message))

    def _hear_published(self, frames: list[bytes]) -> None:
        if not frames or len(frames) < 3:
            return
        if frames[0].startswith(topics.TASK_PREFIX):
            for message in self._messages(frames[1:], codec.hints):
                self._feed(told.NeighbourHinted(message))
        else:
            for message in self._messages(frames[1:], codec.notices):
                self._feed(told.NoticeHeard(message))

    def _hear_subscription(self, frames: list[bytes]) -> None:
        task = topics.subscribed(frames[0]) if len(frames) == 1 else None
        if task is not None:
            self._feed(told.NeighbourListens(task))

    def _hear_client(self, frames: list[bytes]) -> None:
        try:
            bodies = envelope.unwrap(frames[1:])
            for body in bodies:
                message = codec.local_hears.decode(body)
                if isinstance(message, Ask):
                    self._answer(frames[0])
                else:
                    self._feed(told.ClientSaid(frames[0], message))
        except envelope.Stranger:
            self._note("message.refused", {"code": "stranger"})
        except ProtocolError as error:
            self._to_clients.put(frames[0], Error(code=error.reason, text=str(error)[:200]))
            self._flush()

    def _answer(self, client: bytes) -> None:
        """Say who we are."""
        alone = not self._settings.brokers
        answer = Answer(
            pid=os.getpid(),
            software=f"dfmq {__version__}",
            brokers=list(self._settings.brokers),
            alone=alone,
            broker_seen=self.machine.is_welcomed,
        )
        self._to_clients.put(client, answer)
        self._flush()

    def _take_chunk(self, frames: list[zmq.Frame]) -> None:
        try:
            if len(frames) != 2:
                raise ProtocolError("a chunk has a header and a payload")
            lease, piece, chunk = codec.decode_chunk_header(frames[0].buffer)
        except ProtocolError as error:
            self._note("message.refused", {"code": error.reason})
            return
        payload = frames[1]
        length = len(payload.buffer)
        self._driver.feed(
            told.ChunkArrived(LeaseId(lease), piece, chunk, length, self._digest(payload.buffer), payload)
        )

    def _sample(self) -> None:
        self._sampling = self._loop.call_later(SAMPLE_SECONDS, self._sample)
        self._feed(told.HostSampled(self._probe.sample()))

    # ── doing ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _hands(self) -> dict[type, Callable[[Any], None]]:
        store, fetches = self._store, self._fetches
        return {
            do.Record: lambda e: self._note(e.name, e.fields),
            do.Publish: lambda e: self._to_neighbours.put(e.topic, e.message),
            do.TellBroker: lambda e: self._to_broker.put(None, e.message),
            do.NextBroker: self._next_broker,
            do.AskParent: lambda e: self._to_parents.put(e.endpoint, e.message),
            do.TellChild: lambda e: self._to_children.put(e.child, e.message),
            do.SendChunk: self._send_chunk,
            do.ForgetInbox: lambda e: self._pipelines.forget(e.inbox),
            do.TellClient: lambda e: self._to_clients.put(e.client, e.message),
            do.Listen: lambda e: self._hearing.listen(e.task, e.endpoints),
            do.LoadTask: lambda e: store.load(e.task),
            do.OpenStore: lambda e: store.open(e.task, e.content, e.request, e.etag, e.last_modified, e.strong_date),
            do.StoreChunk: self._store_chunk,
            do.SealStore: lambda e: store.seal(e.task, e.generation, e.length),
            do.FinishStore: lambda e: store.finish(e.task, e.generation),
            do.ProveContent: lambda e: store.prove(e.task, e.generation, e.algorithm),
            do.PinTask: lambda e: store.pin(e.task, e.pinned),
            do.LendTask: lambda e: store.lend(e.task),
            do.NoteLink: lambda e: store.linked(e.task, e.generation, e.before, e.after),
            do.DropTask: self._drop,
            do.AskSource: fetches.ask,
            do.ReadSource: fetches.read,
            do.PaceSource: fetches.pace,
            do.DropSource: fetches.drop,
        }

    def _store_chunk(self, effect: do.StoreChunk) -> None:
        e = effect
        self._store.write(
            e.task, e.generation, e.piece, e.chunk, e.offset, e.digest, e.payload, may_wait=e.may_wait
        )  # fmt: skip
        if e.may_wait and self._writing is None:
            self._writing = self._loop.call_later(WRITE_WITHIN_SECONDS, self._write)

    def _write(self) -> None:
        self._writing = None
        self._store.flush()

    def _drop(self, effect: do.DropTask) -> None:
        self._remains.dropped(effect.task)
        self._store.drop(effect.task)

    def _next_broker(self, _: do.NextBroker) -> None:
        self._to_broker.clear()
        self._control.close()
        self._broker_turn += 1
        self._control = self._connect_broker()

    def _send_chunk(self, effect: do.SendChunk) -> None:
        payload = effect.payload
        if type(payload) is do.StoredSpan:
            try:
                payload = self._store.span(payload.task, payload.generation, payload.offset, payload.length)
            except StoreError:
                # The store has told StoreDamaged by itself; this chunk is just not sent.
                self._loop.call_soon(self._feed, told.ChunkUnsent(effect.lease))
                return
        header = codec.encode_chunk_header(effect.lease, effect.piece, effect.chunk)
        if not self._pipelines.send(effect.inbox, header, payload):
            self._loop.call_soon(self._feed, told.ChunkUnsent(effect.lease))

    def _flush(self) -> None:
        """The turn's end: what was gathered goes out."""
        self._store.wake()
        if self._to_broker:
            try:
                for _, messages in self._to_broker.take():
                    for frames in messages:
                        sockets.send(self._control.socket, *frames)
            except zmq.Again:
                log.warning("the broker takes nothing more; messages are dropped")
            self._control.look()
        for endpoint, messages in self._to_parents.take():
            for frames in messages:
                self._parents.send(endpoint, frames)
        if self._to_neighbours:
            for topic, messages in self._to_neighbours.take():
                for frames in messages:
                    sockets.send(self._hints.socket, topic, *frames)
            self._hints.look()
        if self._to_children:
            self._route(self._exchange, self._to_children, lambda child: None)
        if self._to_clients and self._local is not None:
            self._route(self._local, self._to_clients, lambda client: self._feed(told.ClientLost(client)))

    def _route(self, drain: Drain, outgoing: Mail[bytes], lost: Callable[[bytes], None]) -> None:
        for receiver, messages in outgoing.take():
            try:
                for frames in messages:
                    sockets.send(drain.socket, receiver, *frames)
            except zmq.ZMQError as error:
                if error.errno not in (zmq.EHOSTUNREACH, zmq.EAGAIN):
                    raise
                lost(receiver)
        drain.look()
