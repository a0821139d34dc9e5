"""What others see: plain Jobs get their status back, queues say how full they are, Events say what happened."""

from __future__ import annotations

from typing import Any

import pytest
from controllers_scene import Scene, Told, until

from hub.api import names
from hub.api.conditions import condition_is, find_condition
from hub.api.indexset import IndexSet
from hub.api.resource import (
    CLUSTER_QUEUES,
    EVENTS,
    JOBS,
    LOCAL_QUEUES,
    WORKLOADS,
)


async def _empty(scene: Scene) -> bool:
    return not await scene.works()


def plain_job(name: str, **spec: Any) -> dict[str, Any]:
    container = {"name": "main", "image": "host", "command": ["true"], "resources": {"requests": {"cpu": "1"}}}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": "default", "labels": {names.QUEUE_NAME: "default"}},
        "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [container]}}, **spec},
    }


@pytest.mark.parametrize("how", [{"suspend": True}, {"managedBy": names.MANAGED_BY}])
async def test_a_plain_job_goes_the_same_way_and_gets_its_own_status_back(scene: Scene, how: dict[str, Any]) -> None:
    await scene.hub()
    await scene.agent("ash")
    await scene.available("ash")
    spec = {"completions": 3, "parallelism": 3, "completionMode": "Indexed", **how}
    job = await scene.api.create(JOBS, plain_job("plain", **spec), "default")

    async def complete() -> dict[str, Any] | None:
        status = (await scene.api.get(JOBS, "plain", "default")).get("status") or {}
        return status if condition_is(status.get("conditions"), "Complete") else None

    status = await until(complete)
    assert status["succeeded"] == 3
    assert status["completedIndexes"] == "0-2"
    assert status["completionTime"]
    works = await scene.works("ash")
    assert [w["metadata"]["labels"][names.JOB_KIND] for w in works] == ["Job"]

    async def owners() -> list[str]:
        workloads = (await scene.api.list(WORKLOADS, "default")).items
        return [w["metadata"]["ownerReferences"][0]["kind"] for w in workloads]

    assert await until(owners) == ["Job"]
    await scene.api.delete(JOBS, "plain", "default", propagation_policy="Background", uid=job["metadata"]["uid"])
    await until(lambda: _empty(scene))


async def test_a_plain_job_of_somebody_else_is_left_alone(scene: Scene) -> None:
    hub = await scene.hub()
    await scene.agent("ash")
    await scene.available("ash")
    await scene.api.create(JOBS, plain_job("theirs", managedBy="example.com/other"), "default")
    await scene.api.create(JOBS, plain_job("local"), "default")
    await scene.submit("ours")
    await scene.phase("ours", "Succeeded")
    assert {entry.ref.name for entry in hub.table} == {"ours"}


async def test_events_say_what_happened_once(scene: Scene) -> None:
    await scene.hub()
    await scene.agent("ash", plan=lambda work, tasks: Told(failing=tasks_set(tasks), code=2))
    await scene.available("ash")
    await scene.submit("fails", tasks=2)
    await scene.phase("fails", "Failed")

    async def said() -> list[dict[str, Any]] | None:
        events = (await scene.api.list(EVENTS, "default")).items
        return events if len(events) >= 2 else None

    events = {event["reason"]: event for event in await until(said)}
    assert set(events) == {"Admitted", "TasksFailed"}
    assert events["TasksFailed"]["type"] == "Warning"
    assert events["TasksFailed"]["regarding"]["name"] == "fails"
    assert "2 of 2 tasks failed" in events["TasksFailed"]["note"]


def tasks_set(tasks: IndexSet) -> frozenset[int]:
    return frozenset(tasks)


async def test_queues_say_how_many_wait_and_what_is_in_use(scene: Scene) -> None:
    hub = await scene.hub()
    hub.queue_status._calm = 0.3
    ash = await scene.agent("ash", cpu=2, plan=lambda work, tasks: Told(seconds=2.5))
    await scene.available("ash")
    await scene.submit("runs", cpu="2")
    await until(lambda: ash.started)
    await scene.submit("waits", cpu="2")

    async def says(pending: int, admitted: int, cpu: str) -> bool:
        for resource, namespace in ((CLUSTER_QUEUES, None), (LOCAL_QUEUES, "default")):
            status = (await scene.api.get(resource, "default", namespace)).get("status") or {}
            if (status.get("pendingWorkloads"), status.get("admittedWorkloads")) != (pending, admitted):
                return False
            if status["flavorsUsage"][0]["resources"][0]["total"] != cpu:
                return False
            if not condition_is(status["conditions"], "Active"):
                return False
        return True

    await until(lambda: says(1, 1, "2"))
    await scene.phase("waits", "Succeeded")
    await until(lambda: says(0, 0, "0"))
    await scene.api.patch(CLUSTER_QUEUES, "default", {"spec": {"stopPolicy": "Hold"}})

    async def stopped() -> bool:
        queue = await scene.api.get(CLUSTER_QUEUES, "default")
        local = await scene.api.get(LOCAL_QUEUES, "default", "default")
        first = find_condition(queue["status"]["conditions"], "Active") or {}
        second = find_condition(local["status"]["conditions"], "Active") or {}
        return (first.get("reason"), second.get("reason")) == ("Stopped", "ClusterQueueIsInactive")

    await until(stopped)
