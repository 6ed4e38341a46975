"""What a peer finds in its store at the start."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from support.disk import ROOMY, Material, bench

from dfmq.edges.store.content import Store
from dfmq.machines.events import StoreLoaded
from dfmq.model.ids import TaskId
from dfmq.model.task import Shelved
from dfmq.nodes import remains
from dfmq.nodes.remains import Remains


class Ears:
    """A store's owner that recalls, and what it was told."""

    def __init__(self, home: Path, wanted: int) -> None:
        self.loop = asyncio.get_running_loop()
        self.told: list[StoreLoaded] = []
        self.answers = 0
        self.wanted = wanted
        self.after_first: Callable[[], None] = lambda: None
        self.all_answered = asyncio.Event()
        self.store = Store(home, ROOMY, self)  # type: ignore[arg-type]
        self.remains = Remains(self.store, self.loop, self.told.append)

    def recalled(self, task: TaskId, shelved: Shelved | None) -> None:
        self.loop.call_soon_threadsafe(self.answered, task, shelved)

    def answered(self, task: TaskId, shelved: Shelved | None) -> None:
        self.remains.recalled(task, shelved)
        self.answers += 1
        if self.answers == 1:
            self.after_first()
        if self.answers == self.wanted:
            self.all_answered.set()


def contents(home: Path, count: int) -> list[Material]:
    """So many contents, whole, each used a second after the one before."""
    made = [Material(3000 + seed, seed, f"http://host/{seed}") for seed in range(count)]
    with bench(home) as b:
        for turn, one in enumerate(made):
            b.fill(one)
            b.wait_for_mark(one)
            os.utime(b.store.path(one.task).with_name("journal"), (1000.0 + turn, 1000.0 + turn))
    return made


async def test_all_that_is_in_the_store_is_told_what_was_used_last_first(tmp_path: Path) -> None:
    made = contents(tmp_path, 5)
    ears = Ears(tmp_path, 5)
    ears.remains.begin()
    await ears.all_answered.wait()
    assert [event.task for event in ears.told] == [one.task for one in reversed(made)]
    for event, one in zip(ears.told, reversed(made), strict=True):
        assert event.shelved is not None
        assert event.shelved.content == one.content
        assert event.shelved.proofs == {piece: one.proofs(piece) for piece in range(one.content.cut.count)}
    used = [int(ears.store.path(one.task).with_name("journal").stat().st_mtime) for one in made]
    assert used == [1000, 1001, 1002, 1003, 1004], "to look is no use"
    ears.store.close()


async def test_so_many_are_told_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = contents(tmp_path, 4)
    monkeypatch.setattr(remains, "MOST_RECALLED", 2)
    ears = Ears(tmp_path, 2)
    ears.remains.begin()
    await ears.all_answered.wait()
    assert [event.task for event in ears.told] == [made[3].task, made[2].task]
    ears.store.close()


async def test_what_is_dropped_while_it_is_recalled_is_not_told(tmp_path: Path) -> None:
    made = contents(tmp_path, 2)
    ears = Ears(tmp_path, 2)
    # The second is under way by then, or has answered, and nobody has heard it.
    ears.after_first = lambda: ears.remains.dropped(made[0].task)
    ears.remains.begin()
    await ears.all_answered.wait()
    assert [event.task for event in ears.told] == [made[1].task]
    ears.store.close()


async def test_a_peer_that_goes_recalls_no_more(tmp_path: Path) -> None:
    contents(tmp_path, 3)
    ears = Ears(tmp_path, 1)
    ears.remains.begin()
    ears.remains.end()
    await asyncio.sleep(0)
    ears.store.close()
    assert ears.told == []
    ears = Ears(tmp_path, 1)
    ears.remains.begin()
    await ears.all_answered.wait()
    ears.remains.end()
    await asyncio.to_thread(ears.store.close)
    await asyncio.sleep(0)
    assert 1 <= len(ears.told) <= 2
