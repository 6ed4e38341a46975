"""A host's own address: as it listens, as it reaches a broker, or as its interfaces have it."""

from __future__ import annotations

import socket
from types import SimpleNamespace

import psutil
import pytest

from dfmq.edges import addresses
from dfmq.errors import SettingsError


@pytest.mark.parametrize(
    ("listen", "own"),
    [("tcp://10.1.2.3:7400", "10.1.2.3"), ("tcp://[fd00::1]:0", "[fd00::1]"), ("tcp://host.example:1", "host.example")],
)
def test_who_listens_at_an_address_is_reached_there(listen: str, own: str) -> None:
    assert addresses.own_address(listen, ("tcp://127.0.0.1:7400",)) == own


@pytest.mark.parametrize("listen", ["tcp://0.0.0.0:0", "tcp://[::]:0", "tcp://*:0"])
def test_who_listens_everywhere_is_reached_by_the_way_to_its_broker(listen: str) -> None:
    assert addresses.own_address(listen, ("tcp://127.0.0.1:7400",)) == "127.0.0.1"


def test_a_broker_of_no_known_name_is_named() -> None:
    with pytest.raises(SettingsError, match=r"tcp://nobody\.invalid:7400"):
        addresses.own_address("tcp://0.0.0.0:0", ("tcp://nobody.invalid:7400",))


def test_one_broker_of_a_known_name_is_enough() -> None:
    unknown, known = "tcp://nobody.invalid:7400", "tcp://127.0.0.1:7400"
    for brokers in ((unknown, known), (known, unknown)):
        assert addresses.own_address("tcp://0.0.0.0:0", brokers) == "127.0.0.1"


@pytest.mark.parametrize(
    ("given", "own"),
    [
        ({"lo": ["127.0.0.1", "::1"], "down0": ["10.0.0.9"], "eth0": ["fd00::2", "10.0.0.2"]}, "10.0.0.2"),
        ({"eth0": ["fe80::1%eth0", "fe80::2", "fd00::2"]}, "[fd00::2]"),
        ({"lo": ["127.0.0.1"], "eth0": ["169.254.1.1"]}, "127.0.0.1"),
    ],
)
def test_without_a_default_route_it_is_that_of_an_interface(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, list[str]], own: str
) -> None:
    def family(address: str) -> int:
        return socket.AF_INET6 if ":" in address else socket.AF_INET

    found = {name: [SimpleNamespace(family=family(a), address=a) for a in them] for name, them in given.items()}
    states = {name: SimpleNamespace(isup=not name.startswith("down")) for name in given}
    monkeypatch.setattr(psutil, "net_if_addrs", lambda: found)
    monkeypatch.setattr(psutil, "net_if_stats", lambda: states)
    monkeypatch.setattr(addresses, "_way_to", lambda *_: "")
    assert addresses.own_address("tcp://0.0.0.0:0", ()) == own
