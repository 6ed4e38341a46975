"""Gets that must not go to the source (no_source), beside others of the same host that may."""

from __future__ import annotations

from typing import Any

from support.peer_talk import PeerTalk, to_broker, to_client
from support.talk import CUT, GENERATION, REQUEST, TASK

from dfmq.machines import events as told
from dfmq.wire import messages as said


def get(peer: PeerTalk, client: bytes, *, no_source: bool = False) -> list[Any]:
    return peer.told(told.ClientSaid(client, said.Get(get=1, request=REQUEST, no_source=no_source)))


def release(peer: PeerTalk, client: bytes) -> list[Any]:
    return peer.told(told.ClientSaid(client, said.Release(get=1)))


def opens(effects: list[Any]) -> list[bool]:
    """The leave to go to the source that each Open asks for."""
    return [not message.no_source for message in to_broker(effects) if isinstance(message, said.Open)]


def is_opened(peer: PeerTalk) -> list[Any]:
    """The broker says what the content is, once more."""
    return peer.hears(
        said.Opened(
            task=TASK, generation=GENERATION, length=CUT.length, piece_length=CUT.piece_length,
            chunk_length=CUT.chunk_length,
        )
    )  # fmt: skip


def refused(peer: PeerTalk, code: str = "transfer") -> list[Any]:
    return peer.hears(said.Refused(task=TASK, code=code, text="no"))


def frugal_alone() -> PeerTalk:
    """A get that must not go to the source runs, and no other."""
    peer = PeerTalk()
    peer.opened()
    get(peer, b"frugal", no_source=True)
    release(peer, b"client")
    is_opened(peer)
    return peer


def test_when_those_who_may_go_to_the_source_are_gone_the_broker_is_told() -> None:
    peer = PeerTalk()
    assert opens(peer.opened()) == [True]
    assert opens(get(peer, b"frugal", no_source=True)) == []
    assert opens(get(peer, b"other")) == []
    assert opens(release(peer, b"client")) == []
    assert opens(release(peer, b"other")) == [False]
    assert opens(is_opened(peer)) == []
    assert [type(message) for message in to_client(refused(peer))] == [said.Sorry]


def test_before_the_content_is_known_too() -> None:
    peer = PeerTalk()
    assert opens(peer.wants()) == [True]
    get(peer, b"frugal", no_source=True)
    assert opens(release(peer, b"client")) == [False]


def test_nothing_is_said_of_it_while_the_store_is_asked() -> None:
    peer = PeerTalk()
    peer.hears(said.Welcome(epoch=7))
    get(peer, b"client")
    get(peer, b"frugal", no_source=True)
    assert opens(release(peer, b"client")) == []
    assert opens(peer.told(told.StoreLoaded(TASK, None))) == [False]


def test_who_may_go_to_the_source_and_comes_later_takes_it_up_at_once() -> None:
    peer = frugal_alone()
    assert opens(get(peer, b"other")) == [True]
    is_opened(peer)
    effects = peer.takes(1, 0) + peer.takes(2, 1)
    assert [type(message) for message in to_client(effects)] == [said.Done, said.Done]


def test_a_no_to_what_was_asked_before_is_none_to_who_may_go_to_the_source() -> None:
    """It crossed the Open that asks for more; the broker answers that too."""
    peer = frugal_alone()
    get(peer, b"other")
    assert not to_client(refused(peer))
    is_opened(peer)
    assert [message.code for message in to_client(refused(peer)) if isinstance(message, said.Sorry)] == ["transfer"] * 2


def test_a_no_of_the_source_is_one_to_who_may_go_to_it() -> None:
    peer = frugal_alone()
    get(peer, b"other")
    answers = [message for message in to_client(refused(peer, "source_refused")) if isinstance(message, said.Sorry)]
    assert [answer.code for answer in answers] == ["source_refused"] * 2


def test_who_must_not_go_to_the_source_and_has_no_answer_yet_is_not_joined() -> None:
    """Its answer may be a no that is none for the other."""
    peer = PeerTalk()
    peer.hears(said.Welcome(epoch=7))
    get(peer, b"frugal", no_source=True)
    peer.told(told.StoreLoaded(TASK, None))
    assert opens(get(peer, b"other")) == []
    effects = refused(peer)
    assert [message.code for message in to_client(effects) if isinstance(message, said.Sorry)] == ["transfer"]
    assert opens(effects + peer.told(told.StoreLoaded(TASK, None))) == [True]
