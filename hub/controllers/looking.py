"""One job looked at again: what is known of it is folded, and everything that follows from that is brought up to date.

What waits of it becomes a demand for the next decision; what must end is told so; its mirrors are told what is new. An
exception in one job's handling costs that job its turn, and is logged and counted. It decides nothing about the queue.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

from hub.controllers.alarms import Alarms
from hub.controllers.checking import Checking
from hub.controllers.delivery import Delivery
from hub.controllers.evicting import Evicting
from hub.controllers.holdings import Holdings, holder_of
from hub.controllers.limits import Limits
from hub.controllers.logs import logger
from hub.controllers.metrics.decisions import DecisionMetrics
from hub.controllers.mirror import Mirror
from hub.controllers.table import JobEntry, JobTable
from hub.controllers.tempo import Tempo
from hub.controllers.workload_mirror import WorkloadMirror
from hub.controllers.world import World
from hub.jobs.fold import demand_of, fold
from hub.jobs.spec import JobSpec
from hub.placement.rule import ClusterRule
from hub.planner.plan import Refusal
from hub.queueing.demand import Demand

_log = logger(__name__)


class Looking:
    """`demands`: what waits now, by the job's uid. `on_change` is called when what waits has a new chance.

    `now` is epoch seconds.
    """

    def __init__(
        self,
        table: JobTable,
        world: World,
        holdings: Holdings,
        delivery: Delivery,
        evicting: Evicting,
        limits: Limits,
        mirror: Mirror,
        workloads: WorkloadMirror,
        checking: Checking,
        tempo: Tempo,
        metrics: DecisionMetrics,
        *,
        now: Callable[[], float],
        on_change: Callable[[], None],
        on_orphan: Callable[[JobEntry], None],
        on_state: Callable[[JobEntry], None],
        on_demand: Callable[[Demand], None],
        on_arrival: Callable[[Demand], Refusal | None],
    ) -> None:
        self.demands: dict[str, Demand] = {}
        self._table, self._world, self._holdings = table, world, holdings
        self._delivery, self._evicting, self._limits = delivery, evicting, limits
        self._mirror, self._workloads, self._checking = mirror, workloads, checking
        self._tempo, self._metrics, self._now = tempo, metrics, now
        self._on_change, self._on_orphan, self._on_state = on_change, on_orphan, on_state
        self._on_demand, self._on_arrival = on_demand, on_arrival
        self._alarms = Alarms(now, lambda entry: table.mark(entry.uid))

    def look(self, uid: str) -> None:
        """At whatever has changed about it."""
        self._safely(uid, self._look)

    def after(self, uid: str) -> None:
        """What a decision has just made of it."""
        self._safely(uid, self._after)

    def _safely(self, uid: str, action: Callable[[JobEntry], None]) -> None:
        entry = self._table.entries.get(uid)
        if entry is None:
            return
        try:
            action(entry)
        except Exception:
            self._metrics.job_errors.inc()
            self.demands.pop(uid, None)
            _log.exception("a job cannot be handled; the others go on", job=str(entry.ref), uid=uid)

    def _look(self, entry: JobEntry) -> None:
        seen = entry.seen
        if seen is None or seen.deleting:
            self._set_demand(entry, None)
            entry.state = entry.trouble = None
            # Its processes run until their agents have stopped them: the room is not free before.
            if self._holdings.leave(entry.uid, entry.shape, entry.attempts()):
                self._on_change()
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
        self._hold(entry, seen.spec)
        self._set_demand(entry, self._demand(entry, seen.spec))
        self._delivery.take_back(entry, state.delete)
        self._delivery.drop_doubles(entry)
        self._delivery.let_go(entry, seen.memory)
        self._checking.send(entry, seen.spec)
        self._forget_departed(entry)
        self._on_state(entry)
        if entry.uid not in self.demands or entry.refusal is not None:
            # A job that is to be decided in this very turn is written about after that.
            self._mirror.update(entry)
        self._workloads.update(entry)

    def _after(self, entry: JobEntry) -> None:
        assert entry.seen is not None
        spec = entry.seen.spec
        assert spec is not None
        self._fold(entry, spec)
        self._hold(entry, spec)
        self._set_demand(entry, self._demand(entry, spec), asks=False)
        self._mirror.update(entry)
        self._workloads.update(entry)
        self._on_state(entry)

    def _fold(self, entry: JobEntry, spec: JobSpec) -> None:
        """Its state, and what limits have to say about that."""
        assert entry.seen is not None
        before = entry.state
        self._fold_once(entry, spec)
        assert entry.state is not None
        awaited = entry.awaits
        standing = self._limits.standing(entry, spec, entry.state) | self._checking.standing(entry, spec, entry.state)
        entry.deactivate = standing.deactivate
        if standing.hold != entry.hold or entry.awaits != awaited:
            entry.hold = standing.hold
            self._fold_once(entry, spec)
        for attempt, cause in standing.evict:
            self._evicting.tell(entry, attempt, cause)
        self._evicting.carry_out(entry)
        if entry.state.ended and (before is None or not before.ended) and not entry.seen.memory.ended:
            self._tempo.decided(1)
        moments = [moment for moment in (entry.state.wake_at, standing.wake_at) if moment is not None]
        self._alarms.set(entry, min(moments, default=None))

    def _fold_once(self, entry: JobEntry, spec: JobSpec) -> None:
        assert entry.seen is not None
        entry.state = fold(
            spec,
            entry.attempts(),
            lost=self._world.lost,
            now=self._now(),
            memory=entry.seen.memory,
            refusal=entry.hold or entry.trouble or entry.awaits or entry.refusal,
            fewer=entry.fewer.message if entry.fewer is not None else "",
        )

    def _hold(self, entry: JobEntry, spec: JobSpec) -> None:
        assert entry.state is not None
        rule, priority = self._world.rule_of(spec), self._world.priority_of(spec)
        holder = holder_of(
            spec,
            self._limits.priority(entry.uid, priority if isinstance(priority, int) else 0),
            entry.state.preemptions,
            rule if isinstance(rule, ClusterRule) else None,
        )
        if self._holdings.update(holder, entry.state.attempts, entry.evicting):
            self._on_change()

    def _demand(self, entry: JobEntry, spec: JobSpec) -> Demand | None:
        state = entry.state
        assert state is not None
        if entry.hold is not None:
            return None
        rule, priority = self._world.rule_of(spec), self._world.priority_of(spec)
        problem = next((value for value in (rule, priority) if isinstance(value, str)), "")
        demand = demand_of(
            spec,
            state,
            self._limits.priority(entry.uid, priority if isinstance(priority, int) else 0),
            rule if isinstance(rule, ClusterRule) else None,
        )
        if demand is None or entry.seen is None or entry.seen.deleting:
            return None
        if entry.pause_until > asyncio.get_running_loop().time():
            return None
        queued = self._limits.queued(state)
        if problem or queued is not None:
            demand = replace(demand, problem=problem, queued=queued)
        if entry.quarantined is not None:
            if entry.quarantined == demand:
                return None
            entry.quarantined = entry.trouble = None
        return demand

    def _set_demand(self, entry: JobEntry, demand: Demand | None, *, asks: bool = True) -> None:
        """`asks`: what was decided last may say what becomes of it."""
        before = self.demands.get(entry.uid)
        if demand is None:
            if before is not None:
                del self.demands[entry.uid]
            entry.refusal = None
        elif before != demand:
            self.demands[entry.uid] = demand
            known = self._on_arrival(demand) if asks else None
            if known is None:
                self._on_change()
            elif known != entry.refusal and entry.seen is not None and entry.seen.spec is not None:
                entry.refusal = known
                self._fold_once(entry, entry.seen.spec)
            if before is None and not entry.used:
                self._on_demand(demand)

    @staticmethod
    def _forget_departed(entry: JobEntry) -> None:
        if entry.departed and entry.seen is not None:
            recorded = {attempt.epoch for attempt in entry.seen.memory.attempts if not attempt.live}
            for epoch in [epoch for epoch in entry.departed if epoch in recorded]:
                del entry.departed[epoch]
