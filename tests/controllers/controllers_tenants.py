"""Queues for tests: tenants who own quota in one cohort, lend what they do not use, and take it back."""

from __future__ import annotations

from typing import Any

from controllers_scene import Scene

from hub.api.resource import CLUSTER_QUEUES, LOCAL_QUEUES

Json = dict[str, Any]
TAKES_BACK: Json = {"reclaimWithinCohort": "Any", "withinClusterQueue": "LowerPriority"}


async def tenant(
    scene: Scene, name: str, cpu: int, *, cohort: str = "lab", preemption: Json = TAKES_BACK, **spec: Any
) -> None:
    """A ClusterQueue with so many CPU (and memory enough), and a LocalQueue of the same name in `default`."""
    resources = [{"name": "cpu", "nominalQuota": str(cpu)}, {"name": "memory", "nominalQuota": "64Gi"}]
    group = {"coveredResources": ["cpu", "memory"], "flavors": [{"name": "default", "resources": resources}]}
    body = {"namespaceSelector": {}, "cohortName": cohort, "resourceGroups": [group], "preemption": preemption, **spec}
    await scene.api.create(
        CLUSTER_QUEUES,
        {
            "apiVersion": CLUSTER_QUEUES.api_version, "kind": "ClusterQueue", "metadata": {"name": name},
            "spec": {key: value for key, value in body.items() if value is not None},
        },
    )  # fmt: skip
    await scene.api.create(
        LOCAL_QUEUES,
        {
            "apiVersion": LOCAL_QUEUES.api_version, "kind": "LocalQueue",
            "metadata": {"name": name, "namespace": "default"}, "spec": {"clusterQueue": name},
        },
        "default",
    )  # fmt: skip
