"""What the commands that follow a job have in common: how to find it, when it has ended, and with which exit code.

A job is a FleetJob, or a plain Job that came in through a queue. What differs between the two is here and in
hub/server/jobs.py; the commands do not ask.
"""

from __future__ import annotations

import difflib
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from hub.api import names
from hub.api.errors import ApiError, GoneError, NotFoundError, UsageError
from hub.api.indexset import IndexSet
from hub.api.resource import FLEET_JOBS, JOBS, MANIFEST_WORKS, Resource
from hub.cli.listing import said
from hub.client.interface import KubeApi
from hub.server.jobs import ENDED, is_fleets, job_row

if TYPE_CHECKING:
    from hub.jobs.attempt import Attempt

Json = dict[str, Any]
_MEMBERS: Final = (FLEET_JOBS, JOBS)


def member_of(job: Mapping[str, Any]) -> Resource:
    """Which kind it is; objects that do not say are FleetJobs."""
    return JOBS if job.get("kind") == "Job" else FLEET_JOBS


def phase(job: Mapping[str, Any]) -> str:
    return job_row(job).phase


def message(job: Mapping[str, Any]) -> str:
    """The sentence that goes with its phase; empty when there is nothing to say."""
    return job_row(job).message


def total(job: Mapping[str, Any]) -> int:
    """How many tasks it has."""
    return job_row(job).total


def has_ended(job: Mapping[str, Any]) -> bool:
    return phase(job) in ENDED


def failed_tasks(job: Mapping[str, Any], attempts: Iterable[Attempt] = ()) -> IndexSet:
    """Those that failed in the end; of a plain Job its `attempts` may be all that tells."""
    from hub.server.job_sections import results

    return results(job, attempts)[1]


async def get_job(api: KubeApi, name: str, namespace: str) -> Json:
    """The FleetJob of this name, else the plain Job.

    Raises `UsageError` when there is neither, with near names, and for a Job that no queue leads to the fleet.
    """
    for member in _MEMBERS:
        try:
            job = said(member, await api.get(member, name, namespace))
        except NotFoundError:
            continue
        if not is_fleets(job):
            raise UsageError(
                f"Job {name} is not a job of the fleet: it names no queue",
                hint=f"Create it with `suspend: true` and the label {names.QUEUE_NAME}: QUEUE.",
            )
        return job
    known = [job["metadata"]["name"] for job in await every_job(api, namespace)]
    close = difflib.get_close_matches(name, known, n=3)
    hint = f"Did you mean {' or '.join(close)}?" if close else "`quarterdeck get jobs` lists what is there."
    raise UsageError(f"there is no job {name} in namespace {namespace}", hint=hint)


async def every_job(api: KubeApi, namespace: str) -> list[Json]:
    """All jobs of the fleet in a namespace. A server that does not know one of the kinds has none of it."""
    found: list[Json] = []
    for member in _MEMBERS:
        try:
            listing = await api.list(member, namespace)
        except NotFoundError:
            continue
        found += [job for item in listing.items for job in (said(member, item),) if is_fleets(job)]
    return found


async def attempts_of(api: KubeApi, job: Mapping[str, Any]) -> list[Attempt]:
    """Every slice of it that is known, by epoch: what its object remembers, and what its ManifestWorks say."""
    from hub.server.job_sections import all_attempts

    try:
        selector = f"{names.JOB_UID}={job['metadata']['uid']}"
        works = (await api.list(MANIFEST_WORKS, label_selector=selector)).items
    except ApiError:
        # Who may not read works sees what the job remembers of them.
        works = []
    return all_attempts(job, works)


async def watch_job(api: KubeApi, name: str, namespace: str, member: Resource = FLEET_JOBS) -> AsyncIterator[Json]:
    """The job now and after every change, until it has ended. Raises `NotFoundError` when it is deleted meanwhile."""
    while True:
        listing = await api.list(member, namespace, field_selector=f"metadata.name={name}")
        if not listing.items:
            raise _deleted(name)
        job = said(member, listing.items[0])
        yield job
        if has_ended(job):
            return
        try:
            async for event in api.watch(
                member,
                namespace,
                resource_version=listing.resource_version,
                field_selector=f"metadata.name={name}",
            ):
                if event.type == "DELETED":
                    raise _deleted(name)
                if event.type == "BOOKMARK":
                    continue
                job = said(member, event.object)
                yield job
                if has_ended(job):
                    return
        except GoneError:
            continue


async def until_ended(api: KubeApi, name: str, namespace: str, member: Resource = FLEET_JOBS) -> Json:
    """The job as it was when it had ended."""
    last: Json = {}
    async for job in watch_job(api, name, namespace, member):
        last = job
    return last


def exit_code(job: Mapping[str, Any], attempts: Iterable[Attempt]) -> int:
    """0 succeeded; a failed job's smallest non-zero task code (1 when no task has one); 130 cancelled."""
    ending = phase(job)
    if ending == "Succeeded":
        return 0
    if ending == "Cancelled":
        return 130
    attempts = list(attempts)
    failed = failed_tasks(job, attempts)
    codes = (code for attempt in attempts for code, tasks in attempt.exit_codes if code and tasks & failed)
    return min(codes, default=1)


def _deleted(name: str) -> NotFoundError:
    return NotFoundError(404, {"message": f"job {name} was deleted", "reason": "NotFound"})
