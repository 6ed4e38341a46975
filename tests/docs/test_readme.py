"""README.md's commands exist with the flags they are shown with, and those that do no harm do what it says."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
from support import documents

from dfmq import errors
from dfmq.cli import broker, get_command, peer

README = documents.text("README.md")
COMMANDS = {"dfmq-broker": broker.command, "dfmq-peer": peer.command, "dfmq-get": get_command.command}


def lines() -> list[list[str]]:
    """Every command line in a shell block, as words."""
    found = [
        shlex.split(line, comments=True) for block in documents.blocks(README, "sh") for line in block.splitlines()
    ]
    return [words for words in found if words]


SHOWN = [words for words in lines() if words[0] in COMMANDS]


def test_every_shell_line_is_one_of_our_commands_or_a_setting() -> None:
    for words in lines():
        assert words[0] in COMMANDS or words[0] == "export", words
    assert {words[0] for words in SHOWN} == set(COMMANDS)


@pytest.mark.parametrize("words", SHOWN, ids=" ".join)
def test_a_shown_command_takes_the_flags_it_is_shown_with(words: list[str]) -> None:
    command = COMMANDS[words[0]]
    with command.make_context(words[0], words[1:]) as context:
        assert context.params


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_help_and_version_answer(name: str) -> None:
    for flag in ("--help", "--version"):
        done = subprocess.run(
            [sys.executable, documents.ROOT / "bin" / name, flag], capture_output=True, text=True, timeout=30, cwd="/"
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert name in done.stdout


def test_the_shown_way_without_a_broker_works_here(tmp_path: Path) -> None:
    """`dfmq-get` alone: a file source, the peer it starts, a home and an output of its own."""
    (tmp_path / "weights.bin").write_bytes(b"weights" * 1000)
    url = (tmp_path / "weights.bin").as_uri()
    command = [
        sys.executable,
        documents.ROOT / "bin" / "dfmq-get",
        url,
        "-o",
        tmp_path / "out",
        "--home",
        tmp_path / "h",
    ]
    environment = {"PATH": "/usr/bin:/bin", "DFMQ_PEER_IDLE_EXIT": "100ms"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out").read_bytes() == b"weights" * 1000


def test_exit_statuses_are_those_of_the_failures() -> None:
    told = {int(row["exit status"]) for row in documents.table(documents.sections(README)["More of dfmq-get"])}
    assert told == {0} | {kind.exit_status for kind in errors.BY_CODE.values()}


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):.*##", documents.text("Makefile"), re.MULTILINE))
    texts = [document.read_text() for document in documents.DOCUMENTS]
    named = {found for text in texts for found in re.findall(r"(?:^    |`)make ([a-z]+)\b", text, re.MULTILINE)}
    assert named <= targets
    assert {"demo", "test"} <= named


def test_settings_named_in_the_environment_exist() -> None:
    from dfmq.cli import options

    known = {setting.variable for setting in options.EVERY.values()} | options.OTHER_VARIABLES
    for document in documents.DOCUMENTS:
        assert set(re.findall(r"\bDFMQ_[A-Z_]+\b", document.read_text())) <= known, document


def test_flags_named_in_prose_exist() -> None:
    known = {name for command in COMMANDS.values() for option in command.params for name in option.opts}
    assert isinstance(get_command.command, click.Command)
    for name in ("README.md", "docs/operations.md"):
        named = set(re.findall(r"`(--[a-z-]+)", documents.text(name)))
        assert named <= known | {"--rewrite"}, named - known
