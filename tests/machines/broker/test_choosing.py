"""What may be granted, what never, and which of it is best: the choice alone, over books set up by hand."""

from __future__ import annotations

import random

import pytest
from support.choice_books import CHILD, MB, Books, host

from dfmq.machines.broker import ranking
from dfmq.machines.broker.slots import SLOT
from dfmq.model import bitfield

# ── what may be ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_only_what_the_child_lacks_and_a_parent_with_room_has() -> None:
    books = Books(4)
    books.task.hold(CHILD, 0b0001)
    books.task.hold(1, 0b0011)
    books.task.hold(2, 0b0101)
    books.full(2)
    books.takes(CHILD, 3, 3)
    assert books.chosen() == {(1, 1)}


def test_nobody_serves_itself() -> None:
    books = Books(2)
    books.task.hold(CHILD, 0b1111)
    assert books.chosen() == set()
    assert books.choosing.from_parent(books.task, CHILD, CHILD, 0b1111) is None


def test_a_piece_that_is_still_coming_in_is_passed_on_unless_that_leads_back_to_the_child() -> None:
    books = Books(4)
    books.task.hold(3, 0b0001)
    books.takes(1, 0, 3)
    books.takes(2, 0, 1)
    books.full(3, 1)
    assert books.chosen() == {(0, 2)}
    assert books.choosing.may(books.task, 3, 0, 1) is False, "3 is where the chain of 1 begins"


def test_a_chain_that_ends_at_nobody_who_holds_the_piece_serves_nobody() -> None:
    books = Books(4)
    books.task.hold(3, 0b0001)
    books.takes(2, 0, 1)
    books.full(3)
    assert books.chosen() == set(), "1 has lost its own parent, and 2 waits for 1"


def test_who_is_barred_is_not_chosen_whole_or_partial() -> None:
    books = Books(4)
    books.task.hold(1, 0b0001)
    books.task.hold(3, 0b0010)
    books.takes(2, 1, 3)
    books.full(3)
    for index in (1, 2):
        books.health.accuse(host(index), host(3 if index == 1 else 0), is_seed=False, now=0.0)
        books.task.bar(index)
    assert (books.health.barred, books.chosen()) == (0b0110, set())
    assert books.choosing.offered(books.task, 1) == 0


def test_who_is_slow_passes_on_whole_pieces_only() -> None:
    books = Books(7)
    for index in range(2, 7):
        books.rate(index, 8 * MB)
    books.rate(1, 1 * MB)
    books.task.hold(1, 0b0001)
    books.task.hold(6, 0b0010)
    books.takes(1, 1, 6)
    books.full(6)
    assert books.rates.slow == 0b10
    assert books.choosing.offered(books.task, 1) == 0b0001
    assert books.chosen() == {(0, 1)}


# ── who is better ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_less_loaded_parent_comes_before_the_rarer_piece() -> None:
    books = Books(5)
    books.task.hold(1, 0b0001)
    for index in (2, 3):
        books.task.hold(index, 0b0010)
    books.slots.book(1, 2 * SLOT)
    assert {piece for piece, _ in books.chosen()} == {1}
    books.slots.book(2, 2 * SLOT)
    books.slots.book(3, 2 * SLOT)
    assert books.chosen() == {(0, 1)}, "all alike: the rarer piece"


def test_who_holds_the_piece_comes_before_who_is_receiving_it() -> None:
    books = Books(5)
    books.task.hold(1, 0b0001)
    books.takes(2, 0, 1)
    books.slots.book(2, SLOT)
    assert books.chosen() == {(0, 1)}


def test_a_parent_that_failed_the_child_is_asked_again_when_there_is_no_other() -> None:
    books = Books(3)
    books.task.hold(1, 0b0001)
    books.task.hold(2, 0b0001)
    books.task.members[CHILD].shunned = 1 << 1
    assert books.chosen() == {(0, 2)}
    books.full(2)
    assert books.chosen() == {(0, 1)}


def test_a_suspected_parent_serves_only_what_nobody_better_holds_even_if_that_one_is_full() -> None:
    books = Books(3)
    books.task.hold(1, 0b0011)
    books.task.hold(2, 0b0010)
    books.full(2)
    books.health.blame(host(1), host(2), 0.0)
    assert books.chosen() == {(0, 1)}
    assert not books.choosing.may(books.task, CHILD, 1, 1)
    assert books.choosing.may(books.task, CHILD, 0, 1)


def test_what_sampling_misses_is_found_all_the_same() -> None:
    """One of many parents, one of many pieces: whoever draws a few finds it seldom."""
    books = Books(40)
    books.task.hold(39, 0b1111)
    books.full(39)
    for index in range(1, 39):
        books.task.hold(index, 0b0111)
    books.task.hold(CHILD, 0b0111)
    books.takes(17, 3, 39)
    for _ in range(20):
        assert books.chosen(1) == {(3, 17)}


def test_from_one_parent_the_rarest_piece_is_taken() -> None:
    books = Books(4)
    books.task.hold(1, 0b0111)
    books.task.hold(2, 0b0101)
    assert books.choosing.from_parent(books.task, CHILD, 1, 0b0111) == 1
    assert books.choosing.from_parent(books.task, CHILD, 1, 0b0101) in (0, 2)
    books.task.hold(CHILD, 0b0111)
    assert books.choosing.from_parent(books.task, CHILD, 1, 0b0111) is None


# ── leases that drag ──────────────────────────────────────────────────────────────────────────────────────────────


def test_a_lease_that_drags_goes_to_a_whole_holder_with_room() -> None:
    books = Books(5)
    books.task.hold(1, 0b0001)
    books.takes(2, 0, 1)
    lease = books.takes(CHILD, 0, 2)
    assert books.choosing.relief(books.task, lease) == 1, "2 waits itself"
    books.full(1)
    assert books.choosing.relief(books.task, lease) is None


def test_a_lease_is_moved_from_a_whole_holder_only_to_one_that_is_less_loaded() -> None:
    books = Books(4)
    books.task.hold(1, 0b0001)
    books.task.hold(2, 0b0001)
    lease = books.takes(CHILD, 0, 1)
    books.slots.book(2, SLOT)
    assert books.choosing.relief(books.task, lease) is None
    books.slots.book(1, SLOT)
    assert books.choosing.relief(books.task, lease) == 2
    books.health.blame(host(2), host(3), 0.0)
    assert books.choosing.relief(books.task, lease) is None, "not to one that is suspected"


# ── drawing ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("count", [1, 3, 8])
def test_a_sample_is_some_members_of_the_set_and_all_of_a_small_one(count: int) -> None:
    rng = random.Random(1)
    members = {2, 3, 5, 9, 20, 21, 40}
    seen: set[int] = set()
    for _ in range(600):
        drawn = list(ranking.sample(bitfield.of(members), count, rng))
        assert len(drawn) == len(set(drawn)) <= count
        assert set(drawn) <= members
        assert drawn
        seen |= set(drawn)
        assert ranking.pick(bitfield.of(members), rng) in members
    assert seen == members, "each has a chance"
    assert count < len(members) or set(ranking.sample(bitfield.of(members), count, rng)) == members
