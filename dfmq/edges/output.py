"""Putting stored content where the user wants it, as one atomic step. Knows neither tasks nor the store."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from dfmq.errors import NoSpace, SettingsError, StoreError

#: ioctl of Linux, _IOW(0x94, 9, int): make this file share the other one's blocks until either is changed
_FICLONE = 0x40049409
#: One read and write where the kernel cannot copy by itself
_COPY_BYTES = 1 << 20
#: One copy_file_range; small enough that a signal is noticed
_RANGE_BYTES = 64 << 20

_FULL = {errno.ENOSPC, errno.EDQUOT}
#: What the ioctl says where no file can be cloned
_CANNOT_CLONE = {errno.EOPNOTSUPP, errno.ENOTTY, errno.ENOSYS, errno.EXDEV}
#: (device of the store, device of the output) between which that was said: it is not tried for each of many files
_unclonable: set[tuple[int, int]] = set()
#: So often it is looked whether a pipe has got a reader or has room, and whether the waiting is to end
_LOOK_SECONDS = 0.05
#: What copy_file_range says when it is not able to: other file systems, other kinds of file, old kernels
_CANNOT_RANGE = {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF, errno.EPERM, errno.EIO}


def check_target(target: Path) -> None:
    """See, before anything is fetched, that `target` can become a file. Raises SettingsError."""
    try:
        _check(target)
    except ValueError as error:
        raise SettingsError(f"output {str(target)!r}: {error}; give another name with -o") from error
    except OSError as error:
        reason = "the name is too long" if error.errno == errno.ENAMETOOLONG else error.strerror
        raise SettingsError(f"output {target}: {reason}; give another name with -o") from error


def _check(target: Path) -> None:
    kind = _kind(target)
    if kind == "folder":
        raise SettingsError(f"output {target} is a directory: give -o a file name, as {target / 'NAME'}")
    if kind == "stream":
        if not os.access(target, os.W_OK):
            raise SettingsError(f"output {target} cannot be written by this user: give another one with -o")
        return
    if kind == "socket":
        raise SettingsError(f"output {target} is a socket, which takes no file's octets: give another one with -o")
    if kind == "other":
        raise SettingsError(f"output {target} is neither a file nor a stream: give another one with -o")
    folder = _final(target).parent
    if not folder.exists():
        raise SettingsError(f"output {target}: there is no directory {folder}; make it first: mkdir -p '{folder}'")
    if not folder.is_dir():
        raise SettingsError(f"output {target}: {folder} is not a directory; give another name with -o")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise SettingsError(f"output {target}: this user may not write to {folder}; give another name with -o")
    if len(os.fsencode(_final(target).name)) > os.pathconf(folder, "PC_NAME_MAX"):
        raise OSError(errno.ENAMETOOLONG, "")


def _kind(target: Path) -> str:
    """file (or nothing yet), folder, stream (/dev/null, a pipe, a terminal), socket, other."""
    try:
        mode = target.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return "file"
    if stat.S_ISREG(mode):
        return "file"
    if stat.S_ISDIR(mode):
        return "folder"
    if stat.S_ISSOCK(mode):
        return "socket"
    return "stream" if stat.S_ISCHR(mode) or stat.S_ISFIFO(mode) else "other"


def _kind_or_none(target: Path) -> str | None:
    try:
        return _kind(target)
    except (OSError, ValueError):
        return None


def _final(target: Path) -> Path:
    """Where the output goes in the end: a symbolic link is followed, not replaced. Links to its folder may stay."""
    return Path(os.path.realpath(target)) if os.path.islink(target) else target


def look(path: Path) -> tuple[int, int]:
    """(inode, ctime in nanoseconds) of a file; zeros when it cannot be seen."""
    try:
        status = path.stat()
    except OSError:
        return 0, 0
    return status.st_ino, status.st_ctime_ns


def is_stream(target: Path) -> bool:
    """It is a pipe or a device, which `pour` writes into, and may wait for."""
    return _kind_or_none(target) == "stream"


def place(stored: Path, target: Path, *, copy_only: bool = False) -> str:
    """Make `target` the stored content, and say how: "reflink", "hardlink" or "copy".

    Until the last, atomic step an earlier file there stays as it is; whatever ends this early leaves nothing behind.
    `copy_only`: the output never is the store's own file. A stream is poured into.
    Raises SettingsError for a target that cannot be one, NoSpace, StoreError.
    """
    kind = _kind_or_none(target)
    if kind == "stream":
        return pour(stored, target, lambda: float("inf"))
    if kind != "file":
        check_target(target)
    with _naming_errors(stored, target):
        return _place_file(stored, _final(target), copy_only)


def pour(stored: Path, target: Path, left: Callable[[], float]) -> str:
    """Write the stored content into a stream (a pipe, /dev/null, a terminal), which stays what it is. A pipe without a
    reader is waited for, as is a reader that takes its time.

    `left` is asked now and then: the seconds that may be waited yet. It raises what ends this early.
    Raises SettingsError, NoSpace, StoreError.
    """
    check_target(target)
    with _naming_errors(stored, target):
        _copy_to_stream(stored, target, left)
    return "stream"


def pour_on(stored: Path, descriptor: int, left: Callable[[], float]) -> str:
    """Write the stored content to where standard output leads, which is this descriptor. A reader that takes its time
    is waited for as by `pour`.

    Raises NoSpace, StoreError; BrokenPipeError when nobody reads it any more.
    """
    with _naming_errors(stored), _opened(stored, os.O_RDONLY) as source, _unwaiting(descriptor) as (stream, most):
        _pump_patiently(source, stream, most, left)
    return "stream"


@contextlib.contextmanager
def _naming_errors(stored: Path, target: Path | None = None) -> Iterator[None]:
    """What the system says no with, as a failure of ours with a name. `target` None: standard output."""
    name = "standard output" if target is None else f"output {target}"
    if not stored.is_file():
        raise StoreError(f"{name}: the store's file {stored} is gone; ask for the content again")
    try:
        yield
    except BrokenPipeError as error:
        if target is None:
            raise
        raise StoreError(
            f"{name}: its reader has gone before the end; the content is in the store: ask for it again"
        ) from error
    except OSError as error:
        if error.errno in _FULL:
            raise NoSpace(
                f"{name}: no space for its {stored.stat().st_size} octets; free some there, or give another "
                "place with -o. The content is in the store and need not be fetched again"
            ) from error
        # A file that was well when it was asked for mostly is; what is wrong with it is looked for when it is not.
        if target is not None:
            check_target(target)
        raise StoreError(
            f"{name} could not be made ({error.strerror}); the content is in the store: give another place "
            "with -o, and it need not be fetched again"
        ) from error


def _place_file(stored: Path, target: Path, copy_only: bool) -> str:
    with _temporary(target.parent) as temporary:
        kind = _fill(stored, temporary, copy_only)
        os.replace(temporary, target)
    return kind


@contextlib.contextmanager
def _temporary(folder: Path) -> Iterator[Path]:
    """A name in the folder that is free, and is free again afterwards. Not made of the target's name: that may already
    be as long as names get."""
    temporary = folder / f".dfmq-{os.urandom(8).hex()}"
    try:
        yield temporary
    finally:
        # Also after success: replacing one name of a file by another name of it does nothing, and leaves both.
        temporary.unlink(missing_ok=True)


def _fill(stored: Path, temporary: Path, copy_only: bool) -> str:
    """Make `temporary` the stored content."""
    with _opened(stored, os.O_RDONLY) as source:
        devices = os.fstat(source).st_dev, os.stat(temporary.parent).st_dev
        if devices not in _unclonable:
            with _opened(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL) as copy:
                if _clone(source, copy, devices):
                    return "reflink"
            temporary.unlink()
        if not copy_only and _link(stored, temporary):
            return "hardlink"
        with _opened(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL) as copy:
            _copy(source, copy)
            return "copy"


@contextlib.contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    # The mode of a new file is what the user's umask gives.
    fd = os.open(path, flags | os.O_CLOEXEC, 0o666)
    try:
        yield fd
    finally:
        os.close(fd)


def _clone(source: int, copy: int, devices: tuple[int, int]) -> bool:
    """Share the blocks; False where the file system cannot, whatever it says."""
    try:
        fcntl.ioctl(copy, _FICLONE, source)
    except OSError as error:
        if error.errno in _CANNOT_CLONE:
            _unclonable.add(devices)
        return False
    return True


def _link(stored: Path, temporary: Path) -> bool:
    """Give the stored file another name; False where that cannot be (another file system, too many names, a file of
    somebody else): then it is copied."""
    try:
        os.link(stored, temporary)
    except OSError:
        return False
    return True


def _copy(source: int, copy: int) -> None:
    """Copy all of it. Raises OSError."""
    offset, size = 0, os.fstat(source).st_size
    while offset < size:
        try:
            done = os.copy_file_range(source, copy, min(_RANGE_BYTES, size - offset), offset, offset)
        except OSError as error:
            if error.errno not in _CANNOT_RANGE:
                raise
            done = 0
        if done == 0:
            break
        offset += done
    os.lseek(copy, offset, os.SEEK_SET)
    _pump(source, copy, offset)


def _copy_to_stream(stored: Path, target: Path, left: Callable[[], float]) -> None:
    with _opened(stored, os.O_RDONLY) as source, _stream(target, left) as stream:
        _pump_patiently(source, stream, _COPY_BYTES, left)


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
def _stream(target: Path, left: Callable[[], float]) -> Iterator[int]:
    """A stream, open for writing without waiting; a pipe as soon as somebody reads it."""
    while True:
        seconds = min(left(), _LOOK_SECONDS)
        try:
            # Blocking, it could not be ended where another thread than the main one waits.
            stream = os.open(target, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
            break
        except OSError as error:
            if error.errno != errno.ENXIO or not target.is_fifo():
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


def _pump(source: int, sink: int, offset: int) -> None:
    """Read and write from `offset` to the end."""
    room = memoryview(bytearray(_COPY_BYTES))
    while got := os.preadv(source, [room], offset):
        offset += got
        rest = room[:got]
        while rest:
            rest = rest[os.write(sink, rest) :]
