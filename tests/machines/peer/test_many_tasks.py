"""What one event costs a peer does not depend on how many other tasks are under way or were done before."""

from __future__ import annotations

import gc
import sys
from types import FrameType

from support.peer_talk import PeerTalk
from support.talk import GENERATION, REQUEST, TASK

from dfmq.machines import events as told
from dfmq.machines.effects import AskSource
from dfmq.machines.peer.download import Download
from dfmq.model.pieces import cut
from dfmq.model.task import Content, Request, task_id
from dfmq.wire import messages as said

SMALL = Content(GENERATION, cut(1024))


def _calls(peer: PeerTalk, event: object) -> int:
    """Python functions that are called for an event."""
    count = 0

    def see(_: FrameType, kind: str, __: object) -> None:
        nonlocal count
        count += kind == "call"

    # What others have hung on the collector would be counted where it happens to run.
    gc.disable()
    sys.setprofile(see)
    try:
        peer.machine.handle(event, peer.now)  # type: ignore[arg-type]
    finally:
        sys.setprofile(None)
        gc.enable()
    return count


def _opened(peer: PeerTalk, request: Request) -> None:
    """A small content is wanted, and its store is being opened."""
    task = task_id(request)
    peer.client(said.Get(get=int(request.tag or 0) + 1, request=request))
    peer.told(told.StoreLoaded(task, None))
    cut_of = {"piece_length": SMALL.cut.piece_length, "chunk_length": SMALL.cut.chunk_length}
    peer.hears(said.Opened(task=task, generation=GENERATION, length=1024, **cut_of))


def _crowded(others: int) -> PeerTalk:
    peer = PeerTalk()
    peer.hears(said.Welcome(epoch=7))
    for number in range(others):
        other = Request(url=REQUEST.url, tag=str(number + 1))
        _opened(peer, other)
        peer.told(told.StoreOpened(task_id(other), GENERATION, 0, {}, {}))
    return peer


def test_what_the_store_says_costs_the_same_with_a_hundred_other_downloads() -> None:
    costs = []
    for others in (1, 100):
        peer = _crowded(others)
        _opened(peer, REQUEST)
        costs.append(_calls(peer, told.StoreOpened(TASK, GENERATION, 0, {}, {})))
    assert costs[0] == costs[1]


def test_what_a_source_says_costs_the_same_with_a_hundred_other_downloads_and_reads() -> None:
    costs = []
    for others in (1, 100):
        peer = _crowded(others)
        for number in range(others):
            request = Request(url=REQUEST.url, tag=f"r{number}")
            peer.hears(said.Permit(permit=number + 2, task=task_id(request), request=request))
            peer.told(told.StoreLoaded(task_id(request), None))
        peer.hears(said.Permit(permit=1, task=TASK, request=REQUEST))
        asked = next(e for e in peer.told(told.StoreLoaded(TASK, None)) if isinstance(e, AskSource))
        answer = told.SourceAnswered(asked.permit, "full", 0, 1024, '"v1"', "", 0.0, True)
        costs.append(_calls(peer, answer))
    assert costs[0] == costs[1]


def test_a_download_that_is_over_is_gone_without_the_garbage_collector() -> None:
    peer = PeerTalk()
    gc.disable()
    try:
        before = _downloads()
        peer.opened()
        peer.granted(1, 0)
        assert _downloads() == before + 1
        peer.client(said.Release(get=1))
        assert _downloads() == before
    finally:
        gc.enable()


def _downloads() -> int:
    return sum(type(one) is Download for one in gc.get_objects())
