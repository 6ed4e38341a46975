"""A DEALER's end of one ZMTP 3 connection over a Unix socket, without libzmq: one thread, no reconnecting, no queue.
For a command so short that loading libzmq would be a fifth of its work; whatever lives longer uses sockets and loop.

Wire format: https://rfc.zeromq.org/spec/23/ (ZMTP 3.0, NULL mechanism), which every libzmq since 4.0 speaks.
"""

from __future__ import annotations

import select
import socket
import time

from dfmq.errors import ProtocolError

#: typing's own takes 3 CPU-ms to load
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

#: signature, version 3.0, mechanism NULL, not a server, filler
GREETING = b"\xff\0\0\0\0\0\0\0\1\x7f" + b"\3\0" + b"NULL".ljust(20, b"\0") + b"\0" + bytes(31)
READY = b"\x05READY" + b"\x0bSocket-Type" + b"\0\0\0\x06DEALER"

_MORE, _LONG, _COMMAND = 1, 2, 4
#: No message to a client is as long (wire/envelope); whoever says so speaks something else.
MOST_FRAME_BYTES = 1 << 20
MOST_FRAMES = 1024


class Silence(Exception):
    """Nothing came in time. The connection is as it was."""


class Gone(ConnectionError):
    """The other end of the connection is. Told apart from other OSErrors: a command's standard output may break too."""


class Dealer:
    """One connection. Law: a message is heard whole or not at all, in the order in which they were said."""

    def __init__(self, path: str, patience: float) -> None:
        """Connects and shakes hands, in at most `patience` seconds each. Raises OSError when nobody listens at `path`,
        Gone, Silence, ProtocolError when it speaks something else."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._heard = bytearray()
        self._frames: list[bytes] = []
        try:
            self._socket.settimeout(patience)
            try:
                self._socket.connect(path)
            except TimeoutError as error:
                raise Silence from error
            self._poll = select.poll()
            self._poll.register(self._socket, select.POLLIN)
            self._shake_hands(time.monotonic() + patience)
        except BaseException:
            self._socket.close()
            raise

    def _shake_hands(self, deadline: float) -> None:
        self._write(GREETING)
        while len(self._heard) < len(GREETING):
            self._read(deadline)
        theirs = bytes(self._heard[: len(GREETING)])
        del self._heard[: len(GREETING)]
        if theirs[0] != 0xFF or not theirs[9] & 1 or theirs[10] < 3 or theirs[12:32].rstrip(b"\0") != b"NULL":
            raise ProtocolError("this is no ZeroMQ socket, or one that wants keys")
        self._write(_frame(READY, _COMMAND))
        while (found := self._next_frame()) is None:
            self._read(deadline)
        flags, body = found
        if not flags & _COMMAND or not body.startswith(b"\x05READY"):
            raise ProtocolError("the ZeroMQ handshake was refused")

    def say(self, frames: Sequence[bytes]) -> None:
        """Say a message. Raises Gone, and Silence when the other end takes nothing for as long as a handshake may."""
        last = len(frames) - 1
        self._write(b"".join(_frame(frame, _MORE if at < last else 0) for at, frame in enumerate(frames)))

    def hear(self, seconds: float) -> list[bytes]:
        """The next message's frames. Raises Silence after `seconds`, Gone, ProtocolError."""
        deadline = time.monotonic() + seconds
        while True:
            while (found := self._next_frame()) is not None:
                flags, body = found
                if flags & _COMMAND:
                    # Heartbeats are only said to those who offer version 3.1.
                    continue
                self._frames.append(body)
                if len(self._frames) > MOST_FRAMES:
                    raise ProtocolError(f"a message of more than {MOST_FRAMES} frames")
                if not flags & _MORE:
                    message, self._frames = self._frames, []
                    return message
            self._read(deadline)

    def _next_frame(self) -> tuple[int, bytes] | None:
        """(flags, body) of a frame that is here whole."""
        heard = self._heard
        if len(heard) < 2:
            return None
        flags = heard[0]
        if flags & ~(_MORE | _LONG | _COMMAND):
            raise ProtocolError(f"a ZeroMQ frame with flags {flags}")
        begin = 9 if flags & _LONG else 2
        if len(heard) < begin:
            return None
        end = begin + int.from_bytes(heard[1:begin])
        if end - begin > MOST_FRAME_BYTES:
            raise ProtocolError(f"a frame of {end - begin} octets")
        if len(heard) < end:
            return None
        body = bytes(heard[begin:end])
        del heard[:end]
        return flags, body

    def _read(self, deadline: float) -> None:
        left = deadline - time.monotonic()
        if not self._poll.poll(max(0.0, left * 1000)):
            raise Silence
        try:
            data = self._socket.recv(1 << 16)
        except OSError as error:
            raise Gone from error
        if not data:
            raise Gone
        self._heard += data

    def _write(self, data: bytes) -> None:
        try:
            self._socket.sendall(data)
        except TimeoutError as error:
            raise Silence from error
        except OSError as error:
            raise Gone from error

    def close(self) -> None:
        """What was said is still delivered."""
        self._socket.close()


def _frame(body: bytes, flags: int) -> bytes:
    if len(body) < 256:
        return bytes((flags, len(body))) + body
    return bytes((flags | _LONG,)) + len(body).to_bytes(8) + body
