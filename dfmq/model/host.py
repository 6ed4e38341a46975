"""A host's numbers, as its probes see them, and how pressed it is. Probing is in edges/probes."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

Pressure = Literal["calm", "busy", "full"]

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Amount = Annotated[int, msgspec.Meta(ge=0, lt=2**60)]


class HostSample(msgspec.Struct, frozen=True, kw_only=True):
    """One look at a host. Shares are 0.0-1.0; a probe that is not to be had says 0."""

    cpu_share: Share = 0.0
    memory_share: Share = 0.0
    #: share of time the store's disk was busy
    disk_share: Share = 0.0
    disk_free_bytes: Amount = 0
    #: network traffic of the whole host, both ways, bytes per second
    net_in_bytes_per_second: Amount = 0
    net_out_bytes_per_second: Amount = 0
    #: the network card's own rate, bytes per second; 0 unknown
    nic_bytes_per_second: Amount = 0
