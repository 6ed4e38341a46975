"""A look at the host: CPU, memory, disk, network, by psutil. What follows from it is decided by machines."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from dfmq.model.host import HostSample

#: psutil gives the speed of a card in Mbit/s
_OCTETS_PER_MBIT = 125_000
#: a card's speed is looked up so often
NIC_SECONDS = 60.0

V = TypeVar("V")


class Probe:
    """Looks at one host, for the disk under `home`. Each sample tells of the time since the one before; the first one
    has no rates. Traffic and load of our own are in it. Never blocks, never raises: what is not to be had is 0."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._at = 0.0
        #: counters of the last look: name → value
        self._counters: dict[str, float] = {}
        self._disk: str | None = None
        #: what the fastest card can do, and when to look again
        self._nic_rate, self._nic_until = 0, 0.0

    def sample(self) -> HostSample:
        """The host now."""
        import psutil  # 15 ms of start-up that a client which asks a running peer need not spend

        def maybe(default: V, look: Callable[[Any], V]) -> V:
            # Containers hide files, old kernels lack them, other systems have other names.
            try:
                return look(psutil)
            except (psutil.Error, OSError, AttributeError, NotImplementedError, RuntimeError, LookupError, ValueError):
                return default

        now = time.monotonic()
        seconds, self._at = (now - self._at if self._at else 0.0), now
        busy, total = maybe((0.0, 0.0), _cpu_seconds)
        total_passed = self._passed("total", total)
        net_in, net_out = maybe((0, 0), _net_octets)
        disk_ms = self._passed("disk", maybe(0.0, self._disk_busy_ms))
        return HostSample(
            cpu_share=_share(self._passed("busy", busy), total_passed),
            memory_share=_share(maybe(0.0, lambda ps: float(ps.virtual_memory().percent)), 100),
            disk_share=_share(disk_ms, seconds * 1000),
            disk_free_bytes=maybe(0, lambda _: _free(self._home)),
            net_in_bytes_per_second=_rate(self._passed("in", net_in), seconds),
            net_out_bytes_per_second=_rate(self._passed("out", net_out), seconds),
            nic_bytes_per_second=self._nic(now, maybe),
        )

    def _nic(self, now: float, maybe: Callable[[int, Callable[[Any], int]], int]) -> int:
        """Looked up once a minute: that question took two thirds of a whole look."""
        if now >= self._nic_until:
            self._nic_rate, self._nic_until = maybe(0, _nic_rate), now + NIC_SECONDS
        return self._nic_rate

    def _passed(self, name: str, value: float) -> float:
        """By how much a counter has risen since the last look; a counter that fell has begun anew."""
        before = self._counters.get(name, value)
        self._counters[name] = value
        return max(0.0, value - before)

    def _disk_busy_ms(self, psutil: Any) -> float:
        if self._disk is None:
            self._disk = _disk_name(self._home)
        counters = psutil.disk_io_counters(perdisk=True) or {}
        return float(counters[self._disk].busy_time)


def _cpu_seconds(psutil: Any) -> tuple[float, float]:
    """(busy, all) of every core together, seconds since boot. Waiting for the disk is not being busy."""
    times = psutil.cpu_times()._asdict()
    # Linux counts a guest's time in its user time already.
    total = sum(value for name, value in times.items() if name not in ("guest", "guest_nice"))
    return total - times.get("idle", 0.0) - times.get("iowait", 0.0), total


def _net_octets(psutil: Any) -> tuple[int, int]:
    """(in, out) since boot. Of the cards where the system tells them from bridges, bonds and tunnels, which would count
    the same traffic once more; else of all interfaces but the loopback."""
    counters = {name: c for name, c in psutil.net_io_counters(pernic=True).items() if not _is_loopback(name)}
    cards = [c for name, c in counters.items() if os.path.exists(f"/sys/class/net/{name}/device")]
    counted = cards or list(counters.values())
    return sum(c.bytes_recv for c in counted), sum(c.bytes_sent for c in counted)


def _nic_rate(psutil: Any) -> int:
    """Octets per second of the fastest interface that is up; 0 when none says."""
    speeds = [stats.speed for name, stats in psutil.net_if_stats().items() if stats.isup and not _is_loopback(name)]
    return int(max([0, *speeds])) * _OCTETS_PER_MBIT


def _is_loopback(name: str) -> bool:
    return name == "lo" or name.startswith(("lo0", "Loopback"))


def _disk_name(home: Path) -> str:
    """The name psutil has for the disk or partition of `home`; "" when it is none (overlay, network, memory)."""
    device = home.stat().st_dev
    link = f"/sys/dev/block/{os.major(device)}:{os.minor(device)}"
    return os.path.basename(os.path.realpath(link)) if os.path.exists(link) else ""


def _free(home: Path) -> int:
    stat = os.statvfs(home)
    return stat.f_bavail * stat.f_frsize


def _share(part: float, whole: float) -> float:
    return min(1.0, max(0.0, part / whole)) if whole > 0 else 0.0


def _rate(count: float, seconds: float) -> int:
    return int(count / seconds) if seconds > 0 else 0
