"""How a log reaches a terminal from a site that only dials out.

A TaskLogRequest is put beside the site's works; its agent answers with TaskLog objects, in order; we print them and
take the request away. A site that is offline is said so, with what it had already sent of its failed tasks.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import secrets
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from hub.api import names
from hub.api.conditions import condition_is
from hub.api.errors import ApiError, GoneError, NotFoundError, UnreachableError
from hub.api.indexset import IndexSet
from hub.api.resource import MANAGED_CLUSTERS, TASK_LOG_REQUESTS, TASK_LOGS
from hub.cli.jobs import attempts_of, member_of, total, watch_job
from hub.client.interface import KubeApi

if TYPE_CHECKING:
    from hub.jobs.attempt import Attempt

_LOOK_EVERY: Final = 2
_OFFLINE_AFTER: Final = 10.0
# Sources that are read at once; a site answers so many requests side by side.
_AHEAD: Final = 8


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


class _SilentError(Exception):
    """Nobody answers a request."""


def sources(job: Mapping[str, Any], attempts: Iterable[Attempt], wanted: IndexSet | None) -> list[Source]:
    """Where each wanted task's newest attempt ran, by epoch. Attempts that never started have nothing to print.

    `attempts`: every one that is known of the job (`hub.cli.jobs.attempts_of`); None as `wanted` means all tasks.
    """
    remaining = IndexSet.span(total(job)) if wanted is None else wanted
    found = []
    for attempt in sorted(attempts, key=lambda attempt: -attempt.epoch):
        mine = attempt.tasks & remaining
        if not mine or attempt.state == "Pending":
            continue
        remaining = remaining - mine
        found.append(Source(attempt.cluster, attempt.work, attempt.epoch, mine))
    return sorted(found, key=lambda source: source.epoch)


async def read_logs(
    api: KubeApi,
    job: Mapping[str, Any],
    source: Source,
    notice: Notice,
    *,
    tail: int | None,
    follow: bool,
    ended: asyncio.Event | None = None,
) -> AsyncGenerator[LogLine, None]:
    """Lines of one source, in the order the site sends them; complete lines only, except a task's last.

    A site that is offline is waited for only while the job goes on (`follow`, and `ended` is not set); otherwise what
    it had sent of its failed tasks is printed. Close it (`contextlib.aclosing`) when you stop early: the site goes on
    answering until then.
    """
    heard: set[int] = set()
    if not await _is_available(api, source.cluster):
        if not follow or (ended is not None and ended.is_set()):
            async for line in _what_is_here(api, job, source, heard, f"{source.cluster} is offline", notice):
                yield line
            return
        notice(f"{source.cluster} is offline: what its tasks write comes when it is back")
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
    pending: dict[int, str] = {}
    try:
        async with contextlib.aclosing(_answers(api, request, source.cluster, notice, follow, ended)) as answers:
            async for entry in answers:
                task = int(entry.get("task", 0))
                heard.add(task)
                *lines, rest = (pending.pop(task, "") + str(entry.get("text", ""))).split("\n")
                for text in lines:
                    yield LogLine(task, source.cluster, text)
                if rest and entry.get("final"):
                    yield LogLine(task, source.cluster, rest)
                elif rest:
                    pending[task] = rest
        for task, rest in sorted(pending.items()):
            yield LogLine(task, source.cluster, rest)
        if not heard and not follow:
            # The site may have lost what it had sent before; of tasks that wrote nothing there is nothing here either.
            async for line in _sent_before(api, job, source, source.tasks):
                yield line
    except _SilentError:
        for task, rest in sorted(pending.items()):
            yield LogLine(task, source.cluster, rest)
        why = f"{source.cluster} does not answer, asked {_OFFLINE_AFTER:.0f} s ago"
        async for line in _what_is_here(api, job, source, heard, why, notice):
            yield line
    finally:
        with contextlib.suppress(ApiError, UnreachableError):
            await api.delete(TASK_LOG_REQUESTS, request, source.cluster, propagation_policy="Background")


async def read_all(
    api: KubeApi, job: Mapping[str, Any], found: Sequence[Source], notice: Notice, *, tail: int | None
) -> AsyncGenerator[LogLine, None]:
    """Lines of several sources, one source after the other; the next ones are asked for while one is printed."""
    waiting: deque[tuple[asyncio.Task[None], asyncio.Queue[LogLine | None]]] = deque()

    async def read(source: Source, lines: asyncio.Queue[LogLine | None]) -> None:
        try:
            reading = read_logs(api, job, source, notice, tail=tail, follow=False)
            async with contextlib.aclosing(reading):
                async for line in reading:
                    await lines.put(line)
        finally:
            # Never blocks a reader that is cancelled: nobody takes from its queue any more.
            with contextlib.suppress(asyncio.QueueFull):
                lines.put_nowait(None)

    remaining = iter(found)
    try:
        while True:
            for source in itertools.islice(remaining, _AHEAD - len(waiting)):
                lines: asyncio.Queue[LogLine | None] = asyncio.Queue(1000)
                waiting.append((asyncio.create_task(read(source, lines)), lines))
            if not waiting:
                return
            task, lines = waiting[0]
            while True:
                getter = asyncio.create_task(lines.get())
                await asyncio.wait({getter, task}, return_when=asyncio.FIRST_COMPLETED)
                if not getter.done() and lines.empty():
                    getter.cancel()
                    break
                line = await getter
                if line is None:
                    break
                yield line
            waiting.popleft()
            await task
    finally:
        for task, _ in waiting:
            task.cancel()
        await asyncio.gather(*(task for task, _ in waiting), return_exceptions=True)


async def follow_job(
    api: KubeApi,
    job: Mapping[str, Any],
    wanted: IndexSet | None,
    notice: Notice,
    on_change: Callable[[dict[str, Any]], None],
    *,
    tail: int | None = None,
) -> AsyncGenerator[LogLine, None]:
    """Lines of every attempt as it comes, until the job has ended and every log is read. Close it to stop early.

    `tail`: of what each task has written by now, only so many lines. Raises `NotFoundError` when the job is deleted.
    """
    queue: asyncio.Queue[LogLine | None] = asyncio.Queue(maxsize=1000)
    namespace, name = job["metadata"]["namespace"], job["metadata"]["name"]
    ended = asyncio.Event()

    async def read(current: dict[str, Any], source: Source) -> None:
        lines = read_logs(api, current, source, notice, tail=tail, follow=True, ended=ended)
        async with contextlib.aclosing(lines):
            async for line in lines:
                await queue.put(line)

    async def watch() -> None:
        try:
            await watch_and_read()
        except BaseExceptionGroup as group:
            # One cause is enough for a person; the others follow from it.
            raise _first(group) from None
        await queue.put(None)

    async def watch_and_read() -> None:
        async with asyncio.TaskGroup() as readers:
            seen: set[tuple[str, int]] = set()
            async for current in watch_job(api, name, namespace, member_of(job)):
                on_change(current)
                for source in sources(current, await attempts_of(api, current), wanted):
                    if (source.work, source.epoch) not in seen:
                        seen.add((source.work, source.epoch))
                        readers.create_task(read(current, source))
            ended.set()

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
    api: KubeApi, request: str, cluster: str, notice: Notice, follow: bool, ended: asyncio.Event | None
) -> AsyncGenerator[dict[str, Any], None]:
    """The entries of every TaskLog that answers `request`, once each, until the one that says it is the last.

    Raises `_SilentError` when nobody answers; who follows a job that goes on is patient.
    """
    selector, seen = f"{names.LOG_REQUEST}={request}", set[str]()
    clock = asyncio.get_running_loop().time
    deadline: float | None = None
    while True:
        listing = await api.list(TASK_LOGS, cluster, label_selector=selector)
        version = listing.resource_version
        arrived = sorted(listing.items, key=lambda item: str(item["metadata"]["name"]))
        while True:
            for item in arrived:
                if item["metadata"]["name"] in seen:
                    continue
                seen.add(item["metadata"]["name"])
                deadline = None
                for entry in item.get("entries") or ():
                    yield entry
                if item.get("final"):
                    await _say_ending(api, request, cluster, notice, patient=not item.get("entries"))
                    return
            arrived = []
            try:
                # Short: between two of them we look at the clock, and whether the request still lives.
                stream = api.watch(
                    TASK_LOGS, cluster, resource_version=version, label_selector=selector, timeout_seconds=_LOOK_EVERY
                )
                async for event in stream:
                    version = event.object["metadata"].get("resourceVersion", version)
                    if event.type == "ADDED":
                        arrived = [event.object]
                        break
            except GoneError:
                break
            if arrived:
                continue
            if not await _request_lives(api, request, cluster):
                return
            if follow and (ended is None or not ended.is_set()):
                continue
            if deadline is None:
                deadline = clock() + _OFFLINE_AFTER - _LOOK_EVERY
            elif clock() > deadline:
                raise _SilentError


async def _what_is_here(
    api: KubeApi, job: Mapping[str, Any], source: Source, heard: Set[int], why: str, notice: Notice
) -> AsyncGenerator[LogLine, None]:
    """What the site had sent unasked of the tasks we have not heard of: the last lines of those that failed."""
    silent = source.tasks - IndexSet.of(heard)
    lines = [line async for line in _sent_before(api, job, source, silent)]
    sent = IndexSet.of(line.task for line in lines)
    parts = [f"here is the end of what tasks {sent} wrote, which failed"] if sent else []
    if missing := silent - sent:
        parts.append(f"of tasks {missing} it had sent nothing")
    notice(f"{why}; {'; '.join(parts)}" if parts else why)
    for line in lines:
        yield line


async def _sent_before(
    api: KubeApi, job: Mapping[str, Any], source: Source, tasks: IndexSet
) -> AsyncGenerator[LogLine, None]:
    selector = f"{names.JOB_UID}={job['metadata']['uid']},{names.EPOCH}={source.epoch},!{names.LOG_REQUEST}"
    for item in (await api.list(TASK_LOGS, source.cluster, label_selector=selector)).items:
        for entry in item.get("entries") or ():
            if entry.get("task") in tasks:
                for text in str(entry.get("text", "")).splitlines():
                    yield LogLine(int(entry["task"]), source.cluster, text)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first


async def _say_ending(api: KubeApi, request: str, cluster: str, notice: Notice, *, patient: bool) -> None:
    """What the site says of its answer, where it says anything: it does so right after the last entry."""
    with contextlib.suppress(NotFoundError):
        for _ in range(20 if patient else 1):
            status = (await api.get(TASK_LOG_REQUESTS, request, cluster)).get("status") or {}
            if status.get("state") in ("Done", "Failed"):
                if status.get("message"):
                    notice(f"{cluster}: {status['message']}")
                return
            await asyncio.sleep(0.05)


async def _request_lives(api: KubeApi, request: str, cluster: str) -> bool:
    try:
        await api.get(TASK_LOG_REQUESTS, request, cluster)
    except NotFoundError:
        return False
    return True


async def _is_available(api: KubeApi, cluster: str) -> bool:
    try:
        found = await api.get(MANAGED_CLUSTERS, cluster)
    except NotFoundError:
        return False
    return condition_is(found.get("status", {}).get("conditions"), "ManagedClusterConditionAvailable")
