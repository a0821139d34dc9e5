"""Whether this hub may decide: it holds the Lease and knows everything that another hub may have written before.

A standby runs all informers and decides nothing. Becoming leader means: the API is listed once more where another hub
may have written meanwhile, jobs before works, so that nothing it did is unknown; then every job is looked at. Nothing
is written before that, and nothing any more once the lead is lost.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from hub.api import names
from hub.api.errors import QuarterdeckError
from hub.api.resource import FLEET_JOBS, JOBS, MANIFEST_WORKS, WORKLOADS, Resource
from hub.client.backoff import Backoff
from hub.client.elector import Elector
from hub.client.interface import KubeApi, Object
from hub.client.paging import pages_of
from hub.controllers.config import Leadership
from hub.controllers.logs import logger
from hub.controllers.metrics.process import ProcessMetrics
from hub.controllers.seen import read_job, read_work, read_workload
from hub.controllers.table import JobTable

_log = logger(__name__)


class Leading:
    """`elector.run()` is to be run. `leading` is set while this hub leads and knows everything.

    `on_lead` and `on_stand_by` are called when that begins and when it is over. `clock` is monotonic.
    """

    def __init__(
        self,
        api: KubeApi,
        table: JobTable,
        metrics: ProcessMetrics,
        identity: str,
        timing: Leadership,
        *,
        clock: Callable[[], float],
        on_lead: Callable[[], None],
        on_stand_by: Callable[[], None],
    ) -> None:
        self.leading = asyncio.Event()
        self._api, self._table, self._metrics = api, table, metrics
        self._on_lead, self._on_stand_by = on_lead, on_stand_by
        self.elector = Elector(
            api,
            names.HUB_NAMESPACE,
            names.HUB_LEASE,
            identity,
            lease_duration=timing.lease,
            renew_deadline=timing.renewDeadline,
            retry_period=timing.retry,
            on_started=self._on_started,
            on_stopped=self._on_stopped,
            clock=clock,
        )
        self._patience = timing.renewDeadline / 2
        self._everything_known = False
        self._deciding = False
        self._first_term = 0
        self._taking_over: asyncio.Task[None] | None = None

    def may_decide(self) -> bool:
        return self._deciding and self.elector.is_leader

    async def ask(self) -> None:
        """Before anything is listed: who leads from then on has missed nothing of what it lists."""
        await self._step()
        if self.elector.is_leader:
            self._first_term = self.elector.term

    async def begin(self) -> None:
        """Everything is known."""
        self._everything_known = True
        if not self.elector.is_leader:
            # The API may have come back only now: its next look at the Lease need not be waited for.
            await self._step()
        if self.elector.is_leader:
            self._on_started(self.elector.term)

    def end(self) -> None:
        """What was begun and is not done is given up."""
        if self._taking_over is not None:
            self._taking_over.cancel()

    async def _step(self) -> None:
        with contextlib.suppress(QuarterdeckError, TimeoutError):
            async with asyncio.timeout(self._patience):
                await self.elector.step()

    def _on_started(self, term: int) -> None:
        self._metrics.leader.set(1)
        if self._everything_known and (self._taking_over is None or self._taking_over.done()):
            self._taking_over = asyncio.get_running_loop().create_task(self._take_over())

    def _on_stopped(self) -> None:
        self._deciding = False
        self.leading.clear()
        self._metrics.leader.set(0)
        self._on_stand_by()

    async def _take_over(self) -> None:
        """Until this hub may decide, or leads no more: a term that ended meanwhile is followed by the next."""
        backoff = Backoff(0.1, 2.0)
        while self.elector.is_leader:
            term = self.elector.term
            if term != self._first_term and not await self._caught_up():
                await asyncio.sleep(backoff.next())
            elif self.elector.is_leader and self.elector.term == term:
                self._begin()
                return

    def _begin(self) -> None:
        # Good for the first term only: after a gap somebody else may have led.
        self._first_term = 0
        for entry in self._table:
            entry.assumed.clear()
            entry.evicting.clear()
            entry.said = entry.workload_said = ()
            entry.unsaid_since = entry.workload_since = entry.trouble = None
            entry.workload_asked, entry.pause_until, entry.pauses = False, 0.0, 0
        self._deciding = True
        self.leading.set()
        self._table.mark_all()
        self._on_lead()

    async def _caught_up(self) -> bool:
        try:
            await self._catch_up()
        except QuarterdeckError as error:
            _log.warning("cannot take over yet", why=str(error))
            return False
        except Exception:
            # To lead and decide nothing for good would be the worst of all.
            _log.exception("cannot take over yet")
            return False
        return True

    async def _catch_up(self) -> None:
        """What another hub wrote, as the API has it now. Works last: they must be at least as new as the statuses."""
        table = self._table
        for resource, selector in ((FLEET_JOBS, ""), (JOBS, names.QUEUE_NAME)):
            async for obj in self._listed(resource, selector):
                meta = obj["metadata"]
                entry = table.named(resource.kind, str(meta.get("namespace") or ""), str(meta["name"]))
                seen = read_job(obj, entry.seen if entry is not None else None)
                if seen is not None:
                    table.job_seen(seen)
        async for obj in self._listed(WORKLOADS, names.KUEUE_JOB_UID):
            table.workload_seen(read_workload(obj))
        async for obj in self._listed(MANIFEST_WORKS, names.JOB_UID):
            work = read_work(obj)
            if work is not None:
                table.work_seen(work)

    async def _listed(self, resource: Resource, selector: str) -> AsyncIterator[Object]:
        async for page in pages_of(self._api, resource, label_selector=selector):
            for obj in page.items:
                yield obj
