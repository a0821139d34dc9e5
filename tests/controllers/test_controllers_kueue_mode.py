"""Mode kueue in a live hub: Kueue's files apply unchanged, and cycle after cycle is decided as Kueue decides."""

from __future__ import annotations

from typing import Any

from controllers_scene import Scene, Told, until
from controllers_tenants import tenant

from hub.api import names
from hub.api.conditions import condition_is, find_condition
from hub.api.indexset import IndexSet
from hub.api.resource import JOBS, WORKLOAD_PRIORITY_CLASSES, WORKLOADS
from hub.controllers.kueue_configuration import from_kueue

Json = dict[str, Any]
CONFIGURATION: Json = {
    "apiVersion": "config.kueue.x-k8s.io/v1beta2",
    "kind": "Configuration",
    "health": {"healthProbeBindAddress": ":8081"},
    "integrations": {"frameworks": ["batch/job"]},
}


def kueue_queue(**more: Any) -> Json:
    return {**from_kueue({**CONFIGURATION, **more})[0], "notice": "50ms"}


async def plain(
    scene: Scene, name: str, queue: str, pods: int, cpu: str = "1", priority: str = "", **notes: str
) -> Json:
    labels = {names.QUEUE_NAME: queue} | ({names.PRIORITY_CLASS: priority} if priority else {})
    container = {"name": "main", "image": "host", "command": ["true"],
                 "resources": {"requests": {"cpu": cpu, "memory": "1Mi"}}}  # fmt: skip
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": "default", "labels": labels, "annotations": notes},
        "spec": {
            "suspend": True, "parallelism": pods, "completions": pods, "completionMode": "Indexed",
            "template": {"spec": {"restartPolicy": "Never", "containers": [container]}},
        },
    }  # fmt: skip
    return await scene.api.create(JOBS, job, "default")


async def ended(scene: Scene, name: str) -> bool:
    status = (await scene.api.get(JOBS, name, "default")).get("status") or {}
    return condition_is(status.get("conditions"), "Complete")


async def workload_of(scene: Scene, job: str) -> Json | None:
    for workload in (await scene.api.list(WORKLOADS, "default")).items:
        if workload["metadata"]["ownerReferences"][0]["name"] == job:
            return workload
    return None


async def test_one_head_a_queue_in_order_and_whole(scene: Scene) -> None:
    hub = await scene.hub(queue=kueue_queue())
    agent = await scene.agent(
        "ash", cpu=16, plan=lambda work, tasks: Told(seconds=2.0 if "wide" in work["metadata"]["name"] else 0.1)
    )
    await scene.available("ash")
    await tenant(scene, "vision", 4, cohort=None, preemption={})
    await plain(scene, "wide", "vision", 4)
    await until(lambda: agent.started)
    for name in ("first", "second"):
        await plain(scene, name, "vision", 3)

    async def says() -> str | None:
        workload = await workload_of(scene, "second")
        found = find_condition(((workload or {}).get("status") or {}).get("conditions"), "QuotaReserved")
        return str(found["reason"]) if found is not None else None

    assert await until(says) == "WaitingForQuota"
    for name in ("wide", "first", "second"):
        await until(lambda name=name: ended(scene, name))
    # Nobody was given a part; of those that were made in one second the uid says who is first.
    started = [(name.rsplit("-", 2)[0], tasks) for name, tasks in agent.started]
    assert started[0] == ("wide", "0-3")
    assert sorted(started[1:]) == [("first", "0-2"), ("second", "0-2")]
    assert hub.deciding.count > 2


async def test_a_job_that_says_so_starts_with_fewer(scene: Scene) -> None:
    await scene.hub(queue=kueue_queue())
    agent = await scene.agent("ash", cpu=16, plan=lambda work, tasks: Told(seconds=0.2))
    await scene.available("ash")
    await tenant(scene, "vision", 4, cohort=None, preemption={})
    await plain(scene, "partial", "vision", 6, **{names.MIN_PARALLELISM: "2"})
    await until(lambda: ended(scene, "partial"))
    work = agent.started[0]
    assert work[1] == "0-5"
    annotations = (await scene.works("ash"))[0]["metadata"]["annotations"]
    assert annotations[names.SLOTS] == "4"


async def test_the_owner_preempts_the_borrower_whole(scene: Scene) -> None:
    hub = await scene.hub(queue=kueue_queue() | {"notice": "1s"})
    slow = {"1"}

    def plan(work: Json, tasks: IndexSet) -> Told:
        first = work["metadata"]["labels"][names.EPOCH] in slow and "borrower" in work["metadata"]["name"]
        return Told(seconds=30 if first else 0.05, running_after=0.0)

    await scene.agent("ash", cpu=3, plan=plan)
    await scene.agent("elm", cpu=3, plan=plan)
    slow.add("2")
    await scene.available("ash", "elm")
    await tenant(scene, "vision", 2)
    await tenant(scene, "speech", 4)
    await plain(scene, "borrower", "vision", 6)
    await until(lambda: len(scene.agents[0].started) + len(scene.agents[1].started) == 2)
    await plain(scene, "owner", "speech", 4)

    async def evicted() -> list[Json] | None:
        conditions = (((await workload_of(scene, "borrower")) or {}).get("status") or {}).get("conditions")
        return conditions if condition_is(conditions, "Evicted") else None

    conditions = await until(evicted)
    preempted = find_condition(conditions, "Preempted")
    assert preempted is not None
    assert preempted["reason"] == "InCohortReclamation"
    await until(lambda: ended(scene, "owner"))
    await until(lambda: ended(scene, "borrower"))
    value = hub.metrics.registry.get_sample_value
    # Both of its slices.
    assert value("quarterdeck_preemptions_total", {"queue": "vision", "reason": "InCohortReclamation"}) == 2


async def test_what_has_quota_and_no_place_holds_up_nobody(scene: Scene) -> None:
    await scene.hub(queue=kueue_queue())
    await scene.agent("ash", cpu=4, plan=lambda work, tasks: Told(seconds=0.1))
    await scene.available("ash")
    await tenant(scene, "vision", 64, cohort=None, preemption={}, queueingStrategy="StrictFIFO")
    await plain(scene, "giant", "vision", 1, cpu="32")
    await plain(scene, "small", "vision", 1)
    await until(lambda: ended(scene, "small"))

    async def says() -> Json | None:
        workload = await workload_of(scene, "giant")
        return find_condition(((workload or {}).get("status") or {}).get("conditions"), "QuotaReserved")  # type: ignore[return-value]

    found = await until(says)
    assert found["reason"] == "NoClusterFits"
    # A site that is large enough wakes it.
    await scene.agent("oak", cpu=40)
    await until(lambda: ended(scene, "giant"))


async def test_fair_sharing_evens_out_two_borrowers(scene: Scene) -> None:
    await scene.hub(queue=kueue_queue(fairSharing={}))

    def plan(work: Json, tasks: IndexSet) -> Told:
        first = work["metadata"]["name"].startswith("greedy") and work["metadata"]["labels"][names.EPOCH] == "1"
        return Told(seconds=30 if first else 0.05, running_after=0.0)

    await scene.agent("ash", cpu=8, plan=plan)
    await scene.available("ash")
    shared = {"reclaimWithinCohort": "Any", "withinClusterQueue": "Never"}
    for name in ("vision", "speech"):
        await tenant(scene, name, 0, preemption=shared)
    await tenant(scene, "owner", 8, preemption=shared)
    for number in range(4):
        await plain(scene, f"greedy-{number}", "vision", 2)
    await until(lambda: len(scene.agents[0].started) == 4)
    await plain(scene, "modest", "speech", 2)
    await until(lambda: ended(scene, "modest"))

    async def victims() -> list[str]:
        found = []
        for workload in (await scene.api.list(WORKLOADS, "default")).items:
            condition = find_condition((workload.get("status") or {}).get("conditions"), "Preempted")
            if condition is not None:
                found.append(workload["metadata"]["ownerReferences"][0]["name"])
        return found

    # One is enough; which of those that started in one second is the uid's.
    found = await until(victims)
    assert len(found) == 1
    assert found[0].startswith("greedy")


async def test_priorities_of_kueue_order_a_queue(scene: Scene) -> None:
    await scene.hub(queue=kueue_queue())
    agent = await scene.agent("ash", cpu=16, plan=lambda work, tasks: Told(seconds=0.3))
    await scene.available("ash")
    await tenant(scene, "vision", 2, cohort=None, preemption={})
    urgent = {
        "apiVersion": WORKLOAD_PRIORITY_CLASSES.api_version, "kind": "WorkloadPriorityClass",
        "metadata": {"name": "urgent"}, "value": 10_000,
    }  # fmt: skip
    await scene.api.create(WORKLOAD_PRIORITY_CLASSES, urgent)
    await plain(scene, "running", "vision", 2)
    await until(lambda: agent.started)
    await plain(scene, "usual", "vision", 2)
    await plain(scene, "hasty", "vision", 2, priority="urgent")
    for name in ("running", "usual", "hasty"):
        await until(lambda name=name: ended(scene, name))
    assert [name.rsplit("-", 2)[0] for name, _ in agent.started] == ["running", "hasty", "usual"]


async def test_a_hub_that_takes_over_goes_on_where_the_other_was(scene: Scene) -> None:
    first = await scene.hub(queue=kueue_queue())
    agent = await scene.agent("ash", cpu=16, plan=lambda work, tasks: Told(seconds=1.0))
    await scene.available("ash")
    await tenant(scene, "vision", 4, cohort=None, preemption={})
    await plain(scene, "one", "vision", 4)
    await until(lambda: agent.started)
    await plain(scene, "two", "vision", 4)
    await scene.kill(first)
    await scene.hub(identity="second", queue=kueue_queue())
    await until(lambda: ended(scene, "one"))
    await until(lambda: ended(scene, "two"))
    assert [name.rsplit("-", 2)[0] for name, _ in agent.started] == ["one", "two"]
