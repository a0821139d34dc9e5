"""What stops a job that runs, and what lets it go on: drained queues, deactivation, limits on time, tasks not up."""

from __future__ import annotations

import time
from typing import Any

import pytest
from controllers_scene import Scene, Told, until
from controllers_tenants import tenant

from hub.api import names
from hub.api.conditions import condition_is, find_condition
from hub.api.indexset import IndexSet
from hub.api.resource import CLUSTER_QUEUES, FLEET_JOBS, LOCAL_QUEUES, WORKLOADS

Json = dict[str, Any]


def long_first(work: Json, tasks: IndexSet) -> Told:
    return Told(seconds=30 if work["metadata"]["labels"][names.EPOCH] == "1" else 0.05, running_after=0.0)


async def conditions(scene: Scene, name: str) -> list[Json]:
    found: list[Json] = ((await scene.workload(name)).get("status") or {}).get("conditions") or []
    return found


async def reasons(scene: Scene, name: str, kind: str) -> tuple[str, str] | None:
    found = find_condition(await conditions(scene, name), kind)
    return (str(found["status"]), str(found["reason"])) if found is not None else None


async def said(scene: Scene, name: str, kind: str, status: str, reason: str) -> None:
    async def says() -> bool:
        return await reasons(scene, name, kind) == (status, reason)

    await until(says, 30, what=f"{kind} {status} {reason}")


@pytest.mark.parametrize(
    ("resource", "namespace", "reason", "restarted"),
    [
        (CLUSTER_QUEUES, None, "ClusterQueueStopped", "ClusterQueueRestarted"),
        (LOCAL_QUEUES, "default", "LocalQueueStopped", "LocalQueueRestarted"),
    ],
)
async def test_a_drained_queue_evicts_and_a_restarted_one_takes_back(
    scene: Scene, resource: Any, namespace: str | None, reason: str, restarted: str
) -> None:
    await scene.hub(queue={"notice": "100ms"})
    agent = await scene.agent("ash", plan=long_first)
    await scene.available("ash")
    await tenant(scene, "vision", 4, cohort=None, preemption={})
    await scene.submit("job", tasks=2, queueName="vision")
    await scene.submit("other", tasks=1)
    await scene.phase("job", "Running")
    # Hold lets what runs go on.
    await scene.api.patch(resource, "vision", {"spec": {"stopPolicy": "Hold"}}, namespace)
    await scene.submit("later", queueName="vision")
    assert (await scene.phase("later", "Queued"))["reason"] == "QueueInactive"
    assert (await scene.status("job"))["phase"] == "Running"
    await scene.api.patch(resource, "vision", {"spec": {"stopPolicy": "HoldAndDrain"}}, namespace)
    status = await scene.phase("job", "Queued", seconds=30)
    assert status["attempts"][0]["reason"] == reason
    assert status["evictions"] == [{"reason": reason, "count": 1}]
    assert "preemptions" not in status or status["preemptions"] == 0
    await said(scene, "job", "Evicted", "True", reason)
    await said(scene, "job", "Requeued", "False", reason)
    assert len([name for name in agent.stopped if name.startswith("job")]) == 1
    await scene.api.patch(resource, "vision", {"spec": {"stopPolicy": "None"}}, namespace)
    await scene.phase("job", "Succeeded", seconds=30)
    await said(scene, "job", "Requeued", "True", restarted)
    assert (await scene.status("other"))["phase"] == "Running"


async def test_a_deactivated_workload_stops_and_goes_on_when_it_is_active_again(scene: Scene) -> None:
    hub = await scene.hub()
    await scene.agent("ash", plan=long_first)
    await scene.available("ash")
    await scene.submit("job", tasks=2)
    await scene.phase("job", "Running")
    await until(lambda: scene.workload("job"))
    await scene.api.patch(WORKLOADS, "job", {"spec": {"active": False}}, "default")
    status = await scene.phase("job", "Queued", seconds=30)
    assert (status["reason"], status["attempts"][0]["state"]) == ("Deactivated", "Evicted")
    assert "spec.active" in status["message"]
    await said(scene, "job", "Evicted", "True", "Deactivated")
    # A hub that takes over leaves it alone, too.
    await scene.kill(hub)
    await scene.hub(identity="second")
    assert (await scene.phase("job", "Queued", seconds=30))["reason"] == "Deactivated"
    await scene.api.patch(WORKLOADS, "job", {"spec": {"active": True}}, "default")
    await scene.phase("job", "Succeeded", seconds=30)
    await said(scene, "job", "Requeued", "True", "Reactivated")


async def test_a_suspended_job_is_inactive_as_long_as_it_is_and_nobody_elses_wish_is_undone(scene: Scene) -> None:
    await scene.hub()
    await scene.agent("ash", plan=lambda work, tasks: Told(seconds=30, running_after=0.0))
    await scene.available("ash")
    await scene.submit("job")
    await scene.phase("job", "Running")
    await scene.api.patch(FLEET_JOBS, "job", {"spec": {"suspend": True}}, "default")

    async def active(wanted: bool) -> bool:
        return (await scene.workload("job"))["spec"].get("active", True) is wanted

    await until(lambda: active(False))
    assert (await scene.phase("job", "Pending"))["reason"] == "Suspended"
    await scene.api.patch(FLEET_JOBS, "job", {"spec": {"suspend": False}}, "default")
    await until(lambda: active(True))
    await scene.phase("job", "Running")
    await scene.api.patch(WORKLOADS, "job", {"spec": {"active": False}}, "default")
    assert (await scene.phase("job", "Queued", seconds=30))["reason"] == "Deactivated"
    await scene.api.patch(FLEET_JOBS, "job", {"spec": {"suspend": True}}, "default")
    await scene.phase("job", "Pending")
    await scene.api.patch(FLEET_JOBS, "job", {"spec": {"suspend": False}}, "default")
    assert (await scene.phase("job", "Queued", seconds=30))["reason"] == "Deactivated"
    assert await active(False)


async def test_who_holds_quota_too_long_is_deactivated_and_counts_anew_after_that(scene: Scene) -> None:
    await scene.hub()
    agent = await scene.agent("ash", plan=long_first)
    await scene.available("ash")
    began = time.time()
    await scene.submit("job", maximumExecutionTime="2s")
    status = await scene.phase("job", "Queued", seconds=30)
    assert time.time() - began >= 1.0
    code = "DeactivatedDueToMaximumExecutionTimeExceeded"
    assert (status["reason"], status["attempts"][0]["reason"]) == (code, code)
    await said(scene, "job", "Evicted", "True", code)

    async def inactive() -> Json | None:
        workload = await scene.workload("job")
        return workload if workload["spec"].get("active") is False else None

    workload = await until(inactive, 30)
    assert workload["metadata"]["annotations"][names.DEACTIVATED] == f"{code}/2"
    assert workload["spec"]["maximumExecutionTimeSeconds"] == 2
    stats = (await until(lambda: _stats(scene)))["evictions"]
    assert stats == [{"reason": "Deactivated", "underlyingCause": "MaximumExecutionTimeExceeded", "count": 1}]
    assert len(agent.started) == 1
    await scene.api.patch(WORKLOADS, "job", {"spec": {"active": True}}, "default")
    await scene.phase("job", "Succeeded", seconds=30)


async def _stats(scene: Scene) -> Json | None:
    found: Json | None = ((await scene.workload("job")).get("status") or {}).get("schedulingStats")
    return found


async def test_tasks_that_do_not_start_in_time_go_elsewhere_after_a_pause(scene: Scene) -> None:
    ready = {"timeout": "1s", "requeuingStrategy": {"backoffBaseSeconds": 1}}
    await scene.hub(queue={"waitForPodsReady": ready})
    await scene.agent("ash", cpu=8, plan=lambda work, tasks: Told(seconds=30))
    await scene.agent("elm", cpu=4, plan=lambda work, tasks: Told(seconds=0.1, running_after=0.0))
    await scene.available("ash", "elm")
    await scene.submit("job", tasks=8)
    await until(lambda: any(name.startswith("job") for name, _ in scene.agents[0].started))

    async def backs_off() -> Json | None:
        status = (await scene.workload("job")).get("status") or {}
        return status.get("requeueState")

    state = await until(backs_off, 30)
    assert state["count"] == 1
    status = await scene.phase("job", "Succeeded", seconds=40)
    timeouts = [a for a in status["attempts"] if a.get("reason") == "PodsReadyTimeout"]
    assert {a["cluster"] for a in timeouts} == {"ash"}
    assert "0 of" in timeouts[0]["message"]
    assert {a["attempt"] for a in status["attempts"]} == {1}


async def test_who_never_gets_up_is_deactivated(scene: Scene) -> None:
    ready = {"timeout": "1s", "requeuingStrategy": {"backoffBaseSeconds": 0.1, "backoffLimitCount": 1}}
    await scene.hub(queue={"waitForPodsReady": ready})
    await scene.agent("ash", plan=lambda work, tasks: Told(seconds=30))
    await scene.available("ash")
    await scene.submit("job")

    async def deactivated() -> Json | None:
        status = await scene.status("job")
        return status if status.get("reason") == "DeactivatedDueToRequeuingLimitExceeded" else None

    status = await until(deactivated, 40)
    assert [a["reason"] for a in status["attempts"]] == ["PodsReadyTimeout", "PodsReadyTimeout"]
    assert "2 times" in status["message"]
    assert (await scene.workload("job"))["spec"]["active"] is False


async def test_one_at_a_time_until_it_is_up(scene: Scene) -> None:
    await scene.hub(queue={"waitForPodsReady": {"timeout": "1m", "blockAdmission": True}})
    agent = await scene.agent("ash", plan=lambda work, tasks: Told(seconds=0.3, running_after=0.6))
    await scene.available("ash")
    for name in ("one", "two", "three"):
        await scene.submit(name)
    await until(lambda: agent.started)

    async def waits() -> bool:
        found = [(await scene.status(name)).get("reason") for name in ("one", "two", "three")]
        return found.count("WaitingForPodsReady") == 2

    await until(waits)
    assert len(agent.started) == 1
    for name in ("one", "two", "three"):
        await scene.phase(name, "Succeeded")
    assert len(agent.started) == 3


async def test_that_it_is_up_is_said_as_kueue_says_it(scene: Scene) -> None:
    await scene.hub(queue={"waitForPodsReady": {"timeout": "1m", "recoveryTimeout": "1s"}})
    agent = await scene.agent("ash", plan=lambda work, tasks: Told(seconds=30, running_after=1.5))
    await scene.available("ash")
    await scene.submit("job", tasks=2)
    await said(scene, "job", "PodsReady", "False", "WaitForStart")
    await said(scene, "job", "PodsReady", "True", "Started")
    name = agent.started[0][0]
    await agent.report(name, active=1)
    await said(scene, "job", "Evicted", "True", "PodsReadyTimeout")
    status = await scene.status("job")
    assert "1 of 2 tasks ran" in status["attempts"][0]["message"]
    assert condition_is(await conditions(scene, "job"), "PodsReady", "False")
