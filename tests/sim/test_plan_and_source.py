"""A plan survives its command line; the simulated source has the manners of a real one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dfmq.errors import SettingsError
from dfmq.machines.effects import AskSource, ReadSource
from dfmq.machines.events import SourceAnswered, SourceBroke, SourceChunk, SourceEnded
from dfmq.model.ids import Generation, PermitId, TaskId
from dfmq.model.pieces import PieceMap
from dfmq.model.task import Request
from dfmq.sim import plan
from dfmq.sim.agenda import Agenda
from dfmq.sim.plan import MBIT, MIB, Plan, quantity
from dfmq.sim.source import Source, SourceFile
from dfmq.sim.truth import flaw

URL = "https://source.example/file"
PERMIT = PermitId(1)
TASK = TaskId(bytes(16))
CUT = PieceMap(1000, 400, 100)


def test_a_plan_is_the_same_after_its_command_line() -> None:
    wanted = Plan(seed=7, peers=3, size=5 * MIB, disk=0.25, takes_ranges=False, digest=True, slow=0.1, crashes=2)
    assert plan.read(wanted.command().split()[3:]) == wanted


@pytest.mark.parametrize(
    ("text", "value"), [("200MiB", 200 * MIB), ("200Mbit", 200 * MBIT), ("20MB", 20_000_000), ("12", 12)]
)
def test_quantities_as_people_type_them(text: str, value: int) -> None:
    assert quantity(text) == value


def test_an_unknown_unit_is_refused() -> None:
    with pytest.raises(SettingsError):
        quantity("5 parsecs")


class Reading:
    """A process that reads the source and writes everything at once."""

    def __init__(self, **manners: Any) -> None:
        self.agenda = Agenda()
        self.source = Source(self.agenda, rate=1000.0, latency=0.01, stall_seconds=10.0)
        self.file = SourceFile(URL, 1000)
        for name, value in manners.items():
            setattr(self.file, name, value)
        self.source.files[URL] = self.file
        self.heard: list[Any] = []
        self.writes = True

    def ask(self, offset: int = 0, etag: str = "", unchanged_will_do: bool = False) -> Any:
        wish = AskSource(PERMIT, Request(url=URL), offset, etag, "", unchanged_will_do)
        self.source.ask(self, self.hear, wish)
        self.agenda.run(self.agenda.now + 1.0)
        return self.heard[-1]

    def read(self, offset: int = 0, skip: int = 0, window: int = 300) -> None:
        self.source.read(self, ReadSource(PERMIT, TASK, Generation(bytes(8)), CUT, offset, skip, window))
        self.agenda.run(self.agenda.now + 60.0)

    def hear(self, event: Any) -> None:
        self.heard.append(event)
        if isinstance(event, SourceChunk) and self.writes:
            self.source.wrote(self, TASK, event.length)

    def chunks(self) -> list[SourceChunk]:
        return [event for event in self.heard if isinstance(event, SourceChunk)]


def test_a_body_comes_in_chunks_and_ends() -> None:
    reading = Reading()
    assert reading.ask() == SourceAnswered(PERMIT, "full", 0, 1000, '"v1"', "", None, True)
    reading.read()
    assert [(c.piece, c.chunk) for c in reading.chunks()[:5]] == [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0)]
    assert flaw([c.payload for c in reading.chunks()], URL, 1000) == ""
    assert reading.heard[-1] == SourceEnded(PERMIT, 1000)
    assert reading.file.served_bytes == 1000


def test_no_more_than_the_window_is_unwritten() -> None:
    reading = Reading()
    reading.ask()
    reading.writes = False
    reading.read(window=300)
    assert len(reading.chunks()) == 3
    reading.source.wrote(reading, TASK, 100)
    reading.agenda.run(reading.agenda.now + 1.0)
    assert len(reading.chunks()) == 4


@pytest.mark.parametrize(
    ("manners", "etag", "offset", "unchanged_will_do", "kind"),
    [
        ({}, '"v1"', 400, False, "partial"),
        ({}, '"v0"', 400, False, "full"),
        ({"takes_ranges": False}, '"v1"', 400, False, "full"),
        ({"has_validators": False}, '"v1"', 400, False, "full"),
        ({}, '"v1"', 0, True, "unchanged"),
        ({}, '"v0"', 0, True, "full"),
    ],
)
def test_conditional_and_ranged_requests(
    manners: dict[str, bool], etag: str, offset: int, unchanged_will_do: bool, kind: str
) -> None:
    answer = Reading(**manners).ask(offset, etag, unchanged_will_do)
    assert answer.kind == kind
    assert answer.offset == (offset if kind == "partial" else 0)


def test_bytes_thrown_away_are_counted_as_read() -> None:
    reading = Reading(takes_ranges=False)
    reading.ask(400, '"v1"')
    reading.read(offset=400, skip=400)
    assert [c.piece for c in reading.chunks()][:1] == [1]
    assert reading.file.served_bytes == 1000


@pytest.mark.parametrize(
    "fault", [lambda f: f.breaks_at.append(250), lambda f: f.stalls_at.append((250, 20.0))], ids=["break", "stall"]
)
def test_a_break_or_a_stall_is_told_once_and_the_next_request_goes_on(fault: Callable[[SourceFile], None]) -> None:
    reading = Reading()
    fault(reading.file)
    reading.ask()
    reading.read()
    assert isinstance(reading.heard[-1], SourceBroke)
    assert len(reading.chunks()) == 3
    reading.ask(300, '"v1"')
    reading.read(offset=300)
    assert reading.heard[-1] == SourceEnded(PERMIT, 1000)
    assert reading.file.served_bytes == 1000


def test_an_answer_is_of_the_version_it_began_with() -> None:
    reading = Reading()
    reading.ask()
    reading.file.version = 2
    reading.read()
    assert {c.payload.version for c in reading.chunks()} == {1}


def test_a_flaw_is_named() -> None:
    reading = Reading()
    reading.ask()
    reading.read()
    truths = [c.payload for c in reading.chunks()]
    assert "bytes of 1000" in flaw(truths[:-1], URL, 1000)
    assert "another version" in flaw([*truths[:3], of_next_version(truths[3]), *truths[4:]], URL, 1000)
    assert "stands at" in flaw([truths[0], *truths[2:]], URL, 1000)


def of_next_version(truth: Any) -> Any:
    """The same chunk of the next version."""
    return truth._replace(version=truth.version + 1)
