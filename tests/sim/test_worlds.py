"""Worlds of the production machines: everybody alive gets the right content in bounded time, whatever goes wrong.

A world that fails prints the command that shows it again.
"""

from __future__ import annotations

from random import Random

import msgspec
import pytest

from dfmq.sim import report
from dfmq.sim.plan import KIB, MBIT, MIB, Plan
from dfmq.sim.world import World, play

#: 16 pieces of 4 chunks, about a second at the peers' rate: long enough for faults to meet it.
SMALL = Plan(
    size=2 * MIB,
    piece=128 * KIB,
    chunk=32 * KIB,
    rate=16 * MBIT,
    seed_rate=160 * MBIT,
    source_rate=320 * MBIT,
)


def run(plan: Plan) -> report.Report:
    """Run one world to its end."""
    world = World(plan)
    world.run()
    return report.of(world)


def small(seed: int, **differently: object) -> Plan:
    """A small world of 5 to 20 peers; the books of every fourth are checked after every event."""
    return msgspec.structs.replace(
        SMALL, seed=seed, peers=5 + seed * 7 % 16, check=17 if seed % 4 else 1, **differently
    )


@pytest.mark.parametrize("seed", range(12))
def test_every_peer_gets_the_content_and_the_source_is_read_once(seed: int) -> None:
    outcome = run(small(seed, spread=0.3 * (seed % 3), disk=0.004 * (seed % 2), jitter=0.02 * (seed % 2)))
    assert outcome.failed == 0
    assert outcome.source_share == 1.0
    assert outcome.from_source == 0.0


@pytest.mark.parametrize("seed", range(12))
def test_peers_that_die_under_their_children_stop_nobody_else(seed: int) -> None:
    outcome = run(small(seed, crashes=4))
    assert outcome.source_share == 1.0


@pytest.mark.parametrize("seed", range(12))
def test_frozen_peers_and_cut_networks_stop_nobody_else(seed: int) -> None:
    outcome = run(small(seed, freezes=3, cuts=3, hint_loss=0.5))
    assert outcome.failed == 0
    assert outcome.source_share == 1.0


@pytest.mark.parametrize("seed", range(12))
def test_a_broker_that_restarts_reads_no_byte_of_the_source_twice(seed: int) -> None:
    outcome = run(small(seed, broker_restarts=1 + seed % 2, spread=0.5, tries=3))
    assert outcome.failed == 0
    assert outcome.source_share == 1.0


@pytest.mark.parametrize("seed", range(8))
def test_a_broker_that_is_behind_and_loses_peers_and_restarts_still_has_everybody_done(seed: int) -> None:
    """12 ms a message and 7 a piece: 16 pieces for 40 peers take it eight seconds at least, their links one."""
    plan = Plan(
        seed=seed, peers=40, size=2 * MIB, piece=128 * KIB, chunk=32 * KIB, rate=16 * MBIT, seed_rate=160 * MBIT,
        broker_seconds=0.012, crashes=seed % 3, freezes=seed % 2, broker_restarts=seed // 4, tries=3, check=41,
        limit=300,
    )  # fmt: skip
    world = World(plan)
    world.run()
    outcome = report.of(world)
    assert outcome.failed <= plan.crashes
    assert outcome.source_share == 1.0
    assert plan.broker_restarts or outcome.broker_heard < 2 * outcome.grants, "said together"


@pytest.mark.parametrize("seed", range(6))
def test_a_peer_that_alone_loses_its_broker_finishes_by_its_neighbours(seed: int) -> None:
    """Half of them are done before the other half comes: nobody who holds all of it has a reason to say so again."""
    outcome = run(small(seed, strays=2, spread=8.0, limit=60))
    assert outcome.failed == 0
    assert outcome.source_share == 1.0


@pytest.mark.parametrize("seed", range(3))
def test_a_broker_that_cannot_keep_up_loses_nobody_and_has_the_source_asked_once(seed: int) -> None:
    """60 peers begin together at a broker that takes 3.6 s to hear a word from each."""
    world = World(Plan(seed=seed, peers=60, size=2 * MIB, broker_seconds=0.06, check=97, limit=120))
    world.run()
    outcome = report.of(world)
    assert outcome.failed == 0
    assert (outcome.source_share, world.counts["source.asked"]) == (1.0, 1)
    assert world.counts["peer.lost"] == world.counts["session.silent"] == 0


@pytest.mark.parametrize("seed", range(12))
def test_a_source_that_breaks_or_stalls_is_read_on_where_it_stopped(seed: int) -> None:
    outcome = run(small(seed, breaks=1 + seed % 3, stalls=seed % 2))
    assert outcome.failed == 0
    assert outcome.source_share == 1.0


@pytest.mark.parametrize("seed", range(6))
def test_a_source_that_takes_no_ranges_is_read_again_but_nothing_is_mixed(seed: int) -> None:
    outcome = run(small(seed, breaks=1, takes_ranges=False, has_validators=seed % 2 == 0))
    assert outcome.failed == 0
    assert outcome.source_share <= 2.0


@pytest.mark.parametrize("seed", range(8))
def test_content_that_changes_at_the_source_is_never_mixed(seed: int) -> None:
    outcome = run(small(seed, changes=1, breaks=1, broker_restarts=seed % 2, spread=1.0))
    assert outcome.failed == 0
    assert outcome.source_share <= 2.0


@pytest.mark.parametrize("seed", range(8))
def test_a_content_of_unknown_length_grows_piece_by_piece(seed: int) -> None:
    outcome = run(small(seed, tells_length=False, size=2 * MIB - 1000 * seed, crashes=seed % 3, breaks=seed % 2))
    assert outcome.source_share == 1.0 or seed % 2


@pytest.mark.parametrize("seed", range(8))
def test_garbage_is_neither_kept_nor_passed_on(seed: int) -> None:
    outcome = run(small(seed, liars=2, digest=seed % 2 == 0))
    assert outcome.failed == 0
    assert outcome.source_share == 1.0


@pytest.mark.parametrize("seed", range(6))
def test_peers_whose_inbox_nobody_reaches_hold_up_nobody_who_comes_later(seed: int) -> None:
    """A dozen of them were there first, and their clients ask again and again. A minute is what it took."""
    world = World(
        msgspec.structs.replace(
            SMALL, seed=seed, peers=15, unreached=12, seed_slots=32, spread=40.0, tries=99, check=17
        )
    )
    world.run()
    outcome = report.of(world)
    assert outcome.failed == 12
    assert outcome.source_share == 1.0
    assert outcome.fast.worst < 8.0


@pytest.mark.parametrize("seed", range(6))
def test_latecomers_slow_peers_and_several_files_at_once(seed: int) -> None:
    outcome = run(small(seed, late=0.4, slow=0.3, slow_rate=2 * MBIT, files=1 + seed % 3))
    assert outcome.failed == 0
    assert outcome.source_share == 1.0


@pytest.mark.parametrize("seed", range(8))
def test_zones_behind_thin_links_bring_in_one_copy_each(seed: int) -> None:
    """Twice the peers' rate is what a link carries, where ten copies would take five times as long as one peer does."""
    world = World(
        msgspec.structs.replace(
            SMALL, seed=seed, peers=30, zones=2 + seed % 2, zone_rate=32 * MBIT, seed_apart=seed % 3 == 0, check=17
        )
    )
    world.run()
    outcome = report.of(world)
    assert outcome.failed == 0
    assert outcome.source_share == 1.0
    apart = world.plan.zones - (not world.plan.seed_apart)
    assert apart <= outcome.zone_share <= 1.25 * apart


@pytest.mark.parametrize("seed", range(8))
def test_a_zone_that_loses_whom_it_takes_from_brings_it_in_again(seed: int) -> None:
    outcome = run(small(seed, zones=2, zone_rate=16 * MBIT, crashes=4, freezes=1, cuts=1))
    assert outcome.source_share == 1.0


@pytest.mark.parametrize("size", [0, 1, 32 * KIB, 32 * KIB + 1, 128 * KIB, 128 * KIB - 1])
def test_contents_of_odd_lengths(size: int) -> None:
    outcome = run(small(3, size=size, digest=size % 2 == 0))
    assert outcome.failed == 0
    assert outcome.source_share == (1.0 if size else 0.0)


@pytest.mark.parametrize("seed", range(4))
def test_a_source_that_refuses_at_first_is_asked_again(seed: int) -> None:
    outcome = run(small(seed, refusals=1 + seed, tries=6))
    assert outcome.failed == 0
    assert outcome.source_share == 1.0


@pytest.mark.parametrize("seed", range(100, 190))
def test_everything_at_once(seed: int) -> None:
    chance = Random(seed)
    run(
        msgspec.structs.replace(
            SMALL,
            seed=seed,
            check=17 if seed % 4 else 1,
            peers=chance.randint(3, 24),
            size=chance.randint(1, 3 * MIB),
            spread=chance.choice((0.0, 0.5, 3.0)),
            late=chance.choice((0.0, 0.3)),
            slow=chance.choice((0.0, 0.0, 0.2)),
            slow_rate=2 * MBIT,
            files=chance.choice((1, 1, 2)),
            disk=chance.choice((0.0, 0.003, 0.05)),
            jitter=chance.choice((0.0, 0.05)),
            crashes=chance.choice((0, 0, 1, 5)),
            freezes=chance.choice((0, 0, 2)),
            cuts=chance.choice((0, 0, 3)),
            broker_restarts=chance.choice((0, 0, 1)),
            breaks=chance.choice((0, 0, 2)),
            stalls=chance.choice((0, 0, 1)),
            liars=chance.choice((0, 0, 1)),
            changes=chance.choice((0, 0, 0, 1)),
            hint_loss=chance.choice((0.0, 0.3, 1.0)),
            tells_length=chance.random() < 0.7,
            takes_ranges=chance.random() < 0.8,
            has_validators=chance.random() < 0.8,
            tries=3,
            zones=(zones := chance.choice((1, 1, 2, 3))),
            zone_rate=chance.choice((0, 8 * MBIT)),
            seed_apart=zones > 1 and chance.random() < 0.3,
        )
    )


def test_the_same_plan_is_the_same_world() -> None:
    plan = small(5, crashes=2, freezes=1, jitter=0.01)
    assert run(plan) == run(plan)


@pytest.mark.timeout(120)
def test_five_hundred_peers_take_hardly_longer_than_one() -> None:
    outcome = run(
        Plan(peers=500, size=32 * MIB, piece=MIB, chunk=128 * KIB, rate=200 * MBIT, seed_rate=4000 * MBIT, check=997)
    )
    assert outcome.failed == 0
    assert outcome.source_share == 1.0
    assert outcome.fast.mean < 1.2


@pytest.mark.parametrize("seed", range(12))
def test_whatever_hosts_remember_everybody_gets_the_content(seed: int) -> None:
    chance = Random(seed)
    plan = small(seed, slow=0.3, slow_rate=2 * MBIT, digest=True)
    wrong = {f"host-{number}": int(10 ** chance.uniform(0, 15)) for number in range(1, plan.peers + 1)}
    world = World(plan, remembered=wrong)
    world.run()
    outcome = report.of(world)
    assert outcome.failed == 0
    assert outcome.source_share == 1.0


def test_of_a_night_hosts_remember_what_their_links_can_do_and_in_the_next_the_slow_ones_hold_up_fewer() -> None:
    plan = msgspec.structs.replace(
        SMALL, peers=40, slow=0.3, slow_rate=2 * MBIT, size=16 * MIB, piece=256 * KIB, seed=3, hint_loss=1.0
    )
    first = World(plan)
    first.run()
    remembered = first.measured()
    for host in first.hosts:
        assert 0.7 * host.card.down <= remembered[host.name] <= 1.1 * host.card.down, host.name
    second = play(msgspec.structs.replace(plan, nights=2))
    assert second.remembered == remembered
    assert report.of(second).fast.mean < report.of(first).fast.mean
