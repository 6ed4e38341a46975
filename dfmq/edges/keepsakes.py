"""What a host keeps of itself between two lives of its node, in its home: its id, and how fast it was
measured to receive. What it holds of contents is in store."""

from __future__ import annotations

import logging
import os
import secrets
from pathlib import Path
from typing import Annotated

import msgspec

from dfmq.model.ids import HOST_ID_BYTES, HostId

log = logging.getLogger(__name__)

ID_FILE = "host.id"
RATES_FILE = "rates.json"


def host_id(home: Path) -> HostId:
    """The broker remembers a host's health by it, over restarts of its peer."""
    path = home / ID_FILE
    if path.exists():
        held = path.read_bytes()
        if len(held) == HOST_ID_BYTES:
            return HostId(held)
    made = secrets.token_bytes(HOST_ID_BYTES)
    path.write_bytes(made)
    return HostId(made)


class _Rates(msgspec.Struct, frozen=True):
    """Bytes per second; within what the bus can say."""

    down: Annotated[int, msgspec.Meta(ge=0, lt=2**50)] = 0


def down_rate(home: Path) -> int:
    """As `keep_down_rate` wrote it, bytes per second. A file that is not there or says nothing sensible is a host that
    was never measured: 0."""
    try:
        return msgspec.json.decode((home / RATES_FILE).read_bytes(), type=_Rates).down
    except (OSError, msgspec.MsgspecError):
        return 0


def keep_down_rate(home: Path, down: int) -> None:
    """Write it down, where it is another than the one that stands there. Whoever cannot goes on: the next life begins
    without, as the first one did."""
    if down == down_rate(home):
        return
    fresh = home / f"{RATES_FILE}.new"
    try:
        fresh.write_bytes(msgspec.json.encode(_Rates(down)) + b"\n")
        os.replace(fresh, home / RATES_FILE)
    except OSError as error:
        log.warning("cannot keep the measured rate in %s: %s", home / RATES_FILE, error)
