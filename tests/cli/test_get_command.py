"""dfmq-get from its arguments to its exit status, against a peer that does as it is told."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.fake_peer import FakePeer, progress

from dfmq.cli import get as get_module
from dfmq.wire.messages import Get, Message, Sorry

URL = "http://source/data.bin"
CONTENT = b"content of http://source/data.bin"

Run = Callable[..., int]


@pytest.fixture(params=["quick where plain", "whole"])
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Run:
    """The command with these arguments, in a directory of its own; its exit status. Both ways say and do the same."""
    if request.param == "whole":
        monkeypatch.setattr("dfmq.cli.quick.attempt", lambda *_: None)
    for name in [name for name in os.environ if name.startswith("DFMQ_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("DFMQ_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("dfmq.cli.ending.end_on_signals", lambda: None)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def run(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["dfmq-get", *arguments])
        return get_module.run()

    return run


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[FakePeer]:
    with FakePeer(tmp_path / "home") as peer:
        yield peer


def test_the_content_stands_under_its_name_and_the_receipt_says_whence(
    run: Run, peer: FakePeer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(URL) == 0
    assert Path("data.bin").read_bytes() == CONTENT
    captured = capsys.readouterr()
    assert captured.out.startswith("data.bin: 33 B in 0.0")
    assert "peers 33 B" in captured.out
    assert captured.err.count("no broker is configured") == 1


def test_everything_typed_reaches_the_peer(run: Run, peer: FakePeer, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("Authorization: Bearer s3cret\n")
    flags = ["--digest", "sha256:" + "A" * 64, "-H", "Accept: a/b", "-H", f"@{tmp_path / 'secret'}", "--filter", "sig"]
    assert run(URL, *flags, "--tag", "t", "--limit", "8Mbit/s", "--no-source", "--insecure", "-o", "x") == 0
    got = peer.gets[0]
    assert (got.limit, got.no_source, got.request.tag, got.request.filters) == (1_000_000, True, "t", ("sig",))
    assert got.request.headers == (("Accept", "a/b"), ("Authorization", "Bearer s3cret"))
    assert (got.request.digest, got.request.insecure) == ("sha256:" + "A" * 64, True)


def test_a_link_is_told_to_the_peer(run: Run, peer: FakePeer) -> None:
    assert run(URL, "--quiet") == 0
    peer.die()
    linked = os.stat("data.bin").st_nlink == 2
    assert [(release.get, release.linked) for release in peer.releases] == [(1, linked)]


def test_a_dash_is_standard_output_and_messages_go_elsewhere(
    run: Run, peer: FakePeer, capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(URL, "-o", "-") == 0
    captured = capfdbinary.readouterr()
    assert captured.out == CONTENT
    assert b"written to standard output" in captured.err
    assert os.listdir() == []


def test_json_ends_with_the_receipt(run: Run, peer: FakePeer, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(URL, "--json", "-d", ".") == 0
    first, last = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (first["event"], last["event"], last["bytes"]) == ("progress", "done", 33)
    assert last["placed"] in ("reflink", "hardlink", "copy")


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("source_failed", 1),
        ("digest_mismatch", 3),
        ("broker_unreachable", 4),
        ("source_refused", 5),
        ("not_authorised", 6),
        ("no_space", 7),
        ("something_new", 1),
    ],
)
def test_a_failure_has_its_exit_status_and_leaves_the_output_as_it_was(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], code: str, status: int
) -> None:
    Path("data.bin").write_text("before")
    with FakePeer(tmp_path / "home", lambda get: [Sorry(get=get.get, code=code, text="the reason; do this")]):
        assert run(URL, "--json") == status
    captured = capsys.readouterr()
    last = json.loads(captured.out)
    assert (last["event"], last["exit"], last["text"]) == ("failed", status, "the reason; do this")
    assert f"dfmq-get: {URL}: the reason; do this\n" in captured.err
    assert Path("data.bin").read_text() == "before"
    assert os.listdir() == ["data.bin"]


def test_time_over_is_eight(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with FakePeer(tmp_path / "home", lambda get: [progress(get, 100, 1)]):
        assert run(URL, "--timeout", "50ms") == 8
    assert "what was fetched is kept" in capsys.readouterr().err


def test_an_interrupt_is_130_and_releases(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def reply(get: Get) -> list[Message]:
        return [progress(get, 100, 1)]

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with FakePeer(tmp_path / "home", reply) as peer, pytest.MonkeyPatch.context() as patch:
        patch.setattr("dfmq.cli.progress.PlainReport.progressed", interrupt)
        patch.setattr("dfmq.cli.quick._Talk._progressed", interrupt)
        assert run(URL) == 130
        peer.die()
        assert len(peer.releases) == 1
    assert "run the command again to go on" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "name a URL"),
        (["data.bin"], "is not a URL: write it with a scheme"),
        (["ftp://h/x"], "the scheme 'ftp' is unknown"),
        (["http:///x"], "names no host"),
        (["http://h:port/x"], "look at its host, port"),
        ([URL, "--digest", "sha256:12"], "sha256 needs 64 hex digits"),
        ([URL, "--digest", "crc:12"], "ALGORITHM:HEX"),
        ([URL, "-o", "."], "is a directory"),
        ([URL, "-o", "x/"], "is a directory"),
        ([URL, "-o", ""], "--output is empty"),
        ([URL, "-o", "no/such/x"], "there is no directory"),
        ([URL, "-o", "n" * 256], "too long"),
        ([URL, "-H", "Range: bytes=0-1"], "dfmq sets it itself"),
        ([URL, "-H", "Bearer s3cret"], "'Name: value'"),
        ([URL, "--limit", "fast"], "--limit: 'fast' is no rate"),
        ([URL, "--timeout", "soon"], "--timeout: 'soon' is no duration"),
        ([URL, "--broker", "b"], "write tcp://b:7400"),
        ([URL, "--cacert", "none.pem"], "--cacert none.pem: No such file"),
        ([URL, "--config", "none.toml"], "none.toml: No such file"),
        ([URL, "--tag", "t" * 300], "length <= 256"),
        (["http://h/" + "x" * 9000], "length <= 8192"),
        ([URL, "--input", "-"], "a URL and --input"),
        (["--input", "l", "-o", "x"], "--output-dir"),
        (["--input", "l", "--digest", "x"], "write digests into the list"),
        (["--input", "none"], "list none: No such file"),
        (["--no-such-flag"], "--no-such-flag"),
    ],
)
def test_bad_usage_is_two_and_starts_nothing(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], text: str
) -> None:
    assert run(*arguments) == 2
    captured = capsys.readouterr()
    assert text in captured.err
    assert "s3cret" not in captured.err
    assert not (tmp_path / "home").exists()


def test_a_home_that_is_a_file_is_named(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "home").write_text("")
    assert run(URL) == 2
    assert f"home {tmp_path / 'home'}" in capsys.readouterr().err


def test_another_broker_than_the_peers_is_named(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with FakePeer(tmp_path / "home", brokers=("tcp://a:1",)):
        assert run(URL, "--broker", "tcp://b:2") == 2
        error = capsys.readouterr().err
        assert "runs with broker tcp://a:1, not with tcp://b:2" in error
        assert run(URL, "--broker", "tcp://a:1") == 0
        assert "no broker is configured" not in capsys.readouterr().err


def test_a_bug_says_so_and_where_only_if_asked(
    run: Run, peer: FakePeer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr("dfmq.edges.output.place", broken)
    assert run(URL, "--quiet") == 70
    error = capsys.readouterr().err
    assert error == (
        "dfmq-get: this is a bug of dfmq, please report it: ZeroDivisionError: oops; DFMQ_DEBUG=1 shows where\n"
    )
    monkeypatch.setenv("DFMQ_DEBUG", "1")
    assert run(URL, "--quiet") == 70
    assert "Traceback" in capsys.readouterr().err


def test_a_list_is_done_line_by_line(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def reply(get: Get) -> list[Message]:
        if get.request.url.endswith("missing"):
            return [Sorry(get=get.get, code="source_refused", text="404")]
        return peer.done_only(get)

    text = b"http://h/a\nhttp://h/b 'two words'\nnonsense\nhttp://h/missing\nhttp://h/a\nhttp://h/c a\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
    (tmp_path / "out").mkdir()
    with FakePeer(tmp_path / "home", reply) as peer:
        assert run("--input", "-", "-d", str(tmp_path / "out"), "-j", "4") == 1
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a", "two words"]
    assert (tmp_path / "out" / "two words").read_bytes() == b"content of http://h/b"
    captured = capsys.readouterr()
    assert captured.out.startswith("2 done, 3 failed, ")
    assert captured.out.count("\n") == 1
    for named in (
        "line 3: 'nonsense'",
        "line 4: http://h/missing: 404",
        "line 5: the same as line 1",
        "line 6: output",
    ):
        assert f"dfmq-get: {named}" in captured.err


def test_a_list_that_is_all_done_is_zero(run: Run, peer: FakePeer, tmp_path: Path) -> None:
    (tmp_path / "list").write_text("\n".join(f"http://h/{i}" for i in range(40)))
    assert run("--input", str(tmp_path / "list"), "--quiet") == 0
    assert len(os.listdir()) == 40
