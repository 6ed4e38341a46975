"""A peer made of bare sockets that speaks the codec, and does only what a test says: to lie, to be silent, to talk rot.

with RawPeer(broker.control) as raw:
    raw.say(Open(...)); opened = raw.hear(Opened)
    child, fetch = raw.asked(Fetch)
    raw.send_chunk(fetch.inbox, fetch.lease, fetch.piece, 0, b"not what it should be")
"""

from __future__ import annotations

import secrets
import time
from types import TracebackType
from typing import Any, TypeVar

import zmq

from dfmq.wire import codec, envelope
from dfmq.wire.messages import Error, Hello, Message, Welcome

M = TypeVar("M", bound=Message)

PATIENCE = 20.0


class RawPeer:
    """See the module. Not for use by several threads."""

    def __init__(
        self, broker: str, *, slots: int = 16, seed: bool = False, exchange: str = "", hints: str = ""
    ) -> None:
        """`exchange`, `hints`: other endpoints to name than its own."""
        self.id = secrets.token_bytes(16)
        self._context = zmq.Context()
        self.control = self._socket(zmq.DEALER)
        self.control.setsockopt(zmq.ROUTING_ID, self.id)
        self.control.connect(broker)
        self.exchange = self._socket(zmq.ROUTER)
        self.hints = self._socket(zmq.PUB)
        self.exchange_endpoint = self._bound(self.exchange)
        self.hints_endpoint = self._bound(self.hints)
        self._pipelines: dict[str, zmq.Socket[bytes]] = {}
        self._heard: list[Any] = []
        self._asked: list[tuple[bytes, Any]] = []
        hello = Hello(
            peer=self.id, host=secrets.token_bytes(16), exchange=exchange or self.exchange_endpoint,
            hints=hints or self.hints_endpoint, name="raw", seed=seed, slots=slots,
        )  # fmt: skip
        self.say(hello)
        self.hear(Welcome)

    def _socket(self, kind: int) -> zmq.Socket[bytes]:
        socket = self._context.socket(kind)
        socket.setsockopt(zmq.LINGER, 0)
        return socket

    @staticmethod
    def _bound(socket: zmq.Socket[bytes]) -> str:
        return f"tcp://127.0.0.1:{socket.bind_to_random_port('tcp://127.0.0.1')}"

    def say(self, *messages: Message) -> None:
        """To the broker."""
        self.control.send_multipart(envelope.wrap([codec.encode(message) for message in messages]))

    def hear(self, kind: type[M], patience: float = PATIENCE) -> M:
        """The next message of this kind from the broker; others before it are forgotten."""
        deadline = time.monotonic() + patience
        while True:
            while self._heard:
                message = self._heard.pop(0)
                if isinstance(message, kind):
                    return message
                assert not isinstance(message, Error), message
            left = deadline - time.monotonic()
            assert left > 0, f"the broker has not said {kind.__name__}"
            if self.control.poll(int(left * 1000)):
                frames = self.control.recv_multipart()
                self._heard += [codec.peer_hears.decode(body) for body in envelope.unwrap(frames)]

    def asked(self, kind: type[M], patience: float = PATIENCE) -> tuple[bytes, M] | None:
        """The next message of this kind from a child, and who; None when none comes."""
        deadline = time.monotonic() + patience
        while True:
            while self._asked:
                child, message = self._asked.pop(0)
                if isinstance(message, kind):
                    return child, message
            left = deadline - time.monotonic()
            if left <= 0 or not self.exchange.poll(int(left * 1000)):
                return None
            child, *frames = self.exchange.recv_multipart()
            self._asked += [(child, codec.parent_hears.decode(body)) for body in envelope.unwrap(frames)]

    def answer(self, child: bytes, *messages: Message) -> None:
        """To a child, on the exchange."""
        self.exchange.send_multipart([child, *envelope.wrap([codec.encode(message) for message in messages])])

    def send_chunk(self, inbox: str, lease: int, piece: int, chunk: int, payload: bytes) -> None:
        """To a child's inbox."""
        self.push(inbox, codec.encode_chunk_header(lease, piece, chunk), payload)

    def push(self, inbox: str, *frames: bytes) -> None:
        """Any frames to an inbox."""
        socket = self._pipelines.get(inbox)
        if socket is None:
            socket = self._pipelines[inbox] = self._socket(zmq.PUSH)
            socket.connect(inbox)
        socket.send_multipart(frames)

    def __enter__(self) -> RawPeer:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        self._context.destroy(linger=0)
