"""Files that are being made beside the output they will be, and those that a killed process left there. What goes into
them is output's."""

from __future__ import annotations

import fcntl
import os
import time

from dfmq.edges.targets import Opened

_PREFIX, _HEX_DIGITS = ".dfmq-", 16
#: Where folders are shared between hosts, locks need not be. What was written to within the hour is somebody's.
_LEFT_SECONDS = 3600.0
#: folders in which this process has looked already: a list of thousands of files mostly goes into one
_swept: set[str] = set()


def name_in(folder: str) -> str:
    """A name that is free, and is free again afterwards. Not made of the output's name: that may already be as long as
    names get."""
    return os.path.join(folder, _PREFIX + os.urandom(_HEX_DIGITS // 2).hex())


def _is_ours(name: str) -> bool:
    return name.startswith(_PREFIX) and len(name) == len(_PREFIX) + _HEX_DIGITS


class Unfinished(Opened):
    """A new file, locked as long as it is open: so others see that somebody is at it. Law: whoever deletes one holds
    its lock, and whoever makes one begins anew if it was deleted before the lock was had."""

    def __init__(self, path: str) -> None:
        while True:
            super().__init__(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
            if _lock(self._fd, fcntl.LOCK_EX) is None or _is_at(self._fd, path):
                return
            os.close(self._fd)


def sweep(folder: str) -> None:
    """Delete what processes left there that were killed while they wrote. Whatever is locked or young, has other names
    or cannot be looked at stays."""
    where = os.path.realpath(folder or ".")
    if where in _swept:
        return
    _swept.add(where)
    try:
        with os.scandir(where) as entries:
            left = [entry.path for entry in entries if _is_ours(entry.name)]
    except OSError:
        return
    for path in left:
        try:
            _delete_if_left(path)
        except OSError:
            continue


def _delete_if_left(path: str) -> None:
    # The kind first: to open a device or a pipe may do something.
    if not os.path.isfile(path) or os.path.islink(path):
        return
    with Opened(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK) as left:
        status = os.fstat(left)
        # A second name of the store's file is given and taken within an instant, and without a lock.
        if status.st_nlink > 1 or time.time() - status.st_mtime < _LEFT_SECONDS:
            return
        if _lock(left, fcntl.LOCK_EX | fcntl.LOCK_NB) and _is_at(left, path):
            os.unlink(path)


def _lock(descriptor: int, how: int) -> bool | None:
    """Whether it was had; None: this file system has none."""
    try:
        fcntl.flock(descriptor, how)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _is_at(descriptor: int, path: str) -> bool:
    """This file is still the one of this name."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except OSError:
        return False
