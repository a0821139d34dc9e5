"""Workloads that are not mirrors of the hub's own jobs: somebody else runs them, the quota is the same.

One pod set is placed like a gang; several, or one of which fewer pods would do, get quota each for itself and no place.
Which fields have no effect on the decision yet is said in words, never passed over.
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
from hub.api.reasons import Reason
from hub.api.timestamps import parse_time
from hub.fleet.shape import Pods, TaskShape, amount_of, task_shape
from hub.jobs.admission_checks import requeue_time
from hub.planner.plan import Slice
from hub.queueing.amount import quantity
from hub.queueing.assign import counted
from hub.queueing.demand import Demand, TaskGroup
from hub.queueing.kueue.workload import Part
from hub.queueing.objects import ClusterQueue, FlavorResource
from hub.queueing.quotas import Quotas

Json = Mapping[str, Any]
UNPLACED = "its pod sets get quota and are not placed on a cluster"


@dataclass(frozen=True, slots=True)
class PodSet:
    """As in hub/fleet/shape.py's Pods. `count` is without those that have ended for good."""

    name: str
    count: int
    shape: TaskShape
    least: int | None = None
    group: str = ""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A Workload without quota. `demand` is None while its owner keeps it out of the queue. `again_at`: it backs off
    until then (epoch seconds)."""

    key: str
    pod_sets: tuple[PodSet, ...]
    demand: Demand | None
    notes: tuple[str, ...]
    again_at: float | None = None


@dataclass(frozen=True, slots=True)
class Holding:
    """A Workload with quota: `amounts` of `queue` for `slots` tasks that have not ended, since `since` (epoch seconds).

    `leaving`: it was evicted and is not gone yet. `waiting`: what it is once it is. `doubts`: what is written of its
    amounts and does not count, in words.
    """

    key: str
    queue: str
    amounts: tuple[tuple[FlavorResource, int], ...]
    waiting: Waiting
    slots: int
    since: float
    leaving: bool = False
    doubts: tuple[str, ...] = ()

    @property
    def flavors(self) -> tuple[str, ...]:
        return tuple(sorted({flavor for (flavor, _), _ in self.amounts}))


def read_workload(obj: Json, quotas: Quotas, *, place: bool, by_eviction: bool = True) -> Waiting | Holding | None:
    """None when it has finished. `place`: whether there are clusters to choose from. `by_eviction`: whoever did not
    become ready in time is queued from then on.

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
    ended = _ended(status)
    pod_sets = tuple(_pod_set(entry, f"spec.podSets[{n}]", ended) for n, entry in enumerate(spec.get("podSets") or ()))
    active = spec.get("active") is not False and bool(pod_sets)
    demand = _demand(key, meta, spec, pod_sets, quotas, place=place) if active else None
    if demand is not None and (queued := _queued(conditions, by_eviction=by_eviction)) is not None:
        demand = replace(demand, queued=queued)
    waiting = Waiting(key, pod_sets, demand, tuple(_notes(spec, place=place)), requeue_time(status))
    return _holding(key, status, waiting, quotas) if holds else waiting


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
    if parts[0].parts and any(pods.count for pods in pod_sets):
        given = [_given(part) for part in parts[0].parts]
        if len(pod_sets) == 1:
            # Where there is only one, who decides does not ask for its name.
            given[0]["name"] = pod_sets[0].name
        return {"clusterQueue": queue.name, "podSetAssignments": given}
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


def _given(part: Part) -> dict[str, Any]:
    return {
        "name": part.name,
        "flavors": {resource: flavor for resource, flavor, _ in part.amounts},
        "resourceUsage": {resource: str(quantity(resource, value)) for resource, _, value in part.amounts},
        "count": part.count,
    }


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


def _holding(key: str, status: Json, waiting: Waiting, quotas: Quotas) -> Holding:
    """What is written counts, but never for less than its pods ask for, which run whatever somebody writes here."""
    admitted = status["admission"]
    ended = _ended(status)
    amounts: dict[FlavorResource, int] = {}
    doubts: list[str] = []
    tasks = 0
    queue = quotas.queues.get(str(admitted.get("clusterQueue") or ""))
    for number, part in enumerate(admitted.get("podSetAssignments") or ()):
        name, count = str(part.get("name") or "main"), int(part.get("count") or 0)
        least, each = _least(waiting, name, ended.get(name, 0), queue)
        if count < least:
            doubts.append(f"status.admission.podSetAssignments[{number}].count: {count} is less than its {least} pods")
        left = max(0, max(count, least) - ended.get(name, 0))
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
                total = 0
                doubts.append(str(error))
            used = total * left // count if count and left < count else total
            asked = each.get(resource, 0) * left
            if total and used < asked:
                doubts.append(f"{field}: {value} is less than the {quantity(resource, asked)} that its pods ask for")
            amounts[flavor, resource] = amounts.get((flavor, resource), 0) + max(used, asked)
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
        waiting=replace(waiting, notes=(*waiting.notes, *(f"{d}; what its pods ask for counts" for d in doubts))),
        slots=slots,
        since=parse_time(str(since)).timestamp() if since else created,
        leaving=condition_is(conditions, "Evicted"),
        doubts=tuple(doubts),
    )


def _least(waiting: Waiting, name: str, ended: int, queue: ClusterQueue | None) -> tuple[int, Mapping[str, int]]:
    """How few pods of a pod set it can have been admitted with, and what each of them takes."""
    pods = next((one for one in waiting.pod_sets if one.name == name), None)
    if pods is None:
        return 0, {}
    each = counted(queue, pods.shape) if queue is not None else {r: v for r, v in pods.shape.requests if r != "pods"}
    return pods.count + ended if pods.least is None else pods.least, each


def _ended(status: Json) -> dict[str, int]:
    """By pod set, how many of its pods need nothing any more."""
    return {str(entry["name"]): int(entry["count"]) for entry in status.get("reclaimablePods") or ()}


def _queued(conditions: Any, *, by_eviction: bool) -> float | None:
    """Since when it is in the queue, where that is not since its creation."""
    evicted = find_condition(conditions, "Evicted")
    if evicted is None or evicted.get("status") != "True":
        return None
    reason, at = evicted.get("reason"), evicted.get("lastTransitionTime")
    late = reason == Reason.PODS_READY_TIMEOUT.code and by_eviction
    return parse_time(str(at)).timestamp() if at and (late or reason == Reason.ADMISSION_CHECK.code) else None


def _pod_set(entry: Json, field: str, ended: Mapping[str, int]) -> PodSet:
    name, least = str(entry.get("name") or "main"), entry.get("minCount")
    count = max(0, (1 if entry.get("count") is None else int(entry["count"])) - ended.get(name, 0))
    try:
        shape = task_shape(entry.get("template") or {})
    except InvalidObjectError as error:
        text = str(error).removeprefix(f"{error.field}: ")
        raise InvalidObjectError(text, field=f"{field}.{error.field}") from error
    return PodSet(
        name=name,
        count=count,
        shape=shape,
        least=int(least) if least is not None and int(least) < count else None,
        group=str((entry.get("topologyRequest") or {}).get("podSetGroupName") or ""),
    )


def _demand(key: str, meta: Json, spec: Json, pod_sets: Sequence[PodSet], quotas: Quotas, *, place: bool) -> Demand:
    reference = spec.get("priorityClassRef") or {}
    priority, problem = spec.get("priority"), ""
    if priority is None:
        name = str(reference.get("name") or "")
        known = quotas.priority_of(str(reference.get("kind") or ""), name)
        priority = quotas.default_priority if known is None else known
        if name and reference.get("kind") == "WorkloadPriorityClass" and name not in quotas.priorities:
            problem = f"spec.priorityClassRef.name: WorkloadPriorityClass {name} does not exist"
    # Fewer pods than all are for whoever runs them: what is placed here is placed whole.
    alone = len(pod_sets) == 1 and (place or pod_sets[0].least is None)
    tasks = pod_sets[0].count if alone else 1
    shape = pod_sets[0].shape if alone else _together(pod_sets)
    near: tuple[str, ...] = ()
    if place and alone:
        request = spec["podSets"][0].get("topologyRequest") or {}
        shape = replace(shape, domain=str(request.get("required") or ""))
        near = (str(request["preferred"]),) if request.get("preferred") and not shape.domain else ()
    if not any(pods.count for pods in pod_sets):
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
        problem=problem or _unplaceable(spec, place=place and alone),
        expected=_limit(spec),
        domains=near,
        place=place and alone,
    )


def _limit(spec: Json) -> float | None:
    """It is ended after that, so nobody has to wait longer for what it holds."""
    seconds = spec.get("maximumExecutionTimeSeconds")
    return float(seconds) if isinstance(seconds, int) and not isinstance(seconds, bool) and seconds > 0 else None


def _together(pod_sets: Sequence[PodSet]) -> TaskShape:
    """All pods as one whole, each kind for itself."""
    requests: dict[str, int] = {"pods": 0}
    for pods in pod_sets:
        requests["pods"] += pods.count
        for resource, amount in pods.shape.requests:
            requests[resource] = requests.get(resource, 0) + amount * pods.count
    return TaskShape(
        requests=tuple(sorted((resource, amount) for resource, amount in requests.items() if amount)),
        parts=tuple(Pods(pods.name, pods.shape, pods.count, pods.least, pods.group) for pods in pod_sets),
    )


def _unplaceable(spec: Json, *, place: bool) -> str:
    """What its pods must have that nobody here can see to: to pass it over would be to start it in a wrong place."""
    for number, pods in enumerate(spec.get("podSets") or ()):
        request = pods.get("topologyRequest") or {}
        for name in ("required", "podSetSliceRequiredTopology", "podsetSliceRequiredTopologyConstraints"):
            if request.get(name) and (not place or name != "required"):
                return (
                    f"spec.podSets[{number}].topologyRequest.{name}: the hub gives quota to what others run, and no "
                    "nodes. Leave it out, or let the hub run the job: a gang with topology, a Job with the annotation"
                )
    return ""


def _notes(spec: Json, *, place: bool) -> Iterable[str]:
    """What the decision does not look at, where it is written."""
    pod_sets: Sequence[Json] = spec.get("podSets") or ()
    if place and len(pod_sets) == 1 and pod_sets[0].get("minCount") is not None:
        yield "minCount: it is placed whole or not at all"
    requests = [pods.get("topologyRequest") or {} for pods in pod_sets]
    if not place and any(request.get("preferred") or request.get("unconstrained") for request in requests):
        yield "topologyRequest: which nodes its pods prefer is left to whoever runs it"
    if spec.get("preemptionGates"):
        yield "preemptionGates: others make way for it all the same"
    if any(((pods.get("template") or {}).get("spec") or {}).get("affinity") for pods in pod_sets):
        yield "affinity: flavors are chosen by nodeSelector and tolerations only"
