"""The hot loop: what changed is looked at again, what waits is decided, and the outcome is handed on to be written.

One turn at a time, in one thread. A turn is due a few milliseconds after the first news (at once when the hub was
idle), so that what comes together is decided together; when deciding takes long, turns keep a distance that leaves the
loop time for everything else. An exception in one job's handling costs that job its turn, and is logged and counted.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from hub.api.reasons import Reason
from hub.controllers.alarms import Alarms
from hub.controllers.config import Cycle as CycleConfig
from hub.controllers.delivery import Delivery
from hub.controllers.holdings import Holdings
from hub.controllers.isolation import plan_without_culprits
from hub.controllers.logs import logger
from hub.controllers.metrics import HubMetrics
from hub.controllers.mirror import Mirror
from hub.controllers.table import JobEntry, JobTable
from hub.controllers.tempo import Tempo
from hub.controllers.workload_mirror import WorkloadMirror
from hub.controllers.world import World
from hub.fleet.shape import TaskShape
from hub.jobs.fold import demand_of, fold
from hub.jobs.spec import JobSpec
from hub.placement.rule import ClusterRule
from hub.planner.cycle import plan
from hub.planner.plan import Plan, Refusal, Snapshot
from hub.queueing.demand import Demand
from hub.scoring.interface import WeightedScorer

_log = logger(__name__)
_IDLE: Final = 0.05
_CHUNK: Final = 500
"""So many jobs are looked at before the loop gets a breath: after a restart there are ten thousand."""
_SHARE: Final = 2.0
"""A turn that took t is followed by at least that many t of other work."""
_NUMBERS_A_SECOND: Final = 20.0
_UNDECIDABLE: Final = "the hub cannot decide about this job; its log says why. Change the job, or report it"


class Cycle:
    """`run()` until cancelled. `may_decide` says whether this hub leads and knows everything it must."""

    def __init__(
        self,
        table: JobTable,
        world: World,
        holdings: Holdings,
        delivery: Delivery,
        mirror: Mirror,
        workloads: WorkloadMirror,
        tempo: Tempo,
        metrics: HubMetrics,
        *,
        may_decide: Callable[[], bool],
        config: CycleConfig,
        scorers: Sequence[WeightedScorer] = (),
        now: Callable[[], float] = time.time,
        on_orphan: Callable[[JobEntry], None] = lambda entry: None,
        on_state: Callable[[JobEntry], None] = lambda entry: None,
        on_turn: Callable[[], None] = lambda: None,
        on_demand: Callable[[Demand], None] = lambda demand: None,
    ) -> None:
        # Set at an orderly end: what happens is still noted, but nothing new is placed.
        self.closing = False
        self.turns = 0
        self.plans = 0
        self.scorers = tuple(scorers)
        self._table, self._world, self._holdings = table, world, holdings
        self._delivery, self._mirror, self._workloads = delivery, mirror, workloads
        self._tempo, self._metrics, self._config = tempo, metrics, config
        self._may_decide, self._now = may_decide, now
        self._on_orphan, self._on_state, self._on_turn = on_orphan, on_state, on_turn
        self._on_demand = on_demand
        self._demands: dict[str, Demand] = {}
        self._alarms = Alarms(now, self._alarm)
        self._news = asyncio.Event()
        self._replan = False
        self._planned = -1
        self._took = 0.0
        self._ended_at = -1.0
        self._left = self._left_at = 0.0

    def wake(self) -> None:
        """Something was marked, or the world is another."""
        self._news.set()

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
                self._safely(uid, self._look)
            if self._table.dirty:
                await asyncio.sleep(0)
                if not self._may_decide():
                    return
                self._world.refresh()
        if not self._replan and self._planned == self._world.version:
            return
        self._replan, self._planned = False, self._world.version
        if self._demands and not self.closing:
            # With what the jobs just looked at hold, or hold no more.
            self._world.refresh()
            self._decide()

    # One job.

    def _safely(self, uid: str, action: Callable[[JobEntry], None]) -> None:
        entry = self._table.entries.get(uid)
        if entry is None:
            return
        try:
            action(entry)
        except Exception:
            self._metrics.job_errors.inc()
            self._demands.pop(uid, None)
            _log.exception("a job cannot be handled; the others go on", job=str(entry.ref), uid=uid)

    def _look(self, entry: JobEntry) -> None:
        seen = entry.seen
        if seen is None or seen.deleting:
            self._set_demand(entry, None)
            entry.state = entry.trouble = None
            # Its processes run until their agents have stopped them: the room is not free before.
            stopping = [replace(a, state="Cancelled") for a in entry.attempts() if a.live] if entry.shape else []
            if self._holdings.update(entry.uid, entry.shape or TaskShape(), stopping):
                self._replan = True
            self._on_orphan(entry)
            return
        if seen.spec is None:
            # What runs of it goes on; nothing new is placed.
            self._set_demand(entry, None)
            self._mirror.update(entry)
            return
        self._fold(entry, seen.spec)
        state, entry.shape = entry.state, seen.spec.shape
        assert state is not None
        if self._holdings.update(entry.uid, seen.spec.shape, state.attempts):
            self._replan = True
        self._set_demand(entry, self._demand(entry, seen.spec))
        self._delivery.take_back(entry, state.delete)
        self._delivery.drop_doubles(entry)
        self._delivery.let_go(entry, seen.memory)
        self._forget_departed(entry)
        self._on_state(entry)
        if entry.uid not in self._demands or entry.refusal is not None:
            # A job that is to be decided in this very turn is written about after that.
            self._mirror.update(entry)
        self._workloads.update(entry)

    def _fold(self, entry: JobEntry, spec: JobSpec) -> None:
        assert entry.seen is not None
        before = entry.state
        entry.state = state = fold(
            spec,
            entry.attempts(),
            lost=self._world.lost,
            now=self._now(),
            memory=entry.seen.memory,
            refusal=entry.trouble or entry.refusal,
        )
        if state.ended and (before is None or not before.ended) and not entry.seen.memory.ended:
            self._tempo.decided(1)
        self._alarms.set(entry, state.wake_at)

    def _alarm(self, entry: JobEntry) -> None:
        self._table.mark(entry.uid)

    def _demand(self, entry: JobEntry, spec: JobSpec) -> Demand | None:
        state = entry.state
        assert state is not None
        rule, priority = self._world.rule_of(spec), self._world.priority_of(spec)
        problem = next((value for value in (rule, priority) if isinstance(value, str)), "")
        demand = demand_of(
            spec,
            state,
            priority if isinstance(priority, int) else 0,
            rule if isinstance(rule, ClusterRule) else None,
        )
        if demand is None or entry.seen is None or entry.seen.deleting:
            return None
        if entry.pause_until > asyncio.get_running_loop().time():
            return None
        demand = replace(demand, problem=problem) if problem else demand
        if entry.quarantined is not None:
            if entry.quarantined == demand:
                return None
            entry.quarantined = entry.trouble = None
        return demand

    def _set_demand(self, entry: JobEntry, demand: Demand | None) -> None:
        before = self._demands.get(entry.uid)
        if demand is None:
            if before is not None:
                del self._demands[entry.uid]
            entry.refusal = None
        elif before != demand:
            self._demands[entry.uid] = demand
            self._replan = True
            if before is None and not entry.used:
                self._on_demand(demand)

    def _forget_departed(self, entry: JobEntry) -> None:
        if entry.departed and entry.seen is not None:
            recorded = {attempt.epoch for attempt in entry.seen.memory.attempts if not attempt.live}
            for epoch in [epoch for epoch in entry.departed if epoch in recorded]:
                del entry.departed[epoch]

    # One decision.

    def _decide(self) -> None:
        self.plans += 1
        started = time.perf_counter()
        snapshot = Snapshot(
            now=self._now(),
            fleet=self._world.fleet,
            quotas=self._world.quotas,
            usage=self._holdings.usage,
            demands=tuple(self._demands.values()),
            sets=self._world.sets,
            scorers=self.scorers,
        )
        outcome, culprits = plan_without_culprits(plan, snapshot)
        for demand in culprits:
            self._quarantine(demand)
        self._metrics.cycle_seconds.observe(time.perf_counter() - started)
        self._carry_out(outcome)

    def _carry_out(self, outcome: Plan) -> None:
        refusals = {refusal.key: refusal for refusal in outcome.refusals}
        touched: dict[str, JobEntry] = {}
        for admission in outcome.admissions:
            entry = self._table.by_key(admission.key)
            if entry is None or entry.seen is None or entry.seen.spec is None:
                continue
            spec = entry.seen.spec
            try:
                self._delivery.admit(entry, spec, admission)
            except Exception:
                self._metrics.job_errors.inc()
                self._demands.pop(entry.uid, None)
                _log.exception("a decision cannot be carried out", job=str(entry.ref))
                continue
            touched[entry.uid] = entry
            self._admitted(entry, spec, len(admission.slices))
        self._tempo.decided(len(touched))
        for refusal in outcome.refusals:
            self._metrics.decisions.labels(refusal.reason.code).inc()
        allowance = self._allowance()
        for uid, demand in self._demands.items():
            entry = self._table.entries[uid]
            refused, before = refusals.get(demand.key), entry.refusal
            if refused == before:
                continue
            if refused is not None and before is not None and refused.reason is before.reason and uid not in touched:
                # Only its numbers are others. Ten thousand that wait are not all told of every task that ends.
                if allowance < 1:
                    continue
                allowance -= 1
            entry.refusal = refused
            touched[uid] = entry
        self._left = allowance
        for uid in touched:
            self._safely(uid, self._after)
        self._replan = False

    def _quarantine(self, demand: Demand) -> None:
        """A job that no decision survives waits until it changes; the others go on."""
        self._metrics.job_errors.inc()
        entry = self._table.entries[demand.uid]
        self._demands.pop(demand.uid, None)
        entry.trouble = Refusal(demand.key, Reason.INVALID_SPEC, (("detail", _UNDECIDABLE),))
        entry.quarantined = demand
        _log.error("no decision about a job is possible; it waits until it changes", job=str(entry.ref))
        self._safely(demand.uid, self._after)

    def _allowance(self) -> float:
        """How many jobs may now be told new numbers of an old reason."""
        now = asyncio.get_running_loop().time()
        self._left = min(_NUMBERS_A_SECOND, self._left + (now - self._left_at) * _NUMBERS_A_SECOND)
        self._left_at = now
        return self._left

    def _after(self, entry: JobEntry) -> None:
        """What the decision made of a job."""
        assert entry.seen is not None
        spec = entry.seen.spec
        assert spec is not None
        self._fold(entry, spec)
        assert entry.state is not None
        self._holdings.update(entry.uid, spec.shape, entry.state.attempts)
        self._set_demand(entry, self._demand(entry, spec))
        self._mirror.update(entry)
        self._workloads.update(entry)
        self._on_state(entry)

    def _admitted(self, entry: JobEntry, spec: JobSpec, slices: int) -> None:
        self._metrics.decisions.labels(Reason.ADMITTED.code).inc(slices)
        if entry.admitted_at is None:
            entry.admitted_at = self._now()
            self._metrics.admission_wait.observe(max(0.0, entry.admitted_at - spec.created))

    @property
    def demands(self) -> dict[str, Demand]:
        """What waits now, by the job's uid."""
        return self._demands
