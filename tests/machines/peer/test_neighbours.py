"""Hints between neighbours."""

from __future__ import annotations

import random

import pytest
from support.talk import CUT, GENERATION, OTHER_GENERATION, REQUEST, TASK, exchange, peer_id, proofs

from dfmq.machines.effects import Listen, Publish
from dfmq.machines.peer.alarm import Alarm
from dfmq.machines.peer.holding import Holding, Holdings
from dfmq.machines.peer.neighbours import (
    ANSWER_SECONDS,
    GATHER_SECONDS,
    MOST_HOLDERS,
    MOST_OFTEN_SECONDS,
    OWN_LEASES_FROM,
    Neighbours,
)
from dfmq.model.ids import TaskId
from dfmq.model.pieces import PieceMap
from dfmq.model.task import Content
from dfmq.wire import topics
from dfmq.wire.messages import Hint


def some_neighbours() -> Neighbours:
    neighbours = Neighbours(peer_id("me"), random.Random(1), Alarm())
    neighbours.exchange, neighbours.hints = exchange("me"), "tcp://me:2"
    neighbours.listen(TASK, ["tcp://one:2", "tcp://two:2"])
    return neighbours


def a_holding() -> Holding:
    holding = Holding(TASK, Content(GENERATION, CUT), REQUEST)
    holding.is_open = True
    return holding


def a_hint(piece: int, peer: str = "one", generation: bytes = GENERATION, word: bytes | None = None) -> Hint:
    return Hint(
        task=TASK,
        generation=generation,
        piece=piece,
        peer=peer_id(peer),
        endpoint=exchange(peer),
        proofs=proofs(piece) if word is None else word,
    )


def test_we_listen_to_others_and_not_to_ourselves_and_say_so_once() -> None:
    neighbours = Neighbours(peer_id("me"), random.Random(1), Alarm())
    neighbours.hints = "tcp://me:2"
    assert neighbours.listen(TASK, ["tcp://me:2", "tcp://one:2"]) == [Listen(TASK, ["tcp://one:2"])]
    assert neighbours.listen(TASK, ["tcp://one:2"]) == []
    assert neighbours.listen(TASK, []) == [Listen(TASK, [])]


def test_a_hint_becomes_a_lease_on_a_piece_that_is_wanted() -> None:
    neighbours, holding = some_neighbours(), a_holding()
    assert neighbours.heard(a_hint(1), holding)
    lease = neighbours.lease(holding, taken=0)
    assert lease is not None
    assert (lease.piece, lease.endpoint, lease.proofs) == (1, exchange("one"), proofs(1))
    assert OWN_LEASES_FROM <= lease.lease < 2**63
    assert neighbours.lease(holding, taken=0b10) is None


def test_two_children_number_their_own_leases_differently() -> None:
    leases = set()
    for seed in (1, 2):
        neighbours, holding = Neighbours(peer_id("me"), random.Random(seed), Alarm()), a_holding()
        neighbours.listen(TASK, ["tcp://one:2"])
        neighbours.heard(a_hint(0), holding)
        lease = neighbours.lease(holding, taken=0)
        assert lease is not None
        leases.add(lease.lease)
    assert len(leases) == 2


def test_hints_that_fit_nothing_here_are_no_news() -> None:
    neighbours, holding = some_neighbours(), a_holding()
    assert not neighbours.heard(a_hint(0, generation=OTHER_GENERATION), holding)
    assert not neighbours.heard(a_hint(0, word=b"short"), holding)
    assert not neighbours.heard(a_hint(7), holding)
    assert not neighbours.heard(a_hint(0, peer="me"), holding)
    holding.held = 0b01
    assert not neighbours.heard(a_hint(0), holding)
    assert not neighbours.heard(a_hint(1), None)
    neighbours.listen(TASK, [])
    assert not neighbours.heard(a_hint(1), holding)


def test_the_first_word_on_a_piece_stays() -> None:
    neighbours, holding = some_neighbours(), a_holding()
    neighbours.heard(a_hint(0, peer="one"), holding)
    neighbours.heard(a_hint(0, peer="liar", word=b"x" * len(proofs(0))), holding)
    lease = neighbours.lease(holding, taken=0b10)
    assert lease is not None
    assert lease.endpoint == exchange("one")
    assert lease.proofs == proofs(0)


def test_of_many_holders_the_latest_few_are_remembered() -> None:
    neighbours, holding = some_neighbours(), a_holding()
    for number in range(20):
        neighbours.heard(a_hint(0, peer=f"p{number}"), holding)
        neighbours.check()
    taken_from = set()
    for _ in range(60):
        lease = neighbours.lease(holding, taken=0)
        assert lease is not None
        taken_from.add(lease.endpoint)
    assert taken_from == {exchange(f"p{number}") for number in range(20 - MOST_HOLDERS, 20)}


def test_who_did_not_give_the_piece_is_not_asked_for_it_again() -> None:
    neighbours, holding = some_neighbours(), a_holding()
    neighbours.heard(a_hint(0, peer="one"), holding)
    neighbours.discredit(TASK, 0, exchange("one"))
    assert neighbours.lease(holding, taken=0) is None


def test_only_what_the_broker_has_vouched_for_is_hinted_at() -> None:
    neighbours, holding = some_neighbours(), a_holding()
    holding.held = 0b11
    holding.proofs[1] = proofs(1)
    holdings = Holdings()
    holdings[TASK] = holding
    neighbours.tell(TASK, 0, 5.0)
    neighbours.tell(TASK, 1, 5.1)
    assert neighbours.next_deadline() == 5.0 + GATHER_SECONDS
    assert neighbours.deadline(holdings, 5.9) == []
    (hint,) = neighbours.deadline(holdings, 5.0 + GATHER_SECONDS)
    assert isinstance(hint, Publish)
    assert hint.topic == topics.of_task(TASK)
    assert neighbours.next_deadline() is None
    assert neighbours.remind(holdings, 0.0) == [hint]


def a_full_shelf() -> Holdings:
    holding = a_holding()
    holding.held = 0b11
    holding.proofs.update({0: proofs(0), 1: proofs(1)})
    holdings = Holdings()
    holdings[TASK] = holding
    return holdings


@pytest.mark.clause("HINT-4")
def test_whoever_begins_to_listen_is_told_all_we_hold() -> None:
    neighbours, holdings = some_neighbours(), a_full_shelf()
    neighbours.asked(holdings[TASK], 5.0)
    neighbours.check()
    assert neighbours.next_deadline() == 5.0 + ANSWER_SECONDS
    told = neighbours.deadline(holdings, 5.0 + ANSWER_SECONDS)
    hints = [effect.message for effect in told if isinstance(effect, Publish)]
    assert [hint.piece for hint in hints if isinstance(hint, Hint)] == [0, 1]
    assert neighbours.next_deadline() is None


def test_many_who_begin_to_listen_are_told_together_once_a_second_at_most() -> None:
    neighbours, holdings = some_neighbours(), a_full_shelf()
    said, now = 0, 10.0
    for _ in range(100):
        neighbours.asked(holdings[TASK], now)
        now += 0.03
        said += len(neighbours.deadline(holdings, now))
    assert 2 <= said / 2 <= 1 + 3.0 / MOST_OFTEN_SECONDS


def test_a_piece_that_is_to_be_told_later_is_told_with_the_others_somebody_asks_for() -> None:
    neighbours, holdings = some_neighbours(), a_full_shelf()
    neighbours.tell(TASK, 0, 5.0)
    neighbours.asked(holdings[TASK], 5.0)
    assert len(neighbours.deadline(holdings, 5.0 + ANSWER_SECONDS)) == 2
    assert neighbours.next_deadline() is None


def test_who_holds_nothing_has_nothing_to_say() -> None:
    neighbours = some_neighbours()
    neighbours.asked(a_holding(), 5.0)
    assert neighbours.next_deadline() is None


def test_what_is_too_much_for_once_is_told_a_second_later() -> None:
    neighbours, holdings = some_neighbours(), Holdings()
    for number in range(3):
        task = TaskId(bytes([number]) * 16)
        holding = holdings[task] = Holding(task, Content(GENERATION, PieceMap(3000, 1, 1)), REQUEST)
        holding.held = (1 << 3000) - 1
        holding.proofs.update(dict.fromkeys(range(3000), b"p" * 16))
        neighbours.asked(holding, 5.0)
    told: list[int] = []
    while (at := neighbours.next_deadline()) is not None:
        told.append(len(neighbours.deadline(holdings, at)))
        neighbours.check()
    assert told == [4096, 4096, 9000 - 2 * 4096]


def test_a_reminder_counts_as_told() -> None:
    neighbours, holdings = some_neighbours(), a_full_shelf()
    assert len(neighbours.remind(holdings, 5.0)) == 2
    neighbours.asked(holdings[TASK], 5.1)
    assert neighbours.next_deadline() == 5.0 + MOST_OFTEN_SECONDS
    neighbours.tell(TASK, 0, 5.2)
    neighbours.remind(holdings, 5.9)
    assert neighbours.deadline(holdings, 6.5) == []
