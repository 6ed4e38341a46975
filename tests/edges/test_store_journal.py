"""Journals that are torn, foreign, long or garbage."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.disk import Material, bench

from dfmq.edges.store import journal
from dfmq.edges.store.journal import ChunkLine, Opening, Stamp
from dfmq.errors import StoreError
from dfmq.model.ids import Generation
from dfmq.model.pieces import KIB, PieceMap
from dfmq.model.task import Content, Request

TASK = b"t" * 16
OPENING = Opening(
    journal.FORMAT_VERSION,
    TASK,
    "boot",
    Content(Generation(b"g" * 8), PieceMap(9_000, 4 * KIB, KIB)),
    Request(url="http://host/x"),
)
LINES = [ChunkLine(piece, chunk, bytes([piece * 4 + chunk]) * 16) for piece in range(2) for chunk in range(4)]
RECORDS = [
    journal.opening_record(OPENING),
    journal.chunks_record(LINES[:3]),
    journal.synced_record(100),
    journal.chunks_record(LINES[3:]),
    journal.sealed_record(9_000),
    journal.finished_record(Stamp(9_000, 1 << 60, 77)),
]
WHOLE = b"".join(RECORDS)


def test_a_whole_journal_tells_everything() -> None:
    story = journal.replay(WHOLE, TASK)
    assert story.opening == OPENING
    assert story.lines == LINES
    assert story.positions == [len(RECORDS[0])] * 3 + [len(b"".join(RECORDS[:3]))] * 5
    assert (story.synced, story.sealed, story.stamp) == (100, 9_000, Stamp(9_000, 1 << 60, 77))
    assert story.size == len(WHOLE)


def test_a_date_kept_before_its_strength_was_asked_is_a_weak_one() -> None:
    fields = msgspec.to_builtins(msgspec.structs.replace(OPENING, last_modified="yesterday"), builtin_types=(bytes,))
    del fields["strong_date"]
    opening = journal.replay(journal.opening_record(fields), TASK).opening
    assert (opening.last_modified, opening.strong_date) == ("yesterday", False)


def test_an_absurd_cut_is_no_journal_and_an_absurd_end_is_no_record() -> None:
    absurd = msgspec.structs.replace(OPENING, content=Content(Generation(b"g" * 8), PieceMap(2**59, 1, 1)))
    with pytest.raises(StoreError, match="the journal's cut is none: 576460752303423488 bytes are more"):
        journal.replay(journal.opening_record(absurd), TASK)
    story = journal.replay(RECORDS[0] + journal.sealed_record(2**59) + RECORDS[1], TASK)
    assert (story.sealed, story.lines) == (None, [])


def test_a_torn_tail_costs_only_what_is_torn_wherever_it_is_torn() -> None:
    ends = [len(b"".join(RECORDS[: count + 1])) for count in range(len(RECORDS))]
    for size in range(len(WHOLE)):
        if size < ends[0]:
            with pytest.raises(StoreError):
                journal.replay(WHOLE[:size], TASK)
            continue
        story = journal.replay(WHOLE[:size], TASK)
        assert story.size == max(end for end in ends if end <= size)
        assert story.lines == (LINES if size >= ends[3] else LINES[:3] if size >= ends[1] else [])


@given(st.integers(0, len(WHOLE) - 1), st.integers(1, 255))
def test_a_flipped_octet_never_makes_a_line_that_was_not_written(place: int, flip: int) -> None:
    octets = bytearray(WHOLE)
    octets[place] ^= flip
    try:
        story = journal.replay(bytes(octets), TASK)
    except StoreError:
        return
    assert story.lines == LINES[: len(story.lines)]
    assert story.opening == OPENING
    assert story.stamp is None or story.stamp.inode == 77


@given(st.binary(max_size=200), st.booleans())
def test_garbage_is_refused_or_ends_the_story(garbage: bytes, after_a_start: bool) -> None:
    octets = RECORDS[0] + garbage if after_a_start else garbage
    try:
        assert journal.replay(octets, TASK).lines == []
    except StoreError:
        assert not after_a_start


# What a msgpack body may hold at its worst, with a check that is right: another program's journal, or a bug's.
_WILD = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.binary(max_size=20) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=12,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None)
@given(kind=st.integers(-1, 7), body=_WILD)
def test_a_record_with_a_true_check_and_wild_content_does_no_harm(tmp_path: Path, kind: int, body: object) -> None:
    made = Material(9_000)
    content = msgspec.structs.replace(OPENING, task=made.task, content=made.content)
    wild = journal._record(abs(kind), msgspec.msgpack.encode(body))
    folder = tmp_path / "tasks" / made.task.hex()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "journal").write_bytes(journal.opening_record(content) + wild)
    (folder / "data").write_bytes(made.octets)
    with bench(tmp_path) as b:
        shelved = b.load(made)
        if shelved is not None:
            assert shelved.held >> 3 == 0
            assert set(shelved.partial) <= {0, 1, 2}


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"\x00" * 4096,
        b"not a journal",
        journal.opening_record(msgspec.structs.replace(OPENING, version=journal.FORMAT_VERSION + 1)),
        journal.opening_record(msgspec.structs.replace(OPENING, task=b"u" * 16)),
        journal.opening_record(
            msgspec.structs.replace(OPENING, content=Content(Generation(b"g" * 8), PieceMap(9_000, 4 * KIB, 0)))
        ),
        journal.chunks_record(LINES),
    ],
    ids=["empty", "zeros", "text", "version", "task", "cut", "headless"],
)
def test_a_journal_that_is_of_no_use_is_dropped_and_its_task_begun_anew(tmp_path: Path, octets: bytes) -> None:
    made = Material(9_000)
    if octets == journal.opening_record(msgspec.structs.replace(OPENING, version=journal.FORMAT_VERSION + 1)):
        octets = journal.opening_record(
            msgspec.structs.replace(OPENING, task=made.task, version=journal.FORMAT_VERSION + 1)
        )
    folder = tmp_path / "tasks" / made.task.hex()
    folder.mkdir(parents=True)
    (folder / "journal").write_bytes(octets)
    (folder / "data").write_bytes(made.octets)
    with bench(tmp_path) as b:
        assert b.load(made) is None
        assert b.store.tasks() == []
        b.fill(made)
        assert b.read(made) == made.octets


def test_a_torn_journal_is_written_on_after_its_last_true_record(tmp_path: Path) -> None:
    made = Material(9_000)
    with bench(tmp_path) as b:
        b.open(made)
        b.write(made, [(0, 0)])
        path = b.store.path(made.task).with_name("journal")
    with path.open("ab") as file:
        file.write(journal.chunks_record([ChunkLine(0, 1, bytes(16))])[:-3])
    with bench(tmp_path) as b:
        assert b.open(made)[:2] == (0, {0: 0b1})
        b.write(made, [(0, 2)])
    with bench(tmp_path) as b:
        assert b.load(made).partial == {0: 0b101}


def test_a_long_journal_becomes_short_when_it_is_loaded(tmp_path: Path) -> None:
    made = Material(9_000)
    with bench(tmp_path) as b:
        b.fill(made)
        path = b.store.path(made.task).with_name("journal")
    with path.open("ab") as file:
        for _ in range(5_000):
            file.write(journal.synced_record(0))
    with bench(tmp_path) as b:
        assert b.load(made).held == 0b111
        assert path.stat().st_size < 2_000
        assert b.read(made) == made.octets


def test_data_without_a_journal_is_nothing(tmp_path: Path) -> None:
    made = Material(9_000)
    folder = tmp_path / "tasks" / made.task.hex()
    folder.mkdir(parents=True)
    (folder / "data").write_bytes(made.octets)
    with bench(tmp_path) as b:
        assert b.load(made) is None
        assert b.open(made) == (0, {}, {})
