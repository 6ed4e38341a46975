"""What local clients asked for and are told."""

from __future__ import annotations

from typing import Any

from support.talk import GENERATION, REQUEST, TASK

from dfmq.machines.peer.alarm import Alarm
from dfmq.machines.peer.clients import (
    FIRST_PROGRESS_SECONDS,
    LIMIT_KEPT_SECONDS,
    PROGRESS_SECONDS,
    Clients,
    Wish,
)
from dfmq.model.task import Request
from dfmq.wire.messages import Done, Get, Progress, Receipt, Sorry

SECRET = Request(url=REQUEST.url, headers=(("Authorization", "Bearer x"),))


def joined(
    clients: Clients, name: bytes, number: int = 1, limit: int = 0, now: float = 0.0, *, unwatched: bool = False
) -> Wish:
    wish = clients.add(name, Get(get=number, request=REQUEST, limit=limit, unwatched=unwatched), TASK, now)
    clients.join(wish, now)
    return wish


def told(effects: list[Any]) -> list[tuple[bytes, type]]:
    return [(effect.client, type(effect.message)) for effect in effects]


def progress(clients: Clients, held: int, now: float, from_store: int = 0) -> list[Any]:
    effects: list[Any] = []
    for task in clients.due(now):
        effects += clients.progress(task, 100, held, 1, Receipt(from_store=from_store), now)
    return effects


def test_progress_is_told_soon_and_then_at_most_twice_a_second() -> None:
    clients = Clients(Alarm())
    joined(clients, b"a")
    assert told(progress(clients, 0, FIRST_PROGRESS_SECONDS)) == [(b"a", Progress)]
    count = sum(len(progress(clients, tick, FIRST_PROGRESS_SECONDS + tick / 1000)) for tick in range(1, 1001))
    assert count == 1 / PROGRESS_SECONDS
    clients.check()


def test_where_nobody_watches_progress_is_only_a_sign_of_life() -> None:
    clients = Clients(Alarm())
    joined(clients, b"a", unwatched=True)
    at = [tick / 10 for tick in range(1, 101) if progress(clients, tick, tick / 10)]
    assert at == [1.5, 3.0, 4.5, 6.0, 7.5, 9.0]
    clients.check()


def test_one_who_watches_is_told_as_often_as_an_eye_needs_whoever_else_waits() -> None:
    clients = Clients(Alarm())
    joined(clients, b"a", unwatched=True)
    joined(clients, b"b", now=1.0)
    assert told(progress(clients, 1, 1.0 + FIRST_PROGRESS_SECONDS)) == [(b"a", Progress), (b"b", Progress)]
    assert told(progress(clients, 2, 1.0 + FIRST_PROGRESS_SECONDS + PROGRESS_SECONDS)) != []
    clients.check()


def test_progress_without_news_is_told_once_a_second_so_that_a_shown_rate_falls() -> None:
    clients = Clients(Alarm())
    joined(clients, b"a")
    rates = []
    for tick in range(100):
        for effect in progress(clients, min(tick, 10), tick / 10):
            rates.append(effect.message.bytes_per_second)
    assert max(rates) >= 8
    assert rates[-1] <= 1
    assert len(rates) < 25


def test_what_was_in_the_store_already_is_no_progress_at_a_rate() -> None:
    clients = Clients(Alarm())
    joined(clients, b"a")
    progress(clients, 0, 0.0)
    rates = [
        effect.message.bytes_per_second
        for tick in range(1, 20)
        for effect in progress(clients, 90 + tick // 2, tick / 2, from_store=90)
    ]
    assert rates
    assert max(rates) <= 2


def test_everybody_who_joined_is_told_and_kept() -> None:
    clients = Clients(Alarm())
    joined(clients, b"a")
    joined(clients, b"b")
    clients.add(b"c", Get(get=1, request=SECRET), TASK, 0.0)
    done = clients.done(TASK, "/data", 100, GENERATION, Receipt(from_peers=100))
    assert told(done) == [(b"a", Done), (b"b", Done)]
    assert len(clients.of_task(TASK, "kept")) == 2
    assert clients.next_deadline() is None, "no progress after the end"
    clients.check()


def test_who_is_told_sorry_is_forgotten() -> None:
    clients = Clients(Alarm())
    joined(clients, b"a")
    assert told(clients.sorry(clients.of_task(TASK), "no_space", "x" * 5000)) == [(b"a", Sorry)]
    assert len(clients) == 0
    assert not clients.wants(TASK)
    clients.check()


def test_the_largest_limit_counts_and_none_is_the_largest() -> None:
    clients = Clients(Alarm())
    joined(clients, b"a", limit=10)
    joined(clients, b"b", limit=20)
    assert clients.limit_of(TASK) == 20
    third = joined(clients, b"c", limit=0)
    assert clients.limit_of(TASK) == 0
    clients.remove(third)
    assert clients.limit_of(TASK) == 20


def test_the_limit_of_who_left_last_holds_for_a_while_and_never_beside_others() -> None:
    alarm = Alarm()
    clients = Clients(alarm)
    first, second = joined(clients, b"a", limit=10), joined(clients, b"b", limit=20)
    clients.leave(second, 5.0)
    assert clients.limit_of(TASK) == 10
    clients.leave(first, 5.0)
    clients.check()
    assert (clients.limit_of(TASK), clients.next_deadline()) == (10, 5.0 + LIMIT_KEPT_SECONDS)
    assert alarm.at <= 5.0 + LIMIT_KEPT_SECONDS
    back = joined(clients, b"a", limit=0, now=6.0)
    assert clients.limit_of(TASK) == 0
    clients.leave(back, 7.0)
    assert (clients.limit_of(TASK), clients.next_deadline()) == (0, None), "it had none"
    clients.leave(joined(clients, b"a", limit=30, now=8.0), 8.0)
    clients.due(8.0 + LIMIT_KEPT_SECONDS)
    clients.check()
    assert (clients.limit_of(TASK), clients.next_deadline()) == (0, None)


def test_leave_given_to_one_is_leave_for_others_with_the_same_credentials_only() -> None:
    clients = Clients(Alarm())
    plain = joined(clients, b"a")
    secret = clients.add(b"b", Get(get=1, request=SECRET), TASK, 0.0)
    frugal = clients.add(b"c", Get(get=1, request=REQUEST, no_source=True), TASK, 0.0)
    assert plain.may_join(REQUEST, no_source=False)
    assert not secret.may_join(REQUEST, no_source=False)
    assert frugal.may_join(REQUEST, no_source=False)
    assert not plain.may_join(REQUEST, no_source=True)


def test_a_task_may_be_read_while_one_who_asked_for_it_may_go_to_the_source() -> None:
    clients = Clients(Alarm())
    assert not clients.may_read(TASK)
    plain = joined(clients, b"a")
    clients.add(b"c", Get(get=1, request=REQUEST, no_source=True), TASK, 0.0)
    assert clients.may_read(TASK)
    clients.remove(plain)
    assert clients.wants(TASK) and not clients.may_read(TASK)
