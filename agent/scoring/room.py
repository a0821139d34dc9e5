"""Scorers that the hub leaves to the agents: asked here, also while the hub is away, and their answers told to it.

What is asked comes by this cluster's ClusterScoring on the hub and is kept on disk (orders.py); when each is asked is
pacing.py, what is worth a write is report.py. Secrets are read from the cluster's own namespace dynamic-scoring, where
the Dynamic Scoring Framework's users have them; the hub's are not seen here.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from agent.link import TRANSIENT, HubLink
from agent.waiting import came
from hub.api.errors import NotFoundError, QuarterdeckError
from hub.api.resource import CLUSTER_SCORINGS
from hub.api.timestamps import format_micro_time, from_timestamp
from hub.client.backoff import Backoff
from hub.client.informer import Informer
from hub.client.interface import KubeApi

if TYPE_CHECKING:
    from agent.scoring.orders import Order
    from hub.asking.access import Access
    from hub.asking.answer import ScorerAnswer
    from hub.asking.http import ScorerHttp
    from hub.asking.trouble import ScorerTrouble

Json = dict[str, Any]
_log = logging.getLogger("agent.scoring")
SECRETS_NAMESPACE: Final = "dynamic-scoring"
APART: Final = 1.0
"""Seconds between two writes; answers are gathered for a fifth of it. Less for scorers that are asked every second or
two, whose answers would end meanwhile."""


class ScoringRoom:
    """`run()` until cancelled. `local()` has the Secrets. `accepted` is set while the hub lets this cluster take work.
    `clock`: epoch seconds."""

    def __init__(
        self,
        hub: KubeApi,
        local: Callable[[], KubeApi],
        *,
        cluster: str,
        link: HubLink,
        accepted: asyncio.Event,
        access: Access,
        kept: Path,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.writes = 0
        self.asked: Counter[tuple[str, str]] = Counter()
        self._hub, self._local, self._cluster = hub, local, cluster
        self._link, self._accepted, self._access, self._clock = link, accepted, access, clock
        self._kept = kept
        self._spec: Any = None
        self._uid = ""
        self._news, self._wake = asyncio.Event(), asyncio.Event()
        self._ages: Callable[[float], dict[str, float]] = lambda now: {}
        self._refused = Backoff(1.0, 120.0)
        self._apart = APART

    def ages(self) -> dict[str, float]:
        """How many seconds old each scorer's last results are."""
        return self._ages(asyncio.get_running_loop().time())

    async def run(self) -> None:
        # Imported here: most agents are never told to ask anybody, and should not hold it all in memory.
        from agent.scoring.orders import KeptOrders

        kept = KeptOrders(self._kept)
        self._spec = kept.load()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch(kept), name="what scorers are asked")
            while not (self._spec or {}).get("scorers"):
                self._news.clear()
                await self._news.wait()
            await self._score()

    async def _watch(self, kept: Any) -> None:
        await self._accepted.wait()
        informer: Informer[Json] = Informer(
            self._hub,
            CLUSTER_SCORINGS,
            self._cluster,
            transform=lambda obj: obj if obj["metadata"]["name"] == self._cluster else None,
            on_event=lambda change, key, old, new: self._seen(new, kept),
            # A hub that does not know the kind yet is not asked every ten seconds.
            backoff=Backoff(0.2, 60.0),
        )
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(informer.run(), name="own scoring")
            await informer.synced.wait()
            if not informer.store:
                self._seen(None, kept)

    def _seen(self, obj: Json | None, kept: Any) -> None:
        spec = None if obj is None else obj.get("spec")
        uid = "" if obj is None else str(obj["metadata"].get("uid") or "")
        if uid != self._uid:
            # Another object, which does not say what the last one said.
            self._uid = uid
            self._wake.set()
        if spec != self._spec:
            self._spec = spec
            kept.keep(spec)
            self._news.set()

    async def _score(self) -> None:
        from agent.scoring.orders import read_orders
        from agent.scoring.pacing import Pacing
        from agent.scoring.report import ScoreReport
        from hub.asking.http import ScorerHttp

        report = ScoreReport(uuid.uuid4().hex[:8])
        self._ages = report.ages
        http = ScorerHttp(self._access)

        def took(order: Order, outcome: ScorerAnswer | ScorerTrouble, at: float) -> None:
            report.took(order, outcome, at)
            reason = getattr(outcome, "reason", None)
            self.asked[order.scorer, reason.code if reason is not None else "ok"] += 1
            self._wake.set()

        pacing = Pacing(self._cluster, lambda order: self._ask(http, order), took)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._tell(report), name="telling the hub of scores")
                while True:
                    self._news.clear()
                    orders = read_orders(self._spec)
                    report.ordered(orders)
                    self._apart = min([APART, *(order.valid_for / 8 for order in orders.values())])
                    await pacing.follow(orders)
                    self._wake.set()
                    await self._news.wait()
        finally:
            await pacing.stop()
            await http.close()

    async def _ask(self, http: ScorerHttp, order: Order) -> ScorerAnswer:
        """Secrets are read anew each time, so that who rotates one restarts nothing."""
        from hub.asking.ask import Asker
        from hub.asking.secrets import ScorerSecrets

        secrets = ScorerSecrets(self._local(), SECRETS_NAMESPACE)
        asker = Asker(http, secrets, self._access, lambda step, seconds, trouble: None, self._clock())
        series = await asker.data(order.question, self._cluster)
        return await asker.score(order.question, series, self._cluster)

    async def _tell(self, report: Any) -> None:
        loop = asyncio.get_running_loop()
        uid = ""
        while True:
            self._wake.clear()
            if self._uid != uid:
                uid = self._uid
                report.told({})
            due = report.due(loop.time()) if uid else math.inf
            if due > 0:
                await came(self._wake, min(due, 3600.0))
                continue
            await asyncio.sleep(self._apart / 5)
            await self._accepted.wait()
            await self._link.ready()
            if self._uid != uid:
                continue
            snapshot = report.snapshot()
            status = report.status(loop.time(), format_micro_time(from_timestamp(self._clock())))
            pause = await self._write(status)
            if pause == 0:
                report.told(snapshot)
            await asyncio.sleep(pause or self._apart)

    async def _write(self, status: Json) -> float:
        """0: the hub has it; else the seconds after which to try again."""
        try:
            await self._hub.patch(
                CLUSTER_SCORINGS, self._cluster, {"status": status}, self._cluster, subresource="status"
            )
        except TRANSIENT as error:
            self._link.failed(error)
            return 0.05
        except NotFoundError:
            # The watch will tell.
            return APART
        except QuarterdeckError as error:
            delay = self._refused.next()
            fields = {"why": error, "again_in": f"{delay:.0f}s", "hint": error.hint}
            _log.error("scores not told", extra={"fields": fields})
            return delay
        self.writes += 1
        self._link.succeeded()
        self._refused.reset()
        return 0.0
