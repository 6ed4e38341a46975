"""Finding the peer of a home, or starting it: once, however many ask at the same moment. The peer itself is in peer."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import dfmq
from dfmq.edges.store.lock import has_owner, unusable
from dfmq.errors import InvariantViolated, SettingsError, StoreError, TransferError, from_code
from dfmq.nodes.get import HostPeer, PeerLost
from dfmq.wire.messages import Answer

#: A peer is ready in a quarter second; ten that start at once on a small machine want a few.
START_SECONDS = 30.0
#: A living peer answers in milliseconds; one on a host under heavy load may take seconds.
ANSWER_SECONDS = 10.0
#: One that somebody else has just started answers after so long, or has not been a peer.
COMING_SECONDS = 5.0
#: the log of peers that were started here; begun anew when it is larger
MOST_LOG_BYTES = 4 << 20


def host_peer(
    home: Path, brokers: tuple[str, ...] = (), *, config: Path | None = None, idle_exit: float = 300.0
) -> tuple[HostPeer, Answer]:
    """A connection to the peer of `home`, which is started if none runs, and what it says of itself.

    `brokers`: what the peer must be configured with; (): whatever it has. `idle_exit`: seconds, for a peer that is
    started. Raises SettingsError when a running peer has other brokers, the peer's own error when it cannot start,
    PeerLost when it does not answer.
    """
    peer = HostPeer(home)
    with contextlib.ExitStack() as unwinding:
        unwinding.callback(peer.close)
        answer = _reach(peer, brokers, config, idle_exit)
        if brokers and set(answer.brokers) != set(brokers):
            theirs = ", ".join(answer.brokers) or "none"
            raise SettingsError(
                f"the peer of {home} (process {answer.pid}) runs with broker {theirs}, not with {', '.join(brokers)}: "
                "leave --broker out, use another --home, or stop that peer"
            )
        unwinding.pop_all()
    return peer, answer


def _reach(peer: HostPeer, brokers: tuple[str, ...], config: Path | None, idle_exit: float) -> Answer:
    if peer.connect(ANSWER_SECONDS):
        # It may be at its end just now, idle for long enough: then the next one is started.
        with contextlib.suppress(PeerLost):
            return peer.ask(ANSWER_SECONDS)
    with _start_lock(peer.home):
        if not peer.connect(ANSWER_SECONDS):
            try:
                _start(peer.home, brokers, config, idle_exit)
            except SettingsError:
                if not _is_coming(peer):
                    raise
            if not peer.connect(ANSWER_SECONDS):
                raise TransferError(f"the peer of {peer.home} was ready and is gone: see {peer.home / 'peer.log'}")
        return peer.ask(ANSWER_SECONDS)


def _is_coming(peer: HostPeer) -> bool:
    """Whether another peer has the home, as one that a service manager started at the same moment, and answers soon."""
    deadline = time.monotonic() + COMING_SECONDS
    while has_owner(peer.home) and time.monotonic() < deadline:
        if peer.connect(ANSWER_SECONDS):
            return True
        time.sleep(0.05)
    return False


@contextlib.contextmanager
def _start_lock(home: Path) -> Iterator[None]:
    """Held by the one who looks whether a peer runs and starts it. Raises SettingsError, NoSpace, TransferError."""
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(home / "start.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise unusable(home, error) from error
    try:
        deadline = time.monotonic() + 2 * START_SECONDS
        # flock has no deadline of its own, and whoever holds it may be frozen.
        while not _locked(descriptor):
            if time.monotonic() > deadline:
                raise TransferError(
                    f"another process has been starting the peer of {home} for too long; run this again"
                )
            time.sleep(0.01)
        yield
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _start(home: Path, brokers: tuple[str, ...], config: Path | None, idle_exit: float) -> None:
    """Start a peer that outlives us, and wait until it is ready. Raises what the peer says hinders it."""
    log = home / "peer.log"
    with contextlib.suppress(OSError):
        if log.stat().st_size > MOST_LOG_BYTES:
            log.unlink()
    ready, theirs = os.pipe()
    try:
        os.set_inheritable(theirs, True)
        process = _spawn(_command(home, brokers, config, idle_exit, theirs), log)
    except OSError as error:
        os.close(ready)
        raise StoreError(f"cannot start the peer of {home}: {error.strerror or error}") from error
    finally:
        os.close(theirs)
    try:
        said, is_over = _read_all(ready, START_SECONDS)
    finally:
        os.close(ready)
    word, _, rest = said.decode(errors="replace").strip().partition(" ")
    if word == "ready":
        return
    if not is_over:
        raise TransferError(
            f"the peer of {home} was started (process {process}) and is not ready after {START_SECONDS:g} s: see {log}"
        )
    _, status = os.waitpid(process, 0)
    if word == "error":
        code, _, text = rest.partition(" ")
        raise from_code(code, f"{text}; see {log}" if code == InvariantViolated.code else text)
    ended = os.waitstatus_to_exitcode(status)
    raise TransferError(f"the peer of {home} was started and ended with status {ended}: see {log}")


def _command(home: Path, brokers: tuple[str, ...], config: Path | None, idle_exit: float, ready_fd: int) -> list[str]:
    command = [sys.executable, "-P", "-m", "dfmq.cli.peer", "--home", str(home)]
    command += ["--idle-exit", f"{idle_exit:g}s", "--ready-fd", str(ready_fd)]
    if config is not None:
        command += ["--config", str(config)]
    for broker in brokers:
        command += ["--broker", broker]
    return command


def _spawn(command: list[str], log: Path) -> int:
    """A process in a session of its own, its output in `log`. -P in the command keeps the user's directory off the
    import path; ours is put there, so that a checkout works uninstalled."""
    ours = str(Path(dfmq.__file__).resolve().parents[1])
    environment = dict(os.environ)
    environment["PYTHONPATH"] = os.pathsep.join([ours, *filter(None, [environment.get("PYTHONPATH")])])
    append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    return os.posix_spawn(
        command[0],
        command,
        environment,
        setsid=True,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), append, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
    )


def _read_all(descriptor: int, seconds: float) -> tuple[bytes, bool]:
    """What comes until the other end is closed, or until the time is over; and whether it was closed."""
    poll, said, deadline = select.poll(), b"", time.monotonic() + seconds
    poll.register(descriptor, select.POLLIN)
    while (left := deadline - time.monotonic()) > 0 and poll.poll(left * 1000):
        data = os.read(descriptor, 4096)
        if not data:
            return said, True
        said += data
    return said, False
