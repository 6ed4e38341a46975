"""dfmq-peer and dfmq-broker from their arguments to the node and to what whoever started them is told."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from dfmq.cli import broker, peer
from dfmq.errors import SettingsError


class FakeProcess(ModuleType):
    """In place of nodes/process: remembers the settings, gets ready, ends as it is told."""

    def __init__(self) -> None:
        super().__init__("dfmq.nodes.process")
        self.settings: Any = None
        self.error: BaseException | None = None
        self.late = False

    def run_peer(self, settings: Any, ready: Callable[[dict[str, Any]], None]) -> int:
        self.settings = settings
        if self.error is not None and not self.late:
            raise self.error
        ready({"exchange": "tcp://127.0.0.1:5", "local": "ipc:///h/peer.sock", "alone": False})
        if self.error is not None:
            raise self.error
        return 0

    run_broker = run_peer


@pytest.fixture
def process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeProcess]:
    process = FakeProcess()
    monkeypatch.setitem(sys.modules, "dfmq.nodes.process", process)
    for name in [name for name in os.environ if name.startswith("DFMQ_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("DFMQ_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    yield process
    for handler in logging.getLogger("dfmq").handlers:
        handler.close()
    logging.getLogger("dfmq").handlers.clear()
    logging.getLogger("dfmq").setLevel(logging.NOTSET)


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    def typed(command: Any, *arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["dfmq", *arguments])
        return int(command.main())

    return typed


def test_flags_of_a_peer_become_its_settings(process: FakeProcess, typed: Callable[..., int]) -> None:
    flags = "--broker tcp://a:1 --broker tcp://b:2 --listen tcp://127.0.0.1:0 --advertise me --idle-exit 5m"
    flags += " --up-limit 8Mbit/s --down-limit 2MB/s --slots 9 --zone z --quota 1GB --free-floor 1MiB"
    assert typed(peer, *flags.split()) == 0
    settings = process.settings
    assert settings.brokers == ("tcp://a:1", "tcp://b:2")
    assert (settings.listen, settings.advertise, settings.idle_exit) == ("tcp://127.0.0.1:0", "me", 300.0)
    assert (settings.up_limit, settings.down_limit, settings.slots, settings.zone) == (1_000_000, 2_000_000, 9, "z")
    assert (settings.store.quota_bytes, settings.store.free_floor_bytes) == (10**9, 1 << 20)


def test_flags_of_a_broker_become_its_settings(process: FakeProcess, typed: Callable[..., int], tmp_path: Path) -> None:
    flags = "--listen tcp://*:1 --publish tcp://[::]:2 --api 127.0.0.1:3 --advertise b"
    flags += " --seed-slots 5 --seed-up-limit 1k --zone z"
    assert typed(broker, *flags.split()) == 0
    settings = process.settings
    assert (settings.listen, settings.publish, settings.api) == ("tcp://0.0.0.0:1", "tcp://[::]:2", "127.0.0.1:3")
    assert (settings.advertise, settings.seed_slots, settings.seed_up_limit, settings.zone) == ("b", 5, 1000, "z")
    assert settings.home == str(tmp_path / "home" / "broker")


def test_a_node_that_is_ready_says_where(
    process: FakeProcess, typed: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    typed(peer)
    assert capsys.readouterr().out == "peer listens at tcp://127.0.0.1:5, local ipc:///h/peer.sock\n"
    typed(broker, "--json")
    said = json.loads(capsys.readouterr().out)
    assert (said["event"], said["node"], said["exchange"]) == ("ready", "broker", "tcp://127.0.0.1:5")


def told(process: FakeProcess, typed: Callable[..., int], *arguments: str) -> tuple[int, bytes]:
    """Exit status, and what comes out of the ready descriptor."""
    reading, writing = os.pipe()
    status = typed(peer, "--ready-fd", str(writing), *arguments)
    said = os.read(reading, 1000)
    assert os.read(reading, 1) == b"", "closed after one line"
    os.close(reading)
    return status, said


def test_its_starter_is_told_that_it_is_ready(process: FakeProcess, typed: Callable[..., int]) -> None:
    assert told(process, typed) == (0, b"ready\n")
    assert os.getcwd() == "/"


def test_its_starter_is_told_what_hinders_it(process: FakeProcess, typed: Callable[..., int]) -> None:
    process.error = SettingsError("home /h is in use\nby process 7")
    assert told(process, typed) == (2, b"error settings home /h is in use by process 7\n")
    process.error = ZeroDivisionError("oops")
    assert told(process, typed) == (70, b"error bug ZeroDivisionError: oops\n")
    assert told(process, typed, "--slots", "many")[1].startswith(b"error settings --slots: 'many' should be")


def test_an_error_after_that_is_not_told_twice(process: FakeProcess, typed: Callable[..., int]) -> None:
    process.error, process.late = SettingsError("later"), True
    assert told(process, typed) == (2, b"ready\n")


def test_a_starter_that_is_gone_does_no_harm(process: FakeProcess, typed: Callable[..., int]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    assert typed(peer, "--ready-fd", str(writing)) == 0


def test_a_log_goes_to_its_file(process: FakeProcess, typed: Callable[..., int], tmp_path: Path) -> None:
    assert typed(peer, "--log", str(tmp_path / "log"), "-v") == 0
    logging.getLogger("dfmq.nodes.peer").info("task %s held", "3fa9c1e2")
    logging.getLogger("dfmq.nodes.peer").debug("not this")
    assert (tmp_path / "log").read_text().endswith(" INFO dfmq.nodes.peer: task 3fa9c1e2 held\n")
    assert typed(peer, "--log", str(tmp_path / "no" / "log")) == 2


def test_a_misspelt_variable_is_pointed_out(
    process: FakeProcess, typed: Callable[..., int], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DFMQ_PEER_SLOT", "3")
    assert typed(peer) == 0
    assert "DFMQ_PEER_SLOT is not a setting; did you mean DFMQ_PEER_SLOTS?" in capsys.readouterr().err
