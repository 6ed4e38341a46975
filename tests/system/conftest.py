"""What nearly every system test has: a house of real processes, and a source that can be told to fail."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.processes import House
from support.sources import FaultySource


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with House(tmp_path) as house:
        yield house


@pytest.fixture
def source() -> Iterator[FaultySource]:
    with FaultySource() as source:
        yield source
