"""Facts of other threads come into the loop's in rows, each once and in order."""

from __future__ import annotations

import asyncio
import threading

from dfmq.nodes.hops import Hops


class Turns:
    def __init__(self) -> None:
        self.rows: list[list[int]] = []

    def begin(self) -> None:
        self.rows.append([])

    def end(self) -> None: ...

    def take(self, fact: int) -> None:
        self.rows[-1].append(fact)


def test_what_comes_while_the_loop_is_busy_is_one_row() -> None:
    async def scene() -> Turns:
        turns = Turns()
        hops = Hops(asyncio.get_running_loop(), turns)
        thread = threading.Thread(target=lambda: [hops.put(turns.take, fact) for fact in range(100)])
        thread.start()
        thread.join()
        await asyncio.sleep(0)
        return turns

    assert asyncio.run(scene()).rows == [list(range(100))]


def test_nothing_is_lost_while_both_threads_run() -> None:
    async def scene() -> Turns:
        turns, done = Turns(), asyncio.Event()
        hops = Hops(asyncio.get_running_loop(), turns)

        def take(fact: int) -> None:
            turns.take(fact)
            if fact == 4999:
                done.set()

        thread = threading.Thread(target=lambda: [hops.put(take, fact) for fact in range(5000)])
        thread.start()
        await asyncio.wait_for(done.wait(), 30)
        thread.join()
        return turns

    assert [fact for row in asyncio.run(scene()).rows for fact in row] == list(range(5000))


def test_a_bug_in_one_does_not_keep_the_others_back() -> None:
    async def scene() -> Turns:
        loop = asyncio.get_running_loop()
        bugs: list[BaseException] = []
        loop.set_exception_handler(lambda _, said: bugs.append(said["exception"]))
        turns = Turns()
        hops = Hops(loop, turns)
        hops.put(lambda fact: turns.take(1 // fact), 0)
        hops.put(turns.take, 7)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert [type(bug) for bug in bugs] == [ZeroDivisionError]
        return turns

    assert asyncio.run(scene()).rows == [[], [7]]
