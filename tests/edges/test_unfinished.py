"""Files that are being made beside outputs: whose writer was killed goes, everything else stays."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dfmq.edges import output, unfinished
from dfmq.edges.output import place
from dfmq.edges.unfinished import Unfinished, name_in, sweep

HOURS_AGO = time.time() - 3 * 3600
#: makes a file of the given name, says so and waits to be killed
WRITER = """
import sys
from dfmq.edges.unfinished import Unfinished
with Unfinished(sys.argv[1]) as copy:
    print(copy, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def _nothing_swept() -> Iterator[None]:
    unfinished._swept.clear()
    yield
    unfinished._swept.clear()


def left(path: str | Path, *, at: float = HOURS_AGO) -> Path:
    Path(path).touch()
    os.utime(path, (at, at))
    return Path(path)


def writer(path: str) -> subprocess.Popen[str]:
    started = subprocess.Popen(
        [sys.executable, "-c", WRITER, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert started.stdout is not None and started.stdout.readline()
    return started


def test_what_a_killed_writer_left_goes_and_what_is_being_written_stays(tmp_path: Path) -> None:
    killed, running = name_in(str(tmp_path)), name_in(str(tmp_path))
    with writer(killed) as first, writer(running) as second:
        first.kill()
        first.wait()
        left(killed)
        left(running)
        sweep(str(tmp_path))
        assert [path.name for path in tmp_path.iterdir()] == [os.path.basename(running)]
        second.kill()
    unfinished._swept.clear()
    sweep(str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_what_is_young_or_has_another_name_or_is_not_ours_stays(tmp_path: Path) -> None:
    kept = {
        left(name_in(str(tmp_path)), at=time.time()),
        left(tmp_path / ".dfmq-notes"),
        left(tmp_path / "dfmq-0123456789abcdef"),
        left(tmp_path / "stored"),
        Path(name_in(str(tmp_path))),
        Path(name_in(str(tmp_path))),
        Path(name_in(str(tmp_path))),
    }
    second, link, pipe = sorted(path for path in kept if not path.exists())
    os.link(tmp_path / "stored", second)
    link.symlink_to(tmp_path / ".dfmq-notes")
    os.mkfifo(pipe)
    sweep(str(tmp_path))
    assert set(tmp_path.iterdir()) == kept


def test_a_folder_is_looked_at_once(tmp_path: Path) -> None:
    sweep(str(tmp_path))
    late = left(name_in(str(tmp_path)))
    sweep(str(tmp_path))
    assert late.exists()


def test_whose_file_was_deleted_before_it_had_the_lock_makes_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, locks = name_in(str(tmp_path)), []
    lock = unfinished._lock

    def late_lock(descriptor: int, how: int) -> bool | None:
        if not locks:
            os.unlink(path)
        locks.append(descriptor)
        return lock(descriptor, how)

    monkeypatch.setattr(unfinished, "_lock", late_lock)
    with Unfinished(path) as copy:
        assert os.path.samestat(os.fstat(copy), os.stat(path))
    assert len(locks) == 2


def test_a_copy_takes_away_what_was_left_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "_clone", lambda source, copy, devices: False)
    folder, stored = tmp_path / "outputs", tmp_path / "stored"
    folder.mkdir()
    stored.write_bytes(b"content")
    left(name_in(str(folder)))
    assert place(stored, folder / "out", copy_only=True) == "copy"
    assert [path.name for path in folder.iterdir()] == ["out"]
