"""What the broker makes of measured rates: nobody is shut out by a measure that shutting out keeps low."""

from __future__ import annotations

from dfmq.machines.broker.rates import WEAK_REPORTS, Rates

FAST = 2_500_000


def swarm() -> Rates:
    rates = Rates()
    for index in range(4):
        rates.join(index, 4, False, 0, 0)
        rates.report(index, FAST, 0, 3, False)
    return rates


def test_a_loaded_peer_that_sends_little_for_long_counts_as_a_slow_parent() -> None:
    rates = swarm()
    for _ in range(WEAK_REPORTS):
        rates.report(0, FAST, FAST // 20, 3, True)
    assert rates.slower_than(1) == 0b0001


def test_a_peer_that_has_just_begun_to_pass_on_is_no_slow_parent_yet() -> None:
    rates = swarm()
    for _ in range(WEAK_REPORTS - 1):
        rates.report(0, FAST, FAST // 20, 3, True)
    assert rates.slower_than(1) == 0


def test_a_peer_once_taken_for_slow_is_tried_again_when_it_is_left_alone() -> None:
    rates = swarm()
    for _ in range(5 * WEAK_REPORTS):
        rates.report(0, FAST, FAST // 20, 3, True)
    rates.report(0, FAST, FAST // 20, 3, False)
    assert rates.slower_than(1) == 0
