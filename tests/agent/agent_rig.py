"""An executor between a hub and a local API in memory, and the works that tests give it."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

from agent_fakes import FakeApi

from agent.journal import Journal
from agent.link import HubLink
from agent.work.executor import WorkExecutor
from hub.api import names
from hub.api.resource import MANIFEST_WORKS
from hub.client.backoff import Backoff

CLUSTER = "edge-1"


def job_manifest(name: str = "sum", namespace: str = "team-a", completions: int = 1, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": namespace, "labels": {names.JOB_UID: "0f"}},
        "spec": {
            "completions": completions,
            "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "main", "command": ["true"]}]}},
            **spec,
        },
    }


def job_config(name: str = "sum", namespace: str = "team-a", **more: Any) -> dict[str, Any]:
    paths = ("active", "succeeded", "failed", "completedIndexes", "exitCodes")
    return {
        "resourceIdentifier": {"group": "batch", "resource": "jobs", "name": name, "namespace": namespace},
        "feedbackScrapeType": "Watch",
        "feedbackRules": [{"type": "JSONPaths", "jsonPaths": [{"name": p, "path": f".status.{p}"} for p in paths]}],
        "conditionRules": [{"type": "WellKnownConditions", "condition": "Complete"}],
        **more,
    }


def manifest_work(name: str = "w1", *manifests: Any, configs: Any = None, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "work.open-cluster-management.io/v1",
        "kind": "ManifestWork",
        "metadata": {
            "name": name,
            "namespace": CLUSTER,
            "labels": {names.JOB_NAME: "sum", names.JOB_NAMESPACE: "team-a", names.EPOCH: "1", names.JOB_UID: "0f"},
            "annotations": {names.TASKS: "0-9", names.ATTEMPT: "1"},
            "finalizers": [names.WORK_FINALIZER],
        },
        "spec": {
            "workload": {"manifests": list(manifests) or [job_manifest()]},
            "manifestConfigs": [job_config()] if configs is None else configs,
            **spec,
        },
    }


RUNNING = {"active": 1, "ready": 1}
DONE = {"succeeded": 1, "completedIndexes": "0", "conditions": [{"type": "Complete", "status": "True"}]}
FAILED = {"failed": 1, "exitCodes": "3=0", "conditions": [{"type": "Failed", "status": "True", "reason": "X"}]}


class Rig:
    """One executor between a hub and a local API, which can be stopped (or killed) and started again."""

    def __init__(self, data: Path, **options: Any) -> None:
        self.hub, self.local = FakeApi(), FakeApi()
        self.data = data
        self.options = options
        self.seen: list[tuple[str, Any]] = []
        self.executor: WorkExecutor
        self._task: asyncio.Task[None] | None = None
        self._journal: Journal | None = None

    async def start(self) -> None:
        self._journal = Journal.open(self.data / "journal.db")
        self.executor = WorkExecutor(
            self.hub,
            self.local,
            cluster=CLUSTER,
            hub_hash="h",
            agent_id="agent-1",
            journal=self._journal,
            link=HubLink(Backoff(0.01, 0.05)),
            on_object=lambda work, resource, obj: self.seen.append((work["metadata"]["name"], obj)),
            **self.options,
        )
        self._task = asyncio.create_task(self.executor.run())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        if self._journal is not None:
            self._journal.close()
        self._task = self._journal = None

    async def deliver(self, work: dict[str, Any]) -> dict[str, Any]:
        return await self.hub.create(MANIFEST_WORKS, work, CLUSTER)

    def work(self, name: str = "w1") -> dict[str, Any] | None:
        return self.hub.peek(MANIFEST_WORKS, name, CLUSTER)

    def condition(self, kind: str, name: str = "w1") -> dict[str, Any]:
        conditions = ((self.work(name) or {}).get("status") or {}).get("conditions") or []
        return next((c for c in conditions if c["type"] == kind), {})

    def manifest(self, ordinal: int = 0, name: str = "w1") -> dict[str, Any]:
        manifests = (((self.work(name) or {}).get("status") or {}).get("resourceStatus") or {}).get("manifests") or []
        return next((m for m in manifests if m["resourceMeta"]["ordinal"] == ordinal), {})

    def manifest_condition(self, kind: str, ordinal: int = 0, name: str = "w1") -> dict[str, Any]:
        return next((c for c in self.manifest(ordinal, name).get("conditions", ()) if c["type"] == kind), {})

    def values(self, ordinal: int = 0, name: str = "w1") -> dict[str, Any]:
        entries = (self.manifest(ordinal, name).get("statusFeedback") or {}).get("values") or []
        return {e["name"]: next(v for k, v in e["fieldValue"].items() if k != "type") for e in entries}

    def status_writes(self) -> int:
        return len(self.hub.writes("ManifestWork", "status"))
