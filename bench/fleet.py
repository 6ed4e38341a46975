"""Real processes for benchmarks: nginx, a broker, peers, gets; and what they cost. Measures, judges nothing."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PYTHON = sys.executable
ROOT = Path(__file__).resolve().parent.parent
TICKS = os.sysconf("SC_CLK_TCK")
MIB = 1 << 20
GIB = 1 << 30


def cpu_seconds(pid: int) -> float:
    """User + system seconds of a live process, all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def peak_rss(pid: int) -> int:
    """Peak resident bytes that are the process's own (RssAnon now, VmHWM includes mapped page cache)."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = {
        key: int(value) * 1024
        for key, value in re.findall(r"^(VmHWM|RssAnon|RssFile|RssShmem):\s+(\d+) kB", status, re.M)
    }
    return found.get("VmHWM", 0)


@dataclass
class Process:
    """A started process, where it runs, and what it had used when it was ready."""

    name: str
    popen: subprocess.Popen[str]
    cpu_ready: float = 0.0

    @property
    def pid(self) -> int:
        return self.popen.pid


@dataclass
class Fleet:
    """A folder, and the processes that live in it."""

    home: Path
    processes: list[Process] = field(default_factory=list)
    #: command prefix by host name, e.g. ["ip", "netns", "exec", "h1"]
    prefix: dict[str, list[str]] = field(default_factory=dict)

    def start(self, name: str, command: Sequence[str], *, host: str = "", wait_for: str = "") -> Process:
        """Start a command; with `wait_for`, until a line of its output has that text."""
        log = self.home / f"{name}.log"
        popen = subprocess.Popen(
            [*self.prefix.get(host, []), *command],
            stdout=subprocess.PIPE if wait_for else log.open("w"),
            stderr=log.open("w"),
            stdin=subprocess.DEVNULL,
            text=True,
            cwd=ROOT,
        )
        process = Process(name, popen)
        self.processes.append(process)
        if wait_for:
            assert popen.stdout is not None
            for line in popen.stdout:
                if wait_for in line:
                    break
            else:
                raise RuntimeError(f"{name} ended before it was ready:\n{log.read_text()[-2000:]}")
            process.cpu_ready = cpu_seconds(popen.pid)
        return process

    def nginx(self, root: Path, address: str, *, host: str = "") -> Process:
        """nginx serving a folder; its workers' seconds are counted through their master's process group."""
        folder = self.home / "nginx"
        folder.mkdir()
        (folder / "nginx.conf").write_text(
            f"""daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;
            events {{ worker_connections 8192; }}
            http {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 100000;
              client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
              uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
              server {{ listen {address}; root {root}; access_log {folder}/access.log combined; }} }}"""
        )
        process = self.start("nginx", ["nginx", "-c", str(folder / "nginx.conf"), "-p", str(folder)], host=host)
        _until_listening(address, self.prefix.get(host, []))
        process.cpu_ready = cpu_seconds(process.pid)
        return process

    def source_bytes(self) -> tuple[int, int]:
        """(requests, bytes) that nginx answered so far with a body."""
        log = self.home / "nginx" / "access.log"
        sent = [int(line.split()[9]) for line in log.read_text().splitlines()]
        return len(sent), sum(sent)

    def broker(self, *flags: str, listen: str, publish: str, host: str = "") -> Process:
        command = [PYTHON, "-m", "dfmq.cli.broker", "--home", str(self.home / "broker"), "--listen", listen]
        return self.start("broker", [*command, "--publish", publish, *flags, "--json"], host=host, wait_for="{")

    def peer(self, number: int, broker: str, *flags: str, host: str = "", listen: str = "tcp://127.0.0.1:0") -> Process:
        command = [PYTHON, "-m", "dfmq.cli.peer", "--home", str(self.home / f"peer{number}"), "--broker", broker]
        return self.start(f"peer{number}", [*command, "--listen", listen, *flags, "--json"], host=host, wait_for="{")

    def stop(self) -> None:
        """Stop what was started, by pid, newest first."""
        for process in reversed(self.processes):
            if process.popen.poll() is None:
                process.popen.send_signal(signal.SIGTERM)
        for process in reversed(self.processes):
            try:
                process.popen.wait(10)
            except subprocess.TimeoutExpired:
                process.popen.kill()
                process.popen.wait()
            if process.popen.stdout is not None:
                process.popen.stdout.close()
        self.processes.clear()


def _until_listening(address: str, prefix: list[str]) -> None:
    host, _, port = address.rpartition(":")
    probe = f"import socket; socket.create_connection(({host!r}, {port}), 1).close()"
    for _ in range(100):
        if subprocess.run([*prefix, PYTHON, "-c", probe], stderr=subprocess.DEVNULL).returncode == 0:
            return
        time.sleep(0.05)
    raise RuntimeError(f"nothing listens at {address}")


@contextlib.contextmanager
def fleet(folder: str) -> Iterator[Fleet]:
    """A fresh folder below `folder`; everything in it is stopped and deleted at the end."""
    home = Path(tempfile.mkdtemp(prefix="dfmq-bench-", dir=folder))
    made = Fleet(home)
    try:
        yield made
    finally:
        made.stop()
        shutil.rmtree(home, ignore_errors=True)


@dataclass
class Round:
    """What one round of one system gave."""

    wall: float
    each: list[float]
    cpu: float
    cpu_startup: float
    delivered: int
    source_bytes: int
    rss: int

    def figures(self) -> dict[str, float]:
        gib = self.delivered / GIB
        return {
            "wall_s": round(self.wall, 3),
            "mean_s": round(sum(self.each) / len(self.each), 3),
            "max_s": round(max(self.each), 3),
            "MB_per_s": round(self.delivered / self.wall / 1e6, 1),
            "cpu_s_per_gib": round(self.cpu / gib, 3),
            "cpu_s_startup": round(self.cpu_startup, 3),
            "source_x": round(self.source_bytes / (self.delivered / len(self.each)), 3),
            "rss_mb": round(self.rss / 1e6, 1),
        }


def run_together(commands: Sequence[list[str]]) -> tuple[float, list[float], float]:
    """Start commands at once, wait for all: (wall, seconds of each, CPU seconds of all). Raises if one fails."""
    began = time.monotonic()
    running = {}
    for command in commands:
        popen = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, cwd=ROOT)
        running[popen.pid] = (popen, command)
    each, cpu = [], 0.0
    while running:
        pid, status, usage = os.wait4(-1, 0)
        if pid not in running:
            continue
        popen, command = running.pop(pid)
        popen.returncode = os.waitstatus_to_exitcode(status)
        if popen.returncode != 0:
            raise RuntimeError(f"exit {popen.returncode}: {' '.join(command)}")
        each.append(time.monotonic() - began)
        cpu += usage.ru_utime + usage.ru_stime
    return time.monotonic() - began, each, cpu


def median_of(rounds: Sequence[Round]) -> dict[str, float]:
    """Figure by figure, the median over the rounds."""
    figures = [one.figures() for one in rounds]
    return {key: sorted(figure[key] for figure in figures)[len(figures) // 2] for key in figures[0]}


@contextlib.contextmanager
def warmed(folder: Path, size: int) -> Iterator[None]:
    """Files of `size` bytes in all stand in the page cache inside, and are gone after: memory that the machine has in
    hand. A virtual machine's memory that nobody touched lately costs up to ten times as much to write to."""
    paths = [folder / f"warm{n}" for n in range(-(-size // (512 * MIB)))]
    block = bytes(MIB)
    for path in paths:
        with path.open("wb") as file:
            for _ in range(512):
                file.write(block)
    try:
        yield
    finally:
        for path in paths:
            path.unlink()


def make_file(path: Path, size: int) -> str:
    """A file of `size` bytes no compressor likes; its sha256."""
    import hashlib

    digest = hashlib.sha256()
    block = os.urandom(4 * MIB)
    with path.open("wb") as file:
        left, turn = size, 0
        while left:
            piece = (turn.to_bytes(8, "big") + block[8:])[: min(left, len(block))]
            file.write(piece)
            digest.update(piece)
            left -= len(piece)
            turn += 1
    return digest.hexdigest()


def sha256_of(path: Path) -> str:
    """A file's sha256."""
    import hashlib

    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def setup_line() -> dict[str, Any]:
    """Machine, versions, date: what every printed figure carries."""
    model = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())
    import zmq

    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "cores": os.cpu_count(),
        "cpu": model.group(1) if model else platform.machine(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "libzmq": zmq.zmq_version(),
        "command": " ".join(["python -m", f"bench.{Path(sys.argv[0]).stem}", *sys.argv[1:]]),
    }


def table(rows: dict[str, dict[str, float]]) -> str:
    """Rows by name as a Markdown table."""
    columns = list(next(iter(rows.values())))
    lines = ["| system | " + " | ".join(columns) + " |", "|" + " --- |" * (len(columns) + 1)]
    lines += ["| " + name + " | " + " | ".join(f"{row[c]:g}" for c in columns) + " |" for name, row in rows.items()]
    return "\n".join(lines)


def report(name: str, rows: dict[str, dict[str, float]], out: str | None) -> None:
    """Print set-up and table; with `out`, write them as JSON too."""
    setup = setup_line()
    print(json.dumps(setup))
    print(table(rows))
    if out:
        Path(out).write_text(json.dumps({"bench": name, "setup": setup, "rows": rows}, indent=1) + "\n")
