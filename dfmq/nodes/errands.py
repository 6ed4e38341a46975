"""Errands: contents to be fetched through the host's peer and put where they are wanted, several at once.

How the peer is spoken to is in get, how it is started in starting; what the user sees is in cli/progress."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

import msgspec

from dfmq.edges.streams import pour, pour_on
from dfmq.edges.targets import is_stream, look
from dfmq.errors import DfmqError, Interrupted, StoreError, TimedOut, from_code
from dfmq.model.task import Request
from dfmq.nodes.get import Heard, HostPeer, PeerDied
from dfmq.wire.messages import Done, Progress, Sorry

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

#: Up to here putting a content in place takes less time than handing it to a thread.
PLACED_AT_ONCE_BYTES = 1 << 20
#: Contents up to here cost messages and wakings, not bandwidth, and these cost less the more go together: 1000 of 1 KiB
#: took 4.7 to 5.5 CPU-s of all processes at 16 at once, 4.1 to 4.6 at 32, 3.5 to 3.7 at 64.
SMALL_BYTES = 256 << 10
#: So many times as many are under way while all are small, where there may be as many as this at once.
SMALL_FACTOR = 4
LEAST_AT_ONCE = 16
#: What the user is told when the peer died.
BEGUN_AGAIN = "the peer of this host died; it is started again and goes on"
STANDARD_OUTPUT = 1
#: Copies under way at once; a disk gains nothing from more.
PLACERS = 4


class Errand(msgspec.Struct, frozen=True, kw_only=True):
    """One content and where it is wanted."""

    request: Request
    #: None: standard output
    target: Path | None
    #: where it stands in a list; 0: not from a list
    line: int = 0


class Placed(msgspec.Struct, frozen=True, kw_only=True):
    """An errand that is done."""

    errand: Errand
    done: Done
    #: reflink, hardlink, copy or stream
    kind: str
    seconds: float


class Ears(Protocol):
    """Who is told how the errands go. Called in the thread of run()."""

    def progressed(self, errand: Errand, progress: Progress) -> None: ...

    def placed(self, placed: Placed) -> None: ...

    def failed(self, errand: Errand, error: DfmqError) -> None: ...

    def noted(self, text: str) -> None: ...


class _Put(NamedTuple):
    """How a stored file was put in place."""

    kind: str
    #: the stored file's, before and after, nanoseconds: giving it a second name changes it, as writing to it would
    ctimes: tuple[int, int]


class _Way:
    """One errand under way."""

    __slots__ = ("begun_at", "deadline", "done", "errand", "peer")

    def __init__(self, errand: Errand, peer: HostPeer, now: float, timeout: float) -> None:
        self.errand = errand
        self.peer = peer
        self.begun_at = now
        self.deadline = now + timeout if timeout else 0.0
        self.done: Done | None = None


class Errands:
    """Runs errands.

    Law: an errand that was begun is in exactly one of `_fetching` (by its get), `_placing`, or has been told to the
    ears as placed or failed.
    """

    def __init__(
        self,
        connect: Callable[[], HostPeer],
        put: Callable[[Errand, Path], str],
        ears: Ears,
        *,
        at_once: int = 1,
        limit: int = 0,
        no_source: bool = False,
        timeout: float = 0.0,
    ) -> None:
        """`connect` finds or starts the host's peer. `put` brings a stored file to an errand's target and says how;
        with `at_once` above 1 it may be called in other threads. Streams, as standard output, are poured into instead.
        `limit`: bytes per second, `timeout`: seconds, of each errand; 0 none. `at_once` of LEAST_AT_ONCE and more is
        exceeded, one more for each small content that was got, up to SMALL_FACTOR times, until there is one that is not
        small."""
        self._connect = connect
        self._put = put
        self._ears = ears
        self._at_once = at_once
        self._most_more = (SMALL_FACTOR - 1) * at_once if at_once >= LEAST_AT_ONCE else 0
        #: so many more than `at_once`, for they are small
        self._more = 0
        self._limit = limit
        self._no_source = no_source
        self._timeout = timeout
        self._fetching: dict[int, _Way] = {}
        self._placing: dict[Future[_Put], _Way] = {}
        self._placers: ThreadPoolExecutor | None = None
        #: into each stream by a thread of its own: they are read in an order that only their readers know
        self._pourers: ThreadPoolExecutor | None = None
        self._is_over = False
        self._wake = (-1, -1)
        #: a peer that dies again before it has brought anything is not started a third time
        self._began_again = False

    def run(self, errands: Iterable[Errand]) -> None:
        """All of them, to their ends. Raises what hinders all: no peer to be had. What hinders one goes to the ears."""
        queue = iter(errands)
        self._peer = self._connect()
        try:
            while self._fill(queue) or self._placing:
                try:
                    self._step()
                except PeerDied as lost:
                    self._begin_again(lost)
        finally:
            self._close()

    def _close(self) -> None:
        self._is_over = True
        for pool in (self._placers, self._pourers):
            if pool is not None:
                pool.shutdown(wait=True, cancel_futures=True)
        self._peer.close()
        for descriptor in self._wake:
            if descriptor >= 0:
                os.close(descriptor)

    def _fill(self, queue: Iterator[Errand]) -> bool:
        """Begin as many as may be under way at once; whether any is."""
        while len(self._fetching) + len(self._placing) < self._at_once + self._more:
            errand = next(queue, None)
            if errand is None:
                break
            self._begin(_Way(errand, self._peer, time.monotonic(), self._timeout))
        return bool(self._fetching)

    def _begin(self, way: _Way) -> None:
        way.peer = self._peer
        get = self._peer.get(way.errand.request, limit=self._limit, no_source=self._no_source)
        self._fetching[get] = way

    def _begin_again(self, lost: PeerDied) -> None:
        """The peer died: its successor finds in the store what was fetched, and goes on from there."""
        if self._began_again:
            raise lost
        self._began_again = True
        self._ears.noted(BEGUN_AGAIN)
        self._peer.close()
        self._peer = self._connect()
        if self._wake[0] >= 0:
            self._peer.watch(self._wake[0])
        ways, self._fetching = list(self._fetching.values()), {}
        for way in ways:
            self._begin(way)

    def _step(self) -> None:
        deadlines = [way.deadline for way in self._fetching.values() if way.deadline]
        wait = max(0.0, min(deadlines) - time.monotonic()) if deadlines else None
        for message in self._peer.hear(wait):
            self._take(message)
        self._end_placing()
        self._end_overdue()

    # ── hearing the peer ─────────────────────────────────────────────────────────────────────────────────────────

    def _take(self, message: Heard) -> None:
        if isinstance(message, Progress):
            if (message.length or 0) > SMALL_BYTES:
                self._more = 0
            if message.get in self._fetching:
                self._ears.progressed(self._fetching[message.get].errand, message)
        elif isinstance(message, Done):
            way = self._fetching.pop(message.get, None)
            if way is not None:
                way.done = message
                self._more = min(self._more + 1, self._most_more) if message.length <= SMALL_BYTES else 0
                self._place(way, message)
        elif isinstance(message, Sorry):
            way = self._fetching.pop(message.get, None)
            if way is not None and way.errand.line and message.code == Interrupted.code:
                # The peer goes. The rest of the list is asked of its successor, and so is this.
                self._fetching[message.get] = way
            elif way is not None:
                self._peer.release(message.get)
                self._ears.failed(way.errand, from_code(message.code, message.text))

    def _end_overdue(self) -> None:
        now = time.monotonic()
        for get in [get for get, way in self._fetching.items() if way.deadline and way.deadline <= now]:
            way = self._fetching.pop(get)
            self._peer.release(get)
            self._ears.failed(way.errand, self._timed_out())

    def _timed_out(self, why: str = "") -> TimedOut:
        text = f"not complete after {self._timeout:g} s{why}"
        return TimedOut(f"{text}; what was fetched is kept: run it again, or allow more time")

    # ── placing ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _place(self, way: _Way, done: Done) -> None:
        stored, is_slow = Path(done.path), way.errand.target is not None and is_stream(way.errand.target)
        if self._at_once > 1 and (is_slow or done.length > PLACED_AT_ONCE_BYTES):
            future = self._pool(is_slow).submit(self._put_in_place, way, stored, is_slow, look(stored)[0])
            self._placing[future] = way
            future.add_done_callback(lambda _: os.write(self._wake[1], b"."))
            return
        self._end(way, lambda: self._put_in_place(way, stored, is_slow))

    def _put_in_place(self, way: _Way, stored: Path, is_slow: bool, known: int = 0) -> _Put:
        """`is_slow`: into a stream. `known`: the stored file's inode when it was done. Where it has waited for its
        turn, what was edited through another name may have been dropped meanwhile, and be fetched anew: then a file
        stands there that is not whole yet."""
        inode, before = look(stored)
        if known and inode != known:
            raise StoreError(f"the store's file {stored} was changed from outside, and dropped; ask for it again")
        if way.errand.target is None:
            kind = pour_on(stored, STANDARD_OUTPUT, lambda: self._left(way))
        elif is_slow:
            kind = pour(stored, way.errand.target, lambda: self._left(way))
        else:
            kind = self._put(way.errand, stored)
        return _Put(kind, (before, look(stored)[1]))

    def _left(self, way: _Way) -> float:
        """Seconds that the way's target may yet be waited for; raises TimedOut, Interrupted."""
        if self._is_over:
            raise Interrupted("interrupted")
        left = way.deadline - time.monotonic() if way.deadline else float("inf")
        if left <= 0:
            raise self._timed_out(f", waiting for a reader of {way.errand.target or 'standard output'}")
        return left

    def _pool(self, is_slow: bool) -> ThreadPoolExecutor:
        """Of those that pour into streams, or of those that copy."""
        from concurrent.futures import ThreadPoolExecutor

        if self._wake[0] < 0:
            self._wake = os.pipe()
            self._peer.watch(self._wake[0])
        if is_slow:
            self._pourers = self._pourers or ThreadPoolExecutor(self._at_once + self._most_more, "pour")
            return self._pourers
        self._placers = self._placers or ThreadPoolExecutor(PLACERS, "place")
        return self._placers

    def _end_placing(self) -> None:
        for future in [future for future in self._placing if future.done()]:
            os.read(self._wake[0], 1)
            self._end(self._placing.pop(future), future.result)

    def _end(self, way: _Way, place: Callable[[], _Put]) -> None:
        """Tell how the placing went, and let the peer have its file back."""
        assert way.done is not None
        kind, ctimes = _Put("", (0, 0))
        try:
            kind, ctimes = place()
        except DfmqError as error:
            self._ears.failed(way.errand, error)
        finally:
            # A peer that died meanwhile knows nothing of this get.
            if way.peer is self._peer:
                self._peer.release(way.done.get, linked=kind == "hardlink", ctimes=ctimes)
        if kind:
            self._began_again = False
            seconds = time.monotonic() - way.begun_at
            self._ears.placed(Placed(errand=way.errand, done=way.done, kind=kind, seconds=seconds))
