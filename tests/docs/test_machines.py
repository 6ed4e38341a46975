"""docs/machines.md names every part of the machines that states a law, and says the law as the code does."""

from __future__ import annotations

import ast
import functools
import re

import pytest
from support import documents

from dfmq.machines.machine import Machine

PARTS = sorted(
    path.relative_to(documents.ROOT)
    for folder in (".", "broker", "peer")
    for path in (documents.ROOT / "dfmq/machines" / folder).resolve().glob("*.py")
)


def law(docstring: str) -> str:
    """From "Law:" to the end of its paragraph, in one line; "" none."""
    found = re.search(r"\bLaw: (.+?)(?:\n\n|\Z)", docstring, re.DOTALL)
    return " ".join(found.group(1).split()) if found else ""


@functools.cache
def classes() -> dict[tuple[str, str], tuple[str, bool]]:
    """(file, class) → (its law, whether it has a check)."""
    found = {}
    for path in PARTS:
        for node in ast.parse((documents.ROOT / path).read_text()).body:
            if isinstance(node, ast.ClassDef):
                has_check = any(isinstance(part, ast.FunctionDef) and part.name == "check" for part in node.body)
                found[str(path), node.name] = (law(ast.get_docstring(node) or ""), has_check)
    return found


def rows() -> dict[tuple[str, str], str]:
    """(file, class) → the law, as the page has it."""
    found = {}
    for section in documents.sections(documents.text("docs/machines.md")).values():
        for row in documents.table(section):
            if "law" in row:
                (name,), (path,) = documents.code(row["part"]), documents.code(row["file"])
                assert (path, name) not in found, f"{name} stands there twice"
                found[path, name] = row["law"]
    return found


def test_the_page_says_every_law_as_the_code_does() -> None:
    stated = {key: text for key, (text, _) in classes().items() if text}
    written = rows()
    missing = [
        f"| `{name}` | `{path}` | {text} |" for (path, name), text in stated.items() if (path, name) not in written
    ]
    assert not missing, "docs/machines.md lacks:\n" + "\n".join(missing)
    assert set(written) - set(stated) == set(), "laws that nobody states any more"
    for (path, name), text in stated.items():
        assert written[path, name] == text, f"{name} in {path}"


@pytest.mark.parametrize("key", [key for key, (_, has_check) in classes().items() if has_check], ids="-".join)
def test_whoever_checks_states_a_law(key: tuple[str, str]) -> None:
    if key[1] != Machine.__name__:
        assert classes()[key][0]


def test_the_page_explains_the_whole_door() -> None:
    door = [name for name in vars(Machine) if not name.startswith("_")]
    section = documents.sections(documents.text("docs/machines.md"))["The door"]
    assert {name for row in documents.table(section) for name in re.findall(r"`(\w+)\(", row["call"])} == set(door)
