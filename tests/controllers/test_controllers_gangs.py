"""A gang in the live hub: all of it in one rack of one cluster, charged there, and asked for by its pods."""

from __future__ import annotations

from typing import Any

from controllers_scene import Scene, Told, until

from hub.api import names
from hub.api.resource import CLUSTER_CAPACITIES, MANIFEST_WORKS

RACK = "topology.kubernetes.io/rack"


async def racks(scene: Scene, cluster: str, **racks: int) -> None:
    """The cluster reports one node of eight CPUs times so many in each rack."""
    groups = [
        {
            "name": rack,
            "count": count,
            "labels": {RACK: rack},
            "allocatable": {"cpu": "8", "memory": "8Gi", "pods": "99"},
        }
        for rack, count in racks.items()
    ]
    await scene.api.patch(CLUSTER_CAPACITIES, cluster, {"status": {"nodeGroups": groups}}, cluster)


async def works(scene: Scene, cluster: str) -> list[dict[str, Any]]:
    return list((await scene.api.list(MANIFEST_WORKS, cluster)).items)


async def test_a_gang_needs_a_rack_and_gets_one(scene: Scene) -> None:
    hub = await scene.hub()
    agent = await scene.agent("ash", plan=lambda work, tasks: Told(seconds=30.0))
    await scene.available("ash")
    agent.paused = True
    await racks(scene, "ash", r1=1, r2=2)
    await until(lambda: len(getattr(hub.world.fleet.site("ash"), "groups", ())) == 2)
    await scene.submit("train", tasks=12, gang=True, topology={"required": RACK})
    await scene.phase("train", "Admitted", "Running")
    (work,) = await works(scene, "ash")
    assert work["metadata"]["annotations"][names.TOPOLOGY_DOMAIN] == f"{RACK}=r2"
    pod = work["spec"]["workload"]["manifests"][0]["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == {RACK: "r2"}
    held = hub.world.fleet.held("ash")[work["metadata"]["name"]]
    assert (held.count, held.waiting, held.shape.node_selector) == (12, 0, ((RACK, "r2"),))
    # Twelve slots are left in all, eight of them in one rack: that is not enough for nine.
    await scene.submit("second", tasks=9, gang=True, topology={"required": RACK})
    status = await scene.phase("second", "Queued")
    assert status["reason"] == "WaitingForCapacity"
    assert f"one {RACK}" in status["message"]
    await scene.submit("third", tasks=9, gang=True)
    status = await scene.phase("third", "Admitted", "Running")
    assert status["clusters"] == ["ash"]
