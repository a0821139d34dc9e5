"""Limits of Workloads that somebody else runs, in Kueue's words: checks, readiness, time, deactivation."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from controllers_checks import Provisioner
from controllers_quota import cluster_queue, flavor, foreign, is_true, waits
from controllers_scene import Scene, until

from hub.api.conditions import condition_is, find_condition, with_condition
from hub.api.resource import WORKLOADS
from hub.api.timestamps import format_time, from_timestamp
from hub.controllers.hub import Hub

Json = dict[str, Any]
_MODES = pytest.mark.parametrize("mode", ["fleet", "kueue"])
_CHECKED = {"admissionChecksStrategy": {"admissionChecks": [{"name": "provision"}]}}


@pytest.fixture
async def provisioner(scene: Scene) -> AsyncIterator[Provisioner]:
    found = Provisioner(scene.api)
    yield found
    await found.stop()


async def _hub(scene: Scene, mode: str, **queue: Any) -> Hub:
    return await scene.hub(queue={"mode": mode, "notice": "0s", **queue})


async def _queue(scene: Scene, cpu: int = 4, **spec: Any) -> None:
    await flavor(scene, "any")
    await cluster_queue(scene, "team", {"cpu": cpu}, uses="any", **spec)


async def _says(scene: Scene, name: str, check: Callable[[Json], Any], seconds: float = 10.0) -> Json:
    async def found() -> Json | None:
        workload = await scene.workload(name)
        return workload if check(workload.get("status") or {}) else None

    try:
        result: Json = await until(found, seconds)
    except AssertionError:
        raise AssertionError(f"{name} is {await scene.workload(name)}") from None
    return result


def _reason(status: Json, kind: str, holds: str = "True") -> str:
    found = find_condition(status.get("conditions"), kind)
    return str(found["reason"]) if found is not None and found["status"] == holds else ""


async def _ready(scene: Scene, name: str, *, holds: bool = True, reason: str = "Started") -> None:
    found = await scene.workload(name)
    at = format_time(from_timestamp(time.time()))
    conditions = with_condition(found["status"]["conditions"], "PodsReady", str(holds), reason, "", now=at)
    meta = {"resourceVersion": found["metadata"]["resourceVersion"]}
    patch = {"metadata": meta, "status": {"conditions": [dict(c) for c in conditions]}}
    await scene.api.patch(WORKLOADS, name, patch, "default", subresource="status")


async def _give_back(scene: Scene, name: str) -> None:
    """As the controller of an evicted job, once its pods are gone."""
    found = await scene.workload(name)
    at = format_time(from_timestamp(time.time()))
    conditions = found["status"]["conditions"]
    why = find_condition(conditions, "Evicted")
    assert why is not None
    for kind, reason in (("QuotaReserved", "Pending"), ("Admitted", "NoReservation"), ("Requeued", why["reason"])):
        conditions = with_condition(conditions, kind, "False", reason, why["message"], now=at)
    patch = {"status": {"conditions": [dict(c) for c in conditions], "admission": None}}
    await scene.api.patch(WORKLOADS, name, patch, "default", subresource="status")


# Admission checks.


@_MODES
async def test_a_check_is_asked_and_lets_it_start(scene: Scene, provisioner: Provisioner, mode: str) -> None:
    await _hub(scene, mode)
    await provisioner.make()
    await _queue(scene, **_CHECKED)
    await foreign(scene, "job", "team", {"cpu": 2})
    workload = await is_true(scene, "job", "QuotaReserved")
    assert _reason(workload["status"], "Admitted", "False") == "UnsatisfiedAdmissionChecks"
    assert [(c["name"], c["state"]) for c in workload["status"]["admissionChecks"]] == [("provision", "Pending")]
    provisioner.start()
    await is_true(scene, "job", "Admitted")


@_MODES
async def test_retry_takes_the_quota_back_at_once_for_it_never_started(
    scene: Scene, provisioner: Provisioner, mode: str
) -> None:
    provisioner.answer = lambda workload: (
        {"state": "Ready"}
        if len(provisioner.asked)
        else {"state": "Retry", "message": "no nodes", "requeueAfterSeconds": 2}
    )
    await _hub(scene, mode)
    await provisioner.make()
    await _queue(scene, **_CHECKED)
    provisioner.start()
    await foreign(scene, "job", "team", {"cpu": 4})
    workload = await _says(scene, "job", lambda s: _reason(s, "Requeued", "False") == "AdmissionCheck")
    status = workload["status"]
    assert _reason(status, "Evicted") == "AdmissionCheck"
    assert not condition_is(status["conditions"], "QuotaReserved")
    assert "admission" not in status
    assert (status["admissionChecks"][0]["state"], status["admissionChecks"][0]["retryCount"]) == ("Pending", 1)
    assert status["requeueState"]["requeueAt"]
    workload = await is_true(scene, "job", "Admitted")
    assert _reason(workload["status"], "Requeued") == "BackoffFinished"
    assert not condition_is(workload["status"]["conditions"], "Evicted")


@_MODES
async def test_a_rejected_one_is_deactivated(scene: Scene, provisioner: Provisioner, mode: str) -> None:
    provisioner.answer = lambda workload: {"state": "Rejected", "message": "over budget"}
    await _hub(scene, mode)
    await provisioner.make()
    await _queue(scene, **_CHECKED)
    provisioner.start()
    await foreign(scene, "job", "team", {"cpu": 4})
    workload = await _says(scene, "job", lambda s: _reason(s, "Requeued", "False"))
    assert workload["spec"]["active"] is False
    evicted = find_condition(workload["status"]["conditions"], "Evicted")
    assert evicted is not None
    assert evicted["reason"] == "DeactivatedDueToAdmissionCheck"
    assert "over budget" in evicted["message"]
    assert find_condition(workload["status"]["conditions"], "DeactivationTarget") is None
    provisioner.answer = lambda workload: {"state": "Ready"}
    await scene.api.patch(WORKLOADS, "job", {"spec": {"active": True}}, "default")
    workload = await is_true(scene, "job", "Admitted")
    assert _reason(workload["status"], "Requeued") == "Reactivated"


@pytest.mark.parametrize("moment", ["asked", "answered", "retried"])
async def test_a_hub_that_dies_in_between_goes_on_with_what_is_written(
    scene: Scene, provisioner: Provisioner, moment: str
) -> None:
    first = await _hub(scene, "fleet")
    await provisioner.make()
    await _queue(scene, **_CHECKED)
    await foreign(scene, "job", "team", {"cpu": 4})
    workload = await is_true(scene, "job", "QuotaReserved")
    if moment != "asked":
        scene.line_of(first).cut()
        await provisioner.write(workload, {"state": "Ready" if moment == "answered" else "Retry"})
    await scene.kill(first)
    await scene.hub(queue={"mode": "fleet"}, identity="next")
    if moment == "asked":
        await foreign(scene, "other", "team", {"cpu": 4})
        await waits(scene, "other", "WaitingForQuota")
    provisioner.start()
    workload = await is_true(scene, "job", "Admitted")
    evictions = (workload["status"].get("schedulingStats") or {}).get("evictions") or []
    assert len(evictions) == (moment == "retried")


# Readiness.


@_MODES
async def test_who_is_not_ready_in_time_backs_off_and_is_deactivated_in_the_end(scene: Scene, mode: str) -> None:
    again = {"backoffBaseSeconds": 1, "backoffLimitCount": 1}
    await _hub(scene, mode, waitForPodsReady={"timeout": "1s", "requeuingStrategy": again})
    await _queue(scene)
    await foreign(scene, "job", "team", {"cpu": 4})
    workload = await is_true(scene, "job", "Evicted")
    assert _reason(workload["status"], "Evicted") == "PodsReadyTimeout"
    assert workload["status"]["requeueState"]["count"] == 1
    assert workload["status"]["requeueState"]["requeueAt"]
    await _give_back(scene, "job")
    await is_true(scene, "job", "Admitted")
    workload = await _says(scene, "job", lambda s: _reason(s, "Evicted") not in ("", "PodsReadyTimeout"))
    assert _reason(workload["status"], "Evicted") == "DeactivatedDueToRequeuingLimitExceeded"
    assert workload["spec"]["active"] is False
    assert not workload["status"].get("requeueState")


@_MODES
async def test_who_is_ready_stays_until_it_is_down_for_too_long(scene: Scene, mode: str) -> None:
    await _hub(scene, mode, waitForPodsReady={"timeout": "4s", "recoveryTimeout": "1s"})
    await _queue(scene)
    await foreign(scene, "job", "team", {"cpu": 4})
    await is_true(scene, "job", "Admitted")
    await _ready(scene, "job")
    until_late = time.monotonic() + 4.5

    async def still_there() -> bool:
        status = (await scene.workload("job"))["status"]
        assert not condition_is(status["conditions"], "Evicted")
        return time.monotonic() > until_late

    await until(still_there)
    await _ready(scene, "job", holds=False, reason="WaitForRecovery")
    workload = await is_true(scene, "job", "Evicted")
    assert _reason(workload["status"], "Evicted") == "PodsReadyTimeout"


@_MODES
async def test_nothing_else_is_admitted_while_one_is_not_ready(scene: Scene, mode: str) -> None:
    await _hub(scene, mode, waitForPodsReady={"timeout": "60s", "blockAdmission": True})
    await _queue(scene)
    await foreign(scene, "first", "team", {"cpu": 1})
    await is_true(scene, "first", "Admitted")
    await foreign(scene, "second", "team", {"cpu": 1})
    said = await waits(scene, "second", "WaitingForPodsReady")
    assert "default/first" in said["message"]
    await _ready(scene, "first")
    await is_true(scene, "second", "Admitted")


# Time, and deactivation.


@_MODES
async def test_its_time_is_over_and_earlier_times_count(scene: Scene, mode: str) -> None:
    await _hub(scene, mode)
    await _queue(scene, preemption={"withinClusterQueue": "LowerPriority"})
    await foreign(scene, "job", "team", {"cpu": 4}, maximumExecutionTimeSeconds=6)
    workload = await is_true(scene, "job", "Admitted")
    began = time.monotonic()
    await until(lambda: time.monotonic() > began + 2.2)
    await foreign(scene, "urgent", "team", {"cpu": 4}, priority=10)
    await is_true(scene, "job", "Evicted")
    await _give_back(scene, "job")
    workload = await _says(scene, "job", lambda s: s.get("accumulatedPastExecutionTimeSeconds"))
    past = workload["status"]["accumulatedPastExecutionTimeSeconds"]
    assert past >= 2
    await scene.api.delete(WORKLOADS, "urgent", "default")
    await is_true(scene, "job", "Admitted")
    again = time.monotonic()
    workload = await _says(scene, "job", lambda s: _reason(s, "Evicted").startswith("Deactivated"))
    assert _reason(workload["status"], "Evicted") == "DeactivatedDueToMaximumExecutionTimeExceeded"
    assert time.monotonic() - again < 6.0
    assert workload["spec"]["active"] is False


@_MODES
async def test_one_that_waits_is_deactivated_and_comes_back(scene: Scene, mode: str) -> None:
    await _hub(scene, mode)
    await _queue(scene, cpu=1)
    await foreign(scene, "job", "team", {"cpu": 4})
    await waits(scene, "job", "ExceedsMaxQuota", "WaitingForQuota")
    await scene.api.patch(WORKLOADS, "job", {"spec": {"active": False}}, "default")
    workload = await _says(scene, "job", lambda s: _reason(s, "Evicted"))
    assert _reason(workload["status"], "Evicted") == "Deactivated"
    assert _reason(workload["status"], "Requeued", "False") == "Deactivated"
    await scene.api.patch(WORKLOADS, "job", {"spec": {"active": True}}, "default")
    workload = await _says(scene, "job", lambda s: _reason(s, "Requeued"))
    assert _reason(workload["status"], "Requeued") == "Reactivated"
