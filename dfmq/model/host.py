"""A host's numbers, as its probes see them, and how pressed it is. Probing is in edges/probes."""

from __future__ import annotations

from typing import Literal

import msgspec

Pressure = Literal["calm", "busy", "full"]


class HostSample(msgspec.Struct, frozen=True, kw_only=True):
    """One look at a host. Shares are 0.0-1.0; a probe that is not to be had says 0."""

    cpu_share: float = 0.0
    memory_share: float = 0.0
    #: share of time the store's disk was busy
    disk_share: float = 0.0
    disk_free_bytes: int = 0
    #: network traffic of the whole host, both ways, bytes per second
    net_in_bytes_per_second: int = 0
    net_out_bytes_per_second: int = 0
    #: the network card's own rate, bytes per second; 0 unknown
    nic_bytes_per_second: int = 0
