"""Several brokers, of which some are of no use: one that speaks another version of the protocol is passed over."""

from __future__ import annotations

from typing import Any

import pytest
from support.peer_talk import PeerTalk, all_of, to_broker, to_client
from support.talk import REQUEST, TASK

from dfmq.machines import effects as do
from dfmq.machines import events as told
from dfmq.machines.peer.session import FIRST_PATIENCE_SECONDS
from dfmq.wire import messages as said

OTHER = said.Error(code="version", version=9)


def a_get(**settings: Any) -> PeerTalk:
    """A get that no broker knows of yet."""
    peer = PeerTalk(**settings)
    peer.client(said.Get(get=1, request=REQUEST))
    peer.told(told.StoreLoaded(TASK, None))
    return peer


def next_broker(peer: PeerTalk) -> None:
    """Until Hello is said to the next one."""
    while not all_of(do.NextBroker, effects := peer.passes(0.1)):
        pass
    assert said.Hello in map(type, to_broker(effects))


def sorries(effects: list[Any]) -> list[said.Sorry]:
    return [message for message in to_client(effects) if isinstance(message, said.Sorry)]


def test_the_only_broker_being_of_another_version_is_told_to_the_client_at_once() -> None:
    peer = a_get(brokers=("tcp://one.example:7400",))
    (sorry,) = sorries(peer.hears(OTHER))
    assert sorry.code == "broker_unreachable"
    assert "version 9" in sorry.text and "tcp://one.example:7400" in sorry.text


def test_one_of_another_version_is_passed_over() -> None:
    peer = a_get()
    assert not peer.hears(OTHER) and not peer.hears(OTHER), "as often as it likes"
    next_broker(peer)
    assert said.Open in map(type, to_broker(peer.hears(said.Welcome(epoch=7))))


def test_when_all_are_of_another_version_that_is_told_at_once() -> None:
    peer = a_get()
    assert not peer.hears(OTHER)
    next_broker(peer)
    (sorry,) = sorries(peer.hears(OTHER))
    assert sorry.code == "broker_unreachable" and "version 9" in sorry.text
    peer.client(said.Get(get=2, request=REQUEST))
    next_broker(peer)
    assert len(sorries(peer.hears(OTHER))) == 1, "whoever asks later is told as soon as it is heard again"


def test_one_of_another_version_beside_one_that_is_silent_is_named_when_patience_ends() -> None:
    peer = a_get()
    effects, hellos = peer.hears(OTHER), 1
    while not sorries(effects):
        effects = peer.passes(0.1)
        if all_of(do.NextBroker, effects):
            hellos += 1
            effects += peer.hears(OTHER) if hellos % 2 else []
    (sorry,) = sorries(effects)
    assert peer.now >= 100.0 + FIRST_PATIENCE_SECONDS
    assert "version 9" in sorry.text and "no broker has answered" in sorry.text


@pytest.mark.clause("SESS-1")
def test_one_that_becomes_of_another_version_is_left_for_the_next() -> None:
    """It was replaced at its address. What is under way goes on; the next one is told of it."""
    peer = PeerTalk()
    peer.opened()
    effects = peer.hears(OTHER)
    assert list(map(type, to_broker(effects))) == [said.Hello] and not to_client(effects)
    assert not sorries(peer.hears(OTHER))
    next_broker(peer)
    assert said.Open in map(type, to_broker(peer.hears(said.Welcome(epoch=8))))
    peer.takes(1, 0)
    assert said.Done in map(type, to_client(peer.takes(2, 1)))
