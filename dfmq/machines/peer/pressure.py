"""How pressed our own host is: calm, busy or full. Looking at the host is in edges/probes; what follows is others'."""

from __future__ import annotations

from dfmq.errors import InvariantViolated
from dfmq.model.host import HostSample, Pressure

LEVELS: tuple[Pressure, ...] = ("calm", "busy", "full")

#: input → (busy from, calm again below, full from, busy again below), shares of 1. Between two neighbours lies the
#: hysteresis band. CPU and disk never make a host "full": our own work is in them, and it must not throttle itself to
#: a stop; memory and other people's traffic are not ours.
BANDS: dict[str, tuple[float, float, float, float]] = {
    "cpu": (0.95, 0.80, 2.0, 2.0),
    "memory": (0.90, 0.85, 0.97, 0.94),
    "disk": (0.95, 0.75, 2.0, 2.0),
    "net": (0.50, 0.35, 0.85, 0.70),
}

#: A level is kept so long before it rises, and before it falls: one busy second is no busy host, and a window that is
#: moved twice a second is never measured right.
RISE_SECONDS = 1.0
FALL_SECONDS = 5.0


def _shares(sample: HostSample, own_in: int, own_out: int) -> dict[str, float]:
    """Every input as a share of what there is; 0 where a probe is not to be had."""
    foreign = max(sample.net_in_bytes_per_second - own_in, sample.net_out_bytes_per_second - own_out, 0)
    return {
        "cpu": sample.cpu_share,
        "memory": sample.memory_share,
        "disk": sample.disk_share,
        "net": foreign / sample.nic_bytes_per_second if sample.nic_bytes_per_second else 0.0,
    }


class PressureGauge:
    """The host's pressure, with hysteresis.

    Law: monotone in every input (more load never gives a lower level); between two changes lie RISE_SECONDS or
    FALL_SECONDS; samples below every band lead to calm from any state, within FALL_SECONDS.
    """

    __slots__ = ("_level", "_since")

    def __init__(self) -> None:
        self._level = 0
        self._since = float("-inf")

    @property
    def level(self) -> Pressure:
        """As of the last sample."""
        return LEVELS[self._level]

    def see(self, sample: HostSample, now: float, own_in: int | None = None, own_out: int = 0) -> Pressure | None:
        """Take a sample; the new level if it changed. `own_in`, `own_out`: dfmq's own traffic, bytes per second, which
        is no pressure; None: nobody knows, so the network is left out."""
        if own_in is None:
            own_in = own_out = 1 << 60
        highest = lowest = 0
        for name, share in _shares(sample, own_in, own_out).items():
            busy, calm, full, less = BANDS[name]
            lowest = max(lowest, 2 if share >= full else 1 if share >= busy else 0)
            highest = max(highest, 2 if share >= less else 1 if share >= calm else 0)
        wanted = min(max(self._level, lowest), highest)
        kept = now - self._since
        if wanted == self._level or kept < (RISE_SECONDS if wanted > self._level else FALL_SECONDS):
            return None
        self._level, self._since = wanted, now
        return self.level

    def check(self) -> None:
        """The level is one of three."""
        if not 0 <= self._level < len(LEVELS):
            raise InvariantViolated(f"pressure level {self._level}")
