"""The command dfmq-broker: flags → settings → the node. What a broker does is in nodes/broker."""

from __future__ import annotations

import os
import sys

import click

from dfmq.cli import ending
from dfmq.cli.service import Herald, common_flags, configure_logging


@click.command()
@click.option("--listen", metavar="ENDPOINT", help="Peers reach the broker here.  [tcp://0.0.0.0:7400]")
@click.option("--publish", metavar="ENDPOINT", help="Notices go out here.  [tcp://0.0.0.0:7401]")
@click.option("--api", metavar="HOST:PORT", help="The HTTP API; none unless given.")
@click.option("--advertise", metavar="HOST", help="The name or address peers reach this host at.")
@click.option("--seed-slots", metavar="N", help="Children the embedded seed serves at once.")
@click.option("--seed-up-limit", metavar="RATE", help="The embedded seed sends at most so much; 0: no limit.")
@click.option("--zone", metavar="NAME", help="Where this host is: as --zone of a peer.")
@click.option("--files", multiple=True, metavar="DIR", help="Peers may ask for the files below DIR as file:///…")
@common_flags
def command(
    listen: str | None,
    publish: str | None,
    api: str | None,
    advertise: str | None,
    seed_slots: str | None,
    seed_up_limit: str | None,
    zone: str | None,
    files: tuple[str, ...],
    home: str | None,
    quota: str | None,
    free_floor: str | None,
    config: str | None,
    verbose: int,
    log: str | None,
    json: bool,
) -> int:
    """Read each source once, and tell the peers which piece to take from whom."""
    with Herald("broker", json=json) as herald:
        configure_logging(verbose, log)
        from dfmq.cli.options import broker_settings, config_path, doubtful_variables
        from dfmq.nodes.process import run_broker

        flags = {
            "broker.home": home,
            "broker.listen": listen,
            "broker.publish": publish,
            "broker.api": api,
            "broker.advertise": advertise,
            "broker.seed-slots": seed_slots,
            "broker.seed-up-limit": seed_up_limit,
            "broker.zone": zone,
            "broker.files": files,
            "store.quota": quota,
            "store.free-floor": free_floor,
        }
        settings = broker_settings(flags, os.environ, config_path(config, os.environ))
        for line in doubtful_variables(os.environ):
            print(f"dfmq-broker: {line}", file=sys.stderr)
        return run_broker(settings, herald.ready)


def main() -> int:
    """The entry point."""
    return ending.run(command, "dfmq-broker")


if __name__ == "__main__":
    sys.exit(main())
