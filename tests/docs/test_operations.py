"""docs/operations.md names every setting with its default, every exit status and every record, and no others."""

from __future__ import annotations

from typing import Any

import click
import msgspec
import pytest
from support import documents

from dfmq import errors
from dfmq.cli import broker, get_command, options, peer
from dfmq.machines.effects import RECORDS
from dfmq.model.settings import BrokerSettings, PeerSettings, SourceSettings, StoreSettings

SECTIONS = documents.sections(documents.text("docs/operations.md"))
SETTINGS = {
    documents.code(row["key"])[0]: row
    for heading in ("Every command", "Peer", "Broker", "Get", "Store", "Source")
    for row in documents.table(SECTIONS[heading])
}
COMMANDS = {
    "peer": [peer.command],
    "broker": [broker.command],
    "get": [get_command.command],
    "brokers": [peer.command, get_command.command],
}
BOTH_NODES = [peer.command, broker.command]


def flags(command: click.Command) -> set[str]:
    return {name for parameter in command.params for name in parameter.opts}


def test_every_setting_is_named_and_no_other() -> None:
    assert SETTINGS.keys() == options.EVERY.keys()


@pytest.mark.parametrize("key", sorted(options.EVERY))
def test_a_setting_stands_with_its_variable_and_its_flag(key: str) -> None:
    row, setting = SETTINGS[key], options.EVERY[key]
    assert documents.code(row["environment"]) == [setting.variable]
    commands = COMMANDS.get(key.partition(".")[0], BOTH_NODES)
    has_flag = all(setting.option in flags(command) for command in commands)
    assert documents.code(row["flag"]) == ([setting.option] if has_flag else [])


def defaults() -> dict[str, Any]:
    """Setting's key → the default that stands in the code."""
    found = {}
    settings = {PeerSettings: options.PEER, BrokerSettings: options.BROKER, options.GetSettings: options.GET}
    for kind, table in settings.items():
        for setting in table:
            part, _, name = setting.field.rpartition(".")
            owner = {"store": StoreSettings, "source": SourceSettings, "": kind}[part]
            field = next(field for field in msgspec.structs.fields(owner) if field.name == name)
            found.setdefault(setting.key, field.default)
    return found


@pytest.mark.parametrize(("key", "default"), defaults().items())
def test_the_default_is_the_one_in_the_code(key: str, default: Any) -> None:
    written = documents.code(SETTINGS[key]["default"])
    if default in ("", (), msgspec.NODEFAULT):
        assert written == [], "– stands for what has no default of its own"
    else:
        assert options.EVERY[key].read(written[0]) == default


def test_exit_statuses_are_those_of_the_failures() -> None:
    told = {
        (int(row["status"]), code)
        for row in documents.table(SECTIONS["Exit statuses"])
        for code in documents.code(row["code"])
    }
    assert told == {(kind.exit_status, code) for code, kind in errors.BY_CODE.items()}


def test_every_record_is_named_and_no_other() -> None:
    named = [
        documents.code(row["record"])[0]
        for heading in ("The broker's", "The peer's")
        for row in documents.table(SECTIONS[heading])
    ]
    assert sorted(named) == sorted(RECORDS)


#: fields that no user sets: parts, and what a node gives itself
OWN = {"store", "store.unsynced_bytes", "source", "source.window_bytes", "source.files"}


@pytest.mark.parametrize(
    ("kind", "table"),
    [(PeerSettings, options.PEER), (BrokerSettings, options.BROKER), (options.GetSettings, options.GET)],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_every_field_of_the_settings_can_be_set(kind: type[msgspec.Struct], table: tuple[options.Setting, ...]) -> None:
    fields = set(kind.__struct_fields__)
    for part, of in (("store", StoreSettings), ("source", SourceSettings)):
        if part in fields:
            fields |= {f"{part}.{name}" for name in of.__struct_fields__}
    assert fields - OWN == {setting.field for setting in table}
