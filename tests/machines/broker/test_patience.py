"""How long a lease may take before it is looked at."""

from __future__ import annotations

from support.choice_books import CHILD, Books

from dfmq.machines.broker.patience import MOST_MOVES, OVERDUE, PATIENCE, UNKNOWN_SECONDS, Patience


def test_what_is_learnt_follows_the_quicker_leases_and_so_does_the_wait() -> None:
    books = Books(3)
    patience, task = Patience(books.rates), books.task
    assert patience.of(task, CHILD) == PATIENCE * UNKNOWN_SECONDS
    lease = books.takes(CHILD, 0, 1)
    patience.learn(task, CHILD, [lease], lease.granted_at + 1.0)
    assert patience.of(task, CHILD) == PATIENCE * 1.0
    patience.learn(task, CHILD, [lease], lease.granted_at + 0.5)
    quicker = task.usual_seconds
    patience.learn(task, CHILD, [lease], lease.granted_at + quicker + 0.5)
    assert 0.5 < quicker < task.usual_seconds < quicker + 0.1


def test_each_move_that_brings_nothing_doubles_the_wait_until_a_lease_goes_well_again() -> None:
    books = Books(3)
    patience, task = Patience(books.rates), books.task
    lease, member = books.takes(CHILD, 0, 1), task.members[CHILD]
    patience.learn(task, CHILD, [lease], lease.granted_at + 1.0)
    first = patience.of(task, CHILD)
    for _ in range(2 * MOST_MOVES):
        patience.moved(member)
    assert patience.of(task, CHILD) == first * 2**MOST_MOVES
    patience.learn(task, CHILD, [lease], lease.granted_at + 1.0)
    assert patience.of(task, CHILD) == first


def test_a_lease_is_overdue_when_it_took_so_many_times_as_long_as_was_to_be_waited() -> None:
    books = Books(3)
    patience, lease = Patience(books.rates), books.takes(CHILD, 0, 1)
    wait = patience.of(books.task, CHILD)
    assert not patience.is_overdue(books.task, lease, lease.granted_at + OVERDUE * wait)
    assert patience.is_overdue(books.task, lease, lease.granted_at + OVERDUE * wait + 0.1)
