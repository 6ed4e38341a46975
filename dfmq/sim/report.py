"""What a world came to, in numbers that do not depend on the machine it ran on. Prints nothing itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from dfmq.sim.world import World


class Spread(msgspec.Struct, frozen=True):
    """How long errands took, in multiples of size/rate."""

    count: int
    mean: float
    p50: float
    p99: float
    worst: float

    def __str__(self) -> str:
        return f"mean {self.mean:.3f}  p50 {self.p50:.3f}  p99 {self.p99:.3f}  max {self.worst:.3f}  ({self.count})"


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of one world."""

    #: of peers at the plan's rate
    fast: Spread
    #: of the slow ones; count 0 when there are none
    slow: Spread
    failed: int
    virtual_seconds: float
    #: bytes over one file's size, of all files together
    source_share: float
    seed_share: float
    #: from one zone into another
    zone_share: float
    source_requests: int
    #: receipts, bytes over all that was delivered
    from_source: float
    from_seed: float
    from_peers: float
    from_store: float
    broker_heard: int
    broker_said: int
    grants: int
    chunks: int
    events: int
    records: dict[str, int]

    def lines(self) -> list[str]:
        """As people read it."""
        lines = [f"completion, in size/rate  {self.fast}"]
        if self.slow.count:
            lines.append(f"   of slow peers          {self.slow}")
        if self.failed:
            lines.append(f"not completed             {self.failed}")
        lines += [
            f"virtual time              {self.virtual_seconds:.3f} s",
            f"source bytes / size       {self.source_share:.4f}   ({self.source_requests} requests)",
            f"seed bytes / size         {self.seed_share:.2f}",
            *([f"between zones / size      {self.zone_share:.2f}"] if self.zone_share else []),
            f"receipts                  source {self.from_source:.4f}  seed {self.from_seed:.4f}",
            f"                          peers {self.from_peers:.4f}  store {self.from_store:.4f}",
            f"broker                    heard {self.broker_heard}  said {self.broker_said}  grants {self.grants}",
            f"chunks delivered          {self.chunks}   events {self.events}",
        ]
        return lines


def of(world: World) -> Report:
    """The report on a world that has been run."""
    plan = world.plan
    fast: list[float] = []
    slow: list[float] = []
    failed = 0
    paths = {"source": 0, "seed": 0, "peers": 0, "store": 0}
    for host in world.hosts:
        for errand in host.errands:
            if errand.done_at is None:
                failed += 1
                continue
            seconds = (errand.done_at - errand.starts_at) / plan.unit if plan.unit else 0.0
            (fast if host.card.up >= plan.rate else slow).append(seconds)
            paths["source"] += errand.receipt.from_source
            paths["seed"] += errand.receipt.from_seed
            paths["peers"] += errand.receipt.from_peers
            paths["store"] += errand.receipt.from_store
    delivered = max(1, sum(paths.values()))
    every_file = max(1, plan.size * plan.files)
    files = world.source.files.values()
    return Report(
        fast=_spread(fast),
        slow=_spread(slow),
        failed=failed,
        virtual_seconds=world.agenda.now,
        source_share=sum(file.served_bytes for file in files) / every_file,
        seed_share=world.seed_bytes / every_file,
        zone_share=world.network.crossed_bytes / every_file,
        source_requests=sum(file.requests for file in files),
        from_source=paths["source"] / delivered,
        from_seed=paths["seed"] / delivered,
        from_peers=paths["peers"] / delivered,
        from_store=paths["store"] / delivered,
        broker_heard=world.broker_heard,
        broker_said=world.broker_said,
        grants=world.counts["lease.granted"],
        chunks=world.chunks,
        events=world.agenda.turns,
        records=dict(sorted(world.counts.items())),
    )


def _spread(values: list[float]) -> Spread:
    if not values:
        return Spread(0, 0.0, 0.0, 0.0, 0.0)
    values.sort()
    last = len(values) - 1
    return Spread(len(values), sum(values) / len(values), values[last // 2], values[round(0.99 * last)], values[last])
