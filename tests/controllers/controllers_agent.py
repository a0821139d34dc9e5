"""A cluster for tests: joins, keeps its Lease, and does with its works what the test says."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from controllers_line import Line

from hub.api import names
from hub.api.conditions import with_condition
from hub.api.errors import AlreadyExistsError, ConflictError, NotFoundError, QuarterdeckError, UnreachableError
from hub.api.indexset import IndexSet
from hub.api.resource import CLUSTER_CAPACITIES, LEASES, MANAGED_CLUSTERS, MANIFEST_WORKS
from hub.api.timestamps import format_micro_time, format_time, from_timestamp
from hub.client.informer import Informer
from hub.client.interface import KubeApi

Json = dict[str, Any]


@dataclass
class Told:
    """What an agent does with a slice: `seconds` until its tasks end; which fail, with which code."""

    seconds: float = 0.0
    failing: frozenset[int] = frozenset()
    code: int = 1
    running_after: float | None = None


@dataclass
class FakeAgent:
    """One cluster: joins, renews its Lease, runs works as `plan(work, tasks)` says, obeys deletions."""

    api: KubeApi
    name: str
    cpu: int = 8
    gpus: int = 0
    lease_seconds: int = 60
    labels: dict[str, str] = field(default_factory=dict)
    plan: Callable[[Json, IndexSet], Told] = lambda work, tasks: Told()
    line: Line = field(init=False)
    started: list[tuple[str, str]] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    paused: bool = False
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _runs: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _done: dict[str, tuple[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.line = Line(self.api)

    async def start(self) -> None:
        with contextlib.suppress(AlreadyExistsError):
            await self.line.create(
                MANAGED_CLUSTERS,
                {
                    "apiVersion": MANAGED_CLUSTERS.api_version,
                    "kind": "ManagedCluster",
                    "metadata": {"name": self.name, "labels": self.labels},
                    "spec": {"leaseDurationSeconds": self.lease_seconds},
                },
            )
        for work in (self._renew(), self._join(), self._watch()):
            task = asyncio.create_task(work)
            self._tasks.add(task)

    async def stop(self) -> None:
        for task in [*self._tasks, *self._runs.values()]:
            task.cancel()
        await asyncio.gather(*self._tasks, *self._runs.values(), return_exceptions=True)

    async def _join(self) -> None:
        while True:
            with contextlib.suppress(QuarterdeckError):
                cluster = await self.line.get(MANAGED_CLUSTERS, self.name)
                conditions = (cluster.get("status") or {}).get("conditions") or []
                if cluster["spec"].get("hubAcceptsClient") and not self.paused:
                    await self._say_available(cluster, conditions)
            await asyncio.sleep(0.05)

    async def _say_available(self, cluster: Json, conditions: list[Json]) -> None:
        now = format_time(from_timestamp(time.time()))
        wanted = with_condition(conditions, "ManagedClusterJoined", "True", "ManagedClusterJoined", "", now=now)
        wanted = with_condition(
            wanted, "ManagedClusterConditionAvailable", "True", "ManagedClusterAvailable", "", now=now
        )
        await self._report_capacity()
        if wanted != conditions:
            version = cluster["metadata"]["resourceVersion"]
            patch = {"metadata": {"resourceVersion": version}, "status": {"conditions": wanted}}
            await self.line.patch(MANAGED_CLUSTERS, self.name, patch, subresource="status")

    async def _report_capacity(self) -> None:
        try:
            await self.line.get(CLUSTER_CAPACITIES, self.name, self.name)
        except NotFoundError:
            group: Json = {"name": "nodes", "count": 1, "allocatable": {"cpu": str(self.cpu), "memory": "64Gi"}}
            if self.gpus:
                group["gpu"] = {"model": "A100", "memory": "80Gi", "count": self.gpus}
            await self.line.create(
                CLUSTER_CAPACITIES,
                {
                    "apiVersion": names.API_VERSION,
                    "kind": "ClusterCapacity",
                    "metadata": {"name": self.name, "namespace": self.name},
                    "status": {"runtime": "process", "nodeGroups": [group]},
                },
                self.name,
            )

    async def _renew(self) -> None:
        while True:
            with contextlib.suppress(QuarterdeckError):
                if not self.paused:
                    at = format_micro_time(from_timestamp(time.time()))
                    await self.line.patch(LEASES, names.CLUSTER_LEASE, {"spec": {"renewTime": at}}, self.name)
            await asyncio.sleep(min(self.lease_seconds / 4, 0.5))

    async def _watch(self) -> None:
        informer: Informer[Json] = Informer(
            self.line, MANIFEST_WORKS, self.name, on_event=lambda change, key, old, new: self._work(new)
        )
        await informer.run()

    def _work(self, work: Json | None) -> None:
        if work is None:
            return
        name = work["metadata"]["name"]
        if work["metadata"].get("deletionTimestamp"):
            if names.WORK_FINALIZER in (work["metadata"].get("finalizers") or ()):
                self._spawn(f"remove {name}", self._remove(name))
        elif name not in self._runs and not (work.get("status") or {}).get("resourceStatus"):
            self._runs[name] = asyncio.create_task(self._run(work))

    def _spawn(self, key: str, work: Any) -> None:
        if key in self._runs and not self._runs[key].done():
            work.close()
            return
        self._runs[key] = asyncio.create_task(work)

    async def _run(self, work: Json) -> None:
        meta = work["metadata"]
        tasks = IndexSet.parse(meta["annotations"][names.TASKS])
        told = self.plan(work, tasks)
        self.started.append((meta["name"], str(tasks)))
        members = list(tasks)
        if told.seconds:
            if told.running_after is not None:
                await asyncio.sleep(told.running_after)
                await self.report(meta["name"], active=len(members))
            await asyncio.sleep(told.seconds)
        failed = IndexSet.of(i for i, task in enumerate(members) if task in told.failing)
        succeeded = IndexSet.of(i for i, task in enumerate(members) if task not in told.failing)
        self.ended.append(meta["name"])
        await self.report(meta["name"], succeeded=succeeded, failed=failed, code=told.code, over=True)

    async def report(
        self,
        name: str,
        *,
        active: int = 0,
        succeeded: IndexSet = IndexSet(),
        failed: IndexSet = IndexSet(),
        code: int = 1,
        over: bool = False,
    ) -> None:
        """Feedback about the work's Job, by completion index, as the wire has it; until the hub takes it."""
        while True:
            try:
                work = await self.line.get(MANIFEST_WORKS, name, self.name)
                status = _feedback(work, active, succeeded, failed, code, over)
                version = work["metadata"]["resourceVersion"]
                patch = {"metadata": {"resourceVersion": version}, "status": status}
                await self.line.patch(MANIFEST_WORKS, name, patch, self.name, subresource="status")
                return
            except (ConflictError, UnreachableError):
                await asyncio.sleep(0.02)
            except NotFoundError:
                return

    async def _remove(self, name: str) -> None:
        run = self._runs.get(name)
        if run is not None and not run.done():
            run.cancel()
            self.stopped.append(name)
        while True:
            try:
                work = await self.line.get(MANIFEST_WORKS, name, self.name)
                kept = [f for f in work["metadata"].get("finalizers") or () if f != names.WORK_FINALIZER]
                version = work["metadata"]["resourceVersion"]
                patch = {"metadata": {"resourceVersion": version, "finalizers": kept or None}}
                await self.line.patch(MANIFEST_WORKS, name, patch, self.name)
                return
            except (ConflictError, UnreachableError):
                await asyncio.sleep(0.02)
            except NotFoundError:
                return


def _feedback(work: Json, active: int, succeeded: IndexSet, failed: IndexSet, code: int, over: bool) -> Json:
    values: list[Json] = [
        _value("active", active),
        _value("ready", active),
        _value("succeeded", len(succeeded)),
        _value("failed", len(failed)),
    ]
    if succeeded:
        values.append(_value("completedIndexes", str(succeeded)))
    if failed:
        values += [_value("failedIndexes", str(failed)), _value("exitCodes", f"{code}={failed}")]
    now = format_time(from_timestamp(time.time()))
    values.append(_value("startTime", now))
    conditions = [{"type": "Applied", "status": "True", "reason": "A", "message": "", "lastTransitionTime": now}]
    if over:
        values.append(_value("failedCondition" if failed else "complete", "True"))
        values.append(_value("usage", "cpu=1.5;wall=2"))
        if not failed:
            values.append(_value("completionTime", now))
        conditions.append({**conditions[0], "type": "Complete"})
    manifest = work["spec"]["workload"]["manifests"][0]
    meta = {
        "ordinal": 0, "group": "batch", "version": "v1", "kind": "Job", "resource": "jobs",
        "name": manifest["metadata"]["name"], "namespace": manifest["metadata"]["namespace"],
    }  # fmt: skip
    status = {"resourceMeta": meta, "conditions": conditions[:1], "statusFeedback": {"values": values}}
    return {"conditions": conditions, "resourceStatus": {"manifests": [status]}}


def _value(name: str, value: int | str) -> Json:
    if isinstance(value, int):
        return {"name": name, "fieldValue": {"type": "Integer", "integer": value}}
    return {"name": name, "fieldValue": {"type": "String", "string": value}}
