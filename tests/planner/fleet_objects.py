"""Small fleets, queues and jobs for the planner's tests, and what carrying out a plan does to a snapshot."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from hub.api.indexset import IndexSet
from hub.fleet.changes import CapacitySeen, Charge, ClusterSeen, FleetChange
from hub.fleet.fleet import Fleet
from hub.fleet.shape import TaskShape, on_domain, task_shape
from hub.planner.plan import Plan, Snapshot
from hub.queueing.assign import counted, flavored
from hub.queueing.demand import Demand, TaskGroup
from hub.queueing.objects import FlavorResource
from hub.queueing.quotas import Quotas

KUEUE = "kueue.x-k8s.io/v1beta2"
HUGE = "1000000"


def site(
    name: str,
    *,
    nodes: int = 1,
    cpu: Any = 4,
    gpus: int = 0,
    model: str = "A100",
    labels: Mapping[str, str] | None = None,
    node_labels: Mapping[str, str] | None = None,
    node_taints: Sequence[tuple[str, str, str]] = (),
    taints: Sequence[Mapping[str, str]] = (),
    available: str = "True",
) -> list[FleetChange]:
    cluster = {
        "metadata": {"name": name, "labels": {"name": name} | dict(labels or {})},
        "spec": {"hubAcceptsClient": True, "taints": list(taints)},
        "status": {"conditions": [{"type": "ManagedClusterConditionAvailable", "status": available}]},
    }
    group: dict[str, Any] = {
        "name": "nodes",
        "count": nodes,
        "labels": dict(node_labels or {}),
        "taints": [{"key": key, "value": value, "effect": effect} for key, value, effect in node_taints],
        "allocatable": {"cpu": str(cpu), "memory": "1Ti"},
    }
    if gpus:
        group["gpu"] = {"model": model, "memory": "80Gi", "count": gpus}
    capacity = {"metadata": {"name": name, "namespace": name}, "status": {"nodeGroups": [group]}}
    return [ClusterSeen(cluster), CapacitySeen(capacity)]


def fleet(*sites: Iterable[FleetChange]) -> Fleet:
    return Fleet.empty().apply([change for changes in sites for change in changes])


def shape(cpu: Any = 1, gpus: int = 0, **gpu: Any) -> TaskShape:
    template = {"spec": {"containers": [{"name": "main", "resources": {"requests": {"cpu": str(cpu)}}}]}}
    return task_shape(template, {"count": gpus, **gpu} if gpus or gpu else None)


def flavor(name: str = "default", **spec: Any) -> dict[str, Any]:
    return {"apiVersion": KUEUE, "kind": "ResourceFlavor", "metadata": {"name": name}, "spec": spec}


def queue(name: str, *flavors: tuple[str, Mapping[str, Any]], **spec: Any) -> list[dict[str, Any]]:
    """A ClusterQueue with one resource group, and a LocalQueue of the same name in namespace `default`."""
    listed = [
        {
            "name": flavor_name,
            "resources": [
                {"name": resource, **(amount if isinstance(amount, dict) else {"nominalQuota": amount})}
                for resource, amount in amounts.items()
            ],
        }
        for flavor_name, amounts in flavors
    ]
    group = {"coveredResources": list(flavors[0][1]) if flavors else ["cpu"], "flavors": listed}
    body = {"namespaceSelector": {}, "resourceGroups": [group] if flavors else []} | spec
    return [
        {"apiVersion": KUEUE, "kind": "ClusterQueue", "metadata": {"name": name}, "spec": body},
        {
            "apiVersion": KUEUE,
            "kind": "LocalQueue",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"clusterQueue": name},
        },
    ]


def open_queue(name: str = "q", cpu: Any = HUGE, gpus: Any = HUGE, **spec: Any) -> list[dict[str, Any]]:
    return [flavor(), *queue(name, ("default", {"cpu": cpu, "nvidia.com/gpu": gpus}), **spec)]


def demand(name: str = "job", tasks: int = 1, slots: int | None = None, **fields: Any) -> Demand:
    values: dict[str, Any] = {
        "key": f"default/{name}",
        "uid": f"uid-{name}",
        "namespace": "default",
        "queue": "q",
        "priority": 0,
        "created": 0.0,
        "shape": shape(),
        "groups": (TaskGroup(IndexSet.span(tasks), 1),),
        "slots": tasks if slots is None else slots,
    }
    return Demand(**(values | fields))


def snapshot(fleet: Fleet, objects: Iterable[Mapping[str, Any]], *demands: Demand, **fields: Any) -> Snapshot:
    return Snapshot(0.0, fleet, Quotas.parse(objects), fields.pop("usage", {}), demands, **fields)


def carry_out(before: Snapshot, plan: Plan) -> Snapshot:
    """The snapshot once every slice of the plan is there: charged, paid for, and gone from what waits."""
    usage: dict[str, dict[FlavorResource, int]] = {name: dict(used) for name, used in before.usage.items()}
    changes: list[FleetChange] = []
    demands = {demand.key: demand for demand in before.demands}
    for admission in plan.admissions:
        wanted = demands[admission.key]
        amounts = counted(before.quotas.queues[admission.queue], wanted.shape)
        for number, part in enumerate(admission.slices):
            if part.cluster:
                labels = before.fleet.facts(part.cluster).labels
                asked = on_domain(flavored(before.quotas, wanted.shape, part.flavors, labels), part.domain)
                key = f"{wanted.uid}-{number}-{len(before.fleet.charges)}"
                changes.append(Charge(key, part.cluster, asked, part.slots))
            used = usage.setdefault(admission.queue, {})
            for resource, name in part.flavors:
                used[name, resource] = used.get((name, resource), 0) + amounts[resource] * part.slots
        given = IndexSet()
        for part in admission.slices:
            given = given | part.tasks
        slots = sum(part.slots for part in admission.slices)
        demands[admission.key] = replace(
            wanted,
            groups=tuple(replace(group, tasks=group.tasks - given) for group in wanted.groups if group.tasks - given),
            slots=wanted.slots - slots,
            active=wanted.active + slots,
            running=tuple(sorted({*wanted.running, *(part.cluster for part in admission.slices if part.cluster)})),
        )
    return replace(
        before, fleet=before.fleet.apply(changes), usage=usage, demands=tuple(d for d in demands.values() if d.groups)
    )
