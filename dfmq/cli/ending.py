"""How a command ends: every outcome has its exit status and at most one line on standard error."""

from __future__ import annotations

import errno
import io
import os
import sys

from dfmq.errors import DfmqError, InvariantViolated, NoSpace, StoreError

#: typing's own takes 3 CPU-ms to load, contextlib and collections.abc another 3, and click 30: dfmq-get may need none
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType, TracebackType
    from typing import NoReturn

    import click
    from _typeshed import ReadableBuffer

INTERRUPTED = 130
BUG = 70
#: What a shell sees of a program that wrote into a closed pipe (128 + SIGPIPE).
BROKEN_PIPE = 141


def run(command: click.Command, name: str) -> int:
    """Run a click command; its exit status. `name`: what the user typed, printed before what went wrong."""
    return guarded(lambda: run_click(command, name), name)


def run_click(command: click.Command, name: str, known: object = None) -> int:
    """As run, and whatever is no matter of arguments is raised. `known`: the context's obj."""
    import click

    try:
        # Not command.main(): that would end the process on a closed pipe, and by its own rules.
        with Writing():
            # Nothing is written here but --help and --version.
            made = command.make_context(name, sys.argv[1:], obj=known)
        with made as context:
            status = command.invoke(context)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.exceptions.Exit as done:
        # --help and --version
        return done.exit_code
    return status if isinstance(status, int) else 0


def guarded(act: Callable[[], int], name: str) -> int:
    """The exit status of whatever becomes of `act`."""
    _open_streams()
    try:
        status = _judged(act, name)
    except BrokenPipeError:
        # Nobody reads us any more.
        status = BROKEN_PIPE
    try:
        sys.stdout.flush()
    except OSError:
        # Let the interpreter's last flush go nowhere instead of failing.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return status


def _judged(act: Callable[[], int], name: str) -> int:
    status = 0
    try:
        status = act()
        with Writing():
            sys.stdout.flush()
    except KeyboardInterrupt:
        # The ^C on a terminal has no line end.
        print(f"\n{name}: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        raise
    except DfmqError as error:
        # What has failed before has said so.
        if not status:
            print(f"{name}: {sentence(error)}", file=sys.stderr)
            _show_where(error)
        return status or error.exit_status
    except Exception as error:  # noqa: BLE001  # the last door: what nobody has named is a bug, and must say so
        print(f"{name}: {sentence(error)}", file=sys.stderr)
        _show_where(error)
        return BUG
    return status


class Writing:
    """Inside: what standard output does not take is a failure with a name, NoSpace or StoreError. That nobody reads it
    any more stays BrokenPipeError."""

    def __enter__(self) -> None:
        return

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None) -> None:
        if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
            kind = NoSpace if error.errno in (errno.ENOSPC, errno.EDQUOT) else StoreError
            raise kind(
                f"standard output: {error.strerror}; what was to be said there is missing, outputs are not: "
                "make room where it leads, or lead it elsewhere"
            ) from error


class _Heedless(io.FileIO):
    """Standard error. What it does not take is lost: there is nowhere to say so, and nobody fails for want of it."""

    def write(self, octets: ReadableBuffer, /) -> int:
        try:
            return super().write(octets)
        except BrokenPipeError:
            raise
        except OSError:
            return memoryview(octets).nbytes


def _open_streams() -> None:
    """A standard stream that was closed before we began goes nowhere: no socket, and no output, gets its number. What
    standard output has no character for is no reason to fail either."""
    while (spare := os.open(os.devnull, os.O_RDWR)) <= 2:
        continue
    os.close(spare)
    for name, number in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w", errors="replace", closefd=False))
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    if sys.stderr is sys.__stderr__ and isinstance(sys.stderr, io.TextIOWrapper):
        octets = io.BufferedWriter(_Heedless(2, "w", closefd=False))
        sys.stderr = io.TextIOWrapper(octets, sys.stderr.encoding, sys.stderr.errors, line_buffering=True)


def end_on_signals() -> None:
    """A polite end for each signal that asks for one: KeyboardInterrupt, so that the peer is told that we go, and
    nothing half-made is left."""
    import signal

    def end(_: int, __: FrameType | None) -> None:
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # nohup's wish is respected
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, end)


def leave(status: int) -> NoReturn:
    """End the process as it is: to take its modules apart, for a system that frees all of it anyway, would be a tenth
    of the CPU time of a short command. All files and sockets must be closed."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            # Standard output was flushed where that could fail.
            continue
    os._exit(status)


def sentence(error: Exception) -> str:
    """What the user reads. Anything without a name of its own is a bug, and ours."""
    if not isinstance(error, DfmqError):
        return f"this is a bug of dfmq, please report it: {type(error).__name__}: {error}; DFMQ_DEBUG=1 shows where"
    if isinstance(error, InvariantViolated):
        return f"this is a bug of dfmq, please report it: {error}"
    return str(error)


def _show_where(error: Exception) -> None:
    if os.environ.get("DFMQ_DEBUG", "") not in ("", "0"):
        import traceback

        traceback.print_exception(error)
