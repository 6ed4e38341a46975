"""The virtual clock and the wires: what the simulator's numbers rest on."""

from __future__ import annotations

from random import Random

import pytest

from dfmq.sim.agenda import Agenda
from dfmq.sim.network import ENVELOPE_BYTES, Card, Network, Pipe

MBYTE = 1_000_000
SIZE = MBYTE - ENVELOPE_BYTES


class Ear:
    """Notes what arrives and when."""

    def __init__(self, agenda: Agenda) -> None:
        self.agenda = agenda
        self.heard: list[tuple[str, float]] = []

    def bulk(self, sent_at: float, what: str) -> None:
        self.heard.append((what, self.agenda.now))

    def control(self, what: str) -> None:
        self.heard.append((what, self.agenda.now))

    def at(self, what: str) -> float:
        return dict(self.heard)[what]


@pytest.fixture
def agenda() -> Agenda:
    return Agenda()


@pytest.fixture
def network(agenda: Agenda) -> Network:
    return Network(agenda, Random(1))


@pytest.fixture
def ear(agenda: Agenda) -> Ear:
    return Ear(agenda)


def card(name: str, rate: float = MBYTE, latency: float = 0.0005) -> Card:
    return Card(name, rate, rate, latency)


def test_calls_come_in_the_order_of_their_instants_and_then_of_their_entry(agenda: Agenda) -> None:
    heard: list[str] = []
    agenda.at(2.0, heard.append, "late")
    agenda.at(1.0, heard.append, "first")
    agenda.at(1.0, heard.append, "second")
    agenda.run(1.5)
    assert heard == ["first", "second"]
    assert agenda.now == 1.0
    agenda.run(9.0)
    assert heard[-1] == "late"


def test_calls_keep_their_order_within_a_slot_and_over_slots(agenda: Agenda) -> None:
    rng, heard, wanted = Random(3), list[float](), list[float]()
    for _ in range(500):
        when = rng.choice((rng.uniform(0.0, 0.002), rng.uniform(0.0, 2.0)))
        wanted.append(when)
        agenda.at(when, heard.append, when)
    # Entered while the slot they belong to is at hand.
    agenda.at(1.0, lambda: [agenda.at(1.0 + step * 1e-6, heard.append, 1.0 + step * 1e-6) for step in (3, 1, 2)])
    wanted += [1.0 + step * 1e-6 for step in (1, 2, 3)]
    agenda.run(0.001)
    assert heard == sorted(when for when in wanted if when <= 0.001)
    agenda.run(9.0)
    assert heard == sorted(wanted)


def test_time_waits_for_who_is_unsettled(agenda: Agenda) -> None:
    class Loop:
        def settle(self) -> None:
            settled.append(agenda.now)

    settled, loop = list[float](), Loop()
    for at in (1.0, 1.0, 2.0):
        agenda.at(at, agenda.unsettled.__setitem__, loop, None)
    agenda.run(9.0)
    assert settled == [1.0, 2.0]


def test_a_call_that_should_have_been_is_made_now(agenda: Agenda) -> None:
    seen: list[float] = []
    agenda.at(3.0, agenda.at, 1.0, lambda: seen.append(agenda.now))
    agenda.run(9.0)
    assert seen == [3.0]


def test_sending_and_receiving_overlap(agenda: Agenda, network: Network, ear: Ear) -> None:
    network.bulk(card("a"), card("b"), "b", SIZE, ear.bulk, "chunk")
    agenda.run(9.0)
    assert ear.at("chunk") == pytest.approx(1.001)


def test_a_slower_receiver_sets_the_pace(agenda: Agenda, network: Network, ear: Ear) -> None:
    network.bulk(card("a", 10 * MBYTE), card("b"), "b", SIZE, ear.bulk, "chunk")
    agenda.run(9.0)
    assert ear.at("chunk") == pytest.approx(1.001)


def test_two_senders_share_one_downlink(agenda: Agenda, network: Network, ear: Ear) -> None:
    child = card("child")
    network.bulk(card("a"), child, "child", SIZE, ear.bulk, "one")
    network.bulk(card("b"), child, "child", SIZE, ear.bulk, "two")
    agenda.run(9.0)
    assert sorted(at for _, at in ear.heard) == pytest.approx([1.001, 2.001])


def test_control_messages_wait_for_bulk_in_their_uplink_and_not_for_each_other(agenda: Agenda, ear: Ear) -> None:
    network = Network(agenda, Random(1), uplink_queue=0.5)
    host, broker = card("host"), card("broker")
    for name in ("one", "two"):
        network.control(host, broker, 100, ear.control, name)
    agenda.at(0.1, network.bulk, host, card("child"), "child", SIZE, ear.bulk, "chunk")
    agenda.at(0.2, network.control, host, broker, 100, ear.control, "three")
    agenda.run(9.0)
    assert ear.at("two") < 0.01
    assert ear.at("three") > 0.2 + 0.8 * 0.5


def test_an_uplink_serves_destinations_in_turns_not_first_come(agenda: Agenda, network: Network, ear: Ear) -> None:
    parent, one, two = card("parent"), card("one", 9 * MBYTE), card("two", 9 * MBYTE)
    for number in range(3):
        network.bulk(parent, one, "one", SIZE, ear.bulk, f"one-{number}")
    for number in range(2):
        network.bulk(parent, two, "two", SIZE, ear.bulk, f"two-{number}")
    agenda.run(9.0)
    assert [what for what, _ in ear.heard] == ["one-0", "one-1", "two-0", "one-2", "two-1"]
    assert ear.heard[-1][1] == pytest.approx(5.001)


def test_a_control_message_passes_between_the_packets_of_a_chunk_and_costs_it_time(
    agenda: Agenda, network: Network, ear: Ear
) -> None:
    sender, child = card("sender"), card("child")
    network.bulk(sender, child, "child", SIZE, ear.bulk, "chunk")
    network.bulk(sender, child, "child", SIZE, ear.bulk, "next")
    network.control(sender, card("broker", 1000 * MBYTE), MBYTE // 10 - ENVELOPE_BYTES, ear.control, "word")
    agenda.run(9.0)
    assert ear.at("word") == pytest.approx(0.1011)
    assert ear.at("next") == pytest.approx(2.101)


def test_control_messages_of_one_connection_keep_their_order_under_jitter(agenda: Agenda, ear: Ear) -> None:
    network = Network(agenda, Random(5), jitter=0.05)
    peer, broker = card("peer"), card("broker")
    for number in range(50):
        network.control(peer, broker, 100, ear.control, str(number))
    agenda.run(9.0)
    assert [what for what, _ in ear.heard] == [str(number) for number in range(50)]


def test_a_cut_holds_messages_back_or_loses_them(agenda: Agenda, network: Network, ear: Ear) -> None:
    held, lost, other = card("held"), card("lost"), card("other", 99 * MBYTE)
    network.cut(held, 2.0, loses=False)
    network.cut(lost, 2.0, loses=True)
    assert network.control(held, other, 100, ear.control, "held word")
    assert not network.control(lost, other, 100, ear.control, "lost word")
    network.bulk(held, other, "other", SIZE, ear.bulk, "held chunk")
    agenda.run(9.0)
    assert ear.at("held word") == pytest.approx(2.001, abs=0.001)
    assert ear.at("held chunk") == pytest.approx(3.001, abs=0.001)
    assert "lost word" not in dict(ear.heard)


def test_what_waits_for_a_forgotten_destination_is_dropped(agenda: Agenda, network: Network, ear: Ear) -> None:
    parent, gone, other = card("parent"), card("gone"), card("other")
    for number in range(3):
        network.bulk(parent, gone, "gone", SIZE, ear.bulk, f"gone-{number}")
    network.bulk(parent, other, "other", SIZE, ear.bulk, "other")
    network.forget(parent, "gone")
    assert network.waiting(parent) == 1
    agenda.run(9.0)
    assert [what for what, _ in ear.heard] == ["gone-0", "other"]
    assert ear.at("other") == pytest.approx(2.001)


def test_a_thin_pipe_between_zones_is_shared(agenda: Agenda, network: Network, ear: Ear) -> None:
    network.pipes["east", "west"] = Pipe(agenda, MBYTE / 2)
    cards = [Card(name, MBYTE, MBYTE, 0.0005, zone) for name, zone in (("a", "east"), ("b", "east"), ("c", "west"))]
    network.bulk(cards[0], cards[2], "c", SIZE, ear.bulk, "one")
    network.bulk(cards[1], cards[2], "c", SIZE, ear.bulk, "two")
    network.bulk(cards[2], cards[0], "a", SIZE, ear.bulk, "back")
    agenda.run(20.0)
    assert max(at for _, at in ear.heard) == pytest.approx(6.001, abs=0.01)


def test_an_uplink_that_is_never_idle_moves_exactly_its_rate(agenda: Agenda, network: Network, ear: Ear) -> None:
    parent = card("parent")
    children = [card(f"child-{number}") for number in range(7)]
    for number in range(70):
        network.bulk(parent, children[number % 7], number % 7, SIZE, ear.bulk, str(number))
    agenda.run(99.0)
    assert len(ear.heard) == 70
    assert agenda.now == pytest.approx(70.001)
