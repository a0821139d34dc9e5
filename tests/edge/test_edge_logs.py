"""Logs of tasks: everything that was written, in order, at offsets that stay; followed, tailed, kept to a size."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from edge_rig import Rig, job, until
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.edge.logs import LogPlace, Trimmer, first_kept, read_log, tail_offset
from agent.local import LogChunk
from hub.api.errors import NotFoundError


async def test_both_streams_as_they_were_written(rig: Rig) -> None:
    await rig.run(job("a", "for i in 1 2 3; do echo out $i; echo err $i >&2; done; printf end"))
    assert await rig.log("a") == "out 1\nerr 1\nout 2\nerr 2\nout 3\nerr 3\nend"
    assert await rig.log("a", tail_lines=2) == "err 3\nend"
    assert await rig.log("a", offset=24) == "out 3\nerr 3\nend"
    assert await rig.log("a", offset=1000) == ""
    assert await rig.log("a", tail_lines=0) == ""


async def test_following_is_prompt_and_ends_with_the_task(rig: Rig) -> None:
    await rig.submit(job("a", "sleep 0.2; for i in 1 2 3; do date +%s.%N; sleep 0.2; done; exit 5"))
    text, late = "", []
    last: LogChunk | None = None
    async for chunk in rig.site.read_log("default", "a", 0, follow=True):
        late += [time.time() - float(line) for line in chunk.data.decode().split()]
        assert chunk.offset == len(text)
        text += chunk.data.decode()
        last = chunk
    assert len(late) == 3
    assert sorted(late)[1] < 0.15
    assert last is not None
    assert (last.final, last.exit_code) == (True, 5)


async def test_a_log_of_a_task_that_waits(rig: Rig, tmp_path: Path) -> None:
    """Without following it is empty and open; with following it begins when the task does."""
    await rig.submit(
        job(
            "a",
            f"[ $JOB_COMPLETION_INDEX = 1 ] || until [ -e {tmp_path}/go ]; do sleep 0.02; done; echo x",
            2,
            parallelism=1,
        )
    )
    await until(lambda: rig.processes())
    assert await rig.chunks("a", 1) == [LogChunk(0, b"", final=True)]
    following = asyncio.create_task(rig.chunks("a", 1, follow=True))
    await asyncio.sleep(0.1)
    assert not following.done()
    (tmp_path / "go").touch()
    chunks = await asyncio.wait_for(following, 5)
    assert b"".join(c.data for c in chunks) == b"x\n"
    assert chunks[-1].exit_code == 0


async def test_unknown_tasks_are_said_to_be(rig: Rig) -> None:
    await rig.run(job("a"))
    for name, index in (("none", 0), ("a", 1), ("a", -1)):
        with pytest.raises(NotFoundError):
            await rig.chunks(name, index)


async def test_a_log_ends_when_its_job_goes(rig: Rig) -> None:
    await rig.submit(job("a", "echo x; sleep 60", pod={"terminationGracePeriodSeconds": 0}))
    following = asyncio.create_task(rig.chunks("a", follow=True))
    await asyncio.sleep(0.2)
    from hub.api.resource import JOBS

    await rig.site.api.delete(JOBS, "a", "default")
    chunks = await asyncio.wait_for(following, 5)
    assert chunks[0].data == b"x\n"
    assert chunks[-1].final


async def test_logs_are_kept_to_a_size_while_they_are_written(
    rigs: Callable[..., Rig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.edge.site._TIDY_SECONDS", 0.05)
    rig = rigs(logs={"maxSize": "128Ki"})
    await rig.start()
    script = "i=0; while [ $i -lt 40000 ]; do echo line $i; i=$((i+1)); done; sleep 0.3"
    await rig.submit(job("a", script))
    chunks = await rig.chunks("a", follow=True)
    # A follower that keeps up sees every byte, whatever is given back behind it.
    lines = b"".join(c.data for c in chunks).split(b"\n")
    assert lines[-2] == b"line 39999"
    path = Path(rig.site._host.machinery.records.log((await rig.job("a"))["metadata"]["uid"], 0))  # type: ignore[union-attr]
    size = sum(len(f"line {i}\n") for i in range(40000))
    assert path.stat().st_size == size
    assert path.stat().st_blocks * 512 <= 200 << 10
    kept = await rig.chunks("a")
    assert 128 << 10 <= sum(len(c.data) for c in kept) <= 200 << 10
    assert kept[0].offset + sum(len(c.data) for c in kept) == size
    assert (await rig.log("a", tail_lines=2)) == "line 39998\nline 39999\n"


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text("ab\n", max_size=60), max_size=30), st.integers(0, 12), st.integers(1, 64))
def test_tails_are_those_of_splitlines(parts: list[str], lines: int, block: int) -> None:
    import tempfile

    from agent.edge import logs

    text = "".join(parts)
    with tempfile.TemporaryFile() as file:
        file.write(text.encode())
        file.flush()
        before, logs._CHUNK = logs._CHUNK, block
        try:
            offset = tail_offset(file.fileno(), lines)
        finally:
            logs._CHUNK = before
    expected = "".join(text.splitlines(keepends=True)[-lines:]) if lines else ""
    assert text[offset:] == expected


def test_trimming_gives_back_whole_blocks_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(os.urandom(100_000))
    content = path.read_bytes()
    trimmer = Trimmer(40_000)
    trimmer.trim([str(path), str(tmp_path / "none")])
    assert path.stat().st_size == 100_000
    with open(path, "rb") as file:
        start = first_kept(file.fileno(), 0)
        assert start % 4096 == 0
        assert 40_000 <= 100_000 - start < 40_000 + 4096
        file.seek(start)
        assert file.read() == content[start:]
        assert tail_offset(file.fileno(), 10**6) == start
    # Below the size and a quarter nothing is given back again.
    with open(path, "ab") as more:
        more.write(b"x" * 5000)
    blocks = path.stat().st_blocks
    trimmer.trim([str(path)])
    assert path.stat().st_blocks == blocks


async def test_a_reader_behind_skips_what_was_given_back(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"a" * 50_000 + b"b" * 50_000)
    Trimmer(40_000).trim([str(path)])
    place = LogPlace(str(path), True, 0)
    chunks = [c async for c in read_log(lambda: place, offset=10, tail_lines=None, follow=False)]
    assert chunks[0].offset > 50_000
    assert set(b"".join(c.data for c in chunks)) == {ord("b")}
