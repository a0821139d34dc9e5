"""Quota objects and foreign Workloads for tests, as people and other controllers write them."""

from __future__ import annotations

from typing import Any

from controllers_scene import Scene, until

from hub.api.conditions import condition_is, find_condition
from hub.api.errors import NotFoundError
from hub.api.resource import CLUSTER_QUEUES, COHORTS, LOCAL_QUEUES, RESOURCE_FLAVORS, WORKLOADS, Resource

Json = dict[str, Any]
API = "kueue.x-k8s.io/v1beta2"


async def flavor(scene: Scene, name: str) -> None:
    await scene.api.create(RESOURCE_FLAVORS, {"apiVersion": API, "kind": "ResourceFlavor", "metadata": {"name": name}})


async def cohort(scene: Scene, name: str, parent: str) -> None:
    spec = {"parentName": parent} if parent else {}
    await scene.api.create(COHORTS, {"apiVersion": API, "kind": "Cohort", "metadata": {"name": name}, "spec": spec})


async def local_queue(scene: Scene, name: str, cluster_queue: str) -> None:
    body = {
        "apiVersion": API, "kind": "LocalQueue",
        "metadata": {"name": name}, "spec": {"clusterQueue": cluster_queue},
    }  # fmt: skip
    await scene.api.create(LOCAL_QUEUES, body, "default")


async def cluster_queue(scene: Scene, name: str, quotas: Json, *, uses: str = "default", **spec: Any) -> None:
    """`quotas`: by resource, its nominal quota or a whole quota; the LocalQueue of the same name comes with it."""
    resources = [
        {"name": resource, **(quota if isinstance(quota, dict) else {"nominalQuota": quota})}
        for resource, quota in quotas.items()
    ]
    group = {"coveredResources": list(quotas), "flavors": [{"name": uses, "resources": resources}]}
    body = {"namespaceSelector": {}, "resourceGroups": [group], **spec}
    queue = {"apiVersion": API, "kind": "ClusterQueue", "metadata": {"name": name}, "spec": body}
    await scene.api.create(CLUSTER_QUEUES, queue)
    await local_queue(scene, name, name)


async def foreign(scene: Scene, name: str, queue: str, requests: Json, **spec: Any) -> None:
    """A Workload that a RayJob owns."""
    pods = {"containers": [{"name": "main", "image": "x", "resources": {"requests": requests}}]}
    owner = {"apiVersion": "ray.io/v1", "kind": "RayJob", "name": name, "uid": f"ray-{name}"}
    body = {
        "apiVersion": API, "kind": "Workload",
        "metadata": {"name": name, "ownerReferences": [owner]},
        "spec": {"queueName": queue, "podSets": [{"name": "main", "count": 1, "template": {"spec": pods}}], **spec},
    }  # fmt: skip
    await scene.api.create(WORKLOADS, body, "default")


async def ends(scene: Scene, name: str) -> None:
    """As whoever runs it: it has finished."""
    found = await scene.workload(name)
    at = "2026-01-01T00:00:00Z"
    done = {"type": "Finished", "status": "True", "reason": "Succeeded", "message": "", "lastTransitionTime": at}
    patch = {"status": {"conditions": [*found["status"].get("conditions", ()), done]}}
    await scene.api.patch(WORKLOADS, name, patch, "default", subresource="status")


async def is_true(scene: Scene, name: str, condition: str = "Admitted") -> Json:
    async def found() -> Any:
        workload = await scene.workload(name)
        return workload if condition_is((workload.get("status") or {}).get("conditions"), condition) else None

    result: Json = await until(found, what=f"{name} is {condition}")
    return result


async def waits(scene: Scene, name: str, *reasons: str) -> Json:
    async def found() -> Any:
        held = find_condition(((await scene.workload(name)).get("status") or {}).get("conditions"), "QuotaReserved")
        return held if held is not None and held["status"] == "False" and held["reason"] in reasons else None

    result: Json = await until(found, what=f"{name} waits for {reasons}")
    return result


async def active(scene: Scene, name: str, status: str, reason: str) -> Json:
    """The ClusterQueue's condition, once it says that."""

    async def found() -> Any:
        obj = await scene.api.get(CLUSTER_QUEUES, name)
        condition = find_condition((obj.get("status") or {}).get("conditions"), "Active")
        return (
            condition
            if condition is not None and (condition["status"], condition["reason"]) == (status, reason)
            else None
        )

    result: Json = await until(found, what=f"{name} is Active={status} for {reason}")
    return result


async def is_gone(scene: Scene, resource: Resource, name: str) -> bool:
    try:
        await scene.api.get(resource, name)
    except NotFoundError:
        return True
    return False


async def used(scene: Scene, name: str, resource: str = "cpu") -> tuple[str, str]:
    """(total, borrowed) of the ClusterQueue's first flavor, as its status says."""
    found = (await scene.api.get(CLUSTER_QUEUES, name)).get("status") or {}
    for one in (found.get("flavorsUsage") or [{}])[0].get("resources", ()):
        if one["name"] == resource:
            return one["total"], one.get("borrowed", "0")
    return "", ""
