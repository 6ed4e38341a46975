"""A way between two ends that a test can cut: TCP connections to one port are passed on to another."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType


class Relay:
    """Passes on what comes until it is cut; then nothing gets through, and nobody is told."""

    def __init__(self, to: tuple[str, int]) -> None:
        self._to = to
        self._door = socket.create_server(("127.0.0.1", 0))
        self._ends: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._welcome)]
        self._is_cut = threading.Event()

    @property
    def endpoint(self) -> str:
        return f"tcp://127.0.0.1:{self._door.getsockname()[1]}"

    def cut(self) -> None:
        """From now on whatever is said on either side is swallowed."""
        self._is_cut.set()

    def _welcome(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                here, _ = self._door.accept()
                there = socket.create_connection(self._to)
                self._ends += [here, there]
                for source, sink in ((here, there), (there, here)):
                    thread = threading.Thread(target=self._pass_on, args=(source, sink))
                    self._threads.append(thread)
                    thread.start()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while said := source.recv(1 << 16):
                if not self._is_cut.is_set():
                    sink.sendall(said)

    def __enter__(self) -> Relay:
        self._threads[0].start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        for end in (self._door, *self._ends):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for end in (self._door, *self._ends):
            end.close()
