"""Files as sources: only regular ones, and never a mix of two versions."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dfmq.edges.source.file import BLOCK_BYTES
from dfmq.edges.source.sources import Sources
from dfmq.errors import NotAuthorised, SourceError, SourceRefused
from dfmq.model.settings import SourceSettings
from dfmq.model.task import Request


def _request(path: Path) -> Request:
    return Request(url=path.as_uri())


async def test_blocks_end_at_multiples_of_the_largest_chunk(tmp_path: Path) -> None:
    path = tmp_path / "content"
    path.write_bytes(bytes(3 * BLOCK_BYTES + 5))
    reply = await Sources(SourceSettings()).ask(_request(path), 100)
    assert [len(block) async for block in reply.body()] == [BLOCK_BYTES - 100, BLOCK_BYTES, BLOCK_BYTES, 5]
    await reply.close()


@pytest.mark.parametrize("change", ["longer", "shorter", "touched", "rewritten"])
async def test_a_file_changed_while_it_is_read_is_not_trusted(tmp_path: Path, change: str) -> None:
    path = tmp_path / "content"
    path.write_bytes(bytes(2 * BLOCK_BYTES))
    os.utime(path, ns=(0, 0))
    reply = await Sources(SourceSettings()).ask(_request(path))
    got = 0
    with pytest.raises(SourceError) as caught:
        async for block in reply.body():
            if not got:
                with path.open("r+b") as file:
                    if change == "shorter":
                        file.truncate(BLOCK_BYTES)
                    elif change == "touched":
                        os.utime(path, ns=(0, 1))
                    else:
                        file.seek(0, os.SEEK_END if change == "longer" else os.SEEK_SET)
                        file.write(b"more")
            got += len(block)
    await reply.close()
    assert got == BLOCK_BYTES, "the last block must not be given out"
    assert not caught.value.permanent


async def test_a_file_replaced_while_it_is_read_stays_what_it_was(tmp_path: Path) -> None:
    path = tmp_path / "content"
    path.write_bytes(b"old" * BLOCK_BYTES)
    reply = await Sources(SourceSettings()).ask(_request(path))
    (tmp_path / "new").write_bytes(b"new" * BLOCK_BYTES)
    (tmp_path / "new").replace(path)
    assert b"".join([block async for block in reply.body()]) == b"old" * BLOCK_BYTES
    await reply.close()


async def test_only_regular_files_are_sources(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    sources = Sources(SourceSettings())
    for path in (tmp_path, tmp_path / "fifo", Path("/dev/zero")):
        with pytest.raises(SourceRefused, match="regular file"):
            await sources.ask(_request(path))


async def test_a_file_that_may_not_be_read_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "content"
    path.write_bytes(b"secret")

    def forbidden(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", forbidden)
    with pytest.raises(NotAuthorised, match=str(path)):
        await Sources(SourceSettings()).ask(_request(path))


async def test_no_file_handle_is_left_open(tmp_path: Path) -> None:
    path = tmp_path / "content"
    path.write_bytes(bytes(3 * BLOCK_BYTES))
    sources = Sources(SourceSettings())
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        reply = await sources.ask(_request(path))
        await anext(reply.body())
        await reply.close()
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    """A folder whose files are given, beside one whose files are not, with links between them."""
    given, kept = tmp_path / "given", tmp_path / "kept"
    (given / "deep").mkdir(parents=True)
    kept.mkdir()
    for path in (given / "content", given / "deep" / "content", kept / "secret", tmp_path / "given-not"):
        path.write_bytes(b"content")
    (given / "inside").symlink_to("deep/content")
    (given / "outside").symlink_to(kept / "secret")
    (given / "way-out").symlink_to(kept)
    (given / "nowhere").symlink_to(kept / "nothing")
    (kept / "back").symlink_to(given / "content")
    return given


@pytest.mark.parametrize("name", ["content", "deep/content", "inside", "deep/../content", "../kept/back"])
async def test_a_file_in_an_allowed_folder_is_given(shelf: Path, name: str) -> None:
    sources = Sources(SourceSettings(files=("/nothing/here", str(shelf))))
    reply = await sources.ask(Request(url=f"file://{shelf}/{name}"))
    assert [block async for block in reply.body()] == [b"content"]
    await reply.close()


@pytest.mark.parametrize(
    "name",
    ["../kept/secret", "outside", "way-out/secret", "nowhere", "%2e%2e/kept/secret", "../given-not", "../nothing", ""],
)
async def test_a_file_outside_is_refused_whether_it_exists_or_not(shelf: Path, name: str) -> None:
    with pytest.raises(SourceRefused, match="dfmq-broker --files DIR") as caught:
        await Sources(SourceSettings(files=(str(shelf),))).ask(Request(url=f"file://{shelf}/{name}"))
    assert caught.value.permanent and caught.value.code == "source_refused"


async def test_no_folder_means_no_file(shelf: Path) -> None:
    with pytest.raises(SourceRefused, match="--files"):
        await Sources(SourceSettings(files=())).ask(_request(shelf / "content"))


async def test_a_link_put_there_after_the_path_was_looked_at_leads_nowhere(
    shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = shelf / "way-out" / "secret"
    monkeypatch.setattr(os.path, "realpath", os.path.abspath)  # what it saw when the link was a folder still
    with pytest.raises(SourceRefused, match="does not exist"):
        await Sources(SourceSettings(files=(str(shelf),))).ask(_request(asked))


async def test_a_name_no_file_can_have_is_refused() -> None:
    with pytest.raises(SourceRefused, match="no file has such a name"):
        await Sources(SourceSettings()).ask(Request(url="file:///a%00b"))
