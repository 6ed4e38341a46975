"""A host's peer that is not one: a ROUTER on a home's ipc endpoint with the real codec, that does as it is told."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import zmq

from dfmq.edges.bus.local import local_endpoint
from dfmq.model.task import task_id
from dfmq.wire import codec, envelope
from dfmq.wire.messages import Answer, Ask, Done, Get, Message, Progress, Receipt, Release

Reply = Callable[[Get], list[Message]]


class FakePeer:
    """Answers each Get with what `reply` says (default: the content of `contents` for its URL, from the store).

    `gets` and `releases` are what clients said, in order. `silent`: hears and says nothing.
    `signature`: what its frames begin with."""

    def __init__(
        self,
        home: Path,
        reply: Reply | None = None,
        *,
        brokers: tuple[str, ...] = (),
        silent: bool = False,
        signature: bytes = envelope.SIGNATURE,
    ) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.home = home
        self.gets: list[Get] = []
        self.releases: list[Release] = []
        self.asks = 0
        self.contents: dict[str, bytes] = {}
        self._reply = reply or self._give
        self._brokers = list(brokers)
        self._silent = silent
        self._signature = signature
        self._context = zmq.Context()
        self._router = self._context.socket(zmq.ROUTER)
        self._router.bind(local_endpoint(home))
        self._orders = self._context.socket(zmq.PAIR)
        self._orders.bind("inproc://orders")
        self._ends = self._context.socket(zmq.PAIR)
        self._ends.connect("inproc://orders")
        self._thread = threading.Thread(target=self._live, name="fake-peer")
        self._thread.start()

    def __enter__(self) -> FakePeer:
        return self

    def __exit__(self, *_: object) -> None:
        self.die()

    def die(self) -> None:
        """Hear what was said already, and be gone, whatever was promised. Twice does no harm."""
        if not self._context.closed:
            self._orders.send(b"end")
            self._thread.join()
            self._orders.close(linger=0)
            self._context.term()

    def _live(self) -> None:
        poller = zmq.Poller()
        poller.register(self._router, zmq.POLLIN)
        poller.register(self._ends, zmq.POLLIN)
        while self._ends not in (ready := dict(poller.poll())):
            if self._router in ready:
                self._hear(*self._router.recv_multipart())
        while self._router.poll(50):  # the last words of clients that have gone
            self._hear(*self._router.recv_multipart())
        self._router.close(linger=0)
        self._ends.close(linger=0)

    def _hear(self, client: bytes, *frames: bytes) -> None:
        for body in envelope.unwrap(frames):
            answers = self._answers(codec.local_hears.decode(body))
            if answers and not self._silent:
                # A client that is gone by now is not told; ROUTER drops it.
                self._router.send_multipart([client, self._signature, *map(codec.encode, answers)])

    def _answers(self, message: Message) -> list[Message]:
        if isinstance(message, Ask):
            self.asks += 1
            alone = not self._brokers
            return [Answer(pid=os.getpid(), software="fake", brokers=self._brokers, alone=alone)]
        if isinstance(message, Get):
            self.gets.append(message)
            return self._reply(message)
        assert isinstance(message, Release)
        self.releases.append(message)
        return []

    def _give(self, get: Get) -> list[Message]:
        done = self.done(get, self.contents.get(get.request.url, b"content of " + get.request.url.encode()))
        return [progress(get, done.length, done.length // 2), done]

    def done_only(self, get: Get) -> list[Message]:
        """The usual answer without its progress."""
        return self._give(get)[1:]

    def done(self, get: Get, content: bytes, receipt: Receipt | None = None) -> Done:
        """The content stored, and the message that says so."""
        task = task_id(get.request)
        stored = self.home / "tasks" / task.hex() / "data"
        stored.parent.mkdir(parents=True, exist_ok=True)
        if not stored.exists():
            stored.write_bytes(content)
        return Done(
            get=get.get,
            path=str(stored),
            length=len(content),
            task=task,
            generation=bytes(8),
            receipt=receipt or Receipt(from_peers=len(content)),
        )


def progress(get: Get, length: int | None, held: int) -> Progress:
    """A step of a get."""
    return Progress(get=get.get, length=length, held=held, bytes_per_second=1_000_000, parents=3)
