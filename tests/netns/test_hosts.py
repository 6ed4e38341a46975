"""Several hosts, each in a network namespace with a link of its own: found, shared, cut off, and back again."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.processes import House, Node, finish, receipts, until

from bench.network import Network, network

pytestmark = pytest.mark.netns

MIB = 1 << 20
SIZE = 6 * MIB
RATE = 20_000_000 / 8
HOSTS = ("a", "b", "c")
PORT = 7400


@contextlib.contextmanager
def web_server(before: list[str], address: str, folder: Path, log: Path) -> Iterator[None]:
    """Gives the files of a folder at port 80 of a host; its log has a line a request."""
    words = ["-m", "http.server", "80", "--bind", address, "--directory", str(folder)]
    probe = f"import socket; socket.create_connection(('{address}', 80), 1)"
    with log.open("w") as err, subprocess.Popen([*before, sys.executable, *words], stderr=err, stdout=err) as server:
        try:
            until(
                "the source listens",
                lambda: not subprocess.run([*before, sys.executable, "-c", probe], capture_output=True).returncode,
            )
            yield
        finally:
            server.kill()


class Hosts:
    """A source, a broker and three hosts with peers, each on its own link."""

    def __init__(self, folder: Path, net: Network, house: House) -> None:
        self.net = net
        self.house = house
        self.address = {"source": net.add("source", "200mbit"), "broker": net.add("broker", "200mbit")}
        self.address.update((name, net.add(name, "20mbit")) for name in HOSTS)
        house.before.update((name, net.inside(name)) for name in self.address)
        self.content = os.urandom(SIZE)
        self.log = folder / "source.log"
        self.folder = folder / "www"
        self.folder.mkdir()
        (self.folder / "x").write_bytes(self.content)
        self.url = f"http://{self.address['source']}/x"

    def start(self, *flags: str) -> tuple[Node, list[Node]]:
        broker = self.house.broker("broker", *flags, listen=f"tcp://0.0.0.0:{PORT}")
        return broker, self.house.peers(HOSTS, f"tcp://{self.address['broker']}:{PORT}")

    def get(self, peer: Node) -> subprocess.Popen[str]:
        return self.house.start_get(peer, self.url, "-o", self.output(peer))

    def output(self, peer: Node) -> Path:
        return self.house.folder / f"{peer.name}.out"

    def cut_off(self, name: str, how: str) -> None:
        """Nothing comes from this host any more, nor to it."""
        if how == "link":
            self._link(name, "down")
        else:
            for chain in ("INPUT", "OUTPUT"):
                self._inside(name, "iptables", "-A", chain, "-i" if chain == "INPUT" else "-o", "eth0", "-j", "DROP")

    def heal(self, name: str, how: str) -> None:
        if how == "link":
            self._link(name, "up")
        else:
            self._inside(name, "iptables", "-F")

    def _link(self, name: str, state: str) -> None:
        self._inside(name, "ip", "link", "set", "eth0", state)

    def _inside(self, name: str, *words: str) -> None:
        subprocess.run([*self.net.inside(name), *words], check=True, capture_output=True)

    def requests(self) -> int:
        """GETs the source has had."""
        return self.log.read_text().count('"GET /x')


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Hosts]:
    with network() as net, House(tmp_path, address="0.0.0.0") as house:
        made = Hosts(tmp_path, net, house)
        with web_server(net.inside("source"), made.address["source"], made.folder, made.log):
            yield made


def test_hosts_find_each_other_by_the_addresses_they_find_themselves(hosts: Hosts) -> None:
    """Nobody is told its address, and there is no default route to find it by."""
    broker, peers = hosts.start()
    for node in (broker, *peers):
        assert str(node.said["exchange"]).startswith(f"tcp://{hosts.address[node.name]}:")
    before = hosts.net.bytes_sent("source")
    begun = time.monotonic()
    got = [finish(getting) for getting in [hosts.get(peer) for peer in peers]]
    took = time.monotonic() - begun
    assert [one.status for one in got] == [0] * 3, got
    assert all(hosts.output(peer).read_bytes() == hosts.content for peer in peers)
    assert receipts(got)["from_seed"] + receipts(got)["from_peers"] == 3 * SIZE
    assert hosts.requests() == 1
    assert hosts.net.bytes_sent("source") - before < 1.2 * SIZE
    assert took < 10 * SIZE / RATE, "far more than it takes: something waited for its deadline"


@pytest.mark.parametrize("how", ["link", "filter"])
def test_a_host_that_is_cut_off_is_done_without_and_goes_on_when_it_is_back(hosts: Hosts, how: str) -> None:
    _, peers = hosts.start("--seed-up-limit", "5MB/s")
    lost, *others = peers
    getting = {peer.name: hosts.get(peer) for peer in peers}
    lost.wait_for("piece.held", 6)
    hosts.cut_off(lost.name, how)
    for peer in others:
        assert finish(getting[peer.name]).status == 0
        assert hosts.output(peer).read_bytes() == hosts.content
    assert getting[lost.name].poll() is None
    hosts.heal(lost.name, how)
    got = finish(getting[lost.name])
    assert got.status == 0, got
    assert hosts.output(lost).read_bytes() == hosts.content
    assert hosts.requests() == 1


def test_a_host_that_was_cut_off_for_long_does_not_wait_as_long_again(hosts: Hosts) -> None:
    """With one parent there is no other connection to have it by. TCP's own next try came 9 s after the link was up."""
    hosts.house.broker("broker", "--seed-up-limit", "5MB/s", listen=f"tcp://0.0.0.0:{PORT}")
    (lost,) = hosts.house.peers(["a"], f"tcp://{hosts.address['broker']}:{PORT}")
    getting = hosts.get(lost)
    lost.wait_for("piece.held", 6)
    hosts.cut_off(lost.name, "link")
    time.sleep(13.0)
    hosts.heal(lost.name, "link")
    begun = time.monotonic()
    got = finish(getting)
    assert got.status == 0, got
    assert hosts.output(lost).read_bytes() == hosts.content
    assert time.monotonic() - begun < 8.0, "it waited for TCP"


def test_a_site_behind_a_thin_link_has_it_as_fast_as_the_link_brings_one_copy(tmp_path: Path) -> None:
    """Four hosts of 20 Mbit/s behind a link of 20: four copies would take four times as long as one."""
    with network() as net, House(tmp_path, address="0.0.0.0") as house:
        net.site("branch", "20mbit")
        hosts = Hosts(tmp_path, net, house)
        for name in "defg":
            net.add(name, "20mbit", "branch")
            house.before[name] = net.inside(name)
        with web_server(net.inside("source"), hosts.address["source"], hosts.folder, hosts.log):
            _, peers = hosts.start()
            broker = f"tcp://{hosts.address['broker']}:{PORT}"
            peers += house.peers("defg", broker, "--zone", "branch")
            got = [finish(getting) for getting in [hosts.get(peer) for peer in peers]]
            assert [one.status for one in got] == [0] * 7, got
            assert all(hosts.output(peer).read_bytes() == hosts.content for peer in peers)
            assert hosts.requests() == 1
            assert net.bytes_into("branch") < 1.5 * SIZE


def test_a_broker_nobody_can_reach_is_named(hosts: Hosts) -> None:
    """Not even an answer that nobody listens: the packets just go."""
    peer = hosts.house.peers(["a"], f"tcp://{hosts.address['broker']}:{PORT}")[0]
    hosts.cut_off("broker", "filter")
    got = finish(hosts.get(peer))
    assert (got.status, got.last["code"]) == (4, "broker_unreachable")
    assert hosts.address["broker"] in got.err
