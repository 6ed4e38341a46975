"""The store's promises to its owner."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
import zmq
from support.disk import ROOMY, Material, bench

from dfmq.edges import hashing
from dfmq.edges.store import journal
from dfmq.edges.store.content import Store
from dfmq.errors import InvariantViolated, SettingsError, StoreError
from dfmq.model.settings import StoreSettings
from dfmq.model.task import Request


def test_what_was_written_comes_back_in_this_life_and_the_next(tmp_path: Path) -> None:
    made = Material(10_500)
    with bench(tmp_path) as b:
        assert b.open(made) == (0, {}, {})
        b.write(made, [(0, 0), (0, 1), (0, 2), (0, 3), (2, 2), (1, 1)])
        offset, octets = made.chunk(1, 1)
        assert bytes(b.store.span(made.task, made.generation, offset, len(octets))) == octets
    with bench(tmp_path) as b:
        shelved = b.load(made)
        assert shelved.content == made.content
        assert (shelved.held, shelved.partial) == (0b1, {1: 0b10, 2: 0b100})
        nothing = bytes(16)
        second, third = made.proofs(1)[16:32], made.proofs(2)[32:48]
        proofs = {0: made.proofs(0), 1: nothing + second + 2 * nothing, 2: 2 * nothing + third}
        assert shelved.proofs == proofs
        assert b.open(made) == (0b1, {1: 0b10, 2: 0b100}, proofs)
        b.write(made, [place for place in made.places() if place not in {(0, 0), (1, 1)}])
        b.store.finish(made.task, made.generation)
        assert b.read(made) == made.octets
        assert b.store.path(made.task).read_bytes() == made.octets
    with bench(tmp_path) as b:
        shelved = b.load(made)
        assert (shelved.held, shelved.partial) == (0b111, {})
        assert shelved.proofs == {piece: made.proofs(piece) for piece in range(3)}
        assert b.store.tasks() == [made.task]


def test_any_buffer_is_a_payload(tmp_path: Path) -> None:
    made = Material(4096)
    with bench(tmp_path) as b:
        b.open(made)
        kinds = [bytes, bytearray, memoryview, zmq.Frame]
        for chunk, kind in enumerate(kinds):
            offset, octets = made.chunk(0, chunk)
            b.store.write(made.task, made.generation, 0, chunk, offset, hashing.chunk_digest(octets), kind(octets))
        stored: list[tuple[int, int]] = []
        while len(stored) < 4:
            stored += b.ears.next("stored")[2]
        assert b.read(made) == made.octets


def test_another_generation_takes_the_place_of_the_old_one_and_leaves_its_file_alone(tmp_path: Path) -> None:
    old, new = Material(5000, seed=1), Material(6000, seed=2)
    with bench(tmp_path / "home") as b:
        b.fill(old)
        span = b.store.span(old.task, old.generation, 0, 1024)
        os.link(b.store.path(old.task), tmp_path / "output")
        assert b.open(new) == (0, {}, {})
        b.write(new, new.places())
        assert (tmp_path / "output").read_bytes() == old.octets
        assert bytes(span) == old.octets[:1024]
        with pytest.raises(StoreError):
            b.store.span(old.task, old.generation, 0, 1024)
        # Chunks of the old generation that are still on their way are thrown away.
        b.store.write(old.task, old.generation, 0, 0, 0, bytes(16), old.chunk(0, 0)[1])
        assert b.read(new) == new.octets


def test_what_is_deleted_gives_its_blocks_back_though_it_was_being_served(tmp_path: Path) -> None:
    old, new = Material(5000, seed=1), Material(6000, seed=2)
    with bench(tmp_path) as b:
        b.fill(old)
        b.wait_for_mark(old)
        assert bytes(b.store.span(old.task, old.generation, 0, 1024)) == old.octets[:1024]
        b.open(new)
        ours = [os.readlink(entry.path) for entry in os.scandir("/proc/self/fd") if os.path.islink(entry.path)]
        assert [path for path in ours if path.startswith(str(tmp_path)) and path.endswith("(deleted)")] == []


def test_a_growing_content_ends_where_it_is_sealed(tmp_path: Path) -> None:
    made = Material(9_300)
    with bench(tmp_path) as b:
        b.open(made, made.growing)
        b.write(made, made.places())
        b.store.seal(made.task, made.generation, 9_300)
        b.store.finish(made.task, made.generation)
        b.settle()
        assert b.store.path(made.task).stat().st_size == 9_300
    story = journal.replay(b.store.path(made.task).with_name("journal").read_bytes(), made.task)
    assert story.stamp is not None and story.stamp.size == 9_300
    with bench(tmp_path) as b:
        shelved = b.load(made)
        assert shelved.content == made.content
        assert shelved.held == 0b111
        assert b.read(made) == made.octets


def test_a_growing_content_that_was_never_sealed_is_continued_at_a_chunks_boundary(tmp_path: Path) -> None:
    made = Material(9_300)
    with bench(tmp_path) as b:
        b.open(made, made.growing)
        b.write(made, made.places())
    with bench(tmp_path) as b:
        # The last chunk was short: nobody knows whether that was the end, so it is asked for again.
        shelved = b.load(made)
        assert shelved.content.cut.length is None
        assert (shelved.held, shelved.partial) == (0b11, {2: 0b1})
        third = made.proofs(2)[:16] + bytes(16)
        assert b.open(made) == (0b11, {2: 0b1}, {0: made.proofs(0), 1: made.proofs(1), 2: third})
        b.write(made, [(2, 1)])
        b.store.finish(made.task, made.generation)
        assert b.read(made) == made.octets
    with bench(tmp_path) as b:
        assert b.load(made).held == 0b111


def test_a_content_of_nothing_is_held_at_once(tmp_path: Path) -> None:
    made = Material(0)
    with bench(tmp_path) as b:
        assert b.open(made) == (0, {}, {})
        b.store.finish(made.task, made.generation)
        b.store.prove(made.task, made.generation, "sha256")
        assert b.ears.next("proved")[3] == hashlib.sha256().hexdigest()
        assert b.store.path(made.task).read_bytes() == b""
    with bench(tmp_path) as b:
        assert b.load(made).content == made.content


def test_the_whole_content_is_proven_by_any_known_algorithm(tmp_path: Path) -> None:
    made = Material(10_000)
    with bench(tmp_path) as b:
        b.open(made)
        b.store.prove(made.task, made.generation, "md5")
        assert b.ears.next("proved") == (made.task, made.generation, "md5", "")
        b.write(made, made.places())
        for algorithm in ("md5", "sha1", "sha256", "sha512"):
            b.store.prove(made.task, made.generation, algorithm)
            wanted = hashlib.new(algorithm, made.octets).hexdigest()
            assert b.ears.next("proved") == (made.task, made.generation, algorithm, wanted)


def test_no_secret_of_the_request_reaches_the_disk(tmp_path: Path) -> None:
    made = Material(100)
    made.request = Request(
        url="http://user:hunter2@host/x",
        headers=(("Authorization", "Bearer hunter2"), ("Accept", "text/plain")),
        cacert="hunter2",
    )
    with bench(tmp_path) as b:
        b.open(made)
        assert b.load(made).request == Request(url="http://host/x", headers=(("Accept", "text/plain"),))
        folder = b.store.path(made.task).parent
        assert b"hunter2" not in (folder / "journal").read_bytes()
        assert folder.stat().st_mode & 0o077 == 0
        assert tmp_path.joinpath("tasks").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("names", [('"v1"', "yesterday", False), ("", "yesterday", True)])
def test_validators_that_come_later_are_kept(tmp_path: Path, names: tuple[str, str, bool]) -> None:
    made = Material(5000)
    with bench(tmp_path) as b:
        b.open(made)
        b.write(made, [(0, 0)])
        b.store.open(made.task, made.content, made.request, *names)
        assert b.ears.next("opened")[2:4] == (0, {0: 1})
    with bench(tmp_path) as b:
        shelved = b.load(made)
        assert (shelved.etag, shelved.last_modified, shelved.strong_date) == names
        assert shelved.partial == {0: 1}


def test_a_dropped_task_leaves_nothing(tmp_path: Path) -> None:
    made = Material(5000)
    with bench(tmp_path) as b:
        b.fill(made)
        span = b.store.span(made.task, made.generation, 0, 10)
        b.store.drop(made.task)
        assert b.load(made) is None
        assert list((tmp_path / "tasks").iterdir()) == []
        assert bytes(span) == made.octets[:10]
        with pytest.raises(StoreError):
            b.store.span(made.task, made.generation, 0, 10)


@pytest.mark.parametrize(("piece", "chunk", "offset", "length"), [(0, 0, 1024, 1024), (0, 4, 4096, 1024), (9, 0, 0, 9)])
def test_a_chunk_that_does_not_lie_where_the_cut_says_is_a_bug(
    tmp_path: Path, piece: int, chunk: int, offset: int, length: int
) -> None:
    made = Material(8192)
    with bench(tmp_path) as b:
        b.open(made)
        with pytest.raises(InvariantViolated):
            b.store.write(made.task, made.generation, piece, chunk, offset, bytes(16), bytes(length))


def test_an_owner_who_keeps_to_no_credit_is_stopped(tmp_path: Path) -> None:
    made = Material(1)
    with bench(tmp_path, StoreSettings(free_floor_bytes=0, unsynced_bytes=0, write_behind_bytes=1)) as b:
        b.open(made)
        b.store._writer.queued_bytes = 1 << 40
        with pytest.raises(InvariantViolated, match="credit"):
            b.store.write(made.task, made.generation, 0, 0, 0, bytes(16), made.octets)


def test_closing_writes_what_is_queued_and_twice_does_no_harm(tmp_path: Path) -> None:
    made = Material(40_000)
    with bench(tmp_path) as b:
        b.open(made)
        for place in made.places():
            offset, octets = made.chunk(*place)
            b.store.write(made.task, made.generation, *place, offset, hashing.chunk_digest(octets), octets)
        b.store.close()
        assert b.store.queued_bytes == 0
        b.store.close()
        with pytest.raises(InvariantViolated):
            b.store.load(made.task)
    with bench(tmp_path) as b:
        assert b.load(made).held == (1 << made.content.cut.count) - 1


def test_a_sync_goes_on_beside_the_writing(tmp_path: Path) -> None:
    made = Material(200_000)
    with bench(tmp_path, StoreSettings(free_floor_bytes=0, unsynced_bytes=0, sync_every_bytes=1024)) as b:
        b.open(made)
        for place in made.places():
            b.write(made, [place])
        b.store.finish(made.task, made.generation)
        assert b.read(made) == made.octets
    with bench(tmp_path) as b:
        assert b.load(made).held == (1 << made.content.cut.count) - 1


def test_a_store_in_the_way_of_a_file_says_so(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("not a directory")
    with pytest.raises(SettingsError, match="--home"):
        Store(tmp_path / "home", ROOMY, None)  # type: ignore[arg-type]
