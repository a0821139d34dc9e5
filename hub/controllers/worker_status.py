"""Says of MultiKueue's objects whether they are active, for people and tools that look with Kueue's eyes.

What is said is hub/registration/worker_conditions.py; it is written when it differs from what is there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final

from hub.api.conditions import with_condition
from hub.api.errors import InvalidObjectError
from hub.api.resource import ADMISSION_CHECKS, MULTI_KUEUE_CLUSTERS, MULTI_KUEUE_CONFIGS, Resource
from hub.api.timestamps import format_time, from_timestamp
from hub.controllers.world import World
from hub.controllers.writes import MergePatch, Write, WriteKey, Writes
from hub.queueing.worker_clusters import WorkerList, read_check, read_worker, read_worker_list
from hub.registration.worker_conditions import Standing, check_standing, worker_standing

Json = dict[str, Any]
_EVERY: Final = 0.5
_READ: Final = (InvalidObjectError, TypeError, ValueError, AttributeError, KeyError)


class WorkerStatus:
    """`run()` until cancelled; `look()` at once. `objects` gives each kind as seen, by name. `leads` says whether this
    hub may write; `now` is epoch seconds."""

    def __init__(
        self,
        world: World,
        writes: Writes,
        objects: Callable[[Resource], Mapping[str, Json]],
        *,
        leads: Callable[[], bool],
        now: Callable[[], float],
    ) -> None:
        self._world, self._writes, self._objects = world, writes, objects
        self._leads, self._now = leads, now

    async def run(self) -> None:
        while True:
            if self._leads():
                self.look()
            await asyncio.sleep(_EVERY)

    def look(self) -> None:
        """Submits what differs now."""
        workers: dict[str, Standing] = {}
        for name, obj in self._objects(MULTI_KUEUE_CLUSTERS).items():
            try:
                worker = read_worker(obj)
            except _READ as error:
                self._say(MULTI_KUEUE_CLUSTERS, name, Standing("False", "BadKubeConfig", str(error)))
                continue
            cluster = self._world.clusters.get(worker.cluster)
            workers[name] = worker_standing(worker, cluster, by_profile=_by_profile(obj))
            self._say(MULTI_KUEUE_CLUSTERS, name, workers[name])
        checks = {name: obj for name, obj in self._objects(ADMISSION_CHECKS).items() if _ours(obj)}
        if not checks:
            return
        lists: dict[str, WorkerList] = {}
        for name, obj in self._objects(MULTI_KUEUE_CONFIGS).items():
            try:
                lists[name] = read_worker_list(obj)
            except _READ:
                # Said by the queues that need it; to the check it is as if it were not there.
                continue
        for name, obj in checks.items():
            self._say(ADMISSION_CHECKS, name, check_standing(read_check(obj), lists, workers))

    def _say(self, resource: Resource, name: str, standing: Standing) -> None:
        if self._patch(resource, name, standing) is not None:
            self._writes.submit(WriteKey(resource, None, name, "status"), lambda: self._patch(resource, name, standing))

    def _patch(self, resource: Resource, name: str, standing: Standing) -> Write | None:
        obj = self._objects(resource).get(name)
        if obj is None:
            return None
        meta, before = obj["metadata"], (obj.get("status") or {}).get("conditions") or ()
        at = format_time(from_timestamp(self._now()))
        after = with_condition(before, "Active", *standing, now=at, generation=meta.get("generation"))
        if [dict(condition) for condition in after] == [dict(condition) for condition in before]:
            return None
        seen = {"uid": meta["uid"], "resourceVersion": str(meta["resourceVersion"])}
        return MergePatch({"metadata": seen, "status": {"conditions": [dict(condition) for condition in after]}})


def _ours(obj: Json) -> bool:
    try:
        return read_check(obj).ours
    except _READ:
        return False


def _by_profile(obj: Json) -> bool:
    return bool(((obj.get("spec") or {}).get("clusterSource") or {}).get("clusterProfileRef"))
