"""A real broker process under real sockets: how many wants it answers, how soon, and what a peer costs it.

    python -m bench.broker [--peers 100 1000 7000] [--seconds 10] [--outstanding 64] [--tasks 1] [--json FILE]

One process holds all the peers (bench/load.py): they say Hello, open every task, beat, want three pieces at a time and
have them without moving any data; the broker's embedded seed holds the content. At most --outstanding wants wait for
their answer at a time: with more, the broker answers no more of them, only later. The load takes a core of its own;
cores_idle shows whether there was one. wants, grants, haves, beats, revokes: per second. broker_cpu, load_cpu: shares
of one core; where the load's nears 1, the load is what was measured. kib_per_peer: what a registered peer costs;
kib_per_peer_task: what its part in a task costs, at the end of the run, leases and all; both of RssAnon.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import time
from pathlib import Path
from typing import Any

from bench.content import MIB
from bench.figure import Lines
from bench.fleet import PYTHON, Fleet, fleet
from bench.meter import ROOT, cpu_seconds, idle_seconds
from bench.outcome import arguments, report
from dfmq.model.pieces import cut

#: 96 pieces of 16 chunks: what a task of any size has.
LENGTH = 96 * MIB


def rss(pid: int) -> int:
    """Resident bytes that are the process's own, now."""
    found = re.search(r"^RssAnon:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.M)
    assert found is not None
    return int(found.group(1)) * 1024


class Generator:
    """The load's process: told when to go on, one JSON line each time."""

    def __init__(self, *words: str, log: Path) -> None:
        with log.open("w") as written:
            self.popen = subprocess.Popen(
                [PYTHON, "-m", "bench.load", *words],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=written, text=True, cwd=ROOT,
            )  # fmt: skip
        self._log = log

    def told(self) -> dict[str, Any]:
        """The next line."""
        assert self.popen.stdout is not None
        line = self.popen.stdout.readline()
        if not line:
            raise RuntimeError(f"the load ended:\n{self._log.read_text()[-2000:]}")
        found: dict[str, Any] = json.loads(line)
        return found

    def go_on(self) -> None:
        assert self.popen.stdin is not None
        self.popen.stdin.write("\n")
        self.popen.stdin.flush()

    def end(self) -> None:
        self.popen.kill()
        self.popen.wait()
        for pipe in (self.popen.stdin, self.popen.stdout):
            if pipe is not None:
                pipe.close()


def measure(made: Fleet, peers: int, chosen: argparse.Namespace) -> dict[str, float]:
    """One broker, so many peers."""
    www = made.home / "www"
    www.mkdir()
    file = www / "content.bin"
    with file.open("wb") as written:
        written.truncate(LENGTH)
    broker = made.broker("--files", str(www))
    words = [broker.said["control"], peers, chosen.tasks, chosen.outstanding, chosen.in_flight, chosen.seconds]
    load = Generator(*map(str, words), file.as_uri(), str(LENGTH), log=made.home / "load.log")
    try:
        load.told()
        alone = rss(broker.pid)
        began = time.monotonic()
        load.go_on()
        load.told()
        registering = time.monotonic() - began
        registered = rss(broker.pid)
        load.go_on()
        load.told()
        cpu, idle, began = cpu_seconds(broker.pid), idle_seconds(), time.monotonic()
        load.go_on()
        found = load.told()
        took = time.monotonic() - began
        parts = peers * chosen.tasks
        return {
            "wants": found["wants"],
            "grants": found["grants"],
            "haves": found["haves"],
            "beats": found["beats"],
            "revokes": found["revokes"],
            "p50_ms": found["p50_ms"],
            "p99_ms": found["p99_ms"],
            "broker_cpu": (cpu_seconds(broker.pid) - cpu) / took,
            "load_cpu": found["load_cpu"],
            "cores_idle": (idle_seconds() - idle) / took / (os.cpu_count() or 1),
            "kib_per_peer": (registered - alone) / max(1, peers - 1) / 1024,
            "kib_per_peer_task": (rss(broker.pid) - registered) / parts / 1024,
            "rss_mb": rss(broker.pid) / 1e6,
            "registering_s": registering,
        }
    finally:
        load.end()


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--peers", type=int, nargs="+", default=[100, 1000, 7000])
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--outstanding", type=int, default=64, help="wants that wait for their answer at a time")
    parser.add_argument("--in-flight", type=int, default=3, help="pieces a want asks for")
    parser.add_argument("--tasks", type=int, default=1, help="that every peer takes part in")
    parser.add_argument("--dir", default="/dev/shm")
    chosen = parser.parse_args()
    rows: dict[str, dict[str, float]] = {}
    for peers in chosen.peers:
        with fleet(chosen.dir) as made:
            rows[f"{peers} peers"] = row = measure(made, peers, chosen)
        print(f"{peers} peers: { {key: round(value, 2) for key, value in row.items()} }", flush=True)

    def drawn(title: str, target: float, name: str, *keys: str) -> Lines:
        series = {key: [(float(row.split()[0]), values[key]) for row, values in rows.items()] for key in keys}
        return Lines(title=title, x="registered peers", series=series, log_x=True, target=target, target_name=name)

    panels = [
        drawn("per second", 60_000, "60,000 grants/s", "wants", "grants", "haves"),
        drawn("reply time, ms", 50, "50 ms", "p50_ms", "p99_ms"),
        drawn("KiB of the broker's memory", 20, "20 KiB", "kib_per_peer", "kib_per_peer_task"),
    ]
    title = f"One broker process: {chosen.tasks} task of {cut(LENGTH).count} pieces, {chosen.outstanding} wants waiting"
    report("broker", title, rows, panels, chosen)


if __name__ == "__main__":
    main()
