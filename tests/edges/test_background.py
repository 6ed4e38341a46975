"""How the kernel is asked to schedule a node's process."""

from __future__ import annotations

import os
import subprocess
import sys

POLICIES = """
import os, threading
from dfmq.edges.background import stand_back
{before}
stand_back()
found = [os.sched_getscheduler(0)]
thread = threading.Thread(target=lambda: found.append(os.sched_getscheduler(0)))
thread.start()
thread.join()
print(found)
"""


def policies(before: str = "") -> str:
    command = [sys.executable, "-c", POLICIES.format(before=before)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()


def test_a_node_and_its_threads_take_no_processor_from_whoever_runs() -> None:
    assert policies() == str([os.SCHED_BATCH] * 2)


def test_who_was_started_with_another_policy_keeps_it() -> None:
    assert policies("os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))") == str([os.SCHED_IDLE] * 2)


def test_where_it_is_forbidden_nothing_changes() -> None:
    forbid = "def no(*_): raise PermissionError(1, 'no')\nos.sched_setscheduler = no"
    assert policies(forbid) == str([os.SCHED_OTHER] * 2)
