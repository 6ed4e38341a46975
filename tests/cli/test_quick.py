"""The quick way of dfmq-get: what it takes upon itself means the same to the whole command. That both ways do the same
with a peer is shown in test_get_command."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.fake_peer import FakePeer, progress

from dfmq.cli import quick
from dfmq.cli.get_command import command
from dfmq.cli.request import Maker
from dfmq.model.task import Request, file_name, shown
from dfmq.wire import codec
from dfmq.wire.messages import Get, Message, Progress, Release

URL = "http://source/data.bin"

#: what a plain URL is, said once more
PLAIN_URL = re.compile(r"(?:https?://[A-Za-z0-9.-]*[A-Za-z0-9](?::([1-9][0-9]*))?|file://)/[A-Za-z0-9._~+=,/-]*\Z")

_FLAGS = "-q --quiet --no-source --json -o --output --home --broker --tag -oX --output=y - --"
_VALUES = f"x a/b . .. tcp://b:1 {URL} file:///a/b http://h/ http://h/.. ftp://h/x"
words = st.sampled_from([*_FLAGS.split(), *_VALUES.split(), ""])
urls = st.text(st.sampled_from("ahtps:/.-_~%@?#&=+,0189[] \tüZ"), max_size=30)
plain_urls = st.from_regex(PLAIN_URL, fullmatch=True)
command_lines = st.lists(words | urls.map("http://".__add__) | plain_urls, max_size=6)


@given(command_lines)
def test_what_is_taken_for_plain_is_the_same_to_the_whole_command(arguments: list[str]) -> None:
    plain = quick.read(arguments, {"DFMQ_HOME": "/home"})
    if plain is None:
        return
    read = command.make_context("dfmq-get", list(arguments)).params
    meant = {"url", "output", "home", "brokers", "quiet", "no_source"}
    assert not any(value for name, value in read.items() if name not in meant)
    assert plain.url == read["url"]
    assert plain.target == str(Path(read["output"] or file_name(read["url"])))
    assert plain.home == (read["home"] and str(Path(read["home"]).absolute())) or plain.home == "/home"
    assert plain.brokers == set(read["brokers"])
    assert (plain.quiet, plain.no_source) == (read["quiet"], read["no_source"])


@given(plain_urls | urls | urls.map("http://".__add__) | urls.map("http://h:".__add__))
def test_a_url_is_plain_as_the_expression_for_it_says(url: str) -> None:
    found = PLAIN_URL.match(url)
    assert quick._is_plain(url) == (found is not None and int(found[1] or 1) <= 65_535)


@given(st.text(st.sampled_from("/.ab-"), min_size=1))
def test_an_output_is_shown_as_a_path_is(name: str) -> None:
    assert quick._path(name) == str(Path(name))


@given(plain_urls)
def test_a_plain_url_is_valid_and_may_be_shown_and_printed_as_it_stands(url: str) -> None:
    if quick.read([url], {"DFMQ_HOME": "/home"}) is not None:
        assert Maker()(url).url == url == shown(url)


@pytest.mark.parametrize(
    "environment",
    [{"DFMQ_CONFIG": "/x.toml"}, {"DFMQ_GET_LIMIT": "1MB/s"}, {"DFMQ_TYPO": "1"}, {"DFMQ_HEADERS_FILE": "x"}],
)
def test_where_the_environment_may_hold_settings_it_is_left_to_the_whole_command(environment: dict[str, str]) -> None:
    assert quick.read([URL], environment) is None
    assert quick.read([URL], {"HOME": "/root"}) is not None


def test_the_broker_of_the_environment_counts_where_no_flag_is_given() -> None:
    environment = {"DFMQ_HOME": "/h", "DFMQ_BROKER": "tcp://a:1, tcp://b:2"}
    plain = quick.read([URL], environment)
    assert plain is not None and plain.brokers == {"tcp://a:1", "tcp://b:2"}
    plain = quick.read([URL, "--broker", "tcp://c:3"], environment)
    assert plain is not None and plain.brokers == {"tcp://c:3"}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr("dfmq.cli.ending.end_on_signals", lambda: None)
    return tmp_path


def attempt(here: Path, *arguments: str) -> int | None:
    return quick.attempt([URL, *arguments], {"DFMQ_HOME": str(here / "home")}, quick.Known())


def test_a_plain_get_is_done_with_three_words(here: Path) -> None:
    with FakePeer(here / "home") as peer:
        assert attempt(here, "-q") == 0
        peer.die()
    assert peer.asks == 1
    assert peer.gets == [Get(get=1, request=Request(url=URL), unwatched=True)]
    (release,) = peer.releases
    assert release == Release(get=1, linked=True, ctime_before=release.ctime_before, ctime_after=release.ctime_after)
    assert 0 < release.ctime_before <= release.ctime_after


def test_a_peer_without_a_broker_is_told_of_unless_quiet(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with FakePeer(here / "home") as peer:
        assert attempt(here) == 0
        assert (peer.asks, capsys.readouterr().err.count("no broker is configured")) == (1, 1)


def test_nothing_is_loaded_for_it_that_takes_long(here: Path) -> None:
    heavy = "click", "msgspec", "zmq", "typing", "inspect", "asyncio", "re", "pathlib", "contextlib"
    code = (
        "import sys; from dfmq.cli import quick; "
        f"print(quick.attempt([{URL!r}, '-q'], {{'DFMQ_HOME': {str(here / 'home')!r}}}, quick.Known()), "
        f"[name for name in {heavy} if name in sys.modules])"
    )
    with FakePeer(here / "home"):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert done.stdout == "0 []\n"


def test_a_pipe_or_a_device_is_left_to_the_whole_command(here: Path) -> None:
    os.mkfifo("pipe")
    with FakePeer(here / "home") as peer:
        assert attempt(here, "-q", "-o", "pipe") is attempt(here, "-q", "-o", "/dev/null") is None
        assert not peer.gets


def test_without_a_peer_it_is_left_to_the_whole_command(here: Path) -> None:
    assert attempt(here, "-q") is None
    assert not (here / "home").exists()


def test_a_peer_of_another_version_is_left_to_the_whole_command(here: Path) -> None:
    with FakePeer(here / "home", signature=b"\xdf\x51\x63"):
        assert attempt(here, "-q") is None


def test_a_silent_peer_is_left_to_the_whole_command(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quick, "SILENCE_SECONDS", 0.05)
    with FakePeer(here / "home", silent=True) as peer:
        assert attempt(here, "-q") is None
        peer.die()
    assert (peer.asks, len(peer.gets), len(peer.releases)) == (2, 1, 1)


def test_what_the_peer_said_of_itself_is_known_to_the_whole_command(here: Path) -> None:
    environment, known = {"DFMQ_HOME": str(here / "home")}, quick.Known()
    with FakePeer(here / "home", brokers=("tcp://b:1",)) as peer:
        assert quick.attempt([URL, "-q"], environment, known) == 0
        peer.die()
    assert (known.brokers, known.is_told_alone) == (("tcp://b:1",), False)


@pytest.mark.parametrize("flags", [["-q"], []])
@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_standard_stream_that_is_closed_changes_nothing_but_what_is_read(
    here: Path, flags: list[str], closed: str
) -> None:
    command = [sys.executable, "-m", "dfmq.cli.get", URL, "--home", str(here / "home"), *flags]
    with FakePeer(here / "home", brokers=("tcp://b:1",)):
        done = subprocess.run(["sh", "-c", f'exec "$@" {closed}', "sh", *command], capture_output=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, b"")
    assert os.listdir() == ["data.bin"]
    assert bool(done.stdout) == (closed == "2>&-" and not flags)


def test_a_name_that_standard_output_has_no_characters_for_is_no_failure(here: Path) -> None:
    command = [sys.executable, "-m", "dfmq.cli.get", URL, "--home", str(here / "home"), "-o", b"\xc3\xbc\xff"]
    plain = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    with FakePeer(here / "home", brokers=("tcp://b:1",)):
        done = subprocess.run(command, capture_output=True, timeout=30, env=plain)
    assert (done.returncode, done.stderr) == (0, b"")
    assert os.listdir(b".") == [b"\xc3\xbc\xff"]


def test_what_cannot_be_printed_is_no_reason_to_fetch_again(here: Path) -> None:
    command = [sys.executable, "-m", "dfmq.cli.get", URL, "--home", str(here / "home")]
    with FakePeer(here / "home", brokers=("tcp://b:1",)) as peer:
        with open("/dev/full", "wb") as full:
            done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, timeout=30)
        peer.die()
    assert done.returncode == 7
    assert len(peer.gets) == 1


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"\xc1",
        b"\x93\1\2\3",
        msgpack.packb({"op": "done", "get": 1}),
        msgpack.packb({"op": 5}),
        b"\x81\xa2op\xc0",
        b"\x81\xa2op\x90",
    ],
)
def test_garbage_of_a_peer_is_left_to_the_whole_command(
    here: Path, monkeypatch: pytest.MonkeyPatch, garbage: bytes
) -> None:
    def reply(get: Get) -> list[Message]:
        return [progress(get, 100, 1)]

    monkeypatch.setattr("support.fake_peer.codec.encode", lambda _: garbage)
    with FakePeer(here / "home", reply) as peer:
        assert attempt(here, "-q") is None
        peer.die()
    assert len(peer.releases) == 1


def test_a_line_is_said_every_five_seconds_as_the_whole_command_says_it(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def reply(get: Get) -> list[Message]:
        return [
            Progress(get=get.get, length=2048, held=1024, bytes_per_second=1 << 20, parents=3),
            *peer.done_only(get),
        ]

    monkeypatch.setattr(quick, "LINE_SECONDS", 0.0)
    with FakePeer(here / "home", reply) as peer:
        assert attempt(here) == 0
    assert "data.bin: 1.0 KiB of 2.0 KiB (50 %), 1.0 MiB/s, 3 parents\n" in capsys.readouterr().err


def test_what_it_says_is_what_the_codec_would_say() -> None:
    said = msgpack.packb({"op": "get", "get": 1, "request": {"url": URL}, "no_source": True, "unwatched": True})
    assert codec.local_hears.decode(said) == Get(get=1, request=Request(url=URL), no_source=True, unwatched=True)
