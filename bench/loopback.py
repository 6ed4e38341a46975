"""One task from nginx to N receivers on one machine, unshaped, verified: dfmq beside curl, in turn in one run.

    python -m bench.loopback [--receivers 8] [--size-mib 512] [--rounds 3] [--dir /tmp] [--json FILE]

Files are warm: before each round as much page cache as it will fill is written and given back, and the first round of
each system is not counted. CPU seconds are those of every process of the system,
nginx, broker and start-up included; start-up is also shown apart (broker, peers: until ready).
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from bench.fleet import (
    MIB,
    PYTHON,
    Round,
    cpu_seconds,
    fleet,
    make_file,
    median_of,
    peak_rss,
    report,
    run_together,
    sha256_of,
    warmed,
)


def dfmq_round(folder: str, content: Path, digest: str, receivers: int) -> Round:
    """A fresh broker and fresh peers; one dfmq-get through each, started together."""
    size = content.stat().st_size
    with fleet(folder) as made:
        with warmed(made.home, size * (receivers + 1)):
            nginx = made.nginx(content.parent, "127.0.0.1:18080")
            broker = made.broker(listen="tcp://127.0.0.1:17400", publish="tcp://127.0.0.1:17401")
            peers = [made.peer(n, "tcp://127.0.0.1:17400") for n in range(receivers)]
        nodes = [broker, *peers]
        startup = sum(node.cpu_ready for node in nodes)
        outputs = [made.home / f"out{n}" for n in range(receivers)]
        commands = [
            [PYTHON, "-m", "dfmq.cli.get", f"http://127.0.0.1:18080/{content.name}", "-o", str(outputs[n]), "--quiet",
             "--home", str(made.home / f"peer{n}"), "--broker", "tcp://127.0.0.1:17400"]
            for n in range(receivers)
        ]  # fmt: skip
        wall, each, cpu = run_together(commands)
        cpu += sum(cpu_seconds(node.pid) for node in nodes) + cpu_seconds(nginx.pid) - nginx.cpu_ready
        rss = max(peak_rss(peer.pid) for peer in peers)
        for output in outputs:
            if sha256_of(output) != digest:
                raise RuntimeError(f"{output} is not the content")
        return Round(wall, each, cpu, startup, size * receivers, made.source_bytes()[1], rss)


def curl_round(folder: str, content: Path, digest: str, receivers: int) -> Round:
    """N plain curls from the same nginx."""
    size = content.stat().st_size
    with fleet(folder) as made:
        with warmed(made.home, size * (receivers + 1)):
            nginx = made.nginx(content.parent, "127.0.0.1:18080")
        outputs = [made.home / f"out{n}" for n in range(receivers)]
        url = f"http://127.0.0.1:18080/{content.name}"
        wall, each, cpu = run_together([["curl", "-sS", "-o", str(output), url] for output in outputs])
        cpu += cpu_seconds(nginx.pid) - nginx.cpu_ready
        for output in outputs:
            if sha256_of(output) != digest:
                raise RuntimeError(f"{output} is not the content")
        return Round(wall, each, cpu, 0.0, size * receivers, made.source_bytes()[1], 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--receivers", type=int, default=8)
    parser.add_argument("--size-mib", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dir", default=tempfile.gettempdir())
    parser.add_argument("--only", choices=["dfmq", "curl"])
    parser.add_argument("--json")
    chosen = parser.parse_args()
    with fleet(chosen.dir) as stage:
        content = stage.home / "www" / "content.bin"
        content.parent.mkdir()
        digest = make_file(content, chosen.size_mib * MIB)
        systems = {"dfmq": dfmq_round, "curl": curl_round}
        if chosen.only:
            systems = {chosen.only: systems[chosen.only]}
        rounds: dict[str, list[Round]] = {name: [] for name in systems}
        for turn in range(chosen.rounds + 1):
            for name, run in systems.items():
                one = run(chosen.dir, content, digest, chosen.receivers)
                print(f"{name} round {turn}{' (warm-up)' if turn == 0 else ''}: {one.figures()}", flush=True)
                if turn:
                    rounds[name].append(one)
    print(
        f"{chosen.receivers} receivers x {chosen.size_mib} MiB, warm files in {chosen.dir}, medians of {chosen.rounds}"
    )
    report("loopback", {name: median_of(done) for name, done in rounds.items()}, chosen.json)


if __name__ == "__main__":
    main()
