"""Pod sets of Workloads that somebody else runs: each has its flavors and its number, and gives back what has ended."""

from __future__ import annotations

from typing import Any

import pytest
from controllers_quota import API, cluster_queue, flavor, is_true, used, waits
from controllers_scene import Scene, until

from hub.api.resource import CLUSTER_QUEUES, LOCAL_QUEUES, RESOURCE_FLAVORS, WORKLOADS
from hub.controllers.hub import Hub

Json = dict[str, Any]
_MODES = pytest.mark.parametrize("mode", ["fleet", "kueue"])


async def _hub(scene: Scene, mode: str) -> Hub:
    return await scene.hub(queue={"mode": mode, "notice": "0s"})


async def _zones(scene: Scene, **nominal: int) -> None:
    """A ClusterQueue `team` whose flavors are zones."""
    for zone in nominal:
        body = {"apiVersion": API, "kind": "ResourceFlavor", "metadata": {"name": zone}}
        await scene.api.create(RESOURCE_FLAVORS, {**body, "spec": {"nodeLabels": {"zone": zone}}})
    flavors = [
        {"name": zone, "resources": [{"name": "cpu", "nominalQuota": amount}]} for zone, amount in nominal.items()
    ]
    group = {"coveredResources": ["cpu"], "flavors": flavors}
    spec = {"namespaceSelector": {}, "resourceGroups": [group]}
    await scene.api.create(
        CLUSTER_QUEUES, {"apiVersion": API, "kind": "ClusterQueue", "metadata": {"name": "team"}, "spec": spec}
    )
    local = {"apiVersion": API, "kind": "LocalQueue", "metadata": {"name": "team"}, "spec": {"clusterQueue": "team"}}
    await scene.api.create(LOCAL_QUEUES, local, "default")


def _pods(name: str, count: int, cpu: int = 1, zone: str = "", **more: Any) -> Json:
    pod: Json = {"containers": [{"name": "main", "image": "x", "resources": {"requests": {"cpu": cpu}}}]}
    if zone:
        pod["nodeSelector"] = {"zone": zone}
    return {"name": name, "count": count, "template": {"spec": pod}, **more}


async def _add(scene: Scene, name: str, *pod_sets: Json, **spec: Any) -> None:
    owner = {"apiVersion": "ray.io/v1", "kind": "RayJob", "name": name, "uid": f"ray-{name}"}
    body = {
        "apiVersion": API,
        "kind": "Workload",
        "metadata": {"name": name, "ownerReferences": [owner]},
        "spec": {"queueName": "team", "podSets": list(pod_sets), **spec},
    }
    await scene.api.create(WORKLOADS, body, "default")


def _given(workload: Json) -> list[tuple[str, int, Json, Json]]:
    return [
        (part["name"], part["count"], part["flavors"], part["resourceUsage"])
        for part in workload["status"]["admission"]["podSetAssignments"]
    ]


@_MODES
async def test_each_pod_set_has_flavors_of_its_own(scene: Scene, mode: str) -> None:
    await _hub(scene, mode)
    await _zones(scene, a=2, b=4)
    await _add(scene, "both", _pods("driver", 1, 2, zone="a"), _pods("workers", 4, zone="b"))
    assert _given(await is_true(scene, "both")) == [
        ("driver", 1, {"cpu": "a"}, {"cpu": "2"}),
        ("workers", 4, {"cpu": "b"}, {"cpu": "4"}),
    ]
    await _add(scene, "more", _pods("driver", 1, zone="a"))
    said = await waits(scene, "more", "WaitingForQuota", "NoMatchingFlavor")
    assert "flavor" in said["message"]


@_MODES
async def test_what_fits_in_no_single_flavor_is_split_by_pod_set(scene: Scene, mode: str) -> None:
    await _hub(scene, mode)
    await _zones(scene, a=3, b=3)
    await _add(scene, "both", _pods("one", 3), _pods("two", 3))
    assert _given(await is_true(scene, "both")) == [
        ("one", 3, {"cpu": "a"}, {"cpu": "3"}),
        ("two", 3, {"cpu": "b"}, {"cpu": "3"}),
    ]


@_MODES
async def test_pods_that_have_ended_give_their_quota_back(scene: Scene, mode: str) -> None:
    await _hub(scene, mode)
    await flavor(scene, "any")
    await cluster_queue(scene, "team", {"cpu": 6}, uses="any")
    await _add(scene, "both", _pods("driver", 1, 2), _pods("workers", 4))
    await is_true(scene, "both")
    await _add(scene, "next", _pods("main", 2))
    await waits(scene, "next", "WaitingForQuota")
    reclaimable = [{"name": "workers", "count": 3}]
    await scene.api.patch(
        WORKLOADS, "both", {"status": {"reclaimablePods": reclaimable}}, "default", subresource="status"
    )
    await is_true(scene, "next")

    async def counted() -> bool:
        return (await used(scene, "team"))[0] == "5"

    await until(counted, what="2 of the driver, 1 of a worker, 2 of the next")


@_MODES
async def test_fewer_pods_start_where_fewer_will_do(scene: Scene, mode: str) -> None:
    await _hub(scene, mode)
    await flavor(scene, "any")
    await cluster_queue(scene, "team", {"cpu": 5}, uses="any")
    await _add(scene, "first", _pods("main", 8, minCount=2))
    assert _given(await is_true(scene, "first")) == [("main", 5, {"cpu": "any"}, {"cpu": "5"})]
    await _add(scene, "second", _pods("main", 3, minCount=2))
    await waits(scene, "second", "WaitingForQuota")


@_MODES
async def test_all_pods_rather_than_fewer_from_an_earlier_flavor(scene: Scene, mode: str) -> None:
    await _hub(scene, mode)
    await _zones(scene, a=3, b=9)
    await _add(scene, "whole", _pods("driver", 1, 2), _pods("workers", 6, minCount=2))
    assert _given(await is_true(scene, "whole")) == [
        ("driver", 1, {"cpu": "a"}, {"cpu": "2"}),
        ("workers", 6, {"cpu": "b"}, {"cpu": "6"}),
    ]


@_MODES
async def test_a_topology_that_pods_must_have_is_refused_by_field(scene: Scene, mode: str) -> None:
    await _hub(scene, mode)
    await flavor(scene, "any")
    await cluster_queue(scene, "team", {"cpu": 5}, uses="any")
    await _add(scene, "must", _pods("main", 2, topologyRequest={"required": "rack"}))
    await _add(scene, "would", _pods("main", 2, topologyRequest={"preferred": "rack"}))
    await is_true(scene, "would")
    said = await waits(scene, "must", "InvalidSpec", "Misconfigured")
    assert "spec.podSets[0].topologyRequest.required" in said["message"]
