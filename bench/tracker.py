"""Torrents for the rivals: the file that names a content, and a tracker that tells who has it. Moves no content.

python -m bench.tracker HOST:PORT
"""

from __future__ import annotations

import hashlib
import http.server
import random
import sys
from pathlib import Path
from typing import ClassVar
from urllib.parse import parse_qs, unquote_to_bytes, urlsplit

KIB = 1 << 10
#: Peers told at once, and seconds until one asks again: what opentracker does, but for the time, which is short because
#: everything here is over in less than its half hour.
MOST_PEERS = 50
INTERVAL_SECONDS = 5

Value = int | bytes | str | list["Value"] | dict[str, "Value"]


def bencode(value: Value) -> bytes:
    """A value as torrents write it (BEP 3)."""
    if isinstance(value, int):
        return b"i%de" % value
    if isinstance(value, str):
        value = value.encode()
    if isinstance(value, bytes):
        return b"%d:%s" % (len(value), value)
    if isinstance(value, list):
        return b"l%se" % b"".join(map(bencode, value))
    inner = b"".join(bencode(key) + bencode(value[key]) for key in sorted(value))
    return b"d%se" % inner


def piece_length(size: int) -> int:
    """At most a thousand pieces, of 64 KiB to 4 MiB: small enough to be passed on early, large enough to be cheap."""
    length = 64 * KIB
    while length < 4096 * KIB and size > 1000 * length:
        length *= 2
    return length


def make_torrent(content: Path, announce: str, target: Path) -> None:
    """Write the torrent of one file."""
    length = piece_length(content.stat().st_size)
    pieces = bytearray()
    with content.open("rb") as file:
        while piece := file.read(length):
            pieces += hashlib.sha1(piece, usedforsecurity=False).digest()
    info: dict[str, Value] = {
        "length": content.stat().st_size, "name": content.name, "piece length": length, "pieces": bytes(pieces)
    }  # fmt: skip
    target.write_bytes(bencode({"announce": announce, "info": info}))


class Tracker(http.server.BaseHTTPRequestHandler):
    """Answers announces (BEP 3, compact as in BEP 23)."""

    swarms: ClassVar[dict[bytes, dict[tuple[str, int], None]]] = {}

    def do_GET(self) -> None:
        query = urlsplit(self.path).query
        asked = parse_qs(query)
        swarm = self.swarms.setdefault(_info_hash(query), {})
        me = (self.client_address[0], int(asked["port"][0]))
        if asked.get("event") == ["stopped"]:
            swarm.pop(me, None)
        others = [peer for peer in swarm if peer != me]
        if asked.get("event") != ["stopped"]:
            swarm[me] = None
        told = random.sample(others, min(len(others), MOST_PEERS))
        peers = b"".join(bytes(map(int, host.split("."))) + port.to_bytes(2, "big") for host, port in told)
        body = bencode({"interval": INTERVAL_SECONDS, "min interval": INTERVAL_SECONDS, "peers": peers})
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nobody reads it."""


def _info_hash(query: str) -> bytes:
    """The swarm's name: any octets, which parse_qs would take for text."""
    words = (word.partition("=") for word in query.split("&"))
    return next(unquote_to_bytes(value) for name, _, value in words if name == "info_hash")


def main() -> None:
    host, _, port = sys.argv[1].rpartition(":")
    server = http.server.ThreadingHTTPServer((host, int(port)), Tracker)
    print('{"event": "ready"}', flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
