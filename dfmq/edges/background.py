"""Standing back behind the host's own work: how the kernel is to schedule this process."""

from __future__ import annotations

import os


def stand_back() -> None:
    """Let whoever runs finish what it does when something comes in for us, here and in every thread started from now
    on. Our share of the processors stays what it is, and one that idles runs us at once as before.

    For what comes from the network in small parts being woken at once is of no use: a turn that begins a millisecond
    later finds more to do, is not interrupted in its turn by the thread of its own process that reads the network, and
    takes no processor from the work the host is there for. Whoever was started with another policy keeps it.
    """
    if not hasattr(os, "SCHED_BATCH") or os.sched_getscheduler(0) != os.SCHED_OTHER:
        return
    try:
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    except OSError:
        # Where a container forbids it, things are as they were.
        return
