"""kopf's part, against the API over HTTP: clusters that leave, the sets that stay, what sets and bindings say."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from controllers_scene import FakeAgent, Scene, Told, until

from hub.api import names
from hub.api.conditions import find_condition
from hub.api.errors import NotFoundError
from hub.api.resource import (
    MANAGED_CLUSTER_SET_BINDINGS,
    MANAGED_CLUSTER_SETS,
    MANAGED_CLUSTERS,
    MANIFEST_WORKS,
    NAMESPACES,
    Resource,
)
from hub.apiserver.server import ApiServer
from hub.client.session import Session
from hub.controllers.lifecycle import Lifecycle
from hub.registration.sets import binding_status, restored, set_status

pytestmark = pytest.mark.slow


@pytest.fixture
async def lifecycle(scene: Scene, api_server: ApiServer) -> AsyncIterator[Lifecycle]:
    made = Lifecycle(lambda: Session(api_server.url, token=api_server.token), patience=3.0, resync=1.0)
    made.start()
    yield made
    made.stop()
    made.join(10)
    assert made._thread is not None
    assert not made._thread.is_alive()


async def is_gone(scene: Scene, resource: Resource, name: str, namespace: str | None = None) -> bool:
    try:
        await scene.api.get(resource, name, namespace)
    except NotFoundError:
        return True
    return False


async def test_a_cluster_that_leaves_takes_its_works_and_its_namespace(scene: Scene, lifecycle: Lifecycle) -> None:
    await scene.hub()
    ash = await scene.agent("ash", plan=lambda work, tasks: Told(seconds=30.0))
    await scene.available("ash")
    await scene.submit("moves")
    await until(lambda: ash.started)
    await scene.agent("elm")
    await scene.available("elm")
    await until(lambda: held(scene, "ash"))
    await scene.api.delete(MANAGED_CLUSTERS, "ash")
    status = await scene.phase("moves", "Succeeded")
    assert [a["state"] for a in status["attempts"]] == ["Lost", "Succeeded"]
    await until(lambda: ash.stopped)
    ash.paused = True
    await until(lambda: is_gone(scene, MANAGED_CLUSTERS, "ash"), 15)
    assert await is_gone(scene, NAMESPACES, "ash")


async def held(scene: Scene, name: str) -> bool:
    cluster = await scene.api.get(MANAGED_CLUSTERS, name)
    return names.HUB_FINALIZER in (cluster["metadata"].get("finalizers") or ())


async def test_a_dead_cluster_can_leave_too(scene: Scene, lifecycle: Lifecycle) -> None:
    hub = await scene.hub()
    ash: FakeAgent = await scene.agent("ash", plan=lambda work, tasks: Told(seconds=30.0))
    await scene.available("ash")
    await scene.submit("stranded")
    await until(lambda: ash.started)
    await until(lambda: held(scene, "ash"))
    await ash.stop()
    await scene.api.delete(MANAGED_CLUSTERS, "ash")
    await until(lambda: is_gone(scene, MANAGED_CLUSTERS, "ash"), 15)
    assert (await scene.api.list(MANIFEST_WORKS)).items == []
    assert (await scene.phase("stranded", "Queued"))["attempts"][0]["state"] == "Lost"
    await until(lambda: "ash" not in hub.world.clusters)


async def test_the_two_sets_are_kept_and_all_sets_say_how_many_they_have(scene: Scene, lifecycle: Lifecycle) -> None:
    await scene.hub()
    await scene.agent("ash")
    await scene.available("ash")

    async def says(name: str, status: str) -> bool:
        found = await scene.api.get(MANAGED_CLUSTER_SETS, name)
        condition = find_condition((found.get("status") or {}).get("conditions"), "ClusterSetEmpty")
        return condition is not None and condition["status"] == status

    await until(lambda: says("default", "False"))
    await until(lambda: says("global", "False"))
    await scene.api.delete(MANAGED_CLUSTER_SETS, "global")
    await until(lambda: says("global", "False"))
    selector = {"spec": {"clusterSelector": {"labelSelector": {"matchLabels": {"region": "eu"}}}}}
    await scene.api.patch(MANAGED_CLUSTER_SETS, "global", selector)

    async def back() -> bool:
        found = await scene.api.get(MANAGED_CLUSTER_SETS, "global")
        return not (found["spec"]["clusterSelector"].get("labelSelector") or {}).get("matchLabels")

    await until(back)
    for kind, name in (("ManagedClusterSet", "gpu"), ("ManagedClusterSetBinding", "gpu")):
        resource = MANAGED_CLUSTER_SETS if kind == "ManagedClusterSet" else MANAGED_CLUSTER_SET_BINDINGS
        spec = {} if kind == "ManagedClusterSet" else {"clusterSet": name}
        metadata = {"name": name} | ({} if kind == "ManagedClusterSet" else {"namespace": "default"})
        body = {"apiVersion": resource.api_version, "kind": kind, "metadata": metadata, "spec": spec}
        await scene.api.create(resource, body, metadata.get("namespace"))
    await until(lambda: says("gpu", "True"))

    async def bound(status: str) -> bool:
        found = await scene.api.get(MANAGED_CLUSTER_SET_BINDINGS, "gpu", "default")
        condition = find_condition((found.get("status") or {}).get("conditions"), "Bound")
        return condition is not None and condition["status"] == status

    await until(lambda: bound("True"))
    await scene.api.delete(MANAGED_CLUSTER_SETS, "gpu")
    await until(lambda: bound("False"))


NOW = "2026-01-31T12:00:00Z"


@pytest.mark.parametrize(
    ("name", "selector", "annotations", "changed"),
    [
        ("default", {"selectorType": "ExclusiveClusterSetLabel"}, {}, False),
        ("default", {}, {}, False),
        ("default", {"selectorType": "LabelSelector", "labelSelector": {}}, {}, True),
        ("global", {"selectorType": "LabelSelector", "labelSelector": {}}, {}, False),
        ("global", {"selectorType": "LabelSelector", "labelSelector": {"matchLabels": {"a": "b"}}}, {}, True),
        ("global", {}, {"cluster.open-cluster-management.io/autoupdate": "false"}, False),
        ("mine", {"selectorType": "LabelSelector", "labelSelector": {"matchLabels": {"a": "b"}}}, {}, False),
    ],
)
def test_only_the_two_sets_are_kept_as_they_are(
    name: str, selector: dict[str, Any], annotations: dict[str, str], changed: bool
) -> None:
    found = {"metadata": {"name": name, "annotations": annotations}, "spec": {"clusterSelector": selector}}
    assert (restored(found) is not None) is changed


def test_conditions_move_only_when_something_changed() -> None:
    empty = set_status({"metadata": {}}, 0, NOW)
    assert empty[0]["reason"] == "NoClusterMatched"
    assert set_status({"status": {"conditions": empty}}, 0, "2027-01-01T00:00:00Z") == empty
    binding = {"spec": {"clusterSet": "a"}}
    bound = binding_status(binding, NOW, exists=True)
    assert bound[0]["reason"] == "ClusterSetBound"
    assert binding_status(binding | {"status": {"conditions": bound}}, "2027-01-01T00:00:00Z", exists=True) == bound
