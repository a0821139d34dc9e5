"""Objects and strategies for the fleet's tests, and the slow, obvious way to place tasks that the fast one equals."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from hub.api import names
from hub.api.waste import node_waste
from hub.fleet.fleet import Fleet
from hub.fleet.shape import TaskShape

GI = 1 << 30


def cluster(name: str, *, labels: dict[str, str] | None = None, available: str = "True", **more: Any) -> dict[str, Any]:
    spec = {"hubAcceptsClient": more.get("accepted", True), "taints": more.get("taints", [])}
    condition = {
        "type": "ManagedClusterConditionAvailable",
        "status": available,
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    return {
        "metadata": {"name": name, "labels": labels or {}, **more.get("metadata", {})},
        "spec": spec,
        "status": {
            "conditions": [condition],
            "clusterClaims": [{"name": n, "value": v} for n, v in more.get("claims", {}).items()],
            "allocatable": more.get("allocatable", {"cpu": "8"}),
            "capacity": more.get("capacity", {"cpu": "8"}),
        },
    }


def group(name: str = "g", count: int = 1, gpus: int = 0, model: str = "A100", **more: Any) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "name": name,
        "count": count,
        "allocatable": {"cpu": str(more.get("cpu", 8)), "memory": more.get("memory", "64Gi"), **more.get("other", {})},
    }
    if gpus:
        entry["gpu"] = {"model": model, "memory": more.get("gpu_memory", "80Gi"), "count": gpus}
    for key in ("labels", "taints", "used", "nodes"):
        if key in more:
            entry[key] = more[key]
    return entry


def report(name: str, *groups: dict[str, Any], **status: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "status": {"nodeGroups": list(groups), **status}}


def shape(cpu: int = 0, memory: int = 0, gpus: int = 0, **more: Any) -> TaskShape:
    requests = {"cpu": cpu, "memory": memory, names.GPU: gpus, **more.pop("other", {})}
    return TaskShape(tuple(sorted((name, amount) for name, amount in requests.items() if amount)), **more)


@dataclass
class SlowNode:
    """One node as plain numbers; `gpus[i]` thousandths free."""

    cpu: int
    memory: int
    gpus: list[int]
    pods: int | None = None
    offered: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        self.offered = (self.cpu, sum(self.gpus))

    def more_waste(self, want: TaskShape) -> int:
        cpu, gpus = self.offered
        before = node_waste(self.gpus, gpus, self.cpu, cpu)
        after = SlowNode(self.cpu, self.memory, [*self.gpus])
        after.take(want)
        return node_waste(after.gpus, gpus, after.cpu, cpu) - before

    def fits(self, want: TaskShape) -> bool:
        if want.request("cpu") > self.cpu or want.request("memory") > self.memory or self.pods == 0:
            return False
        if want.gpu_share:
            return any(free >= want.gpu_share for free in self.gpus)
        return self.gpus.count(1000) >= want.gpus

    def take(self, want: TaskShape) -> None:
        self.cpu -= want.request("cpu")
        self.memory -= want.request("memory")
        if self.pods is not None:
            self.pods -= 1
        if want.gpu_share:
            at = min((free, i) for i, free in enumerate(self.gpus) if free >= want.gpu_share)[1]
            self.gpus[at] -= want.gpu_share
        for _ in range(want.gpus):
            self.gpus[self.gpus.index(1000)] = 0


@dataclass
class SlowSite:
    nodes: list[SlowNode] = field(default_factory=list)

    def place(self, want: TaskShape) -> bool:
        """One task on the best node: least waste, fewest free GPUs, then least free CPU, then first."""
        fitting = [(n.more_waste(want), sum(n.gpus), n.cpu, i) for i, n in enumerate(self.nodes) if n.fits(want)]
        if not fitting:
            return False
        self.nodes[min(fitting)[3]].take(want)
        return True


def free_of(fleet: Fleet, name: str) -> list[tuple[int, int, list[int]]]:
    """(cpu, memory, GPUs) of each node as the fleet sees it."""
    held = fleet._clusters[fleet.position(name)].held
    assert held is not None
    cpu, memory = held.table.rows["cpu"], held.table.rows["memory"]
    return [(int(held.free[cpu, i]), int(held.free[memory, i]), held.gpus[i].tolist()) for i in range(held.table.count)]


SHAPES = st.builds(
    lambda cpu, memory, gpu: shape(
        cpu,
        memory * GI,
        gpus=gpu if isinstance(gpu, int) else 0,
        gpu_share=0 if isinstance(gpu, int) else int(gpu[:-1]),
    ),
    st.sampled_from([0, 500, 1000, 3000]),
    st.sampled_from([0, 1, 7]),
    st.sampled_from([0, 0, 1, 2, "300m", "500m", "1000m"]),
)
# (count, cpu, memory in Gi, GPUs) of a node group.
GROUPS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(1, 8), st.integers(1, 32), st.integers(0, 3)), min_size=1, max_size=3
)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats()
    | st.text(max_size=6)
    | st.sampled_from(["1", "-1", "1e999", "9Ei", "cpu", "nvidia.com/gpu", "name"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
