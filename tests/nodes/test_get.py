"""The client of the host's peer, against a peer that does as it is told."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.fake_peer import FakePeer, progress

from dfmq.errors import ProtocolError
from dfmq.model.task import Request
from dfmq.nodes import get as get_module
from dfmq.nodes.get import HostPeer, PeerDied, PeerLost
from dfmq.wire import envelope
from dfmq.wire.messages import Done, Get, Message, Progress, Sorry

ONE = Request(url="http://source/one")
TWO = Request(url="http://source/two")


@pytest.fixture
def client(tmp_path: Path) -> Iterator[HostPeer]:
    client = HostPeer(tmp_path)
    yield client
    client.close()


def hear_until(client: HostPeer, kind: type[Message], count: int = 1) -> list[Message]:
    heard: list[Message] = []
    while sum(isinstance(message, kind) for message in heard) < count:
        messages = client.hear(5.0)
        assert messages, "the peer said nothing"
        heard += messages
    return heard


def test_no_peer_is_noticed_at_once(client: HostPeer) -> None:
    assert not client.connect(5.0)


def test_the_socket_of_a_peer_that_was_killed_is_no_peer(client: HostPeer, tmp_path: Path) -> None:
    import socket

    with socket.socket(socket.AF_UNIX) as left_over:
        left_over.bind(str(tmp_path / "peer.sock"))
    assert not client.connect(5.0)


def test_a_peer_says_who_it_is(client: HostPeer, tmp_path: Path) -> None:
    with FakePeer(tmp_path, brokers=("tcp://b:1",)):
        assert client.connect(5.0)
        answer = client.ask(5.0)
        assert (answer.brokers, answer.alone) == (["tcp://b:1"], False)


def test_several_gets_over_one_connection_are_told_apart(client: HostPeer, tmp_path: Path) -> None:
    with FakePeer(tmp_path) as peer:
        client.connect(5.0)
        first, second = client.get(ONE, limit=5), client.get(TWO, no_source=True)
        heard = hear_until(client, Done, 2)
        client.release(first, linked=True)
        done = {message.get: message for message in heard if isinstance(message, Done)}
        assert Path(done[first].path).read_bytes() == b"content of http://source/one"
        assert Path(done[second].path).read_bytes() == b"content of http://source/two"
        assert [(g.get, g.limit, g.no_source) for g in peer.gets] == [(first, 5, False), (second, 0, True)]
        client.close()
        peer.die()
        # What was not released is given up when the client goes.
        assert [(r.get, r.linked) for r in peer.releases] == [(first, True), (second, False)]


def test_a_peer_that_dies_is_noticed_at_once_and_not_before_its_last_words(client: HostPeer, tmp_path: Path) -> None:
    with FakePeer(tmp_path, lambda get: [Sorry(get=get.get, code="transfer", text="so it goes")]) as peer:
        client.connect(5.0)
        client.get(ONE)
        assert isinstance(hear_until(client, Sorry)[0], Sorry)
        peer.die()
        with pytest.raises(PeerDied, match="run the command again"):
            client.hear(5.0)


def test_a_silent_peer_is_asked_and_then_given_up(
    client: HostPeer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(get_module, "SILENCE_SECONDS", 0.02)
    with FakePeer(tmp_path, silent=True) as peer:
        client.connect(5.0)
        client.get(ONE)
        with pytest.raises(PeerLost, match="said nothing"):
            for _ in range(20):
                client.hear(None)
        peer.die()
        assert peer.asks == get_module.SILENCES


def test_a_slow_but_living_peer_is_waited_for(
    client: HostPeer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(get_module, "SILENCE_SECONDS", 0.1)
    with FakePeer(tmp_path, lambda _: []) as peer:
        client.connect(5.0)
        client.get(ONE)
        # Each Answer to an Ask starts the silence anew, so this would end before the sixth if it did not.
        for _ in range(6):
            while not client.hear(None):
                pass
        assert peer.asks >= 6


def test_one_that_slept_together_with_its_peer_asks_before_it_gives_up(
    client: HostPeer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container that was paused, a machine that was moved: the silence was ours too."""
    monkeypatch.setattr(get_module, "SILENCE_SECONDS", 5.0)
    plain = time.monotonic
    with FakePeer(tmp_path, lambda _: []) as peer:
        client.connect(5.0)
        client.get(ONE)
        monkeypatch.setattr(time, "monotonic", lambda: plain() + 3600)
        while not client.hear(None):
            pass
        assert peer.asks == 1


def test_nothing_expected_nothing_missed(client: HostPeer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(get_module, "SILENCE_SECONDS", 0.01)
    with FakePeer(tmp_path) as peer:
        client.connect(5.0)
        assert client.hear(0.1) == []
        assert peer.asks == 0


@pytest.mark.parametrize("signature", [envelope.MAGIC + b"\x63", b"HTTP/1.1"])
def test_a_peer_that_speaks_otherwise_is_named(client: HostPeer, tmp_path: Path, signature: bytes) -> None:
    with FakePeer(tmp_path, signature=signature):
        client.connect(5.0)
        with pytest.raises(ProtocolError, match="speaks otherwise"):
            client.ask(5.0)


def test_progress_comes_as_it_was_said(client: HostPeer, tmp_path: Path) -> None:
    def reply(get: Get) -> list[Message]:
        return [progress(get, 100, 10), progress(get, 100, 100)]

    with FakePeer(tmp_path, reply):
        client.connect(5.0)
        client.get(ONE)
        heard = hear_until(client, Progress, 2)
        assert [m.held for m in heard if isinstance(m, Progress)] == [10, 100]
