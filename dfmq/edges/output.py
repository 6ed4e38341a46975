"""Putting stored content where the user wants it, as one atomic step. Knows neither tasks nor the store. What is a pipe
or a device is written into by streams."""

from __future__ import annotations

import errno
import fcntl
import os

from dfmq.edges.targets import NamingErrors, Opened, check_target, final, kind_or_none
from dfmq.edges.unfinished import Unfinished, name_in, sweep

#: typing's own takes 3 CPU-ms to load
TYPE_CHECKING = False
if TYPE_CHECKING:
    from dfmq.edges.targets import Name

#: ioctl of Linux, _IOW(0x94, 9, int): make this file share the other one's blocks until either is changed
_FICLONE = 0x40049409
#: One read and write where the kernel cannot copy by itself
_COPY_BYTES = 1 << 20
#: One copy_file_range; small enough that a signal is noticed
_RANGE_BYTES = 64 << 20

#: What the ioctl says where no file can be cloned
_CANNOT_CLONE = {errno.EOPNOTSUPP, errno.ENOTTY, errno.ENOSYS, errno.EXDEV}
#: (device of the store, device of the output) between which that was said: it is not tried for each of many files
_unclonable: set[tuple[int, int]] = set()
#: What copy_file_range says when it is not able to: other file systems, other kinds of file, old kernels
_CANNOT_RANGE = {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF, errno.EPERM, errno.EIO}


def place(stored: Name, target: Name, *, copy_only: bool = False) -> str:
    """Make `target` the stored content, and say how: "reflink", "hardlink" or "copy".

    Until the last, atomic step an earlier file there stays as it is; whatever ends this early leaves nothing behind,
    and what a kill leaves the next copy into that folder takes away.
    `copy_only`: the output never is the store's own file. A stream is poured into.
    Raises SettingsError for a target that cannot be one, NoSpace, StoreError.
    """
    kind = kind_or_none(target)
    if kind == "stream":
        from dfmq.edges.streams import pour

        return pour(stored, target, lambda: float("inf"))
    if kind != "file":
        check_target(target)
    with NamingErrors(stored, target):
        return _place_file(stored, final(target), copy_only)


def _place_file(stored: Name, target: str, copy_only: bool) -> str:
    temporary = name_in(os.path.dirname(target))
    try:
        return _fill(stored, temporary, target, copy_only)
    finally:
        # Also after success: replacing one name of a file by another name of it does nothing, and leaves both.
        _discard(temporary)


def _discard(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return


def _fill(stored: Name, temporary: str, target: str, copy_only: bool) -> str:
    """Make `temporary` the stored content, and `target` that, before the temporary one's lock is given up."""
    with Opened(stored, os.O_RDONLY) as source:
        devices = os.fstat(source).st_dev, os.stat(os.path.dirname(temporary) or ".").st_dev
        if devices not in _unclonable:
            with Unfinished(temporary) as copy:
                if _clone(source, copy, devices):
                    os.replace(temporary, target)
                    return "reflink"
            _discard(temporary)
        if not copy_only and _has_our_mode(source) and _link(stored, temporary):
            os.replace(temporary, target)
            return "hardlink"
        sweep(os.path.dirname(target))
        with Unfinished(temporary) as copy:
            _copy(source, copy)
            os.replace(temporary, target)
            return "copy"


def _clone(source: int, copy: int, devices: tuple[int, int]) -> bool:
    """Share the blocks; False where the file system cannot, whatever it says."""
    try:
        fcntl.ioctl(copy, _FICLONE, source)
    except OSError as error:
        if error.errno in _CANNOT_CLONE:
            _unclonable.add(devices)
        return False
    return True


def _has_our_mode(source: int) -> bool:
    """The stored file has the mode a file of ours gets. A name given to it shares its mode, which the umask of whoever
    started the peer made."""
    mask = os.umask(0o077)
    os.umask(mask)
    return os.fstat(source).st_mode & 0o777 == 0o666 & ~mask


def _link(stored: Name, temporary: str) -> bool:
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


def _pump(source: int, sink: int, offset: int) -> None:
    """Read and write from `offset` to the end."""
    room = memoryview(bytearray(_COPY_BYTES))
    while got := os.preadv(source, [room], offset):
        offset += got
        rest = room[:got]
        while rest:
            rest = rest[os.write(sink, rest) :]
