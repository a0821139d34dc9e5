"""Jobs of the hub as Kueue's rules see them while they run: what waits is one pod set, what is held is one holder.

How Workload objects are read is hub/server/kueue_workloads.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from hub.api import names
from hub.fleet.shape import TaskShape
from hub.queueing.demand import Demand
from hub.queueing.kueue.workload import ANYWHERE, Constraints, Held, NodeRequirement, PodSet, Workload
from hub.queueing.objects import FlavorResource

POD_SET = "main"


class Slice(Protocol):
    """Of hub/planner's HeldSlice, what a holder of quota is made of."""

    @property
    def key(self) -> str: ...
    @property
    def uid(self) -> str: ...
    @property
    def local(self) -> str: ...
    @property
    def queue(self) -> str: ...
    @property
    def priority(self) -> int: ...
    @property
    def created(self) -> float: ...
    @property
    def admitted(self) -> float: ...
    @property
    def amounts(self) -> tuple[tuple[FlavorResource, int], ...]: ...
    @property
    def leaving(self) -> bool: ...


def waiting_workload(demand: Demand) -> Workload:
    """As many pods as tasks may run at once; `demand.minimum` says whether fewer would do."""
    if demand.shape.parts:
        return _several(demand)
    count = min(demand.waiting, demand.slots)
    least = None if demand.gang or demand.minimum is None else min(demand.minimum, count)
    return Workload(
        key=demand.key,
        uid=demand.uid,
        namespace=demand.namespace,
        queue=demand.queue,
        priority=demand.priority,
        queued=demand.created if demand.queued is None else demand.queued,
        pod_sets=(
            PodSet(
                name=POD_SET,
                count=count,
                requests=_requests(demand.shape),
                minimum=least if least != count else None,
                constraints=_constraints(demand.shape),
            ),
        ),
        problem=demand.problem,
    )


def _several(demand: Demand) -> Workload:
    """What somebody else runs, in several kinds of pods."""
    return Workload(
        key=demand.key,
        uid=demand.uid,
        namespace=demand.namespace,
        queue=demand.queue,
        priority=demand.priority,
        queued=demand.created if demand.queued is None else demand.queued,
        pod_sets=tuple(
            PodSet(
                name=pods.name,
                count=pods.count,
                requests=_requests(pods.shape),
                minimum=pods.least,
                constraints=_constraints(pods.shape),
                group=pods.group,
            )
            for pods in demand.shape.parts
        ),
        problem=demand.problem,
    )


def holder(slices: Sequence[Slice]) -> Held:
    """All slices of one job; it is on its way out when all of them are. Raises `ValueError` where there are none."""
    if not slices:
        raise ValueError("nothing is held")
    first = slices[0]
    amounts: dict[FlavorResource, int] = {}
    for part in slices:
        for key, value in part.amounts:
            amounts[key] = amounts.get(key, 0) + value
    workload = Workload(
        key=first.key,
        uid=first.uid,
        namespace=first.key.partition("/")[0],
        queue=first.local,
        priority=first.priority,
        queued=first.created,
        pod_sets=(),
    )
    return Held(
        workload=workload,
        cluster_queue=first.queue,
        amounts=tuple(sorted(amounts.items())),
        reserved=min(part.admitted for part in slices),
        evicted=all(part.leaving for part in slices),
    )


def _requests(shape: TaskShape) -> tuple[tuple[str, int], ...]:
    requests = {resource: value for resource, value in shape.requests if resource != "pods"}
    if shape.gpu_milli:
        requests[names.GPU_MILLI] = shape.gpu_milli
    return tuple(sorted(requests.items()))


def _constraints(shape: TaskShape) -> Constraints:
    # What is said of a node's own name is no label that a flavor could have.
    terms = tuple(
        tuple(NodeRequirement(line.key, line.operator, line.values) for line in term if not line.field)
        for term in shape.node_affinity
    )
    if not (shape.node_selector or shape.tolerations or terms):
        return ANYWHERE
    return Constraints(shape.node_selector, terms, shape.tolerations)
