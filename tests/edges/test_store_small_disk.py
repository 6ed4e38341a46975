"""Many small contents on a small disk: their journals take as much of it as they do, and the oldest make room."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.disk import Bench, Material, bench, small_disk

from dfmq.edges.store.space import Space, Tenant
from dfmq.model.ids import TaskId
from dfmq.model.settings import StoreSettings


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """With room for a hundred small contents."""
    with small_disk(tmp_path / "small", "size=1m") as home:
        if home is None:
            pytest.skip("mounting needs root")
        yield home


def tiny(count: int) -> list[Material]:
    return [Material(100 + number % 3000, number, f"http://host/{number}") for number in range(count)]


def fill_all(b: Bench, made: list[Material]) -> int:
    """Hold one after the other whole; how many were evicted for that."""
    evicted = 0
    for each in made:
        b.store.open(each.task, each.content, each.request)
        while (heard := b.ears.any())[0] == "damaged":
            assert heard[1][1] == "evicted"
            evicted += 1
        assert heard[0] == "opened", heard
        b.write(each, each.places())
        b.store.finish(each.task, each.generation)
        b.store.pin(each.task, False)
        b.settle()
    return evicted


def test_small_contents_without_end_fit_on_a_small_disk_without_a_floor(disk: Path) -> None:
    with bench(disk, StoreSettings(free_floor_bytes=0)) as b:
        made = tiny(400)
        evicted = fill_all(b, made)
        assert evicted >= 200
        assert b.load(made[-1]).held, "the last ones are there"


def test_a_disk_without_inodes_is_made_room_on_too(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", "size=8m,nr_inodes=100") as home:
        if home is None:
            pytest.skip("mounting needs root")
        with bench(home, StoreSettings(free_floor_bytes=0)) as b:
            assert fill_all(b, tiny(100)) >= 60


def test_a_quota_is_for_journals_too(tmp_path: Path) -> None:
    quota = 512 * 1024
    with bench(tmp_path, StoreSettings(free_floor_bytes=0, quota_bytes=quota)) as b:
        fill_all(b, tiny(200))
        used = int(subprocess.run(["du", "-sk", tmp_path / "tasks"], capture_output=True, check=True).stdout.split()[0])
        count = len(b.store.tasks())
        # The folders themselves are not counted.
        assert used * 1024 <= quota + (count + 1) * 4096
        assert count >= 40


def test_a_small_content_takes_two_blocks(tmp_path: Path) -> None:
    made = tiny(1)[0]
    with bench(tmp_path, StoreSettings(free_floor_bytes=0)) as b:
        b.fill(made)
        folder = b.store.path(made.task).parent
        assert sum(file.stat().st_blocks * 512 for file in folder.iterdir()) == 2 * 4096


def test_once_something_must_go_a_little_more_goes_without_a_floor_too() -> None:
    """Or each of many small contents would have every other one looked at."""
    tenants = [Tenant(TaskId(number.to_bytes(16, "big")), 8192, float(number), False, False) for number in range(6400)]
    gone = FullDisk(Path("/store"), StoreSettings(free_floor_bytes=0)).victims(8192, 0, tenants)
    assert len(gone) == 101


class FullDisk(Space):
    def free(self) -> int:
        return 0
