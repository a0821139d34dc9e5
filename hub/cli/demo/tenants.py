"""Two tenants of one cohort in the demo: one borrows what the other leaves idle, the owner takes it back.

They share a site that the demo's array has no use for. Everything is decided by the hub; here are only the objects, and
what is told of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from hub.api import names
from hub.api.resource import CLUSTER_QUEUES, FLEET_JOBS, LOCAL_QUEUES
from hub.cli.jobs import watch_job
from hub.client.session import Session

Json = dict[str, Any]
SITE_LABELS: Final = {"region": "west"}
COHORT: Final = "campus"
OWNED: Final = {"teaching": 4, "research": 8}
"""CPU by tenant: together all that the site has."""
NOTICE: Final = "300ms"
_PATIENCE: Final = 60.0


@dataclass(frozen=True, slots=True)
class Story:
    """How both jobs ended: their objects."""

    borrower: Json
    owner: Json

    @property
    def as_it_should(self) -> bool:
        """Both ended well, and the owner did not have to wait for the borrower."""
        status = self.borrower.get("status") or {}
        ended = all((job.get("status") or {}).get("phase") == "Succeeded" for job in (self.borrower, self.owner))
        return ended and int(status.get("preemptions") or 0) >= 1

    def lines(self) -> list[str]:
        """For the summary: what was borrowed, who took it back and why, and that nothing was lost."""
        made_way = [a for a in self.borrower["status"].get("attempts") or () if a.get("state") == "Evicted"]
        lines = [
            f"teaching owns {OWNED['teaching']} CPU and ran 12 tasks: it borrowed {OWNED['research']} from research"
        ]
        lines += [f"preempted on {a['cluster']}: {a.get('message')}" for a in made_way]
        for name, job in (("research", self.owner), ("teaching", self.borrower)):
            tasks = job["status"]["tasks"]
            again = " (those that were stopped ran again)" if name == "teaching" else ""
            lines.append(f"{name}: {tasks['succeeded']} of {tasks['total']} tasks succeeded{again}")
        return lines


def queues() -> list[Json]:
    """Each tenant's ClusterQueue and LocalQueue."""
    found: list[Json] = []
    for name, cpu in OWNED.items():
        resources = [{"name": "cpu", "nominalQuota": cpu}, {"name": "memory", "nominalQuota": "16Gi"}]
        group = {"coveredResources": ["cpu", "memory"], "flavors": [{"name": "default", "resources": resources}]}
        spec = {
            "cohortName": COHORT,
            "namespaceSelector": {},
            "resourceGroups": [group],
            "preemption": {"reclaimWithinCohort": "Any"},
        }
        found.append(_object(CLUSTER_QUEUES, name, spec))
        found.append(_object(LOCAL_QUEUES, name, {"clusterQueue": name}, namespace="default"))
    return found


def job(tenant: str, tasks: int, seconds: float) -> Json:
    """Tasks of one CPU that take their time, on the shared site."""
    container = {
        "name": "main",
        "image": "host",
        "command": ["/bin/sh", "-c", f"exec sleep {seconds:g}"],
        "resources": {"requests": {"cpu": "1", "memory": "64Mi"}},
    }
    predicate = {"requiredClusterSelector": {"labelSelector": {"matchLabels": SITE_LABELS}}}
    spec = {
        "queueName": tenant,
        "tasks": tasks,
        "placement": {"predicates": [predicate]},
        "template": {"spec": {"restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "containers": [container]}},
    }
    return _object(FLEET_JOBS, f"{tenant}-demo", spec)


async def play(api: Session, say: Callable[[str], None]) -> Story:
    """Returns when both jobs have ended. Raises `TimeoutError` when they do not."""
    async with asyncio.timeout(_PATIENCE):
        for obj in queues():
            resource = CLUSTER_QUEUES if obj["kind"] == "ClusterQueue" else LOCAL_QUEUES
            await api.create(resource, obj, None if resource is CLUSTER_QUEUES else "default")
        await api.create(FLEET_JOBS, job("teaching", 12, 1.5), "default")
        running = asyncio.Event()
        borrower = asyncio.create_task(_follow(api, "teaching", say, running))
        try:
            await running.wait()
            await api.create(FLEET_JOBS, job("research", 8, 0.2), "default")
            owner = await _follow(api, "research", say, asyncio.Event())
            return Story(await borrower, owner)
        finally:
            borrower.cancel()


async def _follow(api: Session, tenant: str, say: Callable[[str], None], running: asyncio.Event) -> Json:
    last: Json = {}
    told: set[str] = set()

    def once(line: str) -> None:
        if line not in told:
            told.add(line)
            say(line)

    async for last in watch_job(api, f"{tenant}-demo", "default"):
        status = last.get("status") or {}
        if status.get("phase") == "Running":
            running.set()
            if tenant == "teaching":
                once(f"teaching borrows {OWNED['research']} CPU of cohort {COHORT}, which research leaves idle")
        if status.get("reason") == "WaitingForPreemptedWorkloads":
            once(f"research {status['message']}")
        for attempt in status.get("attempts") or ():
            if attempt.get("state") == "Evicted":
                once(f"{tenant}: {attempt['cluster']} stopped tasks {attempt['tasks']}: {attempt.get('message')}")
        if status.get("phase") == "Succeeded":
            once(f"{tenant}: all {status['tasks']['total']} tasks succeeded")
    running.set()
    return last


def _object(resource: Any, name: str, spec: Mapping[str, Any], namespace: str = "") -> Json:
    metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
    version = names.API_VERSION if resource is FLEET_JOBS else resource.api_version
    return {"apiVersion": version, "kind": resource.kind, "metadata": metadata, "spec": dict(spec)}
