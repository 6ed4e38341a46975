"""One sender, one receiver, one machine: how fast a content goes from one store to another, beside curl and bare TCP.
Run by bench/loopback --pair.

    get: seconds from Get to Done as the host's peer answers it, source and every other peer out of the game
    dfmq-get: the whole command · curl: from nginx to a file · tcp: sent by one process to another, nothing
    written, nothing proven: what the machine's loopback gives
"""

from __future__ import annotations

import argparse
import os
import socket
import time
from pathlib import Path

from bench import content
from bench.content import MIB, make_file
from bench.figure import Bars
from bench.fleet import PYTHON, Fleet, fleet
from bench.meter import Crowd, Receiver, Watch, cpu_seconds
from bench.outcome import first_line, medians, report
from dfmq.model.task import Request
from dfmq.nodes.get import HostPeer
from dfmq.wire.messages import Done, Sorry

SENDER = """
import socket, sys
at, size = sys.argv[1].split(":"), int(sys.argv[2])
block = bytes(1 << 20)
with socket.create_connection((at[0], int(at[1]))) as link:
    for _ in range(size >> 20):
        link.sendall(block)
"""


def ask(home: Path, url: str) -> float:
    """Seconds from Get to Done over the local socket of a running peer; the content is released."""
    peer = HostPeer(home)
    try:
        if not peer.connect(5.0):
            raise RuntimeError(f"no peer runs at {home}")
        began = time.monotonic()
        number = peer.get(Request(url=url))
        while True:
            for heard in peer.hear(60.0):
                if isinstance(heard, Done):
                    took = time.monotonic() - began
                    peer.release(number)
                    return took
                if isinstance(heard, Sorry):
                    raise RuntimeError(heard.text)
    finally:
        peer.close()


def _command(made: Fleet, command: list[str]) -> tuple[float, float]:
    """(wall, CPU seconds) of one command."""
    crowd = Crowd([Receiver(command)], made.home / "command.log")
    with Watch() as watch:
        crowd.run(watch)
    return crowd.wall, crowd.cpu()


def dfmq(made: Fleet, file: Path, digest: str, *, whole: bool) -> tuple[float, float]:
    """The seed has it all, read on behalf of a peer that has gone; then one peer gets it. (seconds, CPU seconds)"""
    size = file.stat().st_size
    with content.warmed(made.home, 3 * size):
        place = made.place("source")
        nginx = made.nginx(file.parent, place)
        broker = made.broker()
        control = broker.said["control"]
        first = made.peer(1, control)
        receiver = made.peer(2, control)
    url = f"http://{place}/{file.name}"
    ask(made.home / "peer1", url)
    first.popen.terminate()
    first.popen.wait()
    nodes = [nginx, broker, receiver]
    before = sum(cpu_seconds(node.pid) for node in nodes)
    requests = made.source_bytes()
    out = made.home / "out"
    if whole:
        seconds, cpu = _command(made, made.get(2, control, url, "-o", str(out)))
        content.verify([out], digest)
    else:
        seconds, cpu = ask(made.home / "peer2", url), 0.0
    cpu += sum(cpu_seconds(node.pid) for node in nodes) - before
    if made.source_bytes()[1] != requests[1]:
        raise RuntimeError("the source was read again: this was no pair")
    if not whole:
        content.verify([next((made.home / "peer2" / "tasks").glob("*/data"))], digest)
    return seconds, cpu


def curl(made: Fleet, file: Path, digest: str) -> tuple[float, float]:
    """(seconds, CPU seconds) of a curl from nginx."""
    with content.warmed(made.home, file.stat().st_size):
        place = made.place("source")
        nginx = made.nginx(file.parent, place)
    out = made.home / "out"
    seconds, cpu = _command(made, ["curl", "-sS", "-o", str(out), f"http://{place}/{file.name}"])
    content.verify([out], digest)
    return seconds, cpu + cpu_seconds(nginx.pid)


def tcp(size: int) -> tuple[float, float]:
    """(seconds, CPU seconds) of one connection's worth of zeros."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        at = f"127.0.0.1:{server.getsockname()[1]}"
        cpu = time.process_time()
        with fleet(Path("/tmp")) as made:
            sender = made.start("sender", [PYTHON, "-c", SENDER, at, str(size)])
            link, _ = server.accept()
            began = time.monotonic()
            block = bytearray(MIB)
            with link:
                while link.recv_into(block):
                    pass
            seconds = time.monotonic() - began
            cpu = time.process_time() - cpu
            _, status, usage = os.wait4(sender.pid, 0)
            sender.popen.returncode = os.waitstatus_to_exitcode(status)
        return seconds, cpu + usage.ru_utime + usage.ru_stime


def run(chosen: argparse.Namespace) -> None:
    """All of it in turn, round by round; the first is not counted."""
    size = chosen.size_mib * MIB
    cases = ("dfmq, Get to Done", "dfmq-get", "curl", "bare TCP")
    done: dict[str, list[dict[str, float]]] = {case: [] for case in cases}
    with fleet(chosen.dir) as source:
        file = source.home / "www" / "content.bin"
        digest = make_file(file, size)
        for turn in range(chosen.rounds + 1):
            for case in cases:
                with fleet(chosen.dir) as made:
                    content.read_through(file)
                    if case == "bare TCP":
                        seconds, cpu = tcp(size)
                    elif case == "curl":
                        seconds, cpu = curl(made, file, digest)
                    else:
                        seconds, cpu = dfmq(made, file, digest, whole=case == "dfmq-get")
                row = {"seconds": seconds, "GB_per_s": size / seconds / 1e9, "cpu_s_per_gib": cpu * (1 << 30) / size}
                print(
                    f"{case}, round {turn or 'not counted'}: { {k: round(v, 3) for k, v in row.items()} }", flush=True
                )
                if turn:
                    done[case].append(row)
    rows = {case: medians(each) for case, each in done.items()}
    panels = [Bars(title="GB/s, one pair", bars={case: row["GB_per_s"] for case, row in rows.items()}, target=1.5)]
    title = f"{chosen.size_mib} MiB from one sender to one receiver, warm files, medians of {chosen.rounds}"
    report("pair", title, rows, panels, chosen, {"curl": first_line("curl", "--version")})
