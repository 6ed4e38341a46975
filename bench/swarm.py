"""The production machines on a virtual clock: how long a thousand hosts take, in multiples of size/rate.

    python bench/swarm.py [NAME…]      the named worlds, or all that take less than a few minutes
    python -m dfmq.sim --help          any other world

The numbers are exact and the same on every machine; only events per second are this machine's.
"""

from __future__ import annotations

import gc
import platform
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import msgspec

from dfmq.sim import report
from dfmq.sim.plan import KIB, MBIT, MIB, Plan
from dfmq.sim.world import World

LAN = Plan(peers=1000, size=200 * MIB, rate=200 * MBIT, seed_rate=4000 * MBIT, latency=0.001)
UNEQUAL = msgspec.structs.replace(LAN, peers=400, size=100 * MIB, piece=2 * MIB, chunk=128 * KIB)
WAN = Plan(
    peers=40,
    size=20_000_000,
    rate=20 * MBIT,
    seed_rate=200 * MBIT,
    source_rate=200 * MBIT,
    piece=256 * KIB,
    chunk=64 * KIB,
    latency=0.001,
    uplink_queue=0.125,
)

#: name → (plan, whether it is run without being named)
WORLDS = {
    "small": (msgspec.structs.replace(LAN, peers=100, size=50 * MIB), True),
    "reference": (msgspec.structs.replace(LAN, piece=4 * MIB, chunk=256 * KIB), True),
    "default": (LAN, True),
    "slow-10": (msgspec.structs.replace(UNEQUAL, slow=0.1), True),
    "slow-30": (msgspec.structs.replace(UNEQUAL, slow=0.3), True),
    "wan": (WAN, True),
    "huge": (msgspec.structs.replace(LAN, peers=7000), False),
}


def main() -> None:
    """Run them and print a table."""
    names = sys.argv[1:] or [name for name, (_, always) in WORLDS.items() if always]
    print(f"{platform.platform()}, Python {platform.python_version()}")
    print(f"{'world':<10} {'mean':>6} {'p50':>6} {'p99':>6} {'max':>6} {'slow':>6} {'source':>7} {'seed':>7} "
          f"{'peers':>6} {'grants':>8} {'to broker':>9} {'events':>10} {'events/s':>9}")  # fmt: skip
    for name in names:
        started = time.process_time()
        world = World(WORLDS[name][0])
        gc.freeze()
        world.run()
        outcome = report.of(world)
        fast = outcome.fast
        speed = outcome.events / (time.process_time() - started)
        print(
            f"{name:<10} {fast.mean:6.3f} {fast.p50:6.3f} {fast.p99:6.3f} {fast.worst:6.3f} {outcome.slow.mean:6.3f} "
            f"{outcome.source_share:7.4f} {outcome.seed_share:7.2f} {outcome.from_peers:6.3f} {outcome.grants:8} "
            f"{outcome.broker_heard:9} {outcome.events:10} {speed:9,.0f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
