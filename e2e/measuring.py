"""What happens to jobs, seen from outside: when each was submitted, ran and was over, on the members and at the hub.

Informers of our own on every API server, and the servers' own counters. Nothing here is Quarterdeck's but the label by
which a member's Job and pod name the job that asked for them. Times are monotonic seconds.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

from e2e.cluster import Cluster
from e2e.planes import Planes
from hub.api import names
from hub.api.conditions import condition_is
from hub.api.resource import FLEET_JOBS, JOBS, MANIFEST_WORKS, PODS, Resource
from hub.client.informer import Informer
from hub.client.session import Session

Json = dict[str, Any]
_WRITES: Final = frozenset({"POST", "PUT", "PATCH", "DELETE", "APPLY"})
# They keep going whatever jobs there are, and each peer's figures leave them out.
_APART: Final = frozenset({"leases", "events"})
_SAMPLE = re.compile(r"^apiserver_request_total\{(.*)\} (\S+)$")
_LABEL = re.compile(r'(\w+)="([^"]*)"')


@dataclass(slots=True)
class Story:
    """One job. `known`: the hub's own object says that it is over."""

    submitted: float = 0.0
    decided: float = 0.0
    running: float = 0.0
    complete: float = 0.0
    known: float = 0.0


class Stories:
    """By job uid, while its `async with` lasts."""

    def __init__(self, planes: Planes) -> None:
        self.of: dict[str, Story] = {}
        self._planes = planes
        self._stack = AsyncExitStack()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        hub = await self._stack.enter_async_context(self._planes.hub.session())
        await self._watch(hub, FLEET_JOBS, self._hub_job)
        await self._watch(hub, JOBS, self._hub_job)
        await self._watch(hub, MANIFEST_WORKS, self._work)
        for member in self._planes.members.values():
            api = await self._stack.enter_async_context(member.session())
            await self._watch(api, PODS, self._pod)
            await self._watch(api, JOBS, self._member_job)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._stack.aclose()

    def story(self, uid: str) -> Story:
        return self.of.setdefault(uid, Story())

    async def over(self, uid: str, seconds: float) -> Story:
        """The story of a job once the hub knows its end. Raises TimeoutError."""
        async with asyncio.timeout(seconds):
            while not self.story(uid).known:
                await asyncio.sleep(0.005)
        return self.story(uid)

    async def _watch(self, api: Session, resource: Resource, seen: Any) -> None:
        def on_event(_change: str, _key: str, _old: Json | None, new: Json | None) -> None:
            if new is not None:
                seen(new)

        informer: Informer[Json] = Informer(api, resource, on_event=on_event)
        self._tasks.append(asyncio.create_task(informer.run()))
        await informer.synced.wait()

    def _hub_job(self, job: Json) -> None:
        status = job.get("status") or {}
        over = status.get("phase") in ("Succeeded", "Failed", "Cancelled")
        if (
            over
            or condition_is(status.get("conditions"), "Complete")
            or condition_is(status.get("conditions"), "Failed")
        ):
            self._first(job["metadata"]["uid"], "known")

    def _work(self, work: Json) -> None:
        self._first(_job_of(work), "decided")

    def _pod(self, pod: Json) -> None:
        if (pod.get("status") or {}).get("phase") == "Running":
            self._first(_job_of(pod), "running")

    def _member_job(self, job: Json) -> None:
        if condition_is((job.get("status") or {}).get("conditions"), "Complete"):
            self._first(_job_of(job), "complete")

    def _first(self, uid: str, what: str) -> None:
        if uid and not getattr(story := self.story(uid), what):
            setattr(story, what, asyncio.get_running_loop().time())


def _job_of(obj: Json) -> str:
    return str((obj["metadata"].get("labels") or {}).get(names.JOB_UID) or "")


async def writes(cluster: Cluster) -> Counter[str]:
    """Successful writes that its API server has counted so far, by verb and resource; Leases and Events apart."""
    async with cluster.session() as api:
        text = str(await api.request("GET", "/metrics"))
    total: Counter[str] = Counter()
    for line in text.splitlines():
        if (sample := _SAMPLE.match(line)) is None:
            continue
        labels = dict(_LABEL.findall(sample[1]))
        if _is_write(labels):
            what = labels.get("resource", "") + (f"/{labels['subresource']}" if labels.get("subresource") else "")
            total[f"{labels['verb']} {what}"] += int(float(sample[2]))
    return total


def _is_write(labels: Mapping[str, str]) -> bool:
    return (
        labels.get("verb") in _WRITES
        and labels.get("resource") not in _APART
        and labels.get("code", "").startswith("2")
        and not labels.get("dry_run")
    )
