"""One process a home: the lock that keeps a second one out. What is in the home is not looked at here."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from pathlib import Path

from dfmq.errors import NoSpace, SettingsError

#: Nobody but the owner: the home holds keys, contents and the local socket.
HOME_MODE = 0o700
#: the file in the home that is locked; who has it has noted its process id there
NAME = "lock"


class HomeLock:
    """The lock on a home directory. It ends with the process, however that ends: nothing stale is left to clean up."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._fd = -1

    def acquire(self) -> None:
        """Make the home if need be and lock it. Raises SettingsError that names the process which has it, or says why
        the home cannot be used; NoSpace."""
        path = self._home / NAME
        try:
            self._make_home()
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise unusable(self._home, error) from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = os.pread(fd, 32, 0).decode(errors="replace").strip()
            os.close(fd)
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise unusable(self._home, error) from error
            raise SettingsError(
                f"home {self._home} is in use by process {owner or '(unknown)'}: "
                "stop that process, or give this one a home of its own with --home"
            ) from error
        os.ftruncate(fd, 0)
        # On a full disk nobody reads who has it; what is stored can be served all the same.
        with contextlib.suppress(OSError):
            os.pwrite(fd, b"%d\n" % os.getpid(), 0)
        self._fd = fd

    def _make_home(self) -> None:
        # A directory that is there already keeps its mode: somebody's `--home /tmp` must not close /tmp to all others.
        if not self._home.is_dir():
            self._home.parent.mkdir(parents=True, exist_ok=True)
            self._home.mkdir(mode=HOME_MODE, exist_ok=True)

    def release(self) -> None:
        """Let others have the home. Twice does no harm."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def has_owner(home: Path) -> bool:
    """Whether the process that noted itself in the home's lock lives."""
    try:
        os.kill(int((home / NAME).read_text()), 0)
    except (OSError, ValueError):
        return False
    return True


def unusable(home: Path, error: OSError) -> SettingsError | NoSpace:
    """What the user reads when the home cannot be made or written to."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpace(f"home {home}: {error.strerror}: free some space there, or give another place with --home")
    return SettingsError(
        f"home {home} cannot be used ({error.strerror}): "
        "give a directory this user may write to with --home, or change its permissions"
    )
