"""A broker that has more to read than it gets through is told more at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from support.peer_talk import PeerTalk, all_of, to_broker
from support.talk import CHUNKS, CUT, GENERATION, TASK, digest, exchange, peer_id, proofs

from dfmq.machines import effects as do
from dfmq.machines import events as told
from dfmq.machines.peer.window import Window
from dfmq.model.ids import LeaseId
from dfmq.model.task import Request, task_id
from dfmq.wire import messages as said

PIECES = 40
IN_FLIGHT = 6


class Busy(PeerTalk):
    """Six leases in flight, of a content of many pieces; the broker says whether it is behind."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, behind: bool, pieces: int = PIECES) -> None:
        super().__init__()
        monkeypatch.setattr(Window, "in_flight", lambda *_: IN_FLIGHT)
        self._leases = 0
        self.wants()
        length, piece_length, chunk_length = pieces * CUT.piece_length, CUT.piece_length, CUT.chunk_length
        self.hears(
            said.Opened(
                task=TASK,
                generation=GENERATION,
                length=length,
                piece_length=piece_length,
                chunk_length=chunk_length,
            )
        )
        self.told(told.StoreOpened(TASK, GENERATION, 0, {}, {}))
        self.grants(IN_FLIGHT)
        self.beats(behind=behind)

    def beats(self, *, behind: bool) -> list[Any]:
        effects: list[Any] = []
        while not (beats := [message for message in to_broker(effects) if isinstance(message, said.Beat)]):
            effects += self.passes(0.05)
        self.hears(said.BeatSeen(stamp=beats[-1].stamp, behind=behind))
        return effects

    def grants(self, count: int) -> None:
        for _ in range(count):
            self._leases += 1
            self.granted(self._leases, self._leases - 1)

    def holds(self, piece: int) -> list[Any]:
        """It arrives, which makes room for another, and is stored then."""
        effects: list[Any] = []
        for chunk in range(CHUNKS):
            lease, digests, length = LeaseId(piece + 1), digest(piece, chunk), CUT.chunk_length
            effects += self.told(told.ChunkArrived(lease, piece, chunk, length, digests, "payload"))
        return effects + self.stored(piece, range(CHUNKS))


def talk(effects: Sequence[Any]) -> list[tuple[str, int]]:
    """What is said of pieces: (Have or Want, how many)."""
    return [
        (type(message).__name__, len(message.pieces) if isinstance(message, said.Have) else message.count)
        for message in to_broker(effects)
        if isinstance(message, said.Have | said.Want)
    ]


def test_a_broker_that_gets_through_hears_of_each_piece_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    peer = Busy(monkeypatch, behind=False)
    assert talk(peer.holds(0)) == [("Want", 1), ("Have", 1)]
    assert talk(peer.holds(1)) == [("Want", 1), ("Have", 1)]


@pytest.mark.clause("WANT-2")
def test_one_that_is_behind_hears_of_some_pieces_together_and_is_asked_for_half_of_what_is_in_flight(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    peer = Busy(monkeypatch, behind=True)
    assert talk(peer.holds(0)) == [("Want", 3)], "more in flight, so that half can be waited for"
    peer.grants(3)
    assert [talk(peer.holds(piece)) for piece in (1, 2, 3)] == [[], [], [("Have", 3), ("Want", 3)]]
    peer.grants(3)
    assert [talk(peer.holds(piece)) for piece in (4, 5, 6)] == [[], [], [("Have", 3), ("Want", 3)]]


@pytest.mark.clause("WANT-2")
def test_what_waits_is_said_with_the_next_beat(monkeypatch: pytest.MonkeyPatch) -> None:
    peer = Busy(monkeypatch, behind=True)
    peer.holds(0)
    peer.grants(3)
    assert talk(peer.holds(1)) == []
    assert talk(peer.beats(behind=True)) == [("Have", 2)]
    assert talk(peer.beats(behind=True)) == []


def test_when_it_has_caught_up_each_piece_is_said_at_once_again(monkeypatch: pytest.MonkeyPatch) -> None:
    peer = Busy(monkeypatch, behind=True)
    peer.holds(0)
    peer.grants(3)
    assert talk(peer.holds(1)) == []
    peer.beats(behind=False)
    assert talk(peer.holds(2)) == [("Have", 1)], "there is still more in flight than needed"


def test_nothing_waits_when_nothing_more_is_on_its_way(monkeypatch: pytest.MonkeyPatch) -> None:
    peer = Busy(monkeypatch, behind=True)
    assert [talk(peer.holds(piece)) for piece in range(IN_FLIGHT)] == [
        [("Want", 3)], [], [], [("Have", 3), ("Want", 3)], [], [("Have", 3), ("Want", 2)],
    ]  # fmt: skip


def test_what_waits_is_stated_to_a_broker_that_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    peer = Busy(monkeypatch, behind=True)
    peer.holds(0)
    peer.grants(3)
    assert talk(peer.holds(1)) == []
    peer.hears(said.Error(code="unknown_peer"))
    effects = peer.hears(said.Welcome(epoch=8))
    (open_,) = (message for message in to_broker(effects) if isinstance(message, said.Open))
    assert open_.held == b"\x03"
    assert talk(effects + peer.holds(2)) == [("Have", 1)], "of the new one nothing is known"


def test_a_piece_that_is_gone_before_it_was_said_is_not_said(monkeypatch: pytest.MonkeyPatch) -> None:
    peer = Busy(monkeypatch, behind=True)
    peer.holds(0)
    peer.grants(3)
    assert talk(peer.holds(1)) == []
    effects = peer.told(told.StoreDamaged(TASK))
    assert not [message for message in to_broker(effects) if isinstance(message, said.Have)]
    assert not talk(peer.beats(behind=True))
    assert not all_of(do.Publish, effects)


def test_the_last_pieces_are_wanted_while_others_are_on_their_way(monkeypatch: pytest.MonkeyPatch) -> None:
    peer = Busy(monkeypatch, behind=True, pieces=24)
    asked = IN_FLIGHT
    for piece in range(23):
        more = sum(count for kind, count in talk(peer.holds(piece)) if kind == "Want")
        peer.grants(more)
        asked += more
        assert asked == 24 or asked - (piece + 1) >= IN_FLIGHT - 1
    assert asked == 24


def test_a_download_whose_last_lease_gives_way_to_anothers_says_what_waited(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that began anew numbers from the start."""
    peer, request = Busy(monkeypatch, behind=True), Request(url="http://source.example/other")
    other = task_id(request)
    peer.client(said.Get(get=2, request=request))
    peer.told(told.StoreLoaded(other, None))
    peer.hears(
        said.Opened(
            task=other, generation=GENERATION, length=CUT.length, piece_length=CUT.piece_length,
            chunk_length=CUT.chunk_length,
        )
    )  # fmt: skip
    peer.told(told.StoreOpened(other, GENERATION, 0, {}, {}))
    peer.hears(said.Error(code="unknown_peer"))
    peer.hears(said.Welcome(epoch=8))
    peer.beats(behind=True)
    for piece in range(IN_FLIGHT - 1):
        peer.holds(piece)
    lease = said.Lease(lease=IN_FLIGHT, piece=0, parent=peer_id("one"), endpoint=exchange("one"), proofs=proofs(0))
    effects = peer.hears(said.Grant(task=other, generation=GENERATION, leases=[lease]))
    assert ("Have", 2) in talk(effects)


def test_of_a_content_of_few_pieces_each_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    peer = Busy(monkeypatch, behind=True, pieces=12)
    assert [talk(peer.holds(piece)) for piece in (0, 1)] == [[("Want", 1), ("Have", 1)]] * 2
