"""What small things cost: start-up, and small gets. Real processes, loopback, nginx as source.

    python -m bench.small [--rounds 5] [--json FILE]

version: `dfmq-get --version`, CPU seconds · ready: a peer until it can serve, CPU seconds · warm: one 1 KiB get through
a running peer that has it, as the client's socket sees it, and as a whole process · batch: 100 distinct 1 KiB files
with --input through one running peer, cold, whole process wall.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import time
from pathlib import Path

from bench.fleet import PYTHON, ROOT, Fleet, fleet, report
from dfmq.model.task import Request
from dfmq.nodes.get import HostPeer
from dfmq.wire.messages import Done, Sorry


def child_cost(command: list[str]) -> tuple[float, float]:
    """(wall, CPU seconds) of one command."""
    began = time.monotonic()
    popen = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, cwd=ROOT)
    _, status, usage = os.wait4(popen.pid, 0)
    popen.returncode = os.waitstatus_to_exitcode(status)
    if popen.returncode:
        raise RuntimeError(f"exit {popen.returncode}: {command}")
    return time.monotonic() - began, usage.ru_utime + usage.ru_stime


def spread(values: list[float], unit: float = 1.0) -> dict[str, float]:
    """Minimum, median, maximum."""
    ordered = sorted(value / unit for value in values)
    return {
        "min": round(ordered[0], 4),
        "median": round(ordered[len(ordered) // 2], 4),
        "max": round(ordered[-1], 4),
    }


def get_command(made: Fleet, *words: str) -> list[str]:
    home = str(made.home / "peer0")
    return [PYTHON, "-m", "dfmq.cli.get", "--quiet", "--home", home, "--broker", "tcp://127.0.0.1:17400", *words]


def ask_through_socket(home: Path, url: str) -> float:
    """Seconds from Get to Done over the local socket of a running peer."""
    peer = HostPeer(home)
    try:
        if not peer.connect(5.0):
            raise RuntimeError(f"no peer runs at {home}")
        began = time.monotonic()
        number = peer.get(Request(url=url))
        while True:
            for heard in peer.hear(5.0):
                if isinstance(heard, Done):
                    took = time.monotonic() - began
                    peer.release(number)
                    return took
                if isinstance(heard, Sorry):
                    raise RuntimeError(heard.text)
    finally:
        peer.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dir", default="/dev/shm")
    parser.add_argument("--json")
    chosen = parser.parse_args()
    rows: dict[str, dict[str, float]] = {}
    with fleet(chosen.dir) as made:
        www = made.home / "www"
        www.mkdir()
        for number in range(100 * (chosen.rounds + 1)):
            (www / f"{number}.bin").write_bytes(os.urandom(1024))
        made.nginx(www, "127.0.0.1:18080")
        versions = [child_cost([PYTHON, "-m", "dfmq.cli.get", "--version"])[1] for _ in range(chosen.rounds + 1)]
        rows["dfmq-get --version, CPU s"] = spread(versions[1:])
        made.broker(listen="tcp://127.0.0.1:17400", publish="tcp://127.0.0.1:17401")
        peers = [made.peer(n, "tcp://127.0.0.1:17400") for n in range(chosen.rounds + 1)]
        rows["a peer until it is ready, CPU s"] = spread([peer.cpu_ready for peer in peers[1:]])
        url = "http://127.0.0.1:18080/0.bin"
        child_cost(get_command(made, url, "-o", str(made.home / "out")))
        asked = [ask_through_socket(made.home / "peer0", url) for _ in range(chosen.rounds * 4)]
        rows["warm 1 KiB get through a running peer, ms"] = spread(asked, 0.001)
        whole = [child_cost(get_command(made, url, "-o", str(made.home / "out"))) for _ in range(chosen.rounds)]
        rows["the same, the whole dfmq-get process, ms"] = spread([wall for wall, _ in whole], 0.001)
        batches = []
        for turn in range(1, chosen.rounds + 1):
            wanted = made.home / f"list{turn}"
            out = made.home / f"files{turn}"
            out.mkdir()
            numbers = range(100 * turn, 100 * turn + 100)
            wanted.write_text("".join(f"http://127.0.0.1:18080/{n}.bin {out}/{n}\n" for n in numbers))
            batches.append(child_cost(get_command(made, "--input", str(wanted)))[0])
            for n in numbers:
                if (out / str(n)).read_bytes() != (www / f"{n}.bin").read_bytes():
                    raise RuntimeError(f"{out}/{n} is not the content")
        rows["100 distinct 1 KiB files by --input, s"] = spread(batches)
    report("small", rows, chosen.json)


if __name__ == "__main__":
    main()
