"""What the hub keeps of a job, in bytes: of one that has ended, of one that waits, of one that is still to be written.

A hub of ten thousand jobs must fit where a small one runs. The bounds are what was measured, and three tenths more.
"""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import AsyncIterator, Mapping
from typing import Any, cast

import orjson
from controllers_scene import FAST, Scene, Told, until

from hub.api import names
from hub.api.errors import NotFoundError
from hub.api.resource import (
    CLUSTER_CAPACITIES,
    CLUSTER_QUEUES,
    FLEET_JOBS,
    LEASES,
    LOCAL_QUEUES,
    MANAGED_CLUSTERS,
    MANIFEST_WORKS,
    NAMESPACES,
    RESOURCE_FLAVORS,
    WORKLOADS,
    Resource,
)
from hub.client.interface import KubeApi, Listing, Page
from hub.controllers.config import parse_config
from hub.controllers.hub import Hub

Json = dict[str, Any]
FEW, MANY = 20, 320
# While it ends, waits, and is new and still to be written: bytes.
MOST = {"Succeeded": 8_400, "Queued": 7_300, "new": 7_100}
# It does not matter here who leads: a slow machine is not to cost anybody the lead.
CALM: Json = {"leadership": {"lease": 600, "renewDeadline": 500, "retry": 10}}
OURS = ("hub.client", "hub.controllers", "hub.fleet", "hub.jobs", "hub.planner", "hub.queueing")
SURROUNDINGS = (MANAGED_CLUSTERS, CLUSTER_CAPACITIES, RESOURCE_FLAVORS, CLUSTER_QUEUES, LOCAL_QUEUES, NAMESPACES)
Texts = Mapping[Resource, list[bytes]]


class Shelf:
    """An API that has some objects, as text, and answers for its Lease only: what else is written waits for ever."""

    def __init__(self, texts: Texts) -> None:
        self._texts = texts

    async def pages(self, resource: Resource, *_: Any, label_selector: str = "", **__: Any) -> AsyncIterator[Page]:
        own = () if label_selector.startswith("!") else self._texts.get(resource, ())
        for text in own:
            yield Page([orjson.loads(text)], "1", fresh=False)
        yield Page([], "1", fresh=False)

    async def watch(self, *_: Any, **__: Any) -> AsyncIterator[Any]:
        await asyncio.Event().wait()
        yield

    async def get(self, resource: Resource, name: str, namespace: str | None = None) -> Json:
        raise NotFoundError(404, {"message": f"no {resource.kind} {name}"})

    async def create(self, resource: Resource, obj: Json, namespace: str | None = None) -> Json:
        if resource is not LEASES:
            await asyncio.Event().wait()
        return {**obj, "metadata": {**obj["metadata"], "resourceVersion": "1"}}

    async def patch(self, *_: Any, **__: Any) -> Json:
        await asyncio.Event().wait()
        raise AssertionError

    async def delete(self, *_: Any, **__: Any) -> None:
        await asyncio.Event().wait()

    async def list(self, resource: Resource, *_: Any, **__: Any) -> Listing:
        assert resource not in (FLEET_JOBS, WORKLOADS, MANIFEST_WORKS), "many are listed a page at a time"
        return Listing([orjson.loads(text) for text in self._texts.get(resource, ())], "1")

    replace = create


async def kept(texts: Texts, jobs: int) -> int:
    """Bytes that are in use once `jobs` jobs are known and looked at."""
    gc.collect()
    tracemalloc.start()
    hub = Hub(cast(KubeApi, Shelf(texts)), parse_config({**FAST, **CALM}), identity="hub")
    running = asyncio.create_task(hub.run())
    try:
        await asyncio.wait_for(hub.leading.wait(), 30)
        await until(lambda: hub.cycle.turns > 0 and not hub.table.dirty, 60)
        assert sum(entry.state is not None for entry in hub.table) == jobs
        # Writes that turn out to be none are tried, and forgotten.
        await asyncio.sleep(1.0)
        gc.collect()
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await hub.patcher.stop(0)


def copies(objects: Mapping[Resource, Json], count: int) -> dict[Resource, list[bytes]]:
    """`count` jobs that differ in names and uids."""
    found: dict[Resource, list[bytes]] = {}
    for resource, obj in objects.items():
        text = orjson.dumps(obj)
        uids = {obj["metadata"]["uid"] for obj in objects.values()}
        for number in range(count):
            one = text.replace(b"sample", b"job-%05d" % number)
            for uid in uids:
                one = one.replace(uid.encode(), b"%08x" % number + uid[8:].encode())
            found.setdefault(resource, []).append(one)
    return found


async def samples(scene: Scene) -> dict[str, dict[Resource, Json]]:
    """A job, and what there is of it, when it is new, while it waits, and when it has ended."""
    found: dict[str, dict[Resource, Json]] = {}
    await scene.hub(**CALM)
    await scene.agent("ash", plan=lambda work, tasks: Told(seconds=0.02))
    await scene.available("ash")
    for name, cpu, phase in (("sample-1", "1", "Succeeded"), ("sample-2", "999", "Queued")):
        found["new"] = {FLEET_JOBS: await scene.submit(name, cpu=cpu)}
        await scene.phase(name, phase, seconds=60)
        # The Workload's status comes a moment later.
        await asyncio.sleep(1.0)
        found[phase] = {FLEET_JOBS: await scene.job(name), WORKLOADS: await scene.workload(name)}
        for work in await scene.works():
            if work["metadata"]["labels"][names.JOB_NAME] == name:
                found[phase][MANIFEST_WORKS] = work
    assert [phase for phase in found if MANIFEST_WORKS in found[phase]] == ["Succeeded"]
    return found


async def test_of_a_job_few_bytes_are_kept(scene: Scene) -> None:
    objects = await samples(scene)
    around = {
        resource: [orjson.dumps(obj) for obj in (await scene.api.list(resource)).items] for resource in SURROUNDINGS
    }
    await scene.close()
    scene.hubs.clear()
    scene.agents.clear()
    each: dict[str, float] = {}
    for phase in MOST:
        few, many = [await kept(around | copies(objects[phase], count), count) for count in (FEW, MANY)]
        each[phase] = (many - few) / (MANY - FEW)
    assert all(each[phase] <= most for phase, most in MOST.items()), each
    assert all(each[phase] > 1_000 for phase in MOST), f"too little to be true: {each}"


async def test_lives_of_jobs_leave_nothing_to_the_garbage_collector(scene: Scene) -> None:
    """What knows itself is freed late, by a collection of everything; until then it is as much as all else."""
    await scene.hub(**CALM)
    await scene.agent("ash", cpu=64, plan=lambda work, tasks: Told(seconds=0.02))
    await scene.available("ash")
    await scene.submit("first")
    await scene.phase("first", "Succeeded", seconds=60)
    gc.collect()
    gc.disable()
    try:
        for number in range(20):
            await scene.submit(f"job-{number}")
        for number in range(20):
            await scene.phase(f"job-{number}", "Succeeded", seconds=60)
        await asyncio.sleep(0.5)
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        ours = [thing for thing in gc.garbage if str(getattr(thing, "__module__", "")).startswith(OURS)]
        assert ours == []
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
