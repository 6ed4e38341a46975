"""docs/protocol.md's tables say what the types say: messages, fields, bounds, defaults, grammars, limits, timers."""

from __future__ import annotations

import importlib
import re
from typing import Any, get_args

import msgspec
import pytest
from support import documents, examples, fields

from dfmq import errors
from dfmq.model.host import HostSample
from dfmq.model.task import Request
from dfmq.wire import envelope, messages, topics

PROTOCOL = documents.text("docs/protocol.md")
SECTIONS = documents.sections(PROTOCOL)
STRUCTS = {type(message).__name__: type(message) for message in examples.EXAMPLES.values()} | {
    kind.__name__: kind for kind in (messages.Lease, messages.Receipt, Request, HostSample)
}


@pytest.mark.parametrize("name", sorted(STRUCTS))
def test_a_message_is_told_with_its_fields_bounds_and_defaults(name: str) -> None:
    told = documents.table(SECTIONS[name])
    assert all(row.pop("meaning") for row in told), "each field has a meaning"
    assert told == fields.rows(STRUCTS[name])


@pytest.mark.parametrize("name", sorted(set(STRUCTS) - {"Lease", "Receipt", "Request", "HostSample"}))
def test_a_message_is_told_with_its_tag(name: str) -> None:
    tag = STRUCTS[name].__struct_config__.tag
    assert SECTIONS[name].strip().startswith(f"`{tag}`. ")


def test_each_socket_hears_what_its_table_says() -> None:
    hears: dict[str, Any] = {
        "control, peer → broker": messages.CONTROL_TO_BROKER,
        "control, broker → peer": messages.CONTROL_TO_PEER,
        "exchange, child → parent": messages.EXCHANGE_TO_PARENT,
        "exchange, parent → child": messages.EXCHANGE_TO_CHILD,
        "notices": messages.NOTICES,
        "hints": messages.HINTS,
        "local, client → peer": messages.LOCAL_TO_PEER,
        "local, peer → client": messages.LOCAL_TO_CLIENT,
    }
    told = {row["socket"]: row["hears"].split(", ") for row in documents.table(SECTIONS["Grammar"])}
    assert told == {name: [kind.__name__ for kind in get_args(union) or [union]] for name, union in hears.items()}


def test_the_grammar_speaks_of_every_message_and_no_other() -> None:
    (grammar,) = [block for block in documents.blocks(PROTOCOL, "abnf") if "control-talk" in block]
    said = set(re.findall(r"[CS]:([a-z-]+)", grammar))
    assert said == set(examples.EXAMPLES) - {"error", "notice", "hint"}


def test_the_frames_are_those_of_the_envelope() -> None:
    (frames,) = [block for block in documents.blocks(PROTOCOL, "abnf") if "signature" in block]
    magic = "".join(f" %x{octet:02X}" for octet in envelope.MAGIC).strip()
    assert re.search(rf"^signature +=\s+{magic} version$", frames, re.MULTILINE)
    assert re.search(rf"^version +=\s+%x{messages.PROTOCOL_VERSION:02X}$", frames, re.MULTILINE)
    assert re.search(rf"^body +=\s+1\*{envelope.MOST_BODY_BYTES}OCTET", frames, re.MULTILINE)
    assert f"signature 1*{envelope.MOST_BODIES}body" in frames
    assert f'"{topics.ALL.decode()}" / "{topics.TASK_PREFIX.decode()}" task-id' in frames
    assert f"| version | {messages.PROTOCOL_VERSION} (" in PROTOCOL


def test_failures_are_those_of_the_code() -> None:
    told = [documents.code(row["code"])[0] for row in documents.table(SECTIONS["Failures"])]
    assert sorted(told) == sorted(errors.BY_CODE)


def test_error_codes_are_those_a_node_says() -> None:
    told = [documents.code(row["code"])[0] for row in documents.table(SECTIONS["Error codes"])]
    doc = re.sub(r"\(.*?\)", "", " ".join((messages.Error.__doc__ or "").split()))
    said = doc.partition("Codes: ")[2].rstrip(".").split(",")
    assert sorted(told) == sorted(code.strip() for code in said)


def value_of(name: str) -> Any:
    """What a dotted name stands for; of a Settings class's field, its default."""
    module, _, attribute = name.rpartition(".")
    try:
        return getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError:
        owner = value_of(module)
        return next(field.default for field in msgspec.structs.fields(owner) if field.name == attribute)


@pytest.mark.parametrize(
    "row",
    documents.table(SECTIONS["Limits"]) + documents.table(SECTIONS["Timers"]),
    ids=lambda row: row["what"],
)
def test_limits_and_timers_are_those_in_the_code(row: dict[str, str]) -> None:
    told = [float(number) for number in (row.get("limit") or row["seconds"]).split(", ")]
    names = [name for name in documents.code(row["where"]) if name.startswith("dfmq.")]
    add = 1 if row["where"].endswith("+ 1") else 0
    assert not names or told == [value_of(name) + add for name in names]
