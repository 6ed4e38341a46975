"""Real processes: a broker's address that is wrong, silent, or somebody else's."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import zmq
from support.processes import House, environment, finish, free_port, stop_started_peers
from support.sources import FaultySource

from dfmq.wire import envelope
from dfmq.wire.codec import encode
from dfmq.wire.messages import Welcome

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def source() -> Iterator[FaultySource]:
    with FaultySource() as source:
        source.put("/x", b"content" * 1000)
        yield source


@dataclass
class Unreachable:
    """Gets whose broker is nobody, or somebody else."""

    house: House
    #: name → the get, and its broker's port
    gets: dict[str, tuple[subprocess.Popen[str], int]]


@pytest.fixture(scope="module", autouse=True)
def unreachable(source: FaultySource, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Unreachable]:
    """They give up after ten seconds, so they begin first and wait while other tests run; the last sees to them."""

    def http(connection: socket.socket) -> None:
        connection.recv(100)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    # A port that is kept, though nobody listens at it, so that no other test's node gets it meanwhile.
    with House(tmp_path_factory.mktemp("unreachable")) as house, a_server(http) as other, socket.socket() as kept:
        kept.bind(("127.0.0.1", 0))
        ports = {"nobody": int(kept.getsockname()[1]), "other": other}
        yield Unreachable(house, {name: (start(house, source, name, port), port) for name, port in ports.items()})


def test_an_address_of_the_wrong_form_is_answered_with_the_right_one(
    house: House, source: FaultySource, tmp_path: Path
) -> None:
    got = house.get(tmp_path / "home", source.url("/x"), "-o", tmp_path / "x", "--broker", "broker.example.org:7400")
    assert got.status == 2
    assert "write tcp://broker.example.org:7400" in got.err
    assert not (tmp_path / "home").exists()


def test_a_name_that_is_not_known_is_named(house: House, source: FaultySource, tmp_path: Path) -> None:
    got = house.get(tmp_path / "home", source.url("/x"), "-o", tmp_path / "x", "--broker", "tcp://nobody.invalid:7400")
    assert got.status in (2, 4)
    assert "tcp://nobody.invalid:7400" in got.err
    stop_started_peers(tmp_path)


def start(house: House, source: FaultySource, name: str, port: int) -> subprocess.Popen[str]:
    """A get through a peer of its own with a broker at this port; its output stands there already."""
    output = house.folder / f"{name}.out"
    output.write_text("before")
    broker = f"tcp://127.0.0.1:{port}"
    return house.start_get(house.folder / name, source.url("/x"), "-o", output, "--broker", broker)


def assert_unreachable(house: House, name: str, getting: subprocess.Popen[str], port: int, text: str) -> None:
    got = finish(getting)
    assert (got.status, got.last["code"]) == (4, "broker_unreachable"), got
    assert f"tcp://127.0.0.1:{port}" in got.err and text in got.err
    assert (house.folder / f"{name}.out").read_text() == "before"


@contextlib.contextmanager
def a_server(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """A plain TCP server that does this with each connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection, contextlib.suppress(OSError):
                        answer(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        yield int(listener.getsockname()[1])
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


@contextlib.contextmanager
def a_broker_of_another_version(port: int = 0) -> Iterator[int]:
    """It answers whatever is said, in its own words; its port."""
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        router.bind(f"tcp://127.0.0.1:{port or '*'}")
        over = threading.Event()

        def answer() -> None:
            while not over.is_set():
                if router.poll(50):
                    client, *_ = router.recv_multipart()
                    other = envelope.MAGIC + bytes([envelope.PROTOCOL_VERSION + 1])
                    router.send_multipart([client, other, encode(Welcome(epoch=1))])

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            yield int(router.getsockopt_string(zmq.LAST_ENDPOINT).rpartition(":")[2])
        finally:
            over.set()
            thread.join()


def test_another_protocol_version_is_four_and_says_so(house: House, source: FaultySource) -> None:
    with a_broker_of_another_version() as port:
        assert_unreachable(house, "home", start(house, source, "home", port), port, "protocol version")


def test_a_broker_that_comes_back_in_another_version_is_left_for_the_next(house: House, source: FaultySource) -> None:
    """In the middle of a get, which goes on and is served by the other one."""
    content = os.urandom(3 << 20)
    url = source.put("/replaced", content, headers={"Cache-Control": "max-age=600"})
    port = free_port()
    first, second = house.broker("first", listen=f"tcp://127.0.0.1:{port}"), house.broker("second")
    peer = house.peer("peer", second, "--broker", first.control)  # flags come first
    first.wait_for("peer.welcomed", 2)
    getting = house.start_get(peer, url, "-o", house.folder / "out", "--limit", "1MB/s")
    peer.wait_for("piece.held")
    first.kill()
    with a_broker_of_another_version(port):
        got = finish(getting)
        assert got.status == 0, got
        assert (house.folder / "out").read_bytes() == content
        assert second.wait_for("peer.welcomed", 2), "its own seed, and the peer"
        assert house.get(peer, source.url("/x"), "-o", house.folder / "x").status == 0


def test_a_broker_whose_name_is_not_known_is_passed_over(house: House, source: FaultySource) -> None:
    live = house.broker().control
    for number, brokers in enumerate((["tcp://nobody.invalid:7400", live], [live, "tcp://nobody.invalid:7400"])):
        words = [word for broker in brokers for word in ("--broker", broker)]
        got = house.get(house.folder / f"{number}", source.url("/x"), "-o", house.folder / f"{number}.out", *words)
        assert got.status == 0, got


def test_a_broker_that_comes_late_is_waited_for(house: House, source: FaultySource, tmp_path: Path) -> None:
    listen = f"tcp://127.0.0.1:{free_port()}"
    getting = house.start_get(tmp_path / "home", source.url("/x"), "-o", str(tmp_path / "x"), "--broker", listen)
    house.broker(listen=listen)
    assert getting.wait(30) == 0
    assert (tmp_path / "x").read_bytes() == b"content" * 1000


def test_a_port_that_is_taken_is_two_and_named(house: House, tmp_path: Path) -> None:
    taken = house.broker().control
    second = subprocess.run(
        [sys.executable, "-m", "dfmq.cli.broker", "--home", str(tmp_path / "second"), "--listen", taken],
        capture_output=True, text=True, env=environment(), timeout=30,
    )  # fmt: skip
    assert second.returncode == 2
    assert second.stderr.startswith(f"dfmq-broker: cannot listen at {taken}: Address already in use")


def test_another_broker_than_the_running_peers_is_two(house: House, source: FaultySource, tmp_path: Path) -> None:
    peer = house.peer("peer", house.broker())
    got = house.get(peer, source.url("/x"), "-o", tmp_path / "x", "--broker", "tcp://127.0.0.1:9")
    assert got.status == 2
    assert "not with tcp://127.0.0.1:9" in got.err


def test_nobody_listening_and_somebody_else_listening_are_four_and_say_where(unreachable: Unreachable) -> None:
    for name, (getting, port) in unreachable.gets.items():
        assert_unreachable(unreachable.house, name, getting, port, "does dfmq-broker run there")
