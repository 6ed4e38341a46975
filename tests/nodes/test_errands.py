"""Errands: fetched several at once, placed, released; and what is told of each."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from support.fake_peer import FakePeer, progress

from dfmq.errors import DfmqError, DigestMismatch, NoSpace, TimedOut
from dfmq.model.task import Request
from dfmq.nodes import errands as errands_module
from dfmq.nodes.errands import Errand, Errands, Placed
from dfmq.nodes.get import HostPeer, PeerDied
from dfmq.wire.messages import Get, Message, Progress, Sorry


class Told:
    """Ears that remember."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, int]] = []
        self.done: list[str] = []
        self.errors: dict[str, DfmqError] = {}
        self.notes: list[str] = []

    def progressed(self, errand: Errand, progress: Progress) -> None:
        self.steps.append((errand.request.url, progress.held))

    def placed(self, placed: Placed) -> None:
        self.done.append(placed.errand.request.url)

    def failed(self, errand: Errand, error: DfmqError) -> None:
        self.errors[errand.request.url] = error

    def noted(self, text: str) -> None:
        self.notes.append(text)


def errand(name: str) -> Errand:
    return Errand(request=Request(url=f"http://source/{name}"), target=Path(name))


def connector(home: Path, connected: list[HostPeer] | None = None) -> Callable[[], HostPeer]:
    def connect() -> HostPeer:
        peer = HostPeer(home)
        if not peer.connect(5.0):
            peer.close()
            raise PeerDied("no peer")
        if connected is not None:
            connected.append(peer)
        return peer

    return connect


def copy(errand: Errand, stored: Path) -> str:
    return "hardlink" if stored.read_bytes() else "copy"


def test_each_errand_is_placed_and_released_and_told(tmp_path: Path) -> None:
    told = Told()
    with FakePeer(tmp_path) as peer:
        Errands(connector(tmp_path), copy, told, at_once=3).run(errand(str(i)) for i in range(10))
        peer.die()
        assert sorted(told.done) == [f"http://source/{i}" for i in range(10)]
        assert len(told.steps) == 10
        assert sorted((r.get, r.linked) for r in peer.releases) == [(i, True) for i in range(1, 11)]


def test_the_peer_is_told_how_a_link_changed_the_look_of_its_file(tmp_path: Path) -> None:
    def link(errand: Errand, stored: Path) -> str:
        kind = "hardlink" if errand.request.url.endswith("link") else "copy"
        if kind == "hardlink":
            os.link(stored, tmp_path / "output")
        return kind

    with FakePeer(tmp_path / "home") as peer:
        peer.contents["http://source/link"] = b"x"
        Errands(connector(tmp_path / "home"), link, Told()).run([errand("link"), errand("copy")])
        peer.die()
        linked, copied = peer.releases
        assert linked.ctime_before <= linked.ctime_after == (tmp_path / "output").stat().st_ctime_ns
        assert linked.ctime_before > 0
        assert (copied.ctime_before, copied.ctime_after) == (0, 0)


@pytest.mark.parametrize(("at_once", "octets", "most"), [(16, 1, 64), (15, 1, 15), (16, (256 << 10) + 1, 16)])
def test_more_are_under_way_than_allowed_only_while_they_are_small(
    tmp_path: Path, at_once: int, octets: int, most: int
) -> None:
    under_way = [0]

    def listed() -> Iterator[Errand]:
        for i in range(200):
            under_way.append(i + 1 - len(told.done))
            yield errand(str(i))

    told = Told()
    with FakePeer(tmp_path) as peer:
        peer.contents = {f"http://source/{i}": b"x" * octets for i in range(200)}
        Errands(connector(tmp_path), lambda *_: "copy", told, at_once=at_once).run(listed())
    assert len(told.done) == 200
    assert max(under_way) == most


def test_no_more_are_under_way_than_allowed_and_the_list_is_read_only_as_needed(tmp_path: Path) -> None:
    read: list[int] = []
    seen: list[int] = []

    def listed() -> object:
        for i in range(8):
            read.append(i)
            yield errand(str(i))

    with FakePeer(tmp_path) as peer:

        def put(errand: Errand, stored: Path) -> str:
            seen.append(len(read) - len(seen))
            return "copy"

        Errands(connector(tmp_path), put, Told(), at_once=2).run(listed())  # type: ignore[arg-type]
        assert max(seen) <= 3
        assert len(peer.gets) == 8


def test_one_that_fails_hinders_no_other_and_keeps_its_name(tmp_path: Path) -> None:
    told = Told()

    def reply(get: Get) -> list[Message]:
        if get.request.url.endswith("bad"):
            return [Sorry(get=get.get, code="digest_mismatch", text="not what was named")]
        return peer.done_only(get)

    def put(errand: Errand, stored: Path) -> str:
        if errand.request.url.endswith("full"):
            raise NoSpace("no room")
        return "copy"

    with FakePeer(tmp_path, reply) as peer:
        Errands(connector(tmp_path), put, told, at_once=2).run([errand("good"), errand("bad"), errand("full")])
        peer.die()
        assert told.done == ["http://source/good"]
        assert {url[14:]: type(error) for url, error in told.errors.items()} == {"bad": DigestMismatch, "full": NoSpace}
        assert sorted(release.get for release in peer.releases) == [1, 2, 3]
        assert not any(release.linked for release in peer.releases)


def test_time_runs_out_for_each_alone(tmp_path: Path) -> None:
    told = Told()

    def reply(get: Get) -> list[Message]:
        return [progress(get, None, 1)] if get.request.url.endswith("slow") else peer.done_only(get)

    with FakePeer(tmp_path, reply) as peer:
        Errands(connector(tmp_path), copy, told, at_once=1, timeout=0.05).run([errand("slow"), errand("quick")])
        peer.die()
        assert told.done == ["http://source/quick"]
        assert isinstance(told.errors["http://source/slow"], TimedOut)
        assert [release.get for release in peer.releases] == [1, 2]


def test_a_large_file_is_placed_aside_while_others_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(errands_module, "PLACED_AT_ONCE_BYTES", 100)
    small_is_done = threading.Event()
    told = Told()

    def put(errand: Errand, stored: Path) -> str:
        if errand.request.url.endswith("large"):
            # Would never come if placing the large one held up the small one.
            assert small_is_done.wait(10)
        else:
            small_is_done.set()
        return "copy"

    with FakePeer(tmp_path) as peer:
        peer.contents["http://source/large"] = bytes(101)
        Errands(connector(tmp_path), put, told, at_once=2).run([errand("large"), errand("small")])
        assert told.done == ["http://source/small", "http://source/large"]


def piped(tmp_path: Path, *names: str) -> list[Errand]:
    """Errands whose targets are pipes that nobody reads."""
    for name in names:
        os.mkfifo(tmp_path / name)
    return [
        Errand(request=Request(url=f"http://source/{name}"), target=tmp_path / name, line=line)
        for line, name in enumerate(names, 1)
    ]


@pytest.mark.parametrize("at_once", [1, 4])
def test_a_pipe_that_nobody_reads_is_waited_for_as_long_as_the_errand_may_take(tmp_path: Path, at_once: int) -> None:
    told = Told()
    with FakePeer(tmp_path / "home") as peer:
        peer.contents["http://source/pipe"] = b"x" * 10
        errands = Errands(connector(tmp_path / "home"), copy, told, at_once=at_once, timeout=0.2)
        errands.run(piped(tmp_path, "pipe"))
        peer.die()
        assert len(peer.releases) == 1
    error = told.errors["http://source/pipe"]
    assert isinstance(error, TimedOut) and str(tmp_path / "pipe") in str(error)


def test_pipes_that_nobody_reads_hold_up_nobody_else(tmp_path: Path) -> None:
    """They are read in an order that we do not know, maybe each after something else of the list."""
    told = Told()
    pipes = piped(tmp_path, *"abcdef")
    read: list[str] = []

    class Reader(Told):
        def placed(self, placed: Placed) -> None:
            super().placed(placed)
            if placed.errand.request.url.endswith("last"):
                reading.start()

    def read_backwards() -> None:
        read.extend(pipe.target.read_text() for pipe in reversed(pipes) if pipe.target is not None)

    reading = threading.Thread(target=read_backwards)
    told = Reader()
    with FakePeer(tmp_path / "home") as peer:
        for name in [*"abcdef", "last"]:
            peer.contents[f"http://source/{name}"] = name[:1].encode()
        Errands(connector(tmp_path / "home"), copy, told, at_once=8).run([*pipes, errand("last")])
    reading.join()
    assert read == list("fedcba")
    assert len(told.done) == 7 and not told.errors


def test_an_interrupt_waits_for_no_pipe(tmp_path: Path) -> None:
    def placed(placed: Placed) -> None:
        raise KeyboardInterrupt

    told = Told()
    told.placed = placed  # type: ignore[method-assign]
    with FakePeer(tmp_path / "home") as peer:
        peer.contents["http://source/pipe"] = b"x" * 10
        with pytest.raises(KeyboardInterrupt):
            Errands(connector(tmp_path / "home"), copy, told, at_once=2).run([*piped(tmp_path, "pipe"), errand("two")])


def test_what_took_the_place_of_a_stored_file_that_waited_for_its_turn_is_not_placed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(errands_module, "PLACED_AT_ONCE_BYTES", 100)
    monkeypatch.setattr(errands_module, "PLACERS", 1)
    both_wait = threading.Event()
    told = Told()
    placed: list[bytes] = []

    def put(errand: Errand, stored: Path) -> str:
        if errand.request.url.endswith("small"):
            both_wait.set()
            return "copy"
        assert both_wait.wait(10)
        placed.append(stored.read_bytes())
        # The other one has its turn after this: what waits for it is dropped, and begun anew.
        for data in (tmp_path / "tasks").glob("*/data"):
            if data != stored:
                (tmp_path / "fresh").write_bytes(b"part")
                os.replace(tmp_path / "fresh", data)
        return "copy"

    with FakePeer(tmp_path) as peer:
        large = {f"http://source/{name}": bytes(101) for name in "ab"}
        peer.contents |= large
        Errands(connector(tmp_path), put, told, at_once=3).run([errand("a"), errand("b"), errand("small")])
        peer.die()
        ((url, error),) = told.errors.items()
        assert url in large and "ask for it again" in str(error)
        assert placed == [bytes(101)]
        assert len(peer.releases) == 3


def followed(first: FakePeer, home: Path) -> tuple[list[FakePeer], Callable[[], HostPeer]]:
    """A peer in place of the first, once that was asked for something; and how to connect to either."""
    second: list[FakePeer] = []
    plain = connector(home)

    def connect() -> HostPeer:
        if first.gets:
            second.append(FakePeer(home))
        return plain()

    return second, connect


def test_the_peer_is_found_again_once_and_asked_for_what_is_missing(tmp_path: Path) -> None:
    told = Told()
    first = FakePeer(tmp_path, lambda get: [progress(get, 100, 1)])
    second, connect = followed(first, tmp_path)

    def progressed(errand: Errand, progress: Progress) -> None:
        if len(first.gets) == 2:
            first.die()

    told.progressed = progressed  # type: ignore[method-assign]
    Errands(connect, copy, told, at_once=2).run([errand("one"), errand("two")])
    assert sorted(told.done) == ["http://source/one", "http://source/two"]
    assert len(told.notes) == 1
    assert sorted(get.request.url for get in second[0].gets) == ["http://source/one", "http://source/two"]
    second[0].die()


def stopped(get: Get) -> list[Message]:
    """What a peer that is stopped says of one, after a step of the other."""
    if get.request.url.endswith("two"):
        return [progress(get, 100, 1)]
    return [Sorry(get=get.get, code="interrupted", text="the host's peer was stopped")]


def test_when_the_peer_is_stopped_a_list_goes_on_with_the_next_one(tmp_path: Path) -> None:
    told = Told()
    first = FakePeer(tmp_path, stopped)
    second, connect = followed(first, tmp_path)

    def progressed(errand: Errand, progress: Progress) -> None:
        first.die()

    told.progressed = progressed  # type: ignore[method-assign]
    listed = [msgspec.structs.replace(errand(name), line=line) for line, name in enumerate(("one", "two"), 1)]
    Errands(connect, copy, told, at_once=2).run(listed)
    assert sorted(told.done) == ["http://source/one", "http://source/two"] and not told.errors
    assert sorted(get.request.url for get in second[0].gets) == ["http://source/one", "http://source/two"]
    second[0].die()


def test_when_the_peer_is_stopped_a_single_get_is_over(tmp_path: Path) -> None:
    told = Told()
    with FakePeer(tmp_path, stopped):
        Errands(connector(tmp_path), copy, told).run([errand("one")])
    assert told.errors["http://source/one"].exit_status == 130 and not told.done


def test_a_peer_that_dies_again_and_again_is_an_error(tmp_path: Path) -> None:
    peers: list[FakePeer] = []
    plain = connector(tmp_path)

    def connect() -> HostPeer:
        peers.append(FakePeer(tmp_path, lambda get: [progress(get, 100, 1)]))
        return plain()

    told = Told()
    told.progressed = lambda errand, progress: peers[-1].die()  # type: ignore[method-assign]
    with pytest.raises(PeerDied, match="it resumes"):
        Errands(connect, copy, told).run([errand("one")])
    assert len(peers) == 2


def test_an_interrupt_releases_what_is_under_way(tmp_path: Path) -> None:
    def progressed(errand: Errand, progress: Progress) -> None:
        raise KeyboardInterrupt

    told = Told()
    told.progressed = progressed  # type: ignore[method-assign]
    with FakePeer(tmp_path, lambda get: [progress(get, 100, 1)]) as peer:
        with pytest.raises(KeyboardInterrupt):
            Errands(connector(tmp_path), copy, told, at_once=2).run([errand("one"), errand("two")])
        peer.die()
        assert sorted(release.get for release in peer.releases) == [1, 2]
