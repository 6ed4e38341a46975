"""The token bucket and the rate meter."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfmq.machines.peer.limits import RateMeter, TokenBucket

MB = 1_000_000


def test_without_a_limit_nobody_waits() -> None:
    bucket = TokenBucket(0)
    bucket.take(10**12, 0.0)
    assert bucket.ready_in(10**12, 0.0) == 0.0


def test_a_burst_goes_at_once_and_then_the_rate_holds() -> None:
    bucket = TokenBucket(MB, burst_seconds=0.5)
    assert bucket.ready_in(MB // 2, 10.0) == 0.0
    bucket.take(MB // 2, 10.0)
    assert bucket.ready_in(MB // 4, 10.0) == pytest.approx(0.25)
    assert bucket.ready_in(MB // 4, 10.25) == 0.0


def test_a_request_larger_than_the_burst_goes_when_the_bucket_is_full_and_is_paid_for_later() -> None:
    bucket = TokenBucket(MB, burst_seconds=0.1)
    assert bucket.ready_in(MB, 0.0) == 0.0
    bucket.take(MB, 0.0)
    assert bucket.ready_in(1, 0.0) == pytest.approx(0.9, abs=1e-5)
    assert bucket.ready_in(MB, 0.5) == pytest.approx(0.5)
    assert bucket.ready_in(MB, 1.0) == 0.0


def test_another_rate_holds_at_once_and_debts_stay() -> None:
    bucket = TokenBucket(MB, burst_seconds=0.1)
    bucket.take(MB, 0.0)
    bucket.set_rate(9 * MB, 0.0)
    assert bucket.ready_in(1, 0.0) == pytest.approx(0.1, abs=1e-5)
    bucket.set_rate(0, 0.0)
    assert bucket.ready_in(MB, 0.0) == 0.0
    bucket.set_rate(MB, 1.0)
    assert bucket.ready_in(MB // 10, 1.0) == 0.0
    bucket.take(MB // 10, 1.0)
    assert bucket.ready_in(MB // 10, 1.0) == pytest.approx(0.1)


requests = st.lists(st.tuples(st.integers(1, 3_000_000), st.floats(0, 2)), min_size=1, max_size=60)


@given(rate=st.integers(1, 10**10), burst=st.floats(0.001, 2), asked=requests, start=st.floats(0, 1e7))
def test_over_any_span_no_more_goes_than_rate_and_burst_allow(
    rate: int, burst: float, asked: list[tuple[int, float]], start: float
) -> None:
    bucket = TokenBucket(rate, burst)
    now, went = start, []
    for size, pause in asked:
        now += pause
        wait = bucket.ready_in(size, now)
        assert wait >= 0
        now += wait
        # waiting as told is enough, but for what a float clock cannot tell
        assert bucket.ready_in(size, now) <= 1e-6
        bucket.take(size, now)
        bucket.check()
        went.append((now, size))
    largest = max(size for _, size in went)
    for first in range(len(went)):
        for last in range(first, len(went)):
            span = went[last][0] - went[first][0]
            taken = sum(size for _, size in went[first : last + 1])
            error = 2 + rate * 4e-9 * (last - first + 1)
            assert taken <= rate * span + max(rate * burst, largest) + error


@given(rate=st.integers(1000, 10**9), sizes=st.lists(st.integers(1, 3_000_000), min_size=2, max_size=60))
def test_a_busy_bucket_wastes_nothing(rate: int, sizes: list[int]) -> None:
    """Work-conserving: whoever always asks gets the whole rate."""
    bucket, now = TokenBucket(rate, 0.1), 0.0
    for size in sizes:
        now += bucket.ready_in(size, now)
        bucket.take(size, now)
    # what is not yet due is at most the last request
    assert now <= (sum(sizes) - min(sizes[-1], rate * 0.1) + 2 * len(sizes)) / rate + 1e-6


def test_a_meter_keeps_its_maximum_while_the_host_rests_and_lets_it_fade_while_it_works() -> None:
    meter = RateMeter()
    assert meter.rate(0.0) == 0
    now = 0.0
    while now < 3.0:
        meter.add(MB, now)
        now += 0.1
    assert meter.rate(now) == pytest.approx(10 * MB, rel=0.15)
    assert meter.rate(now + 3600.0) == pytest.approx(10 * MB, rel=0.15)
    now = 4000.0
    while now < 4030.0:
        meter.add(MB // 10, now)
        now += 0.1
    assert meter.rate(now) == pytest.approx(5 * MB, rel=0.2)
    meter.check()


@given(st.lists(st.tuples(st.integers(0, 10**9), st.floats(0, 3)), min_size=1, max_size=50))
def test_a_meter_never_says_more_than_went_by_in_some_second(went: list[tuple[int, float]]) -> None:
    meter, now, seen = RateMeter(), 0.0, []
    for size, pause in went:
        now += pause
        meter.add(size, now)
        seen.append((now, size))
        meter.check()
        most = max(sum(size for at, size in seen if end - 1.0 < at <= end) for end, _ in seen)
        assert meter.rate(now) <= most


def test_what_an_earlier_life_measured_is_expected_until_this_one_shows_it() -> None:
    meter = RateMeter(remembered=16 * MB)
    assert (meter.rate(0.0), meter.expected(0.0)) == (0, 16 * MB)
    assert meter.expected(3600.0) == 16 * MB, "a host that rests forgets nothing"
    now = 4000.0
    for _ in range(10):
        meter.add(MB // 10, now)
        now += 0.1
    assert meter.expected(now) == pytest.approx(8 * MB, rel=0.1), "halved in a second of traffic"
    for _ in range(40):
        meter.add(MB // 10, now)
        now += 0.1
    assert meter.expected(now) == meter.rate(now) == pytest.approx(MB, rel=0.1)


def test_a_later_life_begins_with_the_best_second_of_this_one() -> None:
    meter, now = RateMeter(), 0.0
    for size in [2 * MB] * 20 + [1000] * 3000:
        meter.add(size, now)
        now += 0.1
    assert meter.rate(now) < MB
    assert meter.lasting == pytest.approx(20 * MB, rel=0.15)


def test_one_bad_night_halves_what_is_remembered_and_one_without_work_leaves_it() -> None:
    bad, idle, first = RateMeter(16 * MB), RateMeter(16 * MB), RateMeter()
    for tenth in range(100):
        bad.add(MB // 10, tenth / 10)
        idle.add(1000, tenth / 10)
        first.add(1000, tenth / 10)
    assert bad.lasting == 8 * MB
    assert idle.lasting == 16 * MB
    assert first.lasting == 0, "small files say nothing of a way"


@given(st.integers(0, 10**9), st.lists(st.tuples(st.integers(0, 10**9), st.floats(0, 3)), min_size=1, max_size=50))
def test_what_is_expected_lies_between_what_is_measured_and_what_was(
    remembered: int, went: list[tuple[int, float]]
) -> None:
    meter, now = RateMeter(remembered), 0.0
    for size, pause in went:
        now += pause
        meter.add(size, now)
        assert meter.rate(now) <= meter.expected(now) <= max(meter.rate(now), remembered)
        assert meter.lasting >= remembered // 2
