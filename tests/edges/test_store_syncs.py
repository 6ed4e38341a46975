"""Bringing contents to the disk: together, not before others who wait, and without running out of files."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from support.disk import Material, bench

from dfmq.edges.store import slow, syncs


def test_small_contents_that_are_finished_together_are_synced_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[int] = []
    plain = slow.sync

    def sync(files: list[list[int]]) -> list[OSError | None]:
        rows.append(len(files))
        return plain(files)

    monkeypatch.setattr(slow, "sync", sync)
    # Else how many come together would be the clock's to say.
    monkeypatch.setattr(syncs, "GATHER_SECONDS", 600.0)
    monkeypatch.setattr(syncs, "MOST_TOGETHER", 5)
    made = [Material(1024, seed, f"http://host/{seed}") for seed in range(10)]
    with bench(tmp_path) as b:
        for one in made:
            b.fill(one)
        for one in made:
            b.wait_for_mark(one)
    assert rows == [5, 5]


def test_what_is_alone_is_synced_soon(tmp_path: Path) -> None:
    made = Material(1024)
    with bench(tmp_path) as b:
        b.fill(made)
        b.wait_for_mark(made)


def test_a_disk_that_is_slow_to_sync_holds_up_nobody_and_no_files_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()
    plain = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda fd: (gate.wait(60), plain(fd)))
    monkeypatch.setattr(syncs, "MOST_TOGETHER", 4)
    made = [Material(1024, seed, f"http://host/{seed}") for seed in range(60)]
    with bench(tmp_path) as b:
        before = len(os.listdir("/proc/self/fd"))
        for one in made:
            b.store.pin(one.task, True)
            b.fill(one)
            b.store.pin(one.task, False)
        b.settle()
        assert len(os.listdir("/proc/self/fd")) - before <= 4 * 4 * 2 + 2 * 4
        gate.set()
        for one in made:
            b.wait_for_mark(one)
        b.settle()
        assert len(os.listdir("/proc/self/fd")) <= before
