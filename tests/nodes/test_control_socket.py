"""The broker's control socket: who is heard, who is answered, and that a stranger learns nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgpack
import pytest
import zmq

from dfmq.edges.bus import sockets
from dfmq.edges.bus.links import Parents
from dfmq.edges.bus.loop import Drain
from dfmq.model.settings import BrokerSettings
from dfmq.nodes.broker import BrokerNode
from dfmq.wire import codec, envelope
from dfmq.wire import messages as said

PEER = b"a peer's own id!"
HELLO = codec.encode(said.Hello(peer=PEER, host=b"h" * 16, exchange="tcp://127.0.0.1:1"))
BEAT = codec.encode(said.Beat(stamp=5))


class Client:
    """A DEALER that says frames and hears messages."""

    def __init__(self, context: zmq.Context[Any], endpoint: str, routing_id: bytes) -> None:
        loop = asyncio.get_running_loop()
        self._heard: asyncio.Queue[list[bytes]] = asyncio.Queue()
        socket = sockets.dealer(context, routing_id)
        sockets.connect(socket, endpoint)
        self._drain = Drain(loop, socket, self._heard.put_nowait)

    def says(self, *frames: bytes) -> None:
        self._drain.socket.send_multipart(frames)
        self._drain.look()

    async def hears(self) -> list[said.Message]:
        frames = await asyncio.wait_for(self._heard.get(), 10)
        return [codec.peer_hears.decode(body) for body in envelope.unwrap(frames)]

    def close(self) -> None:
        self._drain.close()


class World:
    """A broker node and its clients."""

    def __init__(self, home: Path) -> None:
        self.context = sockets.new_context()
        self.failures: list[BaseException] = []
        self.records: list[str] = []
        settings = BrokerSettings(home=str(home), listen="tcp://127.0.0.1:0", publish="tcp://127.0.0.1:0")
        self.node = BrokerNode(
            settings,
            self.context,
            asyncio.get_running_loop(),
            listens=True,
            advertise="127.0.0.1",
            note=lambda name, _: self.records.append(name),
            failed=self.failures.append,
        )
        self._clients: list[Client] = []

    def client(self, routing_id: bytes = PEER) -> Client:
        self._clients.append(Client(self.context, self.node.endpoint, routing_id))
        return self._clients[-1]

    def close(self) -> None:
        for client in self._clients:
            client.close()
        self.node.close()
        self.context.term()
        assert self.failures == []


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path)
    yield made
    made.close()


@pytest.mark.clause("ENV-1", "SESS-2")
async def test_bodies_of_one_message_are_heard_in_order_and_answered_together(world: World) -> None:
    client = world.client()
    client.says(envelope.SIGNATURE, HELLO, BEAT)
    assert [type(message) for message in await client.hears()] == [said.Welcome, said.BeatSeen]


@pytest.mark.clause("ENV-2")
async def test_a_stranger_is_not_answered(world: World) -> None:
    client = world.client()
    for frames in ([b"GET / HTTP/1.1"], [b""], [b"", b""], [HELLO], [b"\xdf\x51", HELLO]):
        client.says(*frames)
    client.says(envelope.SIGNATURE, HELLO)
    (first,) = await client.hears()
    assert isinstance(first, said.Welcome)
    assert world.records.count("message.refused") == 5


@pytest.mark.clause("ENV-3")
async def test_another_version_is_told_ours(world: World) -> None:
    client = world.client()
    client.says(envelope.MAGIC + b"\x63", HELLO)
    (error,) = await client.hears()
    assert isinstance(error, said.Error)
    assert (error.code, error.version) == ("version", said.PROTOCOL_VERSION)


@pytest.mark.clause("MSG-3", "ENV-4")
async def test_what_is_not_understood_is_answered_and_the_talk_goes_on(world: World) -> None:
    client = world.client()
    client.says(envelope.SIGNATURE, HELLO)
    await client.hears()
    for body, code in (
        (msgpack.packb({"op": "from-the-future"}), "unknown_message"),
        (codec.encode(said.Ask()), "unknown_message"),
        (b"\x81", "malformed"),
        (b"", "malformed"),
        (bytes(envelope.MOST_BODY_BYTES + 1), "malformed"),
    ):
        client.says(envelope.SIGNATURE, body)
        (error,) = await client.hears()
        assert isinstance(error, said.Error)
        assert error.code == code
    client.says(envelope.SIGNATURE, BEAT)
    assert await client.hears() == [said.BeatSeen(stamp=5)]


@pytest.mark.clause("ROLE-1")
async def test_an_id_that_is_not_16_octets_is_nobody(world: World) -> None:
    for routing_id in (b"short", b"x" * 17):
        stranger = world.client(routing_id)
        stranger.says(envelope.SIGNATURE, HELLO)
    client = world.client()
    client.says(envelope.SIGNATURE, HELLO)
    (welcome,) = await client.hears()
    assert isinstance(welcome, said.Welcome)
    assert len(world.node.machine.peers()) == 1


@pytest.mark.clause("ROLE-1")
async def test_nobody_says_hello_in_anothers_name(world: World) -> None:
    client = world.client(b"another peers id")
    client.says(envelope.SIGNATURE, HELLO)
    (error,) = await client.hears()
    assert isinstance(error, said.Error)
    assert world.node.machine.peers() == []


@pytest.mark.clause("ROLE-1")
async def test_a_parent_hears_its_child_under_the_childs_id(world: World) -> None:
    heard: asyncio.Queue[list[bytes]] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    router = sockets.router(world.context)
    endpoint = sockets.bind(router, "tcp://127.0.0.1:0")
    parent = Drain(loop, router, heard.put_nowait)
    links = Parents(world.context, loop, PEER, lambda _, frames: heard.put_nowait(frames))
    links.send(endpoint, envelope.wrap([codec.encode(said.Credit(lease=1, credit=2))]))
    frames = await asyncio.wait_for(heard.get(), 10)
    assert frames[0] == PEER
    links.close()
    parent.close()
