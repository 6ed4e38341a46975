"""The production machines on a virtual clock: how long thousands of hosts take, in multiples of size/rate.

    python -m bench.swarm [NAME…] [--seeds 1] [--size 200MiB] [--piece 4MiB] [--chunk 512KiB] [--jobs 2] [--json FILE]
    python -m dfmq.sim --help          any other world, and the replay of one

Worlds (peers-20000 and fine only when named): 200 to 20,000 peers at 200 Mbit/s, all at once, the seed at 2 Gbit/s,
links of 1 ms; and with 1000 peers: slow-10, slow-30 (so many per cent at a tenth of the rate; their own times apart),
slow-10-again, slow-30-again (the night after, in which hosts remember how fast they received), crash-5
(5 % killed on the way, most come back), join (they come over 60 s), zones (two, with 400 Mbit/s between them; the seed
is in one), branches (ten, with 100 Mbit/s between each two and to the seed, which stands apart: one link alone would
take 2.00), busy (the broker takes 95 µs for a message and 57 µs for a piece, about what a real one does;
elsewhere it takes no time; the content is cut as for so many hosts), busy-small-pieces (cut as elsewhere, as for few
hosts), source-300 and source-150 (the source gives so many Mbit/s; size/rate of the latter alone is 1.33).
fine: 1000 peers with the house's own chunks. mean, p99, max: of the peers at full rate, in size/rate. All but cpu_s is
exact and the same on every machine; with several seeds, the median of each. Hints and notices are not delivered: they
matter only while no broker answers, and are half of the events.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import time

import msgspec

from bench.figure import Bars, Lines
from bench.outcome import arguments, medians, report
from dfmq.model.pieces import piece_length_for
from dfmq.sim import report as sim_report
from dfmq.sim.plan import KIB, MBIT, MIB, Plan, quantity
from dfmq.sim.world import play

LAN = Plan(peers=1000, size=200 * MIB, rate=200 * MBIT, seed_rate=2000 * MBIT, latency=0.001, hint_loss=1.0)
SIZES = (200, 1000, 3000, 7000, 20_000)
#: name → what is different from LAN
WORLDS: dict[str, dict[str, float]] = {
    **{f"peers-{peers}": {"peers": peers} for peers in SIZES},
    "slow-10": {"slow": 0.1},
    "slow-30": {"slow": 0.3},
    "slow-10-again": {"slow": 0.1, "nights": 2},
    "slow-30-again": {"slow": 0.3, "nights": 2},
    "crash-5": {},
    "join": {"spread": 60.0},
    "zones": {"zones": 2, "zone_rate": 400 * MBIT},
    "branches": {"zones": 10, "zone_rate": 100 * MBIT, "seed_apart": True},
    "busy": {"broker_seconds": 95e-6, "piece": 0, "chunk": 0},
    "busy-small-pieces": {"broker_seconds": 95e-6},
    "source-300": {"source_rate": 300 * MBIT},
    "source-150": {"source_rate": 150 * MBIT},
    "fine": {"chunk": 0},
}
#: A quarter of an hour and more: only when named.
LONG = ("peers-20000", "fine")


def plan_of(name: str, chosen: argparse.Namespace, seed: int) -> Plan:
    """A named world's plan."""
    piece = chosen.piece or piece_length_for(chosen.size)
    cut = {"size": chosen.size, "piece": piece, "chunk": min(piece, chosen.chunk), "seed": seed}
    differently = cut | WORLDS[name]
    if chosen.peers and not name.startswith("peers-"):
        differently["peers"] = chosen.peers
    plan = msgspec.structs.replace(LAN, **differently)
    return msgspec.structs.replace(plan, crashes=plan.peers // 20) if name == "crash-5" else plan


def simulate(plan: Plan) -> dict[str, float]:
    """One world, to its end."""
    began = time.process_time()
    # Nothing here is garbage before the world ends; looking for it took a quarter of the time.
    gc.disable()
    outcome = sim_report.of(play(plan))
    seconds = outcome.virtual_seconds
    return {
        "mean_x": outcome.fast.mean,
        "p99_x": outcome.fast.p99,
        "max_x": outcome.fast.worst,
        "slow_mean_x": outcome.slow.mean,
        "failed": float(outcome.failed),
        "source_x": outcome.source_share,
        "seed_x": outcome.seed_share,
        "between_zones_x": outcome.zone_share,
        "heard_per_s": outcome.broker_heard / seconds,
        "said_per_s": outcome.broker_said / seconds,
        "grants_per_s": outcome.grants / seconds,
        "virtual_s": seconds,
        "cpu_s": time.process_time() - began,
    }


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(WORLDS))
    parser.add_argument("--seeds", type=int, default=1, help="worlds of each kind, medians of which are told")
    parser.add_argument("--size", type=quantity, default=200 * MIB)
    parser.add_argument("--piece", type=quantity, default=0, help="0: the house's own for this size")
    parser.add_argument("--chunk", type=quantity, default=512 * KIB, help="coarser is quicker to simulate, and slower")
    parser.add_argument("--peers", type=int, default=0, help="of the worlds that are not named after their peers")
    parser.add_argument("--jobs", type=int, default=1, help="worlds at a time")
    chosen = parser.parse_args()
    if unknown := set(chosen.names) - set(WORLDS):
        parser.error(f"no such world: {', '.join(sorted(unknown))}")
    names = chosen.names or [name for name in WORLDS if name not in LONG]
    plans = [plan_of(name, chosen, seed) for name in names for seed in range(1, chosen.seeds + 1)]
    rows: dict[str, dict[str, float]] = {}
    # A process a world: what one has used is given back before the next begins.
    with multiprocessing.get_context("spawn").Pool(chosen.jobs, maxtasksperchild=1) as pool:
        done = pool.imap(simulate, plans, chunksize=1)
        for name in names:
            rows[name] = medians([next(done) for _ in range(chosen.seeds)])
            print(f"{name}: { {key: round(value, 3) for key, value in rows[name].items()} }", flush=True)
    by_size = {name: row for name, row in rows.items() if name.startswith("peers-")}
    panels: list[Bars | Lines] = []
    if by_size:
        panels = [
            lines(by_size, "completion, in size/rate", {"mean_x": "mean", "p99_x": "p99", "max_x": "slowest"}, 1.05),
            lines(by_size, "from the seed, copies", {"seed_x": "seed", "source_x": "source"}),
            lines(by_size, "per second of virtual time", {"heard_per_s": "messages heard", "grants_per_s": "grants"}),
        ]
    others = {name: row["mean_x"] for name, row in rows.items() if name not in by_size}
    if others:
        panels.append(Bars(title="mean of the peers at full rate, in size/rate", bars=others))
    title = f"Simulated: {chosen.size / MIB:g} MiB to N peers of 200 Mbit/s, seed 2 Gbit/s, {chosen.seeds} seeds"
    report("swarm", title, rows, panels, chosen)


def lines(rows: dict[str, dict[str, float]], title: str, names: dict[str, str], target: float | None = None) -> Lines:
    """A panel over the number of peers."""
    series = {
        shown: [(float(name.partition("-")[2]), row[key]) for name, row in rows.items()] for key, shown in names.items()
    }
    return Lines(title=title, x="peers", series=series, log_x=True, target=target, target_name="1.05")


if __name__ == "__main__":
    main()
