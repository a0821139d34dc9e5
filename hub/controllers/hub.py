"""The hub as one object: its rooms in the order in which they need one another, and what one's news mean to others.

What each room is made of is in hub/controllers/rooms; when this hub may decide is hub/controllers/leading.py. Here they
are started, kept running, and ended in order.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final

from hub.api import names
from hub.client.interface import KubeApi
from hub.client.session import Session
from hub.controllers.config import HubConfig
from hub.controllers.garbage import REQUEST_KEPT
from hub.controllers.leading import Leading
from hub.controllers.logs import logger
from hub.controllers.metrics.all import HubMetrics
from hub.controllers.rooms.clusters import ClusterRoom
from hub.controllers.rooms.decisions import DecisionRoom
from hub.controllers.rooms.ground import Clocks, Ground, Room, Run
from hub.controllers.rooms.jobs import JobRoom
from hub.controllers.rooms.queues import QueueRoom
from hub.controllers.rooms.scores import ScoreRoom
from hub.controllers.rooms.standing import StandingRoom
from hub.controllers.table import JobTable
from hub.controllers.watching import Watching
from hub.queueing.kueue.history import LocalKey, Past

_log = logger(__name__)
_SETTLE: Final = 0.04
_FLUSH: Final = 3.0
_AGAIN: Final = 1.0


class Hub:
    """`run()` until cancelled or `stop()`. `connect` makes sessions for the lifecycle's thread; None: it does not run.

    `now` is epoch seconds, `monotonic` the clock by which clusters' silence is measured.
    """

    def __init__(
        self,
        api: KubeApi,
        config: HubConfig,
        *,
        identity: str,
        connect: Callable[[], Session] | None = None,
        metrics: HubMetrics | None = None,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        request_kept: float = REQUEST_KEPT,
    ) -> None:
        self.metrics = metrics or HubMetrics()
        self.config = config
        self.ready = asyncio.Event()
        self.table = JobTable()
        self._lead = Leading(
            api,
            self.table,
            self.metrics.process,
            identity,
            config.leadership,
            clock=monotonic,
            on_lead=self._take_over,
            on_stand_by=self._stand_by,
        )
        self.leading, self.elector = self._lead.leading, self._lead.elector
        self._clocks = Clocks(now, asyncio.get_running_loop().time, monotonic)
        ground = self._ground = Ground(
            api, config, self.metrics, self._clocks, self.table, identity, self._lead.may_decide,
            lambda: self.elector.term,
        )  # fmt: skip
        self._jobs = JobRoom(ground, request_kept=request_kept)
        self._scores = ScoreRoom(ground, on_change=self._scores_changed)
        self._queues = QueueRoom(ground, self._jobs, on_change=lambda: self.cycle.decide_again())
        self._decisions = DecisionRoom(
            ground, self._jobs, self._scores, self._queues, on_turn=self._on_turn, on_looked=self._on_looked
        )
        self._clusters = ClusterRoom(
            ground, connect, heard_api=lambda: self.elector.renewed_at, on_decided=self._placement_decided
        )
        # What other rooms of the process read of it: pages, metrics, health.
        self.patcher, self.writes, self.world, self.holdings = (
            ground.patcher, ground.writes, ground.world, ground.holdings
        )  # fmt: skip
        self.scores, self.dynamic, self.publishing = self._scores.scores, self._scores.dynamic, self._scores.publishing
        self.foreign, self.idle, self.way = self._queues.foreign, self._queues.idle, self._queues.way
        self.deciding, self.cycle = self._decisions.deciding, self._decisions.cycle
        self.registrar, self.placements = self._clusters.registrar, self._clusters.placements
        self.watching = Watching(
            api, self.table, self.world, self.cycle, self.placements,
            self.registrar, self._jobs.garbage, self.scores, self.publishing, self.dynamic, self.foreign,
        )  # fmt: skip
        self._standing = StandingRoom(ground, self._queues, self.watching)
        self.queue_status = self._standing.queue_status
        self._rooms: tuple[Room, ...] = (
            self._clusters, self._scores, self._jobs, self._queues, self._standing, self._decisions,
        )  # fmt: skip
        self._stopping = asyncio.Event()

    def now(self) -> float:
        """Epoch seconds, by the clock that it decides by."""
        return self._clocks.now()

    def past(self) -> Mapping[LocalKey, Past]:
        """What LocalQueues used before, as of now."""
        return self._standing.past()

    def announce(self, url: str) -> None:
        """Where its pages are (hub/controllers/debug_server.py), said in the Lease while it leads. Before `run`."""
        self.elector.annotations = {names.DEBUG_URL: url}

    def stop(self) -> None:
        """Ends `run` in order: nothing new is decided, what is decided is written, the lead is given up."""
        self._stopping.set()

    async def run(self) -> None:
        await self._lead.ask()
        async with asyncio.TaskGroup() as tasks:
            running = [
                tasks.create_task(self._keep(f"watch {informer.resource.plural}", informer.run))
                for informer in self.watching.informers
            ]
            elector = tasks.create_task(self.elector.run(), name="elector")
            await self._first(self.watching.synced())
            if not self._stopping.is_set():
                self._scores.start()
                self._decisions.scores_changed()
                self.past()
                self.ready.set()
                _log.info("everything is known", jobs=len(self.table), clusters=len(self.world.clusters))
                for room in self._rooms:
                    running += [tasks.create_task(self._keep(name, run)) for name, run in room.parts.items()]
                await self._lead.begin()
            await self._stopping.wait()
            await self._wind_down(running, elector)

    async def _keep(self, name: str, run: Run) -> None:
        """`run` until cancelled: an error of our own in one part is logged, and the part starts again."""
        while True:
            try:
                await run()
                return
            except Exception:
                self.metrics.process.room_failures.labels(name).inc()
                _log.exception("a part of the hub failed and starts again", part=name)
                await asyncio.sleep(_AGAIN)

    async def _first(self, what: Coroutine[Any, Any, None]) -> None:
        """`what`, unless it is to end before."""
        done = asyncio.ensure_future(what)
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait({done, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (done, stopping):
                task.cancel()

    async def _wind_down(self, running: list[asyncio.Task[Any]], elector: asyncio.Task[Any]) -> None:
        for room in self._rooms:
            room.stop()
        self.writes.closing = True
        if self._lead.may_decide():
            await self._settle()
        for task in running:
            task.cancel()
        await self._scores.closed()
        await self.patcher.stop(_FLUSH)
        elector.cancel()
        await asyncio.gather(*running, elector, return_exceptions=True)
        self._lead.end()

    async def _settle(self) -> None:
        """What is on its way is answered, and what the answers ask for is written, too."""
        for _ in range(3):
            self.cycle.wake()
            await asyncio.sleep(_SETTLE)

    # What one room's news mean to others.

    def _take_over(self) -> None:
        for room in self._rooms:
            room.take_over()

    def _stand_by(self) -> None:
        for room in self._rooms:
            room.stand_by()

    def _on_turn(self) -> None:
        self.foreign.refresh()
        self.queue_status.news()

    def _on_looked(self) -> None:
        if self._lead.may_decide():
            self.world.looked()
        self._standing.in_use.look()

    def _scores_changed(self) -> None:
        self._decisions.scores_changed()
        self.cycle.decide_again()
        self.placements.wake()

    def _placement_decided(self, namespace: str, name: str, clusters: tuple[str, ...]) -> None:
        self.dynamic.roster.placement_decided(namespace, name, clusters)
        if self.world.placement_decided(namespace, name, clusters):
            self.table.mark_open()
            self.cycle.wake()
