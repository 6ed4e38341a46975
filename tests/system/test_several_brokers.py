"""Real processes: hosts with two brokers, of which one dies, hangs or begins anew in the middle of what they get."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from support.processes import House, Node, finish, free_port, side_by_side, until_it_holds
from support.sources import FaultySource

pytestmark = pytest.mark.system

MIB = 1 << 20
FRESH = {"Cache-Control": "max-age=600"}
CONTENT = os.urandom(4 * MIB)


def two_brokers(house: House) -> list[Node]:
    """Of short beats: a silence is noticed within 1.5 seconds."""
    ports = [free_port(), free_port()]
    return [restarted(house, name, port) for name, port in zip(("first", "second"), ports, strict=True)]


def restarted(house: House, name: str, port: int) -> Node:
    return house.broker(name, listen=f"tcp://127.0.0.1:{port}", DFMQ_BROKER_BEAT="500ms")


def port_of(broker: Node) -> int:
    return int(broker.control.rpartition(":")[2])


def peer_with(house: House, name: str, brokers: Sequence[Node]) -> Node:
    *others, last = brokers  # flags come first
    return house.peer(name, last, *(word for broker in others for word in ("--broker", broker.control)))


@side_by_side("how", ["killed", "frozen", "begun anew with nothing"])
def test_a_broker_that_goes_in_the_middle_is_done_without(
    house: House, source: FaultySource, tmp_path: Path, how: str
) -> None:
    url = source.put("/x", CONTENT, headers=FRESH)
    first, second = two_brokers(house)
    orders = {"a": (first, second), "b": (first, second), "c": (second, first)}
    peers = [peer_with(house, name, order) for name, order in orders.items()]
    gets = [house.start_get(peer, url, "-o", tmp_path / f"{peer.name}.out", "--limit", "1MB/s") for peer in peers]
    until_it_holds(gets[0], MIB // 4)
    if how == "frozen":
        first.freeze()
    else:
        first.kill()
    if how == "begun anew with nothing":
        shutil.rmtree(first.home)
        restarted(house, "first", port_of(first))
    for peer, getting in zip(peers, gets, strict=True):
        got = finish(getting)
        assert got.status == 0, (peer.name, got)
        assert (tmp_path / f"{peer.name}.out").read_bytes() == CONTENT
    # Once for each broker; one that has lost its home begins anew.
    most = 3 if how == "begun anew with nothing" else 2
    assert source.bytes_sent("/x") <= most * len(CONTENT)


def test_when_all_brokers_are_gone_gets_go_on_as_soon_as_one_is_back(
    house: House, source: FaultySource, tmp_path: Path
) -> None:
    url = source.put("/x", CONTENT, headers=FRESH)
    brokers = two_brokers(house)
    peers = [peer_with(house, name, brokers) for name in ("a", "b")]
    gets = [house.start_get(peer, url, "-o", tmp_path / f"{peer.name}.out", "--limit", "1MB/s") for peer in peers]
    until_it_holds(gets[0], MIB // 4)
    for broker in brokers:
        broker.kill()
    for peer in peers:
        peer.wait_for("session.silent")
    restarted(house, "second", port_of(brokers[1]))
    for peer, getting in zip(peers, gets, strict=True):
        got = finish(getting)
        assert got.status == 0, (peer.name, got)
        assert (tmp_path / f"{peer.name}.out").read_bytes() == CONTENT
