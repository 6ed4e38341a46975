"""The clock machines are told the time from, and wall time for records. The only place that reads either."""

from __future__ import annotations

import time

#: seconds, never falling; the same clock an asyncio loop uses
monotonic = time.monotonic
#: seconds since 1970, for people and journals
wall = time.time
