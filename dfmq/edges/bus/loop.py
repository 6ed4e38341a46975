"""Draining plain ZeroMQ sockets on an asyncio loop. The one file that knows the file descriptor is edge-triggered.

A socket's FD becomes readable once for any number of events, and sending may swallow that edge; so: drain until
EAGAIN (or come back by call_soon), and look at EVENTS after sending. zmq.asyncio was measured at 17 µs a message, this
at 4.5 (docs/decisions).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

import zmq

#: messages taken in one go before other sockets get their turn
MOST_IN_A_ROW = 64
#: plain numbers: an enum's arithmetic takes longer than the call it is for
_NOBLOCK, _EVENTS, _POLLIN = int(zmq.NOBLOCK), int(zmq.EVENTS), int(zmq.POLLIN)


class Turn(Protocol):
    """Who wants to know that a row of messages begins, and that it is over."""

    def begin(self) -> None: ...

    def end(self) -> None: ...


class Lag(Protocol):
    """Who wants to know that more has come in than is taken in one row, and that it is all taken."""

    def fell_behind(self, since: float) -> None:
        """What came in after `since`, in seconds of the loop's clock, may lie unread."""

    def caught_up(self) -> None:
        """Nothing does."""


class _NoTurn:
    def begin(self) -> None: ...

    def end(self) -> None: ...


class _NoLag:
    def fell_behind(self, since: float) -> None: ...

    def caught_up(self) -> None: ...


class Drain:
    """One socket's reader: calls `take(frames)` for every message, in order, in the loop's thread; `turn` begins before
    a row of them and ends after it."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        socket: zmq.Socket[bytes],
        take: Callable[[list[Any]], None],
        *,
        copy: bool = True,
        turn: Turn | None = None,
        lag: Lag | None = None,
    ) -> None:
        self.socket = socket
        self._turn = turn if turn is not None else _NoTurn()
        self._lag = lag if lag is not None else _NoLag()
        self._is_behind = False
        #: nothing was left unread then
        self._drained_at = loop.time()
        self._loop = loop
        self._take = take
        self._copy = copy
        self._fd = int(socket.getsockopt(zmq.FD))
        self._again: asyncio.Handle | None = None
        self._closed = False
        loop.add_reader(self._fd, self._readable)
        self.look()

    def look(self) -> None:
        """Call after sending on the socket: the send may have swallowed the edge."""
        if self._again is None and not self._closed and int(self.socket.getsockopt(_EVENTS)) & _POLLIN:
            self._again = self._loop.call_soon(self._readable)

    def _readable(self) -> None:
        if self._again is not None:
            self._again.cancel()
            self._again = None
        self._turn.begin()
        try:
            is_drained = self._take_row()
            self._note_lag(is_drained)
        finally:
            self._turn.end()
        if not is_drained and not self._closed and self._again is None:
            self._again = self._loop.call_soon(self._readable)

    def _note_lag(self, is_drained: bool) -> None:
        if is_drained:
            self._drained_at = self._loop.time()
        if self._is_behind == is_drained:
            self._is_behind = not is_drained
            if is_drained:
                self._lag.caught_up()
            else:
                self._lag.fell_behind(self._drained_at)

    def _take_row(self) -> bool:
        """Whether nothing is left."""
        receive, copy = self.socket.recv, self._copy
        for _ in range(MOST_IN_A_ROW):
            if self._closed:
                return True
            try:
                # As recv_multipart does, in half its time: a frame knows whether another follows it.
                frame = receive(_NOBLOCK, copy=False)
                frames = [frame.bytes if copy else frame]
                while frame.more:
                    frame = receive(_NOBLOCK, copy=False)
                    frames.append(frame.bytes if copy else frame)
            except zmq.Again:
                return True
            self._take(frames)
        return False

    def disconnect(self, endpoint: str) -> None:
        """Leave one endpoint of a subscriber, whatever is on its way from there.

        Reading EVENTS may have brought the first frame of a message into libzmq, which aborts the whole process when
        the connection then goes under the rest of it (fq.cpp: !_more, libzmq 4.3.5). So that message is taken first.
        """
        try:
            frames = self.socket.recv_multipart(zmq.NOBLOCK, self._copy)
        except zmq.Again:
            frames = None
        self.socket.disconnect(endpoint)
        if frames is not None:
            self._take(frames)
        self.look()

    def close(self) -> None:
        """Stop reading and close the socket."""
        if self._closed:
            return
        self._closed = True
        if self._again is not None:
            self._again.cancel()
        self._loop.remove_reader(self._fd)
        self.socket.close()
