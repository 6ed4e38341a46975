"""The entry of dfmq-get: what is plain is done the quick way; everything else is the command's."""

from __future__ import annotations

import os
import sys

from dfmq.cli import ending, quick

#: typing's own takes 3 CPU-ms to load
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def _get() -> int:
    known = quick.Known()
    status = quick.attempt(sys.argv[1:], os.environ, known)
    if status is None:
        from dfmq.cli.get_command import command

        return ending.run_click(command, "dfmq-get", known)
    return status


def run() -> int:
    """The exit status of what the arguments ask for."""
    return ending.guarded(_get, "dfmq-get")


def main() -> NoReturn:
    """The entry point."""
    ending.leave(run())


if __name__ == "__main__":
    main()
