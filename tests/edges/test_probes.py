"""A look at the host, odd hosts among them."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from dfmq.edges import probes
from dfmq.edges.probes import Probe
from dfmq.model.host import HostSample


def test_a_sample_is_within_its_bounds(tmp_path: Path) -> None:
    probe = Probe(tmp_path)
    first, second = probe.sample(), probe.sample()
    for sample in (first, second):
        for share in (sample.cpu_share, sample.memory_share, sample.disk_share):
            assert 0.0 <= share <= 1.0
        assert sample.disk_free_bytes > 0
        assert sample.net_in_bytes_per_second >= 0
    assert first.memory_share > 0.0
    # Nothing to compare with yet.
    assert (first.cpu_share, first.disk_share, first.net_in_bytes_per_second) == (0.0, 0.0, 0)


def test_rates_and_shares_are_those_of_the_time_since_the_last_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    idle, busy, octets, disk = 0.0, 0.0, 0, 0
    monkeypatch.setattr(probes.time, "monotonic", lambda: now)

    def cpu_times() -> Any:
        return SimpleNamespace(_asdict=lambda: {"user": busy, "idle": idle, "iowait": 0.0, "guest": busy})

    def net(pernic: bool) -> Any:
        counters = SimpleNamespace(bytes_recv=octets, bytes_sent=2 * octets)
        loop = SimpleNamespace(bytes_recv=10**15 + 10**9 * octets, bytes_sent=0)
        return {"none0": counters, "lo": loop}

    def interfaces() -> Any:
        return {
            "none0": SimpleNamespace(isup=True, speed=1000),
            "none1": SimpleNamespace(isup=False, speed=40_000),
            "lo": SimpleNamespace(isup=True, speed=100_000),
        }

    monkeypatch.setattr(psutil, "cpu_times", cpu_times)
    monkeypatch.setattr(psutil, "net_io_counters", net)
    monkeypatch.setattr(psutil, "net_if_stats", interfaces)
    monkeypatch.setattr(psutil, "disk_io_counters", lambda perdisk: {"vdz": SimpleNamespace(busy_time=disk)})
    monkeypatch.setattr(probes, "_disk_name", lambda home: "vdz")
    probe = Probe(tmp_path)
    probe.sample()
    now, idle, busy, octets, disk = 1002.0, 6.0, 2.0, 1000, 500
    sample = probe.sample()
    assert sample.cpu_share == pytest.approx(0.25)
    assert sample.disk_share == pytest.approx(0.25)
    assert (sample.net_in_bytes_per_second, sample.net_out_bytes_per_second) == (500, 1000)
    assert sample.nic_bytes_per_second == 125_000_000
    # Counters that begin anew (a card was replaced) are no negative traffic.
    now, octets = 1003.0, 10
    assert probe.sample().net_in_bytes_per_second == 0


def test_a_host_that_shows_nothing_is_no_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, trouble in {
        "cpu_times": psutil.AccessDenied(1),
        "virtual_memory": FileNotFoundError("/proc/meminfo"),
        "disk_io_counters": RuntimeError("couldn't find any physical disk"),
        "net_io_counters": NotImplementedError(),
        "net_if_stats": PermissionError(),
    }.items():

        def fail(*_: Any, trouble: Exception = trouble, **__: Any) -> Any:
            raise trouble

        monkeypatch.setattr(psutil, name, fail)
    monkeypatch.delattr(os, "statvfs")
    probe = Probe(Path("/there/is/no/such/home"))
    assert probe.sample() == probe.sample() == HostSample()
