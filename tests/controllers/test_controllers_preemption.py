"""Preemptions carried out by the live hub: who goes, what its work records, what a hub that dies leaves behind."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from controllers_scene import Line, Scene, Told, until
from controllers_tenants import tenant

from hub.api import names
from hub.api.conditions import condition_is, find_condition
from hub.api.errors import RefusedError
from hub.api.indexset import IndexSet
from hub.api.resource import EVENTS, MANIFEST_WORKS
from hub.controllers.hub import Hub
from hub.jobs.eviction import read_eviction

Json = dict[str, Any]


def slow_first(work: Json, tasks: IndexSet) -> Told:
    """What is of the borrower runs long the first time."""
    slow = work["metadata"]["labels"][names.JOB_NAME] == "borrower" and work["metadata"]["labels"][names.EPOCH] == "1"
    return Told(seconds=30.0 if slow else 0.05, running_after=0.0)


async def borrowing(scene: Scene, *, notice: str = "200ms", line: Line | None = None, **queue: Any) -> Hub:
    """`vision` runs six tasks, four of them on what `speech` owns."""
    hub = await scene.hub(queue={"notice": notice, **queue}, line=line)
    await scene.agent("ash", cpu=6, plan=slow_first)
    await scene.available("ash")
    await tenant(scene, "vision", 2)
    await tenant(scene, "speech", 4)
    await scene.submit("borrower", tasks=6, queueName="vision")
    await scene.phase("borrower", "Running")
    return hub


async def eviction_of(scene: Scene, job: str) -> Any:
    for work in await scene.works():
        meta = work["metadata"]
        found = read_eviction((meta.get("annotations") or {}).get(names.EVICTION, ""))
        if meta["labels"][names.JOB_NAME] == job and found is not None:
            return found
    return None


async def test_the_owner_takes_back_what_was_lent_and_both_end(scene: Scene) -> None:
    hub = await borrowing(scene)
    await scene.submit("owner", tasks=4, queueName="speech")
    told = await until(lambda: eviction_of(scene, "borrower"))
    assert (told.cause, told.reason, told.by) == ("Preempted", "InCohortReclamation", "default/owner")
    assert told.stops - told.at == pytest.approx(0.2, abs=1e-3)
    assert "speech" in told.message
    await scene.phase("owner", "Succeeded")
    status = await scene.phase("borrower", "Succeeded", seconds=20)
    assert status["preemptions"] == 1
    assert status["evictions"] == [{"reason": "Preempted", "count": 1}]
    first = status["attempts"][0]
    assert (first["state"], first["reason"], first["message"]) == ("Evicted", "Preempted", told.message)
    assert "failed" not in first
    # Nothing of it counted as an attempt: limitPerTask is 1.
    assert {attempt["attempt"] for attempt in status["attempts"]} == {1}
    value = hub.metrics.registry.get_sample_value
    labels = {"queue": "vision", "reason": "InCohortReclamation"}
    assert value("quarterdeck_preemptions_total", labels) == 1
    assert value("quarterdeck_evictions_total", {"queue": "vision", "reason": "Preempted"}) == 1
    assert hub.holdings.usage.get("vision", {}) == {}
    assert hub.holdings.slices == ()


async def test_the_workload_says_it_as_kueue_does_and_events_tell_both(scene: Scene) -> None:
    await borrowing(scene, notice="1s")
    await scene.submit("owner", tasks=4, queueName="speech")

    async def said() -> list[Json] | None:
        conditions = ((await scene.workload("borrower")).get("status") or {}).get("conditions")
        return conditions if condition_is(conditions, "Evicted") else None

    conditions = await until(said)
    evicted, preempted = find_condition(conditions, "Evicted"), find_condition(conditions, "Preempted")
    assert evicted is not None
    assert preempted is not None
    assert (evicted["reason"], preempted["status"], preempted["reason"]) == (
        "Preempted", "True", "InCohortReclamation",
    )  # fmt: skip
    # It has its quota until its processes are gone.
    assert condition_is(conditions, "QuotaReserved")
    await scene.phase("borrower", "Succeeded", seconds=20)

    async def over() -> Json | None:
        status = (await scene.workload("borrower")).get("status") or {}
        return status if condition_is(status.get("conditions"), "Finished") else None

    status = await until(over)
    assert condition_is(status["conditions"], "Evicted", "False")
    assert condition_is(status["conditions"], "Preempted", "False")
    assert condition_is(status["conditions"], "Requeued")
    assert status["schedulingStats"]["evictions"] == [{"reason": "Preempted", "underlyingCause": "", "count": 1}]

    async def events() -> set[tuple[str, str]] | None:
        found = (await scene.api.list(EVENTS, "default")).items
        return {(e["regarding"]["kind"], e["reason"]) for e in found}

    await until(lambda: _contains(events, {("FleetJob", "Preempted"), ("Workload", "Preempted")}))


async def _contains(found: Any, wanted: set[Any]) -> bool:
    return wanted <= await found()


@pytest.mark.parametrize("moment", ["before", "told", "recorded", "gone"])
async def test_a_hub_that_is_killed_in_the_middle_loses_and_doubles_nothing(scene: Scene, moment: str) -> None:
    line = Line(scene.api)
    first = await borrowing(scene, line=line, notice="300ms")
    reached = asyncio.Event()

    def before(verb: str, what: str, name: str) -> None:
        if verb == "patch" and what == "manifestworks" and moment == "before":
            line.cut()
            reached.set()
        if verb == "delete" and what == "manifestworks" and moment == "gone":
            line.cut()
            reached.set()

    line.before = before
    await scene.submit("owner", tasks=4, queueName="speech")

    async def recorded() -> bool:
        attempts = (await scene.status("borrower")).get("attempts") or [{}]
        return attempts[0].get("state") == "Evicted"

    if moment == "told":
        await until(lambda: eviction_of(scene, "borrower"))
    elif moment == "recorded":
        await until(recorded)
    else:
        await asyncio.wait_for(reached.wait(), 10)
    await scene.kill(first)
    if moment == "before":
        assert await eviction_of(scene, "borrower") is None
    await scene.hub(identity="second", queue={"notice": "300ms"})
    await scene.phase("owner", "Succeeded", seconds=20)
    status = await scene.phase("borrower", "Succeeded", seconds=20)
    assert status["preemptions"] == 1
    assert [attempt["state"] for attempt in status["attempts"]].count("Evicted") == 1
    assert status["tasks"]["succeeded"] == 6

    async def tidy() -> bool:
        return all(names.EVICTION not in work["metadata"]["annotations"] for work in await scene.works())

    await until(tidy)


async def test_a_slice_that_ends_in_time_was_not_preempted(scene: Scene) -> None:
    await borrowing(scene, notice="30s")
    await scene.submit("owner", tasks=4, queueName="speech")
    await until(lambda: eviction_of(scene, "borrower"))
    work = next(w for w in await scene.works() if w["metadata"]["labels"][names.JOB_NAME] == "borrower")
    await scene.agents[0].report(work["metadata"]["name"], succeeded=IndexSet.span(6), over=True)
    status = await scene.phase("borrower", "Succeeded")
    assert "preemptions" not in status
    await scene.phase("owner", "Succeeded")


async def test_a_refused_annotation_leaves_everything_as_it_was(scene: Scene) -> None:
    line = Line(scene.api)
    hub = await borrowing(scene, line=line)
    refusals = 0

    def before(verb: str, what: str, name: str) -> None:
        nonlocal refusals
        if verb == "patch" and what == "manifestworks" and refusals < 2:
            refusals += 1
            raise RefusedError(403, {"message": "a webhook says no"})

    line.before = before
    await scene.submit("owner", tasks=4, queueName="speech")
    await scene.phase("owner", "Succeeded", seconds=20)
    assert refusals == 2
    assert (await scene.phase("borrower", "Succeeded", seconds=20))["preemptions"] == 1
    entry = hub.table.named("FleetJob", "default", "borrower")
    assert entry is not None
    assert entry.evicting == {}


async def test_works_of_the_victim_are_deleted_only_after_its_end_is_recorded(scene: Scene) -> None:
    line = Line(scene.api)
    await borrowing(scene, line=line)
    await scene.submit("owner", tasks=4, queueName="speech")
    await scene.phase("owner", "Succeeded", seconds=20)
    await scene.phase("borrower", "Succeeded", seconds=20)
    log = [(verb, what) for verb, what, name in line.log if name.startswith("borrower") or name == "borrower"]
    told = log.index(("patch", MANIFEST_WORKS.plural))
    deleted = log.index(("delete", MANIFEST_WORKS.plural))
    assert ("patch", "fleetjobs/status") in log[told:deleted]
