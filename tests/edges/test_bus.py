"""The bus's hands on real loopback sockets: draining, pooling, naming what cannot be bound."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import zmq

from dfmq.edges.bus import sockets
from dfmq.edges.bus.links import MOST_PARENTS, Parents, Pipelines
from dfmq.edges.bus.loop import MOST_IN_A_ROW, Drain
from dfmq.errors import SettingsError

Context = zmq.Context[zmq.Socket[bytes]]


@pytest.fixture
def context() -> Iterator[Context]:
    made = sockets.new_context()
    yield made
    made.term()


class Heard:
    """What came in, and a way to wait for the n-th of it."""

    def __init__(self) -> None:
        self.messages: list[Any] = []
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []

    def __call__(self, *message: Any) -> None:
        self.messages.append(message)
        for wanted, future in self._waiting:
            if len(self.messages) >= wanted and not future.done():
                future.set_result(None)

    async def wait_for(self, count: int) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((count, future))
        if len(self.messages) >= count:
            return
        async with asyncio.timeout(10):
            await future


@pytest.fixture
async def pair(context: Context) -> AsyncIterator[tuple[Drain, Drain, Heard, Heard]]:
    loop = asyncio.get_running_loop()
    server, client = sockets.router(context), sockets.dealer(context, b"c" * 16)
    endpoint = sockets.bind(server, "tcp://127.0.0.1:0")
    sockets.connect(client, endpoint)
    at_server, at_client = Heard(), Heard()
    drains = Drain(loop, server, at_server), Drain(loop, client, at_client)
    yield (*drains, at_server, at_client)
    for drain in drains:
        drain.close()


async def test_more_messages_than_one_turn_takes_all_arrive_in_order(pair: Any) -> None:
    _, client, at_server, _ = pair
    count = 5 * MOST_IN_A_ROW + 3
    for number in range(count):
        client.socket.send(str(number).encode(), zmq.NOBLOCK)
    await at_server.wait_for(count)
    assert [frames[0][1] for frames in at_server.messages] == [str(n).encode() for n in range(count)]


async def test_a_message_that_comes_in_while_we_send_is_not_left_lying(pair: Any) -> None:
    server, client, at_server, at_client = pair
    client.socket.send(b"first")
    await at_server.wait_for(1)
    for turn in range(200):
        server.socket.send_multipart([b"c" * 16, b"ping"])
        server.look()
        client.socket.send(b"pong")
        client.look()
        await at_client.wait_for(turn + 1)
        await at_server.wait_for(turn + 2)


async def test_a_chunk_frame_is_sent_on_without_a_copy(context: Context) -> None:
    loop = asyncio.get_running_loop()
    inboxes = [sockets.inbox(context) for _ in range(2)]
    endpoints = [sockets.bind(inbox, "tcp://127.0.0.1:0") for inbox in inboxes]
    pipelines, heard = Pipelines(context), [Heard(), Heard()]
    forward = heard[1]

    def first(frames: list[zmq.Frame]) -> None:
        heard[0](frames)
        assert pipelines.send(endpoints[1], b"header-2", frames[1])

    drains = [Drain(loop, inboxes[0], first, copy=False), Drain(loop, inboxes[1], forward, copy=False)]
    payload = bytes(range(256)) * 2048
    assert pipelines.send(endpoints[0], b"header-1", memoryview(payload))
    await forward.wait_for(1)
    (frames,) = forward.messages[0]
    assert [frames[0].bytes, frames[1].bytes] == [b"header-2", payload]
    pipelines.close()
    for drain in drains:
        drain.close()


class Lagging:
    def __init__(self) -> None:
        self.told: list[str] = []
        self.since = 0.0
        self.is_over = asyncio.Event()

    def fell_behind(self, since: float) -> None:
        self.told.append("behind")
        self.since = since

    def caught_up(self) -> None:
        self.told.append("caught up")
        self.is_over.set()


async def test_whoever_reads_more_than_a_row_is_told_since_when_it_waits_and_when_it_is_over(context: Context) -> None:
    loop, lag = asyncio.get_running_loop(), Lagging()
    server = sockets.router(context)
    endpoint = sockets.bind(server, "inproc://much")
    client = sockets.dealer(context, b"c" * 16)
    sockets.connect(client, endpoint)
    began = loop.time()
    drain = Drain(loop, server, Heard(), lag=lag)
    empty = loop.time()
    for number in range(3 * MOST_IN_A_ROW):
        sockets.send(client, b"%d" % number)
    async with asyncio.timeout(10):
        await lag.is_over.wait()
    assert lag.told == ["behind", "caught up"]
    assert began <= lag.since <= empty
    drain.close()
    client.close()


async def test_an_inbox_that_is_no_endpoint_is_refused_not_raised(context: Context) -> None:
    pipelines = Pipelines(context)
    assert not pipelines.send("nonsense", b"h", b"p")
    assert not pipelines.send("tcp://no port here", b"h", b"p")
    assert len(pipelines) == 0


async def test_the_least_recently_asked_parent_is_dropped_when_there_are_too_many(context: Context) -> None:
    loop, heard = asyncio.get_running_loop(), Heard()
    server = sockets.router(context)
    at_server = Heard()
    drain = Drain(loop, server, at_server)
    port = sockets.bind(server, "tcp://127.0.0.1:0").rpartition(":")[2]
    parents = Parents(context, loop, b"c" * 16, heard)
    for number in range(MOST_PARENTS + 5):
        assert parents.send(f"tcp://127.0.0.{number + 1}:{port}", [b"x"])
    assert len(parents._by_endpoint) == MOST_PARENTS
    assert f"tcp://127.0.0.1:{port}" not in parents._by_endpoint
    parents.close()
    drain.close()


def test_an_address_in_use_is_named(context: Context) -> None:
    first, second = sockets.router(context), sockets.router(context)
    endpoint = sockets.bind(first, "tcp://127.0.0.1:0")
    with pytest.raises(SettingsError, match="cannot listen at"):
        sockets.bind(second, endpoint)
    first.close()
    second.close()


async def test_an_endpoint_is_left_in_the_middle_of_a_message(context: Context) -> None:
    """libzmq would abort the process here; a neighbour may speak at any moment."""
    loop, heard = asyncio.get_running_loop(), Heard()
    subscriber = sockets.subscriber(context)
    subscriber.setsockopt(zmq.SUBSCRIBE, b"")
    publishers = [sockets.publisher(context) for _ in range(2)]
    endpoints = [sockets.bind(publisher, "tcp://127.0.0.1:0") for publisher in publishers]
    for endpoint in endpoints:
        sockets.connect(subscriber, endpoint)
    drain = Drain(loop, subscriber, heard)
    async with asyncio.timeout(10):
        while len({bytes(message[0][0]) for message in heard.messages}) < 2:  # a PUB drops what nobody hears yet
            for i, publisher in enumerate(publishers):
                publisher.send_multipart([b"%d" % i, b"two", b"three"])
            await asyncio.sleep(0.01)
    for _ in range(20):
        publishers[0].send_multipart([b"0", b"two", b"three"])
    while not subscriber.getsockopt(zmq.EVENTS) & zmq.POLLIN:  # which fetches the first frame
        pass
    drain.disconnect(endpoints[0])
    publishers[1].send_multipart([b"last", b"two", b"three"])
    while heard.messages[-1][0][0] != b"last":
        await heard.wait_for(len(heard.messages) + 1)
    assert all(len(message[0]) == 3 for message in heard.messages)
    drain.close()
    for publisher in publishers:
        publisher.close()


@pytest.mark.parametrize(
    "endpoint", ["", "host:1", "ipc:///tmp/x", "inproc://dfmq-control", "tcp://:1 ", "tcp://h", "tcp://h:999999"]
)
def test_another_node_is_never_reached_at_a_place_of_this_host(context: Context, endpoint: str) -> None:
    pipelines = Pipelines(context)
    assert not pipelines.send(endpoint, b"header", b"payload")
    assert len(pipelines) == 0


@pytest.mark.parametrize("make", [sockets.publisher, sockets.heeding_publisher])
def test_a_subscription_longer_than_any_topic_cuts_its_connection(context: Context, make: Any) -> None:
    """It would be kept, and cost many times its length."""
    publisher, subscriber = make(context), sockets.subscriber(context)
    monitor = publisher.get_monitor_socket(zmq.EVENT_DISCONNECTED)
    try:
        endpoint = sockets.bind(publisher, "tcp://127.0.0.1:0")
        subscriber.setsockopt(zmq.SUBSCRIBE, bytes(sockets.MOST_TOPIC_BYTES))
        subscriber.connect(endpoint)
        assert monitor.poll(10_000), "nobody was cut off"
    finally:
        publisher.disable_monitor()
        monitor.close(0)
        publisher.close()
        subscriber.close()
