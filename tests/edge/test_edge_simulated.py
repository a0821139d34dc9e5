"""A site whose tasks are timers: as long as their templates say, faster by a factor, across restarts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from edge_rig import Rig, job, message_of, reason_of, until

from agent.edge.jobrun import Usage
from hub.api import names
from hub.api.resource import JOBS


def timed(name: str, duration: str, code: int = 0, completions: int = 1, **more: Any) -> dict[str, Any]:
    """An image that is nowhere, and no command: a simulated site runs anything."""
    obj = job(name, completions=completions, **more)
    template = obj["spec"]["template"]
    template["metadata"]["annotations"] = {names.SIMULATED_DURATION: duration, names.SIMULATED_EXIT_CODE: str(code)}
    resources = {"requests": {"cpu": "2", "memory": "1Gi"}, "limits": {names.GPU: "1"}}
    template["spec"]["containers"] = [{"name": "main", "image": "trace", "resources": resources}]
    return obj


@pytest.fixture
async def sim(rigs: Callable[..., Rig]) -> Rig:
    rig = rigs(runtime="simulated", timeScale=1000)
    await rig.start()
    return rig


async def test_tasks_last_as_long_as_they_are_said_to(sim: Rig) -> None:
    started = time.monotonic()
    status = await sim.run(timed("a", "5m", completions=4))
    assert 0.29 < time.monotonic() - started < 1.5
    assert status["completedIndexes"] == "0-3"
    # In the tasks' own time: what a ledger wants to know.
    assert Usage.parse(status["usage"]) == Usage(cpu=4 * 600.0, gpu=4 * 300.0, wall=4 * 300.0)
    assert sim.processes() == []


async def test_they_end_as_they_are_said_to(sim: Rig) -> None:
    status = await sim.run(timed("a", "10s", 3, 2))
    assert status["exitCodes"] == "3=0-1"
    assert reason_of(status) == "FailedIndexes"
    assert (await sim.chunks("a", 1))[-1].exit_code == 3


async def test_without_a_word_they_are_short_and_good(sim: Rig) -> None:
    assert (await sim.run(job("a", "exit 7")))["succeeded"] == 1


@pytest.mark.parametrize(
    ("duration", "code", "says"),
    [("soon", "0", "is not a duration"), ("1s", "-1", "exit code from 0 to 255"), ("1s", "256", "from 0 to 255")],
)
async def test_what_cannot_be_read_is_refused(sim: Rig, duration: str, code: str, says: str) -> None:
    obj = timed("a", duration)
    obj["spec"]["template"]["metadata"]["annotations"][names.SIMULATED_EXIT_CODE] = code
    status = await sim.run(obj)
    assert reason_of(status) == "InvalidSpec"
    assert says in message_of(status)


async def test_a_restart_goes_on_where_it_was(sim: Rig) -> None:
    started = time.monotonic()
    await sim.submit(timed("short", "300s"))
    await sim.submit(timed("long", "900s"))
    await until(lambda: _active(sim, "long"))
    await sim.cut()
    await asyncio.sleep(0.5)
    await sim.start()
    short = await sim.ended("short", 0.3)
    assert Usage.parse(short["usage"]).wall == 300
    await sim.ended("long")
    assert 0.85 < time.monotonic() - started < 2


async def _active(rig: Rig, name: str) -> bool:
    return bool((await rig.status(name)).get("active"))


async def test_stopping_and_deleting_them(sim: Rig) -> None:
    await sim.submit(timed("a", "100h"))
    await until(lambda: _active(sim, "a"))
    await sim.site.api.delete(JOBS, "a", "default")
    await sim.gone("a")
    await sim.submit(timed("b", "100h", activeDeadlineSeconds=1))
    status = await sim.ended("b")
    assert reason_of(status) == "DeadlineExceeded"
    assert status["exitCodes"] == "143=0"
    assert Usage.parse(status["usage"]).wall == pytest.approx(1000, abs=300)
    await sim.submit(timed("c", "100h"))
    await until(lambda: _active(sim, "c"))
    await sim.site.stop_tasks()
    assert (await sim.status("c"))["active"] == 0
    # All GPUs are back.
    await sim.cut()
    await sim.start()
    await until(lambda: _active(sim, "c"))
    host = sim.site._host
    assert host is not None
    assert sorted(node.gpu_free for node in host.nodes) == [1000, 2000]


async def test_gpus_are_exclusive_there_too(sim: Rig) -> None:
    started = time.monotonic()
    await sim.run(timed("a", "200s", completions=8))
    # Four GPUs, eight tasks: two rounds.
    assert 0.39 < time.monotonic() - started < 1.5


async def test_many_are_cheap(sim: Rig) -> None:
    """300 jobs of one task each: well under 3 ms of CPU a job, all of the site included."""
    cpu = time.process_time()
    await asyncio.gather(*(sim.submit(timed(f"j{n}", "1s")) for n in range(300)))
    for n in range(300):
        await sim.ended(f"j{n}", 20)
    assert (time.process_time() - cpu) / 300 < 0.006
