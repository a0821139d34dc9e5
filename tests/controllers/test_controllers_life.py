"""The whole life of a job through the hub's shell, with agents that report what the test says."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any

import pytest
from controllers_scene import Scene, Told, until

from hub.api import names
from hub.api.conditions import condition_is, find_condition
from hub.api.errors import NotFoundError
from hub.api.indexset import IndexSet
from hub.api.resource import (
    CLUSTER_QUEUES,
    FLEET_JOBS,
    LOCAL_QUEUES,
    MANAGED_CLUSTER_SET_BINDINGS,
    MANAGED_CLUSTERS,
    MANIFEST_WORKS,
    PLACEMENTS,
    TASK_LOG_REQUESTS,
    TASK_LOGS,
    WORKLOADS,
)
from hub.apiserver.server import ApiServer


async def gone(scene: Scene, resource: Any, name: str, namespace: str | None = "default") -> None:
    async def is_gone() -> bool:
        try:
            await scene.api.get(resource, name, namespace)
        except NotFoundError:
            return True
        return False

    await until(is_gone, what=f"{name} gone")


async def test_a_trivial_job_costs_six_writes_by_the_servers_own_count(scene: Scene, api_server: ApiServer) -> None:
    await scene.hub()
    await scene.agent("ash")
    await scene.available("ash")
    await asyncio.sleep(0.3)
    before = Counter(api_server.plane.metrics.writes)
    await scene.submit("one")
    status = await scene.phase("one", "Succeeded")

    async def mirrored() -> bool:
        workload = await scene.workload("one")
        return condition_is((workload.get("status") or {}).get("conditions"), "Finished")

    await until(mirrored)
    await asyncio.sleep(0.3)
    writes = Counter(api_server.plane.metrics.writes) - before
    counted = {what: n for what, n in writes.items() if what[1] not in ("events", "leases")}
    assert counted == {
        ("create", "fleetjobs"): 1,
        ("create", "manifestworks"): 1,
        ("create", "workloads"): 1,
        ("patch", "manifestworks/status"): 1,
        ("patch", "fleetjobs/status"): 1,
        ("patch", "workloads/status"): 1,
    }
    assert status["tasks"] == {
        "total": 1, "pending": 0, "active": 0, "succeeded": 1, "failed": 0, "succeededIndexes": "0", "summary": "1/1",
    }  # fmt: skip
    assert status["clusters"] == ["ash"]
    assert condition_is(status["conditions"], "Succeeded")
    assert status["usage"] == {"cpuSeconds": 1.5, "wallSeconds": 2.0}


async def test_a_job_that_runs_says_so_and_its_workload_says_where_its_quota_is(scene: Scene) -> None:
    await scene.hub()
    await scene.agent("ash", plan=lambda work, tasks: Told(seconds=2.0, running_after=0.01))
    await scene.available("ash")
    await scene.submit("long", tasks=2)
    status = await scene.phase("long", "Running")
    assert status["tasks"]["active"] == 2
    assert status["attempts"][0]["state"] == "Running"

    async def admitted() -> bool:
        workload = await scene.workload("long")
        return condition_is((workload.get("status") or {}).get("conditions"), "Admitted")

    await until(admitted)
    workload = await scene.workload("long")
    assert workload["status"]["admission"]["clusterQueue"] == "default"
    assert workload["metadata"]["ownerReferences"][0]["uid"] == (await scene.job("long"))["metadata"]["uid"]
    status = await scene.phase("long", "Succeeded")
    assert condition_is(status["conditions"], "Running", "False")


async def test_an_array_is_split_and_what_fails_is_retried_elsewhere(scene: Scene) -> None:
    await scene.hub()
    bad = frozenset({1, 4})

    def plan(work: dict[str, Any], tasks: IndexSet) -> Told:
        first = work["metadata"]["annotations"][names.ATTEMPT] == "1"
        return Told(failing=bad if first else frozenset({4}), code=3)

    ash, elm = await scene.agent("ash", cpu=3, plan=plan), await scene.agent("elm", cpu=3, plan=plan)
    await scene.available("ash", "elm")
    await scene.submit("array", tasks=6, retry={"limitPerTask": 2})
    status = await scene.phase("array", "Failed")
    assert status["tasks"]["succeededIndexes"] == "0-3,5"
    assert status["tasks"]["failedIndexes"] == "4"
    assert sorted(status["clusters"]) == ["ash", "elm"]
    first = {task: a["cluster"] for a in status["attempts"] if a["attempt"] == 1 for task in IndexSet.parse(a["tasks"])}
    again = {task: a["cluster"] for a in status["attempts"] if a["attempt"] == 2 for task in IndexSet.parse(a["tasks"])}
    assert set(again) == {1, 4}
    assert all(again[task] != first[task] for task in again)
    assert len({a["epoch"] for a in status["attempts"]}) == len(status["attempts"])
    assert "exit code 3" in status["message"]
    ran = Counter(task for agent in (ash, elm) for _, tasks in agent.started for task in IndexSet.parse(tasks))
    assert ran == {0: 1, 1: 2, 2: 1, 3: 1, 4: 2, 5: 1}


async def test_failed_tasks_run_again_when_asked(scene: Scene) -> None:
    await scene.hub()
    broken = True
    await scene.agent("ash", plan=lambda work, tasks: Told(failing=frozenset({1}) if broken else frozenset()))
    await scene.available("ash")
    await scene.submit("mend", tasks=3)
    await scene.phase("mend", "Failed")
    broken = False
    stamp = {"metadata": {"annotations": {names.RETRY_FAILED: "2026-01-01T00:00:00Z"}}}
    await scene.api.patch(FLEET_JOBS, "mend", stamp, "default")
    status = await scene.phase("mend", "Succeeded")
    assert status["tasks"]["succeededIndexes"] == "0-2"
    assert [a["tasks"] for a in status["attempts"]] == ["0-2", "1"]


async def test_what_waits_says_why_and_starts_when_there_is_room(scene: Scene) -> None:
    await scene.hub()
    agent = await scene.agent("ash", cpu=2, plan=lambda work, tasks: Told(seconds=1.0))
    await scene.available("ash")
    await scene.submit("first", cpu="2")
    await until(lambda: agent.started)
    await scene.submit("second", cpu="2")
    waiting = await scene.phase("second", "Queued")
    assert waiting["reason"] == "WaitingForCapacity"
    assert "2 CPU" in waiting["message"]
    assert condition_is(waiting["conditions"], "QuotaReserved", "False")
    await scene.phase("second", "Succeeded")


async def test_quota_is_held_and_given_back_and_priority_goes_first(scene: Scene) -> None:
    await scene.hub()
    agent = await scene.agent("ash", cpu=8, plan=lambda work, tasks: Told(seconds=0.4))
    await scene.available("ash")
    flavor = {
        "name": "default",
        "resources": [{"name": "cpu", "nominalQuota": "2"}, {"name": "memory", "nominalQuota": "1Gi"}],
    }
    group = {"coveredResources": ["cpu", "memory"], "flavors": [flavor]}
    await scene.api.create(
        CLUSTER_QUEUES,
        {
            "apiVersion": CLUSTER_QUEUES.api_version, "kind": "ClusterQueue", "metadata": {"name": "small"},
            "spec": {"namespaceSelector": {}, "resourceGroups": [group]},
        },
    )  # fmt: skip
    await scene.api.create(
        LOCAL_QUEUES,
        {
            "apiVersion": LOCAL_QUEUES.api_version, "kind": "LocalQueue",
            "metadata": {"name": "small", "namespace": "default"}, "spec": {"clusterQueue": "small"},
        },
        "default",
    )  # fmt: skip
    await scene.submit("a", cpu="2", queueName="small")
    await until(lambda: agent.started)
    await scene.submit("b", cpu="2", queueName="small", priorityClassName="low")
    await scene.submit("c", cpu="2", queueName="small", priorityClassName="high")
    waiting = await scene.phase("b", "Queued")
    assert waiting["reason"] == "WaitingForQuota"
    for name in ("a", "b", "c"):
        await scene.phase(name, "Succeeded")
    assert [name.split("-")[0] for name, _ in agent.started] == ["a", "c", "b"]


@pytest.mark.parametrize(
    ("spec", "reason", "words"),
    [
        ({"queueName": "nowhere"}, "QueueNotFound", "nowhere"),
        ({"priorityClassName": "urgent"}, "InvalidSpec", "urgent does not exist; known: high, low, normal"),
        ({"placementRef": {"name": "absent"}}, "InvalidSpec", "Placement absent does not exist"),
        ({"cpu": "64"}, "NoClusterFits", "64 CPU"),
    ],
)
async def test_what_can_never_run_as_written_says_so(
    scene: Scene, spec: dict[str, Any], reason: str, words: str
) -> None:
    await scene.hub()
    await scene.agent("ash")
    await scene.available("ash")
    await scene.submit("stuck", **spec)
    status = await scene.phase("stuck", "Queued", "Pending")
    assert status["reason"] == reason
    assert words in status["message"]


async def test_a_placement_that_comes_later_lets_the_job_go(scene: Scene) -> None:
    await scene.hub()
    await scene.agent("ash", labels={"region": "eu"})
    await scene.agent("elm", labels={"region": "us"})
    await scene.available("ash", "elm")
    binding = {
        "apiVersion": MANAGED_CLUSTER_SET_BINDINGS.api_version,
        "kind": "ManagedClusterSetBinding",
        "metadata": {"name": "global", "namespace": "default"},
        "spec": {"clusterSet": "global"},
    }
    await scene.api.create(MANAGED_CLUSTER_SET_BINDINGS, binding, "default")
    await scene.submit("picky", placementRef={"name": "american"})
    await scene.phase("picky", "Queued")
    selector = {"labelSelector": {"matchLabels": {"region": "us"}}}
    placement = {
        "apiVersion": PLACEMENTS.api_version,
        "kind": "Placement",
        "metadata": {"name": "american", "namespace": "default"},
        "spec": {"predicates": [{"requiredClusterSelector": selector}]},
    }
    await scene.api.create(PLACEMENTS, placement, "default")
    status = await scene.phase("picky", "Succeeded")
    assert status["clusters"] == ["elm"]


async def test_cancel_stops_what_runs_and_keeps_what_was_done(scene: Scene) -> None:
    await scene.hub()
    agent = await scene.agent(
        "ash", cpu=2, plan=lambda work, tasks: Told(seconds=0.0 if 0 in tasks else 30.0, running_after=0.0)
    )
    await scene.available("ash")
    await scene.submit("halt", tasks=20, parallelism=2, cpu="1")
    await until(lambda: len(agent.started) >= 2)
    await scene.api.patch(FLEET_JOBS, "halt", {"spec": {"cancel": True}}, "default")
    status = await scene.phase("halt", "Cancelled")
    assert status["reason"] == "Cancelled"

    async def swept() -> bool:
        works = await scene.works("ash")
        return all((w.get("status") or {}).get("conditions") for w in works) and bool(agent.stopped)

    await until(swept)
    status = await scene.status("halt")
    assert status["phase"] == "Cancelled"
    assert {a["state"] for a in status["attempts"]} <= {"Cancelled", "Succeeded"}
    assert "Cancelled" in {a["state"] for a in status["attempts"]}

    async def finished() -> bool:
        return condition_is(((await scene.workload("halt")).get("status") or {}).get("conditions"), "Finished")

    await until(finished)


async def test_suspend_takes_back_and_resume_runs_only_what_had_not_finished(scene: Scene) -> None:
    await scene.hub()
    pause = 30.0
    agent = await scene.agent("ash", cpu=4, plan=lambda work, tasks: Told(seconds=pause, running_after=0.0))
    await scene.available("ash")
    await scene.submit("nap", tasks=4)
    await until(lambda: agent.started)
    name = agent.started[0][0]
    await agent.report(name, active=2, succeeded=IndexSet.parse("0-1"))
    await scene.api.patch(FLEET_JOBS, "nap", {"spec": {"suspend": True}}, "default")
    status = await scene.phase("nap", "Pending")
    assert status["reason"] == "Suspended"
    await gone(scene, MANIFEST_WORKS, name, "ash")
    assert agent.stopped == [name]
    status = await scene.status("nap")
    assert status["tasks"]["succeededIndexes"] == "0-1"
    assert status["attempts"][0]["state"] == "Cancelled"

    async def deactivated() -> bool:
        return (await scene.workload("nap"))["spec"]["active"] is False

    await until(deactivated)
    pause = 0.0
    await scene.api.patch(FLEET_JOBS, "nap", {"spec": {"suspend": False}}, "default")
    status = await scene.phase("nap", "Succeeded")
    assert status["tasks"]["succeededIndexes"] == "0-3"
    assert agent.started[1:] == [(f"{name[:-1]}2", "2-3")]


async def test_a_job_past_its_ttl_is_deleted_with_all_that_was_made_for_it(scene: Scene) -> None:
    await scene.hub()
    await scene.agent("ash")
    await scene.available("ash")
    await scene.submit("brief", ttlSecondsAfterFinished=1)
    await scene.phase("brief", "Succeeded")
    await gone(scene, FLEET_JOBS, "brief")
    await until(lambda: _empty(scene))
    await gone(scene, WORKLOADS, "brief")


async def _empty(scene: Scene) -> bool:
    return not await scene.works()


async def test_deleting_a_job_takes_works_workload_and_logs_with_it(scene: Scene) -> None:
    hub = await scene.hub()
    agent = await scene.agent("ash", plan=lambda work, tasks: Told(seconds=30.0))
    await scene.available("ash")
    job = await scene.submit("doomed", tasks=2)
    other = await scene.submit("other")
    await until(lambda: len(agent.started) == 2)
    for uid, name in ((job["metadata"]["uid"], "doomed-log"), (other["metadata"]["uid"], "other-log")):
        await scene.api.create(
            TASK_LOGS,
            {
                "apiVersion": names.API_VERSION, "kind": "TaskLog",
                "metadata": {"name": name, "namespace": "ash", "labels": {names.JOB_UID: uid}}, "entries": [],
            },
            "ash",
        )  # fmt: skip
    await scene.api.delete(FLEET_JOBS, "doomed", "default", propagation_policy="Background")
    await gone(scene, TASK_LOGS, "doomed-log", "ash")
    await gone(scene, WORKLOADS, "doomed")

    async def only_other() -> bool:
        return [w["metadata"]["labels"][names.JOB_NAME] for w in await scene.works()] == ["other"]

    await until(only_other)
    assert [name.split("-")[0] for name in agent.stopped] == ["doomed"]
    assert await scene.api.get(TASK_LOGS, "other-log", "ash")
    await until(lambda: job["metadata"]["uid"] not in hub.table.entries)


async def test_a_job_that_is_held_while_it_is_deleted_runs_no_longer(scene: Scene) -> None:
    await scene.hub()
    agent = await scene.agent("ash", plan=lambda work, tasks: Told(seconds=30.0))
    await scene.available("ash")
    await scene.submit("held")
    await until(lambda: agent.started)
    await scene.api.patch(FLEET_JOBS, "held", {"metadata": {"finalizers": ["example.com/audit"]}}, "default")
    await scene.api.delete(FLEET_JOBS, "held", "default")
    await until(lambda: _empty(scene))
    assert agent.stopped
    assert (await scene.job("held"))["metadata"]["deletionTimestamp"]
    await scene.api.patch(FLEET_JOBS, "held", {"metadata": {"finalizers": None}}, "default")
    await gone(scene, FLEET_JOBS, "held")


async def test_a_job_made_anew_under_the_same_name_is_another_job(scene: Scene) -> None:
    await scene.hub()
    agent = await scene.agent("ash", cpu=1, plan=lambda work, tasks: Told(seconds=0.3))
    await scene.available("ash")
    first = await scene.submit("again")
    await until(lambda: agent.started)
    await scene.api.delete(FLEET_JOBS, "again", "default", propagation_policy="Background")
    second = await scene.submit("again")
    status = await scene.phase("again", "Succeeded")
    assert status["attempts"][0]["epoch"] == 1

    async def settled() -> bool:
        works = await scene.works()
        return {w["metadata"]["labels"][names.JOB_UID] for w in works} == {second["metadata"]["uid"]}

    await until(settled)
    assert first["metadata"]["uid"] != second["metadata"]["uid"]

    async def own_workload() -> bool:
        workload = await scene.workload("again")
        return bool(workload["metadata"]["ownerReferences"][0]["uid"] == second["metadata"]["uid"])

    await until(own_workload)


async def test_log_requests_that_are_done_are_taken_away_after_a_while(scene: Scene) -> None:
    await scene.hub()
    await scene.agent("ash")
    await scene.available("ash")
    for name in ("done", "open"):
        body = {
            "apiVersion": names.API_VERSION, "kind": "TaskLogRequest",
            "metadata": {"name": name, "namespace": "ash"}, "spec": {"jobUID": "x"},
        }  # fmt: skip
        await scene.api.create(TASK_LOG_REQUESTS, body, "ash")
    await scene.api.patch(TASK_LOG_REQUESTS, "done", {"status": {"state": "Done"}}, "ash", subresource="status")
    await gone(scene, TASK_LOG_REQUESTS, "done", "ash")
    assert await scene.api.get(TASK_LOG_REQUESTS, "open", "ash")


async def test_counters_of_a_large_array_are_written_at_most_twice_a_second(scene: Scene) -> None:
    hub = await scene.hub()
    agent = await scene.agent("ash", cpu=50, plan=lambda work, tasks: Told(seconds=30.0, running_after=0.0))
    await scene.available("ash")
    await scene.submit("wide", tasks=50)
    await until(lambda: agent.started)
    await scene.phase("wide", "Running")
    line, name = scene.line_of(hub), agent.started[0][0]
    before, began = line.writes["patch", "fleetjobs/status"], time.monotonic()
    for done in range(40):
        await agent.report(name, active=50 - done, succeeded=IndexSet.span(done + 1))
        await asyncio.sleep(0.02)
    took = time.monotonic() - began
    assert line.writes["patch", "fleetjobs/status"] - before <= 2 * took + 2

    async def counted() -> bool:
        return bool((await scene.status("wide"))["tasks"]["succeeded"] == 40)

    await until(counted)


async def test_foreign_fields_of_a_job_stay(scene: Scene) -> None:
    await scene.hub()
    await scene.agent("ash")
    await scene.available("ash")
    await scene.submit("shared")
    await scene.phase("shared", "Succeeded")
    job = await scene.job("shared")
    assert find_condition(job["status"]["conditions"], "Succeeded")
    patch = {"metadata": {"labels": {"mine": "yes"}, "annotations": {"note": "mine"}}}
    await scene.api.patch(FLEET_JOBS, "shared", patch, "default")
    cluster = await scene.api.get(MANAGED_CLUSTERS, "ash")
    assert cluster["metadata"]["labels"][names.CLUSTER_SET] == "default"
    stamp = {"metadata": {"annotations": {names.RETRY_FAILED: "2026-01-01T00:00:00Z"}}}
    await scene.api.patch(FLEET_JOBS, "shared", stamp, "default")
    await asyncio.sleep(0.3)
    job = await scene.job("shared")
    assert job["metadata"]["labels"] == {"mine": "yes"}
    assert job["metadata"]["annotations"]["note"] == "mine"
    assert job["status"]["phase"] == "Succeeded"
