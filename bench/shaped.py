"""Shaped namespaces: 20 MB to N receivers of 20 Mbit/s, source and broker 200 Mbit/s; multiples of one lone wget.

    python -m bench.shaped [--receivers 10 40] [--rounds 3] [--spread 0] [--only dfmq wget] [--json FILE]

A lone wget on the same kind of link is measured first in the same run. Every output is verified. Needs root.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import time
from pathlib import Path

from bench.fleet import PYTHON, Fleet, Round, cpu_seconds, fleet, make_file, peak_rss, report, sha256_of
from bench.network import Network, network

SIZE = 20_000_000


def timed(commands: list[list[str]], spread: float) -> tuple[float, list[float]]:
    """Start commands, the last one `spread` seconds after the first; wall, and the seconds of each since its start."""
    began = time.monotonic()
    starts: dict[int, float] = {}
    waiting: dict[int, subprocess.Popen[bytes]] = {}
    each = []
    for number, command in enumerate(commands):
        at = began + (spread * number / max(1, len(commands) - 1))
        time.sleep(max(0.0, at - time.monotonic()))
        popen = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        starts[popen.pid] = time.monotonic()
        waiting[popen.pid] = popen
    while waiting:
        pid, status = os.waitpid(-1, 0)
        if pid not in waiting:
            continue
        popen = waiting.pop(pid)
        popen.returncode = os.waitstatus_to_exitcode(status)
        if popen.returncode:
            raise RuntimeError(f"exit {popen.returncode}: {popen.args!r}")
        each.append(time.monotonic() - starts[pid])
    return time.monotonic() - began, each


def build(made: Fleet, net: Network, receivers: int) -> dict[str, str]:
    """Hosts: source, broker, h0 … ; their addresses."""
    addresses = {"source": net.add("source", "200mbit"), "broker": net.add("broker", "200mbit")}
    for number in range(receivers):
        addresses[f"h{number}"] = net.add(f"h{number}", "20mbit")
    made.prefix = {name: net.inside(name) for name in addresses}
    return addresses


def verify(outputs: list[Path], digest: str) -> None:
    for output in outputs:
        if sha256_of(output) != digest:
            raise RuntimeError(f"{output} is not the content")


def wget_round(folder: str, content: Path, digest: str, receivers: int, spread: float) -> Round:
    """N plain wgets."""
    with network() as net, fleet(folder) as made:
        addresses = build(made, net, receivers)
        made.nginx(content.parent, f"{addresses['source']}:80", host="source")
        outputs = [made.home / f"out{n}" for n in range(receivers)]
        url = f"http://{addresses['source']}/{content.name}"
        before = net.bytes_sent("source")
        wall, each = timed(
            [[*net.inside(f"h{n}"), "wget", "-q", "-O", str(outputs[n]), url] for n in range(receivers)], spread
        )
        sent = net.bytes_sent("source") - before
        verify(outputs, digest)
        return Round(wall, each, 0.0, 0.0, SIZE * receivers, sent, 0)


def dfmq_round(folder: str, content: Path, digest: str, receivers: int, spread: float) -> Round:
    """A broker, N peers already running, one dfmq-get through each."""
    with network() as net, fleet(folder) as made:
        addresses = build(made, net, receivers)
        made.nginx(content.parent, f"{addresses['source']}:80", host="source")
        at = addresses["broker"]
        control = f"tcp://{at}:7400"
        nodes = [made.broker("--advertise", at, listen=control, publish=f"tcp://{at}:7401", host="broker")]
        for n in range(receivers):
            nodes.append(made.peer(n, control, host=f"h{n}", listen=f"tcp://{addresses[f'h{n}']}:0"))
        startup = sum(node.cpu_ready for node in nodes)
        outputs = [made.home / f"out{n}" for n in range(receivers)]
        url = f"http://{addresses['source']}/{content.name}"
        before = {name: net.bytes_sent(name) for name in ("source", "broker")}
        commands = [
            [*net.inside(f"h{n}"), PYTHON, "-m", "dfmq.cli.get", url, "-o", str(outputs[n]), "--quiet",
             "--home", str(made.home / f"peer{n}"), "--broker", control]
            for n in range(receivers)
        ]  # fmt: skip
        wall, each = timed(commands, spread)
        sent = {name: net.bytes_sent(name) - before[name] for name in before}
        print(
            f"  left the source {sent['source'] / SIZE:.2f} x, left the broker {sent['broker'] / SIZE:.2f} x",
            flush=True,
        )
        cpu = sum(cpu_seconds(node.pid) for node in nodes)
        rss = max(peak_rss(node.pid) for node in nodes[1:])
        verify(outputs, digest)
        return Round(wall, each, cpu, startup, SIZE * receivers, sent["source"], rss)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--receivers", type=int, nargs="+", default=[10, 40])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--spread", type=float, default=0.0, help="seconds between the first and the last start")
    parser.add_argument("--only", nargs="+", default=["dfmq"], choices=["dfmq", "wget"])
    parser.add_argument("--dir", default="/dev/shm")
    parser.add_argument("--json")
    chosen = parser.parse_args()
    systems = {"dfmq": dfmq_round, "wget": wget_round}
    rows: dict[str, dict[str, float]] = {}
    with fleet(chosen.dir) as stage:
        content = stage.home / "www" / "content.bin"
        content.parent.mkdir()
        digest = make_file(content, SIZE)
        lone = sorted(wget_round(chosen.dir, content, digest, 1, 0).each[0] for _ in range(chosen.rounds))
        unit = lone[len(lone) // 2]
        print(f"one lone wget: {unit:.3f} s (of {[round(one, 3) for one in lone]})", flush=True)
        for receivers in chosen.receivers:
            for name in chosen.only:
                done = []
                for turn in range(chosen.rounds):
                    one = systems[name](chosen.dir, content, digest, receivers, chosen.spread)
                    ordered = sorted(one.each)
                    row = {
                        "mean_x": sum(ordered) / len(ordered) / unit,
                        "p95_x": ordered[int(0.95 * (len(ordered) - 1))] / unit,
                        "max_x": ordered[-1] / unit,
                        "source_x": one.source_bytes / SIZE,
                        "cpu_s": one.cpu,
                        "rss_mb": one.rss / 1e6,
                    }
                    print(
                        f"{name} x {receivers}, round {turn}: { {k: round(v, 3) for k, v in row.items()} }", flush=True
                    )
                    done.append(row)
                rows[f"{name} x {receivers}"] = {
                    key: round(sorted(row[key] for row in done)[len(done) // 2], 3) for key in done[0]
                }
    print(f"multiples of one lone wget, medians of {chosen.rounds}")
    report("shaped", rows, chosen.json)


if __name__ == "__main__":
    main()
