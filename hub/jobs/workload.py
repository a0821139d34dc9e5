"""The Kueue Workload that mirrors a job, for people and tools that read queues through Kueue.

It says what the job asks a queue for and what the queue decided; the decision itself is in the ManifestWorks. Its
admission is the sum over the job's live slices and is not shrunk while quota is held, as Kueue's never is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from hub.api import names
from hub.api.conditions import condition_is, find_condition, with_condition
from hub.api.quantity import Quantity
from hub.api.reasons import Reason
from hub.api.resource import FLEET_JOBS, JOBS, WORKLOAD_PRIORITY_CLASSES, WORKLOADS
from hub.fleet.shape import TaskShape
from hub.jobs.attempt import Attempt
from hub.jobs.spec import JobSpec
from hub.jobs.state import JobState
from hub.jobs.status import stamp
from hub.jobs.template import counted_template

Json = dict[str, Any]
POD_SET: Final = "main"
_EVICTIONS: Final = {
    Reason.SUSPENDED: "Deactivated",
    Reason.CLUSTER_LOST: "NodeFailures",
}


def workload_object(spec: JobSpec, priority: int = 0) -> Json:
    """The Workload, owned by its job, without status. `priority` is its class's value."""
    owner = FLEET_JOBS if spec.kind == "FleetJob" else JOBS
    pods: Json = {"name": POD_SET, "count": max(spec.parallelism, 0), "template": counted_template(spec)}
    if spec.parallelism > 1:
        # Some of its tasks may start before there is room for all.
        pods["minCount"] = 1
    wanted: Json = {"queueName": spec.queue, "podSets": [pods], "priority": priority, "active": not spec.suspend}
    if spec.priority_class:
        wanted["priorityClassRef"] = {
            "group": WORKLOAD_PRIORITY_CLASSES.group,
            "kind": WORKLOAD_PRIORITY_CLASSES.kind,
            "name": spec.priority_class,
        }
    return {
        "apiVersion": WORKLOADS.api_version,
        "kind": WORKLOADS.kind,
        "metadata": {
            "name": spec.workload,
            "namespace": spec.namespace,
            "labels": {names.KUEUE_JOB_UID: spec.uid},
            "ownerReferences": [
                {
                    "apiVersion": owner.api_version,
                    "kind": owner.kind,
                    "name": spec.name,
                    "uid": spec.uid,
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        },
        "spec": wanted,
    }


def workload_status(spec: JobSpec, state: JobState, previous: Mapping[str, Any], now: float) -> Json:
    """The status that the Workload is to have, given the one it has. `now` is epoch seconds."""
    conditions: Sequence[Mapping[str, Any]] = previous.get("conditions") or ()
    status: Json = {key: value for key, value in previous.items() if key not in ("conditions", "admission")}
    before = previous.get("admission")
    at = stamp(now)

    def put(kind: str, verdict: str, reason: str, message: str) -> None:
        nonlocal conditions
        conditions = with_condition(
            conditions, kind, verdict, reason, message, now=at, generation=spec.generation or None
        )

    live = state.live
    if state.ended:
        if before is not None:
            status["admission"] = before
        if find_condition(conditions, "Finished") is None or not condition_is(conditions, "Finished"):
            put("Finished", "True", "Succeeded" if state.phase == "Succeeded" else "Failed", state.message)
    elif live:
        queue = live[-1].queue
        status["admission"] = _admission(spec.shape, live, before)
        reserved = Reason.QUOTA_RESERVED.message(queue=queue)
        put("QuotaReserved", "True", Reason.QUOTA_RESERVED.code, reserved)
        put("Admitted", "True", "Admitted", f"The workload is admitted by ClusterQueue {queue}")
        for kind in ("Evicted", "Finished"):
            if condition_is(conditions, kind):
                put(kind, "False", Reason.QUOTA_RESERVED.code, reserved)
    else:
        if condition_is(conditions, "Admitted"):
            put("Admitted", "False", "NoReservation", "The workload has no reservation")
            if (why := _EVICTIONS.get(state.reason)) is not None:
                put("Evicted", "True", why, state.message)
        if condition_is(conditions, "Finished"):
            put("Finished", "False", state.reason.code, state.message)
        put("QuotaReserved", "False", state.reason.code, state.message)
    status["conditions"] = [dict(condition) for condition in conditions]
    return status


def _admission(shape: TaskShape, live: Sequence[Attempt], before: Any) -> Json:
    """What the live slices hold, by the flavors of the largest; the one before when that was not less."""
    queue, count = live[-1].queue, sum(attempt.slots for attempt in live)
    if isinstance(before, Mapping) and before.get("clusterQueue") == queue:
        counts = [part.get("count") or 0 for part in before.get("podSetAssignments") or ()]
        if sum(counts) >= count:
            return dict(before)
    flavors = dict(max(live, key=lambda attempt: (attempt.slots, -attempt.epoch)).flavors)
    usage = {name: str(_amount(name, requested) * count) for name, requested in _requests(shape) if name in flavors}
    assignment = {"name": POD_SET, "flavors": flavors, "resourceUsage": usage, "count": count}
    return {"clusterQueue": queue, "podSetAssignments": [assignment]}


def _requests(shape: TaskShape) -> list[tuple[str, int]]:
    shares = [(names.GPU_MILLI, shape.gpu_milli)] if shape.gpu_milli else []
    return [*shape.requests, *shares, ("pods", 1)]


def _amount(resource: str, amount: int) -> Quantity:
    return Quantity.from_nano(amount * 10**6) if resource == "cpu" else Quantity(amount)
