"""How many hosts a broker had, over its lives."""

from __future__ import annotations

from pathlib import Path

import pytest

from dfmq.edges.census import FILE, MOST, NOTABLE, Census


def test_a_first_life_knows_of_no_hosts_and_writes_nothing(tmp_path: Path) -> None:
    assert Census(tmp_path).hosts == 0
    assert list(tmp_path.iterdir()) == []


def test_the_next_life_begins_with_half_of_what_there_was(tmp_path: Path) -> None:
    census = Census(tmp_path)
    for hosts in range(1001):
        census.note(hosts)
    said = int((tmp_path / FILE).read_text())
    assert 1000 / NOTABLE <= said <= 1000
    assert Census(tmp_path).hosts == said // 2


def test_a_fleet_that_shrank_is_forgotten_after_some_restarts(tmp_path: Path) -> None:
    Census(tmp_path).note(2000)
    for _ in range(11):
        census = Census(tmp_path)
        census.note(max(3, census.hosts))
    assert Census(tmp_path).hosts <= 3


def test_a_life_in_which_nobody_came_changes_nothing(tmp_path: Path) -> None:
    Census(tmp_path).note(2000)
    for _ in range(5):
        Census(tmp_path).note(0)
    assert Census(tmp_path).hosts == 1000


@pytest.mark.parametrize("text", ["", "many", "-5", str(MOST + 1), "9" * 5000, "\N{SUPERSCRIPT TWO}"])
def test_a_file_that_says_no_number_of_hosts_counts_for_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text, encoding="utf-8")
    census = Census(tmp_path)
    assert census.hosts == 0
    census.note(7)
    assert Census(tmp_path).hosts == 3


def test_a_home_that_cannot_be_written_is_no_reason_to_fail(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    census = Census(tmp_path / "nowhere")
    census.note(7)
    assert "cannot be written" in caplog.text
