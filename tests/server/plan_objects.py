"""A small fleet with two teams, as a person would write it down, for the tests of `plan` and `explain`."""

from __future__ import annotations

from typing import Any

NOW = "2026-01-01T00:00:00Z"
KUEUE = "kueue.x-k8s.io/v1beta2"
OCM = "cluster.open-cluster-management.io"
OURS = "fleet.quarterdeck.dev/v1alpha1"


def meta(name: str, namespace: str = "", **more: Any) -> dict[str, Any]:
    return {"name": name} | ({"namespace": namespace} if namespace else {}) | more


def site(name: str, *, nodes: int = 2, cpu: int = 4, gpus: int = 0, model: str = "A100", **labels: str) -> list[Any]:
    group: dict[str, Any] = {
        "name": "nodes",
        "count": nodes,
        "allocatable": {"cpu": str(cpu), "memory": "64Gi"},
    }
    if gpus:
        group["gpu"] = {"model": model, "memory": "80Gi", "count": gpus}
    return [
        {
            "apiVersion": f"{OCM}/v1",
            "kind": "ManagedCluster",
            "metadata": meta(name, labels=labels),
            "spec": {"hubAcceptsClient": True},
            "status": {"conditions": [{"type": "ManagedClusterConditionAvailable", "status": "True"}]},
        },
        {
            "apiVersion": OURS,
            "kind": "ClusterCapacity",
            "metadata": meta(name, name),
            "status": {"observedTime": NOW, "nodeGroups": [group]},
        },
    ]


def queue(name: str, cpu: int, gpus: int = 0, cohort: str = "", **spec: Any) -> list[Any]:
    resources = [{"name": "cpu", "nominalQuota": cpu}, {"name": "nvidia.com/gpu", "nominalQuota": gpus}]
    group = {
        "coveredResources": ["cpu", "nvidia.com/gpu"],
        "flavors": [{"name": "default", "resources": resources}],
    }
    body = {"namespaceSelector": {}, "resourceGroups": [group]} | ({"cohortName": cohort} if cohort else {}) | spec
    return [
        {"apiVersion": KUEUE, "kind": "ResourceFlavor", "metadata": meta("default")},
        {"apiVersion": KUEUE, "kind": "ClusterQueue", "metadata": meta(name), "spec": body},
        {
            "apiVersion": KUEUE,
            "kind": "LocalQueue",
            "metadata": meta(name, "default"),
            "spec": {"clusterQueue": name},
        },
    ]


def job(name: str, queue: str, cpu: Any = 1, **spec: Any) -> dict[str, Any]:
    container = {"name": "main", "image": "busybox", "resources": {"requests": {"cpu": cpu}}}
    return {
        "apiVersion": OURS,
        "kind": "FleetJob",
        "metadata": meta(name, "default"),
        "spec": {"queueName": queue, "template": {"spec": {"containers": [container]}}} | spec,
    }


def workload(name: str, queue: str, *pods: tuple[int, Any], status: Any = None, **spec: Any) -> dict[str, Any]:
    sets = [
        {
            "name": f"set{number}",
            "count": count,
            "template": {"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]}},
        }
        for number, (count, cpu) in enumerate(pods)
    ]
    return {
        "apiVersion": KUEUE,
        "kind": "Workload",
        "metadata": meta(name, "default", creationTimestamp="2025-12-31T00:00:00Z", uid=f"uid-{name}"),
        "spec": {"queueName": queue, "podSets": sets} | spec,
    } | ({"status": status} if status else {})


def holding(queue: str, **amounts: str) -> dict[str, Any]:
    return {
        "admission": {
            "clusterQueue": queue,
            "podSetAssignments": [
                {"name": "set0", "count": 4, "flavors": dict.fromkeys(amounts, "default"), "resourceUsage": amounts}
            ],
        },
        "conditions": [{"type": "QuotaReserved", "status": "True"}],
    }


def a_fleet() -> list[Any]:
    """Two sites, two queues in one cohort, an array, a job that fits nowhere, and a kind that nobody reads."""
    train = job("train", "vision", gpu={"count": 1, "models": ["H100"]})
    train["metadata"]["creationTimestamp"] = "2025-12-01T00:00:00Z"
    return [
        *site("north", gpus=2, region="eu"),
        *site("south", nodes=4),
        *queue("research", cpu=6, gpus=2, cohort="team"),
        *queue("vision", cpu=4, cohort="team"),
        job("sweep", "research", tasks=100),
        train,
        job("lost", "absent"),
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta("notes", "default")},
    ]
