"""Everything a simulated world is made from, as one value and as one command line. Builds nothing."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence

import msgspec

from dfmq.errors import SettingsError
from dfmq.model import pieces
from dfmq.model.pieces import PieceMap

KIB = 1 << 10
MIB = 1 << 20
MBIT = 125_000

_UNITS = {
    "": 1, "b": 1, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "kb": 10**3, "mb": 10**6, "gb": 10**9,
    "kbit": 125, "mbit": 125_000, "gbit": 125_000_000,
}  # fmt: skip


def quantity(text: str) -> int:
    """`200MiB`, `20MB`: bytes; `200Mbit`: bytes per second; a bare number is either."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", text.strip())
    if match is None or match[2].lower() not in _UNITS:
        raise SettingsError(f"{text!r}: write it as a number with {', '.join(u for u in _UNITS if u)} or nothing")
    return int(float(match[1]) * _UNITS[match[2].lower()])


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """One world. The same plan is always the same world."""

    #: of every choice and chance
    seed: int = 1
    peers: int = 10
    #: bytes, of each file at the source
    size: int = 8 * MIB
    #: of a peer's card, each way, bytes per second
    rate: int = 200 * MBIT
    #: of the broker's card, where the embedded seed is
    seed_rate: int = 4000 * MBIT
    #: the source's, all readers together
    source_rate: int = 4000 * MBIT
    #: seconds one way, from host to host
    latency: float = 0.001
    #: at most so many seconds more, for a control message
    jitter: float = 0.0
    #: seconds a control message waits in its own host's uplink while that is busy with chunks
    uplink_queue: float = 0.0
    #: seconds from a store's wish to its answer
    disk: float = 0.0
    #: bytes; 0: the house's own cut
    piece: int = 0
    #: bytes; 0: a sixteenth of the piece, within bounds
    chunk: int = 0
    #: files at the source; peer i gets file i modulo this
    files: int = 1
    #: peers begin within so many seconds
    spread: float = 0.0
    #: share of peers that are slow, and their rate
    slow: float = 0.0
    slow_rate: int = 20 * MBIT
    #: share of peers that come when most others are done
    late: float = 0.0
    #: nights, of which the last is told: hosts remember how fast their links were in the one before
    nights: int = 1
    #: zones the peers are in, and the rate of the pipe between each two of them (0: no pipe)
    zones: int = 1
    zone_rate: int = 0
    #: the broker's card is in a zone of its own, else in the first
    seed_apart: bool = False

    # what the broker and its seed are told
    seed_slots: int = 0
    slots: int = 4
    beat: float = 2.0
    #: seconds the broker takes for each message, one after the other; for a Beat a tenth of that, for each piece that
    #: is wanted six tenths more
    broker_seconds: float = 0.0

    # faults, each so many times at random instants while the transfer goes on
    #: a peer's process is killed; most come back after a while
    crashes: int = 0
    #: a peer is stopped and goes on later (SIGSTOP, SIGCONT)
    freezes: int = 0
    #: a host's network stands still, half of the times losing what is sent meanwhile
    cuts: int = 0
    #: a peer loses its way to the broker for good, and nobody else does
    strays: int = 0
    #: the broker and its seed are killed and come back
    broker_restarts: int = 0
    #: connections to the source break, or fall silent
    breaks: int = 0
    stalls: int = 0
    #: the source refuses so many requests at first, and asks to wait a second
    refusals: int = 0
    #: peers that send garbage for a tenth of their chunks
    liars: int = 0
    #: peers whose inbox nobody can reach; they are there from the start, and nobody waits until they are done
    unreached: int = 0
    #: the content at the source changes
    changes: int = 0
    #: share of notices and hints that are lost
    hint_loss: float = 0.0
    #: the source's manners
    tells_length: bool = True
    takes_ranges: bool = True
    has_validators: bool = True
    #: the request names a digest
    digest: bool = False
    #: times a client asks again after a refusal
    tries: int = 0

    #: check the books of the touched machine after every n-th event; 0 never
    check: int = 0
    #: virtual seconds after which a world has failed; 0: from size and rate
    limit: float = 0.0

    @property
    def unit(self) -> float:
        """Seconds that size/rate is: the time one copy takes at a peer's rate."""
        return self.size / self.rate

    @property
    def limit_seconds(self) -> float:
        return self.limit or 90.0 + 20.0 * self.size / (self.slow_rate if self.slow else self.rate)

    def cut(self, length: int | None, hosts: int) -> PieceMap:
        """The cut the seed gives a content."""
        if not self.piece:
            return pieces.cut(length, hosts)
        return PieceMap(length, self.piece, self.chunk or pieces.chunk_length_for(self.piece))

    def command(self) -> str:
        """The line that replays this world."""
        words = ["python -m dfmq.sim"]
        for field in msgspec.structs.fields(Plan):
            value = getattr(self, field.name)
            if value != field.default or field.name == "seed":
                name = field.name.replace("_", "-")
                if isinstance(value, bool):
                    words.append(f"--{'' if value else 'no-'}{name}")
                else:
                    words.append(f"--{name} {value}")
        return " ".join(words)


def read(arguments: Sequence[str]) -> Plan:
    """A command line's arguments → Plan. Exits with a usage message when they are wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m dfmq.sim", description="Run the production machines on a virtual clock and print a report."
    )
    for field in msgspec.structs.fields(Plan):
        name = "--" + field.name.replace("_", "-")
        if isinstance(field.default, bool):
            parser.add_argument(name, action=argparse.BooleanOptionalAction, default=field.default)
        elif isinstance(field.default, float):
            parser.add_argument(name, type=float, default=field.default)
        else:
            parser.add_argument(name, type=quantity, default=field.default)
    return Plan(**vars(parser.parse_args(arguments)))
