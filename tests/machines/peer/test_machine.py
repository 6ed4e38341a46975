"""The peer as a whole: clients and their gets, the broker coming and going, the store and the source in between."""

from __future__ import annotations

from typing import Any

import pytest
from support.peer_talk import PeerTalk, all_of, shelved, to_broker, to_client, to_parents
from support.talk import CHUNKS, CUT, GENERATION, OTHER_GENERATION, REQUEST, TASK, digest, exchange, peer_id, proofs

from dfmq.machines import effects as do
from dfmq.machines import events as told
from dfmq.machines.peer.clients import LIMIT_KEPT_SECONDS
from dfmq.model.ids import Generation, PermitId, TaskId
from dfmq.model.task import Request, task_id
from dfmq.wire import messages as said

LENGTH = CUT.length or 0
SECRET = Request(url=REQUEST.url, headers=(("Authorization", "Bearer x"),))


def of_kind(kind: type[Any], messages: list[Any]) -> list[Any]:
    return [message for message in messages if isinstance(message, kind)]


def get(peer: PeerTalk, client: bytes, request: Request = REQUEST, number: int = 1) -> list[Any]:
    return peer.told(told.ClientSaid(client, said.Get(get=number, request=request)))


def passes_with_a_broker(peer: PeerTalk, seconds: float) -> list[Any]:
    """Time goes by, and the broker lives."""
    effects: list[Any] = []
    for _ in range(round(seconds)):
        effects += peer.passes(1.0) + peer.hears(said.BeatSeen(stamp=0))
    return effects


def release(peer: PeerTalk, client: bytes, number: int = 1) -> list[Any]:
    return peer.told(told.ClientSaid(client, said.Release(get=number)))


def opened(peer: PeerTalk, generation: bytes = GENERATION, neighbours: list[str] | None = None) -> list[Any]:
    message = said.Opened(
        task=TASK,
        generation=generation,
        length=CUT.length,
        piece_length=CUT.piece_length,
        chunk_length=CUT.chunk_length,
        neighbours=neighbours or [],
    )
    return peer.hears(message)


def done(peer: PeerTalk) -> list[Any]:
    """Up to the end of a get."""
    peer.opened()
    return peer.takes(1, 0) + peer.takes(2, 1)


# ── gets ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_get_ends_with_done_where_the_content_is_and_where_it_came_from() -> None:
    peer = PeerTalk()
    effects = done(peer)
    (answer,) = of_kind(said.Done, to_client(effects))
    assert answer.path.endswith(f"/tasks/{TASK.hex()}/data")
    assert answer.length == LENGTH
    assert answer.receipt == said.Receipt(from_peers=LENGTH)
    assert of_kind(said.Close, to_broker(effects))
    assert all_of(do.FinishStore, effects)


def test_bytes_of_seeds_are_told_from_bytes_of_peers() -> None:
    peer = PeerTalk()
    peer.opened()
    lease = said.Lease(lease=1, piece=0, parent=peer_id("seed"), endpoint=exchange("seed"), proofs=proofs(0), seed=True)
    peer.hears(said.Grant(task=TASK, generation=GENERATION, leases=[lease]))
    for chunk in range(CHUNKS):
        peer.chunk(1, 0, chunk)
    effects = peer.stored(0, range(CHUNKS)) + peer.takes(2, 1)
    (answer,) = of_kind(said.Done, to_client(effects))
    assert answer.receipt == said.Receipt(from_seed=LENGTH // 2, from_peers=LENGTH // 2)


def test_what_was_in_the_store_before_is_counted_as_from_there_chunk_by_chunk() -> None:
    peer = PeerTalk()
    peer.wants()
    opened(peer)
    peer.told(told.StoreOpened(TASK, GENERATION, 0b10, {0: 0b0001}, {1: proofs(1)}))
    peer.granted(1, 0)
    for chunk in (1, 2, 3):
        peer.chunk(1, 0, chunk)
    (answer,) = of_kind(said.Done, to_client(peer.stored(0, (1, 2, 3))))
    kept = LENGTH // 2 + CUT.chunk_length
    assert answer.receipt == said.Receipt(from_store=kept, from_peers=LENGTH - kept)


def test_a_complete_content_is_done_when_the_broker_says_it_is_still_that() -> None:
    peer = PeerTalk()
    peer.hears(said.Welcome(epoch=7))
    get(peer, b"a")
    effects = peer.told(told.StoreLoaded(TASK, shelved(0b11)))
    (open_,) = of_kind(said.Open, to_broker(effects))
    assert (open_.held, open_.want) == (b"\x03", 0)
    assert not of_kind(said.Done, to_client(effects)), "not without the broker's word"
    effects = opened(peer)
    (answer,) = of_kind(said.Done, to_client(effects))
    assert answer.receipt == said.Receipt(from_store=LENGTH)
    assert not of_kind(said.Want, to_broker(effects))


def test_a_stale_content_is_fetched_anew() -> None:
    peer = PeerTalk()
    peer.hears(said.Welcome(epoch=7))
    get(peer, b"a")
    peer.told(told.StoreLoaded(TASK, shelved(0b11)))
    effects = opened(peer, OTHER_GENERATION)
    assert not of_kind(said.Done, to_client(effects))
    assert all_of(do.OpenStore, effects)


def test_two_clients_share_one_download_and_both_are_told() -> None:
    peer = PeerTalk()
    peer.wants()
    effects = get(peer, b"other")
    assert not of_kind(said.Open, to_broker(effects))
    assert not all_of(do.LoadTask, effects)
    opened(peer)
    peer.told(told.StoreOpened(TASK, GENERATION, 0, {}, {}))
    effects = peer.takes(1, 0) + peer.takes(2, 1)
    answered = {e.client for e in all_of(do.TellClient, effects) if isinstance(e.message, said.Done)}
    assert answered == {b"client", b"other"}


def test_the_same_get_said_twice_is_answered_once() -> None:
    peer = PeerTalk()
    peer.opened()
    get(peer, b"client")
    assert len(of_kind(said.Done, to_client(peer.takes(1, 0) + peer.takes(2, 1)))) == 1


def test_who_comes_with_other_credentials_has_them_checked_before_he_is_served() -> None:
    peer = PeerTalk()
    peer.opened()
    assert not of_kind(said.Open, to_broker(get(peer, b"other", SECRET)))
    effects = peer.takes(1, 0) + peer.takes(2, 1)
    (open_,) = of_kind(said.Open, to_broker(effects))
    assert open_.request == SECRET
    assert [e.client for e in all_of(do.TellClient, effects) if isinstance(e.message, said.Done)] == [b"client"]
    refused = peer.hears(said.Refused(task=TASK, code="not_authorised", text="no"))
    assert [
        (e.client, e.message.code) for e in all_of(do.TellClient, refused) if isinstance(e.message, said.Sorry)
    ] == [(b"other", "not_authorised")]


def test_a_refusal_is_told_to_all_who_joined_and_frees_the_task() -> None:
    peer = PeerTalk()
    peer.wants()
    get(peer, b"other")
    effects = peer.hears(said.Refused(task=TASK, code="source_refused", text="404", retry_after=3.0))
    assert [m.code for m in to_client(effects)] == ["source_refused"] * 2
    assert [pin.pinned for pin in all_of(do.PinTask, effects)] == [False]
    assert of_kind(said.Open, to_broker(get(peer, b"client") + peer.told(told.StoreLoaded(TASK, None))))


def test_the_last_client_that_goes_ends_the_download_and_what_came_is_kept() -> None:
    peer = PeerTalk()
    peer.opened()
    get(peer, b"other")
    peer.granted(1, 0)
    peer.chunk(1, 0, 0)
    assert not of_kind(said.Close, to_broker(release(peer, b"client")))
    effects = peer.told(told.ClientLost(b"other"))
    assert of_kind(said.Close, to_broker(effects))
    assert [m.code for m in of_kind(said.Stop, to_parents(effects))] == ["cancelled"]
    assert [pin.pinned for pin in all_of(do.PinTask, effects)] == [False]
    assert not all_of(do.DropTask, effects)
    peer.stored(0, [0])
    get(peer, b"again")
    opened(peer)
    (fetch,) = of_kind(said.Fetch, to_parents(peer.granted(9, 0)))
    assert fetch.chunks == b"\x0e"


def test_a_task_is_pinned_from_the_first_get_to_the_last_release() -> None:
    peer = PeerTalk()
    pins = all_of(do.PinTask, peer.opened() + get(peer, b"other"))
    pins += all_of(do.PinTask, peer.takes(1, 0) + peer.takes(2, 1) + release(peer, b"client"))
    assert [pin.pinned for pin in pins] == [True]
    assert [pin.pinned for pin in all_of(do.PinTask, release(peer, b"other"))] == [False]


def test_content_a_client_is_still_at_is_not_dropped_under_it() -> None:
    peer = PeerTalk()
    done(peer)
    get(peer, b"other")
    effects = opened(peer, OTHER_GENERATION)
    assert not all_of(do.OpenStore, effects)
    assert [e.content.generation for e in all_of(do.OpenStore, release(peer, b"client"))] == [OTHER_GENERATION]


def test_a_wrong_content_digest_is_told_and_the_content_dropped() -> None:
    request = Request(url=REQUEST.url, digest="sha256:" + "ab" * 32)
    task = task_id(request)
    for found, kind in (("ab" * 32, said.Done), ("cd" * 32, said.Sorry)):
        peer = PeerTalk()
        peer.hears(said.Welcome(epoch=7))
        get(peer, b"a", request)
        peer.told(told.StoreLoaded(task, None))
        peer.hears(said.Opened(task=task, generation=GENERATION, length=0, piece_length=1 << 18, chunk_length=1 << 16))
        effects = peer.told(told.StoreOpened(task, GENERATION, 0, {}, {}))
        assert [prove.algorithm for prove in all_of(do.ProveContent, effects)] == ["sha256"]
        effects = peer.told(told.ContentProved(task, GENERATION, "sha256", found))
        assert [type(m) for m in to_client(effects)] == [kind]
        assert bool(all_of(do.DropTask, effects)) == (kind is said.Sorry)


def test_who_the_peer_is_is_told_by_its_node_alone() -> None:
    assert PeerTalk().client(said.Ask()) == []


def test_a_peer_is_idle_only_while_nobody_is_at_it() -> None:
    peer = PeerTalk()
    assert peer.machine.is_idle_since(peer.now) is not None
    done(peer)
    assert peer.machine.is_idle_since(peer.now) is None, "the client has not released it"
    peer.now += 5.0
    release(peer, b"client")
    assert peer.machine.is_idle_since(peer.now + 9.0) == peer.now


# ── the store ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_full_disk_is_told_and_ends_the_download_and_what_stands_is_used_again() -> None:
    peer = PeerTalk()
    peer.opened()
    peer.takes(1, 0)
    peer.granted(2, 1)
    peer.chunk(2, 1, 0)
    effects = peer.told(told.StoreFailed(TASK, "no_space", "the disk is full"))
    assert [m.code for m in of_kind(said.Sorry, to_client(effects))] == ["no_space"]
    assert of_kind(said.Close, to_broker(effects))
    get(peer, b"again")
    effects = opened(peer)
    assert all_of(do.OpenStore, effects)
    assert peer.machine.status(peer.now)["bytes"]["from_store"] == CUT.piece_length


def test_content_that_was_changed_from_outside_is_fetched_again() -> None:
    peer = PeerTalk()
    peer.opened()
    peer.takes(1, 0)
    effects = peer.told(told.StoreDamaged(TASK))
    assert [m.all_pieces for m in of_kind(said.Lost, to_broker(effects))] == [True]
    assert [m.held for m in of_kind(said.Open, to_broker(effects))] == [b""]
    opened(peer)
    peer.told(told.StoreOpened(TASK, GENERATION, 0, {}, {}))
    (answer,) = of_kind(said.Done, to_client(peer.takes(2, 0) + peer.takes(3, 1)))
    assert answer.receipt == said.Receipt(from_peers=LENGTH)


def test_a_content_is_lent_before_its_path_is_told() -> None:
    peer = PeerTalk()
    peer.opened()
    effects = peer.takes(1, 0) + peer.takes(2, 1)
    (lent,) = (place for place, effect in enumerate(effects) if effect == do.LendTask(TASK))
    (told_at,) = (place for place, effect in enumerate(effects) if to_client([effect]) and effect.message.path)
    assert lent < told_at


def ends(effects: list[Any]) -> list[tuple[str, int]]:
    return [(r.name, r.fields["get"]) for r in all_of(do.Record, effects) if r.name in ("get.done", "get.failed")]


def test_every_get_ends_in_one_record_of_its_own() -> None:
    peer = PeerTalk()
    peer.opened()
    peer.now += 2.0
    get(peer, b"client", number=2)
    get(peer, b"client", number=3)
    assert ends(release(peer, b"client", 3)) == [("get.failed", 3)], "the others want it still"
    effects = peer.takes(1, 0) + peer.takes(2, 1)
    assert ends(effects) == [("get.done", 1), ("get.done", 2)]
    seconds = [r.fields["seconds"] for r in all_of(do.Record, effects) if r.name == "get.done"]
    assert seconds == [2.0, 0.0]
    assert ends(release(peer, b"client", 1) + release(peer, b"client", 2)) == []


def test_every_get_that_fails_is_in_the_journal() -> None:
    peer = PeerTalk()
    peer.opened()
    get(peer, b"client", number=2)
    get(peer, b"client", SECRET, number=3)
    effects = peer.told(told.StoreFailed(TASK, "no_space", "the disk is full"))
    assert ends(effects) == [("get.failed", 1), ("get.failed", 2)], "the third asks for itself now"
    assert ends(peer.told(told.ClientLost(b"client"))) == [("get.failed", 3)]


@pytest.mark.parametrize(
    ("why", "record", "text"),
    [
        ("changed", "store.failed", "changed from outside"),
        ("unsynced", "store.failed", "the disk did not keep what was written"),
        ("evicted", "store.evicted", None),
    ],
)
def test_the_journal_says_why_a_content_is_gone(why: Any, record: str, text: str | None) -> None:
    peer = PeerTalk()
    peer.opened()
    (first, *_) = all_of(do.Record, peer.told(told.StoreDamaged(TASK, why)))
    assert (first.name, first.fields.get("text")) == (record, text)


def test_what_stands_on_the_disk_at_the_start_is_told_to_the_broker() -> None:
    peer = PeerTalk()
    assert to_broker(peer.told(told.StoreLoaded(TASK, shelved(0b01)))) == []
    (held,) = of_kind(said.Held, to_broker(peer.hears(said.Welcome(epoch=7))))
    assert (held.task, held.held) == (TASK, b"\x01")
    other = TaskId(b"o" * 16)
    assert of_kind(said.Held, to_broker(peer.told(told.StoreLoaded(other, shelved(0b11)))))


# ── the broker comes and goes ─────────────────────────────────────────────────────────────────────────────────────


def test_a_new_epoch_is_told_everything_anew_and_leases_go_on() -> None:
    peer = PeerTalk()
    peer.opened()
    peer.takes(1, 0)
    peer.granted(2, 1)
    effects = peer.hears(said.Welcome(epoch=8))
    (open_,) = of_kind(said.Open, to_broker(effects))
    assert (open_.generation, open_.held, open_.want) == (GENERATION, b"\x01", 0)
    assert not to_parents(effects)
    opened(peer)
    for chunk in range(CHUNKS):
        peer.chunk(2, 1, chunk)
    assert of_kind(said.Done, to_client(peer.stored(1, range(CHUNKS))))


def test_a_task_the_broker_has_forgotten_is_opened_again_but_not_all_the_time() -> None:
    peer = PeerTalk()
    peer.opened()
    peer.now += 1.0
    error = said.Error(code="unknown_task", text="?")
    assert len(of_kind(said.Open, to_broker(peer.hears(error) + peer.hears(error)))) == 1


def test_a_get_without_any_broker_fails_after_ten_seconds_naming_it() -> None:
    peer = PeerTalk()
    get(peer, b"a")
    peer.told(told.StoreLoaded(TASK, None))
    assert not of_kind(said.Sorry, to_client(peer.passes(9.0)))
    (sorry,) = of_kind(said.Sorry, to_client(peer.passes(2.0)))
    assert sorry.code == "broker_unreachable"
    assert "tcp://one.example:7400" in sorry.text


def test_a_download_under_way_waits_a_minute_for_its_broker() -> None:
    peer = PeerTalk()
    peer.opened()
    assert not of_kind(said.Sorry, to_client(peer.passes(50.0)))
    assert of_kind(said.Sorry, to_client(peer.passes(25.0)))


def hint(piece: int, peer: str = "one") -> said.Hint:
    return said.Hint(
        task=TASK,
        generation=GENERATION,
        piece=piece,
        peer=peer_id(peer),
        endpoint=exchange(peer),
        proofs=proofs(piece),
    )


def test_while_no_broker_answers_neighbours_are_asked() -> None:
    peer = PeerTalk()
    peer.opened()
    opened(peer, neighbours=["tcp://one:2"])
    assert not to_parents(peer.told(told.NeighbourHinted(hint(0)))), "not while the broker answers"
    effects = peer.passes(10.0)
    (fetch,) = of_kind(said.Fetch, to_parents(effects))
    for chunk in range(CHUNKS):
        peer.chunk(fetch.lease, 0, chunk)
    peer.stored(0, range(CHUNKS))
    (fetch,) = of_kind(said.Fetch, to_parents(peer.told(told.NeighbourHinted(hint(1)))))
    for chunk in range(CHUNKS):
        peer.chunk(fetch.lease, 1, chunk)
    (answer,) = of_kind(said.Done, to_client(peer.stored(1, range(CHUNKS))))
    assert answer.receipt == said.Receipt(from_peers=LENGTH)


def test_neighbours_are_listened_to_once_the_broker_is_quiet_and_before_it_counts_as_lost() -> None:
    peer = PeerTalk()
    peer.opened()
    assert not all_of(do.Listen, opened(peer, neighbours=["tcp://one:2"]) + peer.passes(2.0))
    peer.hears(said.Revoke(task=TASK, leases=[]))
    assert not all_of(do.Listen, peer.passes(2.0)), "the broker was heard"
    assert [effect.endpoints for effect in all_of(do.Listen, peer.passes(3.0))] == [["tcp://one:2"]]
    assert peer.machine.is_welcomed
    peer.hears(said.Revoke(task=TASK, leases=[]))
    assert not all_of(do.Listen, peer.passes(2.0)), "connections that are there stay"
    assert [effect.endpoints for effect in all_of(do.Listen, opened(peer, neighbours=["tcp://two:2"]))] == [
        ["tcp://two:2"]
    ]


def test_neighbours_are_listened_to_at_once_when_another_broker_stands_in_the_place_of_ours() -> None:
    peer = PeerTalk()
    peer.opened()
    assert not all_of(do.Listen, opened(peer, neighbours=["tcp://one:2"]))
    assert all_of(do.Listen, peer.hears(said.Error(code="unknown_peer")))


@pytest.mark.clause("HINT-3")
def test_neighbours_are_told_of_each_piece_and_again_when_the_broker_falls_silent() -> None:
    peer = PeerTalk()
    peer.opened()
    assert not all_of(do.Publish, peer.takes(1, 0)), "not one by one: it would wake every neighbour for every piece"
    (published,) = all_of(do.Publish, peer.passes(3.0))
    assert published.message == said.Hint(
        task=TASK, generation=GENERATION, piece=0, peer=peer_id("me"), endpoint=exchange("me"), proofs=proofs(0)
    )
    assert all_of(do.Publish, peer.passes(7.0)) == [published]


def test_neighbours_are_reminded_while_the_broker_is_silent_and_no_longer() -> None:
    peer = PeerTalk()
    peer.opened()
    peer.takes(1, 0)
    assert len(all_of(do.Publish, peer.passes(30.0))) >= 4
    peer.hears(said.Welcome(epoch=8))
    assert not all_of(do.Publish, peer.passes(5.5))


def test_leases_of_a_broker_that_is_silent_now_are_not_waited_for() -> None:
    """The piece comes from a neighbour, though the broker's lease on it failed when nobody was there to hear of it."""
    peer = PeerTalk()
    peer.opened()
    opened(peer, neighbours=["tcp://one:2"])
    peer.told(told.NeighbourHinted(hint(0)))
    peer.takes(1, 1)
    peer.granted(2, 0, "seed")
    peer.hears(said.Error(code="unknown_peer"))
    assert not peer.machine.is_welcomed
    fetches = of_kind(said.Fetch, to_parents(peer.passes(7.0)))
    assert [fetch.piece for fetch in fetches] == [0]


def test_nothing_is_said_to_a_broker_that_does_not_know_us() -> None:
    peer = PeerTalk()
    peer.opened()
    peer.granted(1, 0)
    peer.hears(said.Error(code="unknown_peer"))
    for chunk in range(CHUNKS):
        peer.chunk(1, 0, chunk)
    assert to_broker(peer.stored(0, range(CHUNKS))) == []
    (open_,) = of_kind(said.Open, to_broker(peer.hears(said.Welcome(epoch=7))))
    assert open_.held == b"\x01"


def test_a_grant_for_what_nobody_here_wants_is_closed() -> None:
    peer = PeerTalk()
    peer.hears(said.Welcome(epoch=7))
    assert of_kind(said.Close, to_broker(peer.granted(1, 0)))


def test_content_that_is_out_of_date_is_dropped_when_the_broker_says_so() -> None:
    peer = PeerTalk()
    peer.told(told.StoreLoaded(TASK, shelved(0b11)))
    peer.hears(said.Welcome(epoch=7))
    assert all_of(do.DropTask, opened(peer, OTHER_GENERATION))
    assert peer.machine.status(peer.now)["tasks"] == 0


# ── a peer that reads the source itself ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("left", [0, 0b0011])
@pytest.mark.parametrize("is_proven", [False, True])
def test_a_peer_with_a_permit_gets_its_pieces_through_it(left: int, is_proven: bool) -> None:
    peer = PeerTalk()
    peer.wants()
    ask = all_of(do.AskSource, peer.hears(said.Permit(permit=1, task=TASK, request=REQUEST)))
    if not ask:
        ask = all_of(do.AskSource, peer.told(told.StoreLoaded(TASK, None)))
    number = ask[0].permit
    effects = peer.told(told.SourceAnswered(number, "full", 0, LENGTH, '"v"', "", None, True))
    (sourced,) = of_kind(said.Sourced, to_broker(effects))
    (store,) = all_of(do.OpenStore, effects)
    opened(peer, sourced.generation)
    partial, known = {0: left} if left else {}, {0: proofs(0)} if is_proven else {}
    effects = peer.told(told.StoreOpened(TASK, store.content.generation, 0, partial, known))
    assert all_of(do.ReadSource, effects)
    effects = []
    for piece in range(2):
        for chunk in range(CHUNKS):
            length = CUT.chunk_span(piece, chunk)[1]
            effects += peer.told(
                told.SourceChunk(PermitId(number), piece, chunk, length, digest(piece, chunk), "payload")
            )
    effects += peer.told(told.SourceEnded(PermitId(number), LENGTH))
    for piece in range(2):
        effects += peer.told(
            told.ChunksStored(TASK, store.content.generation, [(piece, chunk) for chunk in range(CHUNKS)])
        )
    assert {m.piece for m in of_kind(said.Proven, to_broker(effects))} == {0, 1}
    assert not of_kind(said.Have, to_broker(effects)), "Proven says it"
    (answer,) = of_kind(said.Done, to_client(effects))
    assert answer.receipt.from_source + answer.receipt.from_store == LENGTH
    here = left.bit_count() * CUT.chunk_length
    assert answer.receipt.from_source == (LENGTH - here if is_proven else LENGTH)


def test_a_read_goes_as_fast_as_those_who_get_the_task_here_want() -> None:
    peer = PeerTalk()
    peer.hears(said.Welcome(epoch=7))
    peer.told(told.ClientSaid(b"one", said.Get(get=1, request=REQUEST, limit=1000)))
    peer.told(told.StoreLoaded(TASK, None))
    peer.hears(said.Permit(permit=1, task=TASK, request=REQUEST))
    (ask,) = all_of(do.AskSource, peer.told(told.StoreLoaded(TASK, None)))
    effects = peer.told(told.SourceAnswered(ask.permit, "full", 0, LENGTH, '"v"', "", None, True))
    (sourced,) = of_kind(said.Sourced, to_broker(effects))
    opened(peer, sourced.generation)
    (read,) = all_of(do.ReadSource, peer.told(told.StoreOpened(TASK, Generation(sourced.generation), 0, {}, {})))
    assert read.rate == 1000

    def paced(effects: list[Any]) -> list[int]:
        return [pace.rate for pace in all_of(do.PaceSource, effects) if pace.permit == ask.permit]

    assert paced(peer.told(told.ClientSaid(b"two", said.Get(get=1, request=REQUEST, limit=5000)))) == [5000]
    assert paced(peer.told(told.ClientSaid(b"three", said.Get(get=1, request=REQUEST, limit=2000)))) == []
    assert paced(get(peer, b"four")) == [0], "one wants it as fast as it comes"
    assert paced(release(peer, b"four")) == [5000]
    assert paced(peer.told(told.ClientLost(b"two"))) == [2000]
    assert paced(release(peer, b"three") + release(peer, b"one")) == [1000]
    assert paced(passes_with_a_broker(peer, LIMIT_KEPT_SECONDS - 1)) == [], "while it may go on for nobody"
    assert paced(peer.told(told.ClientSaid(b"two", said.Get(get=2, request=REQUEST, limit=3000)))) == [3000]
    peer.told(told.ClientLost(b"two"))
    assert paced(passes_with_a_broker(peer, LIMIT_KEPT_SECONDS)) == [0], "others want it, and nobody here"


def test_a_peer_that_leaves_says_so_to_its_clients_its_parents_and_its_broker() -> None:
    peer = PeerTalk()
    peer.opened()
    peer.granted(1, 0)
    effects = list(peer.machine.leave(peer.now))
    assert [m.code for m in of_kind(said.Sorry, to_client(effects))] == ["interrupted"]
    assert of_kind(said.Stop, to_parents(effects))
    assert isinstance(to_broker(effects)[-1], said.Bye)


@pytest.mark.parametrize("url", ["", "x", "ftp://h/x", "http://[::1", "http://h/\0"])
def test_a_get_that_cannot_be_asked_for_is_answered_and_ends_nothing(url: str) -> None:
    peer = PeerTalk()
    peer.hears(said.Welcome(epoch=7))
    effects = get(peer, b"client", Request(url=url))
    assert [message.code for message in to_client(effects)] == ["settings"]
    assert not of_kind(said.Open, to_broker(effects))
    assert get(peer, b"client", Request(url="http://h/", headers=(("Range", "bytes=0-1"),)))
    assert len(all_of(do.LoadTask, get(peer, b"other"))) == 1, "others are served"


def test_leases_that_came_before_the_store_lost_the_content_are_given_back_at_once() -> None:
    """Else the broker waits for each until its deadline, and the get with it."""
    peer = PeerTalk()
    peer.hears(said.Welcome(epoch=7))
    get(peer, b"client")
    peer.told(told.StoreLoaded(TASK, shelved(0b01)))
    opened(peer)
    peer.granted(1, 1)  # the store is not ready yet
    effects = to_broker(peer.told(told.StoreDamaged(TASK, "changed")))
    kinds = [type(message) for message in effects]
    assert kinds.index(said.Close) < kinds.index(said.Open)


# ── what it remembers ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.clause("SESS-7")
def test_a_peer_says_from_the_first_what_an_earlier_life_received_and_soon_what_this_one_does() -> None:
    peer = PeerTalk(remembered=40_000_000)
    assert peer.machine.lasting_rate == 40_000_000
    peer.wants()
    beat = of_kind(said.Beat, to_broker(peer.passes(0.01)))[0]
    assert (beat.down_rate, beat.up_rate) == (40_000_000, 0)
    assert peer.machine.status(peer.now)["down_rate"] == 0, "it reckons with what it measured itself"
    peer.opened()
    peer.takes(1, 0)
    soon = of_kind(said.Beat, to_broker(passes_with_a_broker(peer, 2)))[-1]
    assert 0 < soon.down_rate <= 20_000_000
    later = of_kind(said.Beat, to_broker(passes_with_a_broker(peer, 30)))[-1]
    assert later.down_rate == peer.machine.status(peer.now)["down_rate"]


@pytest.mark.parametrize("kind", ["generation", "quarantine", "something of a later release"])
def test_notices_that_say_nothing_new_are_passed_over(kind: str) -> None:
    peer = PeerTalk()
    peer.opened()
    assert peer.told(told.NoticeHeard(said.Notice(kind=kind, epoch=8))) == []
    assert peer.machine.is_welcomed
