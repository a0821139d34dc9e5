"""What is left over is taken away: works and logs of jobs that are gone, jobs past their TTL, log requests long done.

A ManifestWork whose job's uid no longer exists is garbage, also when the job went while no hub was running; before it
is deleted on mere absence, the API is asked once more. Deleting is the only thing done here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from hub.api import names
from hub.api.errors import NotFoundError, QuarterdeckError
from hub.api.resource import FLEET_JOBS, JOBS, TASK_LOG_REQUESTS, TASK_LOGS
from hub.client.interface import KubeApi, Object
from hub.controllers.delivery import Delivery
from hub.controllers.logs import logger
from hub.controllers.seen import read_job
from hub.controllers.table import JobEntry, JobTable
from hub.controllers.writes import Delete, Write, WriteKey, Writes

_log = logger(__name__)
_ASK_AGAIN: Final = 5.0
_LOGS_AFTER: Final = 0.5
REQUEST_KEPT: Final = 3600.0
"""Seconds that a log request is kept after it is done."""


class Garbage:
    """`run()` until cancelled. `clock` is the loop's, `now` epoch seconds."""

    def __init__(
        self,
        api: KubeApi,
        table: JobTable,
        delivery: Delivery,
        writes: Writes,
        clock: Callable[[], float],
        now: Callable[[], float],
        *,
        request_kept: float = REQUEST_KEPT,
    ) -> None:
        self._api, self._table, self._delivery, self._writes = api, table, delivery, writes
        self._clock, self._now, self._request_kept = clock, now, request_kept
        self._suspects: dict[str, float] = {}
        self._logless: set[str] = set()
        self._sweep_logs = True
        self._expiries: dict[str, asyncio.TimerHandle] = {}
        self._requests: dict[tuple[str, str], asyncio.TimerHandle] = {}
        self._news = asyncio.Event()

    async def run(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            await self._question_suspects()
            if self._logless or self._sweep_logs:
                await asyncio.sleep(_LOGS_AFTER)
                await self._delete_logs()

    def take_over(self) -> None:
        """This hub leads from now on: what others have left is looked for."""
        self._sweep_logs = True
        self._news.set()

    # Works without a job.

    def orphan(self, entry: JobEntry) -> None:
        """The job of `entry` is gone, or was never seen though works of it are there."""
        self._cancel(self._expiries, entry.uid)
        if entry.seen is not None:
            # Somebody's finalizer holds it; nothing of it is to run meanwhile.
            self._delivery.clear(entry)
            return
        if entry.gone:
            self._logless.add(entry.uid)
            self._delivery.clear(entry)
            self._table.forget(entry)
        elif entry.works and entry.uid not in self._suspects:
            self._suspects[entry.uid] = self._clock()
        elif not entry.works:
            self._table.forget(entry)
        self._news.set()

    async def _question_suspects(self) -> None:
        for uid in list(self._suspects):
            entry = self._table.entries.get(uid)
            if entry is None or entry.seen is not None:
                self._suspects.pop(uid, None)
                continue
            ref = entry.ref
            try:
                found = await self._api.get(JOBS if ref.kind == "Job" else FLEET_JOBS, ref.name, ref.namespace or "-")
            except NotFoundError:
                found = None
            except QuarterdeckError as error:
                _log.info("whether a job is gone cannot be known yet", job=str(ref), why=str(error))
                asyncio.get_running_loop().call_later(_ASK_AGAIN, self._news.set)
                return
            self._suspects.pop(uid, None)
            if found is not None and found["metadata"].get("uid") == uid and (seen := read_job(found)) is not None:
                self._table.job_seen(seen)
                continue
            _log.info("works of a job that is gone are taken away", job=str(ref), works=len(entry.works))
            entry.gone = True
            self.orphan(entry)

    # Logs.

    async def _delete_logs(self) -> None:
        """One listing for however many jobs went."""
        gone, self._logless = self._logless, set()
        everything, self._sweep_logs = self._sweep_logs, False
        try:
            logs = (await self._api.list(TASK_LOGS, label_selector=names.JOB_UID)).items
            asked = (await self._api.list(TASK_LOG_REQUESTS, label_selector=names.JOB_UID)).items
        except QuarterdeckError as error:
            _log.info("logs of jobs that are gone stay for now", why=str(error))
            self._logless |= gone
            self._sweep_logs = everything
            asyncio.get_running_loop().call_later(_ASK_AGAIN, self._news.set)
            return
        for resource, items in ((TASK_LOGS, logs), (TASK_LOG_REQUESTS, asked)):
            for item in items:
                uid = item["metadata"]["labels"][names.JOB_UID]
                entry = self._table.entries.get(uid)
                if uid in gone or (everything and (entry is None or (entry.seen is None and entry.gone))):
                    meta = item["metadata"]
                    self._delete(WriteKey(resource, meta["namespace"], meta["name"]), meta["uid"])

    # Jobs past their TTL.

    def job_state(self, entry: JobEntry) -> None:
        """After `entry.state` was computed: an ended job is deleted once its TTL has passed."""
        seen, state = entry.seen, entry.state
        ttl = seen.spec.ttl if seen is not None and seen.spec is not None else None
        # Counted from what is written, so that nobody loses an end that was never there to be read.
        ended_at = seen.memory.finished_at if seen is not None and seen.memory.ended else None
        if ttl is None or state is None or not state.ended or ended_at is None:
            self._cancel(self._expiries, entry.uid)
            return
        if entry.uid not in self._expiries:
            delay = max(0.0, ended_at + ttl - self._now())
            loop = asyncio.get_running_loop()
            self._expiries[entry.uid] = loop.call_later(delay, self._expired, entry)

    def _expired(self, entry: JobEntry) -> None:
        self._expiries.pop(entry.uid, None)
        seen = entry.seen
        if seen is None or seen.spec is None or seen.spec.ttl is None or seen.memory.finished_at is None:
            return
        if self._now() < seen.memory.finished_at + seen.spec.ttl:
            # The wall clock was set back.
            self.job_state(entry)
            return
        ref = seen.ref
        resource = JOBS if ref.kind == "Job" else FLEET_JOBS
        self._delete(WriteKey(resource, ref.namespace, ref.name), ref.uid)

    # Log requests.

    def request_seen(self, request: Object) -> None:
        """A request that is done is kept for a while after this hub first saw it done."""
        meta = request["metadata"]
        key = (str(meta["namespace"]), str(meta["name"]))
        done = (request.get("status") or {}).get("state") in ("Done", "Failed")
        if done and key not in self._requests:
            where = WriteKey(TASK_LOG_REQUESTS, *key)
            loop = asyncio.get_running_loop()
            self._requests[key] = loop.call_later(self._request_kept, self._delete, where, meta["uid"])

    def request_gone(self, namespace: str, name: str) -> None:
        self._cancel(self._requests, (namespace, name))

    def _delete(self, key: WriteKey, uid: str) -> None:
        def desired() -> Write:
            return Delete(uid, "Background")

        self._writes.submit(key, desired)

    @staticmethod
    def _cancel(timers: dict[Any, asyncio.TimerHandle], key: Any) -> None:
        timer = timers.pop(key, None)
        if timer is not None:
            timer.cancel()
