"""What the commands that follow a job have in common: how to find it, when it has ended, and with which exit code."""

from __future__ import annotations

import difflib
from collections.abc import AsyncIterator, Mapping
from typing import Any

from hub.api.errors import GoneError, NotFoundError, UsageError
from hub.api.indexset import IndexSet
from hub.api.resource import FLEET_JOBS
from hub.client.session import Session

ENDED = frozenset({"Succeeded", "Failed", "Cancelled"})


def phase(job: Mapping[str, Any]) -> str:
    return str(job.get("status", {}).get("phase") or "Pending")


def has_ended(job: Mapping[str, Any]) -> bool:
    return phase(job) in ENDED


async def get_job(api: Session, name: str, namespace: str) -> dict[str, Any]:
    """The FleetJob. Raises `UsageError` that lists near names when there is none."""
    try:
        return await api.get(FLEET_JOBS, name, namespace)
    except NotFoundError:
        known = [item["metadata"]["name"] for item in (await api.list(FLEET_JOBS, namespace)).items]
        close = difflib.get_close_matches(name, known, n=3)
        hint = f"Did you mean {' or '.join(close)}?" if close else "`quarterdeck get jobs` lists what is there."
        raise UsageError(f"there is no job {name} in namespace {namespace}", hint=hint) from None


async def watch_job(api: Session, name: str, namespace: str) -> AsyncIterator[dict[str, Any]]:
    """The job now and after every change, until it has ended. Raises `NotFoundError` when it is deleted meanwhile."""
    while True:
        listing = await api.list(FLEET_JOBS, namespace, field_selector=f"metadata.name={name}")
        if not listing.items:
            raise NotFoundError(404, {"message": f"job {name} was deleted", "reason": "NotFound"})
        job = listing.items[0]
        yield job
        if has_ended(job):
            return
        try:
            async for event in api.watch(
                FLEET_JOBS,
                namespace,
                resource_version=listing.resource_version,
                field_selector=f"metadata.name={name}",
            ):
                if event.type == "DELETED":
                    raise NotFoundError(404, {"message": f"job {name} was deleted", "reason": "NotFound"})
                if event.type == "BOOKMARK":
                    continue
                yield event.object
                if has_ended(event.object):
                    return
        except GoneError:
            continue


async def until_ended(api: Session, name: str, namespace: str) -> dict[str, Any]:
    """The job as it was when it had ended."""
    last: dict[str, Any] = {}
    async for job in watch_job(api, name, namespace):
        last = job
    return last


def exit_code(job: Mapping[str, Any]) -> int:
    """0 succeeded; a failed job's smallest non-zero task code (1 when no task has one); 130 cancelled."""
    if phase(job) == "Succeeded":
        return 0
    if phase(job) == "Cancelled":
        return 130
    failed = IndexSet.parse(str(job.get("status", {}).get("tasks", {}).get("failedIndexes") or ""))
    codes = []
    for attempt in job.get("status", {}).get("attempts") or ():
        for entry in filter(None, str(attempt.get("exitCodes") or "").split(";")):
            code, _, indexes = entry.partition("=")
            if IndexSet.parse(indexes) & failed:
                codes.append(int(code))
    return min((code for code in codes if code), default=1)
