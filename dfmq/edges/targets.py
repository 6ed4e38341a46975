"""Where an output is wanted: what stands under that name, whether it can be one, and what is wrong, in words. Brings
nothing there. As output, it loads neither pathlib nor contextlib: they take a short command a third of its time."""

from __future__ import annotations

import errno
import os
import stat

from dfmq.errors import NoSpace, SettingsError, StoreError

#: typing's own takes 3 CPU-ms to load
TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

    Name = str | os.PathLike[str]

_FULL = {errno.ENOSPC, errno.EDQUOT}


def check_target(target: Name) -> None:
    """See, before anything is fetched, that `target` can become a file. Raises SettingsError."""
    try:
        _check(target)
    except ValueError as error:
        raise SettingsError(f"output {str(target)!r}: {error}; give another name with -o") from error
    except OSError as error:
        reason = "the name is too long" if error.errno == errno.ENAMETOOLONG else error.strerror
        raise SettingsError(f"output {target}: {reason}; give another name with -o") from error


def _check(target: Name) -> None:
    kind = _kind(target)
    if kind == "folder":
        inside = os.path.join(target, "NAME")
        raise SettingsError(f"output {target} is a directory: give -o a file name, as {inside}")
    if kind == "stream":
        if not os.access(target, os.W_OK):
            raise SettingsError(f"output {target} cannot be written by this user: give another one with -o")
        return
    if kind == "socket":
        raise SettingsError(f"output {target} is a socket, which takes no file's octets: give another one with -o")
    if kind == "other":
        raise SettingsError(f"output {target} is neither a file nor a stream: give another one with -o")
    folder, name = os.path.split(final(target))
    folder = folder or "."
    if not os.path.exists(folder):
        raise SettingsError(f"output {target}: there is no directory {folder}; make it first: mkdir -p '{folder}'")
    if not os.path.isdir(folder):
        raise SettingsError(f"output {target}: {folder} is not a directory; give another name with -o")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise SettingsError(f"output {target}: this user may not write to {folder}; give another name with -o")
    if len(os.fsencode(name)) > os.pathconf(folder, "PC_NAME_MAX"):
        raise OSError(errno.ENAMETOOLONG, "")


def _kind(target: Name) -> str:
    """file (or nothing yet), folder, stream (/dev/null, a pipe, a terminal), socket, other."""
    try:
        mode = os.stat(target).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return "file"
    if stat.S_ISREG(mode):
        return "file"
    if stat.S_ISDIR(mode):
        return "folder"
    if stat.S_ISSOCK(mode):
        return "socket"
    return "stream" if stat.S_ISCHR(mode) or stat.S_ISFIFO(mode) else "other"


def kind_or_none(target: Name) -> str | None:
    """file (or nothing yet), folder, stream (/dev/null, a pipe, a terminal), socket, other; None: it cannot be seen."""
    try:
        return _kind(target)
    except (OSError, ValueError):
        return None


def final(target: Name) -> str:
    """Where the output goes in the end: a symbolic link is followed, not replaced. Links to its folder may stay."""
    return os.path.realpath(target) if os.path.islink(target) else os.fspath(target)


def look(path: Name) -> tuple[int, int]:
    """(inode, ctime in nanoseconds) of a file; zeros when it cannot be seen."""
    try:
        status = os.stat(path)
    except OSError:
        return 0, 0
    return status.st_ino, status.st_ctime_ns


def is_stream(target: Name) -> bool:
    """It is a pipe or a device, which is written into, and may have to be waited for."""
    return kind_or_none(target) == "stream"


class NamingErrors:
    """Inside: what the system says no with is a failure of ours with a name. StoreError where `stored` is gone."""

    def __init__(self, stored: Name, target: Name | None = None) -> None:
        """`target` None: standard output."""
        self._stored = stored
        self._target = target
        self._name = "standard output" if target is None else f"output {target}"

    def __enter__(self) -> None:
        if not os.path.isfile(self._stored):
            raise StoreError(f"{self._name}: the store's file {self._stored} is gone; ask for the content again")

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None) -> None:
        if isinstance(error, BrokenPipeError):
            if self._target is not None:
                raise StoreError(
                    f"{self._name}: its reader has gone before the end; the content is in the store: ask for it again"
                ) from error
        elif isinstance(error, OSError):
            self._name_error(error)

    def _name_error(self, error: OSError) -> None:
        if error.errno in _FULL:
            raise NoSpace(
                f"{self._name}: no space for its {os.stat(self._stored).st_size} octets; free some there, or give "
                "another place with -o. The content is in the store and need not be fetched again"
            ) from error
        # A file that was well when it was asked for mostly is; what is wrong with it is looked for when it is not.
        if self._target is not None:
            check_target(self._target)
        raise StoreError(
            f"{self._name} could not be made ({error.strerror}); the content is in the store: give another place "
            "with -o, and it need not be fetched again"
        ) from error


class Opened:
    """A file's descriptor, closed in the end."""

    def __init__(self, path: Name, flags: int) -> None:
        # The mode of a new file is what the user's umask gives.
        self._fd = os.open(path, flags | os.O_CLOEXEC, 0o666)

    def __enter__(self) -> int:
        return self._fd

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)
