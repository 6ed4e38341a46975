"""Headers: from flags and from files, and never a secret in an error."""

from __future__ import annotations

from pathlib import Path

import pytest

from dfmq.cli.headers import read_headers
from dfmq.errors import SettingsError


def test_headers_come_from_the_file_and_the_flags_and_the_later_wins(tmp_path: Path) -> None:
    (tmp_path / "h").write_text("# mine\nAuthorization: Bearer one\n\nAccept:  text/plain \r\n")
    (tmp_path / "more").write_text("X-Api-Key: two: with colon\n")
    found = read_headers(["authorization: Bearer three", f"@{tmp_path / 'more'}"], str(tmp_path / "h"))
    assert found == (
        ("authorization", "Bearer three"),
        ("Accept", "text/plain"),
        ("X-Api-Key", "two: with colon"),
    )


@pytest.mark.parametrize(
    "text", ["Bearer s3cret", "s3cret header: x", ": s3cret", "A: s3cret\r\nB: c", "A: " + "s3cret" * 1000]
)
def test_a_faulty_header_is_refused_without_being_shown(text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read_headers([text])
    assert "s3cret" not in str(caught.value)


def test_a_faulty_line_of_a_file_is_named_by_its_number(tmp_path: Path) -> None:
    (tmp_path / "h").write_text("A: b\ns3cret\n")
    with pytest.raises(SettingsError, match=r"h, line 2: a header is written 'Name: value'") as caught:
        read_headers([f"@{tmp_path / 'h'}"])
    assert "s3cret" not in str(caught.value)


def test_a_missing_file_of_headers_is_named() -> None:
    with pytest.raises(SettingsError, match="/no/such': No such file"):
        read_headers(["@/no/such"])


def test_more_headers_than_the_bus_carries_are_refused() -> None:
    with pytest.raises(SettingsError, match="65 headers"):
        read_headers([f"X-{i}: y" for i in range(65)])
