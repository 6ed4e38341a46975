"""What the tests' own house leaves of nodes that did not start: nothing."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from support.processes import House


def test_a_failed_start_leaves_nothing_of_those_launched_with_it(tmp_path: Path) -> None:
    with House(tmp_path) as house, pytest.raises(AssertionError, match="a did not get ready"):
        house.peers(["a", "b"], None, "--no-such-flag")
    for node in house.nodes:
        assert node.popen.stdout is not None
        assert node.popen.stdout.closed, node.name
        # The second may be stopped before it has found out for itself.
        assert node.popen.returncode in (2, -signal.SIGTERM)
