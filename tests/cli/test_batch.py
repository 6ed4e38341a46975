"""A list: what its lines mean, and that each faulty one is named and hinders no other."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfmq.cli.batch import Plan, parse_line, read_list
from dfmq.cli.request import Maker
from dfmq.errors import SettingsError

SHA = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("line", "fields"),
    [
        ("http://h/a", ("http://h/a", "", "")),
        ("  http://h/a\tout  \r", ("http://h/a", "out", "")),
        (f"http://h/a out {SHA}", ("http://h/a", "out", SHA)),
        (f"http://h/a {SHA}", ("http://h/a", "", SHA)),
        ("http://h/a 'two words' # why", ("http://h/a", "two words", "")),
        ("http://h/a#part a#b", ("http://h/a#part", "a#b", "")),
        (r"http://h/a two\ words", ("http://h/a", "two words", "")),
        ('"http://h/it\'s" x', ("http://h/it's", "x", "")),
        ("\ufeffhttp://h/a", ("http://h/a", "", "")),
        ("http://h/ü 名前", ("http://h/ü", "名前", "")),
    ],
)
def test_a_line_is_url_output_and_digest(line: str, fields: tuple[str, str, str]) -> None:
    assert parse_line(line.encode()) == fields


@pytest.mark.parametrize("line", ["", "   \t", "# http://h/a", "  # b"])
def test_blank_lines_and_comments_are_nothing(line: str) -> None:
    assert parse_line(line.encode()) is None


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"http://h/a one two", "quote a name that has blanks"),
        (b"http://h/a 'one", "quotes do not match"),
        (b"http://h/\xff", "not UTF-8"),
        (b"http://h/" + b"a" * 40_000, "at most 32768"),
    ],
)
def test_a_faulty_line_says_why(line: bytes, why: str) -> None:
    with pytest.raises(SettingsError, match=why):
        parse_line(line)


@given(st.binary(max_size=60))
def test_any_line_is_fields_or_nothing_or_a_settings_error(line: bytes) -> None:
    try:
        parsed = parse_line(line)
    except SettingsError:
        return
    assert parsed is None or len(parsed) == 3


def plan_of(directory: Path, *lines: str) -> Plan:
    plan = Plan(directory, lambda target: None)
    plan.add_all([line.encode() for line in lines], Maker())
    return plan


def test_each_faulty_line_is_named_and_the_others_are_done(tmp_path: Path) -> None:
    plan = plan_of(
        tmp_path,
        "http://h/a",
        "not-a-url",
        "# comment",
        "ftp://h/b",
        "http://h/c c sha256:123",
        "http://h/d dir/",
        "http://h/e -",
        "http://h/f",
    )
    assert [faulty.number for faulty in plan.faulty] == [2, 4, 5, 6, 7]
    assert [(e.line, e.target) for e in plan.errands(Maker())] == [(1, tmp_path / "a"), (8, tmp_path / "f")]


def test_the_same_line_twice_is_done_once_with_a_note(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "http://h/a", f"http://h/a {tmp_path}/a", "http://h/a other")
    assert plan.notes == ["line 2: the same as line 1, done once"]
    assert len(plan) == 2
    assert not plan.faulty


@pytest.mark.parametrize("later", ["http://other/a", "http://h/b ./x/../a", f"http://h/a a {SHA}"])
def test_one_output_for_two_contents_is_the_later_lines_fault(tmp_path: Path, later: str) -> None:
    plan = plan_of(tmp_path, "http://h/a", later)
    assert [faulty.number for faulty in plan.faulty] == [2]
    assert f"output {tmp_path / 'a'} is that of line 1 (http://h/a) already" in str(plan.faulty[0].error)


def test_any_number_of_contents_may_go_nowhere(tmp_path: Path) -> None:
    """Only the store is to have them."""
    (tmp_path / "nowhere").symlink_to("/dev/null")
    plan = plan_of(
        tmp_path, "http://h/a /dev/null", "http://h/b /dev/null", "http://h/c nowhere", "http://h/b /dev/null"
    )
    assert (len(plan), plan.faulty) == (3, [])
    assert len(plan.notes) == 1


def test_an_output_is_the_same_by_whatever_link_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "way").symlink_to(tmp_path / "folder")
    (tmp_path / "link").symlink_to(tmp_path / "folder" / "a")
    plan = plan_of(tmp_path, "http://h/a folder/a", "http://h/b way/a", "http://h/b link", "http://h/a way/a")
    assert [faulty.number for faulty in plan.faulty] == [2, 3]
    assert plan.notes == ["line 4: the same as line 1, done once"]


def test_names_that_come_from_a_url_stay_in_the_directory(tmp_path: Path) -> None:
    plan = plan_of(
        tmp_path, "http://h/%2e%2e", "http://h/x/..%2f..%2fetc", "http://h/" + "n" * 300, "http://h/a%20b%3f"
    )
    targets = [errand.target for errand in plan.errands(Maker())]
    assert not plan.faulty
    assert all(target is not None and target.parent == tmp_path for target in targets)


def test_ten_thousand_lines_are_read_in_a_moment(tmp_path: Path) -> None:
    begun = time.process_time()
    plan = plan_of(tmp_path, *(f"http://h/dir/file-{i}?x={i} out-{i}" for i in range(10_000)))
    assert len(plan) == 10_000
    assert time.process_time() - begun < 3


def test_a_list_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="none: No such file"):
        read_list(str(tmp_path / "none"))
    with pytest.raises(SettingsError, match="Is a directory"):
        read_list(str(tmp_path))


def test_a_list_on_a_closed_standard_input_is_no_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(SettingsError, match="standard input is closed"):
        read_list("-")
