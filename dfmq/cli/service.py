"""What the commands that run a node share: their common flags, logging, and telling when the node is ready."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, TypeVar

import click

from dfmq import __version__
from dfmq.cli.ending import Writing
from dfmq.errors import DfmqError, SettingsError

Function = TypeVar("Function", bound=Callable[..., Any])

LEVELS = (logging.WARNING, logging.INFO, logging.DEBUG)


def common_flags(function: Function) -> Function:
    """The flags every node has."""
    flags = (
        click.option("--home", metavar="DIR", help="Store, local socket and journal live here."),
        click.option(
            "--quota", metavar="SIZE", help="The store may use so much, as 200GB; 0: only --free-floor counts."
        ),
        click.option("--free-floor", metavar="SIZE", help="So much of the disk stays free."),
        click.option("--config", metavar="FILE", help="TOML file of settings; flags and DFMQ_* go before it."),
        click.option("--verbose", "-v", count=True, help="Log more to standard error; twice for everything."),
        click.option("--log", metavar="FILE", help="Log to this file instead of standard error."),
        click.option("--json", is_flag=True, help="Say where the node listens as one JSON line."),
        click.version_option(__version__, message="%(prog)s %(version)s"),
    )
    for flag in reversed(flags):
        function = flag(function)
    return function


def configure_logging(verbose: int, file: str | None) -> None:
    """The only place where logging gets its handlers. Raises SettingsError when the file cannot be written."""
    try:
        handler = logging.FileHandler(file) if file else logging.StreamHandler()
    except OSError as error:
        raise SettingsError(f"log file {file}: {error.strerror}; choose a file you may write to") from error
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logger = logging.getLogger("dfmq")
    logger.handlers[:] = [handler]
    logger.setLevel(LEVELS[min(verbose, len(LEVELS) - 1)])


class Herald:
    """Says, once, that the node is ready, or why it is not: to the user, and on `descriptor` (-1 none) to its starter.

    On the descriptor: `ready`, or `error CODE TEXT`, then its end.
    """

    def __init__(self, node: str, *, json: bool, descriptor: int = -1) -> None:
        self._node = node
        self._json = json
        self._descriptor = descriptor

    def __enter__(self) -> Herald:
        return self

    def ready(self, endpoints: Mapping[str, Any]) -> None:
        """The node is bound and hears; `endpoints`: role → where, the main one first."""
        if self._json:
            import msgspec

            line = {"event": "ready", "node": self._node, "pid": os.getpid(), **endpoints}
            said = msgspec.json.encode(line).decode()
        else:
            where, *others = (item for item in endpoints.items() if isinstance(item[1], str) and item[1])
            more = "".join(f", {role} {endpoint}" for role, endpoint in others)
            said = f"{self._node} listens at {where[1]}{more}"
        with Writing():
            print(said, flush=True)
        self._tell(b"ready\n")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if isinstance(error, DfmqError):
            text = " ".join(str(error).split())
            self._tell(f"error {error.code} {text}\n".encode())
        elif error is not None:
            self._tell(f"error bug {type(error).__name__}: {error}\n".encode())

    def _tell(self, line: bytes) -> None:
        if self._descriptor < 0:
            return
        descriptor, self._descriptor = self._descriptor, -1
        try:
            with os.fdopen(descriptor, "wb", buffering=0) as pipe:
                pipe.write(line)
        except OSError as error:
            # Whoever started us is gone, and the node is of use without.
            print(f"nobody hears on descriptor {descriptor}: {error.strerror}", file=sys.stderr)
