"""A hub's surroundings for tests: the API in process, agents that do what a test tells them, hubs that can die."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from hub.api import names
from hub.api.conditions import with_condition
from hub.api.errors import AlreadyExistsError, ConflictError, NotFoundError, QuarterdeckError, UnreachableError
from hub.api.indexset import IndexSet
from hub.api.resource import (
    CLUSTER_CAPACITIES,
    FLEET_JOBS,
    LEASES,
    MANAGED_CLUSTERS,
    MANIFEST_WORKS,
    WORKLOADS,
    Resource,
)
from hub.api.timestamps import format_micro_time, format_time, from_timestamp
from hub.client.informer import Informer
from hub.client.interface import KubeApi, Listing, Object, PatchType, WatchEvent
from hub.controllers.config import HubConfig, parse_config
from hub.controllers.hub import Hub

Json = dict[str, Any]
FAST = {
    "autoAccept": {"users": ["*"]},
    "leadership": {"lease": 2, "renewDeadline": 1.2, "retry": 0.2},
    "lifecycle": False,
}


async def until(condition: Callable[[], Any], seconds: float = 10.0, what: str = "") -> Any:
    """What `condition` gives (awaited if need be) once it is truthy; fails the test after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            found = condition()
            if asyncio.iscoroutine(found):
                found = await found
        except NotFoundError:
            found = None
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what or condition}")
        await asyncio.sleep(0.005)


class Line:
    """Somebody's connection to the API: counts what it writes, can be cut, and can be made to fail at a moment."""

    def __init__(self, api: KubeApi) -> None:
        self._api = api
        self.down = False
        self.writes: Counter[tuple[str, str]] = Counter()
        self.log: list[tuple[str, str, str]] = []
        # Called before each write with (verb, plural/subresource, name); may raise, or cut the line.
        self.before: Callable[[str, str, str], None] = lambda verb, what, name: None
        # The next write is done by the server, and the line is cut before its answer.
        self.lose_answer = False
        self._cut = asyncio.Event()

    def cut(self) -> None:
        self.down = True
        self._cut.set()

    def heal(self) -> None:
        self.down = False
        self._cut = asyncio.Event()

    def _check(self) -> None:
        if self.down:
            raise UnreachableError("the line is cut")

    async def get(self, resource: Resource, name: str, namespace: str | None = None) -> Object:
        self._check()
        return await self._api.get(resource, name, namespace)

    async def list(
        self, resource: Resource, namespace: str | None = None, *, label_selector: str = "", field_selector: str = ""
    ) -> Listing:
        self._check()
        return await self._api.list(resource, namespace, label_selector=label_selector, field_selector=field_selector)

    async def watch(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        resource_version: str,
        label_selector: str = "",
        field_selector: str = "",
        timeout_seconds: int = 300,
    ) -> AsyncIterator[WatchEvent]:
        self._check()
        stream = self._api.watch(
            resource,
            namespace,
            resource_version=resource_version,
            label_selector=label_selector,
            field_selector=field_selector,
            timeout_seconds=timeout_seconds,
        ).__aiter__()
        cut = asyncio.ensure_future(self._cut.wait())
        following: asyncio.Future[WatchEvent] | None = None
        try:
            while True:
                following = asyncio.ensure_future(stream.__anext__())
                await asyncio.wait({following, cut}, return_when=asyncio.FIRST_COMPLETED)
                if self.down:
                    raise UnreachableError("the line is cut")
                try:
                    event = await following
                except StopAsyncIteration:
                    return
                following = None
                yield event
        finally:
            cut.cancel()
            if following is not None:
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)

    async def create(
        self, resource: Resource, obj: Object, namespace: str | None = None, *, dry_run: bool = False
    ) -> Object:
        self._note("create", resource, str(obj["metadata"].get("name")))
        return self._answer(await self._api.create(resource, obj, namespace, dry_run=dry_run))

    async def replace(self, resource: Resource, obj: Object, *, subresource: str | None = None) -> Object:
        self._note("replace", resource, obj["metadata"]["name"], subresource)
        return self._answer(await self._api.replace(resource, obj, subresource=subresource))

    async def patch(
        self,
        resource: Resource,
        name: str,
        patch: Object | Sequence[Object],
        namespace: str | None = None,
        *,
        subresource: str | None = None,
        type: PatchType = "merge",
        field_manager: str = "",
        force: bool = False,
    ) -> Object:
        self._note("patch", resource, name, subresource)
        return self._answer(await self._api.patch(resource, name, patch, namespace, subresource=subresource, type=type))

    async def delete(
        self,
        resource: Resource,
        name: str,
        namespace: str | None = None,
        *,
        uid: str | None = None,
        propagation_policy: str | None = None,
    ) -> None:
        self._note("delete", resource, name)
        await self._api.delete(resource, name, namespace, uid=uid, propagation_policy=propagation_policy)
        self._arrived()

    def _note(self, verb: str, resource: Resource, name: str, subresource: str | None = None) -> None:
        self._check()
        what = f"{resource.plural}/{subresource}" if subresource else resource.plural
        self.before(verb, what, name)
        self._check()
        self.writes[verb, what] += 1
        self.log.append((verb, what, name))

    def _answer(self, answer: Object) -> Object:
        self._arrived()
        return answer

    def _arrived(self) -> None:
        if self.lose_answer:
            self.lose_answer = False
            self.cut()
        self._check()


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
            group = {"name": "nodes", "count": 1, "allocatable": {"cpu": str(self.cpu), "memory": "64Gi"}}
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


class Scene:
    """Agents and hubs around one API; everything is stopped at the end."""

    def __init__(self, api: KubeApi) -> None:
        self.api = api
        self.agents: list[FakeAgent] = []
        self.hubs: list[tuple[Hub, Line, asyncio.Task[None]]] = []

    async def agent(self, name: str, **options: Any) -> FakeAgent:
        agent = FakeAgent(self.api, name, **options)
        self.agents.append(agent)
        await agent.start()
        return agent

    async def hub(self, *, identity: str = "hub", line: Line | None = None, wait: bool = True, **config: Any) -> Hub:
        line = line or Line(self.api)
        hub = Hub(line, self.config(**config), identity=identity, request_kept=0.3)
        self.hubs.append((hub, line, asyncio.create_task(hub.run())))
        if wait:
            await asyncio.wait_for(hub.leading.wait(), 10)
        return hub

    @staticmethod
    def config(**config: Any) -> HubConfig:
        return parse_config({**FAST, **config})

    def line_of(self, hub: Hub) -> Line:
        return next(line for known, line, _ in self.hubs if known is hub)

    async def kill(self, hub: Hub) -> None:
        """As kill -9: from this moment on nothing of it reaches the API."""
        for known, line, task in self.hubs:
            if known is hub:
                line.cut()
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                await hub.patcher.stop(0)

    async def close(self) -> None:
        for hub, _line, task in self.hubs:
            if not task.done():
                hub.stop()
        tasks = [task for _, _, task in self.hubs]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=10)
            for task in late:
                for other in asyncio.all_tasks():
                    other.print_stack()
                task.cancel()
            assert not late, "a hub did not end when it was told to"
        for agent in self.agents:
            await agent.stop()

    # What a person does and sees.

    async def available(self, *names_: str) -> None:
        async def all_are() -> bool:
            for name in names_:
                cluster = await self.api.get(MANAGED_CLUSTERS, name)
                conditions = (cluster.get("status") or {}).get("conditions") or []
                if not any(
                    c["type"] == "ManagedClusterConditionAvailable" and c["status"] == "True" for c in conditions
                ):
                    return False
                try:
                    await self.api.get(CLUSTER_CAPACITIES, name, name)
                except NotFoundError:
                    return False
            return True

        await until(all_are, what=f"{names_} available")

    async def submit(self, name: str, tasks: int = 1, cpu: str = "1", **spec: Any) -> Json:
        container = {
            "name": "main", "image": "host", "command": ["true"],
            "resources": {"requests": {"cpu": cpu, "memory": "1Mi"}},
        }  # fmt: skip
        template = {"spec": {"restartPolicy": "Never", "containers": [container]}}
        body = {
            "apiVersion": names.API_VERSION,
            "kind": "FleetJob",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"tasks": tasks, "template": template, **spec},
        }
        return await self.api.create(FLEET_JOBS, body, "default")

    async def job(self, name: str) -> Json:
        return await self.api.get(FLEET_JOBS, name, "default")

    async def status(self, name: str) -> Json:
        return (await self.job(name)).get("status") or {}

    async def phase(self, name: str, *phases: str, seconds: float = 10.0) -> Json:
        async def reached() -> Json | None:
            status = await self.status(name)
            return status if status.get("phase") in phases else None

        try:
            found: Json = await until(reached, seconds)
        except AssertionError:
            raise AssertionError(f"{name} is not {phases} but {await self.status(name)}") from None
        return found

    async def works(self, cluster: str | None = None) -> list[Json]:
        return (await self.api.list(MANIFEST_WORKS, cluster)).items

    async def workload(self, name: str) -> Json:
        return await self.api.get(WORKLOADS, name, "default")
