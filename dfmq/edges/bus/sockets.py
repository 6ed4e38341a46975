"""Making ZeroMQ sockets with the options each role needs. Draining them is in loop, pooling in links."""

from __future__ import annotations

import ctypes
import re
import resource
import sys


def _keep_freed_memory() -> None:
    """Let glibc reuse receive buffers instead of giving them back to the kernel chunk by chunk: page faults are the
    largest tunable cost of receiving (measured 0.96 → 0.67 CPU-s/GiB). Must run before libzmq allocates."""
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    trim_threshold, top_pad, mmap_threshold = -1, -2, -3
    mallopt(mmap_threshold, 32 << 20)
    mallopt(trim_threshold, 512 << 20)
    mallopt(top_pad, 16 << 20)


_keep_freed_memory()

import zmq  # noqa: E402  # after mallopt

from dfmq.errors import SettingsError  # noqa: E402

#: One context serves thousands of peers; libzmq's default of 1023 sockets does not.
MOST_SOCKETS = 60_000
#: Control messages queued for a peer that does not read; beyond it counts as gone.
CONTROL_HWM = 20_000
#: Messages taken in from one connection before they are read; beyond, TCP makes the other side wait.
INCOMING_HWM = 1_000
#: Chunks queued for one child. Credit in bytes is the real bound; this only has to be above it.
CHUNK_HWM = 4_000
#: The longest chunk, 16 MiB, and the longest body with some room: what is beyond is a stranger's, and cuts him off.
MOST_CHUNK_BYTES, MOST_FRAME_BYTES = 1 << 24, 1 << 17
#: A topic has 26 octets at most, and what greets at the beginning of a connection less than this. Longer subscriptions
#: would be kept, at fifty times their length, and looked through whenever a subscriber goes.
MOST_TOPIC_BYTES = 256
#: Milliseconds in which the other side's kernel acknowledges nothing of what was sent, until a connection between two
#: peers is made anew, and of each try to. TCP itself tries again after twice the time, each time: a link that is back
#: after 13 s stood still for another 9 (decision 23). Of the chunks that are lost so the child has long despaired.
DEAD_WAY_MILLISECONDS = 5000
CONNECT_MILLISECONDS = 2000
#: Seconds of silence after which, and so often, whoever listens asks whether the other end of a connection is still
#: there: who made it anew has left the old one, and never says so.
KEEPALIVE_SECONDS = 30


#: Where another node may say it is reached. Never ipc or inproc: what is there is this host's own.
_ELSEWHERE = re.compile(r"tcp://[^\s/]+:\d{1,5}\Z")
_MAPPED = re.compile(r"\[::ffff:(\d+\.\d+\.\d+\.\d+)\]")


#: plain numbers: an enum's arithmetic takes longer than the call it is for
_NOBLOCK, _MORE = int(zmq.NOBLOCK), int(zmq.NOBLOCK | zmq.SNDMORE)
#: libzmq's own: what pyzmq puts around it is for sockets of other kinds
_send = zmq.backend.Socket.send


def send(socket: zmq.Socket[bytes], *frames: bytes) -> None:
    """Queue one message, or raise zmq.ZMQError. As send_multipart does, in a quarter of its time."""
    last = len(frames) - 1
    for number, frame in enumerate(frames):
        _send(socket, frame, _NOBLOCK if number == last else _MORE)


def new_context() -> zmq.Context[zmq.Socket[bytes]]:
    """A context of its own for a node; raises the process's soft limit of open files to the hard one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context(io_threads=1)
    context.set(zmq.MAX_SOCKETS, MOST_SOCKETS)
    context.set(zmq.BLOCKY, False)
    return context


def _plain(context: zmq.Context[zmq.Socket[bytes]], kind: int) -> zmq.Socket[bytes]:
    try:
        socket = context.socket(kind)
    except zmq.ZMQError as error:
        raise SettingsError(
            f"no socket can be made: {error.strerror or error}; let this process have more open files (ulimit -n)"
        ) from error
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.IPV6, 1)
    return socket


def router(context: zmq.Context[zmq.Socket[bytes]]) -> zmq.Socket[bytes]:
    """Control, exchange or local server. MANDATORY: an unroutable message is an error, not silence. HANDOVER: a peer
    that reconnects under its id takes over from its own dead connection."""
    socket = _plain(context, zmq.ROUTER)
    socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
    socket.setsockopt(zmq.ROUTER_HANDOVER, 1)
    socket.setsockopt(zmq.SNDHWM, CONTROL_HWM)
    socket.setsockopt(zmq.RCVHWM, INCOMING_HWM)
    socket.setsockopt(zmq.MAXMSGSIZE, MOST_FRAME_BYTES)
    _notice_left_ends(socket)
    return socket


def dealer(context: zmq.Context[zmq.Socket[bytes]], routing_id: bytes) -> zmq.Socket[bytes]:
    """The client's side of a router."""
    socket = _plain(context, zmq.DEALER)
    socket.setsockopt(zmq.ROUTING_ID, routing_id)
    socket.setsockopt(zmq.SNDHWM, CONTROL_HWM)
    socket.setsockopt(zmq.RCVHWM, CONTROL_HWM)
    socket.setsockopt(zmq.RECONNECT_IVL, 100)
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, 2000)
    socket.setsockopt(zmq.MAXMSGSIZE, 1 << 20)
    return socket


def asking(context: zmq.Context[zmq.Socket[bytes]], routing_id: bytes) -> zmq.Socket[bytes]:
    """The child's side of a parent's router. Not for a broker: there nothing may be lost while the session goes on."""
    socket = dealer(context, routing_id)
    _leave_dead_ways(socket)
    return socket


def _leave_dead_ways(socket: zmq.Socket[bytes]) -> None:
    socket.setsockopt(zmq.TCP_MAXRT, DEAD_WAY_MILLISECONDS)
    socket.setsockopt(zmq.CONNECT_TIMEOUT, CONNECT_MILLISECONDS)


def _notice_left_ends(socket: zmq.Socket[bytes]) -> None:
    socket.setsockopt(zmq.TCP_KEEPALIVE, 1)
    socket.setsockopt(zmq.TCP_KEEPALIVE_IDLE, KEEPALIVE_SECONDS)
    socket.setsockopt(zmq.TCP_KEEPALIVE_INTVL, KEEPALIVE_SECONDS)
    socket.setsockopt(zmq.TCP_KEEPALIVE_CNT, 3)


def publisher(context: zmq.Context[zmq.Socket[bytes]]) -> zmq.Socket[bytes]:
    """Notices go out here; whoever is slow loses some."""
    socket = _plain(context, zmq.PUB)
    socket.setsockopt(zmq.MAXMSGSIZE, MOST_TOPIC_BYTES)
    return socket


def heeding_publisher(context: zmq.Context[zmq.Socket[bytes]]) -> zmq.Socket[bytes]:
    """Hints go out here; each subscription comes in, also where somebody else has the same one: a byte 1 and the
    topic. Whatever else comes in is a stranger's."""
    socket = _plain(context, zmq.XPUB)
    socket.setsockopt(zmq.XPUB_VERBOSE, 1)
    socket.setsockopt(zmq.MAXMSGSIZE, MOST_TOPIC_BYTES)
    return socket


def subscriber(context: zmq.Context[zmq.Socket[bytes]]) -> zmq.Socket[bytes]:
    """Notices and hints are heard here."""
    socket = _plain(context, zmq.SUB)
    socket.setsockopt(zmq.MAXMSGSIZE, 1 << 17)
    return socket


def inbox(context: zmq.Context[zmq.Socket[bytes]]) -> zmq.Socket[bytes]:
    """PULL: chunks from every parent."""
    socket = _plain(context, zmq.PULL)
    socket.setsockopt(zmq.RCVHWM, INCOMING_HWM)
    socket.setsockopt(zmq.MAXMSGSIZE, MOST_CHUNK_BYTES)
    _notice_left_ends(socket)
    return socket


def pipeline(context: zmq.Context[zmq.Socket[bytes]]) -> zmq.Socket[bytes]:
    """PUSH: chunks to one child's inbox."""
    socket = _plain(context, zmq.PUSH)
    socket.setsockopt(zmq.SNDHWM, CHUNK_HWM)
    socket.setsockopt(zmq.RECONNECT_IVL, 100)
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, 2000)
    _leave_dead_ways(socket)
    return socket


def bind(socket: zmq.Socket[bytes], endpoint: str) -> str:
    """Bind and say the endpoint that came of it (port 0 is any). SettingsError says why not."""
    try:
        socket.bind(endpoint)
    except zmq.ZMQError as error:
        raise SettingsError(
            f"cannot listen at {endpoint}: {error.strerror or error}; choose another address or stop what uses it"
        ) from error
    bound = socket.getsockopt_string(zmq.LAST_ENDPOINT).rstrip("\0")
    # A socket that speaks IPv6 too shows an IPv4 address as a mapped one; people and older peers know the plain form.
    return _MAPPED.sub(r"\1", bound)


def connect(socket: zmq.Socket[bytes], endpoint: str) -> None:
    """Connect, in the background. SettingsError when the endpoint has no usable form."""
    try:
        socket.connect(endpoint)
    except zmq.ZMQError as error:
        raise SettingsError(
            f"{endpoint!r} is no usable address ({error.strerror or error}): write tcp://HOST:PORT"
        ) from error


def reach(socket: zmq.Socket[bytes], endpoint: str) -> None:
    """Connect to where another node says it is. SettingsError when that is no place elsewhere."""
    if not _ELSEWHERE.match(endpoint):
        raise SettingsError(f"{endpoint!r} is no address of another node: those are tcp://HOST:PORT")
    connect(socket, endpoint)
