"""Shaped namespaces: 20 MB to N receivers of 20 Mbit/s, source and broker 200 Mbit/s; multiples of one lone wget.

    python -m bench.shaped [--receivers 1 10 20 40 80] [--rounds 3] [--spread 5] [--only dfmq wget] [--json FILE]

A lone wget on the same kind of link is measured first in the same run: what the wire needs, headers and all. Every
output of every round is verified. With --spread the receivers start over so many seconds; each counts from its own
start. What left the source (the seeder of a torrent) and the broker is what their links sent, headers too. The cores'
idle time during the rounds is shown: where it nears 0 the machine is the limit, not the links. Needs root.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from bench import systems
from bench.content import make_file
from bench.figure import Lines
from bench.fleet import Fleet, fleet
from bench.loopback import panel
from bench.meter import Round
from bench.network import Network, may_make_networks, network
from bench.outcome import arguments, median, medians, report, share
from bench.systems import SYSTEMS, Stage


def furnish(made: Fleet, net: Network, receivers: int) -> None:
    """Hosts: source, broker, h0 … ."""
    rates = {"source": "200mbit", "broker": "200mbit"} | {f"h{number}": "20mbit" for number in range(receivers)}
    made.addresses = {name: net.add(name, rate) for name, rate in rates.items()}
    made.prefix = {name: net.inside(name) for name in rates}


def one_round(name: str, chosen: argparse.Namespace, file: Path, digest: str, receivers: int) -> Round:
    """One round in a fresh network with a fresh fleet."""
    with network() as net, fleet(chosen.dir) as made:
        furnish(made, net, receivers)
        stage = Stage(made, file, digest, receivers, spread=chosen.spread, octets=net.bytes_sent)
        return systems.run(name, stage)


def figures(one: Round, size: int, unit: float) -> dict[str, float]:
    """A round as the table shows it; `unit`: seconds of one lone wget."""
    return {
        "mean_x": sum(one.each) / len(one.each) / unit,
        "p95_x": share(one.each, 0.95) / unit,
        "max_x": max(one.each) / unit,
        "source_x": one.source_bytes / size,
        "seed_x": (one.seed_bytes or 0) / size,
        "cpu_s": one.cpu,
        "rss_mb": one.memory.whole / 1e6,
        "own_mb": one.memory.own / 1e6,
        "idle": one.idle,
    }


def run(chosen: argparse.Namespace) -> tuple[float, dict[str, dict[str, float]]]:
    """(seconds of one lone wget, `NAME x N` → medians)."""
    names = systems.present(chosen.only)
    rows: dict[str, dict[str, float]] = {}
    with fleet(chosen.dir) as source:
        file = source.home / "www" / "content.bin"
        digest = make_file(file, chosen.size)
        alone = [one_round("wget", chosen, file, digest, 1).each[0] for _ in range(chosen.rounds)]
        unit = median(alone)
        print(f"one lone wget: {unit:.3f} s (of {[round(one, 3) for one in alone]})", flush=True)
        for receivers in chosen.receivers:
            done: dict[str, list[dict[str, float]]] = {name: [] for name in names}
            for turn in range(chosen.rounds):
                for name in names:
                    row = figures(one_round(name, chosen, file, digest, receivers), chosen.size, unit)
                    said = {key: round(value, 3) for key, value in row.items()}
                    print(f"{name} x {receivers}, round {turn + 1}: {said}", flush=True)
                    done[name].append(row)
            rows |= {f"{name} x {receivers}": medians(done[name]) for name in names}
    return unit, rows


def near(lines: Lines, most: float) -> Lines:
    """The same panel without the points far above: where the others differ."""
    kept = {name: [point for point in points if point[1] <= most] for name, points in lines.series.items()}
    kept = {name: points for name, points in kept.items() if points}
    return Lines(title=f"{lines.title}, up to {most:g}", x=lines.x, series=kept)


def left(rows: dict[str, dict[str, float]]) -> Lines:
    """What left the source or the seeder; and dfmq's seed, beside its source."""
    lines = panel(rows, "left source or seeder, copies", "source_x")
    seed = panel(rows, "", "seed_x").series.get("dfmq")
    return Lines(title=lines.title, x=lines.x, series=lines.series | ({"seed of dfmq": seed} if seed else {}))


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--receivers", type=int, nargs="+", default=[1, 10, 20, 40, 80])
    parser.add_argument("--size", type=int, default=20_000_000, help="bytes")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--spread", type=float, default=0.0, help="seconds between the first and the last start")
    systems_here = [name for name in SYSTEMS if name != "curl"]
    parser.add_argument("--only", nargs="+", default=systems_here, choices=list(SYSTEMS), metavar="SYSTEM")
    parser.add_argument("--dir", default="/dev/shm")
    chosen = parser.parse_args()
    if not may_make_networks() or shutil.which("wget") is None:
        print("skipped: this makes network namespaces and runs wget: run it as root with iproute2 and wget installed")
        return
    unit, rows = run(chosen)
    arrivals = f"arrivals over {chosen.spread:g} s" if chosen.spread else "all at once"
    title = f"{chosen.size / 1e6:g} MB at 20 Mbit/s, {arrivals}: multiples of one lone wget ({unit:.2f} s)"
    mean = panel(rows, "mean completion", "mean_x")
    panels = [
        mean,
        near(mean, 2.5),
        panel(rows, "slowest", "max_x"),
        left(rows),
    ]
    report("shaped-spread" if chosen.spread else "shaped", title, rows, panels, chosen, systems.versions(chosen.only))


if __name__ == "__main__":
    main()
