"""One task from nginx to N receivers on one machine, unshaped, verified: dfmq beside its rivals, in turn in one run.

    python -m bench.loopback [--receivers 1 4 8 16] [--size-mib 512] [--rounds 3] [--only dfmq curl] [--cold]
    python -m bench.loopback --pair          one sender, one receiver, 1 GiB (see bench/pair.py)

Files are warm: before each round as much page cache as it will fill is written and given back, and the first round of
each system and N is not counted. The source's file is in the page cache; with --cold it is not. The clock runs from the
first receiver's start to the last one's end; torrents' receivers serve on until all are done. CPU seconds are those of
every process of the system, start-up included; start-up is also shown apart: nodes until they are ready, dfmq-get as
long as --version takes, libtorrent until its first byte. rss: the receiver with the most, with the pages of the files
it has mapped and a peer's dfmq-get; own: without mapped files (RssAnon, ten looks a second).
"""

from __future__ import annotations

import argparse
import tempfile

from bench import pair, systems
from bench.content import GIB, MIB, make_file
from bench.figure import Lines
from bench.fleet import fleet
from bench.meter import Round
from bench.outcome import arguments, medians, report
from bench.systems import SYSTEMS, Stage


def figures(one: Round, size: int) -> dict[str, float]:
    """A round as the table shows it."""
    delivered = size * len(one.each)
    return {
        "wall_s": one.wall,
        "mean_s": sum(one.each) / len(one.each),
        "MB_per_s": delivered / one.wall / 1e6,
        "cpu_s_per_gib": one.cpu / (delivered / GIB),
        "cpu_s_startup": one.cpu_startup,
        "source_x": one.source_bytes / size,
        "rss_mb": one.memory.whole / 1e6,
        "own_mb": one.memory.own / 1e6,
    }


def run(chosen: argparse.Namespace) -> dict[str, dict[str, float]]:
    """All systems in turn, N by N: `NAME × N` → medians."""
    names = systems.present(chosen.only)
    rows: dict[str, dict[str, float]] = {}
    size = chosen.size_mib * MIB
    with fleet(chosen.dir) as source:
        file = source.home / "www" / "content.bin"
        digest = make_file(file, size)
        for receivers in chosen.receivers:
            done: dict[str, list[dict[str, float]]] = {name: [] for name in names}
            for turn in range(chosen.rounds + 1):
                for name in names:
                    with fleet(chosen.dir) as made:
                        stage = Stage(made, file, digest, receivers, warm_files=True, cold_source=chosen.cold)
                        row = figures(systems.run(name, stage), size)
                    said = {key: round(value, 3) for key, value in row.items()}
                    print(f"{name} x {receivers}, round {turn or 'not counted'}: {said}", flush=True)
                    if turn:
                        done[name].append(row)
            rows |= {f"{name} x {receivers}": medians(done[name]) for name in names}
    return rows


def panel(rows: dict[str, dict[str, float]], title: str, key: str) -> Lines:
    """One figure of all systems over N."""
    series: dict[str, list[tuple[float, float]]] = {}
    for row, values in rows.items():
        name, _, receivers = row.partition(" x ")
        series.setdefault(name, []).append((float(receivers), values[key]))
    return Lines(title=title, x="receivers", series=series)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--receivers", type=int, nargs="+", default=[1, 4, 8, 16])
    parser.add_argument("--size-mib", type=int, help="512, or 1024 with --pair")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dir", default=tempfile.gettempdir())
    parser.add_argument("--only", nargs="+", default=list(SYSTEMS), choices=list(SYSTEMS), metavar="SYSTEM")
    parser.add_argument("--cold", action="store_true", help="the source's file is not in the page cache")
    parser.add_argument("--pair", action="store_true", help="one sender, one receiver")
    chosen = parser.parse_args()
    chosen.size_mib = chosen.size_mib or (1024 if chosen.pair else 512)
    if chosen.pair:
        pair.run(chosen)
        return
    rows = run(chosen)
    cache = "cold" if chosen.cold else "warm"
    title = f"{chosen.size_mib} MiB to N receivers on one machine, {cache} source, medians of {chosen.rounds}"
    panels = [
        panel(rows, "wall time of the last, s", "wall_s"),
        panel(rows, "CPU seconds per delivered GiB, all processes", "cpu_s_per_gib"),
        panel(rows, "peak RSS of a receiver, MB", "rss_mb"),
        panel(rows, "left the source or seeder, copies", "source_x"),
    ]
    report("loopback-cold" if chosen.cold else "loopback", title, rows, panels, chosen, systems.versions(chosen.only))


if __name__ == "__main__":
    main()
