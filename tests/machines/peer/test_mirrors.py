"""Gets of one host that name different sources of one content: each is told what its own has said."""

from __future__ import annotations

from typing import Any

import pytest
from support.peer_talk import PeerTalk, all_of, to_broker

from dfmq.machines import effects as do
from dfmq.machines import events as told
from dfmq.model.task import Request, task_id
from dfmq.wire import messages as said

DIGEST = "sha256:" + "ab" * 32
BAD, GOOD = (Request(url=f"http://{name}.example/x", digest=DIGEST) for name in ("bad", "good"))
TASK = task_id(BAD)


def opens(effects: list[Any]) -> list[said.Open]:
    return [message for message in to_broker(effects) if isinstance(message, said.Open)]


def get(peer: PeerTalk, client: bytes, request: Request) -> list[Any]:
    return peer.told(told.ClientSaid(client, said.Get(get=1, request=request)))


def refused(peer: PeerTalk, code: str) -> list[Any]:
    return peer.hears(said.Refused(task=TASK, code=code, text="no"))


def sorry(effects: list[Any]) -> list[bytes]:
    return [e.client for e in all_of(do.TellClient, effects) if isinstance(e.message, said.Sorry)]


def asking() -> PeerTalk:
    """Three gets have joined one download, which names the first's source."""
    peer = PeerTalk()
    peer.hears(said.Welcome(epoch=7))
    get(peer, b"one", BAD)
    peer.told(told.StoreLoaded(TASK, None))
    for client, request in ((b"two", GOOD), (b"three", BAD), (b"four", GOOD)):
        assert not opens(get(peer, client, request))
    return peer


@pytest.mark.parametrize("code", ["source_refused", "source_failed", "source_unreachable", "not_authorised"])
def test_those_who_name_another_source_have_it_asked(code: str) -> None:
    peer = asking()
    out = refused(peer, code)
    assert sorry(out) == [b"one", b"three"]
    assert not [pin for pin in all_of(do.PinTask, out) if not pin.pinned]
    (opened,) = opens(out + peer.told(told.StoreLoaded(TASK, None)))
    assert opened.request == GOOD
    out = refused(peer, code)
    assert sorry(out) == [b"two", b"four"]
    assert not opens(out)


def test_what_is_no_word_of_a_source_is_told_to_all() -> None:
    peer = asking()
    assert sorry(refused(peer, "no_space")) == [b"one", b"two", b"three", b"four"]
