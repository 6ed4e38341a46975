"""Finding the host's peer or starting it, once; and what is said when it cannot start. The peers here are scripts."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.fake_peer import FakePeer

from dfmq.errors import BrokerUnreachable, SettingsError, TransferError
from dfmq.nodes import starting
from dfmq.nodes.starting import host_peer

TESTS = Path(__file__).parents[1]

#: A peer that counts its starts, lives until it is told to end, and leaves the ready descriptor to the fake's life.
LIVING = f"""
import os, signal, sys
sys.path.insert(0, {str(TESTS)!r})
from pathlib import Path
from support.fake_peer import FakePeer
home, ready = Path(sys.argv[1]), int(sys.argv[2])
with open(home / "starts", "a") as starts:
    starts.write(f"{{os.getpid()}}\\n")
with FakePeer(home):
    os.write(ready, b"ready\\n")
    os.close(ready)
    signal.sigwait([signal.SIGTERM])
"""


class Scripted:
    """What is run in place of the peer."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.text = LIVING
        self.commands: list[list[str]] = []

    def command(self, *arguments: object) -> list[str]:
        self.commands.append(starting_command(*arguments))  # type: ignore[arg-type]
        return [sys.executable, "-c", self.text, str(self.home), str(arguments[-1])]

    def started(self) -> list[int]:
        starts = self.home / "starts"
        return [int(line) for line in starts.read_text().split()] if starts.exists() else []


starting_command = starting._command


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scripted]:
    script = Scripted(tmp_path / "home")
    monkeypatch.setattr(starting, "_command", script.command)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])  # inherited, so that the script can wait for it
    yield script
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    for process in script.started():
        os.kill(process, signal.SIGTERM)
        os.waitpid(process, 0)


def test_a_peer_is_started_where_none_runs_and_found_where_one_does(script: Scripted) -> None:
    for _ in range(2):
        peer, answer = host_peer(script.home)
        assert [answer.pid] == script.started()
        peer.close()
    assert os.getsid(answer.pid) == answer.pid


def test_ten_that_start_at_once_start_one(script: Scripted) -> None:
    answers: list[int] = []

    def reach() -> None:
        peer, answer = host_peer(script.home)
        answers.append(answer.pid)
        peer.close()

    threads = [threading.Thread(target=reach) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == script.started() * 10


def test_the_peer_gets_what_it_needs_and_no_secret(script: Scripted) -> None:
    peer, _ = host_peer(script.home, config=Path("/c.toml"), idle_exit=7)
    peer.close()
    command = script.commands[0]
    assert command[:5] == [sys.executable, "-P", "-m", "dfmq.cli.peer", "--home"]
    assert command[5:8] == [str(script.home), "--idle-exit", "7s"]
    assert command[-2:] == ["--config", "/c.toml"]


@pytest.mark.parametrize(
    ("script_text", "error", "text"),
    [
        ("os.write(fd, b'error settings address in use: choose another\\n')", SettingsError, "in use: choose another"),
        ("os.write(fd, b'error broker_unreachable nobody there\\n')", BrokerUnreachable, "nobody there"),
        ("sys.exit(3)", TransferError, "ended with status 3: see "),
        ("os.kill(os.getpid(), 9)", TransferError, "ended with status -9: see "),
    ],
)
def test_what_hinders_the_peer_is_our_error(
    script: Scripted, script_text: str, error: type[Exception], text: str
) -> None:
    script.text = f"import os, sys; fd = int(sys.argv[2]); {script_text}"
    with pytest.raises(error, match=text):
        host_peer(script.home)


def test_one_that_somebody_else_starts_at_the_same_moment_is_taken(script: Scripted) -> None:
    """As a service manager does when a peer dies under a get."""
    script.home.mkdir()
    (script.home / "lock").write_text(f"{os.getpid()}\n")
    script.text = "import os, sys; os.write(int(sys.argv[2]), b'error settings home is in use by process 1\\n')"
    coming = threading.Event()
    connect = starting.HostPeer.connect

    def slow(peer: starting.HostPeer, patience: float) -> bool:
        if script.commands:
            coming.set()
        return connect(peer, patience)

    def come() -> None:
        coming.wait(20)
        with FakePeer(script.home):
            over.wait(20)

    over = threading.Event()
    thread = threading.Thread(target=come)
    thread.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(starting.HostPeer, "connect", slow)
        peer, answer = host_peer(script.home)
    peer.close()
    over.set()
    thread.join()
    assert answer.pid == os.getpid()


def test_a_home_that_is_no_peers_is_told_soon(script: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starting, "COMING_SECONDS", 0.1)
    script.home.mkdir()
    (script.home / "lock").write_text(f"{os.getpid()}\n")
    script.text = "import os, sys; os.write(int(sys.argv[2]), b'error settings home is in use by process 1\\n')"
    with pytest.raises(SettingsError, match="is in use by process 1"):
        host_peer(script.home)


def test_the_log_has_what_the_peer_printed(script: Scripted) -> None:
    script.text = "import sys; print('to stdout', flush=True); sys.exit('to stderr')"
    with pytest.raises(TransferError, match=r"see .*peer\.log"):
        host_peer(script.home)
    assert (script.home / "peer.log").read_text() == "to stdout\nto stderr\n"


def test_a_peer_that_is_never_ready_is_not_waited_for_for_ever(
    script: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(starting, "START_SECONDS", 0.3)
    script.text = LIVING.replace('os.write(ready, b"ready\\n")', "pass").replace("os.close(ready)", "pass")
    with pytest.raises(TransferError, match="is not ready after"):
        host_peer(script.home)
    # It may come up yet; the fixture ends it if it has got so far.
    while not script.started():
        pass


def test_brokers_are_compared_as_sets_and_named_when_they_differ(tmp_path: Path) -> None:
    with FakePeer(tmp_path, brokers=("tcp://a:1", "tcp://b:2")):
        peer, _ = host_peer(tmp_path, ("tcp://b:2", "tcp://a:1"))
        peer.close()
        with pytest.raises(SettingsError, match=r"runs with broker tcp://a:1, tcp://b:2, not with tcp://a:1:"):
            host_peer(tmp_path, ("tcp://a:1",))
        peer, _ = host_peer(tmp_path)
        peer.close()


def test_the_socket_of_a_deep_home_is_short_and_private(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 120)
    with FakePeer(deep):
        peer, answer = host_peer(deep)
        assert answer.pid == os.getpid()
        peer.close()
    assert os.stat(f"/tmp/dfmq-{os.getuid()}").st_mode & 0o777 == 0o700
