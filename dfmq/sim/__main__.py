"""`python -m dfmq.sim`: one world from the command line. Prints its report; fails as its world fails.

`--trace=host-3` (or seed, or `broker 1`; may be repeated) prints what that process hears and does.
"""

from __future__ import annotations

import gc
import sys
import time

from dfmq.sim import plan, report
from dfmq.sim.world import WorldFailed, play


def main() -> int:
    """Exit status 0: everybody alive has the content. 1: the world failed; the reason is printed."""
    arguments = sys.argv[1:]
    traced = [word.partition("=")[2] for word in arguments if word.startswith("--trace=")]
    wanted = plan.read([word for word in arguments if not word.startswith("--trace=")])
    print(wanted.command())
    started = time.process_time()
    # Nothing is garbage before the world ends.
    gc.disable()
    try:
        world = play(wanted, frozenset(traced))
    except WorldFailed as failure:
        print(f"FAILED: {failure}", file=sys.stderr)
        return 1
    seconds = time.process_time() - started
    outcome = report.of(world)
    for line in outcome.lines():
        print(line)
    print(f"records                   {outcome.records}")
    print(f"cpu                       {seconds:.1f} s, {outcome.events / max(seconds, 1e-9):,.0f} events/s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
