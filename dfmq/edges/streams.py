"""Writing stored content into what is no file: pipes, devices, standard output. They stay what they are, and may have
to be waited for."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import stat
import time
from collections.abc import Callable, Iterator

from dfmq.edges.targets import NamingErrors, Opened, check_target

#: typing's own takes 3 CPU-ms to load
TYPE_CHECKING = False
if TYPE_CHECKING:
    from dfmq.edges.targets import Name

#: One read, and one write to whoever says that there is room
_COPY_BYTES = 1 << 20
#: So often it is looked whether a pipe has got a reader or has room, and whether the waiting is to end
_LOOK_SECONDS = 0.05


def pour(stored: Name, target: Name, left: Callable[[], float]) -> str:
    """Write the stored content into a stream (a pipe, /dev/null, a terminal), which stays what it is. A pipe without a
    reader is waited for, as is a reader that takes its time.

    `left` is asked now and then: the seconds that may be waited yet. It raises what ends this early.
    Raises SettingsError, NoSpace, StoreError.
    """
    check_target(target)
    with NamingErrors(stored, target), Opened(stored, os.O_RDONLY) as source, _stream(target, left) as stream:
        _pump_patiently(source, stream, _COPY_BYTES, left)
    return "stream"


def pour_on(stored: Name, descriptor: int, left: Callable[[], float]) -> str:
    """Write the stored content to where standard output leads, which is this descriptor. A reader that takes its time
    is waited for as by `pour`.

    Raises NoSpace, StoreError; BrokenPipeError when nobody reads it any more.
    """
    with NamingErrors(stored), Opened(stored, os.O_RDONLY) as source, _unwaiting(descriptor) as (stream, most):
        _pump_patiently(source, stream, most, left)
    return "stream"


def _pump_patiently(source: int, stream: int, most: int, left: Callable[[], float]) -> None:
    """All of it, at most so much at once."""
    room = memoryview(bytearray(_COPY_BYTES))
    poller = select.poll()
    poller.register(stream, select.POLLOUT)
    offset = 0
    while got := os.preadv(source, [room], offset):
        offset += got
        rest = room[:got]
        while rest:
            if poller.poll(1000 * min(left(), _LOOK_SECONDS)):
                with contextlib.suppress(BlockingIOError):
                    rest = rest[os.write(stream, rest[:most]) :]


@contextlib.contextmanager
def _stream(target: Name, left: Callable[[], float]) -> Iterator[int]:
    """A stream, open for writing without waiting; a pipe as soon as somebody reads it."""
    while True:
        seconds = min(left(), _LOOK_SECONDS)
        try:
            # Blocking, it could not be ended where another thread than the main one waits.
            stream = os.open(target, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
            break
        except OSError as error:
            if error.errno != errno.ENXIO or not stat.S_ISFIFO(os.stat(target).st_mode):
                raise
            time.sleep(seconds)
    try:
        yield stream
    finally:
        os.close(stream)


@contextlib.contextmanager
def _unwaiting(descriptor: int) -> Iterator[tuple[int, int]]:
    """What is written to instead of it, and how much at once, so that no write waits. Its own flags stay: they are also
    those of other processes that have it."""
    mode = os.fstat(descriptor).st_mode
    stream = -1
    if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
        with contextlib.suppress(OSError):
            flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
            stream = os.open(f"/proc/self/fd/{descriptor}", flags)
    if stream >= 0:
        try:
            yield stream, _COPY_BYTES
        finally:
            os.close(stream)
    else:
        # A file never waits. Of a socket, or somebody else's pipe, poll says whether there is room for a little.
        yield descriptor, _COPY_BYTES if stat.S_ISREG(mode) or stat.S_ISBLK(mode) else select.PIPE_BUF
