"""How much is asked for at once."""

from __future__ import annotations

import pytest

from dfmq.machines.peer.window import MOST_IN_FLIGHT, REMEMBERED, Window

MIB = 1 << 20


@pytest.mark.parametrize(
    ("rate", "round_trip", "piece", "expected"),
    [
        (0, 0.0, MIB, 3),
        # design, section 2: 20 Mbit/s, 150 ms, 256 KiB: 3 in flight took 1.31, 6 took 1.03
        (2_500_000, 0.15, 256 << 10, 6),
        (125_000_000, 0.1, 4 * MIB, 9),
        (10**10, 1.0, MIB, MOST_IN_FLIGHT),
    ],
)
def test_leases_in_flight_follow_rate_and_control_round_trip(
    rate: int, round_trip: float, piece: int, expected: int
) -> None:
    assert Window().in_flight(rate, round_trip, piece) == expected


def test_a_parents_quickest_answer_counts_as_the_way_to_it() -> None:
    window = Window()
    for seconds in (2.0, 0.05, 0.4):
        window.answered(seconds)
    assert window.in_flight(2_500_000, 0.15, 256 << 10) == 7
    for _ in range(REMEMBERED):
        window.answered(0.1)
    assert window.in_flight(2_500_000, 0.15, 256 << 10) == 8, "the old answers are forgotten"


def test_what_a_parent_answers_later_than_a_queue_explains_is_no_way_but_its_other_children() -> None:
    window = Window()
    window.answered(3.0)
    assert window.in_flight(2_500_000, 0.15, 256 << 10) == 9
    assert window.in_flight(2_500_000, 0.001, 256 << 10) == 6


def test_full_pressure_halves_the_window_and_it_does_not_grow_until_the_pressure_is_over() -> None:
    window = Window()
    window.in_flight(0, 0.0, MIB)
    calm = window.credit(MIB)
    window.press("full")
    assert window.credit(MIB) == calm // 2
    for _ in range(5):
        assert window.in_flight(10**10, 1.0, MIB) == 1
        window.press("full")
        assert window.credit(MIB) == calm // 2
        window.check()
    window.press("busy")
    assert window.credit(MIB) == 4 * MIB
    window.press("calm")
    assert window.credit(MIB) == calm
    assert window.in_flight(10**10, 1.0, MIB) == MOST_IN_FLIGHT


def test_there_is_always_room_for_one_chunk_and_one_lease() -> None:
    window = Window()
    for level in ("busy", "full", "busy", "full", "full"):
        window.press(level)  # type: ignore[arg-type]
        assert window.credit(MIB) >= MIB
        assert window.in_flight(0, 0.0, MIB) >= 1
