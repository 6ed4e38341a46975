"""Room on the store's disk: how much there is, what must go to make some, and allocation. Shelves does the deleting."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from dfmq.errors import NoSpace
from dfmq.model.ids import TaskId
from dfmq.model.settings import StoreSettings

#: The two files of a task, in a folder of its own
DATA = "data"
JOURNAL = "journal"

#: st_blocks counts in these, whatever the file system's own blocks are
_BLOCK = 512
#: what the shortest file takes of most file systems
_DISK_BLOCK = 4096
#: fallocate(2): allocate beyond the end without moving it
_KEEP_SIZE = 1
#: errno of a file system (or libc) that cannot allocate ahead
_CANNOT_ALLOCATE = {errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.ENOTTY}
#: errno that means "no room", whatever ran out: blocks, inodes, the user's share
FULL = {errno.ENOSPC, errno.EDQUOT}

#: Hysteresis: once something must go, so much more goes (a fraction of the floor and of the quota), or every single
#: open near the limit would evict again.
_FLOOR_SLACK = 4
_QUOTA_SLACK = 16
#: and of what could go, where the floor is small or none: every content was looked at to choose
_FREEABLE_SLACK = 64
#: and of a disk that has said no: some of what is deleted may still be open, and is freed later
_FULL_SLACK_BYTES = 64 << 10

_libc = ctypes.CDLL(None, use_errno=True)
# Not os.posix_fallocate: where the file system cannot, glibc writes an octet into every block instead, for minutes.
_fallocate = getattr(_libc, "fallocate", None)
if _fallocate is not None:
    _fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]


class Tenant(NamedTuple):
    """A task on disk, as eviction sees it."""

    task: TaskId
    #: octets of disk its two files and their folder take
    size: int
    #: last use, seconds since the epoch
    used_at: float
    #: the content has a second name outside the store: deleting it frees next to nothing
    is_linked: bool
    #: pinned, or being written
    is_needed: bool


def tenant(task: TaskId, folder: str, is_needed: bool) -> Tenant | None:
    """The task in this folder as eviction sees it; None when there is none."""
    try:
        data, used, around = os.stat(f"{folder}/{DATA}"), os.stat(f"{folder}/{JOURNAL}"), os.stat(folder)
    except FileNotFoundError:
        return None
    size = (data.st_blocks + used.st_blocks + around.st_blocks) * _BLOCK
    return Tenant(task, size, used.st_mtime, data.st_nlink > 1, is_needed)


def allocate(fd: int, length: int) -> bool:
    """Make the file `length` octets long with its blocks reserved, or only as long where the file system cannot (then
    False). Raises OSError, ENOSPC first of all, before one octet is written."""
    if length == 0 or _try_allocate(fd, 0, length):
        return True
    if os.fstat(fd).st_size < length:
        os.ftruncate(fd, length)
    return False


def reserve(fd: int, length: int) -> None:
    """Reserve blocks for a file that will grow to about `length` octets, where the file system can. Raises OSError."""
    _try_allocate(fd, _KEEP_SIZE, length)


def _try_allocate(fd: int, mode: int, length: int) -> bool:
    if _fallocate is None:
        return False
    while _fallocate(fd, mode, 0, length) != 0:
        number = ctypes.get_errno()
        if number in _CANNOT_ALLOCATE:
            return False
        if number != errno.EINTR:
            raise OSError(number, os.strerror(number))
    return True


def in_blocks(length: int) -> int:
    """What a file of this length takes of most disks."""
    return -(-length // _DISK_BLOCK) * _DISK_BLOCK


def allocated(fd: int) -> int:
    """Octets of disk the file takes."""
    return os.fstat(fd).st_blocks * _BLOCK


class Space:
    """The disk under one folder, and the limits the settings put on it."""

    def __init__(self, folder: Path, settings: StoreSettings) -> None:
        self._folder = folder
        self._floor = settings.free_floor_bytes
        self._quota = settings.quota_bytes
        #: at most so much is used, as far as is known without looking at every task; None: look
        self._most_used: int | None = None

    def free(self) -> int:
        """Octets this user may still write to the disk."""
        stat = os.statvfs(self._folder)
        return stat.f_bavail * stat.f_frsize

    def has_room(self, need: int, promised: int) -> bool:
        """Whether `need` more octets surely fit beside the `promised` ones as it is; if so they count as used. False:
        every task must be looked at (`victims`), which takes longer the more there are."""
        if need + promised + self._floor > self.free():
            return False
        if self._quota:
            if self._most_used is None or self._most_used + need + promised > self._quota:
                return False
            self._most_used += in_blocks(need)
        return True

    def victims(self, need: int, promised: int, tenants: Sequence[Tenant], *, is_full: bool = False) -> list[TaskId]:
        """The tasks to delete, least recently used first, so that `need` more octets fit beside the `promised` ones
        (granted to open tasks, not yet allocated). `is_full`: the disk has just said no, whatever it says is free: it
        has no inodes left, or others write to it as well. Raises NoSpace when no eviction would do; then nothing should
        go."""
        free = self.free()
        used = sum(tenant.size for tenant in tenants)
        short = max(need + promised + self._floor - free, need if is_full else 0)
        over = need + promised + used - self._quota if self._quota else 0
        self._most_used = None
        if short <= 0 and over <= 0:
            self._most_used = used + in_blocks(need)
            return []
        candidates = sorted((t for t in tenants if not t.is_needed), key=lambda t: t.used_at)
        freeable = sum(t.size for t in candidates if not t.is_linked)
        if short > freeable:
            cause = self._lack() if is_full else ""
            raise NoSpace(self._no(need, cause) if cause else self._no_room(need, promised, free, freeable))
        if over > sum(t.size for t in candidates):
            raise NoSpace(self._no_quota(need, promised, used))
        slacks = (self._floor // _FLOOR_SLACK, freeable // _FREEABLE_SLACK, _FULL_SLACK_BYTES if is_full else 0)
        return _choose(candidates, short, over, max(slacks), self._quota // _QUOTA_SLACK)

    def _no_room(self, need: int, promised: int, free: int, freeable: int) -> str:
        return (
            f"no space for this content: it needs {size_text(need)}, and {self._folder} has {size_text(free)} free, of "
            f"which {size_text(self._floor)} stay free and {size_text(promised)} are promised to other tasks; "
            f"{size_text(freeable)} of unused contents could go. Free some space there, or use a --home on another disk"
        )

    def _no_quota(self, need: int, promised: int, used: int) -> str:
        return (
            f"no space for this content: it needs {size_text(need)}, and the store in {self._folder} may use "
            f"{size_text(self._quota)}, of which {size_text(used + promised)} are in use. Raise the store's quota, or "
            "wait until other transfers are done"
        )

    def explain(self, error: OSError, need: int) -> str:
        """What the user reads when the disk itself said no."""
        if error.errno == errno.EDQUOT:
            return self._no(need, "this user's disk quota is used up")
        return self._no(need, self._lack() or f"{size_text(self.free())} are free")

    def _lack(self) -> str:
        """What the file system has none left of, besides room; "" nothing."""
        stat = os.statvfs(self._folder)
        return "the file system has no inode left" if stat.f_files and not stat.f_favail else ""

    def _no(self, need: int, cause: str) -> str:
        return (
            f"no space for this content: it needs {size_text(need)}, and in {self._folder} {cause}. "
            "Free some space there, or use a --home on another disk"
        )


def _choose(candidates: list[Tenant], short: int, over: int, floor_slack: int, quota_slack: int) -> list[TaskId]:
    chosen = []
    # Only a limit that is crossed asks for slack.
    short += floor_slack if short > 0 else 0
    over += quota_slack if over > 0 else 0
    for tenant in candidates:
        if short <= 0 and over <= 0:
            break
        if over <= 0 and tenant.is_linked:
            continue
        chosen.append(tenant.task)
        over -= tenant.size
        short -= 0 if tenant.is_linked else tenant.size
    return chosen


def size_text(count: int) -> str:
    """Octets to read in an error."""
    value, unit = float(max(0, count)), "B"
    for bigger in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1024:
            break
        value, unit = value / 1024, bigger
    return f"{value:.1f} {unit}" if unit != "B" else f"{count} B"
