"""How long an answer may be used, and when to come back."""

from __future__ import annotations

import pytest

from dfmq.edges.source.answers import retry_after
from dfmq.edges.source.freshness import IMMUTABLE_SECONDS, fresh_seconds

DATE = "Mon, 23 Nov 2026 10:00:00 GMT"
HOUR_LATER = "Mon, 23 Nov 2026 11:00:00 GMT"


@pytest.mark.parametrize(
    ("cache_control", "age", "expires", "fresh"),
    [
        ("", "", "", None),
        ("public", "", "", None),
        ("max-age=60", "", "", 60.0),
        ("Max-Age=60, must-revalidate", "20", "", 40.0),
        ("max-age=60", "90", "", 0.0),
        ("max-age=60, s-maxage=600", "", HOUR_LATER, 600.0),
        ('max-age="60"', "", "", 60.0),
        ("max-age=soon", "", HOUR_LATER, 0.0),
        ("no-cache, max-age=60", "", "", 0.0),
        ("no-store, immutable", "", "", 0.0),
        ("max-age=60, immutable", "", "", IMMUTABLE_SECONDS),
        ("", "600", HOUR_LATER, 3000.0),
        ("", "", DATE, 0.0),
        ("", "", "0", 0.0),
    ],
)
def test_freshness_is_what_a_shared_cache_reads(
    cache_control: str, age: str, expires: str, fresh: float | None
) -> None:
    assert fresh_seconds(cache_control, age, expires, DATE) == fresh


@pytest.mark.parametrize(
    ("said", "seconds"),
    [("", None), ("soon", None), ("-1", None), ("0", 0.0), ("120", 120.0), ("9" * 40, 86400.0), (HOUR_LATER, 3600.0)],
)
def test_retry_after_is_seconds_or_a_date(said: str, seconds: float | None) -> None:
    assert retry_after({"Retry-After": said, "Date": DATE}) == seconds
