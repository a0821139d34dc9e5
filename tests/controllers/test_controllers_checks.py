"""Admission checks of strangers: a job has quota and a place, and nothing of it starts before they say yes."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from controllers_agent import FakeAgent, Told
from controllers_checks import Provisioner
from controllers_quota import active, cluster_queue, flavor, is_true, used
from controllers_scene import Scene, until

from hub.api import names
from hub.api.conditions import condition_is, find_condition
from hub.api.reasons import Reason
from hub.api.resource import CLUSTER_QUEUES, FLEET_JOBS, MANIFEST_WORKS, WORKLOAD_PRIORITY_CLASSES, WORKLOADS
from hub.controllers.hub import Hub

Json = dict[str, Any]
_MODES = pytest.mark.parametrize("mode", ["fleet", "kueue"])
_CHECKED = {"admissionChecksStrategy": {"admissionChecks": [{"name": "provision"}]}}


@pytest.fixture
async def provisioner(scene: Scene) -> AsyncIterator[Provisioner]:
    found = Provisioner(scene.api)
    yield found
    await found.stop()


async def _hub(scene: Scene, mode: str, **more: Any) -> Hub:
    return await scene.hub(queue={"mode": mode, "notice": "0s"}, **more)


async def _stage(scene: Scene, provisioner: Provisioner, *, lasts: float = 0.0, **spec: Any) -> FakeAgent:
    """A ClusterQueue `team` of four CPUs with the provisioner's check, and a cluster of eight."""
    agent = await scene.agent("c1", plan=lambda work, tasks: Told(seconds=lasts, running_after=0.0))
    await scene.available("c1")
    await flavor(scene, "any")
    await provisioner.make()
    await cluster_queue(scene, "team", {"cpu": 4, "memory": "1Gi"}, uses="any", **(_CHECKED | spec))
    return agent


def _entry(workload: Json, name: str = "provision") -> Json:
    entries = (workload.get("status") or {}).get("admissionChecks") or ()
    return next((entry for entry in entries if entry["name"] == name), {})


async def _says(scene: Scene, name: str, check: Callable[[Json], Any]) -> Json:
    async def found() -> Json | None:
        workload = await scene.workload(name)
        return workload if check(workload) else None

    try:
        result: Json = await until(found, what=f"Workload {name}")
    except AssertionError:
        raise AssertionError(f"{name} is {await scene.workload(name)}") from None
    return result


async def _asked(scene: Scene, name: str) -> Json:
    return await _says(
        scene,
        name,
        lambda w: _entry(w).get("state") == "Pending" and condition_is(w["status"].get("conditions"), "QuotaReserved"),
    )


@_MODES
async def test_nothing_is_sent_before_the_check_says_yes(scene: Scene, provisioner: Provisioner, mode: str) -> None:
    await _hub(scene, mode)
    agent = await _stage(scene, provisioner)
    await active(scene, "team", "True", "Ready")
    await scene.submit("job", queueName="team")
    workload = await _asked(scene, "job")
    admitted = find_condition(workload["status"]["conditions"], "Admitted")
    assert admitted is not None
    assert (admitted["status"], admitted["reason"]) == ("False", "UnsatisfiedAdmissionChecks")
    assert workload["status"]["admission"]["clusterQueue"] == "team"

    async def told() -> Json | None:
        status = await scene.status("job")
        return status if status.get("reason") == Reason.UNSATISFIED_CHECKS.code else None

    status = await until(told, what="the job says what it waits for")
    assert status["phase"] == "Queued"
    assert "provision" in status["message"]
    assert "c1" in status["message"]
    assert await scene.works("c1") == []

    async def counted() -> bool:
        found = (await scene.api.get(CLUSTER_QUEUES, "team")).get("status") or {}
        return found.get("reservingWorkloads") == 1 and found.get("admittedWorkloads") == 0

    await until(counted, what="it reserves and is not admitted")
    found = (await scene.api.get(CLUSTER_QUEUES, "team"))["status"]
    assert found["flavorsReservation"][0]["resources"][0]["total"] == "1"
    assert found["flavorsUsage"][0]["resources"][0]["total"] == "0"
    provisioner.start()
    await scene.phase("job", "Succeeded")
    await is_true(scene, "job", "Finished")
    assert condition_is((await scene.workload("job"))["status"]["conditions"], "Admitted")
    assert len(agent.started) == 1
    assert await scene.works(names.HUB_NAMESPACE) == []


@_MODES
async def test_what_the_check_adds_reaches_the_pods(scene: Scene, provisioner: Provisioner, mode: str) -> None:
    update = {
        "name": "main",
        "labels": {"pool": "burst"},
        "annotations": {"why": "asked for"},
        "nodeSelector": {"pool": "burst-7"},
        "tolerations": [{"key": "burst", "operator": "Exists", "effect": "NoSchedule"}],
    }
    provisioner.answer = lambda workload: {"state": "Ready", "podSetUpdates": [update]}
    await _hub(scene, mode)
    await _stage(scene, provisioner, lasts=30)
    provisioner.start()
    await scene.submit("job", queueName="team")
    await scene.phase("job", "Running")
    (work,) = await scene.works("c1")
    template = work["spec"]["workload"]["manifests"][0]["spec"]["template"]
    assert template["metadata"]["labels"]["pool"] == "burst"
    assert template["metadata"]["annotations"]["why"] == "asked for"
    assert template["spec"]["nodeSelector"] == {"pool": "burst-7"}
    assert update["tolerations"][0] in template["spec"]["tolerations"]


@_MODES
async def test_retry_gives_the_quota_back_and_waits_as_long_as_it_asks(
    scene: Scene, provisioner: Provisioner, mode: str
) -> None:
    said: list[float] = []

    def answer(workload: Json) -> Json:
        said.append(time.time())
        if len(said) == 1:
            return {"state": "Retry", "message": "no nodes", "requeueAfterSeconds": 4}
        return {"state": "Ready"}

    provisioner.answer = answer
    await _hub(scene, mode)
    await _stage(scene, provisioner, lasts=30)
    provisioner.start()
    await scene.submit("job", queueName="team", cpu="4")
    workload = await _says(scene, "job", lambda w: _entry(w).get("retryCount") == 1)
    status = workload["status"]
    evicted = find_condition(status["conditions"], "Evicted")
    assert evicted is not None
    assert evicted["reason"] == "AdmissionCheck"
    assert "no nodes" in evicted["message"]
    assert _entry(workload)["state"] == "Pending"
    assert "requeueAt" in status["requeueState"]
    assert "admission" not in status
    # Meanwhile the quota is for others.
    await scene.submit("other", queueName="team", cpu="4")
    await scene.phase("other", "Running")
    requeued = find_condition((await scene.workload("job"))["status"]["conditions"], "Requeued")
    assert requeued is not None
    assert (requeued["status"], requeued["reason"]) == ("False", "AdmissionCheck")
    await scene.api.patch(WORKLOADS, "other", {"spec": {"active": False}}, "default")
    await scene.phase("job", "Running")
    assert said[-1] - said[0] >= 1.0
    found = (await scene.workload("job"))["status"]
    assert found["schedulingStats"]["evictions"][0]["reason"] == "AdmissionCheck"
    assert "requeueAt" not in (found.get("requeueState") or {})


@_MODES
async def test_a_rejected_job_is_deactivated_and_may_be_activated(
    scene: Scene, provisioner: Provisioner, mode: str
) -> None:
    provisioner.answer = lambda workload: {"state": "Rejected", "message": "over budget"}
    await _hub(scene, mode)
    await _stage(scene, provisioner)
    provisioner.start()
    await scene.submit("job", queueName="team")
    workload = await _says(
        scene,
        "job",
        lambda w: w["spec"].get("active") is False and not condition_is(w["status"]["conditions"], "QuotaReserved"),
    )
    evicted = find_condition(workload["status"]["conditions"], "Evicted")
    assert evicted is not None
    assert evicted["reason"] == "DeactivatedDueToAdmissionCheck"
    assert "over budget" in evicted["message"]
    workload = await _says(scene, "job", lambda w: _entry(w).get("state") == "Pending")
    assert (await scene.status("job"))["reason"] == "DeactivatedDueToAdmissionCheck"

    async def alone() -> bool:
        return not await scene.works()

    await until(alone, what="nothing is left reserved")
    provisioner.answer = lambda workload: {"state": "Ready"}
    await scene.api.patch(WORKLOADS, "job", {"spec": {"active": True}}, "default")
    await scene.phase("job", "Succeeded")


@_MODES
async def test_a_queue_is_closed_while_its_check_cannot_be_asked(
    scene: Scene, provisioner: Provisioner, mode: str
) -> None:
    await _hub(scene, mode)
    await scene.agent("c1")
    await scene.available("c1")
    await flavor(scene, "any")
    await cluster_queue(scene, "team", {"cpu": 4, "memory": "1Gi"}, uses="any", **_CHECKED)
    await active(scene, "team", "False", "AdmissionCheckNotFound")
    await provisioner.make(active=False)
    await active(scene, "team", "False", "AdmissionCheckInactive")
    await provisioner.say_active()
    await active(scene, "team", "True", "Ready")
    await provisioner.say_active("False")
    await active(scene, "team", "False", "AdmissionCheckInactive")


@_MODES
async def test_a_check_is_asked_only_for_its_flavors(scene: Scene, provisioner: Provisioner, mode: str) -> None:
    await _hub(scene, mode)
    await scene.agent("c1", cpu=8, plan=lambda work, tasks: Told(seconds=30, running_after=0.0))
    await scene.available("c1")
    await provisioner.make()
    for name in ("steady", "burst"):
        await flavor(scene, name)
    quotas = [{"name": "cpu", "nominalQuota": 1}, {"name": "memory", "nominalQuota": "1Gi"}]
    flavors = [{"name": name, "resources": quotas} for name in ("steady", "burst")]
    group = {"coveredResources": ["cpu", "memory"], "flavors": flavors}
    checks = {"admissionChecks": [{"name": "provision", "onFlavors": ["burst"]}]}
    await cluster_queue(scene, "team", {"cpu": 1}, resourceGroups=[group], admissionChecksStrategy=checks)
    await scene.submit("first", queueName="team")
    await scene.phase("first", "Running")
    assert "admissionChecks" not in (await is_true(scene, "first"))["status"]
    await scene.submit("second", queueName="team")
    workload = await _asked(scene, "second")
    assert workload["status"]["admission"]["podSetAssignments"][0]["flavors"]["cpu"] == "burst"
    provisioner.start()
    await scene.phase("second", "Running")
    assert provisioner.asked == ["second"]


async def test_updates_that_contradict_the_job_are_an_answer_that_cannot_be_followed(
    scene: Scene, provisioner: Provisioner
) -> None:
    update = {"name": "main", "labels": {f"{names.GROUP}/epoch": "7"}}
    provisioner.answer = lambda workload: {"state": "Ready", "podSetUpdates": [update]}
    await _hub(scene, "fleet")
    await _stage(scene, provisioner)
    provisioner.start()
    await scene.submit("job", queueName="team")
    workload = await _says(scene, "job", lambda w: w["spec"].get("active") is False)
    workload = await _says(scene, "job", lambda w: find_condition(w["status"]["conditions"], "Evicted"))
    assert "fleet's own" in find_condition(workload["status"]["conditions"], "Evicted")["message"]  # type: ignore[index]
    assert await scene.works("c1") == []


@pytest.mark.parametrize("moment", ["reserved", "asked", "answered", "sent"])
async def test_a_hub_that_dies_in_between_loses_and_doubles_nothing(
    scene: Scene, provisioner: Provisioner, moment: str
) -> None:
    first = await _hub(scene, "fleet")
    agent = await _stage(scene, provisioner, lasts=0.3)
    line = scene.line_of(first)
    died: list[str] = []

    def die_at(verb: str, what: str, name: str) -> None:
        reserved = (verb, what) == ("patch", "workloads/status") and moment == "reserved"
        sent = (verb, what) == ("create", "manifestworks") and moment == "sent" and len(died) == 0 and provisioner.asked
        if (reserved or sent) and not line.down:
            line.lose_answer = bool(sent)
            if reserved:
                line.cut()
            died.append(name)

    line.before = die_at
    await scene.submit("job", queueName="team")
    if moment in ("asked", "answered"):
        workload = await _asked(scene, "job")
        if moment == "answered":
            line.cut()
            await provisioner.write(workload, {"state": "Ready"})
    elif moment == "sent":
        provisioner.start()
    if moment in ("reserved", "sent"):
        await until(lambda: died, what="the moment")
    if moment == "reserved":
        reserved = await scene.works(names.HUB_NAMESPACE)
        assert [work["metadata"]["annotations"][names.RESERVED_FOR] for work in reserved] == ["c1"]
    await scene.kill(first)
    if moment != "sent":
        assert agent.started == []
    await _hub(scene, "fleet", identity="next")
    if moment != "sent":
        provisioner.start()
    await scene.phase("job", "Succeeded")
    assert len(agent.started) == 1
    assert (await scene.job("job"))["status"]["attempts"][-1]["epoch"] == 1

    async def alone() -> bool:
        return not (await scene.api.list(MANIFEST_WORKS, names.HUB_NAMESPACE)).items

    await until(alone, what="nothing is left reserved")
    workload = await is_true(scene, "job", "Finished")
    assert _entry(workload)["state"] == "Ready"
    assert (await used(scene, "team"))[0] in ("0", "1")


async def test_a_reserved_job_makes_way_at_once(scene: Scene, provisioner: Provisioner) -> None:
    await scene.hub(queue={"mode": "fleet", "notice": "60s"})
    await _stage(scene, provisioner, lasts=30, preemption={"withinClusterQueue": "LowerPriority"})
    body = {"apiVersion": "kueue.x-k8s.io/v1beta2", "kind": "WorkloadPriorityClass", "metadata": {"name": "urgent"}}
    await scene.api.create(WORKLOAD_PRIORITY_CLASSES, {**body, "value": 10})
    await scene.submit("low", queueName="team", cpu="4")
    await _asked(scene, "low")
    await scene.submit("high", queueName="team", cpu="4", priorityClassName="urgent")
    await _asked(scene, "high")
    workload = await _says(scene, "low", lambda w: not condition_is(w["status"]["conditions"], "QuotaReserved"))
    assert find_condition(workload["status"]["conditions"], "Evicted")["reason"] == "Preempted"  # type: ignore[index]


@_MODES
async def test_retry_stops_what_runs_as_well(scene: Scene, provisioner: Provisioner, mode: str) -> None:
    await _hub(scene, mode)
    agent = await _stage(scene, provisioner, lasts=30)
    provisioner.start()
    await scene.submit("job", queueName="team", tasks=2)
    await scene.phase("job", "Running")
    workload = await is_true(scene, "job", "Admitted")
    await provisioner.write(workload, {"state": "Retry", "message": "the nodes are gone"})
    await until(lambda: agent.stopped, what="what runs is stopped")
    await _says(scene, "job", lambda w: _entry(w).get("retryCount") == 1)
    await until(lambda: len(provisioner.asked) == 2, what="asked again")
    await scene.phase("job", "Running")
    found = (await scene.status("job"))["attempts"]
    assert [(a["state"], a.get("reason")) for a in found] == [("Evicted", "AdmissionCheck"), ("Running", None)]


async def test_an_array_on_two_clusters_is_asked_about_once(scene: Scene, provisioner: Provisioner) -> None:
    await _hub(scene, "fleet")
    first = await _stage(scene, provisioner, lasts=0.1)
    second = await scene.agent("c2", cpu=2)
    await scene.available("c2")
    await scene.api.patch(CLUSTER_QUEUES, "team", {"spec": {"resourceGroups": [_group(cpu=20)]}})
    await scene.submit("job", queueName="team", tasks=10)
    await _asked(scene, "job")

    async def both() -> bool:
        works = await scene.works(names.HUB_NAMESPACE)
        return {work["metadata"]["annotations"][names.RESERVED_FOR] for work in works} == {"c1", "c2"}

    await until(both, what="both slices are reserved")
    provisioner.start()
    await scene.phase("job", "Succeeded")
    assert provisioner.asked == ["job"]
    assert first.started
    assert second.started


async def test_a_lost_cluster_takes_what_was_reserved_for_it(scene: Scene, provisioner: Provisioner) -> None:
    await _hub(scene, "fleet")
    agent = await scene.agent("c1", lease_seconds=1)
    await scene.available("c1")
    await flavor(scene, "any")
    await provisioner.make()
    await cluster_queue(scene, "team", {"cpu": 4, "memory": "1Gi"}, uses="any", **_CHECKED)
    await scene.submit("job", queueName="team")
    await _asked(scene, "job")
    other = await scene.agent("c2")
    await scene.available("c2")
    await agent.stop()

    async def elsewhere() -> bool:
        works = await scene.works(names.HUB_NAMESPACE)
        return [work["metadata"]["annotations"][names.RESERVED_FOR] for work in works] == ["c2"]

    await until(elsewhere, what="it is reserved elsewhere")
    provisioner.start()
    await scene.phase("job", "Succeeded")
    assert len(other.started) == 1


async def test_a_job_that_is_cancelled_leaves_nothing_reserved(scene: Scene, provisioner: Provisioner) -> None:
    await _hub(scene, "fleet")
    await _stage(scene, provisioner)
    await scene.submit("job", queueName="team")
    await _asked(scene, "job")
    await scene.api.patch(FLEET_JOBS, "job", {"spec": {"cancel": True}}, "default")
    await scene.phase("job", "Cancelled")

    async def alone() -> bool:
        return not await scene.works(names.HUB_NAMESPACE)

    await until(alone, what="nothing is left reserved")
    await scene.submit("gone", queueName="team")
    await _asked(scene, "gone")
    await scene.api.delete(FLEET_JOBS, "gone", "default")
    await until(alone, what="nothing is left reserved")


def _group(cpu: int) -> Json:
    resources = [{"name": "cpu", "nominalQuota": cpu}, {"name": "memory", "nominalQuota": "1Gi"}]
    return {"coveredResources": ["cpu", "memory"], "flavors": [{"name": "any", "resources": resources}]}
