"""One process a home."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dfmq.edges.store.lock import HomeLock
from dfmq.errors import NoSpace, SettingsError

_HOLDER = """
import sys
from pathlib import Path
from dfmq.edges.store.lock import HomeLock
HomeLock(Path(sys.argv[1])).acquire()
print("locked", flush=True)
sys.stdin.read()
"""


def test_a_second_process_is_told_who_has_the_home_and_a_killed_one_leaves_no_lock(tmp_path: Path) -> None:
    home = tmp_path / "deep" / "home"
    root = str(Path(__file__).resolve().parents[2])
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(home)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={"PYTHONPATH": root},
    )
    with holder:
        assert holder.stdout is not None and holder.stdout.readline() == b"locked\n"
        with pytest.raises(SettingsError, match=f"process {holder.pid}.*--home"):
            HomeLock(home).acquire()
        holder.kill()
    lock = HomeLock(home)
    lock.acquire()
    assert (home / "lock").read_text() == f"{os.getpid()}\n"
    lock.release()
    lock.release()
    again = HomeLock(home)
    again.acquire()
    again.release()


def test_a_home_we_make_is_ours_alone_and_one_that_was_there_keeps_its_mode(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    theirs.mkdir(mode=0o755)
    for home in (ours, theirs):
        lock = HomeLock(home)
        lock.acquire()
        lock.release()
    assert ours.stat().st_mode & 0o777 == 0o700
    assert theirs.stat().st_mode & 0o777 == 0o755


def test_a_home_on_a_full_disk_is_locked_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is stored there can still be served."""

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    lock = HomeLock(tmp_path)
    lock.acquire()
    with pytest.raises(SettingsError, match=r"process \(unknown\)"):
        HomeLock(tmp_path).acquire()
    lock.release()


def test_a_disk_without_room_for_a_home_is_a_matter_of_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "mkdir", full)
    with pytest.raises(NoSpace, match=f"{tmp_path / 'home'}.*--home"):
        HomeLock(tmp_path / "home").acquire()


def test_a_home_that_cannot_be_one_is_a_matter_of_settings(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for home in (tmp_path / "file", tmp_path / "file" / "below", tmp_path / ("n" * 300)):
        with pytest.raises(SettingsError, match="--home"):
            HomeLock(home).acquire()
