"""How whoever reads the source cuts it: for as many hosts as there are, or as somebody has it already."""

from __future__ import annotations

import pytest
from support.reader import Reader, a_content

from dfmq.machines.peer.generations import HOSTS
from dfmq.model.pieces import KIB, MIB, MOST_PIECE_OF_MANY, cut
from dfmq.wire import messages as say

#: 16 pieces of 256 KiB, or 8 of 512 KiB
CONTENT = a_content(4 * MIB)


@pytest.fixture
def few() -> Reader:
    """One that reads for few hosts."""
    reader = Reader(CONTENT)
    reader.permit()
    reader.answer()
    return reader


def read_for(hosts: int, **permit: bytes) -> Reader:
    reader = Reader(CONTENT)
    reader.permit(hosts=hosts, **permit)  # type: ignore[arg-type]
    reader.answer()
    return reader


@pytest.mark.clause("TASK-3")
def test_a_new_content_is_cut_for_as_many_hosts_as_the_permit_says(few: Reader) -> None:
    many = read_for(1000)
    assert few.holding.cut == cut(len(CONTENT))
    assert many.holding.cut == cut(len(CONTENT), 1000)
    assert (few.holding.cut.piece_length, many.holding.cut.piece_length) == (256 * KIB, 512 * KIB)
    assert few.holding.content.generation != many.holding.content.generation


@pytest.mark.clause("TASK-3")
@pytest.mark.parametrize("name", ["claimed", "generation"])
def test_a_content_that_somebody_has_already_keeps_its_cut_and_its_name(few: Reader, name: str) -> None:
    generation = few.holding.content.generation
    again = read_for(1000, **{name: generation})
    assert again.holding.content == few.holding.content


@pytest.mark.clause("TASK-3")
def test_a_claim_to_another_version_is_of_no_account() -> None:
    assert read_for(1000, claimed=b"nonsense").holding.cut == cut(len(CONTENT), 1000)


def test_a_check_knows_the_generation_by_its_name_for_however_many_hosts_it_was_cut() -> None:
    generation = read_for(1000).holding.content.generation
    reader = Reader(CONTENT)
    reader.permit(check=True, generation=generation)
    reader.answer()
    assert reader.one(say.Sourced).generation == generation
    assert reader.source_bytes == 0


def test_what_is_held_is_the_same_content_when_more_hosts_have_come(few: Reader) -> None:
    few.body()
    few.store()
    before, few.source_bytes = few.holding.content, 0
    few.permit(2, hosts=1000)
    few.answer("full")
    assert few.holding.content == before


def test_every_cut_there_may_be_is_known_by_some_number_of_hosts() -> None:
    for length in (len(CONTENT), 200 * MIB, 20 * 10**9, 1 << 45):
        known = {cut(length, hosts) for hosts in HOSTS}
        assert {cut(length, hosts) for hosts in range(0, 65_536, 37)} <= known
    assert cut(1 << 45, HOSTS[-1]).piece_length == MOST_PIECE_OF_MANY
