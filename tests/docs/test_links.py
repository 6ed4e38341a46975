"""Links resolve, and every file that a document names is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support import documents

#: A path of the repository in backticks, as `dfmq/wire/codec.py` or `tests/sim`.
NAMED = re.compile(r"`((?:dfmq|tests|bench|docs|bin|\.ci)/[\w./-]+?)/?`")


@pytest.mark.parametrize("document", documents.DOCUMENTS, ids=lambda path: str(path.relative_to(documents.ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    for link in documents.links(document.read_text()):
        if link.startswith(("https://", "http://")):
            continue
        target, _, fragment = link.partition("#")
        place = (document.parent / target).resolve() if target else document
        assert place.exists(), link
        if fragment:
            assert fragment in documents.anchors(place.read_text()), link


@pytest.mark.parametrize("document", documents.DOCUMENTS, ids=lambda path: str(path.relative_to(documents.ROOT)))
def test_named_files_exist(document: Path) -> None:
    for name in NAMED.findall(document.read_text()):
        assert (documents.ROOT / name).exists(), name


@pytest.mark.parametrize("document", documents.DOCUMENTS, ids=lambda path: str(path.relative_to(documents.ROOT)))
def test_lines_fit_a_terminal(document: Path) -> None:
    long = [
        line
        for line in documents.without_code(document.read_text()).splitlines()
        if len(line) > 130 and not line.startswith("|")
    ]
    assert not long


def test_every_document_can_be_reached_from_the_readme() -> None:
    seen: set[Path] = set()
    to_read = [documents.ROOT / "README.md"]
    while to_read:
        document = to_read.pop()
        seen.add(document)
        targets = {
            (document.parent / link.partition("#")[0]).resolve() for link in documents.links(document.read_text())
        }
        to_read += [path for path in targets if path.suffix == ".md" and path.exists() and path not in seen]
    assert set(documents.DOCUMENTS) <= seen
