"""A plain Job with Kueue's topology annotations: placed as a gang with that topology, in both modes."""

from __future__ import annotations

from typing import Any

import pytest
from controllers_scene import Scene, Told, until

from hub.api import names
from hub.api.resource import CLUSTER_CAPACITIES, JOBS

Json = dict[str, Any]
RACK = "topology.kubernetes.io/rack"


async def _racks(scene: Scene, cluster: str, **racks: int) -> None:
    """The cluster reports nodes of four CPUs, so many in each rack."""
    allocatable = {"cpu": "4", "memory": "8Gi", "pods": "99"}
    groups = [
        {"name": rack, "count": count, "labels": {RACK: rack}, "allocatable": allocatable}
        for rack, count in racks.items()
    ]
    await scene.api.patch(CLUSTER_CAPACITIES, cluster, {"status": {"nodeGroups": groups}}, cluster)


async def _submit(scene: Scene, name: str, pods: int, **notes: str) -> None:
    container = {"name": "main", "image": "x", "resources": {"requests": {"cpu": "1"}}}
    template = {
        "metadata": {"annotations": {f"kueue.x-k8s.io/podset-{key}-topology": value for key, value in notes.items()}},
        "spec": {"restartPolicy": "Never", "containers": [container]},
    }
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "labels": {names.QUEUE_NAME: "default"}},
        "spec": {"suspend": True, "parallelism": pods, "completions": pods, "template": template},
    }
    await scene.api.create(JOBS, job, "default")


@pytest.mark.parametrize("mode", ["fleet", "kueue"])
async def test_required_preferred_and_anywhere(scene: Scene, mode: str) -> None:
    hub = await scene.hub(queue={"mode": mode})
    agent = await scene.agent("ash", plan=lambda work, tasks: Told(seconds=30.0))
    await scene.available("ash")
    agent.paused = True
    await _racks(scene, "ash", r1=1, r2=2)
    await until(lambda: len(getattr(hub.world.fleet.site("ash"), "groups", ())) == 2)
    await _submit(scene, "must", 8, required=RACK)

    async def placed(count: int) -> list[Json]:
        works = await scene.works("ash")
        return works if len(works) == count else []

    (work,) = await until(lambda: placed(1))
    assert work["metadata"]["annotations"][names.TOPOLOGY_DOMAIN] == f"{RACK}=r2"
    # Only r1 is left, and it holds four.
    await _submit(scene, "cannot", 5, required=RACK)

    async def waits() -> Json | None:
        job = await scene.api.get(JOBS, "cannot", "default")
        found = [c for c in (job.get("status") or {}).get("conditions") or () if c["reason"] == "WaitingForCapacity"]
        return found[0] if found else None

    assert f"one {RACK}" in (await until(waits))["message"]
    await _submit(scene, "would", 3, preferred=RACK)
    works = await until(lambda: placed(2))
    mine = next(work for work in works if work["metadata"]["labels"][names.JOB_NAME] == "would")
    assert mine["metadata"]["annotations"][names.TOPOLOGY_DOMAIN] == f"{RACK}=r1"
    await _submit(scene, "slices", 1, required=RACK, **{"slice-required": RACK})

    async def refused() -> Json | None:
        job = await scene.api.get(JOBS, "slices", "default")
        found = [c for c in (job.get("status") or {}).get("conditions") or () if c["reason"] == "InvalidSpec"]
        return found[0] if found else None

    assert names.PODSET_SLICES[0] in (await until(refused))["message"]
