"""A site in memory: an API, a capacity that a test changes, and logs that a test writes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

from agent_fakes import FakeApi

from agent.local import LogChunk
from hub.api import names
from hub.api.errors import NotFoundError, UnreachableError
from hub.api.resource import LEASES, MANAGED_CLUSTERS, NAMESPACES

GROUP = {"name": "a100", "count": 2, "allocatable": {"cpu": "8", "memory": "32Gi"}}
FACTS = {
    "version": {"kubernetes": "v1.33.0"},
    "capacity": {"cpu": "16", "memory": "64Gi"},
    "allocatable": {"cpu": "16", "memory": "64Gi"},
    "clusterClaims": [{"name": "id.k8s.io", "value": "site-1"}],
}


@dataclass
class TaskOutput:
    data: bytes = b""
    ended: bool = False
    exit_code: int | None = None
    reason: str | None = None
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def write(self, data: bytes) -> None:
        self.data += data
        self._tell()

    def end(self, exit_code: int = 0, reason: str | None = None) -> None:
        self.ended, self.exit_code, self.reason = True, exit_code, reason
        self._tell()

    def _tell(self) -> None:
        self.news.set()
        self.news = asyncio.Event()


class FakeSite:
    """Implements `agent.local.LocalCluster`."""

    def __init__(self) -> None:
        self.api = FakeApi()
        self.labels = {"region": "north"}
        self.answers = asyncio.Event()
        self.answers.set()
        self.facts: dict[str, Any] = dict(FACTS)
        self.state: dict[str, Any] = {"simulated": False, "runtime": "process", "nodeGroups": [GROUP]}
        self.outputs: dict[tuple[str, str, int], TaskOutput] = {}
        self.reads: list[tuple[int, int, int | None]] = []
        self.chunk = 64 * 1024
        self.broken = 0
        self.stopped = False
        self.open_reads = 0
        self._listeners: list[Callable[[], None]] = []

    def output(self, index: int = 0, job: str = "sum", namespace: str = "team-a") -> TaskOutput:
        return self.outputs.setdefault((namespace, job, index), TaskOutput())

    def change(self, **state: Any) -> None:
        self.state |= state
        for listener in self._listeners:
            listener()

    async def run(self) -> None:
        await asyncio.Event().wait()

    async def ready(self) -> None:
        await self.answers.wait()

    async def stop_tasks(self) -> None:
        self.stopped = True

    def capacity(self) -> dict[str, Any]:
        return dict(self.state)

    def on_capacity_change(self, callback: Callable[[], None]) -> None:
        self._listeners.append(callback)

    def cluster_status(self) -> dict[str, Any]:
        return dict(self.facts)

    def metrics(self) -> str:
        return 'kube_node_info{node="n-0"} 1\n'

    async def read_log(
        self,
        namespace: str,
        job: str,
        index: int,
        *,
        offset: int = 0,
        tail_lines: int | None = None,
        follow: bool = False,
    ) -> AsyncIterator[LogChunk]:
        self.reads.append((index, offset, tail_lines))
        output = self.outputs.get((namespace, job, index))
        if output is None:
            raise NotFoundError(404, {"message": "no such task"})
        if tail_lines is not None:
            lines = output.data.splitlines(keepends=True)
            offset = sum(map(len, lines[: max(0, len(lines) - tail_lines)]))
        self.open_reads += 1
        try:
            while True:
                while offset < len(output.data):
                    data = output.data[offset : offset + self.chunk]
                    yield LogChunk(offset, data)
                    offset += len(data)
                    if self.broken > 0:
                        self.broken -= 1
                        raise UnreachableError("the log broke off")
                if output.ended or not follow:
                    break
                await output.news.wait()
            code, reason = (output.exit_code, output.reason) if output.ended else (None, None)
            yield LogChunk(offset, b"", final=True, exit_code=code, reason=reason)
        finally:
            self.open_reads -= 1


async def accept(hub: FakeApi, cluster: str, *, lease_seconds: int = 60, lease: bool = True) -> None:
    """What the hub does once a person said yes."""
    key = ("", "namespaces", "", cluster)
    if key not in hub.objects:
        await hub.create(NAMESPACES, {"metadata": {"name": cluster}})
    if lease and hub.peek(LEASES, names.CLUSTER_LEASE, cluster) is None:
        spec = {"holderIdentity": cluster, "leaseDurationSeconds": lease_seconds, "renewTime": ""}
        await hub.create(LEASES, {"metadata": {"name": names.CLUSTER_LEASE}, "spec": spec}, cluster)

    def change(obj: dict[str, Any]) -> None:
        spec = obj.get("spec") or {}
        obj["spec"] = {**spec, "hubAcceptsClient": True, "leaseDurationSeconds": lease_seconds}
        set_condition(obj, "HubAcceptedManagedCluster", "True", "HubClusterAdminAccepted")

    hub.edit(MANAGED_CLUSTERS, cluster, "", change)


def deny(hub: FakeApi, cluster: str) -> None:
    def change(obj: dict[str, Any]) -> None:
        obj["spec"] = {**obj["spec"], "hubAcceptsClient": False}
        set_condition(obj, "HubAcceptedManagedCluster", "False", "HubClusterAdminDenied")

    hub.edit(MANAGED_CLUSTERS, cluster, "", change)


def set_condition(obj: dict[str, Any], kind: str, status: str, reason: str) -> None:
    conditions = [c for c in (obj.get("status") or {}).get("conditions", []) if c["type"] != kind]
    entry = {"type": kind, "status": status, "reason": reason, "message": "", "lastTransitionTime": "t"}
    obj["status"] = {**(obj.get("status") or {}), "conditions": [*conditions, entry]}


def condition(hub: FakeApi, cluster: str, kind: str) -> str:
    found = hub.peek(MANAGED_CLUSTERS, cluster) or {}
    conditions = (found.get("status") or {}).get("conditions") or []
    return next((c["status"] for c in conditions if c["type"] == kind), "")
