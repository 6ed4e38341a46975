"""A DEALER without libzmq, against libzmq's ROUTER and against what is none."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zmq

from dfmq.edges.bus.zmtp import GREETING, MOST_FRAME_BYTES, READY, Dealer, Silence
from dfmq.errors import ProtocolError

PATIENCE = 10.0
LENGTHS = 0, 1, 255, 256, 65_536, MOST_FRAME_BYTES


@pytest.fixture
def router(tmp_path: Path) -> Iterator[zmq.Socket[bytes]]:
    context = zmq.Context()
    socket = context.socket(zmq.ROUTER)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.RCVTIMEO, 10_000)
    socket.bind(f"ipc://{tmp_path}/s")
    yield socket
    socket.close()
    context.term()


@pytest.fixture
def dealer(router: zmq.Socket[bytes], tmp_path: Path) -> Iterator[Dealer]:
    with contextlib.closing(Dealer(f"{tmp_path}/s", PATIENCE)) as dealer:
        yield dealer


@pytest.mark.parametrize("length", LENGTHS)
def test_what_is_said_arrives_frame_by_frame(router: zmq.Socket[bytes], dealer: Dealer, length: int) -> None:
    frames = [b"first", os.urandom(length), b"", b"last"]
    threading.Thread(target=dealer.say, args=(frames,)).start()
    assert router.recv_multipart()[1:] == frames


@pytest.mark.parametrize("length", LENGTHS)
def test_what_a_router_says_is_heard_frame_by_frame_and_in_order(
    router: zmq.Socket[bytes], dealer: Dealer, length: int
) -> None:
    dealer.say([b"who"])
    client, _ = router.recv_multipart()
    frames = [os.urandom(length), b"", b"x"]
    for number in range(3):
        router.send_multipart([client, str(number).encode(), *frames])
    for number in range(3):
        assert dealer.hear(PATIENCE) == [str(number).encode(), *frames]


def test_silence_is_told_and_harms_nothing(router: zmq.Socket[bytes], dealer: Dealer) -> None:
    dealer.say([b"who"])
    client, _ = router.recv_multipart()
    with pytest.raises(Silence):
        dealer.hear(0.0)
    router.send_multipart([client, b"late"])
    assert dealer.hear(PATIENCE) == [b"late"]


def test_what_is_said_before_closing_still_arrives(router: zmq.Socket[bytes], dealer: Dealer) -> None:
    dealer.say([b"farewell"])
    dealer.close()
    assert router.recv_multipart()[1:] == [b"farewell"]


def test_the_end_of_the_other_side_is_told_after_its_last_words(router: zmq.Socket[bytes], dealer: Dealer) -> None:
    dealer.say([b"who"])
    client, _ = router.recv_multipart()
    router.setsockopt(zmq.LINGER, 10_000)
    router.send_multipart([client, b"bye"])
    router.close()
    assert dealer.hear(PATIENCE) == [b"bye"]
    with pytest.raises(ConnectionError):
        dealer.hear(PATIENCE)


def test_where_nobody_listens_is_an_oserror(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Dealer(f"{tmp_path}/none", PATIENCE)


@contextlib.contextmanager
def answering(path: Path, act: Callable[[socket.socket], None]) -> Iterator[None]:
    """Something that is no ROUTER: does `act` with the first connection, and closes it."""

    def serve() -> None:
        with listener.accept()[0] as connection:
            act(connection)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        thread = threading.Thread(target=serve)
        thread.start()
        yield
        thread.join()


def _greets_then(*words: bytes) -> Callable[[socket.socket], None]:
    def act(connection: socket.socket) -> None:
        connection.recv(64)
        for word in (GREETING, *words):
            for octet in word:
                connection.send(bytes([octet]))
        # Until the other end has had enough.
        with contextlib.suppress(OSError):
            while connection.recv(1 << 16):
                pass

    return act


_READY = bytes([4, len(READY)]) + READY


def test_octets_one_by_one_are_a_message_all_the_same(tmp_path: Path) -> None:
    said = _greets_then(_READY, b"\x01\x02ab", b"\x04\x05\x04PONG", b"\x02" + (3).to_bytes(8) + b"cde")
    with answering(tmp_path / "s", said), contextlib.closing(Dealer(f"{tmp_path}/s", PATIENCE)) as dealer:
        assert dealer.hear(PATIENCE) == [b"ab", b"cde"]


@pytest.mark.parametrize(
    "said",
    [
        lambda connection: connection.sendall(b"HTTP/1.1 400 Bad Request\r\n" * 10),
        lambda connection: connection.sendall(GREETING.replace(b"NULL", b"CURV")),
        lambda connection: connection.sendall(GREETING[:10] + b"\1\0" + GREETING[12:]),
        lambda connection: connection.sendall(GREETING + b"\x04\x07\x05ERROR\x00"),
        lambda connection: connection.sendall(GREETING + b"\x00\x01x"),
        lambda connection: connection.sendall(GREETING + b"\xf0\x01x"),
        lambda connection: connection.sendall(GREETING + b"\x06" + (MOST_FRAME_BYTES + 1).to_bytes(8)),
    ],
)
def test_what_speaks_otherwise_is_a_protocol_error(tmp_path: Path, said: Callable[[socket.socket], None]) -> None:
    def act(connection: socket.socket) -> None:
        said(connection)
        with contextlib.suppress(OSError):
            while connection.recv(1 << 16):
                pass

    with answering(tmp_path / "s", act), pytest.raises(ProtocolError):
        Dealer(f"{tmp_path}/s", PATIENCE)


def test_a_frame_too_long_after_the_handshake_is_a_protocol_error(tmp_path: Path) -> None:
    said = _greets_then(_READY, b"\x02" + (MOST_FRAME_BYTES + 1).to_bytes(8))
    with (
        answering(tmp_path / "s", said),
        contextlib.closing(Dealer(f"{tmp_path}/s", PATIENCE)) as dealer,
        pytest.raises(ProtocolError),
    ):
        dealer.hear(PATIENCE)


def test_who_takes_the_connection_and_says_nothing_is_silence(tmp_path: Path) -> None:
    heard = threading.Event()
    with answering(tmp_path / "s", lambda _: heard.wait(PATIENCE) and None), pytest.raises(Silence):
        try:
            Dealer(f"{tmp_path}/s", 0.05)
        finally:
            heard.set()
