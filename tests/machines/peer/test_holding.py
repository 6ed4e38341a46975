"""What is held of a task: taking it over from the store, losing it, counting it."""

from __future__ import annotations

from support.talk import CHUNKS, CUT, GENERATION, REQUEST, TASK, proofs

from dfmq.machines.effects import StoredSpan
from dfmq.machines.peer.holding import Holding, Holdings
from dfmq.model import bitfield
from dfmq.model.task import Content, Shelved

CHUNK = CUT.chunk_length
PIECE = CUT.piece_length


def a_holding() -> Holding:
    holding = Holding(TASK, Content(GENERATION, CUT), REQUEST)
    holding.is_open = True
    return holding


def gathered(holding: Holding, piece: int, chunks: int) -> None:
    assembly = holding.gather(piece, proofs(piece))
    for chunk in range(chunks):
        assembly.add(chunk, f"payload {chunk}")
        assembly.mark_stored(chunk)


def test_what_an_earlier_life_left_is_taken_over() -> None:
    shelved = Shelved(Content(GENERATION, CUT), 0b01, {1: 0b0011}, {0: proofs(0)}, REQUEST, etag='"a"')
    holding = Holding.of_shelved(TASK, shelved)
    assert holding.held == 0b01
    assert holding.etag == '"a"'
    assert not holding.is_open, "nothing is written before the store was opened"
    assert holding.held_bytes() == PIECE + 2 * CHUNK
    holding.check()


def test_a_complete_content_needs_no_opening() -> None:
    holding = Holding.of_shelved(TASK, Shelved(Content(GENERATION, CUT), 0b11, {}, {}, REQUEST))
    assert holding.is_open and holding.is_complete and holding.is_finished


def test_opening_twice_changes_nothing_that_is_gathered_meanwhile() -> None:
    holding = a_holding()
    for _ in range(2):
        holding.opened(0b01, {1: 0b0001}, {0: proofs(0)})
        holding.check()
    gathered_one = holding.gather(1, proofs(1))
    gathered_one.add(1, "payload")
    holding.opened(0b01, {1: 0b0001}, {})
    holding.check()
    assert gathered_one.proven == 0b0011
    assert holding.proven_bytes() == PIECE + 2 * CHUNK


def test_a_piece_of_which_every_chunk_was_left_is_held() -> None:
    holding = a_holding()
    holding.merge(0, {1: bitfield.full(CHUNKS)}, {})
    assert holding.held == 0b10
    assert holding.leftover == {}


def test_what_lies_beyond_the_end_is_not_believed() -> None:
    holding = a_holding()
    holding.merge(0b1111, {9: 0b1}, {9: b"x"})
    assert holding.held == 0b11
    holding.check()


def test_after_a_failed_store_only_what_is_on_the_disk_is_left() -> None:
    holding = a_holding()
    gathered(holding, 0, 2)
    holding.assemblies[0].add(3, "not stored")
    assert holding.proven_bytes() == 3 * CHUNK
    holding.abandon()
    assert holding.proven_bytes() == holding.held_bytes() == 2 * CHUNK
    assert not holding.is_open
    holding.check()
    holding.is_open = True
    assert holding.gather(0, proofs(0)).missing() == 0b1100


def test_a_chunk_is_served_from_memory_until_it_is_stored() -> None:
    holding = a_holding()
    assembly = holding.gather(1, proofs(1))
    assembly.add(2, "payload")
    assert holding.chunk(1, 2) == "payload"
    assert holding.chunk(1, 3) is None
    assembly.mark_stored(2)
    assert holding.chunk(1, 2) == StoredSpan(TASK, GENERATION, PIECE + 2 * CHUNK, CHUNK)


def test_a_content_is_hashed_once_for_all_who_ask() -> None:
    holding = a_holding()
    assert holding.ask_proof("sha256")
    assert not holding.ask_proof("sha256")
    assert holding.ask_proof("md5")


def test_whoever_takes_anothers_place_is_noticed_once() -> None:
    holdings = Holdings()
    holdings[TASK] = a_holding()
    assert holdings.take_changes() == [TASK]
    assert holdings.take_changes() == []
    del holdings[TASK]
    assert holdings.take_changes() == [TASK]
