"""Workloads that are not mirrors of the hub's own jobs: somebody else runs them, the quota is the same.

One pod set is placed like a gang; several get quota as one sum and no place. Which fields have no effect on the
decision yet is said in words, never passed over.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hub.api import names
from hub.api.conditions import condition_is, find_condition
from hub.api.conversion import V1BETA1, to_v1beta2
from hub.api.errors import InvalidObjectError
from hub.api.indexset import IndexSet
from hub.api.timestamps import parse_time
from hub.fleet.shape import TaskShape, amount_of, task_shape
from hub.planner.plan import Slice
from hub.queueing.amount import quantity
from hub.queueing.assign import counted
from hub.queueing.demand import Demand, TaskGroup
from hub.queueing.objects import ClusterQueue, FlavorResource
from hub.queueing.quotas import Quotas

Json = Mapping[str, Any]
UNPLACED = "its pod sets get quota as one sum and are not placed on a cluster"


@dataclass(frozen=True, slots=True)
class PodSet:
    name: str
    count: int
    shape: TaskShape


@dataclass(frozen=True, slots=True)
class Waiting:
    """A Workload without quota. `demand` is None while its owner keeps it out of the queue."""

    key: str
    pod_sets: tuple[PodSet, ...]
    demand: Demand | None
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Holding:
    """A Workload with quota: `amounts` of `queue` for `slots` tasks that have not ended, since `since` (epoch seconds).

    `leaving`: it was evicted and is not gone yet. `waiting`: what it is once it is.
    """

    key: str
    queue: str
    amounts: tuple[tuple[FlavorResource, int], ...]
    waiting: Waiting
    slots: int
    since: float
    leaving: bool = False


def read_workload(obj: Json, quotas: Quotas, *, place: bool) -> Waiting | Holding | None:
    """None when it has finished. `place`: whether there are clusters to choose from.

    Raises `InvalidObjectError` by field.
    """
    obj = to_v1beta2(obj) if obj.get("apiVersion") == V1BETA1 else obj
    meta, spec, status = obj["metadata"], obj.get("spec") or {}, obj.get("status") or {}
    key = f"{meta.get('namespace') or 'default'}/{meta['name']}"
    conditions = status.get("conditions")
    if condition_is(conditions, "Finished"):
        return None
    holds = condition_is(conditions, "QuotaReserved") and bool(status.get("admission"))
    if not spec.get("podSets") and not holds:
        raise InvalidObjectError("at least one is needed", field="spec.podSets")
    pod_sets = tuple(_pod_set(entry, f"spec.podSets[{n}]") for n, entry in enumerate(spec.get("podSets") or ()))
    active = spec.get("active") is not False and bool(pod_sets)
    demand = _demand(key, meta, spec, pod_sets, quotas, place=place) if active else None
    waiting = Waiting(key, pod_sets, demand, tuple(_notes(spec, status)))
    return _holding(key, status, waiting) if holds else waiting


def mirrored(obj: Json, jobs: Iterable[str], keys: Container[str]) -> bool:
    """Whether the Workload only mirrors one of `jobs` (uids), or is named as their Workloads are (`keys`): what it says
    is held by the job's own slices."""
    meta = obj.get("metadata") or {}
    if f"{meta.get('namespace') or 'default'}/{meta.get('name')}" in keys:
        return True
    owners = {str(o.get("uid")) for o in meta.get("ownerReferences") or () if isinstance(o, Mapping)}
    owners.add(str((meta.get("labels") or {}).get(names.KUEUE_JOB_UID) or ""))
    return any(uid in owners for uid in jobs if uid)


def admission(queue: ClusterQueue, pod_sets: Sequence[PodSet], parts: Sequence[Slice]) -> dict[str, Any]:
    """`Workload.status.admission` of what was decided."""
    flavors = dict(parts[0].flavors)
    assignments = [_assignment(queue, p.name, p.shape, p.count, flavors) for p in pod_sets]
    return {"clusterQueue": queue.name, "podSetAssignments": assignments}


def job_admission(queue: ClusterQueue, shape: TaskShape, parts: Sequence[Slice]) -> dict[str, Any]:
    """The same of a job's slices: one assignment for each combination of flavors."""
    slots: dict[tuple[tuple[str, str], ...], int] = {}
    for part in parts:
        slots[part.flavors] = slots.get(part.flavors, 0) + part.slots
    assignments = [
        _assignment(queue, "main" if not number else f"main-{number}", shape, count, dict(flavors))
        for number, (flavors, count) in enumerate(slots.items())
    ]
    return {"clusterQueue": queue.name, "podSetAssignments": assignments}


def _assignment(
    queue: ClusterQueue, name: str, shape: TaskShape, count: int, flavors: Mapping[str, str]
) -> dict[str, Any]:
    amounts = {resource: each for resource, each in counted(queue, shape).items() if resource in flavors}
    return {
        "name": name,
        "flavors": {resource: flavors[resource] for resource in amounts},
        "resourceUsage": {resource: str(quantity(resource, each * count)) for resource, each in amounts.items()},
        "count": count,
    }


def _holding(key: str, status: Json, waiting: Waiting) -> Holding:
    admitted = status["admission"]
    ended = {str(entry["name"]): int(entry["count"]) for entry in status.get("reclaimablePods") or ()}
    amounts: dict[FlavorResource, int] = {}
    notes = list(waiting.notes)
    tasks = 0
    for number, part in enumerate(admitted.get("podSetAssignments") or ()):
        name, count = str(part.get("name") or "main"), int(part.get("count") or 0)
        left = max(0, count - ended.get(name, 0))
        tasks += left
        for resource, value in (part.get("resourceUsage") or {}).items():
            flavor = (part.get("flavors") or {}).get(resource)
            if flavor is None:
                continue
            field = f"status.admission.podSetAssignments[{number}].resourceUsage.{resource}"
            try:
                total = amount_of(resource, value, field)
            except InvalidObjectError as error:
                # It runs all the same: to count nothing would give its quota to another.
                total = _asked(waiting, name, resource) * count
                notes.append(f"{error}; what its pods ask for counts instead")
            used = total * left // count if count and left < count else total
            amounts[flavor, resource] = amounts.get((flavor, resource), 0) + used
    conditions = status.get("conditions")
    reserved = find_condition(conditions, "QuotaReserved") or {}
    since = reserved.get("lastTransitionTime")
    created = waiting.demand.created if waiting.demand is not None else 0.0
    # What asks for quota as one sum is one task to the queue.
    slots = min(tasks, waiting.demand.slots) if waiting.demand is not None else tasks
    return Holding(
        key=key,
        queue=str(admitted.get("clusterQueue") or ""),
        amounts=tuple(sorted(amounts.items())),
        waiting=replace(waiting, notes=tuple(notes)),
        slots=slots,
        since=parse_time(str(since)).timestamp() if since else created,
        leaving=condition_is(conditions, "Evicted"),
    )


def _asked(waiting: Waiting, pod_set: str, resource: str) -> int:
    """Of one pod."""
    shape = next((one.shape for one in waiting.pod_sets if one.name == pod_set), TaskShape())
    return {"pods": 1, names.GPU_MILLI: shape.gpu_milli}.get(resource) or shape.request(resource)


def _pod_set(entry: Json, field: str) -> PodSet:
    count = entry.get("count")
    try:
        shape = task_shape(entry.get("template") or {})
    except InvalidObjectError as error:
        text = str(error).removeprefix(f"{error.field}: ")
        raise InvalidObjectError(text, field=f"{field}.{error.field}") from error
    return PodSet(str(entry.get("name") or "main"), 1 if count is None else int(count), shape)


def _demand(key: str, meta: Json, spec: Json, pod_sets: Sequence[PodSet], quotas: Quotas, *, place: bool) -> Demand:
    reference = spec.get("priorityClassRef") or {}
    priority, problem = spec.get("priority"), ""
    if priority is None:
        name = str(reference.get("name") or "")
        known = quotas.priority_of(str(reference.get("kind") or ""), name)
        priority = quotas.default_priority if known is None else known
        if name and reference.get("kind") == "WorkloadPriorityClass" and name not in quotas.priorities:
            problem = f"spec.priorityClassRef.name: WorkloadPriorityClass {name} does not exist"
    tasks = pod_sets[0].count if len(pod_sets) == 1 else 1
    shape, conflict = (pod_sets[0].shape, "") if len(pod_sets) == 1 else _sum(pod_sets)
    if not tasks:
        # Nothing is to run: it only passes through the queue.
        tasks, shape, place = 1, TaskShape(), False
    created = meta.get("creationTimestamp")
    return Demand(
        key=key,
        uid=str(meta.get("uid") or ""),
        namespace=key.partition("/")[0],
        queue=str(spec.get("queueName") or names.DEFAULT_QUEUE),
        priority=int(priority),
        created=parse_time(str(created)).timestamp() if created else 0.0,
        shape=shape,
        groups=(TaskGroup(IndexSet.span(tasks), 1),),
        slots=tasks,
        gang=True,
        problem=problem or conflict,
        expected=_limit(spec),
        place=place and len(pod_sets) == 1,
    )


def _limit(spec: Json) -> float | None:
    """It is ended after that, so nobody has to wait longer for what it holds."""
    seconds = spec.get("maximumExecutionTimeSeconds")
    return float(seconds) if isinstance(seconds, int) and not isinstance(seconds, bool) and seconds > 0 else None


def _sum(pod_sets: Sequence[PodSet]) -> tuple[TaskShape, str]:
    """All pods as one task, and what in them contradicts one another."""
    requests: dict[str, int] = {"pods": 0}
    selector: dict[str, str] = {}
    conflict = ""
    for pods in pod_sets:
        requests["pods"] += pods.count
        for resource, amount in pods.shape.requests:
            requests[resource] = requests.get(resource, 0) + amount * pods.count
        for key, value in pods.shape.node_selector:
            if selector.setdefault(key, value) != value:
                conflict = f"spec.podSets: {pods.name} wants {key}={value}, another pod set {key}={selector[key]}"
    tolerations = set(pod_sets[0].shape.tolerations).intersection(*(pods.shape.tolerations for pods in pod_sets[1:]))
    shape = TaskShape(
        requests=tuple(sorted((resource, amount) for resource, amount in requests.items() if amount)),
        node_selector=tuple(sorted(selector.items())),
        tolerations=tuple(sorted(tolerations)),
    )
    return shape, conflict


def _notes(spec: Json, status: Json) -> Iterable[str]:
    """What the decision does not look at, where it is written."""
    if any(pods.get("minCount") is not None for pods in spec.get("podSets") or ()):
        yield "minCount: it is admitted whole or not at all"
    if any(pods.get("topologyRequest") for pods in spec.get("podSets") or ()):
        yield "topologyRequest: places within a cluster are the cluster's"
    if spec.get("preemptionGates"):
        yield "preemptionGates: others make way for it all the same"
    if any(((pods.get("template") or {}).get("spec") or {}).get("affinity") for pods in spec.get("podSets") or ()):
        yield "affinity: flavors are chosen by nodeSelector and tolerations only"
    if (status.get("requeueState") or {}).get("requeueAt"):
        yield "requeueState.requeueAt: it is back in the queue at once"
