"""How one task comes in: wants, leases, credit, chunks that are true and others, pieces held."""

from __future__ import annotations

from typing import Any

import pytest
from support.peer_talk import PeerTalk, all_of, to_broker, to_client, to_parents
from support.talk import CHUNKS, CUT, GENERATION, OTHER_GENERATION, REQUEST, TASK, digest, exchange, peer_id, proofs

from dfmq.machines import effects as do
from dfmq.machines import events as told
from dfmq.machines.peer.gets import FRUITLESS_SECONDS
from dfmq.model import bitfield
from dfmq.model.host import HostSample
from dfmq.model.ids import LeaseId, PermitId
from dfmq.model.pieces import MIB, PieceMap
from dfmq.wire import messages as said

#: sixteen chunks of 1 MiB a piece: more than a window
LARGE = PieceMap(64 * MIB, 16 * MIB, MIB)
GROWING = PieceMap(None, CUT.piece_length, CUT.chunk_length)


def opened(peer: PeerTalk, cut: PieceMap = CUT, generation: bytes = GENERATION) -> list[Any]:
    message = said.Opened(
        task=TASK,
        generation=generation,
        length=cut.length,
        piece_length=cut.piece_length,
        chunk_length=cut.chunk_length,
    )
    return peer.hears(message)


def running(cut: PieceMap = CUT) -> PeerTalk:
    """A peer whose download of the content has just begun to run."""
    peer = PeerTalk()
    peer.wants()
    opened(peer, cut)
    peer.told(told.StoreOpened(TASK, GENERATION, 0, {}, {}))
    return peer


def large_proofs(piece: int) -> bytes:
    return b"".join(digest(piece, chunk) for chunk in range(LARGE.chunks_in(piece)))


def granted_large(peer: PeerTalk, lease: int, piece: int, parent: str = "parent") -> list[Any]:
    one = said.Lease(
        lease=lease, piece=piece, parent=peer_id(parent), endpoint=exchange(parent), proofs=large_proofs(piece)
    )
    return peer.hears(said.Grant(task=TASK, generation=GENERATION, leases=[one]))


def large_chunk(peer: PeerTalk, lease: int, piece: int, chunk: int, **other: Any) -> list[Any]:
    fields = {"length": MIB, "digest": digest(piece, chunk), **other}
    return peer.told(told.ChunkArrived(LeaseId(lease), piece, chunk, payload="payload", **fields))


def credit(effects: list[Any]) -> int:
    return sum(m.credit for m in to_parents(effects) if isinstance(m, said.Fetch | said.Credit))


def of_kind(kind: type[Any], messages: list[Any]) -> list[Any]:
    return [message for message in messages if isinstance(message, kind)]


# ── from wish to lease ────────────────────────────────────────────────────────────────────────────────────────────


def test_open_says_what_is_held_and_how_many_leases_are_wanted_at_once() -> None:
    peer = PeerTalk()
    (open_,) = of_kind(said.Open, to_broker(peer.wants()))
    assert (open_.held, open_.generation, open_.want) == (b"", b"", 3)


def test_grants_that_come_before_the_store_is_ready_are_kept_until_it_is() -> None:
    peer = PeerTalk()
    peer.wants()
    opened(peer)
    assert to_parents(peer.granted(1, 0)) == []
    (fetch,) = to_parents(peer.told(told.StoreOpened(TASK, GENERATION, 0, {}, {})))
    assert isinstance(fetch, said.Fetch)
    assert (fetch.lease, fetch.piece) == (1, 0)


def test_only_chunks_that_are_missing_are_asked_for() -> None:
    peer = PeerTalk()
    peer.wants()
    opened(peer)
    peer.told(told.StoreOpened(TASK, GENERATION, 0, {0: 0b0101}, {}))
    (fetch,) = to_parents(peer.granted(1, 0))
    assert isinstance(fetch, said.Fetch)
    assert bitfield.from_bytes(fetch.chunks) == 0b1010
    assert fetch.credit == 2 * CUT.chunk_length


def test_a_piece_that_is_held_already_is_answered_with_have() -> None:
    peer = running()
    peer.takes(1, 0)
    assert of_kind(said.Have, to_broker(peer.granted(2, 0)))[0].pieces == [0]


def test_proofs_that_do_not_fit_the_cut_make_no_lease() -> None:
    peer = running()
    lease = said.Lease(lease=1, piece=0, parent=peer_id("p"), endpoint=exchange("p"), proofs=b"x" * 16)
    (failed,) = to_broker(peer.hears(said.Grant(task=TASK, generation=GENERATION, leases=[lease])))
    assert isinstance(failed, said.Failed)
    assert failed.code == "refused"


def test_no_more_pieces_are_wanted_than_are_missing() -> None:
    peer = running()
    wanted = sum(m.count for m in of_kind(said.Want, to_broker(peer.granted(1, 0) + peer.granted(2, 1))))
    assert wanted == 0


def test_the_next_piece_is_wanted_before_the_last_one_is_stored() -> None:
    peer = running(LARGE)
    for lease in range(3):
        assert not of_kind(said.Want, to_broker(granted_large(peer, lease, lease)))
    effects: list[Any] = []
    for chunk in range(16):
        assert not of_kind(said.Want, to_broker(effects))
        effects = large_chunk(peer, 0, 0, chunk)
        if chunk % 4 == 3 and chunk < 15:
            peer.stored(0, range(chunk - 3, chunk + 1))
    assert [want.count for want in of_kind(said.Want, to_broker(effects))] == [1]


# ── credit ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_credit_is_a_window_at_first_and_comes_back_as_chunks_are_stored() -> None:
    peer = running(LARGE)
    assert credit(granted_large(peer, 1, 0)) == 8 * MIB
    given = 0
    for chunk in range(8):
        given += credit(large_chunk(peer, 1, 0, chunk))
    assert given == 0, "what is not stored gives no credit: a slow disk stops the net"
    assert credit(peer.stored(0, range(3))) == 0, "credit goes out in halves of a window"
    assert credit(peer.stored(0, [3])) == 4 * MIB
    assert credit(peer.stored(0, range(4, 8))) == 4 * MIB


def test_the_whole_of_a_small_piece_is_credited_at_once() -> None:
    assert credit(running().granted(1, 0)) == CUT.piece_length


def test_credit_and_unstored_bytes_of_all_leases_keep_below_the_write_behind() -> None:
    peer = running(LARGE)
    total = sum(credit(granted_large(peer, lease, lease)) for lease in range(4))
    assert total == 32 * MIB
    peer.told(told.HostSampled(HostSample()))
    assert credit(large_chunk(peer, 1, 1, 0)) == 0


def test_a_pressed_host_gives_less_credit_and_wants_fewer_leases() -> None:
    peer = running(LARGE)
    peer.now += 10.0
    peer.told(told.HostSampled(HostSample(memory_share=0.99)))
    assert credit(granted_large(peer, 1, 0)) == 4 * MIB
    for chunk in range(4):
        large_chunk(peer, 1, 0, chunk)
    assert credit(peer.stored(0, [0, 1])) == 2 * MIB


def test_a_tasks_limit_lets_credit_out_at_its_rate() -> None:
    peer = PeerTalk()
    peer.hears(said.Welcome(epoch=7))
    peer.client(said.Get(get=1, request=REQUEST, limit=MIB))
    peer.told(told.StoreLoaded(TASK, None))
    opened(peer, LARGE)
    peer.told(told.StoreOpened(TASK, GENERATION, 0, {}, {}))
    given = credit(granted_large(peer, 1, 0))
    chunk = 0
    start = peer.now
    while peer.now < start + 8.0:
        given += credit(peer.passes(0.25))
        while (chunk + 1) * MIB <= given and chunk < 16:
            large_chunk(peer, 1, 0, chunk)
            given += credit(peer.stored(0, [chunk]))
            chunk += 1
    assert 7 * MIB <= given <= 10 * MIB


def test_the_hosts_limit_counts_what_it_reads_from_sources() -> None:
    peer = PeerTalk(down_limit=MIB)
    peer.wants()
    opened(peer, LARGE)
    peer.told(told.StoreOpened(TASK, GENERATION, 0, {}, {}))
    assert credit(granted_large(peer, 1, 0)) == MIB
    peer.told(told.SourceChunk(PermitId(7), 0, 0, 4 * MIB, b"", b""))
    large_chunk(peer, 1, 0, 0)
    assert credit(peer.stored(0, [0]) + peer.passes(4.5)) == 0
    assert credit(peer.passes(1.0)) == MIB


# ── chunks ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_true_chunk_goes_to_the_store_with_the_offset_its_indices_give() -> None:
    peer = running()
    peer.granted(1, 1)
    (store,) = all_of(do.StoreChunk, peer.chunk(1, 1, 2))
    assert (store.offset, store.digest) == (CUT.piece_length + 2 * CUT.chunk_length, digest(1, 2))


@pytest.mark.parametrize("other", [{"digest": b"x" * 16}, {"length": MIB - 1}])
def test_a_chunk_that_is_not_what_the_broker_named_ends_the_lease_and_is_not_stored(other: dict[str, Any]) -> None:
    peer = running(LARGE)
    granted_large(peer, 1, 0)
    effects = large_chunk(peer, 1, 0, 3, **other)
    assert not all_of(do.StoreChunk, effects)
    assert [(m.code, m.lease) for m in of_kind(said.Stop, to_parents(effects))] == [("corrupt", 1)]
    assert [(m.code, m.lease) for m in of_kind(said.Failed, to_broker(effects))] == [("corrupt", 1)]
    assert [record.name for record in all_of(do.Record, effects)] == ["chunk.rejected"]


def test_what_comes_beyond_the_credit_ends_the_lease() -> None:
    peer = running(LARGE)
    granted_large(peer, 1, 0)
    for chunk in range(8):
        large_chunk(peer, 1, 0, chunk)
    effects = large_chunk(peer, 1, 0, 8)
    assert not all_of(do.StoreChunk, effects)
    assert [m.code for m in of_kind(said.Failed, to_broker(effects))] == ["refused"]
    assert of_kind(said.Stop, to_parents(effects))


def test_a_chunk_that_comes_twice_is_stored_once() -> None:
    peer = running()
    peer.granted(1, 0)
    assert all_of(do.StoreChunk, peer.chunk(1, 0, 0))
    assert not all_of(do.StoreChunk, peer.chunk(1, 0, 0))


def test_a_parent_that_sends_the_same_for_ever_is_given_up() -> None:
    peer = running()
    peer.granted(1, 0)
    effects: list[Any] = []
    for _ in range(2 * CHUNKS):
        effects += peer.chunk(1, 0, 0)
    assert of_kind(said.Failed, to_broker(effects))


def test_a_chunk_of_an_unknown_lease_or_piece_does_nothing() -> None:
    peer = running()
    peer.granted(1, 0)
    assert peer.chunk(9, 0, 0) == []
    assert peer.chunk(1, 1, 0) == []
    assert peer.told(told.ChunkArrived(LeaseId(1), 0, 99, 10, digest(0, 99), "p")) == []


def test_a_child_is_sent_the_very_payload_that_came_before_it_is_stored() -> None:
    peer = running()
    peer.granted(1, 0)
    peer.child(
        said.Fetch(
            lease=5,
            task=TASK,
            generation=GENERATION,
            piece=0,
            chunks=b"\x0f",
            credit=CUT.piece_length,
            inbox="tcp://child:1",
        )
    )
    effects = peer.chunk(1, 0, 2)
    assert [(sent.chunk, sent.payload) for sent in all_of(do.SendChunk, effects)] == [(2, "payload 0.2")]


# ── leases that come to nothing ───────────────────────────────────────────────────────────────────────────────────


def test_a_parent_that_sends_nothing_is_given_up_after_five_seconds() -> None:
    peer = running()
    peer.granted(1, 0)
    assert not of_kind(said.Failed, to_broker(peer.passes(4.9)))
    assert [m.code for m in of_kind(said.Failed, to_broker(peer.passes(0.2)))] == ["stalled"]


def test_each_parent_that_stalls_lets_the_next_one_for_the_piece_wait_twice_as_long() -> None:
    peer = running()
    for number, seconds in enumerate((5.0, 10.0, 20.0)):
        peer.granted(number + 1, 0, f"parent {number}")
        for _ in range(int(seconds) - 1):
            assert not of_kind(said.Failed, to_broker(peer.passes(1.0)))
            peer.hears(said.BeatSeen(stamp=0))
        assert [m.code for m in of_kind(said.Failed, to_broker(peer.passes(1.2)))] == ["stalled"]


def test_how_long_a_parent_may_stay_away_follows_how_the_others_fare() -> None:
    peer = running(LARGE)

    def brings(lease: int, piece: int, gap: float) -> None:
        for chunk in range(LARGE.chunks_in(piece)):
            peer.passes(gap)
            large_chunk(peer, lease, piece, chunk)
            peer.stored(piece, [chunk])
            peer.hears(said.BeatSeen(stamp=0))

    granted_large(peer, 1, 0, "slow")
    brings(1, 0, 0.9)
    granted_large(peer, 2, 1, "silent")
    # Four of the slow one's gaps are 3.6 s, and the silent one is looked at before there is a quick one.
    assert not of_kind(said.Failed, to_broker(peer.passes(1.5)))
    granted_large(peer, 3, 2, "quick")
    brings(3, 2, 0.01)
    assert [(m.lease, m.code) for m in of_kind(said.Failed, to_broker(peer.passes(1.4)))] == [(2, "stalled")]


def test_a_stream_that_stops_is_noticed_within_a_second_and_its_chunks_are_kept() -> None:
    peer = running()
    peer.granted(1, 0)
    for chunk in range(3):
        peer.passes(0.01)
        peer.chunk(1, 0, chunk)
    effects = peer.passes(1.3)
    assert [m.code for m in of_kind(said.Failed, to_broker(effects))] == ["stalled"]
    (fetch,) = of_kind(said.Fetch, to_parents(peer.granted(2, 0, "other")))
    assert bitfield.from_bytes(fetch.chunks) == 0b1000


def test_a_get_whose_parents_all_send_nothing_is_given_up_after_two_minutes_and_says_where_nobody_came() -> None:
    peer = running()
    started, lease, sorry = peer.now, 0, []
    while not sorry:
        assert peer.now < started + 150, "it waits for ever"
        lease += 1
        peer.granted(lease, 0)
        for _ in range(40):
            sorry += of_kind(said.Sorry, to_client(peer.passes(0.5) + peer.hears(said.BeatSeen(stamp=0))))
            if sorry or not peer.machine.status(peer.now)["inflows"]:
                break
    assert peer.now >= started + FRUITLESS_SECONDS
    assert sorry[0].code == "transfer"
    assert "tcp://me:1" in sorry[0].text and "--advertise" in sorry[0].text


def test_a_get_that_waits_for_a_grant_waits_as_long_as_the_broker_lives() -> None:
    peer = running()
    for _ in range(2 * round(FRUITLESS_SECONDS)):
        assert of_kind(said.Sorry, to_client(peer.passes(1.0) + peer.hears(said.BeatSeen(stamp=0)))) == []


def test_a_parent_is_not_given_up_for_a_link_of_ours_that_takes_seconds_for_a_chunk() -> None:
    # Two leases, and 64 KiB a second in all: two seconds a turn, and four turns are waited for.
    peer = running()
    for piece in range(2):
        peer.granted(piece + 1, piece, f"parent {piece}")
    peer.passes(1.5)
    peer.chunk(1, 0, 0)
    for _ in range(6):
        assert not of_kind(said.Failed, to_broker(peer.passes(1.0)))
        peer.hears(said.BeatSeen(stamp=0))


def test_a_longer_round_trip_wants_more_leases_at_once() -> None:
    peer = running(LARGE)
    granted_large(peer, 1, 0)
    for chunk in range(8):
        large_chunk(peer, 1, 0, chunk)
    (*_, beat) = of_kind(said.Beat, to_broker(peer.passes(2.0)))
    peer.now += 1.5
    (want,) = of_kind(said.Want, to_broker(peer.hears(said.BeatSeen(stamp=beat.stamp))))
    assert (want.count, want.in_flight) == (1, 5)


def test_nobody_is_blamed_for_the_time_we_slept_ourselves() -> None:
    peer = running()
    peer.granted(1, 0)
    for chunk in range(2):
        peer.chunk(1, 0, chunk)
    peer.now += 60.0
    assert not of_kind(said.Failed, to_broker(peer.told(told.DeadlineReached())))
    peer.hears(said.BeatSeen(stamp=0))
    assert of_kind(said.Failed, to_broker(peer.passes(3.0)))


def test_a_peer_that_is_late_each_time_still_notices_a_stall() -> None:
    peer = running()
    peer.granted(1, 0)
    failed: list[Any] = []
    for _ in range(15):
        peer.now += 1.6
        failed += of_kind(said.Failed, to_broker(peer.told(told.DeadlineReached())))
        peer.hears(said.BeatSeen(stamp=0))
    assert [m.code for m in failed] == ["stalled"]


def test_a_parent_that_has_no_credit_left_cannot_stall() -> None:
    peer = running(LARGE)
    granted_large(peer, 1, 0)
    for chunk in range(8):
        large_chunk(peer, 1, 0, chunk)
    assert not of_kind(said.Failed, to_broker(peer.passes(20.0)))


@pytest.mark.clause("LEASE-4")
def test_another_leave_for_a_piece_is_used_at_once_when_nothing_comes_under_the_first() -> None:
    # The broker gives a piece once. That it gives it again says that it knows nothing of the first any more.
    peer = running()
    peer.granted(1, 0, "silent")
    peer.passes(1.5)
    effects = peer.granted(2, 0, "other")
    assert [(type(m), m.lease) for m in to_parents(effects)] == [(said.Stop, 1), (said.Fetch, 2)]
    assert [(m.lease, m.code) for m in of_kind(said.Failed, to_broker(effects))] == [(1, "cancelled")], "if it knew it"
    assert all_of(do.StoreChunk, peer.chunk(2, 0, 0))


@pytest.mark.clause("LEASE-4")
def test_a_lease_that_was_left_for_another_counts_again_if_a_revoke_crossed_the_word_of_it() -> None:
    peer = running()
    peer.granted(1, 0, "silent")
    peer.passes(1.5)
    peer.granted(2, 0, "other")
    before = peer.machine.status(peer.now)["downloads"][TASK.hex()]["wanted"]
    for _ in range(2):
        peer.hears(said.Revoke(task=TASK, leases=[1]))
        assert peer.machine.status(peer.now)["downloads"][TASK.hex()]["wanted"] == before + 1
    assert all_of(do.StoreChunk, peer.chunk(2, 0, 0))


@pytest.mark.clause("LEASE-4")
def test_another_leave_for_a_piece_that_comes_is_kept_for_when_the_first_fails() -> None:
    peer = running()
    peer.granted(1, 0, "first")
    for chunk in range(3):
        peer.passes(0.01)
        peer.chunk(1, 0, chunk)
    assert not to_parents(peer.granted(2, 0, "other"))
    effects = peer.passes(1.3)
    assert [m.lease for m in of_kind(said.Failed, to_broker(effects))] == [1]
    assert [m.lease for m in of_kind(said.Fetch, to_parents(effects))] == [2]


def test_chunks_of_a_lease_that_was_given_up_are_still_taken() -> None:
    peer = running()
    peer.granted(1, 0)
    peer.chunk(1, 0, 0)
    peer.passes(2.0)
    peer.granted(2, 0, "other")
    assert all_of(do.StoreChunk, peer.chunk(1, 0, 1))
    assert not all_of(do.StoreChunk, peer.chunk(1, 0, 2, true=False))
    for chunk in (1, 2, 3):
        peer.chunk(2, 0, chunk)
    assert of_kind(said.Have, to_broker(peer.stored(0, range(CHUNKS))))


def test_a_parent_is_not_blamed_for_a_piece_that_late_chunks_of_another_lease_have_brought() -> None:
    peer = running()
    peer.granted(1, 0)
    peer.passes(5.1)
    peer.granted(2, 0, "other")
    for chunk in range(CHUNKS):
        assert all_of(do.StoreChunk, peer.chunk(1, 0, chunk))
    effects = [effect for chunk in range(CHUNKS) for effect in peer.chunk(2, 0, chunk)]
    assert not of_kind(said.Failed, to_broker(effects))
    assert of_kind(said.Have, to_broker(peer.stored(0, range(CHUNKS))))


def test_a_parent_that_says_stop_ends_its_lease_and_is_told_nothing() -> None:
    peer = running()
    peer.granted(1, 0)
    effects = peer.told(told.ParentSaid(exchange("parent"), said.Stop(lease=1, code="busy")))
    assert [m.code for m in of_kind(said.Failed, to_broker(effects))] == ["refused"]
    assert to_parents(effects) == []
    assert peer.told(told.ParentSaid(exchange("stranger"), said.Stop(lease=1, code="busy"))) == []


def test_a_second_lease_on_a_piece_waits_for_the_first_to_fail() -> None:
    peer = running()
    peer.granted(1, 0, "one")
    assert to_parents(peer.granted(2, 0, "two")) == []
    effects = peer.told(told.ParentSaid(exchange("one"), said.Stop(lease=1, code="going")))
    assert [(m.lease, e.endpoint) for e in all_of(do.AskParent, effects) for m in [e.message]] == [(2, exchange("two"))]


def test_a_lease_of_the_same_number_from_a_broker_that_began_anew_takes_the_older_ones_place() -> None:
    peer = running()
    peer.granted(1, 0, "one")
    peer.chunk(1, 0, 0)
    effects = peer.granted(1, 1, "two")
    assert [type(m) for m in to_parents(effects)] == [said.Stop, said.Fetch]
    assert not of_kind(said.Failed, to_broker(peer.chunk(1, 0, 1))), "a late chunk of the older is no lie of the newer"


def test_revoked_wants_are_not_wanted_twice() -> None:
    peer = running(LARGE)
    for lease in range(3):
        granted_large(peer, lease, lease)
    effects = peer.hears(said.Revoke(task=TASK, leases=[0, 1]))
    assert [m.lease for m in of_kind(said.Stop, to_parents(effects))] == [0, 1]
    assert not of_kind(said.Want, to_broker(effects))
    assert not of_kind(said.Want, to_broker(peer.hears(said.Revoke(task=TASK, leases=[0, 1, 77]))))
    assert peer.machine.status(peer.now)["downloads"][TASK.hex()]["wanted"] == 2


def test_a_revoke_that_crossed_a_have_counts_the_want_the_broker_counts() -> None:
    peer = running()
    peer.takes(1, 0)
    before = peer.machine.status(peer.now)["downloads"][TASK.hex()]["wanted"]
    peer.hears(said.Revoke(task=TASK, leases=[1]))
    assert peer.machine.status(peer.now)["downloads"][TASK.hex()]["wanted"] == before + 1


# ── the content changes, ends, is proven ──────────────────────────────────────────────────────────────────────────


def test_another_generation_begins_from_nothing() -> None:
    peer = running()
    peer.takes(1, 0)
    peer.granted(2, 1)
    peer.chunk(2, 1, 0)
    effects = opened(peer, generation=OTHER_GENERATION)
    assert [m.code for m in of_kind(said.Stop, to_parents(effects))] == ["cancelled"]
    assert [store.content.generation for store in all_of(do.OpenStore, effects)] == [OTHER_GENERATION]
    assert not all_of(do.StoreChunk, peer.chunk(2, 1, 1)), "the old content's chunks are no use"
    peer.told(told.StoreOpened(TASK, OTHER_GENERATION, 0, {}, {}))
    status = peer.machine.status(peer.now)["downloads"][TASK.hex()]
    assert status["bytes"] == 0


def test_a_growing_content_is_complete_when_it_is_sealed() -> None:
    peer = running(GROWING)
    assert not of_kind(said.Done, to_client(peer.takes(1, 0) + peer.takes(2, 1)))
    effects = peer.hears(said.Sealed(task=TASK, generation=GENERATION, length=CUT.length or 0))
    assert [seal.length for seal in all_of(do.SealStore, effects)] == [CUT.length]
    assert of_kind(said.Done, to_client(effects))


def a_hint(piece: int) -> told.NeighbourHinted:
    where = {"peer": peer_id("liar"), "endpoint": exchange("liar")}
    return told.NeighbourHinted(said.Hint(task=TASK, generation=GENERATION, piece=piece, proofs=proofs(piece), **where))


def lied_to(piece: int, chunks: int = CHUNKS) -> PeerTalk:
    """A peer that has piece 0 of a growing content, and then, while no broker answered, so many chunks of another piece
    from a neighbour."""
    peer = PeerTalk()
    peer.wants()
    peer.hears(
        said.Opened(
            task=TASK,
            generation=GENERATION,
            length=None,
            piece_length=CUT.piece_length,
            chunk_length=CUT.chunk_length,
            neighbours=["tcp://liar:2"],
        )
    )
    peer.told(told.StoreOpened(TASK, GENERATION, 0, {}, {}))
    peer.takes(1, 0)
    peer.passes(10.0)
    (fetch,) = of_kind(said.Fetch, to_parents(peer.told(a_hint(piece))))
    for chunk in range(chunks):
        peer.chunk(fetch.lease, piece, chunk)
    peer.stored(piece, range(chunks))
    return peer


@pytest.mark.clause("HINT-2")
@pytest.mark.parametrize("how", ["sealed", "opened"])
@pytest.mark.parametrize(("piece", "chunks"), [(5, CHUNKS), (5, 1), (2, 0), (1, CHUNKS), (1, 1)])
def test_what_lies_beyond_the_end_was_a_lie_and_all_of_it_goes(how: str, piece: int, chunks: int) -> None:
    length = CUT.piece_length + 5 if piece == 1 else CUT.length or 0
    peer = lied_to(piece, chunks)
    peer.hears(said.Welcome(epoch=8))
    if how == "sealed":
        effects = peer.hears(said.Sealed(task=TASK, generation=GENERATION, length=length))
    else:
        effects = opened(peer, PieceMap(length, CUT.piece_length, CUT.chunk_length))
    assert all_of(do.DropTask, effects)
    assert [m.all_pieces for m in of_kind(said.Lost, to_broker(effects))] == [True]
    assert [m.held for m in of_kind(said.Open, to_broker(effects))] == [b""]
    assert "chunk.rejected" in [record.name for record in all_of(do.Record, effects)]
    assert all_of(do.OpenStore, opened(peer))
    peer.told(told.StoreOpened(TASK, GENERATION, 0, {}, {}))
    (done,) = of_kind(said.Done, to_client(peer.takes(2, 0) + peer.takes(3, 1)))
    assert done.receipt == said.Receipt(from_peers=CUT.length or 0)


def test_what_a_neighbour_gave_truly_is_kept_when_the_end_is_known() -> None:
    peer = lied_to(1)
    peer.hears(said.Welcome(epoch=8))
    assert of_kind(said.Done, to_client(opened(peer, CUT)))


@pytest.mark.clause("TASK-4")
@pytest.mark.parametrize("absurd", [PieceMap(2**59, 1, 1), PieceMap(4, 1, 2), PieceMap(None, 1 << 30, 1)], ids=str)
def test_an_absurd_cut_is_dropped_with_a_record(absurd: PieceMap) -> None:
    peer = PeerTalk()
    peer.wants()
    (record,) = opened(peer, absurd)
    assert (record.name, record.fields["op"]) == ("message.refused", "opened")
    assert all_of(do.OpenStore, opened(peer)), "the next one is heard"


@pytest.mark.clause("TASK-4")
def test_an_absurd_end_is_dropped_with_a_record() -> None:
    peer = running(GROWING)
    peer.takes(1, 0)
    (record,) = peer.hears(said.Sealed(task=TASK, generation=GENERATION, length=2**59))
    assert (record.name, record.fields["op"]) == ("message.refused", "sealed")
    effects = peer.hears(said.Sealed(task=TASK, generation=GENERATION, length=CUT.piece_length))
    assert of_kind(said.Done, to_client(effects)), "the next one is heard"


@pytest.mark.clause("TASK-4")
def test_of_a_growing_content_too_no_piece_lies_beyond_every_set() -> None:
    peer = running(GROWING)
    beyond = said.Lease(lease=1, piece=2**16, parent=peer_id("p"), endpoint=exchange("p"), proofs=proofs(0))
    effects = peer.hears(said.Grant(task=TASK, generation=GENERATION, leases=[beyond]))
    assert [m.code for m in of_kind(said.Failed, to_broker(effects))] == ["refused"]
    peer.passes(10.0)
    where = {"peer": peer_id("liar"), "endpoint": exchange("liar")}
    hint = said.Hint(task=TASK, generation=GENERATION, piece=2**16, proofs=proofs(0), **where)
    assert not to_parents(peer.told(told.NeighbourHinted(hint)))


def test_an_empty_content_is_done_when_its_store_is_open() -> None:
    peer = PeerTalk()
    peer.wants()
    opened(peer, PieceMap(0, CUT.piece_length, CUT.chunk_length))
    effects = peer.told(told.StoreOpened(TASK, GENERATION, 0, {}, {}))
    (done,) = of_kind(said.Done, to_client(effects))
    assert (done.length, done.receipt) == (0, said.Receipt())


def test_a_grant_of_a_generation_that_was_never_told_says_open_again() -> None:
    peer = PeerTalk()
    peer.wants()
    peer.now += 2.0
    one = said.Lease(lease=1, piece=0, parent=peer_id("p"), endpoint=exchange("p"), proofs=proofs(0))
    effects = peer.hears(said.Grant(task=TASK, generation=GENERATION, leases=[one]))
    assert of_kind(said.Open, to_broker(effects))


def test_a_download_with_nothing_on_its_way_asks_again_for_the_words_may_be_lost() -> None:
    peer = running()
    effects: list[Any] = []
    for _ in range(10):
        effects += peer.passes(1.0)
        peer.hears(said.BeatSeen(stamp=0))
    assert [m.want for m in of_kind(said.Open, to_broker(effects))] == [2]
