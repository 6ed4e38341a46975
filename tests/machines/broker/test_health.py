"""Hosts on probation and in quarantine: who gets there, how they come out, and whose word counts how much."""

from __future__ import annotations

import pytest

from dfmq.machines.broker import health as standing
from dfmq.machines.broker.health import (
    HALF_LIFE_SECONDS,
    MOST_PROBATION_SECONDS,
    PROBATION_SECONDS,
    QUARANTINE_SECONDS,
    Health,
)
from dfmq.model.ids import HostId


def host(number: int) -> HostId:
    return HostId(b"%016d" % number)


def health_of(hosts: int) -> Health:
    """Hosts 0…, with the peer of the same index each."""
    health = Health()
    for number in range(hosts):
        health.join(host(number), number)
    return health


def test_probation_ends_by_itself_and_doubles_with_each_complaint() -> None:
    health = health_of(5)
    assert health.blame(host(0), host(1), 100.0)
    assert health.suspected == 1
    first = health.deadlines.next()
    assert first == 100.0 + PROBATION_SECONDS
    assert not health.blame(host(0), host(2), 100.0)
    assert health.deadlines.next() == 100.0 + 2 * PROBATION_SECONDS
    assert health.due(100.0 + 2 * PROBATION_SECONDS) == (1, 0)
    health.check()
    assert health.suspected == 0


def test_probation_has_a_longest_and_old_complaints_fade() -> None:
    health = health_of(60)
    for child in range(1, 60):
        health.blame(host(0), host(child), 100.0)
    assert health.deadlines.next() == 100.0 + MOST_PROBATION_SECONDS
    later = 100.0 + MOST_PROBATION_SECONDS + 20 * HALF_LIFE_SECONDS
    health.due(later)
    health.blame(host(0), host(1), later)
    ends = health.deadlines.next()
    assert ends is not None
    assert ends - later < 2 * PROBATION_SECONDS


def test_a_host_that_serves_again_comes_out_early() -> None:
    health = health_of(4)
    health.blame(host(0), host(1), 100.0)
    health.blame(host(0), host(2), 100.0)
    assert not health.praise(host(0), host(3), 100.1), "about one complaint is left"
    assert health.praise(host(0), host(3), 100.2)
    assert (health.suspected, health.deadlines.next()) == (0, None)
    health.check()


def test_who_finds_fault_with_everybody_counts_little() -> None:
    health = health_of(12)
    for parent in range(1, 11):
        health.blame(host(parent), host(0), 100.0)
    health.blame(host(11), host(0), 100.0)
    assert health.praise(host(11), host(1), 100.0), "one success outweighs it"
    assert not health.suspected >> 11 & 1


def test_corrupt_chunks_bar_a_host_and_all_its_peers_at_once() -> None:
    health = health_of(3)
    health.join(host(0), 7)
    assert health.accuse(host(0), host(1), is_seed=False, now=100.0)
    assert health.barred == 1 | 1 << 7
    assert health.state(host(0)) == "quarantined"
    health.leave(host(0), 7, 101.0)
    assert health.join(host(0), 8), "a restart changes nothing"
    assert health.due(100.0 + QUARANTINE_SECONDS) == (0, 1 | 1 << 8)
    health.check()


def test_a_seed_is_barred_on_the_word_of_two_hosts_only() -> None:
    health = health_of(3)
    assert not health.accuse(host(0), host(1), is_seed=True, now=100.0)
    assert not health.accuse(host(0), host(1), is_seed=True, now=100.0)
    assert health.state(host(0)) == "suspected"
    assert health.accuse(host(0), host(2), is_seed=True, now=100.0)


def test_the_word_of_one_host_bars_one_host() -> None:
    health = health_of(4)
    assert health.accuse(host(0), host(3), is_seed=False, now=100.0)
    assert not health.accuse(host(1), host(3), is_seed=False, now=100.0), "its own memory may be bad"
    assert health.accuse(host(1), host(2), is_seed=False, now=100.0)


def test_whoever_gets_the_index_of_a_suspected_peer_is_not_suspected() -> None:
    health = health_of(2)
    health.blame(host(0), host(1), 100.0)
    health.leave(host(0), 0, 100.5)
    health.join(host(2), 0)
    health.check()
    assert health.suspected == 0
    assert health.state(host(0)) == "suspected", "a restart would change nothing"


def test_a_seed_that_was_barred_begins_anew() -> None:
    health = health_of(4)
    for child in (1, 2):
        health.accuse(host(0), host(child), is_seed=True, now=100.0)
    assert health.due(100.0 + QUARANTINE_SECONDS)[1] == 1
    assert not health.accuse(host(0), host(3), is_seed=True, now=200.0 + QUARANTINE_SECONDS)


def test_hosts_remembered_for_what_they_did_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standing, "MOST_HOSTS", 4)
    health = health_of(6)
    health.accuse(host(0), host(5), is_seed=False, now=100.0)
    for bad in (1, 2, 3):
        health.blame(host(bad), host(5), 100.0)
    for index in range(4):
        health.leave(host(index), index, 100.0)
    health.check()
    assert [health.state(host(number)) for number in range(4)] == ["quarantined", "good", "good", "suspected"]


def test_a_clean_host_without_peers_is_forgotten() -> None:
    health = health_of(1)
    health.leave(host(0), 0, 100.0)
    assert health.state(host(0)) == "good"
    assert health.peers_of(host(0)) == 0
