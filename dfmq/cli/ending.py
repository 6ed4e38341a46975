"""How a command ends: every outcome has its exit status and at most one line on standard error."""

from __future__ import annotations

import os
import sys

import click

from dfmq.errors import DfmqError, InvariantViolated

INTERRUPTED = 130
BUG = 70
#: What a shell sees of a program that wrote into a closed pipe (128 + SIGPIPE).
BROKEN_PIPE = 141


def run(command: click.Command, name: str) -> int:
    """Run a click command; its exit status. `name`: what the user typed, printed before what went wrong."""
    try:
        status = command.main(prog_name=name, standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        # click prints nothing on Abort; the ^C on the terminal has no line end.
        print(f"\n{name}: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # Nobody reads us any more. Let the interpreter's last flush go nowhere instead of failing.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return BROKEN_PIPE
    except InvariantViolated as error:
        return _bug(name, error)
    except DfmqError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return error.exit_status
    except Exception as error:  # noqa: BLE001  # the last door: what nobody has named is a bug, and must say so
        return _bug(name, error)
    return status if isinstance(status, int) else 0


def _bug(name: str, error: Exception) -> int:
    wants_traceback = os.environ.get("DFMQ_DEBUG", "") not in ("", "0")
    how = "" if wants_traceback else "; DFMQ_DEBUG=1 shows where"
    print(f"{name}: this is a bug of dfmq, please report it: {type(error).__name__}: {error}{how}", file=sys.stderr)
    if wants_traceback:
        import traceback

        traceback.print_exception(error)
    return BUG
