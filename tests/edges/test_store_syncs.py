"""Bringing contents to the disk: together, not before others who wait, and without running out of files."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from support.disk import Material, bench, hold_syncs

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
    gate = hold_syncs(monkeypatch)
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


def test_when_those_whose_turn_it_is_are_gone_the_next_are_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Those that are under way keep the others waiting, and none of them comes back before the rest is there.
    gate = hold_syncs(monkeypatch)
    monkeypatch.setattr(syncs, "MOST_TOGETHER", 2)
    made = [Material(1024, seed, f"http://host/{seed}") for seed in range(10)]
    with bench(tmp_path) as b:
        for one in made:
            b.fill(one)
        for one in made[4:8]:
            b.store.drop(one.task)
        b.settle()
        gate.set()
        for one in made[8:]:
            b.wait_for_mark(one)


def test_whoever_runs_out_of_open_files_loses_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Material(1024)
    with bench(tmp_path) as b:
        b.open(made)
        b.write(made, made.places())
        before = len(os.listdir("/proc/self/fd"))
        plain, told = os.dup, threading.Event()
        calls: list[int] = []

        def dup(fd: int) -> int:
            calls.append(fd)
            if len(calls) == 2:
                told.set()
                raise OSError(errno.EMFILE, "too many open files")
            return plain(fd)

        monkeypatch.setattr(os, "dup", dup)
        b.store.finish(made.task, made.generation)
        assert told.wait(30)
        b.settle()
        assert len(os.listdir("/proc/self/fd")) <= before
        monkeypatch.setattr(os, "dup", plain)
        b.store.pin(made.task, False)
        b.settle()

        def no_journal(path: Any, *words: Any, **more: Any) -> int:
            if str(path).endswith("/journal"):
                raise OSError(errno.EMFILE, "too many open files")
            return plain_open(path, *words, **more)

        plain_open = os.open
        monkeypatch.setattr(os, "open", no_journal)
        b.store.linked(made.task, made.generation, os.stat(b.store.path(made.task)).st_ctime_ns, 1)
        b.settle()
        monkeypatch.setattr(os, "open", plain_open)
        assert len(os.listdir("/proc/self/fd")) < before
        assert b.load(made).held
