"""What processes cost: CPU seconds and peak memory, of those that live and those that ended. Starts receivers together
and waits until each has what it came for."""

from __future__ import annotations

import math
import os
import re
import select
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
ROOT = Path(__file__).resolve().parent.parent
#: Peak memory is kept by the kernel as long as the process lives: looks this far apart miss what a process that ends
#: gathered in its last moments. Memory of its own is not kept: its peak is that of the looks.
LOOK_SECONDS = 0.1
USUAL_PROCESSES = 20
#: Receivers that are not done by then never will be.
PATIENCE_SECONDS = 900.0


def cpu_seconds(pid: int) -> float:
    """User + system seconds of a live process, all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def idle_seconds() -> float:
    """What all cores together have idled since the machine started."""
    fields = Path("/proc/stat").read_text().splitlines()[0].split()
    return (int(fields[4]) + int(fields[5])) / TICKS


@dataclass
class Memory:
    """Peak bytes of one process: `whole` with the mapped files' pages, `own` without (RssAnon, by looks)."""

    whole: int = 0
    own: int = 0

    def look(self, pid: int) -> None:
        """See what it is now."""
        try:
            status = Path(f"/proc/{pid}/status").read_text()
        except OSError:
            return
        found = {key: int(kib) * 1024 for key, kib in re.findall(r"^(VmHWM|RssAnon):\s+(\d+) kB", status, re.M)}
        self.whole = max(self.whole, found.get("VmHWM", 0))
        self.own = max(self.own, found.get("RssAnon", 0))


class Watch:
    """Looks at the memory of processes while it is entered: `with Watch() as watch: watch.add(pid)`."""

    def __init__(self) -> None:
        self._seen: dict[int, Memory] = {}
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def add(self, *pids: int) -> None:
        for pid in pids:
            self._seen.setdefault(pid, Memory())

    def of(self, *pids: int) -> Memory:
        """The peaks of processes that belong together, added up."""
        for pid in pids:
            self._seen.setdefault(pid, Memory()).look(pid)
        return Memory(sum(self._seen[pid].whole for pid in pids), sum(self._seen[pid].own for pid in pids))

    def _run(self) -> None:
        # More processes are looked at less often: what measures takes no more of the cores for them.
        while not self._end.wait(LOOK_SECONDS * max(1.0, len(self._seen) / USUAL_PROCESSES)):
            for pid, memory in list(self._seen.items()):
                memory.look(pid)


@dataclass
class Receiver:
    """A command that fetches. It is done when it ends with 0, or, with a `marker`, when it has made that file: then it
    goes on serving others until it is stopped."""

    command: Sequence[str]
    marker: Path | None = None
    popen: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    #: seconds from its start until it was done
    seconds: float = 0.0
    #: CPU seconds, once it has ended
    cpu: float = 0.0

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """Once it is started."""
        assert self.popen is not None
        return self.popen

    @property
    def pid(self) -> int:
        return self.process.pid


class Crowd:
    """Receivers started together, or over `spread` seconds; those that serve on are stopped by `stop`."""

    def __init__(self, receivers: Sequence[Receiver], log: Path, spread: float = 0.0) -> None:
        self.receivers = receivers
        self.spread = spread
        self.wall = 0.0
        self._log = log
        self._poll = select.poll()
        #: descriptor that says when it ends → who lives
        self._living: dict[int, Receiver] = {}

    def run(self, watch: Watch) -> None:
        """Start all, wait until all are done. RuntimeError when one fails."""
        began = time.monotonic()
        try:
            for number, receiver in enumerate(self.receivers):
                at = began + self.spread * number / max(1, len(self.receivers) - 1)
                while (left := at - time.monotonic()) > 0:
                    self._gather(min(left, 0.02))
                self._start(receiver)
                watch.add(receiver.pid)
            while not all(receiver.seconds for receiver in self.receivers):
                self._gather(0.02)
                if time.monotonic() - began > PATIENCE_SECONDS:
                    raise RuntimeError(f"not done after {PATIENCE_SECONDS:.0f} s")
        except BaseException:
            self.stop()
            raise
        self.wall = max(receiver.started + receiver.seconds for receiver in self.receivers) - began

    def cpu(self) -> float:
        """CPU seconds of all receivers up to now."""
        living = sum(cpu_seconds(receiver.pid) for receiver in self._living.values())
        return living + sum(receiver.cpu for receiver in self.receivers)

    def each(self) -> list[float]:
        """Seconds of each from its own start."""
        return [receiver.seconds for receiver in self.receivers]

    def stop(self) -> None:
        """End those that serve on."""
        living = list(self._living.items())
        self._living.clear()
        for _, receiver in living:
            receiver.process.kill()
        for descriptor, receiver in living:
            self._poll.unregister(descriptor)
            os.close(descriptor)
            receiver.process.wait()

    def _start(self, receiver: Receiver) -> None:
        receiver.started = time.monotonic()
        with self._log.open("ab") as log:
            receiver.popen = subprocess.Popen(
                receiver.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=ROOT
            )
        descriptor = os.pidfd_open(receiver.pid)
        self._living[descriptor] = receiver
        self._poll.register(descriptor, select.POLLIN)

    def _gather(self, patience: float) -> None:
        """Take note of who has ended or is done, at the latest after so many seconds."""
        for descriptor, _ in self._poll.poll(math.ceil(patience * 1000)):
            receiver = self._living.pop(descriptor)
            self._poll.unregister(descriptor)
            os.close(descriptor)
            _, status, usage = os.wait4(receiver.pid, 0)
            receiver.process.returncode = os.waitstatus_to_exitcode(status)
            receiver.cpu = usage.ru_utime + usage.ru_stime
            if status or receiver.marker:
                said = self._log.read_text(errors="replace")[-1000:]
                raise RuntimeError(f"it ended ({receiver.process.returncode}): {' '.join(receiver.command)}\n{said}")
            receiver.seconds = time.monotonic() - receiver.started
        for receiver in self._living.values():
            if receiver.marker and not receiver.seconds and receiver.marker.exists():
                age = time.time() - receiver.marker.stat().st_mtime
                receiver.seconds = max(1e-6, time.monotonic() - age - receiver.started)


@dataclass
class Round:
    """What one round of one system came to."""

    #: seconds from the first start to the last that is done
    wall: float
    #: seconds of each receiver from its own start
    each: list[float]
    #: CPU seconds of every process of the system, from its own start
    cpu: float
    #: of these, until the processes were ready to work
    cpu_startup: float
    #: the receiver with the most
    memory: Memory
    #: octets that left the source or the seeder of a torrent; and the seed beside the source, where there is one
    source_bytes: int
    seed_bytes: int | None = None
    #: share of the cores' time nobody used meanwhile
    idle: float = 0.0
