"""One libtorrent node: fetches a torrent and serves it on, until it is told to end (SIGTERM).

    python -m bench.torrent --torrent FILE --save DIR --listen HOST:PORT [--marker FILE] [--seed] [--account FILE]

The marker is written when everything is there; it holds the CPU seconds that were used before the first byte. The
account, written at the end, holds the octets sent. Only what a plain client would use, without DHT, LSD and uTP: the
tracker tells who is there, and TCP is what everybody else here uses.
"""

from __future__ import annotations

import argparse
import signal
import time
from pathlib import Path
from types import FrameType
from typing import Any

import libtorrent


def settings(listen: str) -> Any:
    return {
        "listen_interfaces": listen,
        "alert_mask": libtorrent.alert.category_t.status_notification
        | libtorrent.alert.category_t.error_notification
        | libtorrent.alert.category_t.storage_notification,
        # All receivers of bench/loopback have one address.
        "allow_multiple_connections_per_ip": True,
        "ssrf_mitigation": False,
        "enable_dht": False,
        "enable_lsd": False,
        "enable_upnp": False,
        "enable_natpmp": False,
        "enable_incoming_utp": False,
        "enable_outgoing_utp": False,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torrent", required=True)
    parser.add_argument("--save", required=True)
    parser.add_argument("--listen", required=True)
    parser.add_argument("--marker", type=Path)
    parser.add_argument("--account", type=Path)
    parser.add_argument("--seed", action="store_true", help="the content is there already")
    chosen = parser.parse_args()
    going = False

    def go(_: int, __: FrameType | None) -> None:
        nonlocal going
        going = True

    signal.signal(signal.SIGTERM, go)
    session = libtorrent.session(settings(chosen.listen))
    wanted = libtorrent.add_torrent_params()
    wanted.ti = libtorrent.torrent_info(chosen.torrent)
    wanted.save_path = chosen.save
    flags = libtorrent.torrent_flags
    wanted.flags &= ~(flags.auto_managed | flags.paused)
    if chosen.seed:
        wanted.flags |= flags.seed_mode
    handle = session.add_torrent(wanted)
    before = time.process_time()
    print('{"event": "ready"}', flush=True)
    while not going:
        session.wait_for_alert(200)
        for alert in session.pop_alerts():
            if isinstance(alert, libtorrent.torrent_finished_alert):
                # All is proven; what is still in its cache is no file yet.
                handle.flush_cache()
            elif isinstance(alert, libtorrent.cache_flushed_alert) and chosen.marker:
                chosen.marker.write_text(f"{before}")
            elif isinstance(alert, libtorrent.torrent_error_alert | libtorrent.file_error_alert):
                raise SystemExit(str(alert))
    if chosen.account:
        chosen.account.write_text(str(handle.status().total_upload))


if __name__ == "__main__":
    main()
