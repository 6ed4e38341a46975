"""Outputs: how they are made, and what stands there when that fails."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest
from support.disk import small_disk

from dfmq.edges import output
from dfmq.edges.output import place
from dfmq.edges.targets import check_target
from dfmq.errors import NoSpace, SettingsError, StoreError

OCTETS = os.urandom(3 << 20)


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    folder = tmp_path / "store"
    folder.mkdir()
    (folder / "data").write_bytes(OCTETS)
    return folder / "data"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "outputs"
    made.mkdir()
    return made


def alone(target: Path) -> bool:
    """Nothing else is in the target's directory."""
    return [entry.name for entry in target.parent.iterdir()] == [target.name]


def test_an_output_is_the_content_by_whatever_way_there_is(
    stored: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = folder / "out"
    assert place(stored, target) in ("reflink", "hardlink")
    assert target.read_bytes() == OCTETS and alone(target)
    monkeypatch.setattr(output, "_clone", lambda source, copy: False)
    assert place(stored, target) == "hardlink"
    # Once more: the output is the stored file already, and rename does nothing between two names of one file.
    assert place(stored, target) == "hardlink"
    assert target.samefile(stored) and alone(target)
    assert place(stored, target, copy_only=True) == "copy"
    assert not target.samefile(stored) and target.read_bytes() == OCTETS and alone(target)
    monkeypatch.setattr(output, "_link", lambda stored, temporary: False)
    monkeypatch.setattr(os, "copy_file_range", fail_with(OSError(22, "Invalid argument")))
    assert place(stored, target) == "copy"
    assert target.read_bytes() == OCTETS and alone(target)


def fail_with(error: BaseException) -> Any:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    return fail


def test_an_empty_content_makes_an_empty_output(stored: Path, folder: Path) -> None:
    stored.write_bytes(b"")
    for copy_only in (False, True):
        place(stored, folder / "out", copy_only=copy_only)
        assert (folder / "out").read_bytes() == b""


def test_a_copy_has_the_mode_of_any_new_file(stored: Path, folder: Path) -> None:
    stored.chmod(0o600)
    old = os.umask(0o027)
    try:
        place(stored, folder / "out", copy_only=True)
    finally:
        os.umask(old)
    assert (folder / "out").stat().st_mode & 0o777 == 0o640


def test_a_symbolic_link_stays_one(stored: Path, folder: Path) -> None:
    (folder / "real").write_text("old")
    (folder / "link").symlink_to("real")
    place(stored, folder / "link")
    assert (folder / "link").is_symlink()
    assert (folder / "real").read_bytes() == OCTETS


def test_streams_are_written_into_and_not_replaced(stored: Path, folder: Path) -> None:
    assert place(stored, Path("/dev/null")) == "stream"
    assert Path("/dev/null").is_char_device()
    pipe = folder / "pipe"
    os.mkfifo(pipe)
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    place(stored, pipe)
    reader.join()
    assert got == [OCTETS]
    assert pipe.is_fifo()


@pytest.mark.parametrize("exception", [KeyboardInterrupt(), SystemExit(143), OSError(5, "Input/output error")])
def test_whatever_ends_it_early_leaves_the_old_output_and_nothing_else(
    stored: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, exception: BaseException
) -> None:
    target = folder / "out"
    target.write_text("old")
    monkeypatch.setattr(os, "replace", fail_with(exception))
    for copy_only in (False, True):
        with pytest.raises(StoreError if isinstance(exception, OSError) else type(exception)):
            place(stored, target, copy_only=copy_only)
        assert target.read_text() == "old" and alone(target)


def test_targets_that_cannot_be_are_told_apart_before_anything_is_fetched(folder: Path) -> None:
    (folder / "file").write_text("")
    for target, reason in {
        folder: "is a directory",
        folder / "none" / "out": "mkdir -p",
        folder / "file" / "out": "not a directory",
        folder / ("ä" * 200): "too long",
        folder / "a\0b": "-o",
    }.items():
        with pytest.raises(SettingsError, match=reason):
            check_target(target)
    check_target(folder / ("ä" * 127))
    check_target(folder / "file")


def test_a_name_as_long_as_names_get_can_be_made(stored: Path, folder: Path) -> None:
    target = folder / ("n" * 255)
    place(stored, target)
    assert alone(target)


def test_a_directory_we_may_not_write_to_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write everywhere
    with pytest.raises(SettingsError, match="may not write"):
        check_target(folder / "out")


def test_a_full_disk_is_told_and_the_old_output_stays(stored: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", "size=1m") as small:
        if small is None:
            pytest.skip("mounting needs root")
        target = small / "out"
        target.write_text("old")
        with pytest.raises(NoSpace, match="need not be fetched again"):
            place(stored, target)
        assert target.read_text() == "old" and alone(target)


def test_a_store_whose_file_is_gone_says_so(stored: Path, folder: Path) -> None:
    stored.unlink()
    with pytest.raises(StoreError, match="ask for the content again"):
        place(stored, folder / "out")
    assert list(folder.iterdir()) == []


def test_an_output_has_the_mode_its_users_files_have(
    stored: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever started the peer had another umask."""
    monkeypatch.setattr(output, "_clone", lambda source, copy, devices: False)
    before = os.umask(0o077)
    try:
        stored.chmod(0o644)
        assert place(stored, folder / "mine") == "copy"
        stored.chmod(0o600)
        assert place(stored, folder / "linked") == "hardlink"
        os.umask(0o022)
        assert place(stored, folder / "everybodys") == "copy"
    finally:
        os.umask(before)
    assert [oct((folder / name).stat().st_mode & 0o777) for name in ("mine", "linked", "everybodys")] == [
        "0o600", "0o600", "0o644",
    ]  # fmt: skip
