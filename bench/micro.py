"""What single steps cost, in nanoseconds: codec, broker, bitfield, assembly, hashing, store. For profiling.

    python -m bench.micro [--only codec broker …] [--repeats 7] [--profile broker] [--json FILE]

Each step is repeated until it takes a tenth of a second, so many times; the median and the least are told. `broker` is
one turn of a child of a task of 96 pieces (Have of 3 pieces, Want of 3, the Grant that answers) in a BrokerMachine with
so many peers; `chunk` one chunk's whole way from holder to holder in the simulator, all machines and the simulator
itself. --profile runs one group under cProfile and prints where the time went.
"""

from __future__ import annotations

import cProfile
import os
import pstats
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench.figure import Bars
from bench.fleet import fleet
from bench.outcome import arguments, median, report
from bench.turns import Turns
from dfmq.edges.hashing import chunk_digest
from dfmq.edges.store.content import Store
from dfmq.machines.peer.assembly import Assembly
from dfmq.model import bitfield
from dfmq.model.ids import Generation
from dfmq.model.pieces import PieceMap
from dfmq.model.settings import StoreSettings
from dfmq.model.task import Content, Request, task_id
from dfmq.sim.plan import MBIT, Plan
from dfmq.sim.world import World
from dfmq.wire import codec
from dfmq.wire import messages as said

KIB, MIB = 1 << 10, 1 << 20
TASK, PEER, GENERATION = bytes(16), bytes(range(16)), Generation(bytes(8))
#: name, what to call, how many steps one call is
Step = tuple[str, Callable[[], object], int]


def codec_steps() -> Iterator[Step]:
    """Bodies of control messages and the header of a chunk, each way."""
    lease = said.Lease(
        lease=1 << 40, piece=77, parent=PEER, endpoint="tcp://10.1.2.3:40001", proofs=bytes(256), seconds=12.5
    )
    have = said.Have(task=TASK, generation=GENERATION, pieces=[1, 2, 3])
    want = said.Want(task=TASK, count=3, down_rate=25_000_000, up_rate=25_000_000)
    grant = said.Grant(task=TASK, generation=GENERATION, leases=[lease] * 3)
    for name, message, hears in (
        ("Have of 3", have, codec.broker_hears.decode),
        ("Want", want, codec.broker_hears.decode),
        ("Grant of 3", grant, codec.peer_hears.decode),
    ):
        body = codec.encode(message)
        yield f"encode {name}", lambda message=message: codec.encode(message), 1  # type: ignore[misc]
        yield f"decode {name}", lambda hears=hears, body=body: hears(body), 1  # type: ignore[misc]
    header = codec.encode_chunk_header(1 << 40, 77, 15)
    yield "encode chunk header", lambda: codec.encode_chunk_header(1 << 40, 77, 15), 1
    yield "decode chunk header", lambda: codec.decode_chunk_header(header), 1


def broker_steps() -> Iterator[Step]:
    """A child's turn, by how many peers take part."""
    for peers in (100, 1000, 7000):
        turns = Turns(peers)
        yield f"broker turn, {peers} peers", lambda turns=turns: turns.take(100), 100  # type: ignore[misc]


def bitfield_steps() -> Iterator[Step]:
    """Sets of 100 pieces, half of them in."""
    bits = bitfield.of(range(0, 100, 2))
    data = bitfield.to_bytes(bits)
    yield "bitfield members, 50 of 100", lambda: list(bitfield.members(bits)), 1
    yield "bitfield to bytes", lambda: bitfield.to_bytes(bits), 1
    yield "bitfield from bytes", lambda: bitfield.from_bytes(data), 1


def assembly_steps() -> Iterator[Step]:
    """A chunk compared, added and marked as stored."""
    proofs = bytes(256)

    def gather() -> None:
        assembly = Assembly(7, 16, proofs)
        for chunk in range(16):
            if assembly.is_true(chunk, proofs[:16]):
                assembly.add(chunk, proofs)
        for chunk in range(16):
            assembly.mark_stored(chunk)

    yield "assembly, a chunk", gather, 16


def chunk_steps() -> Iterator[Step]:
    """A small world, per chunk that was delivered."""
    plan = Plan(peers=20, size=16 * MIB, rate=200 * MBIT, seed_rate=2000 * MBIT)
    probe = World(plan)
    probe.run()
    yield "simulated chunk, 20 peers", lambda: World(plan).run(), probe.chunks


def hashing_steps() -> Iterator[Step]:
    """xxh3_128, which every chunk goes through on both sides."""
    for size in (64 * KIB, MIB):
        block = os.urandom(size)
        yield f"digest of {size // KIB} KiB", lambda block=block: chunk_digest(block), 1  # type: ignore[misc]


class Shop:
    """A store and its owner, who writes content after content and waits until each is told as stored."""

    def __init__(self, home: Path, size: int, count: int) -> None:
        self._cut = PieceMap(count * size, 16 * size, size)
        self._block = memoryview(os.urandom(size))
        self._digest = chunk_digest(self._block)
        self._opened = threading.Event()
        self._enough = threading.Event()
        self._count, self._stored, self._number = count, 0, 0
        self.store = Store(home, StoreSettings(free_floor_bytes=0, write_behind_bytes=count * size), self)

    def write(self) -> None:
        """One content, which is dropped then."""
        self._number += 1
        self._stored = 0
        self._opened.clear()
        self._enough.clear()
        request = Request(url=f"https://source.example/{self._number}")
        task = task_id(request)
        self.store.open(task, Content(GENERATION, self._cut), request)
        self._opened.wait(10)
        for piece in range(self._cut.count):
            for chunk in range(16):
                offset = self._cut.chunk_span(piece, chunk)[0]
                self.store.write(task, GENERATION, piece, chunk, offset, self._digest, self._block)
        if not self._enough.wait(10):
            raise RuntimeError("not stored after 10 s")
        self.store.drop(task)

    def opened(self, *_: Any) -> None:
        self._opened.set()

    def stored(self, _: Any, __: Any, chunks: list[tuple[int, int]]) -> None:
        self._stored += len(chunks)
        if self._stored >= self._count:
            self._enough.set()

    def failed(self, _: Any, code: str, text: str) -> None:
        raise RuntimeError(f"{code}: {text}")

    def loaded(self, *_: Any) -> None: ...

    def proved(self, *_: Any) -> None: ...

    def doubted(self, *_: Any) -> None: ...

    def damaged(self, *_: Any) -> None: ...

    def recalled(self, *_: Any) -> None: ...


def store_steps() -> Iterator[Step]:
    """Chunks from the owner's thread to the file and the journal, and told; a new content each time."""
    for size in (64 * KIB, MIB):
        with fleet(tempfile.gettempdir()) as made:
            shop = Shop(made.home, size, 64)
            yield f"store a chunk of {size // KIB} KiB, {Path(tempfile.gettempdir())}", shop.write, 64
            shop.store.close()


GROUPS: dict[str, Callable[[], Iterator[Step]]] = {
    "codec": codec_steps,
    "broker": broker_steps,
    "bitfield": bitfield_steps,
    "assembly": assembly_steps,
    "chunk": chunk_steps,
    "hashing": hashing_steps,
    "store": store_steps,
}


def measure(call: Callable[[], object], steps: int, repeats: int) -> dict[str, float]:
    """Nanoseconds of one step."""
    call()
    began = time.perf_counter()
    call()
    loops = max(1, round(0.1 / max(1e-9, time.perf_counter() - began)))
    took = []
    for _ in range(repeats):
        began = time.perf_counter()
        for _ in range(loops):
            call()
        took.append((time.perf_counter() - began) / loops / steps * 1e9)
    return {"ns": median(took), "least_ns": min(took), "per_s": 1e9 / median(took)}


def profile(group: str) -> None:
    """Where the time of a group's last step goes."""
    for name, call, _ in GROUPS[group]():
        call()
        watch = cProfile.Profile()
        watch.enable()
        began = time.perf_counter()
        while time.perf_counter() - began < 2.0:
            call()
        watch.disable()
        print(name)
        pstats.Stats(watch).sort_stats("tottime").print_stats(25)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--only", nargs="+", default=list(GROUPS), choices=list(GROUPS), metavar="GROUP")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--profile", choices=list(GROUPS), metavar="GROUP", help=", ".join(GROUPS))
    chosen = parser.parse_args()
    if chosen.profile:
        profile(chosen.profile)
        return
    rows = {}
    for group in chosen.only:
        for name, call, steps in GROUPS[group]():
            rows[name] = measure(call, steps, chosen.repeats)
            print(f"{name}: {rows[name]['ns']:,.0f} ns", flush=True)
    fast = {name: row["ns"] for name, row in rows.items() if row["ns"] < 10_000}
    slow = {name: row["ns"] / 1000 for name, row in rows.items() if row["ns"] >= 10_000}
    panels = [Bars(title=title, bars=bars) for title, bars in (("ns", fast), ("µs", slow)) if bars]
    report("micro", "What single steps cost", rows, panels, chosen)


if __name__ == "__main__":
    main()
