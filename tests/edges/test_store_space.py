"""Room: what must go, what may not, and how a full disk is told."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from support.disk import Bench, Material, bench, hold_syncs, small_disk

from dfmq.edges.store import space
from dfmq.edges.store.shelf import Shelf
from dfmq.edges.store.shelves import Shelves
from dfmq.edges.store.space import Space, Tenant
from dfmq.errors import NoSpace
from dfmq.model.ids import TaskId
from dfmq.model.settings import StoreSettings

GIB = 1 << 30
MIB = 1 << 20


def tenant(name: int, size: int, used_at: float, *, is_linked: bool = False, is_needed: bool = False) -> Tenant:
    return Tenant(TaskId(bytes([name]) * 16), size, used_at, is_linked, is_needed)


def names(tasks: list[TaskId]) -> list[int]:
    return [task[0] for task in tasks]


class FakeDisk(Space):
    """A disk with so much free."""

    def __init__(self, free: int, floor: int = 0, quota: int = 0) -> None:
        super().__init__(Path("/store"), StoreSettings(free_floor_bytes=floor, quota_bytes=quota))
        self._free = free

    def free(self) -> int:
        return self._free


def test_nothing_goes_while_there_is_room() -> None:
    assert FakeDisk(100, floor=40).victims(50, 10, [tenant(1, 99, 1.0)]) == []


def test_the_least_recently_used_goes_first_and_a_little_more_than_needed() -> None:
    tenants = [tenant(1, 50, 3.0), tenant(2, 50, 1.0), tenant(3, 50, 2.0), tenant(4, 50, 4.0)]
    assert names(FakeDisk(100, floor=40).victims(100, 0, tenants)) == [2]
    # 60 are short: two tasks; a quarter of the floor is made free beyond that, or the next open would evict again.
    assert names(FakeDisk(100, floor=60).victims(100, 0, tenants)) == [2, 3]
    assert names(FakeDisk(100, floor=100).victims(100, 0, tenants)) == [2, 3, 1]


def test_what_is_needed_stays_and_what_is_linked_frees_no_disk() -> None:
    tenants = [
        tenant(1, 50, 1.0, is_needed=True),
        tenant(2, 50, 2.0, is_linked=True),
        tenant(3, 50, 3.0),
    ]
    assert names(FakeDisk(0).victims(40, 0, tenants)) == [3]
    # Against a quota the linked one counts like any other.
    assert names(FakeDisk(10**9, quota=150).victims(10, 0, tenants)) == [2]


def test_nothing_goes_in_vain() -> None:
    with pytest.raises(NoSpace):
        FakeDisk(0).victims(100, 0, [tenant(1, 50, 1.0)])
    with pytest.raises(NoSpace):
        FakeDisk(10**9, quota=100).victims(60, 0, [tenant(1, 50, 1.0, is_needed=True)])


def test_promises_to_others_count_as_taken() -> None:
    with pytest.raises(NoSpace, match="promised"):
        FakeDisk(100).victims(60, 50, [])


def test_what_surely_fits_needs_no_look_at_every_task() -> None:
    disk = FakeDisk(1000, floor=40)
    assert disk.has_room(900, 60)
    assert not disk.has_room(900, 61)


def test_against_a_quota_every_task_is_looked_at_once_then_what_was_added_is_counted() -> None:
    block = 4096
    disk = FakeDisk(10**9, quota=10 * block)
    assert not disk.has_room(1, 0)
    assert disk.victims(block, 0, [tenant(1, 5 * block, 1.0)]) == []
    # 6 of 10 are used now. A file of one octet takes a block of the disk.
    assert disk.has_room(1, 0) and disk.has_room(1, 0)
    assert not disk.has_room(block, 2 * block)
    assert disk.has_room(2 * block, 0)
    assert not disk.has_room(1, 0)


def test_what_is_used_is_not_known_any_more_once_something_had_to_go() -> None:
    disk = FakeDisk(10**9, quota=100_000)
    assert names(disk.victims(1, 0, [tenant(1, 100_000, 1.0)])) == [1]
    assert not disk.has_room(1, 0)


def test_a_refusal_says_how_much_how_little_where_and_what_to_do() -> None:
    with pytest.raises(NoSpace) as refusal:
        FakeDisk(2 * GIB, floor=256 * MIB).victims(3 * GIB, 0, [])
    for part in ("3.0 GiB", "2.0 GiB", "256.0 MiB", "/store", "--home"):
        assert part in str(refusal.value)
    with pytest.raises(NoSpace, match="quota"):
        FakeDisk(9 * GIB, quota=GIB).victims(3 * GIB, 0, [])


def use(b: Bench, made: Material, used_at: float) -> None:
    """Hold it whole, last used then."""
    b.fill(made)
    b.wait_for_mark(made)
    os.utime(b.store.path(made.task).with_name("journal"), (used_at, used_at))


def test_a_quota_evicts_the_oldest_unpinned_and_says_that_it_is_gone(tmp_path: Path) -> None:
    size = 256 * 1024
    made = [Material(size, seed, f"http://host/{seed}") for seed in range(4)]
    with bench(tmp_path, StoreSettings(free_floor_bytes=0, unsynced_bytes=0, quota_bytes=3 * size + size // 2)) as b:
        b.store.pin(made[0].task, True)
        for turn in range(3):
            use(b, made[turn], 1000.0 + turn)
        b.store.open(made[3].task, made[3].content, made[3].request)
        # The first is the oldest, but pinned.
        assert b.ears.next("damaged") == (made[1].task, "evicted")
        assert b.ears.next("opened")[0] == made[3].task
        assert b.load(made[0]).held
        assert b.load(made[1]) is None


def test_what_is_not_gone_on_with_is_closed_and_may_be_evicted_also_while_it_is_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = hold_syncs(monkeypatch)
    size = 256 * 1024
    broken_off, other = Material(size), Material(size, 1, "http://host/1")
    settings = StoreSettings(free_floor_bytes=0, unsynced_bytes=0, quota_bytes=size + size // 2, sync_every_bytes=1024)
    with bench(tmp_path, settings) as b:
        b.open(broken_off)
        b.write(broken_off, broken_off.places()[:8])
        b.store.pin(broken_off.task, False)
        b.settle()
        open_files = [os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")]
        journal = str(b.store.path(broken_off.task).with_name("journal"))
        assert open_files.count(journal) <= 1, "the sync's own"
        b.store.open(other.task, other.content, other.request)
        assert b.ears.next("damaged") == (broken_off.task, "evicted")
        assert b.ears.next("opened")[0] == other.task
        gate.set()


def test_contents_that_are_only_held_are_not_looked_at_to_open_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [Material(5000, seed, f"http://host/{seed}") for seed in range(4)]
    with bench(tmp_path, StoreSettings(free_floor_bytes=0, unsynced_bytes=0)) as b:
        for each in made[:3]:
            b.fill(each)
            b.wait_for_mark(each)
        looked: list[TaskId] = []

        def promised(self: Shelf) -> int:
            looked.append(self.task)
            return 0

        monkeypatch.setattr(Shelf, "promised", promised)
        monkeypatch.setattr(Shelves, "on_disk", lambda self: pytest.fail("every task is looked at"))
        b.open(made[3])
        assert not looked


def test_what_was_promised_to_an_open_content_is_kept_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(space, "_try_allocate", lambda fd, mode, length: False)
    first, second = Material(100_000, 1, "http://host/1"), Material(100_000, 2, "http://host/2")
    with bench(tmp_path, StoreSettings(free_floor_bytes=0, unsynced_bytes=0)) as b:
        monkeypatch.setattr(Space, "free", lambda self: 150_000)
        b.open(first)
        b.store.open(second.task, second.content, second.request)
        assert b.ears.next("failed")[1] == "no_space"
        b.store.drop(first.task)
        b.open(second)


def test_a_content_beyond_the_quota_is_refused_before_anything_goes(tmp_path: Path) -> None:
    old, new = Material(100_000, 1, "http://host/1"), Material(300_000, 2, "http://host/2")
    with bench(tmp_path, StoreSettings(free_floor_bytes=0, unsynced_bytes=0, quota_bytes=200_000)) as b:
        b.fill(old)
        b.store.open(new.task, new.content, new.request)
        task, code, text = b.ears.next("failed")
        assert (task, code) == (new.task, "no_space")
        assert "quota" in text
        assert b.store.tasks() == [old.task]


def test_a_content_larger_than_the_disk_is_refused_before_its_first_byte(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", "size=1m") as home:
        if home is None:
            pytest.skip("mounting needs root")
        made = Material(3 * MIB)
        with bench(home, StoreSettings(free_floor_bytes=0, unsynced_bytes=0)) as b:
            b.store.open(made.task, made.content, made.request)
            task, code, text = b.ears.next("failed")
            assert (task, code) == (made.task, "no_space")
            assert "3.1 MiB" in text and str(home) in text, "with the journal of its 3072 chunks"
            assert b.store.tasks() == []


def test_a_disk_that_fills_up_under_us_fails_the_task_and_keeps_what_was_stored(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", "size=1m") as home:
        if home is None:
            pytest.skip("mounting needs root")
        made = Material(MIB)
        with bench(home, StoreSettings(free_floor_bytes=0, unsynced_bytes=0)) as b:
            # Of unknown length nothing can be reserved, and somebody else takes the room meanwhile.
            b.store._shelves.make_room = lambda need, task: None  # type: ignore[method-assign]
            b.open(made, made.growing)
            b.write(made, made.places()[:8])
            other = home / "other"
            with pytest.raises(OSError), other.open("wb", buffering=0) as file:
                for _ in range(300):
                    file.write(bytes(4096))
            for place in made.places()[8:64]:
                offset, octets = made.chunk(*place)
                b.store.write(made.task, made.generation, *place, offset, bytes(16), octets)
            heard = b.ears.rest_until("failed")
            assert heard[1] == "no_space"
            other.unlink()
            held = b.open(made, made.growing)[0]
            assert held & 0b11 == 0b11
        with bench(home, StoreSettings(free_floor_bytes=0, unsynced_bytes=0)) as b:
            assert b.load(made).held & 0b11 == 0b11


def test_room_that_somebody_else_took_is_looked_for_once_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Material(5000)
    pwritev, tries = os.pwritev, []

    def fail_once(*arguments: Any) -> int:
        tries.append(arguments)
        if len(tries) == 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return pwritev(*arguments)

    monkeypatch.setattr(os, "pwritev", fail_once)
    with bench(tmp_path, StoreSettings(free_floor_bytes=0, unsynced_bytes=0)) as b:
        b.open(made)
        b.write(made, made.places())
        assert b.read(made) == made.octets


def test_a_journal_that_found_no_room_ends_with_its_last_whole_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Material(5000)
    write = os.write

    def fail_in_the_middle(fd: int, octets: memoryview) -> int:
        if len(octets) > 5:
            return write(fd, octets[:5])
        raise OSError(errno.ENOSPC, "No space left on device")

    with bench(tmp_path, StoreSettings(free_floor_bytes=0, unsynced_bytes=0)) as b:
        b.open(made)
        b.write(made, [(0, 0)])
        monkeypatch.setattr(os, "write", fail_in_the_middle)
        b.store.write(made.task, made.generation, 0, 1, 1024, bytes(16), made.octets[1024:2048])
        assert b.ears.next("failed")[1] == "no_space"
        monkeypatch.setattr(os, "write", write)
        assert b.open(made)[:2] == (0, {0: 0b1})
        b.write(made, [(0, 2)])
    with bench(tmp_path, StoreSettings(free_floor_bytes=0, unsynced_bytes=0)) as b:
        assert b.load(made).partial == {0: 0b101}


def test_a_disk_without_inodes_says_so(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", "size=8m,nr_inodes=4") as home:
        if home is None:
            pytest.skip("mounting needs root")
        made = Material(1000)
        with bench(home, StoreSettings(free_floor_bytes=0, unsynced_bytes=0)) as b:
            b.store.open(made.task, made.content, made.request)
            assert b.ears.next("failed")[1] == "no_space"
            b.store.open(made.task, made.content, made.request)
            assert "inode" in b.ears.next("failed")[2]
            assert b.store.tasks() == []


def test_a_tenant_takes_what_its_files_and_its_folder_take(tmp_path: Path) -> None:
    for name in (space.DATA, space.JOURNAL):
        (tmp_path / name).write_bytes(b"a few octets")
    found = space.tenant(TaskId(bytes(16)), str(tmp_path), False)
    assert found is not None
    paths = [tmp_path, *tmp_path.iterdir()]
    assert found.size == sum(path.stat().st_blocks * 512 for path in paths)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EFBIG])
def test_a_limit_of_the_process_is_not_blamed_on_the_disk(tmp_path: Path, number: int) -> None:
    with bench(tmp_path) as b:
        code, text = b.store._shelves.reason(OSError(number, os.strerror(number)), 1000)
    assert code == "store" and "ulimit" in text and "Look at that disk" not in text
