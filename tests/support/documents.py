"""Reads the repository's Markdown as data: tables, headings, links, code blocks. Holds no opinion on what they say."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "bench").rglob("*.md")])

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def without_code(markdown: str) -> str:
    """The prose: fenced blocks taken out."""
    return _FENCE.sub("", markdown)


def blocks(markdown: str, language: str) -> list[str]:
    """The fenced blocks of one language."""
    return [body for word, body in _FENCE.findall(markdown) if word == language]


def sections(markdown: str) -> dict[str, str]:
    """Heading → what stands under it, down to the next heading of any level."""
    parts = re.split(r"^#+ +(.+)$", without_code(markdown), flags=re.MULTILINE)
    return {heading.strip(): body for heading, body in zip(parts[1::2], parts[2::2], strict=True)}


def table(section: str) -> list[dict[str, str]]:
    """The first table of a section, a dict a row, cells as written."""
    rows = []
    header: list[str] = []
    for line in section.splitlines():
        if not line.startswith("|"):
            if header:
                break
            continue
        cells = [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if not header:
            header = cells
        elif not set("".join(cells)) <= set("-: "):
            rows.append(dict(zip(header, cells, strict=True)))
    return rows


def code(cell: str) -> list[str]:
    """What stands between backticks in a cell."""
    return re.findall(r"`([^`]+)`", cell)


def anchors(markdown: str) -> set[str]:
    """The fragments a document's headings can be linked by."""
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in sections(markdown)}


def links(markdown: str) -> list[str]:
    """Targets of links and pictures."""
    return re.findall(r"\[[^\]]*\]\(([^)\s]+)\)", without_code(markdown))
