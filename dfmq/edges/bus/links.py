"""Pools of connections: one PUSH a child's inbox, one DEALER a parent's exchange. What is said on them is not here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import zmq

from dfmq.edges.bus import sockets
from dfmq.edges.bus.loop import Drain, Turn
from dfmq.errors import SettingsError

#: parents a child keeps a connection to; the least recently asked is dropped beyond (30 KiB each on either side)
MOST_PARENTS = 128
#: payloads up to this long are copied
COPIED_BYTES = 128 << 10
#: a plain number: an enum's arithmetic takes longer than the call it is for
_MORE = int(zmq.SNDMORE | zmq.NOBLOCK)


class Pipelines:
    """PUSH sockets by inbox endpoint. A chunk is [header][payload]; nothing here copies the payload."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        self._context = context
        self._by_inbox: dict[str, zmq.Socket[bytes]] = {}

    def send(self, inbox: str, header: bytes, payload: Any) -> bool:
        """Queue a chunk; False when the pipeline takes no more, or the inbox is no endpoint."""
        socket = self._by_inbox.get(inbox)
        if socket is None:
            socket = sockets.pipeline(self._context)
            try:
                sockets.reach(socket, inbox)
            except SettingsError:
                socket.close()
                return False
            self._by_inbox[inbox] = socket
        try:
            socket.send(header, _MORE)
            # A frame that was received is shared; of other buffers libzmq's thread tells a Python thread when it is
            # done with one, which costs more than copying a small one (64 KiB: 10 µs against two thread switches).
            is_small = type(payload) is not zmq.Frame and len(payload) <= COPIED_BYTES
            socket.send(payload, zmq.NOBLOCK, copy=is_small)
        except zmq.Again:
            return False
        return True

    def forget(self, inbox: str) -> None:
        """Drop the connection, unsent chunks and all."""
        socket = self._by_inbox.pop(inbox, None)
        if socket is not None:
            socket.close()

    def __len__(self) -> int:
        return len(self._by_inbox)

    def close(self) -> None:
        for inbox in list(self._by_inbox):
            self.forget(inbox)


class Parents:
    """DEALER sockets by exchange endpoint, least recently used first."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        loop: asyncio.AbstractEventLoop,
        routing_id: bytes,
        hear: Callable[[str, list[bytes]], None],
        turn: Turn | None = None,
    ) -> None:
        self._context = context
        self._loop = loop
        self._routing_id = routing_id
        self._hear = hear
        self._turn = turn
        self._by_endpoint: dict[str, Drain] = {}

    def send(self, endpoint: str, frames: Sequence[bytes]) -> bool:
        """Say something to a parent; False when it cannot be said."""
        drain = self._by_endpoint.pop(endpoint, None)
        if drain is None:
            drain = self._connected(endpoint)
            if drain is None:
                return False
        self._by_endpoint[endpoint] = drain
        try:
            sockets.send(drain.socket, *frames)
        except zmq.Again:
            return False
        drain.look()
        return True

    def _connected(self, endpoint: str) -> Drain | None:
        socket = sockets.asking(self._context, self._routing_id)
        try:
            sockets.reach(socket, endpoint)
        except SettingsError:
            socket.close()
            return None
        while len(self._by_endpoint) >= MOST_PARENTS:
            self._by_endpoint.pop(next(iter(self._by_endpoint))).close()
        return Drain(self._loop, socket, lambda frames: self._hear(endpoint, frames), turn=self._turn)

    def close(self) -> None:
        for drain in self._by_endpoint.values():
            drain.close()
        self._by_endpoint.clear()
