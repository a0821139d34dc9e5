"""Objects that mislead, and errors of our own: each costs itself only."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from controllers_scene import Scene, Told, until

from hub.api import names
from hub.api.conditions import condition_is, find_condition
from hub.api.resource import (
    CLUSTER_CAPACITIES,
    CLUSTER_QUEUES,
    FLEET_JOBS,
    JOBS,
    LOCAL_QUEUES,
    MANAGED_CLUSTERS,
    MANIFEST_WORKS,
)
from hub.controllers import looking as looking_module
from hub.controllers.readings import refresh
from hub.planner.plan import Plan, Snapshot
from hub.registration.availability import READABLE


def without_limits(spec: dict[str, Any]) -> dict[str, Any]:
    return {"restartPolicy": "Never", "containers": [{"name": "main", "image": "host", "command": ["true"], **spec}]}


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"gpu": {"count": 0, "models": ["A100"]}}, "spec.gpu.count"),
        ({"activeDeadline": "0s"}, "spec.activeDeadline"),
        ({"template": {"spec": without_limits({"resources": {"requests": {"cpu": "-1"}}})}}, "cpu"),
    ],
)
async def test_a_job_that_passes_the_schema_and_misleads_says_so_and_stops_nothing(
    scene: Scene, spec: dict[str, Any], field: str
) -> None:
    await scene.hub()
    await scene.agent("ash")
    await scene.available("ash")
    await scene.submit("poison", **spec)
    await scene.submit("sound")
    await scene.phase("sound", "Succeeded")
    status = await scene.phase("poison", "Pending", "Queued")
    assert status["reason"] == "InvalidSpec"
    assert field in status["message"]
    assert condition_is(status["conditions"], "QuotaReserved", "False")
    await scene.api.delete(FLEET_JOBS, "poison", "default")


async def test_an_invalid_plain_job_says_so_in_its_own_status(scene: Scene) -> None:
    await scene.hub()
    job = {
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"name": "odd", "namespace": "default", "labels": {names.QUEUE_NAME: "default"}},
        "spec": {"suspend": True, "parallelism": 3, "template": {"spec": without_limits({})}},
    }  # fmt: skip
    await scene.api.create(JOBS, job, "default")

    async def said() -> Any:
        status = (await scene.api.get(JOBS, "odd", "default")).get("status") or {}
        return find_condition(status.get("conditions"), "Suspended")

    condition = await until(said)
    assert condition["reason"] == "InvalidSpec"
    assert "completions" in condition["message"]


async def test_a_job_corrected_after_it_was_refused_runs(scene: Scene) -> None:
    await scene.hub()
    await scene.agent("ash")
    await scene.available("ash")
    await scene.submit("mended", activeDeadline="0s")
    await scene.phase("mended", "Pending", "Queued")
    await scene.api.patch(FLEET_JOBS, "mended", {"spec": {"activeDeadline": "1h"}}, "default")
    await scene.phase("mended", "Succeeded")


async def test_a_job_that_runs_goes_on_when_its_spec_is_made_unreadable(scene: Scene) -> None:
    await scene.hub()
    ash = await scene.agent("ash", plan=lambda work, tasks: Told(seconds=0.5))
    await scene.available("ash")
    await scene.submit("running")
    await until(lambda: ash.started)
    await scene.api.patch(FLEET_JOBS, "running", {"spec": {"activeDeadline": "0s"}}, "default")
    await asyncio.sleep(0.8)
    assert ash.ended
    assert not ash.stopped
    await scene.api.patch(FLEET_JOBS, "running", {"spec": {"activeDeadline": "1h"}}, "default")
    status = await scene.phase("running", "Succeeded")
    assert len(status["attempts"]) == 1


async def test_a_work_whose_labels_somebody_spoilt_is_not_believed_and_its_epoch_not_used_again(scene: Scene) -> None:
    await scene.hub()
    ash = await scene.agent("ash", plan=lambda work, tasks: Told(seconds=30.0))
    await scene.available("ash")
    await scene.submit("spoilt")
    await until(lambda: ash.started)
    patch = {"metadata": {"annotations": {names.TASKS: "all of them"}}}
    await scene.api.patch(MANIFEST_WORKS, ash.started[0][0], patch, "ash")
    await until(lambda: len(ash.started) == 2)
    assert ash.started[1][0].endswith("-2")
    await scene.submit("other")
    await until(lambda: len(ash.started) == 3)


async def test_broken_queues_and_reports_concern_only_those_who_use_them(scene: Scene) -> None:
    await scene.hub()
    await scene.agent("ash")
    await scene.agent("elm")
    await scene.available("ash", "elm")
    queue = {
        "apiVersion": CLUSTER_QUEUES.api_version, "kind": "ClusterQueue", "metadata": {"name": "broken"},
        "spec": {
            "namespaceSelector": {},
            "resourceGroups": [{
                "coveredResources": ["cpu"],
                "flavors": [{"name": "absent", "resources": [{"name": "cpu", "nominalQuota": "1"}]}],
            }],
        },
    }  # fmt: skip
    await scene.api.create(CLUSTER_QUEUES, queue)
    local = {
        "apiVersion": LOCAL_QUEUES.api_version, "kind": "LocalQueue",
        "metadata": {"name": "broken", "namespace": "default"}, "spec": {"clusterQueue": "broken"},
    }  # fmt: skip
    await scene.api.create(LOCAL_QUEUES, local, "default")
    spoilt = {"status": {"nodeGroups": [{"name": "n", "count": 1, "allocatable": {"cpu": "-4"}}]}}
    await scene.api.patch(CLUSTER_CAPACITIES, "elm", spoilt, "elm")
    await scene.submit("wrong", queueName="broken")
    await scene.submit("right")
    assert (await scene.phase("wrong", "Queued"))["reason"] == "QueueInactive"
    await scene.phase("right", "Succeeded")


async def test_a_report_that_cannot_be_is_said_where_people_and_alarms_look(scene: Scene) -> None:
    hub = await scene.hub()
    await scene.agent("ash")
    await scene.available("ash")
    report = await scene.api.get(CLUSTER_CAPACITIES, "ash", "ash")
    spoilt = {"status": {"nodeGroups": [{"name": "n", "count": 1, "allocatable": {"cpu": "-4"}}]}}
    await scene.api.patch(CLUSTER_CAPACITIES, "ash", spoilt, "ash")

    async def said() -> dict[str, Any] | None:
        cluster = await scene.api.get(MANAGED_CLUSTERS, "ash")
        return find_condition(cluster["status"]["conditions"], READABLE)

    found = await until(said)
    assert (found["status"], found["reason"]) == ("False", "ReportUnreadable")
    assert "status.nodeGroups[0].allocatable.cpu: -4 is negative" in found["message"]
    assert "device plugin" in found["message"]
    refresh(hub)
    sample = ("quarterdeck_cluster_unreadable", {"cluster": "ash"})
    assert hub.metrics.registry.get_sample_value(*sample) == 1
    # What it said before counts: jobs run there.
    await scene.submit("right")
    await scene.phase("right", "Succeeded")

    await scene.api.patch(CLUSTER_CAPACITIES, "ash", {"status": report["status"]}, "ash")

    async def mended() -> bool:
        found = await said()
        return found is not None and found["status"] == "True"

    await until(mended)
    refresh(hub)
    assert hub.metrics.registry.get_sample_value(*sample) is None


async def test_an_exception_in_one_jobs_handling_stops_no_other(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = await scene.hub()
    await scene.agent("ash")
    await scene.available("ash")
    real = looking_module.fold

    def fold(spec: Any, *arguments: Any, **named: Any) -> Any:
        if spec.name == "cursed":
            raise ZeroDivisionError("ours")
        return real(spec, *arguments, **named)

    monkeypatch.setattr(looking_module, "fold", fold)
    await scene.submit("cursed")
    for number in range(3):
        await scene.submit(f"fine-{number}")
    for number in range(3):
        await scene.phase(f"fine-{number}", "Succeeded")
    assert hub.metrics.registry.get_sample_value("quarterdeck_job_errors_total") == 1
    assert (await scene.status("cursed")) == {}


async def test_a_job_that_no_decision_survives_waits_alone(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = await scene.hub()
    await scene.agent("ash")
    await scene.available("ash")
    real = hub.deciding.planner

    def plan(snapshot: Snapshot) -> Plan:
        if any(demand.key.startswith("default/cursed") and demand.priority == 0 for demand in snapshot.demands):
            raise ZeroDivisionError("ours")
        return real(snapshot)

    monkeypatch.setattr(hub.deciding, "planner", plan)
    await scene.submit("cursed-1")
    await scene.submit("fine-1")
    await scene.submit("cursed-2")
    await scene.phase("fine-1", "Succeeded")
    for name in ("cursed-1", "cursed-2"):

        async def told(name: str = name) -> Any:
            status = await scene.status(name)
            return status if status.get("reason") == "InvalidSpec" else None

        status = await until(told)
        assert status["phase"] == "Queued"
        assert "cannot decide" in status["message"]
    # Changed, it is tried again.
    await scene.api.patch(FLEET_JOBS, "cursed-1", {"spec": {"priorityClassName": "high"}}, "default")
    await scene.phase("cursed-1", "Succeeded")
    await scene.submit("fine-2")
    await scene.phase("fine-2", "Succeeded")


async def test_a_part_of_the_hub_that_fails_starts_again(scene: Scene) -> None:
    hub = await scene.hub(wait=False)
    real, failures = hub.cycle.turn, [ZeroDivisionError("ours"), ZeroDivisionError("ours again")]

    async def turn() -> None:
        if failures:
            raise failures.pop()
        await real()

    hub.cycle.turn = turn  # type: ignore[method-assign]
    looked = hub.registrar._look

    def look() -> float:
        hub.registrar._look = looked  # type: ignore[method-assign]
        raise ZeroDivisionError("ours")

    hub.registrar._look = look  # type: ignore[method-assign]
    await scene.agent("ash")
    await scene.available("ash")
    await scene.submit("patient")
    await scene.phase("patient", "Succeeded", seconds=15)
    failed = hub.metrics.registry.get_sample_value("quarterdeck_part_failures_total", {"part": "registrar"})
    assert failed == 1


async def test_a_work_that_the_api_refuses_is_said_and_tried_again_later(scene: Scene) -> None:
    """A slice too large for an agent is refused by the API; the job says so, and others go on."""
    await scene.hub()
    await scene.agent("ash")
    await scene.available("ash")
    env = [{"name": f"V{n}", "value": "x" * 1000} for n in range(600)]
    template = {"spec": without_limits({"env": env})}
    await scene.submit("huge", template=template)
    await scene.submit("small")
    await scene.phase("small", "Succeeded")

    async def said() -> dict[str, Any] | None:
        status = await scene.status("huge")
        return status if status.get("reason") == "WorkRefused" else None

    status = await until(said)
    assert "ash" in status["message"]
    assert await scene.works("ash")
    await asyncio.sleep(0.1)
