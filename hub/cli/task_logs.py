"""How a log reaches a terminal from a site that only dials out.

A TaskLogRequest is put beside the site's works; its agent answers with TaskLog objects, in order; we print them and
take the request away. A site that is offline is said so, with what it had already sent of its failed tasks.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from hub.api import names
from hub.api.conditions import condition_is
from hub.api.errors import ApiError, GoneError, NotFoundError
from hub.api.indexset import IndexSet
from hub.api.resource import MANAGED_CLUSTERS, TASK_LOG_REQUESTS, TASK_LOGS
from hub.cli.jobs import watch_job
from hub.client.session import Session

_OFFLINE_AFTER = 10.0


@dataclass(frozen=True, slots=True)
class LogLine:
    task: int
    cluster: str
    text: str


@dataclass(frozen=True, slots=True)
class Source:
    """Some tasks of one attempt, all on one cluster."""

    cluster: str
    work: str
    epoch: int
    tasks: IndexSet


Notice = Callable[[str], None]


def sources(job: Mapping[str, Any], wanted: IndexSet | None) -> list[Source]:
    """Where each wanted task's newest attempt ran, by epoch. Attempts that never started have nothing to print."""
    remaining = wanted or IndexSet.span(int(job["spec"].get("tasks", 1)))
    found = []
    uid, name = job["metadata"]["uid"], job["metadata"]["name"]
    attempts = sorted(job.get("status", {}).get("attempts") or (), key=lambda a: -int(a["epoch"]))
    for attempt in attempts:
        mine = IndexSet.parse(str(attempt.get("tasks", ""))) & remaining
        if not mine or attempt.get("state") == "Pending":
            continue
        remaining = remaining - mine
        epoch = int(attempt["epoch"])
        found.append(Source(str(attempt["cluster"]), names.work_name(name, uid, epoch), epoch, mine))
    return sorted(found, key=lambda source: source.epoch)


async def read_logs(
    api: Session, job: Mapping[str, Any], source: Source, notice: Notice, *, tail: int | None, follow: bool
) -> AsyncIterator[LogLine]:
    """Lines of one source, in the order the site sends them; complete lines only, except a task's last."""
    if not await _is_available(api, source.cluster):
        notice(f"{source.cluster} is offline; here is what it had sent of its failed tasks:")
        async for line in _shipped(api, job, source):
            yield line
        return
    request = f"log-{secrets.token_hex(5)}"
    spec: dict[str, Any] = {"work": source.work, "jobUID": job["metadata"]["uid"], "tasks": str(source.tasks)}
    spec |= {"follow": follow} | ({"tailLines": tail} if tail is not None else {})
    await api.create(
        TASK_LOG_REQUESTS,
        {
            "apiVersion": names.API_VERSION,
            "kind": "TaskLogRequest",
            "metadata": {"name": request, "namespace": source.cluster, "labels": {names.JOB_UID: spec["jobUID"]}},
            "spec": spec,
        },
        source.cluster,
    )
    try:
        pending: dict[int, str] = {}
        async for entry in _answers(api, request, source.cluster, notice, patient=follow):
            task = int(entry.get("task", 0))
            *lines, rest = (pending.pop(task, "") + str(entry.get("text", ""))).split("\n")
            for text in lines:
                yield LogLine(task, source.cluster, text)
            if rest and entry.get("final"):
                yield LogLine(task, source.cluster, rest)
            elif rest:
                pending[task] = rest
        for task, rest in sorted(pending.items()):
            yield LogLine(task, source.cluster, rest)
    finally:
        with contextlib.suppress(ApiError):
            await api.delete(TASK_LOG_REQUESTS, request, source.cluster, propagation_policy="Background")


async def follow_job(
    api: Session,
    job: dict[str, Any],
    wanted: IndexSet | None,
    notice: Notice,
    on_change: Callable[[dict[str, Any]], None],
) -> AsyncIterator[LogLine]:
    """Lines of every attempt as it comes, until the job has ended and every log is read."""
    queue: asyncio.Queue[LogLine | None] = asyncio.Queue(maxsize=1000)
    namespace, name = job["metadata"]["namespace"], job["metadata"]["name"]

    async def read(current: dict[str, Any], source: Source) -> None:
        async for line in read_logs(api, current, source, notice, tail=None, follow=True):
            await queue.put(line)

    async def watch() -> None:
        async with asyncio.TaskGroup() as readers:
            seen: set[tuple[str, int]] = set()
            async for current in watch_job(api, name, namespace):
                on_change(current)
                for source in sources(current, wanted):
                    if (source.work, source.epoch) not in seen:
                        seen.add((source.work, source.epoch))
                        readers.create_task(read(current, source))
        await queue.put(None)

    watcher = asyncio.create_task(watch())
    try:
        while True:
            getter = asyncio.create_task(queue.get())
            await asyncio.wait({getter, watcher}, return_when=asyncio.FIRST_COMPLETED)
            if not getter.done() and watcher.done() and watcher.exception() is not None:
                getter.cancel()
                break
            line = await getter
            if line is None:
                break
            yield line
    finally:
        watcher.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watcher


async def _answers(
    api: Session, request: str, cluster: str, notice: Notice, *, patient: bool
) -> AsyncIterator[dict[str, Any]]:
    """The entries of every TaskLog that answers `request`, once each, until the one that says it is the last."""
    selector, seen = f"{names.LOG_REQUEST}={request}", set[str]()
    clock = asyncio.get_running_loop().time
    deadline = clock() + _OFFLINE_AFTER
    while True:
        listing = await api.list(TASK_LOGS, cluster, label_selector=selector)
        version = listing.resource_version
        arrived = sorted(listing.items, key=lambda item: str(item["metadata"]["name"]))
        while True:
            for item in arrived:
                if item["metadata"]["name"] in seen:
                    continue
                seen.add(item["metadata"]["name"])
                deadline = clock() + _OFFLINE_AFTER
                for entry in item.get("entries") or ():
                    yield entry
                if item.get("final"):
                    await _say_ending(api, request, cluster, notice, patient=not item.get("entries"))
                    return
            arrived = []
            try:
                stream = api.watch(
                    TASK_LOGS, cluster, resource_version=version, label_selector=selector, timeout_seconds=5
                )
                async for event in stream:
                    version = event.object["metadata"].get("resourceVersion", version)
                    if event.type == "ADDED":
                        arrived = [event.object]
                        break
            except GoneError:
                break
            if not arrived and not patient and clock() > deadline:
                notice(f"{cluster} does not answer; asked for the log {_OFFLINE_AFTER:.0f} s ago")
                return
            if not arrived and not await _request_lives(api, request, cluster):
                return


async def _shipped(api: Session, job: Mapping[str, Any], source: Source) -> AsyncIterator[LogLine]:
    selector = f"{names.JOB_UID}={job['metadata']['uid']}"
    listing = await api.list(TASK_LOGS, source.cluster, label_selector=selector)
    for item in sorted(listing.items, key=lambda item: str(item["metadata"]["name"])):
        if names.LOG_REQUEST in item["metadata"].get("labels", {}):
            continue
        for entry in item.get("entries") or ():
            if int(entry.get("task", -1)) in source.tasks:
                for text in str(entry.get("text", "")).splitlines():
                    yield LogLine(int(entry["task"]), source.cluster, text)


async def _say_ending(api: Session, request: str, cluster: str, notice: Notice, *, patient: bool) -> None:
    """What the site says of its answer, where it says anything: it does so right after the last entry."""
    with contextlib.suppress(NotFoundError):
        for _ in range(20 if patient else 1):
            status = (await api.get(TASK_LOG_REQUESTS, request, cluster)).get("status") or {}
            if status.get("state") in ("Done", "Failed"):
                if status.get("message"):
                    notice(f"{cluster}: {status['message']}")
                return
            await asyncio.sleep(0.05)


async def _request_lives(api: Session, request: str, cluster: str) -> bool:
    try:
        await api.get(TASK_LOG_REQUESTS, request, cluster)
    except NotFoundError:
        return False
    return True


async def _is_available(api: Session, cluster: str) -> bool:
    try:
        found = await api.get(MANAGED_CLUSTERS, cluster)
    except NotFoundError:
        return False
    return condition_is(found.get("status", {}).get("conditions"), "ManagedClusterConditionAvailable")
