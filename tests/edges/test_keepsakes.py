"""What a host keeps of itself between two lives of its node."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from dfmq.edges import keepsakes


def test_the_id_stays_and_one_that_is_none_is_made_anew(tmp_path: Path) -> None:
    first = keepsakes.host_id(tmp_path)
    assert keepsakes.host_id(tmp_path) == first
    (tmp_path / keepsakes.ID_FILE).write_bytes(b"short")
    made = keepsakes.host_id(tmp_path)
    assert made != first
    assert keepsakes.host_id(tmp_path) == made


def test_the_rate_comes_back_as_it_was_kept(tmp_path: Path) -> None:
    assert keepsakes.down_rate(tmp_path) == 0
    keepsakes.keep_down_rate(tmp_path, 25_000_000)
    assert keepsakes.down_rate(tmp_path) == 25_000_000
    assert [path.name for path in tmp_path.iterdir()] == [keepsakes.RATES_FILE]


def test_a_rate_that_has_not_changed_is_not_written_again(tmp_path: Path) -> None:
    keepsakes.keep_down_rate(tmp_path, 5)
    before = (tmp_path / keepsakes.RATES_FILE).stat()
    keepsakes.keep_down_rate(tmp_path, 5)
    assert (tmp_path / keepsakes.RATES_FILE).stat() == before


NONSENSE = [b"", b"\xff\x00", b"[1, 2]", b'{"down": -1}', b'{"down": "x"}', b'{"down": 1125899906842624}', b"{" * 999]


@pytest.mark.parametrize("text", NONSENSE)
def test_a_file_that_says_nothing_sensible_is_a_host_that_was_never_measured(tmp_path: Path, text: bytes) -> None:
    (tmp_path / keepsakes.RATES_FILE).write_bytes(text)
    assert keepsakes.down_rate(tmp_path) == 0
    keepsakes.keep_down_rate(tmp_path, 7)
    assert keepsakes.down_rate(tmp_path) == 7


def test_a_home_that_takes_no_file_ends_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / keepsakes.RATES_FILE).mkdir()
    with caplog.at_level(logging.WARNING):
        keepsakes.keep_down_rate(tmp_path, 7)
    assert "cannot keep the measured rate" in caplog.text
    assert keepsakes.down_rate(tmp_path) == 0
