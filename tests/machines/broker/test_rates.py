"""A slot is bandwidth: what streams cost, who is slow, and how nobody is taken for slow who only had slow parents."""

from __future__ import annotations

from dfmq.machines.broker.rates import LEAST_COST, WEAK_REPORTS, Rates
from dfmq.machines.broker.slots import SLOT

MB = 1_000_000


def cost(rates: Rates, child: int, parent: int) -> int:
    return rates.terms(child, parent, MB)[0]


def rates_of(*down: int, seed_up: int = 0) -> Rates:
    """Peers 1… with these rates both ways; 0 is a seed."""
    rates = Rates()
    rates.join(0, 32, True, 0, 0, 0)
    for index, rate in enumerate(down, 1):
        rates.join(index, 4, False, 0, 0, 0)
        rates.report(index, rate, rate, 3, is_loaded=True)
    if seed_up:
        rates.report(0, 0, seed_up, 0, is_loaded=True)
    rates.check()
    return rates


def test_a_stream_costs_the_lesser_rate_in_shares_of_the_parents() -> None:
    rates = rates_of(10 * MB, 10 * MB, 1 * MB, 10 * MB, 200 * MB)
    assert cost(rates, child=1, parent=2) == SLOT
    assert cost(rates, child=3, parent=1) == SLOT // 10
    assert cost(rates, child=1, parent=3) == SLOT, "a slow parent is full with one quick child"
    assert cost(rates, child=3, parent=5) == LEAST_COST


def test_without_known_rates_a_stream_is_a_slot() -> None:
    rates = rates_of(0, 10 * MB)
    assert cost(rates, child=1, parent=2) == cost(rates, child=2, parent=1) == SLOT


def test_a_seeds_slots_are_those_of_usual_peers() -> None:
    rates = rates_of(*[10 * MB] * 5, 1 * MB)
    assert rates.capacity(0) == 32 * SLOT
    assert (cost(rates, child=1, parent=0), cost(rates, child=6, parent=0)) == (SLOT, SLOT // 10)


def test_a_seed_that_serves_more_than_its_slots_say_gets_more() -> None:
    assert rates_of(*[10 * MB] * 5, seed_up=200 * MB).capacity(0) == 75 * SLOT


def test_slots_grow_with_what_children_keep_in_flight() -> None:
    rates = rates_of(10 * MB)
    assert rates.capacity(1) == 3 * SLOT
    rates.report(1, 0, 0, 9, is_loaded=False)
    assert rates.capacity(1) == 9 * SLOT


def test_slow_is_below_a_quarter_of_the_median_and_no_less() -> None:
    rates = rates_of(*[12 * MB] * 4, 3 * MB, 2 * MB)
    assert rates.slow == 1 << 6
    assert rates.report(6, 12 * MB, 0, 3, is_loaded=False) == 1, "a better parent now"
    assert rates.slow == 0


def test_a_report_says_whether_the_peer_is_a_better_parent_now_or_a_worse() -> None:
    rates = rates_of(10 * MB, 0)
    assert rates.report(2, 4 * MB, 0, 3, is_loaded=False) == -1, "who is not known is taken for good"
    assert rates.report(2, 4 * MB + 1, 0, 3, is_loaded=False) == 0
    assert rates.report(2, 10 * MB, 0, 3, is_loaded=False) == 1
    assert rates.report(2, 4 * MB, 0, 3, is_loaded=False) == -1
    rates.check()


def test_too_few_known_rates_have_no_median() -> None:
    assert rates_of(10 * MB, 1 * MB).slow == 0


def test_a_parent_is_slower_only_beyond_the_noise_of_measuring() -> None:
    rates = rates_of(12 * MB, 7 * MB, 3 * MB)
    assert rates.slower_than(1) == 1 << 3


def test_a_peer_that_nobody_asked_for_more_is_no_slow_parent() -> None:
    rates = rates_of(10 * MB, 10 * MB)
    for _ in range(WEAK_REPORTS):
        rates.report(2, 10 * MB, 1 * MB, 3, is_loaded=False)
    assert rates.slower_than(1) == 0


def test_an_uplink_that_stays_weak_under_load_is_believed() -> None:
    rates = rates_of(10 * MB, 10 * MB)
    for _ in range(WEAK_REPORTS):
        rates.report(2, 10 * MB, 1 * MB, 3, is_loaded=True)
    assert rates.slower_than(1) == 1 << 2
    rates.report(2, 10 * MB, 9 * MB, 3, is_loaded=True)
    assert rates.slower_than(1) == 0


def test_an_uplink_that_has_just_begun_to_pass_on_is_not_weak_yet() -> None:
    rates = rates_of(10 * MB, 10 * MB)
    for _ in range(WEAK_REPORTS - 1):
        rates.report(2, 10 * MB, 1 * MB, 3, is_loaded=True)
    assert rates.slower_than(1) == 0


def test_an_uplink_once_taken_for_weak_is_tried_again_when_it_is_left_alone() -> None:
    rates = rates_of(10 * MB, 10 * MB)
    for _ in range(5 * WEAK_REPORTS):
        rates.report(2, 10 * MB, 1 * MB, 3, is_loaded=True)
    rates.report(2, 10 * MB, 1 * MB, 3, is_loaded=False)
    assert rates.slower_than(1) == 0


def test_who_has_only_had_slow_parents_is_still_given_quick_ones() -> None:
    rates = rates_of(*[10 * MB] * 8, 1 * MB, 1 * MB)
    assert rates.slower_than(9) == 0
    assert rates.unwelcome_to(9) == 1 << 9 | 1 << 10


def test_a_configured_limit_counts_before_anything_is_measured() -> None:
    rates = rates_of(10 * MB, 10 * MB)
    rates.join(3, 4, False, 1 * MB, 2 * MB, 0)
    rates.report(3, 10 * MB, 0, 3, is_loaded=False)
    assert rates.slower_than(1) == 1 << 3
    assert cost(rates, child=3, parent=1) == SLOT // 5


def test_a_peer_that_left_leaves_no_rate_behind() -> None:
    rates = rates_of(10 * MB, 1 * MB, 10 * MB, 10 * MB, 10 * MB, seed_up=90 * MB)
    for index in range(6):
        rates.leave(index)
    rates.check()
    assert (rates.median, rates.slow, rates.laggards()) == (0, 0, 0)
