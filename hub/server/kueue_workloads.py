"""Workload objects as Kueue's rules read them: pod sets and priorities of those that wait, amounts of those that hold.

What the queue makes of them is hub/queueing/kueue. A Workload that mirrors one of the hub's own jobs is not read here:
the job itself is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from hub.api import names
from hub.api.conditions import condition_is, find_condition
from hub.api.conversion import V1BETA1, to_v1beta2
from hub.api.errors import InvalidObjectError
from hub.api.quantity import Quantity
from hub.api.timestamps import parse_time
from hub.fleet.shape import TaskShape, amount_of, task_shape
from hub.queueing.kueue.settings import Settings
from hub.queueing.kueue.transforms import Counted
from hub.queueing.kueue.workload import ANYWHERE, Constraints, Held, NodeRequirement, Part, PodSet, Workload
from hub.queueing.objects import FlavorResource
from hub.queueing.quotas import Quotas
from hub.server.kueue_pods import PodDefaults

Json = Mapping[str, Any]
_GATED_BY: Final = "kueue.x-k8s.io/admission-gated-by"
_REPLACES: Final = "kueue.x-k8s.io/workload-slice-replacement-for"
_PLAIN: Final = PodDefaults()
_OPERATORS: Final = ("In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt")


def read_kueue_workload(
    obj: Json, quotas: Quotas, settings: Settings, pods: PodDefaults = _PLAIN
) -> Workload | Held | None:
    """None when it has finished or was deactivated: then it holds nothing. Raises `InvalidObjectError` by field."""
    obj = to_v1beta2(obj) if obj.get("apiVersion") == V1BETA1 else obj
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    conditions = status.get("conditions")
    if condition_is(conditions, "Finished") or spec.get("active") is False:
        return None
    workload = _workload(pods.adjusted(obj), quotas, settings, pods)
    reserved = find_condition(conditions, "QuotaReserved")
    if reserved is not None and reserved.get("status") == "True" and status.get("admission"):
        return Held(
            # Whoever is preempted asks for all its pods again, at once.
            workload=workload,
            cluster_queue=str(status["admission"].get("clusterQueue") or ""),
            amounts=_amounts(status),
            reserved=_seconds(reserved.get("lastTransitionTime"), "status.conditions[QuotaReserved]") or 0.0,
            evicted=condition_is(conditions, "Evicted"),
            ready=condition_is(conditions, "PodsReady"),
            parts=_parts(status),
        )
    return workload


def _workload(obj: Json, quotas: Quotas, settings: Settings, pods: PodDefaults) -> Workload:
    meta, spec, status = obj["metadata"], obj.get("spec") or {}, obj.get("status") or {}
    namespace = str(meta.get("namespace") or "default")
    conditions = status.get("conditions")
    ended = {str(entry["name"]): int(entry["count"]) for entry in status.get("reclaimablePods") or ()}
    pod_sets = tuple(
        _pod_set(entry, f"spec.podSets[{number}]", ended, settings.counted)
        for number, entry in enumerate(spec.get("podSets") or ())
    )
    created = _seconds(meta.get("creationTimestamp"), "metadata.creationTimestamp") or 0.0
    states = {str(check.get("state")) for check in status.get("admissionChecks") or ()}
    gates = {str(gate.get("name")) for gate in spec.get("preemptionGates") or ()}
    opened = {str(g.get("name")) for g in status.get("preemptionGates") or () if g.get("position") == "Open"}
    return Workload(
        key=f"{namespace}/{meta['name']}",
        uid=str(meta.get("uid") or ""),
        namespace=namespace,
        queue=str(spec.get("queueName") or names.DEFAULT_QUEUE),
        priority=_priority(spec, quotas),
        queued=_queued(conditions, settings, created),
        pod_sets=pod_sets,
        not_before=_not_before(status),
        failed_checks=bool(states & {"Retry", "Rejected"}),
        gate=bool(gates - opened),
        gated_by=str((meta.get("annotations") or {}).get(_GATED_BY) or ""),
        problem=_over_limits(spec) or pods.problem(obj),
        replaces=str((meta.get("annotations") or {}).get(_REPLACES) or ""),
    )


def _over_limits(spec: Json) -> str:
    """What asks for more than its own limit, which no node would take."""
    for number, pods in enumerate(spec.get("podSets") or ()):
        pod = (pods.get("template") or {}).get("spec") or {}
        for kind in ("initContainers", "containers"):
            for index, container in enumerate(pod.get(kind) or ()):
                resources = container.get("resources") or {}
                limits = resources.get("limits") or {}
                for name, value in sorted((resources.get("requests") or {}).items()):
                    if name in limits and Quantity(value) > Quantity(limits[name]):
                        place = f"spec.podSets[{number}].template.spec.{kind}[{index}].resources"
                        return f"{place}.requests.{name}: {value} is more than its limit {limits[name]}"
    return ""


def _priority(spec: Json, quotas: Quotas) -> int:
    if spec.get("priority") is not None:
        return int(spec["priority"])
    reference = spec.get("priorityClassRef") or {}
    known = quotas.priority_of(str(reference.get("kind") or ""), str(reference.get("name") or ""))
    return quotas.default_priority if known is None else known


def _queued(conditions: Any, settings: Settings, created: float) -> float:
    evicted = find_condition(conditions, "Evicted")
    if evicted is not None and evicted.get("status") == "True":
        reason = evicted.get("reason")
        if reason == "AdmissionCheck" or (reason == "PodsReadyTimeout" and settings.by_eviction):
            return _seconds(evicted.get("lastTransitionTime"), "status.conditions[Evicted]") or created
    return created


def _not_before(status: Json) -> float:
    at = _seconds((status.get("requeueState") or {}).get("requeueAt"), "status.requeueState.requeueAt")
    if at is not None:
        return at
    requeued = find_condition(status.get("conditions"), "Requeued")
    # Somebody keeps it out, and says so when it may come back.
    return float("inf") if requeued is not None and requeued.get("status") == "False" else 0.0


def _amounts(status: Json) -> tuple[tuple[FlavorResource, int], ...]:
    amounts: dict[FlavorResource, int] = {}
    for part in _parts(status):
        for resource, flavor, value in part.amounts:
            amounts[flavor, resource] = amounts.get((flavor, resource), 0) + value
    return tuple(sorted(amounts.items()))


def _parts(status: Json) -> tuple[Part, ...]:
    """What each pod set still holds."""
    ended = {str(entry["name"]): int(entry["count"]) for entry in status.get("reclaimablePods") or ()}
    parts = []
    for number, part in enumerate(status["admission"].get("podSetAssignments") or ()):
        name, usage = str(part.get("name") or "main"), part.get("resourceUsage") or {}
        count = int(part["count"]) if part.get("count") is not None else 1
        left = max(0, count - ended.get(name, 0))
        amounts = []
        for resource, flavor in (part.get("flavors") or {}).items():
            field = f"status.admission.podSetAssignments[{number}].resourceUsage.{resource}"
            total = amount_of(resource, usage[resource], field) if resource in usage else 0
            amounts.append((str(resource), str(flavor), total if left == count or not count else total // count * left))
        parts.append(Part(name, left, tuple(amounts)))
    return tuple(parts)


def _pod_set(entry: Json, field: str, ended: Mapping[str, int], counted: Counted) -> PodSet:
    name = str(entry.get("name") or "main")
    count = max(0, (1 if entry.get("count") is None else int(entry["count"])) - ended.get(name, 0))
    template = entry.get("template") or {}
    try:
        shape = task_shape(template)
    except InvalidObjectError as error:
        raise InvalidObjectError(str(error).removeprefix(f"{error.field}: "), field=f"{field}.{error.field}") from error
    minimum = entry.get("minCount")
    return PodSet(
        name=name,
        count=count,
        requests=tuple(sorted(counted.of({**_named(template.get("spec") or {}), **dict(_requests(shape))}).items())),
        minimum=None if minimum is None else min(int(minimum), count),
        constraints=_constraints(shape, _terms(template.get("spec") or {}, f"{field}.template.spec")),
        group=str((entry.get("topologyRequest") or {}).get("podSetGroupName") or ""),
    )


def _requests(shape: TaskShape) -> tuple[tuple[str, int], ...]:
    requests = {resource: value for resource, value in shape.requests if resource != "pods"}
    if shape.gpu_milli:
        requests[names.GPU_MILLI] = shape.gpu_milli
    return tuple(sorted(requests.items()))


def _named(pod: Json) -> dict[str, int]:
    """What a pod names, be it that it wants none of it: it is given a flavor for that as well."""
    named: dict[str, int] = {}
    for container in (*(pod.get("containers") or ()), *(pod.get("initContainers") or ())):
        resources = container.get("resources") or {}
        for name in (*(resources.get("limits") or {}), *(resources.get("requests") or {})):
            named[str(name)] = 0
    named.pop("pods", None)
    return named


def _constraints(shape: TaskShape, terms: tuple[tuple[NodeRequirement, ...], ...]) -> Constraints:
    if not (shape.node_selector or shape.tolerations or terms):
        return ANYWHERE
    return Constraints(shape.node_selector, terms, shape.tolerations)


def _terms(pod: Json, field: str) -> tuple[tuple[NodeRequirement, ...], ...]:
    required = ((pod.get("affinity") or {}).get("nodeAffinity") or {}).get(
        "requiredDuringSchedulingIgnoredDuringExecution"
    ) or {}
    place = f"{field}.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms"
    return tuple(
        _lines(term.get("matchExpressions") or (), f"{place}[{number}]")
        for number, term in enumerate(required.get("nodeSelectorTerms") or ())
    )


def _lines(expressions: Sequence[Json], field: str) -> tuple[NodeRequirement, ...]:
    lines = []
    for number, line in enumerate(expressions):
        operator = str(line.get("operator"))
        if operator not in _OPERATORS:
            raise InvalidObjectError(
                f"{operator!r} is not an operator: write {', '.join(_OPERATORS)}",
                field=f"{field}.matchExpressions[{number}].operator",
            )
        values = tuple(str(value) for value in line.get("values") or ())
        lines.append(NodeRequirement(str(line.get("key") or ""), operator, values))
    return tuple(lines)


def _seconds(value: Any, field: str) -> float | None:
    if not value:
        return None
    try:
        return parse_time(str(value)).timestamp()
    except (InvalidObjectError, ValueError) as error:
        raise InvalidObjectError(
            f"found {value!r}; expected a time such as 2026-01-31T12:00:00Z", field=field
        ) from error
