"""Several hosts on one machine: network namespaces on a bridge, each link shaped with tbf both ways. Needs root."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


def _shape(namespace: str, device: str, rate: str) -> None:
    # 150 ms of queue: what an uplink's buffer is like (design, section 2: the round trip under load is this queue).
    subprocess.run(
        ["ip", "netns", "exec", namespace, "tc", "qdisc", "add", "dev", device, "root", "tbf",
         "rate", rate, "burst", "32kb", "latency", "150ms"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip


@dataclass
class Network:
    """A bridge in a namespace of its own, and hosts on it: 10.77.0.x; more bridges, for sites behind a link."""

    prefix: str
    hosts: dict[str, str] = field(default_factory=dict)

    @property
    def _switch(self) -> str:
        return f"{self.prefix}sw"

    def open(self) -> None:
        _ip("netns", "add", self._switch)
        _ip("-n", self._switch, "link", "add", "br0", "type", "bridge")
        _ip("-n", self._switch, "link", "set", "br0", "up")

    def site(self, name: str, rate: str) -> None:
        """Another bridge, behind a link of `rate` both ways."""
        switch = self._switch
        _ip("-n", switch, "link", "add", name, "type", "bridge")
        _ip("-n", switch, "link", "set", name, "up")
        _ip("-n", switch, "link", "add", f"{name}-in", "type", "veth", "peer", "name", f"{name}-out")
        for device, bridge in ((f"{name}-in", "br0"), (f"{name}-out", name)):
            _ip("-n", switch, "link", "set", device, "master", bridge, "up")
            _shape(switch, device, rate)

    def bytes_into(self, site: str) -> int:
        """What has gone through the link into a site, headers and all."""
        return self._sent("sw", f"{site}-in")

    def add(self, name: str, rate: str, site: str = "br0") -> str:
        """A host with a link of `rate` (as tc writes it, e.g. 20mbit) both ways; its address."""
        number = len(self.hosts) + 1
        address = f"10.77.{number // 250}.{number % 250 + 1}"
        namespace, device = f"{self.prefix}{name}", f"v{number}"
        _ip("netns", "add", namespace)
        _ip("-n", self._switch, "link", "add", device, "type", "veth", "peer", "name", "eth0", "netns", namespace)
        _ip("-n", self._switch, "link", "set", device, "master", site, "up")
        _ip("-n", namespace, "addr", "add", f"{address}/16", "dev", "eth0")
        _ip("-n", namespace, "link", "set", "eth0", "up")
        _ip("-n", namespace, "link", "set", "lo", "up")
        _shape(namespace, "eth0", rate)
        _shape(self._switch, device, rate)
        self.hosts[name] = address
        return address

    def inside(self, name: str) -> list[str]:
        """The words before a command that make it run on that host."""
        return ["ip", "netns", "exec", f"{self.prefix}{name}"]

    def bytes_sent(self, name: str) -> int:
        """What has left the host on its link, headers and all."""
        return self._sent(name, "eth0")

    def _sent(self, name: str, device: str) -> int:
        command = [*self.inside(name), "cat", f"/sys/class/net/{device}/statistics/tx_bytes"]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    def close(self) -> None:
        for name in [*self.hosts, "sw"]:
            subprocess.run(["ip", "netns", "del", f"{self.prefix}{name}"], capture_output=True, check=False)
        self.hosts.clear()


@contextlib.contextmanager
def network() -> Iterator[Network]:
    """An empty network; everything is taken down at the end."""
    made = Network(f"dfmq{os.getpid()}-")
    with _room_for_neighbours():
        made.open()
        try:
            yield made
        finally:
            made.close()


@contextlib.contextmanager
def _room_for_neighbours() -> Iterator[None]:
    """All namespaces of a kernel share one table of neighbours (ARP), of 1024 as it comes: 32 hosts that talk to each
    other fill it, and from then on packets to new ones are dropped for seconds. Real hosts have a table each."""
    tables = [Path(f"/proc/sys/net/ipv4/neigh/default/gc_thresh{number}") for number in (3, 2, 1)]
    before = [table.read_text() for table in tables]
    try:
        for table in tables:
            table.write_text(str(max(int(table.read_text()), 65_536)))
        yield
    finally:
        for table, text in zip(reversed(tables), reversed(before), strict=True):
            table.write_text(text)


def may_make_networks() -> bool:
    """Whether this user and machine can do it: root, ip, tc."""
    if os.geteuid() != 0 or not any(Path(folder, "ip").exists() for folder in ("/sbin", "/usr/sbin", "/bin")):
        return False
    name = f"dfmq{os.getpid()}-try"
    tried = subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False)
    subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
    return tried.returncode == 0
