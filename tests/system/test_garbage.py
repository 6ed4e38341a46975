"""Real processes that are sent anything at all, on every port they have: they live on and do their work."""

from __future__ import annotations

import os
import random
import signal
import socket
from collections.abc import Iterator
from contextlib import suppress

import psutil
import pytest
import zmq
from support.processes import House, Node, until
from support.raw_peer import RawPeer
from support.sources import FaultySource

from dfmq.model.task import Request, task_id
from dfmq.wire import codec, envelope, topics
from dfmq.wire.messages import Error, Fetch, Held, Hello, Open, Opened, Want

pytestmark = pytest.mark.system

MIB = 1 << 20
FRESH = {"Cache-Control": "max-age=600"}
RNG = random.Random(7)
NAME = b"\x01" * 16


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with House(tmp_path_factory.mktemp("garbage")) as house:
        yield house


@pytest.fixture(scope="module")
def nodes(house: House) -> list[Node]:
    """A broker and two peers."""
    broker = house.broker()
    return [broker, *house.peers(["one", "two"], broker)]


@pytest.fixture(scope="module")
def source() -> Iterator[FaultySource]:
    with FaultySource() as source:
        yield source


def ports(node: Node) -> list[int]:
    """Every TCP port the process listens at."""
    connections = psutil.Process(node.popen.pid).net_connections("tcp")
    return sorted({c.laddr.port for c in connections if c.status == psutil.CONN_LISTEN})


def assert_all_work(house: House, nodes: list[Node], source: FaultySource, name: str) -> None:
    """Everybody is still there, and new content comes to every peer."""
    content = os.urandom(MIB)
    url = source.put(f"/{name}", content, headers=FRESH)
    got = house.get_together([(peer, [url, "-o", house.folder / f"{peer.name}.out"]) for peer in nodes[1:]])
    assert [one.status for one in got] == [0] * len(got), got
    assert all((house.folder / f"{peer.name}.out").read_bytes() == content for peer in nodes[1:])
    assert source.bytes_sent(f"/{name}") == len(content)
    assert all(node.popen.poll() is None for node in nodes)


def talk() -> list[list[bytes]]:
    """Messages that are none: random frames, the beginnings and bent copies of good ones, and the wrong good ones."""
    task = bytes(16)
    good = [
        Hello(peer=NAME, host=NAME, exchange="tcp://127.0.0.1:1"),
        Open(task=task, request=Request(url="http://127.0.0.1:1/x")),
        Want(task=task, count=3),
        Fetch(lease=1, task=task, generation=bytes(8), piece=0, chunks=b"\xff", credit=1 << 40, inbox="tcp://[::"),
        Error(code="version"),
    ]
    bodies = [codec.encode(message) for message in good]
    found = [[], [b""], [envelope.SIGNATURE], [b"GET / HTTP/1.1\r\n\r\n"], [envelope.SIGNATURE, b""]]
    found += [[envelope.SIGNATURE, RNG.randbytes(RNG.randrange(1, 300))] for _ in range(20)]
    found += [[RNG.randbytes(RNG.randrange(0, 40)) for _ in range(RNG.randrange(1, 6))] for _ in range(20)]
    found += [[envelope.SIGNATURE, body[: RNG.randrange(len(body))]] for body in bodies]
    for body in bodies * 4:
        bent = bytearray(body)
        bent[RNG.randrange(len(bent))] ^= 1 << RNG.randrange(8)
        found.append([envelope.SIGNATURE, bytes(bent)])
    found += [[envelope.SIGNATURE, body] for body in bodies]
    found.append([envelope.SIGNATURE, *[b"\x80"] * (envelope.MOST_BODIES + 1)])
    found.append([envelope.SIGNATURE, bytes(envelope.MOST_BODY_BYTES + 1)])
    found.append([b"\x94\x01\x01\x00\x00", b"a payload of a lease that is none"])
    found.append([b"\x94\x01\xff\x00\x00", b""])
    found.append([b"\x01" * 4096, RNG.randbytes(100_000)])
    return [frames for frames in found if frames]


def say_rot(context: zmq.Context[zmq.Socket[bytes]], kind: int, endpoint: str) -> None:
    """All of it, or as much as the other side's kind of socket takes from this one."""
    with context.socket(kind) as speaker:
        speaker.setsockopt(zmq.LINGER, 500)
        if kind == zmq.SUB:
            speaker.setsockopt(zmq.SUBSCRIBE, b"")
        speaker.connect(endpoint)
        with suppress(zmq.ZMQError):
            for frames in talk():
                speaker.send_multipart(frames, zmq.NOBLOCK)


def test_messages_that_are_none_on_every_port(house: House, nodes: list[Node], source: FaultySource) -> None:
    with zmq.Context() as context:
        for node in nodes:
            endpoints = [f"tcp://127.0.0.1:{port}" for port in ports(node)]
            endpoints += [str(node.said["local"])] if node.said.get("local") else []
            assert len(endpoints) == (5 if node is nodes[0] else 4), "control, notices, exchange, inbox, hints, local"
            for endpoint in endpoints:
                for kind in (zmq.DEALER, zmq.PUSH, zmq.PUB, zmq.REQ, zmq.SUB, zmq.XSUB):
                    say_rot(context, kind, endpoint)
    assert_all_work(house, nodes, source, "messages")
    for node in nodes:
        assert node.records("message.refused"), f"{node.name} has heard nothing of it"


def test_bytes_that_are_no_zeromq_on_every_port(house: House, nodes: list[Node], source: FaultySource) -> None:
    greeting = b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(48)
    texts = [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
        greeting[:20],
        greeting + b"\x04\xff" + RNG.randbytes(254),
        greeting + b"\x02\x7f\xff\xff\xff\xff\xff\xff\xff" + RNG.randbytes(50),
        RNG.randbytes(5000),
        b"",
    ]
    for node in nodes:
        for port in ports(node):
            for text in texts:
                with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
                    connection.sendall(text)
                    connection.shutdown(socket.SHUT_WR)
    assert_all_work(house, nodes, source, "bytes")


def test_a_neighbour_that_talks_rot_is_not_listened_to(house: House, nodes: list[Node], source: FaultySource) -> None:
    """Its hints come as frames of every kind, to whoever the broker told to hear it, and who does while it is quiet."""
    content = os.urandom(6 * MIB)
    url = source.put("/neighbour", content, rate=2_000_000, headers=FRESH)
    request = Request(url=url)
    with RawPeer(nodes[0].control) as raw:
        raw.say(Open(task=task_id(request), request=request))
        raw.hear(Opened)
        output = house.folder / "neighbour"
        getting = house.start_get(nodes[1], url, "-o", output)
        nodes[1].wait_for("piece.held", 2, task=task_id(request).hex()[:8])
        refused = len(nodes[1].records("message.refused"))
        topic = topics.of_task(task_id(request))

        def is_heard() -> bool:
            for frames in talk():
                raw.hints.send_multipart([topic, *frames])
                raw.hints.send_multipart(frames)
            return len(nodes[1].records("message.refused")) > refused

        nodes[0].popen.send_signal(signal.SIGSTOP)
        try:
            until("the rot is heard", is_heard)
        finally:
            nodes[0].popen.send_signal(signal.SIGCONT)
        out, err = getting.communicate(timeout=60)
        assert getting.returncode == 0, (out, err)
    assert output.read_bytes() == content
    assert_all_work(house, nodes, source, "after-rot")


@pytest.mark.parametrize(
    "endpoint", ["no endpoint", "ipc:///tmp/somebody", "inproc://dfmq-control", "tcp://:", "tcp://x:1"]
)
def test_endpoints_that_lead_nowhere_hurt_nobody(
    house: House, nodes: list[Node], source: FaultySource, endpoint: str
) -> None:
    """Of a peer that wants and claims to hold what others want, so that they are told to hear and to ask it."""
    name = f"endpoint-{len(endpoint)}"
    content = os.urandom(2 * MIB)
    url = source.put(f"/{name}-x", content, headers=FRESH)
    request = Request(url=url)
    with RawPeer(nodes[0].control, exchange=endpoint, hints=endpoint) as raw:
        raw.say(Open(task=task_id(request), request=request))
        opened = raw.hear(Opened)
        raw.say(Held(task=task_id(request), generation=opened.generation, held=b"\xff"))
        assert_all_work(house, nodes, source, name)
        peer, output = nodes[1], house.folder / "endpoint"
        assert house.get(peer, url, "-o", output).status == 0
    assert output.read_bytes() == content


def test_a_child_whose_inbox_is_no_inbox_gets_nothing(house: House, nodes: list[Node], source: FaultySource) -> None:
    content = os.urandom(MIB)
    url = source.put("/inbox", content, headers=FRESH)
    assert house.get(nodes[1], url, "-o", house.folder / "inbox").status == 0
    request = Request(url=url)
    with RawPeer(nodes[0].control) as raw, zmq.Context() as context:
        raw.say(Open(task=task_id(request), request=request))
        opened = raw.hear(Opened)
        for node in nodes:
            with context.socket(zmq.DEALER) as child:
                child.setsockopt(zmq.LINGER, 500)
                child.connect(str(node.said["exchange"]))
                for i, inbox in enumerate(
                    ["no endpoint", "ipc:///tmp/somebody", "inproc://dfmq-control", "tcp://:", ""]
                ):
                    fetch = Fetch(
                        lease=i, task=task_id(request), generation=opened.generation, piece=0, chunks=b"\xff",
                        credit=1 << 40, inbox=inbox,
                    )  # fmt: skip
                    child.send_multipart(envelope.wrap([codec.encode(fetch)]))
    assert_all_work(house, nodes, source, "after-inbox")


def test_another_protocol_version_is_told_so_by_the_broker(nodes: list[Node]) -> None:
    with zmq.Context() as context, context.socket(zmq.DEALER) as speaker:
        speaker.setsockopt(zmq.LINGER, 0)
        speaker.setsockopt(zmq.ROUTING_ID, os.urandom(16))
        speaker.connect(nodes[0].control)
        other = envelope.MAGIC + bytes([envelope.PROTOCOL_VERSION + 1])
        speaker.send_multipart([other, codec.encode(Hello(peer=NAME, host=NAME, exchange=""))])
        assert speaker.poll(10_000)
        (body,) = envelope.unwrap(speaker.recv_multipart())
        error = codec.peer_hears.decode(body)
    assert isinstance(error, Error)
    assert (error.code, error.version) == ("version", envelope.PROTOCOL_VERSION)


def test_nobody_speaks_in_anothers_name(house: House, nodes: list[Node], source: FaultySource) -> None:
    with zmq.Context() as context, context.socket(zmq.DEALER) as speaker:
        speaker.setsockopt(zmq.LINGER, 0)
        speaker.setsockopt(zmq.ROUTING_ID, os.urandom(16))
        speaker.connect(nodes[0].control)
        hello = Hello(peer=NAME, host=NAME, exchange="tcp://127.0.0.1:1")
        speaker.send_multipart(envelope.wrap([codec.encode(hello)]))
        assert speaker.poll(10_000)
        error = codec.peer_hears.decode(envelope.unwrap(speaker.recv_multipart())[0])
    assert isinstance(error, Error) and error.code == "malformed"
    assert_all_work(house, nodes, source, "name")
