"""Sizes, rates and durations as people type them."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfmq.cli.amounts import show_bytes, show_rate, show_seconds
from dfmq.cli.quantities import parse_duration, parse_rate, parse_size
from dfmq.errors import SettingsError


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("20MB", 20_000_000),
        ("1.5GiB", 3 << 29),
        ("1.5 gib", 3 << 29),
        ("64k", 64_000),
        ("64KiB", 65_536),
        ("4096", 4096),
        ("0", 0),
        ("none", 0),
        ("1152921504606846975", 2**60 - 1),
    ],
)
def test_sizes_have_decimal_and_binary_units(text: str, count: int) -> None:
    assert parse_size(text) == count


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("20MB/s", 20_000_000),
        ("200Mbit/s", 25_000_000),
        ("200Mbit", 25_000_000),
        ("1Gbit/s", 125_000_000),
        ("20MB", 20_000_000),
        ("1.5MiB/s", 3 << 19),
        ("500000", 500_000),
        ("0", 0),
        ("unlimited", 0),
    ],
)
def test_rates_are_bytes_or_bits_per_second(text: str, rate: int) -> None:
    assert parse_rate(text) == rate


def test_a_rate_that_may_be_bits_or_bytes_is_answered_with_both() -> None:
    with pytest.raises(SettingsError, match=r"200MB/s for bytes or 200Mbit/s for bits"):
        parse_rate("200Mb/s")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5m", 300), ("90s", 90), ("1h30m", 5400), ("10", 10), ("250ms", 0.25), ("1.5h", 5400), ("1d", 86400), ("0", 0)],
)
def test_durations_add_up(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("parse", [parse_size, parse_rate, parse_duration])
@pytest.mark.parametrize("text", ["", "-1", "MB", "20 parsecs", "1e9", "20MB0", "٣", "inf", "nan", "9" * 400])
def test_what_is_no_quantity_is_refused_with_the_text_in_it(parse: object, text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse(text)  # type: ignore[operator]
    assert repr(text) in str(caught.value)


@given(st.text(max_size=12))
def test_any_text_gives_a_bounded_number_or_a_settings_error(text: str) -> None:
    for parse, most in ((parse_size, 2**60), (parse_rate, 2**50), (parse_duration, 1e9 + 1)):
        with contextlib.suppress(SettingsError):
            assert 0 <= parse(text) < most


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1048575, "1.0 MiB"),
        (3 << 29, "1.5 GiB"),
        (2**62, "4096.0 PiB"),
    ],
)
def test_bytes_are_shown_in_the_unit_that_reads_best(count: int, text: str) -> None:
    assert show_bytes(count) == text
    assert show_rate(count) == text + "/s"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.042, "0.04 s"), (8.31, "8.3 s"), (59.97, "1m00s"), (200, "3m20s"), (3599.7, "1h00m"), (7500, "2h05m")],
)
def test_seconds_are_shown_without_more_digits_than_they_have(seconds: float, text: str) -> None:
    assert show_seconds(seconds) == text
