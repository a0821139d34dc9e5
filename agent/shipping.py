"""The last lines of every failed task, sent to the hub without being asked: later the site may be offline.

Once each, also over restarts: what was sent is journaled, and what was sent but not journaled is found on the hub under
its number. Many failures go in few objects. It reads a Job's status and nothing else decides that a task has failed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from agent.journal import Journal, Shipped
from agent.link import TRANSIENT, HubLink
from agent.local import LocalCluster
from agent.logtext import Bundle, last_lines, log_entry
from agent.slices import TaskPlace, WorkSlice, exit_codes, failed_indexes, slice_of
from agent.work.queue import KeyedQueue
from hub.api import names
from hub.api.conditions import condition_is
from hub.api.errors import (
    AlreadyExistsError,
    InvalidIndexSetError,
    NotFoundError,
    OverloadedError,
    QuarterdeckError,
    UnreachableError,
)
from hub.api.indexset import IndexSet
from hub.api.resource import JOBS, TASK_LOGS, Resource
from hub.client.interface import KubeApi

Json = dict[str, Any]
_log = logging.getLogger("agent.shipping")

LINES = 40
BYTES = 4096
# The first failure of a work waits this long for others; after that a work ships at most once in _SPACING.
_SETTLE = 0.1
_SPACING = 1.0
_READERS = 16
# No read hangs the others: a site that does not give a tail in time is said so.
_READ_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class _Failures:
    """What is known to have failed of one work."""

    part: WorkSlice
    indexes: IndexSet
    codes: str


class FailureShipper:
    """`observe` is told of every change of a work's objects; `run()` until cancelled."""

    def __init__(
        self,
        hub: KubeApi,
        local: LocalCluster,
        *,
        cluster: str,
        link: HubLink,
        journal: Journal,
        works: Callable[[], Mapping[str, Json] | None],
    ) -> None:
        self._hub, self._local, self._cluster = hub, local, cluster
        self._link, self._journal, self._works = link, journal, works
        self._failures: dict[str, _Failures] = {}
        # When, for works that shipped within the last _SPACING.
        self._shipped_at: dict[str, float] = {}
        self._queue = KeyedQueue(self._ship, workers=4)
        self.shipped = 0
        self.writes = 0

    @property
    def idle(self) -> bool:
        """Whether every failure seen is on the hub."""
        return not self._failures

    def observe(self, work: Json, resource: Resource, obj: Json) -> None:
        if (resource.group, resource.kind) == (JOBS.group, JOBS.kind):
            self._note(work, failed_indexes(obj), str((obj.get("status") or {}).get("exitCodes") or ""))

    async def run(self) -> None:
        """First what an earlier run of the agent had reported as failed and not yet shipped."""
        while (works := self._works()) is None:
            await asyncio.sleep(0.05)
        for work in works.values():
            if condition_is((work.get("status") or {}).get("conditions"), "Complete"):
                self._note(work, *_reported_failures(work))
        await self._queue.run()

    def _note(self, work: Json, indexes: IndexSet, codes: str) -> None:
        metadata = work["metadata"]
        if not indexes or metadata.get("deletionTimestamp") or not (metadata.get("labels") or {}).get(names.JOB_UID):
            return
        if not indexes - _indexes(self._journal.shipped(metadata["uid"])):
            return
        name = metadata["name"]
        part = slice_of(work)
        if part is None:
            return
        waiting = self._failures.get(name)
        self._failures[name] = _Failures(part, indexes, codes)
        if waiting is None:
            due = self._shipped_at.get(name, 0.0) + _SPACING
            self._queue.add_after(name, max(_SETTLE, due - asyncio.get_running_loop().time()))

    def _is_current(self, part: WorkSlice) -> bool:
        metadata = ((self._works() or {}).get(part.work) or {}).get("metadata") or {}
        return metadata.get("uid") == part.uid and not metadata.get("deletionTimestamp")

    async def _ship(self, name: str) -> None:
        failures = self._failures[name]
        try:
            while self._is_current(failures.part):
                shipped = self._journal.shipped(failures.part.uid)
                left = failures.indexes - _indexes(shipped)
                if not left:
                    break
                await self._ship_some(failures, left, shipped)
            await self._journal.flush()
        except TRANSIENT as error:
            self._link.failed(error)
            await self._link.ready()
            self._queue.add(name)
            return
        except QuarterdeckError as error:
            delay = self._queue.retry(name)
            fields = {"work": name, "why": error, "again_in": f"{delay:.0f}s", "hint": error.hint}
            _log.error("logs of failed tasks not sent", extra={"fields": fields})
            return
        self._queue.forget(name)
        now = asyncio.get_running_loop().time()
        self._shipped_at = {work: at for work, at in self._shipped_at.items() if now - at < _SPACING} | {name: now}
        if self._failures.get(name) is failures:
            del self._failures[name]
        else:
            # More failed meanwhile.
            self._queue.add_after(name, _SPACING)

    async def _ship_some(self, failures: _Failures, left: IndexSet, shipped: Shipped) -> None:
        part = failures.part
        bundle, indexes = await self._gather(failures, left)
        await self._link.ready()
        try:
            await self._hub.create(TASK_LOGS, self._object(part, shipped.sequence, bundle), self._cluster)
        except AlreadyExistsError:
            # Ours, from before a restart or from a write whose answer was lost: what is in it is there.
            indexes = await self._indexes_there(part, shipped.sequence)
        except NotFoundError:
            # The cluster's namespace is gone, and with it everyone who could read this.
            _log.warning("no place for the logs of failed tasks", extra={"fields": {"work": part.work}})
            indexes = left
        else:
            self.writes += 1
            self.shipped += len(bundle.entries)
        self._link.succeeded()
        if self._is_current(part):
            known = str(_indexes(shipped) | indexes)
            self._journal.record_shipped(part.uid, Shipped(shipped.sequence + 1, known))

    async def _gather(self, failures: _Failures, left: IndexSet) -> tuple[Bundle, IndexSet]:
        """As many tails as fit in one object."""
        codes = exit_codes(failures.codes)
        places = [place for place in failures.part.places() if place.index in left]
        # An index beyond the slice's tasks is nobody's: it counts as sent with the others.
        bundle, taken = Bundle(), list(left - IndexSet.of(place.index for place in places))
        for start in range(0, len(places), _READERS):
            group = places[start : start + _READERS]
            entries = await asyncio.gather(*(self._tail(failures.part, place, codes) for place in group))
            for place, entry in zip(group, entries, strict=True):
                if not bundle.fits(entry):
                    return bundle, IndexSet.of(taken)
                bundle.add(entry)
                taken.append(place.index)
        return bundle, IndexSet.of(taken)

    async def _tail(self, part: WorkSlice, place: TaskPlace, codes: Mapping[int, int]) -> Json:
        offset, data, code, reason = 0, b"", codes.get(place.index), None
        try:
            async with asyncio.timeout(_READ_SECONDS):
                async for chunk in self._local.read_log(part.namespace, part.job, place.index, tail_lines=LINES):
                    if not data:
                        offset = chunk.offset
                    data += chunk.data
                    if len(data) > 2 * BYTES:
                        offset, data = offset + len(data) - 2 * BYTES, data[-2 * BYTES :]
                    if chunk.final:
                        code = code if chunk.exit_code is None else chunk.exit_code
                        reason = chunk.reason
                        break
        except NotFoundError:
            reason = "LogGone"
        except (TimeoutError, UnreachableError, OverloadedError):
            reason = "LogUnreadable"
        start, text = last_lines(data, LINES, BYTES)
        return log_entry(place.task, part.attempt, offset + start, text, exit_code=code, reason=reason, final=True)

    def _object(self, part: WorkSlice, sequence: int, bundle: Bundle) -> Json:
        return {
            "apiVersion": TASK_LOGS.api_version,
            "kind": TASK_LOGS.kind,
            "metadata": {
                "name": _object_name(part, sequence),
                "namespace": self._cluster,
                "labels": {names.JOB_UID: part.job_uid, names.EPOCH: str(part.epoch)},
            },
            "entries": bundle.entries,
        }

    async def _indexes_there(self, part: WorkSlice, sequence: int) -> IndexSet:
        found = await self._hub.get(TASK_LOGS, _object_name(part, sequence), self._cluster)
        tasks = {int(entry["task"]) for entry in found.get("entries") or ()}
        return IndexSet.of(place.index for place in part.places() if place.task in tasks)


def _object_name(part: WorkSlice, sequence: int) -> str:
    return f"{part.work}-failed-{sequence:08d}"


def _indexes(shipped: Shipped) -> IndexSet:
    return IndexSet.parse(shipped.indexes)


def _reported_failures(work: Mapping[str, Any]) -> tuple[IndexSet, str]:
    """Failed completion indexes and exit codes, as the work's own feedback says."""
    for manifest in ((work.get("status") or {}).get("resourceStatus") or {}).get("manifests") or ():
        values = {
            value.get("name"): (value.get("fieldValue") or {}).get("string")
            for value in (manifest.get("statusFeedback") or {}).get("values") or ()
        }
        try:
            failed = IndexSet.parse(values.get("failedIndexes") or "")
        except InvalidIndexSetError:
            continue
        if failed:
            return failed, values.get("exitCodes") or ""
    return IndexSet(), ""
