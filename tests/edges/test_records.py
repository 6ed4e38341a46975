"""The journal of records: what is written, and what is only counted."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from dfmq.edges import journal as journal_module
from dfmq.edges.journal import MOST_AT_ONCE, MOST_ROUTINE, Journal


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_record_is_a_line_with_short_ids(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl", "broker")
    journal.add("lease.failed", {"task": bytes(range(16)), "code": "stalled"})
    journal.close()
    (line,) = lines(tmp_path / "journal.jsonl")
    assert line.pop("at") > 0
    assert line == {"node": "broker", "record": "lease.failed", "task": "00010203", "code": "stalled"}


def test_what_happens_seldom_is_written_at_once_with_all_that_waited(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl", "peer")
    journal.add("piece.held", {"piece": 1})
    assert not lines(tmp_path / "journal.jsonl")
    journal.add("stream.stalled", {"piece": 2})
    assert [line["piece"] for line in lines(tmp_path / "journal.jsonl")] == [1, 2]
    journal.close()


@pytest.mark.parametrize("taken", [1, 30, -1])
def test_a_line_of_which_a_full_disk_took_a_part_is_completed_before_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: int
) -> None:
    journal = Journal(tmp_path / "journal.jsonl", "peer")
    plain = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: plain(fd, data[:taken]))
    journal.add("stream.stalled", {"piece": 1})
    monkeypatch.setattr(os, "write", plain)
    journal.add("stream.stalled", {"piece": 2})
    journal.close()
    assert [line["piece"] for line in lines(tmp_path / "journal.jsonl")] == [1, 2]


@pytest.mark.parametrize("taken", [0, 30])
def test_a_disk_that_was_full_for_a_while_loses_the_records_of_that_time_and_says_how_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: int
) -> None:
    """`taken`: octets of the first record that is refused, which were written."""
    journal = Journal(tmp_path / "journal.jsonl", "peer")
    journal.add("stream.stalled", {"piece": 0})
    plain, rooms = os.write, [taken]

    def refuse(fd: int, data: bytes) -> int:
        if rooms and (room := rooms.pop()):
            return plain(fd, data[:room])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", refuse)
    for piece in range(1, 6):
        journal.add("stream.stalled", {"piece": piece})
        journal.flush()
    monkeypatch.setattr(os, "write", plain)
    journal.add("stream.stalled", {"piece": 6})
    journal.flush()
    journal.close()
    written = lines(tmp_path / "journal.jsonl")
    assert [line["piece"] for line in written if "piece" in line] == ([0, 1, 6] if taken else [0, 6])
    assert [line["count"] for line in written if line["record"] == "records.omitted"] == [4 if taken else 5]


def test_a_full_journal_that_cannot_be_moved_away_hinders_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The home may be deleted under a running node."""
    monkeypatch.setattr(journal_module, "MOST_BYTES", 100)
    journal = Journal(tmp_path / "journal.jsonl", "peer")
    (tmp_path / "journal.jsonl").unlink()
    for number in range(5):
        journal.add("get.done", {"get": number, "text": "x" * 50})
    journal.close()


def test_records_of_every_lease_are_left_out_when_they_are_too_many_and_counted(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl", "broker")
    for number in range(MOST_ROUTINE + 7):
        journal.add("lease.granted", {"lease": number})
        journal.add("lease.failed", {"lease": number})
    journal.flush()
    journal.add("lease.granted", {"lease": 1000})
    journal.close()
    written = lines(tmp_path / "journal.jsonl")
    assert [line["lease"] for line in written if line["record"] == "lease.granted"] == [*range(MOST_ROUTINE), 1000]
    assert sum(line["record"] == "lease.failed" for line in written) == MOST_ROUTINE + 7
    assert [line["count"] for line in written if line["record"] == "records.omitted"] == [7]


def test_of_seldom_records_that_come_in_a_storm_the_later_ones_wait(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl", "peer")
    for number in range(MOST_AT_ONCE + 5):
        journal.add("get.done", {"get": number})
    assert len(lines(tmp_path / "journal.jsonl")) == MOST_AT_ONCE
    journal.flush()
    assert [record["get"] for record in lines(tmp_path / "journal.jsonl")] == list(range(MOST_AT_ONCE + 5))
    journal.add("get.done", {"get": 99})
    assert lines(tmp_path / "journal.jsonl")[-1]["get"] == 99, "the storm is over"
    journal.close()
