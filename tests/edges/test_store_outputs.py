"""Outputs that are the store's own file under another name: handed out, renamed, touched, edited, set back."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.disk import Material, age, bench, edit_unseen, hand_out, overwrite

from dfmq.edges.store import journal, loading
from dfmq.edges.store.spans import LEAST_MAPPED_BYTES
from dfmq.errors import StoreError
from dfmq.model import bitfield


def test_a_second_name_is_served_without_a_map(tmp_path: Path) -> None:
    made = Material(LEAST_MAPPED_BYTES)
    with bench(tmp_path / "home") as b:
        b.fill(made)
        b.settle()
        assert isinstance(b.store.span(made.task, made.generation, 0, 1024), memoryview)
        hand_out(b, made, tmp_path / "output")
        # A map of it would kill us as soon as the user truncates the output.
        assert isinstance(b.store.span(made.task, made.generation, 0, 1024), bytes)
        assert b.read(made) == made.octets
        (tmp_path / "output").unlink()
        b.store.pin(made.task, True)
        assert b.ears.next("doubted") == (made.task,), "it may have been written to before"
        assert b.open(made)[0] == bitfield.full(made.content.cut.count)
        assert isinstance(b.store.span(made.task, made.generation, 0, 1024), memoryview)


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
            b.store.load(made.task)
            assert b.ears.next("damaged") == (made.task, "changed")
            assert b.ears.next("loaded") == (made.task, None)
            assert not b.store.path(made.task).exists()
    if is_started_anew:
        with bench(tmp_path / "home") as b:
            assert b.load(made) is None
    assert output.read_bytes() == made.octets + b"and more", "it is the user's"


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
        assert b.ears.next("doubted") == (made.task,)
        assert b.open(made)[0] == 0b11
        b.store.pin(made.task, True)
        # Nothing more is told: the new time is the file's stamp now.
        assert isinstance(b.store.span(made.task, made.generation, 0, 10), bytes)
        assert b.load(made).held == 0b11
    with bench(tmp_path / "home") as b:
        assert b.load(made).held == 0b11


@pytest.mark.parametrize("asks", ["open", "load"])
@pytest.mark.parametrize("is_set_back", [True, False])
def test_an_edited_output_is_not_given_to_the_next_who_asks(tmp_path: Path, asks: str, is_set_back: bool) -> None:
    made = Material(8192)
    with bench(tmp_path / "home") as b:
        b.fill(made)
        b.settle()
        hand_out(b, made, tmp_path / "output")
        edit_unseen(tmp_path / "output", 5000, b"edited")
        if not is_set_back:
            age(tmp_path / "output")
        b.store.pin(made.task, True)
        assert b.ears.next("doubted") == (made.task,)
        if asks == "load":
            b.store.load(made.task)
            assert b.ears.next("damaged") == (made.task, "changed")
            assert b.ears.next("loaded") == (made.task, None)
            assert b.open(made) == (0, {}, {})
        else:
            b.store.open(made.task, made.content, made.request)
            assert b.ears.next("damaged") == (made.task, "changed")
            assert b.ears.next("opened")[2:] == (0, {}, {})
        b.write(made, made.places())
        assert b.read(made) == made.octets
    assert b"edited" in (tmp_path / "output").read_bytes()


def test_an_output_that_was_edited_and_set_back_is_served_to_nobody(tmp_path: Path) -> None:
    made = Material(8192)
    with bench(tmp_path / "home") as b:
        b.fill(made)
        hand_out(b, made, tmp_path / "output")
        edit_unseen(tmp_path / "output", 5000, b"edited")
        assert b.store.span(made.task, made.generation, 0, 1024) == made.octets[:1024]
        with pytest.raises(StoreError, match="changed from outside"):
            b.store.span(made.task, made.generation, 4096, 1024)
        assert b.ears.next("damaged") == (made.task, "changed")


def test_handing_out_again_and_again_proves_nothing_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Material(8192)
    with bench(tmp_path / "home") as b:
        b.fill(made)
        monkeypatch.setattr(loading, "prove", lambda *_: pytest.fail("it is read"))
        for number in range(3):
            b.store.pin(made.task, True)
            hand_out(b, made, tmp_path / f"output{number}")
            b.store.pin(made.task, False)
            b.settle()
        # The client that replaces its own output takes one name away and gives another.
        path = b.store.path(made.task)
        before = path.stat().st_ctime_ns
        os.link(path, tmp_path / "new")
        (tmp_path / "new").replace(tmp_path / "output0")
        (tmp_path / "new").unlink()
        b.store.linked(made.task, made.generation, before, path.stat().st_ctime_ns)
        b.settle()
        b.store.pin(made.task, True)
        assert b.load(made).held == 0b11
    with bench(tmp_path / "home") as b:
        assert b.load(made).held == 0b11, "and the next life knows it too"


@pytest.mark.parametrize("lie", [(1, 2), (0, 0)])
def test_a_link_made_of_another_look_than_ours_is_not_believed(tmp_path: Path, lie: tuple[int, int]) -> None:
    made = Material(8192)
    with bench(tmp_path / "home") as b:
        b.fill(made)
        b.settle()
        output = tmp_path / "output"
        hand_out(b, made, output)
        edit_unseen(output, 5000, b"edited")
        before = output.stat().st_ctime_ns
        os.link(output, tmp_path / "another")
        for pair in ((before, output.stat().st_ctime_ns), lie):
            b.store.linked(made.task, made.generation, *pair)
        b.store.pin(made.task, True)
        assert b.ears.next("doubted") == (made.task,)


def test_a_finished_content_of_before_change_times_were_noted_is_believed_as_it_was(tmp_path: Path) -> None:
    made = Material(8192)
    with bench(tmp_path / "home") as b:
        b.fill(made)
        path = b.store.path(made.task)
    record = path.with_name("journal")
    story = journal.replay(record.read_bytes(), made.task)
    assert story.stamp is not None
    octets = journal.opening_record(story.opening) + journal.chunks_record(story.lines)
    record.write_bytes(octets + journal.finished_record(story.stamp[:3]))  # type: ignore[arg-type]
    assert journal.replay(record.read_bytes(), made.task).stamp == story.stamp._replace(ctime_ns=0)
    os.link(path, tmp_path / "output")
    with bench(tmp_path / "home") as b:
        assert b.load(made).held == 0b11
        b.store.pin(made.task, True)
        b.settle()
        edit_unseen(tmp_path / "output", 5000, b"edited")
        b.store.pin(made.task, True)
        assert b.ears.next("doubted") == (made.task,), "it is noted since"


@pytest.mark.parametrize("is_edited", [True, False])
def test_what_was_handed_out_and_renamed_is_recalled_and_proven_as_it_is_read(tmp_path: Path, is_edited: bool) -> None:
    made = Material(8192)
    with bench(tmp_path / "home") as b:
        b.fill(made)
        b.settle()
        hand_out(b, made, tmp_path / "output")
        (tmp_path / "output").rename(tmp_path / "elsewhere")
        if is_edited:
            edit_unseen(tmp_path / "elsewhere", 5000, b"edited")
        edit_unseen(tmp_path / "elsewhere", 0, made.octets[:1])
    with bench(tmp_path / "home") as b:
        b.store.recall(made.task)
        assert b.ears.next("recalled")[1].held == 0b11
        assert b.store.span(made.task, made.generation, 0, 1024) == made.octets[:1024]
        if is_edited:
            with pytest.raises(StoreError, match="changed from outside"):
                b.store.span(made.task, made.generation, 4096, 1024)
            assert b.ears.next("damaged") == (made.task, "changed")
        else:
            b.store.pin(made.task, True)
            assert b.ears.next("doubted") == (made.task,)
            assert b.open(made)[0] == 0b11
            b.store.pin(made.task, True)
            b.settle()


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
