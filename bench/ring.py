"""What the links alone cost: every host sends the content, which it has from the start, to the next host, and receives
it from the one before, with plain sockets. No swarm can take less time or CPU on the same links. Distributes nothing.

    python -m bench.ring CONTENT OUTPUT LISTEN FROM     (both HOST:PORT)
"""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
import time

#: octets taken from a socket at once
BUFFER = 1 << 16
START_SECONDS = 30.0


def place(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)


def serve(listener: socket.socket, content: str) -> None:
    """Send the content to the first that comes."""
    with listener, listener.accept()[0] as child, open(content, "rb") as file:
        child.sendfile(file)


def connected(address: tuple[str, int]) -> socket.socket:
    """The one before may not listen yet."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        with contextlib.suppress(ConnectionRefusedError):
            return socket.create_connection(address, START_SECONDS)
        if time.monotonic() > deadline:
            raise SystemExit(f"nobody listens at {address}")
        time.sleep(0.01)


def main() -> None:
    content, output, listen, before = sys.argv[1:]
    listener = socket.create_server(place(listen))
    serving = threading.Thread(target=serve, args=(listener, content))
    serving.start()
    with connected(place(before)) as parent, open(output, "wb") as file:
        parent.settimeout(START_SECONDS)
        buffer = memoryview(bytearray(BUFFER))
        while size := parent.recv_into(buffer):
            file.write(buffer[:size])
    serving.join()


if __name__ == "__main__":
    main()
