"""The Kueue Workload that mirrors a job, for people and tools that read queues through Kueue.

It says what the job asks a queue for and what the queue decided; the decision itself is in the ManifestWorks. Its
admission is the sum over the job's live slices and is not shrunk while quota is held, as Kueue's never is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from hub.api import names
from hub.api.quantity import Quantity
from hub.api.reasons import Reason
from hub.api.resource import FLEET_JOBS, JOBS, PRIORITY_CLASSES, WORKLOAD_PRIORITY_CLASSES, WORKLOADS
from hub.fleet.shape import TaskShape
from hub.jobs.admission_checks import again_at, answered, listed, read_checks, set_back
from hub.jobs.attempt import Attempt
from hub.jobs.kueue_conditions import PODS_UP, Conditions
from hub.jobs.limits import held_time
from hub.jobs.spec import JobSpec
from hub.jobs.state import JobState
from hub.jobs.status import stamp
from hub.jobs.template import counted_template
from hub.queueing.kueue.transforms import ALL, Counted

Json = dict[str, Any]
POD_SET: Final = "main"
_PODS_READY: Final = {
    "WaitForStart": "Not all pods are ready or succeeded",
    "WaitForRecovery": "At least one pod has failed, waiting for recovery",
    "Started": "All pods reached readiness and the workload is running",
    "Recovered": "All pods reached readiness and the workload is running",
}
_UNSATISFIED: Final = "The workload waits for its admission checks"
_EVICTIONS: Final = {
    Reason.SUSPENDED: "Deactivated",
    Reason.CLUSTER_LOST: "NodeFailures",
}


class Held(Protocol):
    """Why a job may not be placed for now (hub/planner's Refusal)."""

    @property
    def reason(self) -> Reason: ...

    @property
    def facts(self) -> tuple[tuple[str, Any], ...]: ...


def workload_object(spec: JobSpec, priority: int = 0) -> Json:
    """The Workload, owned by its job, without status. `priority` is its class's value."""
    owner = FLEET_JOBS if spec.kind == "FleetJob" else JOBS
    pods: Json = {"name": POD_SET, "count": max(spec.parallelism, 0), "template": counted_template(spec)}
    if spec.bounds is not None and spec.parallelism > 1:
        pods["minCount"] = spec.bounds[0]
    elif spec.parallelism > 1 and not spec.gang:
        # Some of its tasks may start before there is room for all.
        pods["minCount"] = min(spec.min_parallelism or 1, pods["count"])
    if spec.shape.domain:
        pods["topologyRequest"] = {"required": spec.shape.domain}
    elif spec.kind == "Job" and spec.gang:
        pods["topologyRequest"] = {"preferred": spec.domains[0]} if spec.domains else {"unconstrained": True}
    wanted: Json = {"queueName": spec.queue, "podSets": [pods], "priority": priority, "active": not spec.suspend}
    if spec.max_execution is not None:
        wanted["maximumExecutionTimeSeconds"] = max(1, round(spec.max_execution))
    if spec.priority_class:
        wanted["priorityClassRef"] = {
            "group": WORKLOAD_PRIORITY_CLASSES.group,
            "kind": WORKLOAD_PRIORITY_CLASSES.kind,
            "name": spec.priority_class,
        }
    elif spec.pod_priority:
        wanted["priorityClassRef"] = {
            "group": PRIORITY_CLASSES.group,
            "kind": PRIORITY_CLASSES.kind,
            "name": spec.pod_priority,
        }
    return {
        "apiVersion": WORKLOADS.api_version,
        "kind": WORKLOADS.kind,
        "metadata": {
            "name": spec.workload,
            "namespace": spec.namespace,
            "labels": {names.KUEUE_JOB_UID: spec.uid},
            **({"annotations": {names.SUSPENDED_BY_JOB: "true"}} if spec.suspend else {}),
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


def workload_status(
    spec: JobSpec,
    state: JobState,
    previous: Mapping[str, Any],
    now: float,
    *,
    hold: Held | None = None,
    pods_ready: str = "",
    asked: Sequence[str] = (),
    ours: str = "",
    counts: Counted = ALL,
) -> Json:
    """The status that the Workload is to have, given the one it has. `now` is epoch seconds.

    `hold`: why the job may not be placed for now. `pods_ready`: Kueue's reason of the condition PodsReady; empty where
    nobody waits for that. `asked`: names of the admission checks that what it holds needs; `ours` is the one of them
    that the hub answers itself, by having placed the job. `counts`: what its resources count as.
    """
    said = Conditions(previous.get("conditions") or (), stamp(now), spec.generation or None)
    status: Json = {key: value for key, value in previous.items() if key not in ("conditions", "admission")}
    before = previous.get("admission")
    live = state.live
    evictions = eviction_stats(state)
    fewer = evictions != (previous.get("schedulingStats") or {}).get("evictions", [])
    if evictions:
        status["schedulingStats"] = {"evictions": evictions}
    if spec.max_execution is not None and (past := int(held_time(_over(state), 0, now))):
        status["accumulatedPastExecutionTimeSeconds"] = past
    if state.ended:
        if before is not None:
            status["admission"] = before
        if state.evictions and _last_eviction(state) is None:
            said.admitted_again(_newest_evicted(state))
        if said.reason("Admitted") == Reason.UNSATISFIED_CHECKS.code and not all(a.reserved for a in state.attempts):
            # It ran, and had ended before that could be said.
            queue = (before or {}).get("clusterQueue") or ""
            said.put("Admitted", True, "Admitted", f"The workload is admitted by ClusterQueue {queue}")
        if not said.true("Finished"):
            said.put("Finished", True, "Succeeded" if state.phase == "Succeeded" else "Failed", state.message)
    elif live:
        queue = live[-1].queue
        # What an elastic job has given back is not admitted any more.
        status["admission"] = _admission(spec.shape, live, None if fewer or spec.bounds else before, counts)
        reserved = Reason.QUOTA_RESERVED.message(queue=queue)
        said.put("QuotaReserved", True, Reason.QUOTA_RESERVED.code, reserved)
        if state.reserved:
            said.put("Admitted", False, Reason.UNSATISFIED_CHECKS.code, _UNSATISFIED)
        else:
            said.put("Admitted", True, "Admitted", f"The workload is admitted by ClusterQueue {queue}")
        if said.true("Finished"):
            said.put("Finished", False, Reason.QUOTA_RESERVED.code, reserved)
        going = [attempt.eviction for attempt in live if attempt.eviction is not None]
        if len(going) == len(live):
            # As with Kueue it has its quota until what runs is gone.
            said.evicted(going[-1].cause, going[-1].reason, going[-1].message)
            _set_checks_back(status, now)
        else:
            said.admitted_again(_newest_evicted(state))
            _list_checks(status, asked, ours, live, now)
            if asked:
                _forget_requeue(status)
        if pods_ready:
            said.put("PodsReady", pods_ready in PODS_UP, pods_ready, _PODS_READY[pods_ready])
            if pods_ready in PODS_UP:
                status.pop("requeueState", None)
    else:
        last = _last_eviction(state)
        if said.true("Admitted"):
            said.put("Admitted", False, "NoReservation", "The workload has no reservation")
            if last is None and (why := _EVICTIONS.get(state.reason)) is not None:
                said.evicted(why, "", state.message)
        if last is not None:
            said.evicted(last.reason, _kind(said, last), last.message)
            said.requeued(last.reason, last.message, held=hold is not None or state.reason is Reason.QUEUE_INACTIVE)
        if said.true("Finished"):
            said.put("Finished", False, state.reason.code, state.message)
        if pods_ready or said.true("PodsReady"):
            said.put("PodsReady", False, "WaitForStart", _PODS_READY["WaitForStart"])
        said.put("QuotaReserved", False, state.reason.code, state.message)
        _set_checks_back(status, now)
        if (
            last is not None
            and last.reason == Reason.ADMISSION_CHECK.code
            and (hold is None or hold.reason is not Reason.CHECK_RETRY)
        ):
            _forget_requeue(status)
        if hold is not None and hold.reason is Reason.BACKING_OFF:
            facts = dict(hold.facts)
            status["requeueState"] = {"count": facts["count"], "requeueAt": facts["at"]}
    status["conditions"] = said.conditions
    return status


def _list_checks(status: Json, asked: Sequence[str], ours: str, live: Sequence[Attempt], now: float) -> None:
    """Every check that is asked, as it was answered."""
    before = status.get("admissionChecks") or ()
    entries = listed(before, asked, stamp(now))
    if ours:
        clusters = ", ".join(sorted({attempt.cluster for attempt in live}))
        entries = answered(entries, ours, f"The hub has placed it on {clusters}", stamp(now))
    if entries or before:
        status["admissionChecks"] = entries


def _set_checks_back(status: Json, now: float) -> None:
    """With the quota go the answers about it; how long they asked to be left alone is kept."""
    if not (before := status.get("admissionChecks")):
        return
    again = again_at(read_checks(status))
    if again is not None and again > now:
        status["requeueState"] = (status.get("requeueState") or {}) | {"requeueAt": stamp(math.ceil(again))}
    status["admissionChecks"] = set_back(before, stamp(now))


def _forget_requeue(status: Json) -> None:
    left = {name: value for name, value in (status.get("requeueState") or {}).items() if name != "requeueAt"}
    if left:
        status["requeueState"] = left
    else:
        status.pop("requeueState", None)


def eviction_stats(state: JobState) -> list[Json]:
    """Kueue's schedulingStats.evictions: how often, by reason and what is behind it."""
    found: dict[tuple[str, str], int] = {}
    for code, count in state.evictions:
        reason, _, cause = code.partition("DueTo")
        found[reason, cause] = found.get((reason, cause), 0) + count
    return [
        {"reason": reason, "underlyingCause": cause, "count": count} for (reason, cause), count in sorted(found.items())
    ]


def _over(state: JobState) -> list[Attempt]:
    return [attempt for attempt in state.attempts if not attempt.live]


def _last_eviction(state: JobState) -> Attempt | None:
    """The newest slice that had to go, unless a newer one ended otherwise."""
    over = _over(state)
    return over[-1] if over and over[-1].state == "Evicted" else None


def _newest_evicted(state: JobState) -> Attempt | None:
    return next((attempt for attempt in reversed(state.attempts) if attempt.state == "Evicted"), None)


def _kind(said: Conditions, last: Attempt) -> str:
    """Of a preemption: as the work says it, or as was said while there was one."""
    if last.eviction is not None:
        return last.eviction.reason
    return said.reason("Preempted") if last.reason == Reason.PREEMPTED.code else ""


def _admission(shape: TaskShape, live: Sequence[Attempt], before: Any, counts: Counted) -> Json:
    """What the live slices hold, by the flavors of the largest; the one before when that was not less."""
    queue, count = live[-1].queue, sum(max(attempt.slots, attempt.occupied) for attempt in live)
    if isinstance(before, Mapping) and before.get("clusterQueue") == queue:
        admitted = sum(part.get("count") or 0 for part in before.get("podSetAssignments") or ())
        if admitted >= count:
            return dict(before)
    flavors = dict(max(live, key=lambda attempt: (attempt.slots, -attempt.epoch)).flavors)
    requests = _requests(shape, counts)
    usage = {name: str(_amount(name, requested) * count) for name, requested in requests if name in flavors}
    assignment = {"name": POD_SET, "flavors": flavors, "resourceUsage": usage, "count": count}
    return {"clusterQueue": queue, "podSetAssignments": [assignment]}


def _requests(shape: TaskShape, counts: Counted) -> list[tuple[str, int]]:
    shares = [(names.GPU_MILLI, shape.gpu_milli)] if shape.gpu_milli else []
    requests = shape.requests if counts is ALL else counts.of(dict(shape.requests)).items()
    return [*requests, *shares, ("pods", 1)]


def _amount(resource: str, amount: int) -> Quantity:
    return Quantity.from_nano(amount * 10**6) if resource == "cpu" else Quantity(amount)
