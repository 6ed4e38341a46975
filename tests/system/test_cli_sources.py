"""Real processes: what a user reads, and the exit status, when a source is wrong or says no. Nothing is lost by it."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.processes import Got, House, Node, finish, until
from support.sources import FaultySource

pytestmark = pytest.mark.system

CONTENT = bytes(range(256)) * 4096
#: One try again and short waits: the patience of sources has tests of its own.
HASTY = {"DFMQ_SOURCE_RETRIES": "1", "DFMQ_SOURCE_STALL": "1s", "DFMQ_SOURCE_CONNECT": "2s"}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with House(tmp_path_factory.mktemp("sources")) as house:
        yield house


@pytest.fixture(scope="module")
def peer(house: House) -> Node:
    return house.peer("peer", None, **HASTY)


@pytest.fixture(scope="module")
def source() -> Iterator[FaultySource]:
    with FaultySource() as source:
        yield source


@pytest.fixture(scope="module")
def secure() -> Iterator[FaultySource]:
    with FaultySource(tls=True) as source:
        yield source


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """A file that stands where the output should go."""
    output = tmp_path / "output"
    output.write_text("before")
    return output


def assert_failed(got: Got, status: int, text: str, output: Path) -> None:
    """It failed so, said so on both streams, and left everything as it was."""
    assert (got.status, got.last["event"], got.last["exit"]) == (status, "failed", status), got
    assert text in got.last["text"], got
    assert text in got.err and got.err.startswith("dfmq-get: ") and "Traceback" not in got.err
    assert output.read_text() == "before"
    assert [path.name for path in output.parent.iterdir()] == ["output"]


@pytest.mark.parametrize(
    ("status", "exit_status", "text"),
    [
        (401, 6, "wants credentials (401 Unauthorized): give them with -H"),
        (403, 6, "may not be read with these credentials (403 Forbidden)"),
        (404, 5, "there is nothing at"),
        (410, 5, "there is nothing at"),
        (418, 5, "refuses the request (418"),
        (429, 1, "cannot answer now (429 Too Many Requests)"),
        (500, 1, "cannot answer now (500 Internal Server Error)"),
        (503, 1, "cannot answer now (503 Service Unavailable)"),
    ],
)
def test_what_the_source_answers_has_its_exit_status(
    house: House, peer: Node, source: FaultySource, output: Path, status: int, exit_status: int, text: str
) -> None:
    url = source.put(f"/{status}", status=status)
    assert_failed(house.get(peer, url, "-o", output), exit_status, text, output)


def test_a_source_that_nobody_listens_at(house: House, peer: Node, output: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        got = house.get(peer, f"http://127.0.0.1:{port}/x", "-o", output)
    assert_failed(got, 1, f"127.0.0.1:{port} cannot be reached", output)


def test_a_source_whose_name_is_not_known(house: House, peer: Node, output: Path) -> None:
    got = house.get(peer, "http://no-such-host.invalid/x", "-o", output)
    assert_failed(got, 1, "the name no-such-host.invalid", output)


def test_a_source_that_is_not_trusted_and_then_is(
    house: House, peer: Node, secure: FaultySource, output: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    url = secure.put("/x", CONTENT)
    assert_failed(house.get(peer, url, "-o", output), 1, "is not trusted", output)
    authorities = tmp_path_factory.mktemp("trust") / "ca.pem"
    authorities.write_text(secure.cacert)
    assert house.get(peer, url, "-o", output, "--cacert", authorities).status == 0
    assert output.read_bytes() == CONTENT
    assert house.get(peer, secure.put("/y", CONTENT), "-o", output, "--insecure").status == 0


def test_a_source_that_speaks_no_tls(house: House, peer: Node, source: FaultySource, output: Path) -> None:
    url = source.put("/plain", CONTENT).replace("http:", "https:")
    assert_failed(house.get(peer, url, "-o", output), 1, "no TLS with", output)


def test_content_of_another_digest_is_three_and_never_stands_there(
    house: House, peer: Node, source: FaultySource, output: Path
) -> None:
    url = source.put("/digest", CONTENT)
    right = hashlib.sha256(CONTENT).hexdigest()
    wrong = right[:-1] + ("0" if right[-1] != "0" else "1")
    assert_failed(house.get(peer, url, "-o", output, "--digest", f"sha256:{wrong}"), 3, wrong[:16], output)
    assert house.get(peer, url, "-o", output, "--digest", f"sha256:{right}").status == 0
    assert output.read_bytes() == CONTENT


@pytest.mark.parametrize(
    "named", [{"etag": '"caf\xe9"'}, {"etag": "", "last_modified": "g\xe9stern"}], ids=["etag", "date"]
)
def test_a_source_whose_headers_are_no_text(
    house: House, peer: Node, source: FaultySource, output: Path, named: dict[str, str]
) -> None:
    url = source.put(f"/stray/{len(named)}", CONTENT, **named)
    assert house.get(peer, url, "-o", output).status == 0
    assert output.read_bytes() == CONTENT
    output.write_text("before")
    assert_failed(house.get(peer, source.put("/away", redirect="/no\xe9"), "-o", output), 5, "/no%E9", output)


def test_a_file_that_does_not_exist(house: House, peer: Node, output: Path) -> None:
    for url in ("file:///no/such/file", "file:///no/%FF"):
        assert_failed(house.get(peer, url, "-o", output), 5, "does not exist", output)


def test_a_source_that_breaks_off_for_good_and_then_resumes(
    house: House, peer: Node, source: FaultySource, output: Path
) -> None:
    url = source.put("/broken", CONTENT, close_after=300_000)
    got = house.get(peer, url, "-o", output)
    # Each try brings 300,000 bytes more, so it gets there in the end; with nothing at all it would give up.
    assert got.status == 0
    assert source.requests("/broken") == 4
    assert output.read_bytes() == CONTENT
    dry = source.put("/dry", CONTENT, close_after=0)
    output.unlink()
    output.write_text("before")
    assert_failed(house.get(peer, dry, "-o", output), 1, "broke off", output)


@pytest.mark.parametrize("named", [{}, {"etag": "", "last_modified": ""}], ids=["named", "nameless"])
def test_a_source_that_is_put_right_while_it_is_read_gives_what_the_digest_names(
    house: House, peer: Node, source: FaultySource, output: Path, named: dict[str, str]
) -> None:
    path, digest = f"/put-right/{len(named)}", f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
    url = source.put(path, CONTENT[::-1], rate=1_000_000, close_after=600_000, **named)
    getting = house.start_get(peer, url, "-o", output, "--digest", digest, "--tag", path)
    until("half of the wrong one is read", lambda: source.bytes_sent(path) > 300_000)
    source.put(path, CONTENT, **named)
    assert finish(getting).status == 0
    assert output.read_bytes() == CONTENT


def test_time_over_is_eight_and_what_came_is_kept(house: House, peer: Node, source: FaultySource, output: Path) -> None:
    url = source.put("/slow", CONTENT, rate=1_000_000)
    assert_failed(house.get(peer, url, "-o", output, "--timeout", "500ms"), 8, "not complete after 0.5 s", output)
    assert house.get(peer, url, "-o", output).status == 0
    assert output.read_bytes() == CONTENT


def test_no_source_means_never(house: House, peer: Node, source: FaultySource, output: Path) -> None:
    url = source.put("/forbidden-source", CONTENT)
    got = house.get(peer, url, "-o", output, "--no-source", "--timeout", "3s")
    assert got.status in (1, 8), got
    assert source.requests("/forbidden-source") == 0
    assert output.read_text() == "before"


def test_a_secret_is_nowhere_but_at_the_source(
    house: House, peer: Node, source: FaultySource, output: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    secret = "s3cr3t-0f-the-test"
    headers = tmp_path_factory.mktemp("secret") / "headers"
    headers.write_text(f"Authorization: Bearer {secret}\n")
    url = source.put("/private", CONTENT, authorization=f"Bearer {secret}")
    assert_failed(house.get(peer, url, "-o", output), 6, "wants credentials", output)
    good = house.get(peer, url, "-o", output, "-H", f"@{headers}")
    assert (good.status, output.read_bytes()) == (0, CONTENT)
    headers.write_text(f"Authorization: Bearer wrong-{secret}\n")
    bad = house.get(peer, url, "-o", output, DFMQ_HEADERS_FILE=str(headers))
    assert bad.status == 6, bad
    for got in (good, bad):
        assert secret not in got.out + got.err
    assert secret not in peer.log.read_text() + (peer.home / "journal.jsonl").read_text()
