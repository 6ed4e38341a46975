"""What the store believes of an earlier life, and of a file that somebody else can write to."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from support.disk import Material, age, bench, overwrite

from dfmq.edges.store import journal, loading, slow
from dfmq.edges.store.spans import LEAST_MAPPED_BYTES
from dfmq.errors import StoreError
from dfmq.model.settings import StoreSettings


def test_in_the_same_boot_a_finished_file_that_looks_as_it_did_is_believed_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Material(8192)
    monkeypatch.setattr(slow, "sync", lambda _: None)
    with bench(tmp_path) as b:
        b.fill(made)
        b.settle()
    monkeypatch.setattr(loading, "prove", lambda *_: pytest.fail("it is read"))
    with bench(tmp_path) as b:
        assert b.load(made).held == 0b11


def test_of_an_unfinished_file_only_what_it_holds_is_believed(tmp_path: Path) -> None:
    """Somebody wrote into it, between two lives of the node."""
    made = Material(8192)
    with bench(tmp_path) as b:
        b.open(made)
        b.write(made, [(0, 0), (0, 1)])
        path = b.store.path(made.task)
    overwrite(path, 0, b"x")
    with bench(tmp_path) as b:
        assert b.load(made).partial == {0: 0b10}


def test_in_a_copy_of_a_home_that_was_in_use_only_what_was_copied_is_believed(tmp_path: Path) -> None:
    """As `cp -a` of a running node's home makes it: the data before the journal, which tells of more."""
    made, copied = Material(8192), tmp_path / "copied"
    with bench(tmp_path / "home") as b:
        b.open(made)
        b.write(made, [(0, 0)])
        shutil.copytree(tmp_path / "home", copied)
        b.write(made, [(0, 1), (1, 0)])
        journal_path = b.store.path(made.task).with_name("journal")
        shutil.copy(journal_path, copied / journal_path.relative_to(tmp_path / "home"))
    with bench(copied) as b:
        assert b.load(made).partial == {0: 0b1}
        b.write(made, [(0, 1), (0, 2), (0, 3), (1, 0), (1, 1), (1, 2), (1, 3)])


def test_after_another_boot_unsynced_lines_are_proven_by_their_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Material(8192)
    with bench(tmp_path) as b:
        b.open(made)
        b.write(made, [(0, 0), (0, 1), (1, 3)])
        path = b.store.path(made.task)
    overwrite(path, 1024, bytes(1024))  # these octets were in memory when the power went
    monkeypatch.setattr(journal, "boot_id", lambda: "another boot")
    with bench(tmp_path) as b:
        assert b.load(made).partial == {0: 0b1, 1: 0b1000}
        assert b.open(made)[:2] == (0, {0: 0b1, 1: 0b1000})
        b.write(made, [(0, 1)])
    overwrite(path, 0, bytes(1024))
    monkeypatch.setattr(journal, "boot_id", lambda: "a third boot")
    with bench(tmp_path) as b:
        assert b.load(made).partial == {0: 0b10, 1: 0b1000}


def test_after_another_boot_synced_lines_are_believed_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Material(8192)
    with bench(tmp_path) as b:
        b.fill(made)
        b.wait_for_mark(made)
    monkeypatch.setattr(journal, "boot_id", lambda: "another boot")
    monkeypatch.setattr(loading, "prove", lambda *_: pytest.fail("it is read"))
    with bench(tmp_path) as b:
        assert b.load(made).held == 0b11


def test_a_small_content_is_not_synced_and_proven_when_it_is_wanted_after_another_boot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost, kept = Material(8192), Material(8192, 1, "http://host/kept")
    monkeypatch.setattr(slow, "sync", lambda _: pytest.fail("it is synced"))
    with bench(tmp_path, StoreSettings(free_floor_bytes=0, unsynced_bytes=8192)) as b:
        for made in (lost, kept):
            b.fill(made)
        b.settle()
        assert not [fd for fd in os.listdir("/proc/self/fd") if _leads_below(fd, tmp_path, "data")]
        path = b.store.path(lost.task)
        look = path.stat()
    overwrite(path, 0, bytes(1024))
    os.utime(path, ns=(look.st_atime_ns, look.st_mtime_ns))
    with bench(tmp_path) as b:
        assert b.load(kept).held == 0b11
    monkeypatch.setattr(journal, "boot_id", lambda: "another boot")
    with bench(tmp_path) as b:
        assert b.load(kept).held == 0b11
        assert b.load(lost) is None, "some of it is gone, as after a power cut"


def _leads_below(fd: str, folder: Path, name: str) -> bool:
    try:
        path = os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return False
    return path.startswith(str(folder)) and path.endswith(name)


def test_where_no_boot_is_known_nothing_unsynced_is_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "boot_id", lambda: "")
    made = Material(8192)
    with bench(tmp_path) as b:
        b.open(made)
        b.write(made, [(0, 0), (0, 1)])
        path = b.store.path(made.task)
    overwrite(path, 0, bytes(1024))
    with bench(tmp_path) as b:
        assert b.load(made).partial == {0: 0b10}


def test_a_short_file_is_not_mapped(tmp_path: Path) -> None:
    made = Material(LEAST_MAPPED_BYTES - 1)
    with bench(tmp_path) as b:
        b.fill(made)
        assert b.store.span(made.task, made.generation, 1000, 1024) == made.octets[1000:2024]
        assert isinstance(b.store.span(made.task, made.generation, 0, 1024), bytes)


def test_a_store_that_was_deleted_under_a_running_node_begins_anew(tmp_path: Path) -> None:
    made, other = Material(8192), Material(4096, 1, url="http://host/y")
    with bench(tmp_path) as b:
        b.fill(made)
        b.settle()
        shutil.rmtree(tmp_path / "tasks")
        b.store.load(made.task)
        assert b.ears.next("damaged") == (made.task, "changed")
        assert b.ears.next("loaded") == (made.task, None)
        b.fill(other)
        assert b.read(other) == other.octets
        b.fill(made)
        assert b.read(made) == made.octets


def test_what_a_power_cut_left_of_a_finished_content_is_not_recalled_unproven(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its file looks as it did, so nothing would be proven when it is read."""
    made = Material(8192)
    with bench(tmp_path) as b:
        b.fill(made)
        b.settle()
        path = b.store.path(made.task)
    record = path.with_name("journal")
    story = journal.replay(record.read_bytes(), made.task)
    assert story.stamp is not None
    octets = journal.opening_record(story.opening) + journal.chunks_record(story.lines)
    record.write_bytes(octets + journal.finished_record(story.stamp))
    monkeypatch.setattr(journal, "boot_id", lambda: "another boot")
    with bench(tmp_path) as b:
        b.store.recall(made.task)
        assert b.ears.next("recalled") == (made.task, None)
        assert b.load(made).held == 0b11


def test_data_that_became_shorter_is_not_held(tmp_path: Path) -> None:
    made = Material(8192)
    with bench(tmp_path) as b:
        b.open(made)
        b.write(made, [(0, 0), (1, 3)])
        os.truncate(b.store.path(made.task), 4096)
    with bench(tmp_path) as b:
        assert b.open(made)[:2] == (0, {0: 0b1})
        b.write(made, made.places())
        assert b.read(made) == made.octets


def test_data_that_is_gone_is_damage(tmp_path: Path) -> None:
    made = Material(8192)
    with bench(tmp_path) as b:
        b.fill(made)
        b.settle()
        b.store.path(made.task).unlink()
        with pytest.raises(StoreError):
            b.store.span(made.task, made.generation, 0, 1024)
        assert b.ears.next("damaged") == (made.task, "changed")
    with bench(tmp_path) as b:
        assert b.load(made) is None


def test_an_unfinished_file_with_a_second_name_is_not_written_into(tmp_path: Path) -> None:
    made = Material(8192)
    with bench(tmp_path / "home") as b:
        b.open(made)
        b.write(made, [(0, 0)])
        os.link(b.store.path(made.task), tmp_path / "curious")
    with bench(tmp_path / "home") as b:
        b.store.recall(made.task)
        assert b.ears.next("recalled") == (made.task, None), "what will not be gone on with is not told of"
        assert b.open(made) == (0, {}, {})
        b.write(made, made.places())
    assert (tmp_path / "curious").read_bytes()[1024:] == bytes(8192 - 1024)


@pytest.mark.parametrize("boot", ["same", "another"])
def test_what_a_power_cut_left_of_a_content_that_is_an_output_already_is_not_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, boot: str
) -> None:
    """Its file cannot be gone on with, so a piece that was told of would be missing in the next."""
    made, output = Material(8192), tmp_path / "output"
    with bench(tmp_path / "home") as b:
        b.fill(made)
        b.wait_for_mark(made)
        path = b.store.path(made.task)
    os.link(path, output)
    record, look = path.with_name("journal"), path.stat()
    story = journal.replay(record.read_bytes(), made.task)
    assert story.stamp is not None
    opening, finished = journal.opening_record(story.opening), journal.finished_record(story.stamp)
    if boot == "same":
        record.write_bytes(opening + journal.chunks_record(story.lines[:5]))
    else:
        # One of its pages never came to the disk, nor did the mark that all have; the file looks as it did.
        record.write_bytes(opening + journal.chunks_record(story.lines) + finished)
        overwrite(path, 0, bytes(1024))
        os.utime(path, ns=(look.st_atime_ns, look.st_mtime_ns))
        monkeypatch.setattr(journal, "boot_id", lambda: "another boot")
    with bench(tmp_path / "home") as b:
        assert b.load(made) is None
        assert b.open(made) == (0, {}, {})
        b.write(made, made.places())
        assert b.read(made) == made.octets
    assert output.stat().st_ino != path.stat().st_ino


@pytest.mark.parametrize("harm", ["deleted", "replaced", "truncated", "journal deleted", "linked"])
def test_what_was_told_of_a_file_that_is_not_there_any_more_is_taken_back(tmp_path: Path, harm: str) -> None:
    made = Material(8192)
    with bench(tmp_path / "home") as b:
        b.open(made)
        b.write(made, [(0, 0), (0, 1)])
    with bench(tmp_path / "home") as b:
        assert b.load(made).partial == {0: 0b11}
        path = b.store.path(made.task)
        if harm == "linked":
            os.link(path, tmp_path / "curious")
        elif harm == "truncated":
            os.truncate(path, 2047)
        elif harm == "journal deleted":
            path.with_name("journal").unlink()
        else:
            path.rename(tmp_path / "away")
        if harm == "replaced":
            path.write_bytes(bytes(8192))
        b.store.open(made.task, made.content, made.request)
        assert b.ears.next("damaged") == (made.task, "changed")
        assert b.ears.next("opened")[2:] == (0, {}, {})
        b.write(made, made.places())
        assert b.read(made) == made.octets


def test_what_is_lent_is_read_before_it_has_a_second_name(tmp_path: Path) -> None:
    made = Material(LEAST_MAPPED_BYTES)
    with bench(tmp_path / "home") as b:
        b.store.pin(made.task, True)
        b.fill(made)
        assert isinstance(b.store.span(made.task, made.generation, 0, 1024), memoryview)
        b.store.lend(made.task)
        assert isinstance(b.store.span(made.task, made.generation, 0, 1024), bytes), "the client has the path"
        b.store.pin(made.task, False)
        assert isinstance(b.store.span(made.task, made.generation, 0, 1024), memoryview), "it was copied"
        b.store.pin(made.task, True)
        b.store.lend(made.task)
        os.link(b.store.path(made.task), tmp_path / "output")
        b.store.pin(made.task, False)
        assert isinstance(b.store.span(made.task, made.generation, 0, 1024), bytes)


def test_what_nobody_asked_for_is_recalled_without_proving_or_writing_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, part, touched = (Material(8192, seed, f"http://host/{seed}") for seed in range(3))
    with bench(tmp_path) as b:
        for made in (whole, touched):
            b.fill(made)
            b.wait_for_mark(made)
        b.open(part)
        b.write(part, [(0, 0)])
        paths = {made.task: b.store.path(made.task) for made in (whole, part, touched)}

    def recalled(made: Material) -> int | None:
        b.store.recall(made.task)
        task, shelved = b.ears.next("recalled")
        assert task == made.task
        return None if shelved is None else shelved.held

    with bench(tmp_path) as b:
        assert (recalled(whole), recalled(part)) == (0b11, None)
        assert recalled(Material(5, 9, "http://host/none")) is None
    age(paths[touched.task])
    monkeypatch.setattr(journal, "boot_id", lambda: "another boot")
    journals = {task: path.with_name("journal").read_bytes() for task, path in paths.items()}
    with bench(tmp_path) as b:
        assert (recalled(whole), recalled(part), recalled(touched)) == (0b11, None, None)
        assert b.read(whole) == whole.octets
        age(paths[whole.task])
        assert recalled(whole) is None, "it was touched since"
        assert journals == {task: path.with_name("journal").read_bytes() for task, path in paths.items()}
        # What is asked for is looked at with care, as ever.
        assert b.load(part).partial == {0: 0b1}
        assert b.load(touched).held == b.load(whole).held == 0b11
