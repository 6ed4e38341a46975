"""The command dfmq-peer: flags → settings → the node. What a peer does is in nodes/peer."""

from __future__ import annotations

import os
import sys

import click

from dfmq.cli import ending
from dfmq.cli.service import Herald, common_flags, configure_logging


@click.command()
@click.option("--broker", "brokers", multiple=True, metavar="ENDPOINT", help="tcp://HOST:7400; may be repeated.")
@click.option("--listen", metavar="ENDPOINT", help="Other peers reach this one here; port 0 takes a free one.")
@click.option("--advertise", metavar="HOST", help="The name or address others reach this host at.")
@click.option("--idle-exit", metavar="TIME", help="End when there was nothing to do for so long; 0: never.")
@click.option("--up-limit", metavar="RATE", help="Send at most so much, as 50MB/s or 400Mbit/s; 0: no limit.")
@click.option("--down-limit", metavar="RATE", help="Receive at most so much.")
@click.option("--slots", metavar="N", help="Children served at once before rates are known.")
@click.option(
    "--zone", metavar="NAME", help="Where this host is: a site, a rack. What a zone has it does not bring in again."
)
@common_flags
@click.option("--ready-fd", type=int, default=-1, hidden=True)
def command(
    brokers: tuple[str, ...],
    listen: str | None,
    advertise: str | None,
    idle_exit: str | None,
    up_limit: str | None,
    down_limit: str | None,
    slots: str | None,
    zone: str | None,
    home: str | None,
    quota: str | None,
    free_floor: str | None,
    config: str | None,
    verbose: int,
    log: str | None,
    json: bool,
    ready_fd: int,
) -> int:
    """Keep this host's contents, and share them with the peers of other hosts."""
    with Herald("peer", json=json, descriptor=ready_fd) as herald:
        if ready_fd >= 0:
            # Started by dfmq-get in whatever directory its user stood: do not hold on to that.
            os.chdir("/")
        configure_logging(verbose, log)
        from dfmq.cli.options import config_path, doubtful_variables, peer_settings
        from dfmq.nodes.process import run_peer

        flags = {
            "home": home,
            "brokers": brokers,
            "peer.listen": listen,
            "peer.advertise": advertise,
            "peer.idle-exit": idle_exit,
            "peer.up-limit": up_limit,
            "peer.down-limit": down_limit,
            "peer.slots": slots,
            "peer.zone": zone,
            "store.quota": quota,
            "store.free-floor": free_floor,
        }
        settings = peer_settings(flags, os.environ, config_path(config, os.environ))
        for line in doubtful_variables(os.environ):
            print(f"dfmq-peer: {line}", file=sys.stderr)
        return run_peer(settings, herald.ready)


def main() -> int:
    """The entry point."""
    return ending.run(command, "dfmq-peer")


if __name__ == "__main__":
    sys.exit(main())
