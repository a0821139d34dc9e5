"""A stranger's admission check controller: it knows the API and Kueue's objects, and nothing of the hub."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hub.api.conditions import condition_is
from hub.api.errors import ConflictError, NotFoundError
from hub.api.resource import ADMISSION_CHECKS, WORKLOADS
from hub.api.timestamps import format_time, from_timestamp
from hub.client.interface import KubeApi

Json = dict[str, Any]
_API = "kueue.x-k8s.io/v1beta2"


def _now() -> str:
    return format_time(from_timestamp(time.time()))


@dataclass
class Provisioner:
    """Answers the check `name` of every Workload that has quota and whose check is Pending, by `answer(workload)`.

    `answer` gives what its entry in `status.admissionChecks` is to say (at least `state`), or None: not yet.
    """

    api: KubeApi
    name: str = "provision"
    answer: Callable[[Json], Json | None] = lambda workload: {"state": "Ready"}
    asked: list[str] = field(default_factory=list)
    _task: asyncio.Task[None] | None = None

    async def make(self, *, active: bool = True) -> None:
        spec = {"controllerName": "example.com/capacity"}
        meta = {"name": self.name}
        check = {"apiVersion": _API, "kind": "AdmissionCheck", "metadata": meta, "spec": spec}
        await self.api.create(ADMISSION_CHECKS, check)
        if active:
            await self.say_active()

    async def say_active(self, status: str = "True") -> None:
        condition = {"type": "Active", "status": status, "reason": "Said", "message": "", "lastTransitionTime": _now()}
        await self.api.patch(ADMISSION_CHECKS, self.name, {"status": {"conditions": [condition]}}, subresource="status")

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            for workload in (await self.api.list(WORKLOADS)).items:
                with contextlib.suppress(ConflictError, NotFoundError):
                    await self._look(workload)
            await asyncio.sleep(0.02)

    async def _look(self, workload: Json) -> None:
        status = workload.get("status") or {}
        conditions = status.get("conditions") or ()
        if not condition_is(conditions, "QuotaReserved") or condition_is(conditions, "Evicted"):
            return
        entry = next((c for c in status.get("admissionChecks") or () if c["name"] == self.name), None)
        if entry is None or entry["state"] != "Pending":
            return
        found = self.answer(workload)
        if found is None:
            return
        self.asked.append(workload["metadata"]["name"])
        await self.write(workload, found)

    async def write(self, workload: Json, found: Json) -> None:
        meta = workload["metadata"]
        said = {"message": "", "lastTransitionTime": _now(), **found}
        entries = [
            {**entry, **said} if entry["name"] == self.name else entry
            for entry in workload["status"]["admissionChecks"]
        ]
        patch = {"metadata": {"resourceVersion": meta["resourceVersion"]}, "status": {"admissionChecks": entries}}
        await self.api.patch(WORKLOADS, meta["name"], patch, meta["namespace"], subresource="status")
