"""The hot loop: when what changed is looked at again, and when what waits is decided. What either does is elsewhere.

One turn at a time, in one thread. A turn is due a few milliseconds after the first news (at once when the hub was
idle), so that what comes together is decided together; when deciding takes long, turns keep a distance that leaves the
loop time for everything else. A plan that would differ at a certain moment is made again then.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

from hub.controllers.config import Cycle as CycleConfig
from hub.controllers.deciding import Deciding
from hub.controllers.logs import logger
from hub.controllers.looking import Looking
from hub.controllers.metrics.decisions import DecisionMetrics
from hub.controllers.table import JobTable
from hub.controllers.world import World
from hub.planner.plan import Plan, Snapshot
from hub.queueing.demand import Demand

_log = logger(__name__)
_IDLE: Final = 0.05
_CHUNK: Final = 500
"""So many jobs are looked at before the loop gets a breath: after a restart there are ten thousand."""
_SHARE: Final = 2.0
"""A turn that took t is followed by at least that many t of other work."""
_SOONEST: Final = 0.001
_LONGEST_SLEEP: Final = 3600.0


class Cycle:
    """`run()` until cancelled. `may_decide` says whether this hub leads and knows everything it must.

    `now` is epoch seconds.
    """

    def __init__(
        self,
        table: JobTable,
        world: World,
        looking: Looking,
        deciding: Deciding,
        metrics: DecisionMetrics,
        *,
        may_decide: Callable[[], bool],
        config: CycleConfig,
        now: Callable[[], float] = time.time,
        on_turn: Callable[[], None] = lambda: None,
        on_looked: Callable[[], None] = lambda: None,
    ) -> None:
        # Set at an orderly end: what happens is still noted, but nothing new is placed.
        self.closing = False
        self.turns = 0
        self._table, self._world, self._looking, self._deciding = table, world, looking, deciding
        self._metrics, self._config = metrics, config
        self._may_decide, self._now = may_decide, now
        self._on_turn, self._on_looked = on_turn, on_looked
        self._news = asyncio.Event()
        self._replan = False
        self._planned = -1
        self._took = 0.0
        self._ended_at = -1.0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def last(self) -> Plan:
        """What was decided last."""
        return self._deciding.last

    def snapshot(self) -> Snapshot:
        """What a decision would read now."""
        return self._deciding.snapshot()

    @property
    def demands(self) -> dict[str, Demand]:
        """What waits now, by the job's uid."""
        return self._looking.demands

    def wake(self) -> None:
        """Something was marked, or the world is another."""
        self._news.set()

    def changed(self) -> None:
        """In the course of a turn: the decision at its end could differ from the last."""
        self._replan = True

    def decide_again(self) -> None:
        """What waits may have a chance now, though none of it changed."""
        self._replan = True
        self._news.set()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._news.wait()
            idle_for = loop.time() - self._ended_at
            pause = 0.0 if idle_for > _IDLE else self._config.debounce
            pause = max(pause, min(self._took * _SHARE - idle_for, self._config.longest))
            if pause > 0:
                await asyncio.sleep(pause)
            else:
                # The rest of what arrived with the first news.
                await asyncio.sleep(0)
            self._news.clear()
            if not self._may_decide():
                # Whoever makes it true wakes us.
                continue
            started = time.perf_counter()
            try:
                await self.turn()
            except Exception:
                # Nothing of one job gets here: it is the decision itself that failed. The next news tries again.
                self._metrics.job_errors.inc()
                _log.exception("a turn of the cycle failed")
                await asyncio.sleep(1.0)
                self._news.set()
            self._took = time.perf_counter() - started
            self._ended_at = loop.time()

    async def turn(self) -> None:
        """Everything that is dirty, then one decision if one could differ from the last."""
        self.turns += 1
        self._world.refresh()
        self._on_turn()
        while self._table.dirty:
            dirty = list(self._table.dirty)[:_CHUNK]
            for uid in dirty:
                self._table.dirty.pop(uid, None)
                self._looking.look(uid)
            if self._table.dirty:
                await asyncio.sleep(0)
                if not self._may_decide():
                    return
                self._world.refresh()
        self._on_looked()
        if not self._replan and self._planned == self._world.version:
            return
        self._replan, self._planned = False, self._world.version
        if self._deciding.wanted and not self.closing:
            # With what the jobs just looked at hold, or hold no more.
            self._world.refresh()
            self._again_at(self._deciding.decide())
            # What the decision itself changed has been decided about.
            self._replan = False

    def _again_at(self, moment: float | None) -> None:
        """The plan is made again then, whatever happens."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if moment is not None:
            delay = min(max(moment - self._now(), 0.0) + _SOONEST, _LONGEST_SLEEP)
            self._timer = asyncio.get_running_loop().call_later(delay, self.decide_again)
