"""Every clause of docs/protocol.md is shown by a test, and every test that says it shows one names one that exists."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

from support import documents

TESTS = documents.ROOT / "tests"


def clauses() -> list[str]:
    """As they stand in bold at the head of a rule."""
    return re.findall(r"^\*\*\[([A-Z]+-\d+)\]\*\*", documents.text("docs/protocol.md"), re.MULTILINE)


def marks(file: Path) -> Iterator[str]:
    """The ids in pytest.mark.clause("…") in a file, wherever it is put."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.clause":
            for argument in node.args:
                assert isinstance(argument, ast.Constant), f"{file}: a clause is named by a literal"
                yield str(argument.value)


@functools.cache
def shown() -> set[str]:
    return {mark for file in TESTS.rglob("test_*.py") for mark in marks(file)}


def test_no_clause_is_numbered_twice() -> None:
    assert len(clauses()) == len(set(clauses()))


def test_every_clause_has_a_test() -> None:
    assert set(clauses()) - shown() == set()


def test_every_mark_names_a_clause() -> None:
    assert shown() - set(clauses()) == set()


def test_every_clause_that_is_referred_to_exists() -> None:
    """SESS-1 in running text, in any document or docstring of the wire."""
    texts = [file.read_text() for file in [*documents.DOCUMENTS, *(documents.ROOT / "dfmq").rglob("*.py")]]
    families = {clause.partition("-")[0] for clause in clauses()}
    named = {found for text in texts for found in re.findall(rf"\b((?:{'|'.join(sorted(families))})-\d+)\b", text)}
    assert named - set(clauses()) == set()
