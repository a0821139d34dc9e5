"""A site that is killed, at any moment, and comes back: nothing lost, nothing twice, nothing left over."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from edge_rig import NODES, Rig, alive, job, shell, until

from agent.edge import procfs, shim
from agent.edge.jobrun import Usage
from agent.edge.records import Records, RunId
from hub.api.conditions import condition_is
from hub.api.indexset import IndexSet
from hub.api.resource import JOBS

ROUNDS = 10
TASKS = 8


async def test_tasks_go_on_while_the_site_is_away(rig: Rig, tmp_path: Path) -> None:
    """One ends while it is away, one afterwards; neither starts again."""
    script = f"echo start >> {tmp_path}/h$JOB_COMPLETION_INDEX; sleep 0.$(( 2 + 6 * JOB_COMPLETION_INDEX )); echo end"
    await rig.submit(job("a", f"{script} >> {tmp_path}/h$JOB_COMPLETION_INDEX; echo out", 2))
    await until(lambda: all((tmp_path / f"h{n}").exists() for n in (0, 1)))
    await rig.cut()
    await until(lambda: "end" in (tmp_path / "h0").read_text())
    assert "end" not in (tmp_path / "h1").read_text()
    await rig.start()
    status = await rig.ended("a")
    assert (status["completedIndexes"], status["failed"]) == ("0-1", 0)
    assert [(tmp_path / f"h{n}").read_text() for n in (0, 1)] == ["start\nend\n"] * 2
    assert [await rig.log("a", n) for n in (0, 1)] == ["out\n"] * 2
    usage = Usage.parse(status["usage"])
    assert usage.wall == pytest.approx(0.2 + 0.8, abs=0.4)
    assert usage.cpu > 0


async def test_what_is_over_stays_over(rig: Rig) -> None:
    before = await rig.run(job("a", "exit $JOB_COMPLETION_INDEX", 3))
    await rig.cut()
    await rig.start()
    await rig.run(job("b"))
    assert await rig.status("a") == before
    last = (await rig.chunks("a", 2))[-1]
    assert (last.exit_code, last.reason) == (2, None)


async def test_gpus_of_adopted_tasks_are_taken(rigs: Callable[..., Rig], tmp_path: Path) -> None:
    rig = rigs(nodes=[{"count": 1, "cpu": 8, "memory": "8Gi", "gpu": {"model": "L4", "count": 1}}])
    await rig.start()
    gpu = {"resources": {"limits": {"nvidia.com/gpu": "1"}}}
    await rig.submit(job("a", pod={"containers": [shell(f"touch {tmp_path}/go; sleep 0.8", **gpu)]}))
    await until((tmp_path / "go").exists)
    await rig.cut()
    await rig.start()
    await rig.submit(job("b", pod={"containers": [shell("true", **gpu)]}))
    await asyncio.sleep(0.2)
    assert not (await rig.status("b")).get("active")
    assert (await rig.ended("b"))["succeeded"] == 1
    assert (await rig.status("a"))["succeeded"] == 1


async def test_a_supervisor_killed_while_the_site_is_away(rig: Rig, tmp_path: Path) -> None:
    await rig.submit(job("a", f"touch {tmp_path}/go; sleep 60"))
    await until((tmp_path / "go").exists)
    await rig.cut()
    marked = rig.processes()
    os.kill(next(p.pid for p in marked if p.session_leader and shim.is_shim(p.pid)), signal.SIGKILL)
    await rig.start()
    status = await rig.ended("a")
    assert status["exitCodes"] == "137=0"
    assert (await rig.chunks("a"))[-1].reason == "RuntimeKilled"
    assert not any(alive(p.pid) for p in marked)


async def test_a_record_without_a_start_is_started(rig: Rig) -> None:
    """Killed between writing the record and starting the process: the same attempt begins."""
    await rig.submit(job("a", "echo ran", suspend=True))
    uid = (await rig.job("a"))["metadata"]["uid"]
    await rig.cut()
    run = RunId(uid, 0, 0)
    os.close(Records(rig.data / "tasks").create(run, time.time(), "edge-1-0", ()))
    await rig.start()
    await rig.site.api.patch(JOBS, "a", {"spec": {"suspend": False}}, "default")
    assert (await rig.ended("a"))["succeeded"] == 1
    assert await rig.log("a") == "ran\n"


async def test_processes_that_no_job_wants_are_ended(rig: Rig) -> None:
    token = (rig.data / "site-id").read_text().strip()
    environment = {**os.environ, procfs.MARKER: procfs.marker_value(token, "gone/0-0-0-0")}
    left = await asyncio.create_subprocess_exec("sleep", "60", env=environment)
    (rig.data / "tasks" / "gone").mkdir()
    await rig.cut()
    await rig.start()
    assert await asyncio.wait_for(left.wait(), 5) == -signal.SIGKILL
    await until(lambda: not (rig.data / "tasks" / "gone").exists())


async def test_stopping_a_site_stops_its_tasks_and_they_run_again(rig: Rig, tmp_path: Path) -> None:
    script = f"[ -e {tmp_path}/go ] && exit 0; touch {tmp_path}/go; sleep 60"
    await rig.submit(job("a", script))
    await until((tmp_path / "go").exists)
    await rig.site.stop_tasks()
    assert rig.processes() == []
    status = await rig.status("a")
    assert (status["active"], status["failed"]) == (0, 0)
    await rig.cut()
    await rig.start()
    assert (await rig.ended("a"))["succeeded"] == 1


async def test_retries_are_counted_across_a_restart(rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.edge.jobrun._RETRY_FIRST", 0.2)
    script = f"echo x >> {tmp_path}/n; exit 1"
    await rig.submit(job("a", script, backoffLimitPerIndex=3))
    await until(lambda: (tmp_path / "n").exists() and (tmp_path / "n").read_text().count("x") == 2)
    await asyncio.sleep(0.05)
    await rig.cut()
    await rig.start()
    status = await rig.ended("a")
    assert (tmp_path / "n").read_text().count("x") == 4
    assert status["failed"] == 4
    assert status["failedIndexes"] == "0"


class Killed:
    """A site in a process of its own."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        entry = json.dumps({"name": "edge", "nodes": NODES})
        root = Path(__file__).parents[2]
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, str(Path(__file__).with_name("site_process.py")), entry, str(self.data),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=1 << 20,
            env={**os.environ, "PYTHONPATH": str(root)},
        )  # fmt: skip
        assert self.process.stdout is not None
        assert await asyncio.wait_for(self.process.stdout.readline(), 20) == b"ready\n"

    async def kill(self) -> None:
        assert self.process is not None
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()

    async def ask(self, line: str) -> dict[str, Any] | None:
        """None when it was killed meanwhile."""
        assert self.process is not None
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(line.encode() + b"\n")
            await self.process.stdin.drain()
            answer = await asyncio.wait_for(self.process.stdout.readline(), 10)
        except (BrokenPipeError, ConnectionResetError):
            return None
        return json.loads(answer) if answer else None


@pytest.mark.timeout(180)
async def test_kill_minus_nine_at_random_moments(tmp_path: Path) -> None:
    """Ten rounds: each a job of eight tasks, one to three kills, and what must hold of its history."""
    seed = int(os.environ.get("QUARTERDECK_EDGE_SEED", time.time()))
    print(f"QUARTERDECK_EDGE_SEED={seed}")
    rng = random.Random(seed)
    site = Killed(tmp_path / "site")
    await site.start()
    try:
        for number in range(ROUNDS):
            await _round(site, number, rng, tmp_path / f"history-{number}")
        await site.ask("stop")
    finally:
        await site.kill()
        left = procfs.kill_marked((tmp_path / "site" / "site-id").read_text().strip(), keep=())
    assert left == []


async def _round(site: Killed, number: int, rng: random.Random, history: Path) -> None:
    history.touch()
    # Some fail on purpose, some outlive the kills, some are over before.
    script = (
        f"echo start $JOB_COMPLETION_INDEX >> {history}; sleep 0.$(( (JOB_COMPLETION_INDEX * 7 + {number}) % 6 )); "
        f"echo end $JOB_COMPLETION_INDEX >> {history}; [ $JOB_COMPLETION_INDEX != 3 ]"
    )
    name = f"round-{number}"
    obj = json.dumps(job(name, script, TASKS, parallelism=rng.choice((3, 8))))
    kills = [rng.uniform(0, 0.5) for _ in range(rng.choice((1, 2, 3)))]
    submitted = await site.ask(f"submit {obj}")
    for pause in kills:
        await asyncio.sleep(pause)
        await site.kill()
        await site.start()
        if submitted is None:
            submitted = await site.ask(f"submit {obj}")
    status: dict[str, Any] = {}
    deadline = time.monotonic() + 15
    while not condition_is(status.get("conditions"), "Failed"):
        assert time.monotonic() < deadline, status
        await asyncio.sleep(0.02)
        status = await site.ask(f"status {name}") or {}
    lines = history.read_text().splitlines()
    starts = Counter(line for line in lines if line.startswith("start"))
    ends = Counter(line for line in lines if line.startswith("end"))
    assert set(starts.values()) == {1}, "a task ran twice"
    assert len(ends) == TASKS, "a task did not come to its end"
    assert set(ends.values()) == {1}
    done = IndexSet.parse(status["completedIndexes"])
    assert done == IndexSet.span(TASKS) - IndexSet.of([3])
    assert (status["failedIndexes"], status["exitCodes"], status["active"]) == ("3", "1=3", 0)
    assert (status["succeeded"], status["failed"]) == (TASKS - 1, 1)
    # Every task is in the usage once.
    slept = sum((index * 7 + number) % 6 / 10 for index in range(TASKS))
    assert Usage.parse(status["usage"]).wall == pytest.approx(slept, abs=0.15 * TASKS)
