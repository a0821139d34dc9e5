"""Workloads that somebody edits by hand after their admission, and a clock that is put back."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from controllers_quota import cluster_queue, ends, foreign, is_true, waits
from controllers_scene import Line, Scene, Told, until

from hub.api import names
from hub.api.conditions import condition_is, find_condition
from hub.api.errors import ApiError
from hub.api.resource import WORKLOADS
from hub.controllers.hub import Hub

_MODES = pytest.mark.parametrize("mode", ["fleet", "kueue"])
_FULL = ("WaitingForQuota", "ExceedsMaxQuota")
_LONG = Told(seconds=30.0)


async def _edit(scene: Scene, name: str, **status: Any) -> None:
    await scene.api.patch(WORKLOADS, name, {"status": status}, "default", subresource="status")


async def _usage(scene: Scene, name: str, **amounts: Any) -> None:
    found = await scene.workload(name)
    assignment = found["status"]["admission"]["podSetAssignments"][0] | {"resourceUsage": amounts}
    admission = found["status"]["admission"] | {"podSetAssignments": [assignment]}
    await _edit(scene, name, admission=admission)


async def _count(scene: Scene, name: str, count: int) -> None:
    found = await scene.workload(name)
    assignment = found["status"]["admission"]["podSetAssignments"][0] | {"count": count}
    await _edit(scene, name, admission=found["status"]["admission"] | {"podSetAssignments": [assignment]})


async def _doubted(scene: Scene, name: str, words: str) -> Any:
    async def found() -> Any:
        said = find_condition((await scene.workload(name))["status"]["conditions"], names.AMOUNTS_DOUBTED)
        return said if said is not None and words in said["message"] else None

    return await until(found, what=f"{name} says {words}")


@_MODES
async def test_what_is_done_to_the_mirror_of_a_job_changes_nothing_and_is_put_right(scene: Scene, mode: str) -> None:
    hub = await scene.hub(queue={"mode": mode})
    ash = await scene.agent("ash", plan=lambda work, tasks: _LONG)
    await scene.available("ash")
    await cluster_queue(scene, "team", {"cpu": 1, "memory": "8Gi"})
    await scene.submit("job", queueName="team")
    await until(lambda: ash.started)
    name = "job"
    await is_true(scene, name, "QuotaReserved")
    with pytest.raises(ApiError, match="queueName"):
        await scene.api.patch(WORKLOADS, name, {"spec": {"queueName": "default"}}, "default")
    # Its quota is taken from it, and it is said to be over.
    await _edit(scene, name, admission=None, conditions=[])
    await scene.submit("next", queueName="team")
    await asyncio.sleep(0.3)
    assert hub.holdings.usage["team"]["default", "cpu"] == 1000
    assert len(ash.started) == 1
    # Deleted, it is made again.
    await scene.api.delete(WORKLOADS, name, "default")
    await is_true(scene, name, "QuotaReserved")
    assert len(ash.started) == 1
    assert not ash.stopped


@_MODES
async def test_a_foreign_one_counts_what_its_admission_says_and_never_nothing(scene: Scene, mode: str) -> None:
    hub = await scene.hub(queue={"mode": mode})
    await cluster_queue(scene, "team", {"cpu": 4})
    await foreign(scene, "first", "team", {"cpu": 4})
    await is_true(scene, "first")
    with pytest.raises(ApiError, match="resourceUsage"):
        await _usage(scene, "first", cpu="much")
    await _usage(scene, "first", cpu="5")
    await until(lambda: hub.foreign.usage["team"] == {("default", "cpu"): 5000})
    # Less than its pods ask for, or nothing that can be: what they ask for counts, and the Workload says so.
    for amount, words in (("3", "3 is less than the 4 that its pods ask for"), ("-4", "-4 is negative")):
        await _usage(scene, "first", cpu=amount)
        said = await _doubted(scene, "first", words)
        assert said["reason"] == "AdmissionDoubted"
        assert hub.foreign.usage["team"] == {("default", "cpu"): 4000}
    await foreign(scene, "second", "team", {"cpu": 1})
    await waits(scene, "second", *_FULL)
    # One pod, and somebody writes that none was admitted.
    await _count(scene, "first", 0)
    await _doubted(scene, "first", "count: 0 is less than its 1 pods")
    await waits(scene, "second", *_FULL)
    assert hub.foreign.usage["team"] == {("default", "cpu"): 4000}
    await _count(scene, "first", 1)
    await _usage(scene, "first", cpu="4")

    async def believed() -> bool:
        conditions = (await scene.workload("first"))["status"]["conditions"]
        return find_condition(conditions, names.AMOUNTS_DOUBTED) is None

    await until(believed)
    await ends(scene, "first")
    await is_true(scene, "second")


@_MODES
async def test_a_foreign_one_whose_admission_is_taken_away_waits_again(scene: Scene, mode: str) -> None:
    hub = await scene.hub(queue={"mode": mode})
    await cluster_queue(scene, "team", {"cpu": 4})
    await foreign(scene, "first", "team", {"cpu": 4})
    before = await is_true(scene, "first")
    await foreign(scene, "second", "team", {"cpu": 4})
    await waits(scene, "second", *_FULL)
    kept = [c for c in before["status"]["conditions"] if c["type"] not in ("QuotaReserved", "Admitted")]
    await _edit(scene, "first", admission=None, conditions=kept)

    async def one_of_them() -> bool:
        held = [
            condition_is(((await scene.workload(name)).get("status") or {}).get("conditions"), "QuotaReserved")
            for name in ("first", "second")
        ]
        return sum(held) == 1 and len(hub.foreign.demands) == 1

    await until(one_of_them)
    assert hub.foreign.usage["team"] == {("default", "cpu"): 4000}


@_MODES
async def test_one_that_somebody_admits_by_hand_counts_even_beyond_the_quota(scene: Scene, mode: str) -> None:
    hub = await scene.hub(queue={"mode": mode})
    await cluster_queue(scene, "team", {"cpu": 4})
    await foreign(scene, "first", "team", {"cpu": 3})
    found = await is_true(scene, "first")
    await foreign(scene, "second", "team", {"cpu": 3})
    await waits(scene, "second", *_FULL)
    await _edit(scene, "second", admission=found["status"]["admission"], conditions=found["status"]["conditions"])
    await until(lambda: hub.foreign.usage["team"] == {("default", "cpu"): 6000})
    await foreign(scene, "third", "team", {"cpu": 1})
    await waits(scene, "third", *_FULL)
    await ends(scene, "first")
    await is_true(scene, "third")
    assert hub.foreign.usage["team"] == {("default", "cpu"): 4000}


@_MODES
async def test_a_clock_that_is_put_back_loses_nothing_and_starts_nothing_twice(scene: Scene, mode: str) -> None:
    ahead = [0.0]
    line = Line(scene.api)
    config = scene.config(queue={"mode": mode, "minimumRuntime": "1s", "waitForPodsReady": {"timeout": "10m"}})
    hub = Hub(line, config, identity="hub", now=lambda: time.time() + ahead[0], request_kept=0.3)
    scene.hubs.append((hub, line, asyncio.create_task(hub.run())))
    await asyncio.wait_for(hub.leading.wait(), 10)
    ash = await scene.agent("ash", cpu=2, plan=lambda work, tasks: _LONG)
    await scene.available("ash")
    await scene.submit("first", cpu="2")
    await until(lambda: len(ash.started) == 1)
    await scene.submit("second", cpu="1")
    await scene.phase("second", "Queued")
    ahead[0] = -86400.0
    await scene.submit("third", cpu="1")
    await scene.phase("third", "Queued")
    await foreign(scene, "other", "default", {"cpu": 1})
    await is_true(scene, "other")
    await asyncio.sleep(0.5)
    assert len(ash.started) == 1
    assert not ash.stopped
    ahead[0] = 0.0
    status = await scene.status("first")
    assert status["phase"] in ("Admitted", "Running")
    assert len(status["attempts"]) == 1
