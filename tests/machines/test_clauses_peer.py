"""The clauses of docs/protocol.md that bind a peer, shown on its machine."""

from __future__ import annotations

from typing import Any

import pytest
from support.peer_talk import PeerTalk, all_of, shelved, to_broker, to_client, to_parents
from support.talk import CHUNKS, CUT, GENERATION, OTHER_GENERATION, REQUEST, TASK, exchange, peer_id, proofs

from dfmq.machines import effects as do
from dfmq.machines import events as told
from dfmq.model import bitfield
from dfmq.wire import messages as said

PIECE = CUT.piece_length
CHUNK = CUT.chunk_length


def opened(generation: bytes = GENERATION) -> said.Opened:
    return said.Opened(task=TASK, generation=generation, length=CUT.length, piece_length=PIECE, chunk_length=CHUNK)


@pytest.mark.clause("SESS-1")
def test_nothing_but_hello_is_said_until_welcome() -> None:
    peer = PeerTalk()
    assert [type(message) for message in to_broker(peer.born)] == [said.Hello]
    effects = peer.client(said.Get(get=1, request=REQUEST)) + peer.told(told.StoreLoaded(TASK, None))
    effects += peer.passes(8)
    assert {type(message) for message in to_broker(effects)} == {said.Hello}
    hellos = [index for index, effect in enumerate(effects) if isinstance(effect, do.TellBroker)]
    assert len(hellos) > 3
    assert all(isinstance(effects[index - 1], do.NextBroker) for index in hellos), "each on a connection made anew"
    later = to_broker(peer.hears(said.Welcome(epoch=7)))
    assert said.Open in [type(message) for message in later]


@pytest.mark.clause("SESS-2")
def test_another_epoch_is_told_again_what_is_wanted_and_what_is_held() -> None:
    peer = PeerTalk()
    peer.opened()
    peer.takes(1, 0)
    same = to_broker(peer.hears(said.Welcome(epoch=7)))
    assert said.Open not in [type(message) for message in same]
    (again,) = [m for m in to_broker(peer.hears(said.Welcome(epoch=8))) if isinstance(m, said.Open)]
    assert (again.generation, again.held) == (GENERATION, bitfield.to_bytes(1))
    peer.hears(opened())
    peer.takes(1, 1)
    (held,) = [m for m in to_broker(peer.hears(said.Welcome(epoch=9))) if not isinstance(m, said.Beat)]
    assert held == said.Held(task=TASK, generation=GENERATION, held=bitfield.to_bytes(3))


@pytest.mark.clause("SESS-3")
def test_whoever_is_unknown_says_hello_again() -> None:
    peer = PeerTalk()
    peer.opened()
    said_then = to_broker(peer.hears(said.Error(code="unknown_peer")))
    assert [type(message) for message in said_then] == [said.Hello]


@pytest.mark.clause("SESS-4")
def test_a_peer_beats_as_often_as_the_broker_asked() -> None:
    peer = PeerTalk()
    peer.hears(said.Welcome(epoch=7, beat_seconds=0.5))
    for _ in range(10):
        beats = [message for message in to_broker(peer.passes(0.5)) if isinstance(message, said.Beat)]
        assert beats
        peer.hears(said.BeatSeen(stamp=beats[-1].stamp))


@pytest.mark.clause("SESS-6")
def test_a_silent_broker_does_not_hold_up_a_lease() -> None:
    peer = PeerTalk()
    peer.opened()
    peer.granted(1, 0)
    effects: list[Any] = []
    for chunk in range(CHUNKS - 1):
        effects += peer.chunk(1, 0, chunk)
        effects += peer.stored(0, [chunk])
        effects += peer.passes(0.9)
    while not all_of(do.NextBroker, effects):
        effects += peer.passes(0.5)
        assert peer.now < 130
    messages = to_broker(effects)
    assert isinstance(messages[-1], said.Hello)
    assert all_of(do.StoreChunk, effects)


@pytest.mark.clause("SESS-6")
@pytest.mark.parametrize(("epoch", "is_silent"), [(7, False), (8, True)])
def test_a_notice_of_our_broker_that_it_is_behind_is_a_sign_of_life(epoch: int, is_silent: bool) -> None:
    peer = PeerTalk()
    peer.opened()
    effects: list[Any] = []
    for _ in range(20):
        effects += peer.passes(1.0)
        effects += peer.told(told.NoticeHeard(said.Notice(kind="behind", epoch=epoch)))
    assert bool(all_of(do.NextBroker, effects)) == is_silent
    if not is_silent:
        assert not [message for message in to_broker(effects) if isinstance(message, said.Open)], "nothing is in doubt"


@pytest.mark.clause("GEN-1", "OPEN-2")
def test_another_generation_drops_the_former_and_nothing_of_it_is_taken() -> None:
    peer = PeerTalk()
    peer.opened()
    peer.granted(1, 0)
    peer.chunk(1, 0, 0)
    effects = peer.hears(opened(OTHER_GENERATION))
    assert [effect.content.generation for effect in all_of(do.OpenStore, effects)] == [OTHER_GENERATION]
    assert not all_of(do.StoreChunk, peer.chunk(1, 0, 1))
    peer.told(told.StoreOpened(TASK, OTHER_GENERATION, 0, {}, {}))
    assert not all_of(do.StoreChunk, peer.chunk(1, 0, 2))
    assert not to_parents(peer.granted(2, 0)), "a grant of the former generation is void"


@pytest.mark.clause("HAVE-1")
def test_have_is_said_when_every_chunk_is_proven_and_written_not_before() -> None:
    peer = PeerTalk()
    peer.opened()
    peer.granted(1, 0)
    early: list[Any] = []
    for chunk in range(CHUNKS):
        early += peer.chunk(1, 0, chunk)
    early += peer.stored(0, range(CHUNKS - 1))
    assert not [message for message in to_broker(early) if isinstance(message, said.Have)]
    late = to_broker(peer.stored(0, [CHUNKS - 1]))
    assert said.Have(task=TASK, generation=GENERATION, pieces=[0]) in late


@pytest.mark.clause("CHUNK-3")
def test_a_chunk_that_is_not_what_the_broker_said_is_neither_written_nor_passed_on() -> None:
    peer = PeerTalk()
    peer.opened()
    peer.granted(1, 0)
    peer.child(fetch(chunks=0b1111))
    effects = peer.chunk(1, 0, 0, true=False)
    assert not all_of(do.StoreChunk, effects)
    assert not all_of(do.SendChunk, effects)
    (failed,) = [message for message in to_broker(effects) if isinstance(message, said.Failed)]
    assert (failed.lease, failed.piece, failed.code) == (1, 0, "corrupt")
    assert said.Stop(lease=1, code="corrupt") in to_parents(effects)


@pytest.mark.clause("CHUNK-4")
def test_a_late_chunk_that_is_missing_and_proves_is_taken() -> None:
    peer = PeerTalk()
    peer.opened()
    peer.granted(1, 0)
    peer.hears(said.Revoke(task=TASK, leases=[1]))
    peer.granted(2, 0, parent="another")
    assert all_of(do.StoreChunk, peer.chunk(1, 0, 3))
    assert not all_of(do.StoreChunk, peer.chunk(1, 0, 2, true=False))
    assert not all_of(do.StoreChunk, peer.chunk(2, 0, 3)), "it is here already"


@pytest.mark.clause("CHUNK-5")
def test_a_stalled_lease_is_given_up_and_only_the_rest_is_fetched_again() -> None:
    peer = PeerTalk()
    peer.opened()
    peer.granted(1, 0)
    peer.chunk(1, 0, 0)
    peer.stored(0, [0])
    effects = peer.passes(0.9)
    assert not [message for message in to_broker(effects) if isinstance(message, said.Failed)]
    effects = peer.passes(10)
    (failed,) = [message for message in to_broker(effects) if isinstance(message, said.Failed)]
    assert (failed.lease, failed.code) == (1, "stalled")
    (again,) = [message for message in to_parents(peer.granted(2, 0)) if isinstance(message, said.Fetch)]
    assert bitfield.from_bytes(again.chunks) == bitfield.full(CHUNKS) & ~1


# ── as a parent ───────────────────────────────────────────────────────────────────────────────────────────────────


def fetch(piece: int = 0, chunks: int = 0b1111, credit: int = PIECE, generation: bytes = GENERATION) -> said.Fetch:
    return said.Fetch(
        lease=9,
        task=TASK,
        generation=generation,
        piece=piece,
        chunks=bitfield.to_bytes(chunks),
        credit=credit,
        inbox="tcp://child:1",
    )


def sent(effects: list[Any]) -> list[tuple[int, int]]:
    return [(effect.piece, effect.chunk) for effect in all_of(do.SendChunk, effects)]


@pytest.mark.clause("FETCH-1")
def test_chunks_are_sent_at_once_or_when_they_come() -> None:
    peer = PeerTalk()
    peer.opened()
    peer.granted(1, 0)
    peer.chunk(1, 0, 0)
    assert sent(peer.child(fetch(chunks=0b1011))) == [(0, 0)]
    effects = peer.chunk(1, 0, 1)
    assert sent(effects) == [(0, 1)], "passed on before it is written"
    assert all_of(do.SendChunk, effects)[0].payload == "payload 0.1"
    assert sent(peer.chunk(1, 0, 2)) == [], "not asked for"
    assert sent(peer.chunk(1, 0, 3)) == [(0, 3)]


@pytest.mark.clause("FETCH-2")
def test_credit_is_bytes_and_is_never_overdrawn() -> None:
    peer = PeerTalk()
    peer.opened()
    peer.takes(1, 0)
    assert sent(peer.child(fetch(credit=2 * CHUNK - 1))) == [(0, 0)]
    assert sent(peer.child(said.Credit(lease=9, credit=1))) == [(0, 1)]
    assert sent(peer.passes(1)) == []
    assert sent(peer.child(said.Credit(lease=9, credit=100 * CHUNK))) == [(0, 2), (0, 3)]
    assert sent(peer.child(said.Credit(lease=9, credit=100 * CHUNK))) == []


@pytest.mark.clause("FETCH-3")
def test_what_cannot_be_served_is_said_and_what_is_not_wanted_ends() -> None:
    peer = PeerTalk()
    peer.opened()
    for unable in (fetch(generation=OTHER_GENERATION), fetch(piece=2)):
        (stop,) = [effect.message for effect in all_of(do.TellChild, peer.child(unable))]
        assert stop == said.Stop(lease=9, code="not_held")
    effects = peer.child(fetch(piece=1)) + peer.passes(2)
    assert [effect.message for effect in all_of(do.TellChild, effects)] == [said.Stop(lease=9, code="not_held")]
    peer.takes(1, 0)
    peer.child(fetch(credit=CHUNK))
    peer.child(said.Stop(lease=9))
    assert sent(peer.child(said.Credit(lease=9, credit=PIECE))) == []


# ── as a reader ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.clause("SRC-2")
def test_what_is_on_disk_is_told_and_not_read_again() -> None:
    peer = PeerTalk()
    peer.hears(said.Welcome(epoch=7))
    peer.hears(said.Permit(permit=5, task=TASK, request=REQUEST))
    effects = peer.told(told.StoreLoaded(TASK, shelved(held=0b11)))
    (ask,) = all_of(do.AskSource, effects)
    assert ask.unchanged_will_do
    effects = peer.told(told.SourceAnswered(ask.permit, "unchanged", 0, CUT.length, '"v1"', "", 60.0, True))
    effects += peer.told(told.StoreOpened(TASK, GENERATION, 0b11, {}, {0: proofs(0), 1: proofs(1)}))
    messages = to_broker(effects)
    assert [message.permit for message in messages if isinstance(message, said.Sourced)] == [5]
    assert {message.piece for message in messages if isinstance(message, said.Proven)} == {0, 1}
    assert not all_of(do.ReadSource, effects)


@pytest.mark.clause("SRC-1")
def test_without_a_permit_no_source_is_asked() -> None:
    peer = PeerTalk()
    effects = peer.opened() + peer.takes(1, 0) + peer.passes(120)
    assert not all_of(do.AskSource, effects)


# ── hints and clients ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.clause("HINT-1")
def test_with_no_broker_a_neighbours_hint_is_a_lease_of_our_own() -> None:
    peer = PeerTalk()
    peer.wants()
    message = said.Opened(
        task=TASK,
        generation=GENERATION,
        length=CUT.length,
        piece_length=PIECE,
        chunk_length=CHUNK,
        neighbours=["tcp://neighbour.example:2"],
    )
    peer.hears(message)
    peer.told(told.StoreOpened(TASK, GENERATION, 0, {}, {}))
    hint = said.Hint(
        task=TASK,
        generation=GENERATION,
        piece=1,
        peer=peer_id("neighbour"),
        endpoint=exchange("neighbour"),
        proofs=proofs(1),
    )
    assert not to_parents(peer.told(told.NeighbourHinted(hint))), "while a broker answers, it decides"
    effects = peer.passes(30)
    assert all_of(do.NextBroker, effects)
    (asked,) = [message for message in to_parents(effects) if isinstance(message, said.Fetch)][:1]
    assert (asked.piece, asked.generation) == (1, GENERATION)
    effects = peer.told(told.NeighbourHinted(hint))
    lease = asked.lease
    assert not all_of(do.StoreChunk, peer.chunk(lease, 1, 0, true=False)), "proven as always"


@pytest.mark.clause("LOCAL-1", "LOCAL-2")
def test_a_get_ends_once_and_its_content_stays_until_release() -> None:
    peer = PeerTalk()
    effects = peer.opened() + peer.takes(1, 0) + peer.takes(2, 1) + peer.passes(5)
    answers = [message for message in to_client(effects) if not isinstance(message, said.Progress)]
    assert [type(answer) for answer in answers] == [said.Done]
    (done,) = answers
    assert isinstance(done, said.Done)
    assert (done.get, done.length, done.task) == (1, CUT.length, TASK)
    assert sum((done.receipt.from_peers, done.receipt.from_seed, done.receipt.from_source)) == CUT.length
    pins = [effect.pinned for effect in all_of(do.PinTask, effects)]
    assert pins[-1:] == [True]
    released = peer.client(said.Release(get=1))
    assert [effect.pinned for effect in all_of(do.PinTask, released)] == [False]
    assert not to_client(released + peer.passes(5))


def given_again(peer: PeerTalk) -> list[Any]:
    """The content is whole, and was given to a client; another get of it begins."""
    peer.opened()
    peer.takes(1, 0)
    peer.takes(2, 1)
    peer.client(said.Release(get=1))
    effects = peer.client(said.Get(get=2, request=REQUEST))
    (pin,) = all_of(do.PinTask, effects)
    assert pin.pinned
    return effects


@pytest.mark.clause("LOCAL-3")
def test_what_was_touched_is_given_away_after_it_is_proven_again_and_others_are_not_told() -> None:
    peer = PeerTalk()
    given_again(peer)
    effects = peer.told(told.StoreDoubted(TASK)) + peer.hears(opened())
    assert all_of(do.OpenStore, effects)
    assert not any(isinstance(message, said.Done) for message in to_client(effects))
    assert not any(isinstance(message, said.Lost) for message in to_broker(effects))
    proven = peer.told(told.StoreOpened(TASK, GENERATION, 0b11, {}, {0: proofs(0), 1: proofs(1)}))
    assert [type(message) for message in to_client(proven) if not isinstance(message, said.Progress)] == [said.Done]
    (done,) = [message for message in to_client(proven) if isinstance(message, said.Done)]
    assert done.receipt.from_store == CUT.length


@pytest.mark.clause("LOCAL-3")
def test_what_was_touched_and_does_not_prove_is_fetched_anew() -> None:
    peer = PeerTalk()
    given_again(peer)
    peer.told(told.StoreDoubted(TASK))
    peer.hears(opened())
    effects = peer.told(told.StoreDamaged(TASK))
    assert [message.all_pieces for message in to_broker(effects) if isinstance(message, said.Lost)] == [True]
    effects += peer.told(told.StoreOpened(TASK, GENERATION, 0, {}, {}))
    assert not any(isinstance(message, said.Done) for message in to_client(effects))
    assert all_of(do.OpenStore, peer.hears(opened()))
    peer.told(told.StoreOpened(TASK, GENERATION, 0, {}, {}))
    effects = peer.takes(3, 0) + peer.takes(4, 1)
    (done,) = [message for message in to_client(effects) if isinstance(message, said.Done)]
    assert (done.receipt.from_peers, done.receipt.from_store) == (CUT.length, 0)


@pytest.mark.clause("LOCAL-3")
def test_the_store_looks_for_each_download_also_while_another_client_is_still_at_the_content() -> None:
    peer = PeerTalk()
    peer.opened()
    peer.takes(1, 0)
    peer.takes(2, 1)
    effects = peer.client(said.Get(get=2, request=REQUEST))
    assert all_of(do.PinTask, effects) == [do.PinTask(TASK, True)]
    peer.told(told.StoreDoubted(TASK))
    assert all_of(do.OpenStore, peer.hears(opened()))


@pytest.mark.clause("LOCAL-3")
def test_what_waited_long_for_the_broker_is_looked_at_again_before_it_is_given_away() -> None:
    peer = PeerTalk()
    given_again(peer)
    peer.passes(3)
    effects = peer.hears(opened())
    assert all_of(do.OpenStore, effects)
    assert not any(isinstance(message, said.Done) for message in to_client(effects))
    proven = peer.told(told.StoreOpened(TASK, GENERATION, 0b11, {}, {0: proofs(0), 1: proofs(1)}))
    assert [type(message) for message in to_client(proven) if not isinstance(message, said.Progress)] == [said.Done]


@pytest.mark.clause("LOCAL-3")
def test_what_was_not_touched_is_given_away_at_once() -> None:
    peer = PeerTalk()
    given_again(peer)
    effects = peer.hears(opened())
    assert not all_of(do.OpenStore, effects)
    assert [type(message) for message in to_client(effects) if not isinstance(message, said.Progress)] == [said.Done]


@pytest.mark.clause("LOCAL-3")
def test_the_store_is_told_what_a_link_did_to_the_files_change_time_before_it_is_taken_back() -> None:
    peer = PeerTalk()
    peer.opened()
    peer.takes(1, 0)
    peer.takes(2, 1)
    effects = peer.client(said.Release(get=1, linked=True, ctime_before=5, ctime_after=9))
    assert effects[:1] == [do.NoteLink(TASK, GENERATION, 5, 9)]
    assert all_of(do.PinTask, effects)
    peer.client(said.Get(get=2, request=REQUEST))
    released = peer.client(said.Release(get=2, linked=True, ctime_before=9, ctime_after=11))
    assert not all_of(do.NoteLink, released), "it was not told that it is done"


@pytest.mark.clause("LOCAL-1")
def test_a_get_that_fails_ends_with_one_sorry() -> None:
    peer = PeerTalk()
    effects = peer.wants()
    effects += peer.hears(said.Refused(task=TASK, code="source_refused", text="404 Not Found")) + peer.passes(30)
    answers = [message for message in to_client(effects) if not isinstance(message, said.Progress)]
    assert [type(answer) for answer in answers] == [said.Sorry]
