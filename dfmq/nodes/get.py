"""A client of the host's peer: says Get and Release over ipc, hears Progress, Done and Sorry. Starts nothing, places
nothing; it has no loop of its own, for a short-lived command is quicker without one."""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from dfmq.edges.bus.local import local_endpoint
from dfmq.errors import ProtocolError, TransferError
from dfmq.model.task import Request
from dfmq.wire import codec, envelope
from dfmq.wire.messages import Answer, Ask, Done, Error, Get, Message, Progress, Release, Sorry

if TYPE_CHECKING:
    import zmq

#: A peer that says nothing for so long while something is expected of it is asked whether it lives; three times in
#: vain and it counts as dead. A peer under load answers within milliseconds.
SILENCE_SECONDS = 2.0
SILENCES = 3
#: How long a Release may take to leave when we go.
LINGER_MILLISECONDS = 300

Heard = Answer | Progress | Done | Sorry


class PeerLost(TransferError):
    """The host's peer ended or no longer answers."""


class PeerDied(PeerLost):
    """Its end of the connection is gone: another can be started in its place, which one that only hangs prevents."""


class HostPeer:
    """One connection to the peer of a home. Several gets go over it at once, told apart by their number.

    Law: a get is in `_open` from Get until Release.
    """

    def __init__(self, home: Path) -> None:
        """Connects nowhere yet. `home`: the peer's home directory."""
        import zmq

        self.home = home
        self._endpoint = local_endpoint(home)
        self._context = zmq.Context(io_threads=1)
        self._socket: zmq.Socket[bytes] | None = None
        self._monitor: zmq.Socket[bytes] | None = None
        self._poller = zmq.Poller()
        self._open: set[int] = set()
        self._last_get = 0
        #: when the silence is noticed, for the next time
        self._silent_at = 0.0
        self._silences = 0

    # ── connecting ───────────────────────────────────────────────────────────────────────────────────────────────

    def connect(self, patience: float) -> bool:
        """Whether a peer listens at the home's endpoint; if so we are connected. Raises PeerLost when one listens but
        says nothing for `patience` seconds."""
        import zmq

        self._disconnect()
        socket = self._context.socket(zmq.DEALER)
        # Bounded by how many gets their owner has open.
        socket.setsockopt(zmq.SNDHWM, 0)
        socket.setsockopt(zmq.LINGER, LINGER_MILLISECONDS)
        # A connection that broke is ours to judge: reconnecting by itself would hide that the peer was another one.
        socket.setsockopt(zmq.RECONNECT_IVL, -1)
        self._socket = socket
        self._monitor = socket.get_monitor_socket()
        socket.connect(self._endpoint)
        deadline = time.monotonic() + patience
        while (left := deadline - time.monotonic()) > 0:
            if self._monitor.poll(_milliseconds(left)):
                event = self._next_monitor_event()
                if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                    self._poller.register(socket, zmq.POLLIN)
                    self._poller.register(self._monitor, zmq.POLLIN)
                    self._silent_at, self._silences = time.monotonic() + SILENCE_SECONDS, 0
                    return True
                if event in (zmq.EVENT_CLOSED, zmq.EVENT_DISCONNECTED, zmq.EVENT_CONNECT_RETRIED):
                    return False
        raise PeerLost(
            f"the peer of {self.home} is there but has not answered for {patience:.0f} s: "
            "stop that process (it may be frozen), then run this again"
        )

    def _next_monitor_event(self) -> int:
        """The number of the event: the first 16 bits. zmq.utils.monitor would do, but loads asyncio: 30 CPU-ms."""
        assert self._monitor is not None
        return int.from_bytes(self._monitor.recv_multipart()[0][:2], sys.byteorder)

    def _disconnect(self) -> None:
        if self._socket is None or self._monitor is None:
            return
        for socket in (self._socket, self._monitor):
            if socket in self._poller:
                self._poller.unregister(socket)
        self._socket.disable_monitor()
        self._monitor.close(linger=0)
        self._socket.close()
        self._socket = self._monitor = None

    def watch(self, descriptor: int) -> None:
        """Let hear() also return when this file descriptor has something to read."""
        import zmq

        self._poller.register(descriptor, zmq.POLLIN)

    # ── speaking ─────────────────────────────────────────────────────────────────────────────────────────────────

    def get(self, request: Request, *, limit: int = 0, no_source: bool = False) -> int:
        """Ask for a content; returns the number its Progress, Done and Sorry will carry. `limit`: bytes per second."""
        if not self._open:
            self._silent_at, self._silences = time.monotonic() + SILENCE_SECONDS, 0
        self._last_get += 1
        self._open.add(self._last_get)
        self._say(Get(get=self._last_get, request=request, limit=limit, no_source=no_source))
        return self._last_get

    def release(self, get: int, *, linked: bool = False, ctimes: tuple[int, int] = (0, 0)) -> None:
        """The get is done with, or given up. `linked`: the stored file has got a second name; `ctimes`: what its ctime
        was before and after, nanoseconds."""
        self._open.discard(get)
        before, after = ctimes if linked else (0, 0)
        self._say(Release(get=get, linked=linked, ctime_before=before, ctime_after=after))

    def ask(self, patience: float) -> Answer:
        """Who the peer is. Only before the first get. Raises PeerLost."""
        self._say(Ask())
        deadline = time.monotonic() + patience
        while (left := deadline - time.monotonic()) > 0:
            for message in self.hear(left):
                if isinstance(message, Answer):
                    return message
        raise PeerLost(
            f"the peer of {self.home} has not said who it is for {patience:.0f} s: stop it and run this again"
        )

    def _say(self, message: Message) -> None:
        import zmq

        assert self._socket is not None
        # Refused only when the connection is gone, and then hear() says so.
        with contextlib.suppress(zmq.Again):
            self._socket.send_multipart(envelope.wrap([codec.encode(message)]), zmq.NOBLOCK)

    # ── hearing ──────────────────────────────────────────────────────────────────────────────────────────────────

    def hear(self, timeout: float | None) -> list[Heard]:
        """What the peer has said, at the latest after `timeout` seconds (None: no end); [] when nothing came.

        Raises PeerDied when its end of the connection is gone, PeerLost when it stays silent with gets open,
        ProtocolError or TransferError when it speaks another protocol or did not understand us.
        """
        wait = timeout
        if self._open:
            until_silent = max(0.0, self._silent_at - time.monotonic())
            wait = until_silent if wait is None else min(wait, until_silent)
        ready = dict(self._poller.poll(None if wait is None else _milliseconds(wait)))
        messages = list(self._messages()) if self._socket in ready else []
        # What was said before the end is heard before the end is noticed.
        if not messages and self._monitor in ready:
            self._look_whether_gone()
        if self._open and not messages:
            self._mind_the_silence()
        return messages

    def _messages(self) -> Iterable[Heard]:
        import zmq

        assert self._socket is not None
        self._silent_at, self._silences = time.monotonic() + SILENCE_SECONDS, 0
        # Bounded, so that a flood of Progress cannot keep us from placing what is done.
        for _ in range(256):
            try:
                frames = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            try:
                bodies = envelope.unwrap(frames)
            except ProtocolError as error:
                raise ProtocolError(
                    f"the peer of {self.home} speaks otherwise ({error}): stop it, so that one of this version starts",
                    error.reason,
                ) from error
            for body in bodies:
                message = codec.client_hears.decode(body)
                if isinstance(message, Error):
                    raise TransferError(
                        f"the peer of {self.home} did not understand us ({message.code}: {message.text}): "
                        "stop it, so that one of this version starts"
                    )
                yield message

    def _look_whether_gone(self) -> None:
        import zmq

        while self._monitor is not None and self._monitor.poll(0):
            if self._next_monitor_event() in (zmq.EVENT_DISCONNECTED, zmq.EVENT_CLOSED):
                raise PeerDied("the peer of this host died; run the command again, it resumes")

    def _mind_the_silence(self) -> None:
        now = time.monotonic()
        if now < self._silent_at:
            return
        if self._silences >= SILENCES:
            raise PeerLost(
                f"the peer of this host has said nothing for {SILENCE_SECONDS * (SILENCES + 1):.0f} s; "
                "stop it if it hangs and run the command again, it resumes"
            )
        self._silences += 1
        # From now: who slept itself, as all of a machine may, gives the peer time to answer before it is given up.
        self._silent_at = now + SILENCE_SECONDS
        self._say(Ask())

    def close(self) -> None:
        """Give up what is still open and go."""
        if self._socket is not None:
            for get in list(self._open):
                self.release(get)
        self._disconnect()
        self._context.term()


def _milliseconds(seconds: float) -> int:
    """Rounded up, so that a wait does not end just before its time and spin."""
    return max(0, math.ceil(seconds * 1000))
