"""What the store believes of an earlier life, and of a file that somebody else can write to."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from support.disk import Material, bench

from dfmq.edges.store import journal
from dfmq.edges.store.spans import LEAST_MAPPED_BYTES
from dfmq.errors import StoreError


def overwrite(path: Path, offset: int, octets: bytes) -> None:
    """Change a file as an editor without manners would."""
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(octets)


def age(path: Path) -> None:
    """Give the file another time: what a kernel's coarse clock may not do within one test."""
    os.utime(path, ns=(1, 1))


def test_in_the_same_boot_unsynced_lines_are_believed_unread(tmp_path: Path) -> None:
    made = Material(8192)
    with bench(tmp_path) as b:
        b.open(made)
        b.write(made, [(0, 0), (0, 1)])
        path = b.store.path(made.task)
    overwrite(path, 0, b"x")  # nobody reads it: the kernel still has the pages of a killed process
    with bench(tmp_path) as b:
        assert b.load(made).partial == {0: 0b11}


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
        # (0, 0) was proven, so it was on the disk: it stands below the sync mark now and is not read again.
        assert b.load(made).partial == {0: 0b11, 1: 0b1000}


def test_after_another_boot_synced_lines_are_believed_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Material(8192)
    with bench(tmp_path) as b:
        b.fill(made)
        b.wait_for_mark(made)
        path = b.store.path(made.task)
        stamp = path.stat()
    overwrite(path, 0, b"x")
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    monkeypatch.setattr(journal, "boot_id", lambda: "another boot")
    with bench(tmp_path) as b:
        assert b.load(made).held == 0b11


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


def test_a_second_name_is_served_without_a_map(tmp_path: Path) -> None:
    made = Material(LEAST_MAPPED_BYTES)
    with bench(tmp_path / "home") as b:
        b.fill(made)
        b.settle()
        assert isinstance(b.store.span(made.task, made.generation, 0, 1024), memoryview)
        os.link(b.store.path(made.task), tmp_path / "output")
        # A map of it would kill us as soon as the user truncates the output.
        assert isinstance(b.store.span(made.task, made.generation, 0, 1024), bytes)
        assert b.read(made) == made.octets
        (tmp_path / "output").unlink()
        assert isinstance(b.store.span(made.task, made.generation, 0, 1024), memoryview)


def test_a_short_file_is_not_mapped(tmp_path: Path) -> None:
    made = Material(LEAST_MAPPED_BYTES - 1)
    with bench(tmp_path) as b:
        b.fill(made)
        assert b.store.span(made.task, made.generation, 1000, 1024) == made.octets[1000:2024]
        assert isinstance(b.store.span(made.task, made.generation, 0, 1024), bytes)


@pytest.mark.parametrize("is_started_anew", [False, True])
def test_an_output_that_was_written_on_at_its_end_is_not_given_to_anybody_else(
    tmp_path: Path, is_started_anew: bool
) -> None:
    """Every chunk of it proves, but the file is no longer the content."""
    made = Material(8192)
    output = tmp_path / "output"
    with bench(tmp_path / "home") as b:
        b.fill(made)
        b.settle()
        os.link(b.store.path(made.task), output)
        overwrite(output, 8192, b"and more")
        if not is_started_anew:
            assert b.load(made) is None
            assert not b.store.path(made.task).exists()
    if is_started_anew:
        with bench(tmp_path / "home") as b:
            assert b.load(made) is None
    assert output.read_bytes() == made.octets + b"and more", "it is the user's"


def test_a_store_that_was_deleted_under_a_running_node_begins_anew(tmp_path: Path) -> None:
    made, other = Material(8192), Material(4096, 1, url="http://host/y")
    with bench(tmp_path) as b:
        b.fill(made)
        b.settle()
        shutil.rmtree(tmp_path / "tasks")
        assert b.load(made) is None
        b.fill(other)
        assert b.read(other) == other.octets
        b.fill(made)
        assert b.read(made) == made.octets


def test_an_edited_output_is_noticed_and_its_content_dropped(tmp_path: Path) -> None:
    made = Material(8192)
    with bench(tmp_path / "home") as b:
        b.fill(made)
        b.settle()
        os.link(b.store.path(made.task), tmp_path / "output")
        overwrite(tmp_path / "output", 5000, b"edited")
        age(tmp_path / "output")
        assert b.store.span(made.task, made.generation, 0, 1024) == made.octets[:1024]
        with pytest.raises(StoreError, match="changed from outside"):
            b.store.span(made.task, made.generation, 4096, 1024)
        assert b.ears.next("damaged") == (made.task, "changed")
        assert b.load(made) is None
        assert (tmp_path / "output").exists()


def test_a_truncated_output_is_noticed_and_its_content_dropped(tmp_path: Path) -> None:
    made = Material(8192)
    with bench(tmp_path / "home") as b:
        b.fill(made)
        b.settle()
        os.link(b.store.path(made.task), tmp_path / "output")
        os.truncate(tmp_path / "output", 4096)
        with pytest.raises(StoreError):
            b.store.span(made.task, made.generation, 4096, 1024)
        assert b.ears.next("damaged") == (made.task, "changed")


def test_an_output_that_was_only_touched_goes_on_being_served(tmp_path: Path) -> None:
    made = Material(8192)
    with bench(tmp_path / "home") as b:
        b.fill(made)
        b.settle()
        os.link(b.store.path(made.task), tmp_path / "output")
        age(tmp_path / "output")
        assert b.store.span(made.task, made.generation, 1000, 5000) == made.octets[1000:6000]
        b.store.pin(made.task, True)
        assert b.ears.next("damaged") == (made.task, "changed")
        assert b.open(made)[0] == 0b11
        b.store.pin(made.task, True)
        # Nothing more is told: the new time is the file's stamp now.
        assert isinstance(b.store.span(made.task, made.generation, 0, 10), bytes)
        assert b.load(made).held == 0b11
    with bench(tmp_path / "home") as b:
        assert b.load(made).held == 0b11


@pytest.mark.parametrize("asks", ["open", "load"])
def test_an_edited_output_is_not_given_to_the_next_who_asks(tmp_path: Path, asks: str) -> None:
    made = Material(8192)
    with bench(tmp_path / "home") as b:
        b.fill(made)
        b.settle()
        os.link(b.store.path(made.task), tmp_path / "output")
        overwrite(tmp_path / "output", 5000, b"edited")
        age(tmp_path / "output")
        b.store.pin(made.task, True)
        assert b.ears.next("damaged") == (made.task, "changed")
        if asks == "load":
            assert b.load(made) is None
        assert b.open(made) == (0, {}, {})
        b.write(made, made.places())
        assert b.read(made) == made.octets
    assert b"edited" in (tmp_path / "output").read_bytes()


@pytest.mark.parametrize("is_edited", [True, False])
def test_what_happened_while_we_were_away_is_noticed_too(tmp_path: Path, is_edited: bool) -> None:
    made = Material(8192)
    with bench(tmp_path / "home") as b:
        b.fill(made)
        os.link(b.store.path(made.task), tmp_path / "output")
    if is_edited:
        overwrite(tmp_path / "output", 5000, b"edited")
    age(tmp_path / "output")
    with bench(tmp_path / "home") as b:
        shelved = b.load(made)
        if is_edited:
            assert shelved is None
            assert b.store.tasks() == []
        else:
            assert shelved.held == 0b11
            b.store.pin(made.task, True)
            b.settle()


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
        assert (recalled(whole), recalled(part)) == (0b11, 0)
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
