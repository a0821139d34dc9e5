"""MultiKueue's objects say whether they are active, as the ManagedClusters come and go."""

from __future__ import annotations

from typing import Any

from controllers_agent import Told
from controllers_quota import API, active, cluster_queue, flavor, is_true
from controllers_scene import Scene, until

from hub.api.conditions import find_condition
from hub.api.resource import ADMISSION_CHECKS, MANAGED_CLUSTERS, MULTI_KUEUE_CLUSTERS, MULTI_KUEUE_CONFIGS, Resource

Json = dict[str, Any]


async def _add(scene: Scene, resource: Resource, name: str, spec: Json) -> None:
    body = {"apiVersion": API, "kind": resource.kind, "metadata": {"name": name}, "spec": spec}
    await scene.api.create(resource, body)


async def _check(scene: Scene, name: str = "workers", config: str = "eu") -> None:
    parameters = {"apiGroup": "kueue.x-k8s.io", "kind": "MultiKueueConfig", "name": config}
    spec = {"controllerName": "kueue.x-k8s.io/multikueue", "parameters": parameters}
    await _add(scene, ADMISSION_CHECKS, name, spec)


async def _says(scene: Scene, resource: Resource, name: str, reason: str) -> Json:
    async def found() -> Json | None:
        obj = await scene.api.get(resource, name)
        condition = find_condition((obj.get("status") or {}).get("conditions"), "Active")
        return condition if condition is not None and condition["reason"] == reason else None

    result: Json = await until(found, what=f"{name} says {reason}")
    return result


async def test_they_follow_the_managed_clusters(scene: Scene) -> None:
    await scene.hub()
    await _check(scene)
    said = await _says(scene, ADMISSION_CHECKS, "workers", "BadConfig")
    assert (said["status"], said["message"]) == ("False", "There is no MultiKueueConfig eu")
    await _add(scene, MULTI_KUEUE_CONFIGS, "eu", {"clusters": ["c1", "paris"]})
    said = await _says(scene, ADMISSION_CHECKS, "workers", "NoUsableClusters")
    assert said["message"] == "Missing clusters: c1, paris"
    source = {"kubeConfig": {"location": "c1", "locationType": "Secret"}}
    await _add(scene, MULTI_KUEUE_CLUSTERS, "c1", {"clusterSource": source})
    await _add(scene, MULTI_KUEUE_CLUSTERS, "paris", {"clusterSource": {"clusterProfileRef": {"name": "c2"}}})
    said = await _says(scene, MULTI_KUEUE_CLUSTERS, "c1", "ClientConnectionFailed")
    assert "There is no ManagedCluster c1" in said["message"]
    await _says(scene, MULTI_KUEUE_CLUSTERS, "paris", "BadClusterProfile")
    await scene.agent("c1")
    said = await _says(scene, MULTI_KUEUE_CLUSTERS, "c1", "Active")
    assert said["status"] == "True"
    said = await _says(scene, ADMISSION_CHECKS, "workers", "SomeActiveClusters")
    assert (said["status"], said["message"]) == ("True", "Inactive clusters: paris")
    second = await scene.agent("c2", lease_seconds=1)
    await _says(scene, MULTI_KUEUE_CLUSTERS, "paris", "Active")
    await _says(scene, ADMISSION_CHECKS, "workers", "Active")
    # Silent from now on.
    await second.stop()
    said = await _says(scene, MULTI_KUEUE_CLUSTERS, "paris", "ClientConnectionFailed")
    assert "not available" in said["message"]
    await scene.api.patch(MANAGED_CLUSTERS, "c1", {"spec": {"hubAcceptsClient": False}})
    said = await _says(scene, MULTI_KUEUE_CLUSTERS, "c1", "ClientConnectionFailed")
    assert "not accepted" in said["message"]
    await _says(scene, ADMISSION_CHECKS, "workers", "NoUsableClusters")


async def test_the_check_is_answered_by_the_place(scene: Scene) -> None:
    await scene.hub()
    await scene.agent("c1")
    await scene.agent("c2", plan=lambda work, tasks: Told(seconds=30, running_after=0.0))
    await scene.available("c1", "c2")
    await _add(scene, MULTI_KUEUE_CLUSTERS, "c2", {})
    await _add(scene, MULTI_KUEUE_CONFIGS, "eu", {"clusters": ["c2"]})
    await _check(scene)
    await flavor(scene, "any")
    checks = {"admissionChecks": [{"name": "workers"}]}
    await cluster_queue(scene, "team", {"cpu": 4, "memory": "1Gi"}, uses="any", admissionChecksStrategy=checks)
    await active(scene, "team", "True", "Ready")
    await scene.submit("job", queueName="team")
    workload = await is_true(scene, "job", "Admitted")
    (entry,) = workload["status"]["admissionChecks"]
    assert (entry["name"], entry["state"], entry["message"]) == ("workers", "Ready", "The hub has placed it on c2")
