"""A hub that dies at any write, and one that is replaced: nothing lost, nothing twice, nothing written too late."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from controllers_scene import FakeAgent, Line, Scene, Told, until

from hub.api import names
from hub.api.conditions import condition_is
from hub.api.indexset import IndexSet
from hub.api.resource import FLEET_JOBS, MANAGED_CLUSTERS, MANIFEST_WORKS

# What a job's life may write, besides the cluster's own affairs.
_OF_JOBS = ("fleetjobs", "manifestworks", "workloads")


def ran(agents: list[FakeAgent], job: str) -> Counter[int]:
    """How often each task of `job` was started."""
    return Counter(
        task
        for agent in agents
        for name, tasks in agent.started
        if name.rsplit("-", 2)[0] == job
        for task in IndexSet.parse(tasks)
    )


def die_at(line: Line, number: int, how: str) -> asyncio.Event:
    """Cuts the line at the hub's `number`-th write for a job: before the server has it, or before it has answered."""
    died = asyncio.Event()
    seen = 0

    def before(verb: str, what: str, name: str) -> None:
        nonlocal seen
        if not what.startswith(_OF_JOBS):
            return
        seen += 1
        if seen == number:
            died.set()
            if how == "before":
                line.cut()
            else:
                line.lose_answer = True

    line.before = before
    return died


async def until_over_or_dead(scene: Scene, job: str, died: asyncio.Event) -> bool:
    """Whether the hub died before the job and its mirror were done."""

    async def over() -> bool:
        if died.is_set():
            return True
        status = await scene.status(job)
        if status.get("phase") not in ("Succeeded", "Failed"):
            return False
        workload = await scene.workload(job)
        return condition_is((workload.get("status") or {}).get("conditions"), "Finished")

    await until(over, 15, f"{job} over")
    return died.is_set()


@pytest.mark.parametrize("how", ["before", "after"])
async def test_a_hub_may_die_at_any_write(scene: Scene, how: str) -> None:
    """One job after the other; the hub of the n-th dies at its n-th write, and the next hub brings the job home."""

    def plan(work: dict[str, Any], tasks: IndexSet) -> Told:
        first = work["metadata"]["annotations"][names.ATTEMPT] == "1"
        return Told(seconds=0.02, failing=frozenset({2}) if first else frozenset())

    agents = [await scene.agent("ash", cpu=2, plan=plan), await scene.agent("elm", cpu=2, plan=plan)]
    hub = await scene.hub()
    await scene.available("ash", "elm")
    number = 0
    while True:
        number += 1
        job = f"{how}-{number}"
        line = scene.line_of(hub)
        died = die_at(line, number, how)
        await scene.submit(job, tasks=4, retry={"limitPerTask": 2})
        dead = await until_over_or_dead(scene, job, died)
        line.before = lambda verb, what, name: None
        if dead:
            await asyncio.sleep(0)
            await scene.kill(hub)
            hub = await scene.hub()
        status = await scene.phase(job, "Succeeded", "Failed")
        assert status["phase"] == "Succeeded", status
        assert status["tasks"]["succeededIndexes"] == "0-3"
        assert ran(agents, job) == {0: 1, 1: 1, 2: 2, 3: 1}, (job, status)
        epochs = [attempt["epoch"] for attempt in status["attempts"]]
        assert len(set(epochs)) == len(epochs)
        counted = Counter(t for a in status["attempts"] for t in IndexSet.parse(str(a.get("succeeded") or "")))
        assert counted == dict.fromkeys(range(4), 1)
        if not dead:
            break
    assert number >= 7


@pytest.mark.parametrize("how", ["before", "after"])
async def test_a_hub_may_die_at_any_write_of_taking_back(scene: Scene, how: str) -> None:
    """Suspended half-way: what had finished stays finished whoever writes it down."""
    seconds = 30.0

    def plan(work: dict[str, Any], tasks: IndexSet) -> Told:
        return Told(seconds=seconds, running_after=0.0)

    agent = await scene.agent("ash", cpu=4, plan=plan)
    hub = await scene.hub()
    await scene.available("ash")
    number = 0
    while True:
        number += 1
        job, seconds = f"{how}-{number}", 30.0
        await scene.submit(job, tasks=3)
        name = await until(lambda job=job: next((n for n, _ in agent.started if n.startswith(f"{job}-")), None))
        await scene.phase(job, "Running")
        died = die_at(scene.line_of(hub), number, how)
        await agent.report(name, active=1, succeeded=IndexSet.of([0, 1]))
        await scene.api.patch(FLEET_JOBS, job, {"spec": {"suspend": True}}, "default")

        async def stopped(job: str = job, name: str = name, died: asyncio.Event = died) -> bool:
            if died.is_set():
                return True
            status = await scene.status(job)
            works = {w["metadata"]["name"] for w in await scene.works("ash")}
            return status.get("reason") == "Suspended" and name not in works

        await until(stopped)
        scene.line_of(hub).before = lambda verb, what, name: None
        dead = died.is_set()
        if dead:
            await scene.kill(hub)
            hub = await scene.hub()
        seconds = 0.0
        await scene.phase(job, "Pending")
        await scene.api.patch(FLEET_JOBS, job, {"spec": {"suspend": False}}, "default")
        status = await scene.phase(job, "Succeeded")
        assert status["tasks"]["succeededIndexes"] == "0-2"
        assert ran([agent], job) == {0: 1, 1: 1, 2: 2}, (job, status)
        if not dead:
            break
    assert number >= 3


async def test_a_new_hub_finds_everything_as_it_was(scene: Scene) -> None:
    hub = await scene.hub()
    agent = await scene.agent("ash", cpu=2, plan=lambda work, tasks: Told(seconds=1.5, running_after=0.0))
    await scene.available("ash")
    await scene.submit("runs", cpu="2")
    await scene.phase("runs", "Running")
    await scene.submit("waits", cpu="2")
    await scene.phase("waits", "Queued")
    await scene.kill(hub)
    after = await scene.hub()
    await asyncio.sleep(0.2)
    assert len(agent.started) == 1
    assert after.holdings.tasks == 1
    await scene.phase("runs", "Succeeded")
    await scene.phase("waits", "Succeeded")
    assert [n.rsplit("-", 2)[0] for n, _ in agent.started] == ["runs", "waits"]
    # Over and settled: a further hub has nothing to write about them.
    await until(lambda: after.writes.backlog == 0)
    await asyncio.sleep(0.3)
    await scene.kill(after)
    line = Line(scene.api)
    last = await scene.hub(line=line)
    await asyncio.sleep(0.5)
    assert {what for what in line.writes if what[1].startswith(_OF_JOBS)} == set()
    assert last.holdings.tasks == 0


async def test_what_went_while_no_hub_ran_is_cleaned_up(scene: Scene) -> None:
    hub = await scene.hub()
    agent = await scene.agent("ash", plan=lambda work, tasks: Told(seconds=30.0))
    await scene.available("ash")
    await scene.submit("doomed")
    await until(lambda: agent.started)
    await scene.kill(hub)
    await scene.api.delete(FLEET_JOBS, "doomed", "default", propagation_policy="Background")
    await scene.hub()

    async def swept() -> bool:
        return not await scene.works()

    await until(swept)
    assert agent.stopped


async def test_one_leads_and_the_other_takes_over_without_placing_twice(scene: Scene) -> None:
    first = await scene.hub(identity="first")
    second = await scene.hub(identity="second", wait=False)
    await asyncio.wait_for(second.ready.wait(), 10)
    agents = [await scene.agent("ash", plan=lambda work, tasks: Told(seconds=0.05))]
    await scene.available("ash")
    for number in range(10):
        await scene.submit(f"early-{number}")
    assert not second.leading.is_set()
    await until(lambda: agents[0].started)
    old = scene.line_of(first)
    old.cut()
    for number in range(5):
        await scene.submit(f"late-{number}")
    await asyncio.wait_for(second.leading.wait(), 10)
    old.heal()
    written = sum(old.writes.values())
    for number in range(10):
        await scene.phase(f"early-{number}", "Succeeded")
    for number in range(5):
        await scene.phase(f"late-{number}", "Succeeded")
    starts = Counter(name.rsplit("-", 2)[0] for name, _ in agents[0].started)
    assert starts == {**{f"early-{n}": 1 for n in range(10)}, **{f"late-{n}": 1 for n in range(5)}}
    assert not first.leading.is_set()
    assert sum(n for what, n in old.writes.items() if what[1] != "leases") <= written


async def test_a_deposed_hub_writes_nothing_of_what_it_had_decided(scene: Scene) -> None:
    hub = await scene.hub(identity="first")
    await scene.agent("ash")
    await scene.available("ash")
    line = scene.line_of(hub)
    asked = asyncio.Event()
    real = hub.writes._may_write
    hub.writes._may_write = lambda: not asked.is_set() and real()

    def before(verb: str, what: str, name: str) -> None:
        if (verb, what) == ("create", "manifestworks"):
            raise AssertionError("written after it had lost the lead")

    await scene.submit("late")
    # Decided, and deposed before the patcher's turn.
    hub.cycle._may_decide = lambda: True
    asked.set()
    line.before = before
    await asyncio.sleep(0.3)
    assert await scene.works() == []
    assert (await scene.status("late")).get("phase") is None


async def test_an_orderly_end_writes_what_waits_and_gives_up_the_lead(scene: Scene) -> None:
    hub = await scene.hub(identity="first")
    await scene.agent("ash")
    await scene.available("ash")
    await scene.submit("last")
    await scene.phase("last", "Succeeded")
    hub.stop()
    await asyncio.wait_for(next(task for known, _, task in scene.hubs if known is hub), 5)
    workload = await scene.workload("last")
    assert condition_is(workload["status"]["conditions"], "Finished")
    # Somebody else need not wait for the Lease to expire.
    await asyncio.wait_for((await scene.hub(identity="second", wait=False)).leading.wait(), 1.5)


@pytest.mark.parametrize("when", ["leading", "starting"])
async def test_a_hub_that_cannot_reach_its_api_still_ends_when_it_is_told(scene: Scene, when: str) -> None:
    line = Line(scene.api)
    if when == "starting":
        line.cut()
    hub = await scene.hub(line=line, wait=when == "leading")
    await scene.submit("open")
    await asyncio.sleep(0.2)
    line.cut()
    hub.stop()
    await asyncio.wait_for(next(task for known, _, task in scene.hubs if known is hub), 6)


async def test_an_epoch_is_never_used_twice(scene: Scene) -> None:
    """Not even when the work of the last one, and every trace of it in the status, is gone from a hub's memory."""
    hub = await scene.hub()
    ash = await scene.agent("ash", plan=lambda work, tasks: Told(seconds=30.0))
    await scene.available("ash")
    await scene.submit("counted")
    await until(lambda: ash.started)
    await scene.phase("counted", "Admitted", "Running")
    await scene.api.patch(MANAGED_CLUSTERS, "ash", {"spec": {"hubAcceptsClient": False}})
    await scene.phase("counted", "Queued")

    async def away() -> bool:
        return not await scene.works()

    await until(away)
    await scene.kill(hub)
    await scene.hub()
    await scene.api.patch(MANAGED_CLUSTERS, "ash", {"spec": {"hubAcceptsClient": True}})
    await until(lambda: len(ash.started) == 2)
    works = (await scene.api.list(MANIFEST_WORKS)).items
    assert [w["metadata"]["labels"][names.EPOCH] for w in works] == ["2"]
