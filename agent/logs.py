"""Logs that someone asked for: each TaskLogRequest of this cluster's namespace is answered with TaskLog objects.

Reading never holds up work: it is bounded in requests, readers and bytes, and waits where the hub is slow. An answer
that an outage or a restart of the agent broke off goes on where it stopped, without a byte lost or sent twice. How an
answer is written is `agent.answer`; the last lines of failed tasks, which nobody asks for, are `agent.shipping`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from agent.answer import Answer, AnswerFullError
from agent.link import HubLink
from agent.local import LocalCluster, LogChunk
from agent.logtext import TextStream, log_entry
from agent.slices import TaskPlace, WorkSlice, slice_of, slices_of_job
from agent.waiting import came
from hub.api.conditions import condition_is
from hub.api.errors import InvalidObjectError, NotFoundError, OverloadedError, QuarterdeckError, UnreachableError
from hub.api.indexset import IndexSet
from hub.api.resource import TASK_LOG_REQUESTS, Resource
from hub.client.backoff import Backoff
from hub.client.informer import Informer
from hub.client.interface import KubeApi

Json = dict[str, Any]
_log = logging.getLogger("agent.logs")

# How many requests are read at once, and how many may follow: those hold their place until their tasks have ended.
READING = 8
FOLLOWING = 32
# Of one request that follows: tasks read at once, and tasks that have not started asked about in one look.
_OPEN_TASKS = 128
_PROBES = 32
_PROBE_SECONDS = 0.5
_LOOK_SECONDS = 0.05
# A request may be heard of before the work it names.
_WORK_PATIENCE = 2.0
_READ_ATTEMPTS = 5

_Ref = tuple[WorkSlice, TaskPlace]


class LogService:
    """`run()` until cancelled. `works()`: the cluster's ManifestWorks by name, None while they are not known yet."""

    def __init__(
        self,
        hub: KubeApi,
        local: LocalCluster,
        *,
        cluster: str,
        link: HubLink,
        works: Callable[[], Mapping[str, Json] | None],
    ) -> None:
        self._hub, self._local, self._cluster, self._link, self._works = hub, local, cluster, link, works
        self._serving: dict[str, asyncio.Task[None]] = {}
        self._followers: dict[str, set[asyncio.Event]] = {}
        self._reading = asyncio.Semaphore(READING)
        self._writing = asyncio.Semaphore(READING)
        self._following = 0
        self.served = 0
        self.writes = 0
        self.sent_bytes = 0

    @property
    def open_requests(self) -> int:
        return len(self._serving)

    def observe(self, work: Json, resource: Resource, obj: Json) -> None:
        """A local object of a work changed: a task may have started that someone waits for."""
        for event in self._followers.get(work["metadata"]["name"], ()):
            event.set()

    async def run(self) -> None:
        informer: Informer[Json] = Informer(
            self._hub,
            TASK_LOG_REQUESTS,
            self._cluster,
            on_event=lambda _change, _key, old, new: self._on_request(old, new, fresh=informer.synced.is_set()),
            backoff=Backoff(0.1, 5.0),
        )
        try:
            await informer.run()
        finally:
            tasks = list(self._serving.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _on_request(self, old: Json | None, new: Json | None, *, fresh: bool) -> None:
        if new is None or new["metadata"].get("deletionTimestamp"):
            gone = new or old
            if gone is not None and (task := self._serving.pop(gone["metadata"]["uid"], None)) is not None:
                task.cancel()
            return
        uid = new["metadata"]["uid"]
        if uid in self._serving or (new.get("status") or {}).get("state") in ("Done", "Failed"):
            return
        task = asyncio.create_task(self._serve(new, fresh=fresh), name=f"log {new['metadata']['name']}")
        self._serving[uid] = task
        task.add_done_callback(lambda done: self._served(uid, done))

    def _served(self, uid: str, task: asyncio.Task[None]) -> None:
        if self._serving.get(uid) is task:
            del self._serving[uid]

    async def _serve(self, request: Json, *, fresh: bool) -> None:
        follow = bool((request.get("spec") or {}).get("follow"))
        answer = Answer(self._hub, self._cluster, request, self._link, self._writing)
        try:
            if follow:
                await self._serve_follower(request, answer, fresh=fresh)
            else:
                async with self._reading:
                    await self._answer(request, answer, fresh=fresh)
            self.served += 1
        except NotFoundError:
            # Whoever asked took the request away.
            pass
        except QuarterdeckError as error:
            self._complain(request, error)
            with contextlib.suppress(QuarterdeckError):
                await answer.state("Failed", str(error))
        except Exception:
            _log.exception("log request failed", extra={"fields": {"request": request["metadata"]["name"]}})
            with contextlib.suppress(QuarterdeckError):
                await answer.refuse("the agent failed to read these logs; its own log says why")
        finally:
            self.sent_bytes += answer.sent_bytes
            self.writes += answer.writes

    async def _serve_follower(self, request: Json, answer: Answer, *, fresh: bool) -> None:
        if self._following >= FOLLOWING:
            await answer.refuse(f"{FOLLOWING} logs are followed here already: end one of them, or do not follow")
            return
        self._following += 1
        try:
            await self._answer(request, answer, fresh=fresh)
        finally:
            self._following -= 1

    def _complain(self, request: Json, error: QuarterdeckError) -> None:
        fields = {"request": request["metadata"]["name"], "why": error, "hint": error.hint}
        _log.error("log request not answered", extra={"fields": fields})

    async def _answer(self, request: Json, answer: Answer, *, fresh: bool) -> None:
        if not fresh and await answer.resume():
            await answer.state("Done")
            return
        spec = request.get("spec") or {}
        try:
            refs = await self._locate(spec)
        except InvalidObjectError as error:
            await answer.refuse(str(error))
            return
        read = self._follow if spec.get("follow") else self._read_all
        message = ""
        async with answer:
            try:
                missing = await read(refs, spec, answer)
            except AnswerFullError as error:
                message = str(error)
            else:
                if missing:
                    message = f"no log here of tasks {IndexSet.of(missing)}: they have not started, or it is gone"
        await answer.state("Done", message)

    # Which tasks are meant.

    async def _locate(self, spec: Mapping[str, Any]) -> list[_Ref]:
        wanted = IndexSet.parse(str(spec["tasks"])) if spec.get("tasks") else None
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _WORK_PATIENCE
        while True:
            works = self._works()
            parts = _slices(works or {}, spec)
            if parts or (works is not None and loop.time() > deadline):
                break
            await asyncio.sleep(0.05)
        if not parts:
            name = spec.get("work") or f"of the job with uid {spec.get('jobUID', '')}"
            raise InvalidObjectError(f"there is no work {name} here")
        refs = [(part, place) for part in parts for place in part.places(wanted)]
        if not refs:
            tasks = "; ".join(f"{part.work} has {part.tasks}" for part in parts)
            raise InvalidObjectError(f"none of the tasks {wanted} is here: {tasks}")
        return refs

    def _has_ended(self, part: WorkSlice) -> bool:
        work = (self._works() or {}).get(part.work)
        if work is None:
            return self._works() is not None
        conditions = (work.get("status") or {}).get("conditions")
        return work["metadata"]["uid"] != part.uid or condition_is(conditions, "Complete")

    # Reading.

    async def _read_all(self, refs: list[_Ref], spec: Mapping[str, Any], answer: Answer) -> list[int]:
        """The tasks of which nothing is known."""
        missing = []
        for part, place in refs:
            if not await self._read(part, place, spec, answer, follow=False):
                await answer.put(_not_started(part, place))
                missing.append(place.task)
        return missing

    async def _follow(self, refs: list[_Ref], spec: Mapping[str, Any], answer: Answer) -> list[int]:
        waiting, reading = refs, dict[asyncio.Task[bool], _Ref]()
        changed = asyncio.Event()
        works = {part.work for part, _ in refs}
        for work in works:
            self._followers.setdefault(work, set()).add(changed)
        missing: list[int] = []
        turn = 0

        def on_end(task: asyncio.Task[bool]) -> None:
            if task.cancelled() or task.exception() or task.result():
                changed.set()

        try:
            while waiting or reading:
                changed.clear()
                ended = {part for part, _ in waiting if self._has_ended(part)}
                probed = _to_probe(waiting, min(_OPEN_TASKS - len(reading), _PROBES), turn)
                turn += len(probed)
                for ref in probed:
                    task = asyncio.create_task(self._read(*ref, spec, answer, follow=True))
                    reading[task] = ref
                    task.add_done_callback(on_end)
                await asyncio.sleep(_LOOK_SECONDS)
                over: set[_Ref] = set()
                for task in [task for task in reading if task.done()]:
                    ref = reading.pop(task)
                    if task.result():
                        over.add(ref)
                    elif ref[0] in ended:
                        await answer.put(_not_started(*ref))
                        missing.append(ref[1].task)
                        over.add(ref)
                busy = over.union(reading.values())
                waiting = [ref for ref in waiting if ref not in busy] if busy else waiting
                if waiting or reading:
                    await came(changed, _PROBE_SECONDS)
        finally:
            for work in works:
                self._followers[work].discard(changed)
                if not self._followers[work]:
                    del self._followers[work]
            for task in reading:
                task.cancel()
            await asyncio.gather(*reading, return_exceptions=True)
        return missing

    async def _read(
        self, part: WorkSlice, place: TaskPlace, spec: Mapping[str, Any], answer: Answer, *, follow: bool
    ) -> bool:
        """One task's log to its end; False when nothing is known of the task."""
        position = answer.position(place.task, part.attempt)
        if position is not None and position.final:
            return True
        since = (spec.get("sinceOffset") or {}).get(str(place.task))
        tail: int | None = None
        if position is not None:
            stream = TextStream(position.offset, position.length)
        else:
            stream = TextStream(int(since or 0))
            tail = spec.get("tailLines") if since is None else None
        backoff = Backoff(0.2, 5.0)
        while True:
            begun, chunks = False, None
            try:
                chunks = self._local.read_log(
                    part.namespace, part.job, place.index, offset=stream.next, tail_lines=tail, follow=follow
                )
                async for chunk in chunks:
                    begun, tail = True, None
                    backoff.reset()
                    await self._pass_on(chunk, stream, part, place, answer)
                    if chunk.final:
                        return True
                error: QuarterdeckError = UnreachableError("the log broke off")
            except NotFoundError:
                if not begun and backoff.failures == 0:
                    return False
                await answer.put(_end(part, place, stream.next, "LogGone"))
                return True
            except (UnreachableError, OverloadedError) as failure:
                error = failure
            finally:
                await _close(chunks)
            if not follow and backoff.failures >= _READ_ATTEMPTS:
                self._say_unreadable(part, place, error)
                await answer.put(_end(part, place, stream.next, "LogUnreadable"))
                return True
            stream.rewind()
            await asyncio.sleep(backoff.next())

    async def _pass_on(
        self, chunk: LogChunk, stream: TextStream, part: WorkSlice, place: TaskPlace, answer: Answer
    ) -> None:
        for offset, text in stream.feed(chunk.offset, chunk.data, final=chunk.final):
            await answer.put(log_entry(place.task, part.attempt, offset, text))
        if chunk.final:
            await answer.put(_end(part, place, stream.next, chunk.reason, chunk.exit_code))

    def _say_unreadable(self, part: WorkSlice, place: TaskPlace, error: Exception) -> None:
        _log.warning("log not readable", extra={"fields": {"work": part.work, "task": place.task, "why": error}})


def _slices(works: Mapping[str, Json], spec: Mapping[str, Any]) -> list[WorkSlice]:
    if not spec.get("work"):
        return slices_of_job(works.values(), str(spec.get("jobUID") or ""))
    work = works.get(spec["work"])
    part = slice_of(work) if work is not None else None
    return [part] if part is not None else []


def _to_probe(waiting: list[_Ref], count: int, turn: int) -> list[_Ref]:
    """The lowest, which start first as a rule, and by turns some of the others."""
    if len(waiting) <= count:
        return waiting
    lowest = max(count - count // 2, 0)
    others = waiting[lowest:]
    start = turn % len(others)
    return waiting[:lowest] + (others[start:] + others[:start])[: count - lowest]


def _end(part: WorkSlice, place: TaskPlace, offset: int, reason: str | None, code: int | None = None) -> Json:
    return log_entry(place.task, part.attempt, offset, "", exit_code=code, reason=reason, final=True)


def _not_started(part: WorkSlice, place: TaskPlace) -> Json:
    return _end(part, place, 0, "NotStarted")


async def _close(chunks: AsyncIterator[LogChunk] | None) -> None:
    close = getattr(chunks, "aclose", None)
    if close is not None:
        await close()
