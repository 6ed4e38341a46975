"""What small things cost: start-up, and small gets. Real processes, loopback, nginx as source.

    python -m bench.small [--rounds 5] [--gets 50] [--peers 50] [--files 10000] [--json FILE]

version, ready: CPU seconds of `dfmq-get --version`, and of a peer until it can serve. Gets of 1 KiB and 64 KiB tasks,
each of a file of its own: cold (nobody has it: the source is read), warm (the peer has it), as the client's socket
sees them, from Get to Done, one after the other through one peer; and one task through 50 peers at the same moment. The
whole dfmq-get process, warm. Files by --input: distinct 1 KiB files through one peer, cold then warm, whole process.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

from bench.figure import Bars
from bench.fleet import Fleet, fleet
from bench.meter import Crowd, Receiver, Watch, cpu_seconds
from bench.outcome import arguments, report, share
from bench.pair import ask
from bench.systems import get_startup, present
from dfmq.model.task import Request
from dfmq.nodes.get import HostPeer
from dfmq.wire.messages import Done, Sorry

KIB = 1 << 10
SIZES = (1 * KIB, 64 * KIB)


def spread(values: list[float], unit: float = 1.0) -> dict[str, float]:
    """p50, p99 and the extremes."""
    return {
        "p50": share(values, 0.5) / unit,
        "p99": share(values, 0.99) / unit,
        "min": min(values) / unit,
        "max": max(values) / unit,
        "count": float(len(values)),
    }


def together(made: Fleet, url: str, peers: int) -> list[float]:
    """One Get to each of the peers at the same moment; seconds to each Done, heard in turn as they come."""
    clients = [HostPeer(made.home / f"peer{number}") for number in range(peers)]
    try:
        for client in clients:
            if not client.connect(5.0):
                raise RuntimeError(f"no peer runs at {client.home}")
        began = time.monotonic()
        gets = [client.get(Request(url=url)) for client in clients]
        took: dict[int, float] = {}
        while len(took) < peers:
            for number, client in enumerate(clients):
                if number in took:
                    continue
                for heard in client.hear(0.0):
                    if isinstance(heard, Sorry):
                        raise RuntimeError(heard.text)
                    if isinstance(heard, Done):
                        took[number] = time.monotonic() - began
                        client.release(gets[number])
            time.sleep(0.0005)
        return list(took.values())
    finally:
        for client in clients:
            client.close()


def one_command(made: Fleet, command: list[str]) -> tuple[float, float]:
    """(wall seconds of one command, CPU seconds of it and of every process here meanwhile)."""
    crowd = Crowd([Receiver(command)], made.home / "command.log")
    before = sum(cpu_seconds(process.pid) for process in made.processes)
    with Watch() as watch:
        crowd.run(watch)
    return crowd.wall, crowd.cpu() + sum(cpu_seconds(process.pid) for process in made.processes) - before


def batch(made: Fleet, control: str, www: Path, base: str, count: int, name: str) -> tuple[float, float]:
    """(wall, CPU seconds) of one dfmq-get --input of `count` files; every one is compared."""
    out = made.home / name
    out.mkdir()
    wanted = made.home / f"{name}.list"
    wanted.write_text("".join(f"{base}/b{n}.bin {out}/{n}\n" for n in range(count)))
    took = one_command(made, made.get(0, control, "--input", str(wanted)))
    for n in range(count):
        if (out / str(n)).read_bytes() != (www / f"b{n}.bin").read_bytes():
            raise RuntimeError(f"{out}/{n} is not the content")
    return took


def run(chosen: argparse.Namespace) -> dict[str, dict[str, float]]:
    """All of it, in one fleet."""
    rows: dict[str, dict[str, float]] = {}
    with fleet(chosen.dir) as made:
        www = made.home / "www"
        www.mkdir()
        for size in SIZES:
            for number in range(chosen.gets + chosen.rounds):
                (www / f"f{size}-{number}.bin").write_bytes(os.urandom(size))
        for number in range(chosen.files):
            (www / f"b{number}.bin").write_bytes(os.urandom(KIB))
        place = made.place("source")
        base = f"http://{place}"
        made.nginx(www, place)
        rows["dfmq-get --version, CPU ms"] = spread([get_startup()], 0.001)
        control = made.broker().said["control"]
        peers = [made.peer(number, control) for number in range(chosen.peers)]
        rows["a peer until it is ready, CPU ms"] = spread([peer.cpu_ready for peer in peers], 0.001)
        home = made.home / "peer0"
        for size in SIZES:
            urls = [f"{base}/f{size}-{number}.bin" for number in range(chosen.gets)]
            label = f"{size // KIB} KiB"
            rows[f"{label}, one peer, cold, ms"] = spread([ask(home, url) for url in urls], 0.001)
            rows[f"{label}, one peer, warm, ms"] = spread([ask(home, url) for url in urls], 0.001)
            fresh = [f"{base}/f{size}-{chosen.gets + number}.bin" for number in range(chosen.rounds)]
            cold = [took for url in fresh for took in together(made, url, chosen.peers)]
            warm = [took for url in fresh for took in together(made, url, chosen.peers)]
            rows[f"{label}, {chosen.peers} peers at once, cold, ms"] = spread(cold, 0.001)
            rows[f"{label}, {chosen.peers} peers at once, warm, ms"] = spread(warm, 0.001)
        command = made.get(0, control, f"{base}/f{KIB}-0.bin", "-o", str(made.home / "out"))
        whole = [one_command(made, command)[0] for _ in range(chosen.rounds * 2)]
        rows["1 KiB warm, the whole dfmq-get process, ms"] = spread(whole, 0.001)
        for temperature in ("cold", "warm"):
            took, cpu = batch(made, control, www, base, chosen.files, f"files-{temperature}")
            rows[f"{chosen.files} × 1 KiB by --input, {temperature}, s"] = spread([took])
            rows[f"the same, CPU s of all processes, {temperature}"] = spread([cpu])
    return rows


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="tasks that all peers get at once; whole processes × 2")
    parser.add_argument("--gets", type=int, default=50, help="gets of each kind through one peer")
    parser.add_argument("--peers", type=int, default=50)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--dir", default="/dev/shm")
    chosen = parser.parse_args()
    present(["dfmq"])
    rows = run(chosen)
    latencies = {name: row["p50"] for name, row in rows.items() if "peer" in name and "ready" not in name}
    tails = {name: row["p99"] for name, row in rows.items() if name in latencies}
    panels = [Bars(title="p50", bars=latencies), Bars(title="p99", bars=tails)]
    report("small", "Small things: start-up and small gets", rows, panels, chosen)


if __name__ == "__main__":
    main()
