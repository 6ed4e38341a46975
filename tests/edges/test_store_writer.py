"""Order and batches of the write-behind thread."""

from __future__ import annotations

import os
import queue
import threading
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from dfmq.edges.store import writer
from dfmq.edges.store.writer import Chunk, Job, Writer, write_chunks


def chunk(offset: int, octets: bytes) -> Chunk:
    return Chunk(None, offset, 0, 0, bytes(16), memoryview(octets))  # type: ignore[arg-type]


def test_neighbours_are_written_in_one_call_by_rising_offset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, list[int]]] = []
    pwritev = os.pwritev

    def spy(fd: int, buffers: list[Any], offset: int) -> int:
        calls.append((offset, [len(buffer) for buffer in buffers]))
        # A kernel may write less than it was given.
        return pwritev(fd, [b"".join(buffers)[:5]], offset)

    monkeypatch.setattr(os, "pwritev", spy)
    with (tmp_path / "file").open("w+b") as file:
        write_chunks(file.fileno(), [chunk(9, b"xyz"), chunk(3, b"345"), chunk(0, b"012"), chunk(12, b"c")])
        assert file.read() == b"012345\0\0\0xyzc"
    assert calls == [(0, [3, 3]), (5, [1]), (9, [3, 1])]


def test_chunks_between_two_jobs_are_one_batch_and_jobs_keep_their_place() -> None:
    done: list[Any] = []
    gate = threading.Event()

    def write(batch: list[Chunk]) -> list[Job]:
        done.append([c.offset for c in batch])
        return [lambda: done.append(("told", thread.queued_bytes))]

    thread = Writer(write)
    thread.put(gate.wait)
    thread.put_chunk(chunk(1, b"a"))
    thread.put_chunk(chunk(2, b"b"))
    thread.put(lambda: done.append("job"))
    thread.put_chunk(chunk(3, b"ccc"))
    assert thread.queued_bytes == 5
    gate.set()
    thread.end()
    # The news comes when the batch has left the queue: whoever waits for room is woken by it.
    assert done == [[1, 2], ("told", 3), "job", [3], ("told", 0)]
    assert not thread.is_alive


def test_a_batch_ends_at_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "BATCH_BYTES", 4)
    done: list[int] = []
    gate = threading.Event()

    def write(batch: list[Chunk]) -> list[Job]:
        done.append(len(batch))
        return []

    thread = Writer(write)
    thread.put(gate.wait)
    for offset in range(0, 10, 2):
        thread.put_chunk(chunk(offset, b"ab"))
    gate.set()
    thread.end()
    assert done == [2, 2, 1]


def test_a_chunk_that_may_wait_is_written_with_what_wakes_the_thread_next() -> None:
    batches: queue.Queue[list[int]] = queue.Queue()

    def write(batch: list[Chunk]) -> list[Job]:
        batches.put([c.offset for c in batch])
        return []

    thread = Writer(write, most_asleep=3)
    thread.put_chunk(chunk(0, b"ab"), may_wait=True)
    thread.put_chunk(chunk(2, b"c"))
    thread.wake()
    assert batches.get(timeout=10) == [0, 2], "the second may not wait"
    thread.put_chunk(chunk(3, b"ab"), may_wait=True)
    thread.put_chunk(chunk(5, b"cd"), may_wait=True)
    thread.wake()
    assert batches.get(timeout=10) == [3, 5], "that many bytes may not wait"
    thread.put_chunk(chunk(7, b"a"), may_wait=True)
    thread.wake()
    thread.flush()
    assert batches.get(timeout=10) == [7]
    thread.put_chunk(chunk(8, b"a"), may_wait=True)
    thread.end()
    assert batches.get(timeout=10) == [8]


def test_jobs_that_were_lined_up_are_begun_when_the_thread_is_woken_in_the_order_they_came() -> None:
    done: queue.Queue[int] = queue.Queue()
    thread = Writer(lambda batch: [])
    for number in range(3):
        thread.line_up(partial(done.put, number))
    thread.wake()
    assert [done.get(timeout=10) for _ in range(3)] == [0, 1, 2]
    thread.line_up(partial(done.put, 3))
    thread.end()
    assert done.get(timeout=10) == 3


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_bug_in_a_job_ends_the_thread_and_is_seen() -> None:
    thread = Writer(lambda batch: [])
    thread.put(lambda: 1 // 0)
    thread.end()
    assert not thread.is_alive
