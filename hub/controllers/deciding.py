"""One decision over all that waits, carried out: works are made, slices are told to go, jobs are told why they wait.

What comes out of the plan counts from that moment; the API learns of it through the writer. Deciding itself is pure and
is hub/planner; which of its ways is asked is settled when the hub starts.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from hub.api.reasons import Reason
from hub.controllers.delivery import Delivery
from hub.controllers.evicting import Evicting
from hub.controllers.foreign import Foreign
from hub.controllers.holdings import Holdings
from hub.controllers.isolation import Planner, plan_without_culprits
from hub.controllers.limits import Limits
from hub.controllers.logs import logger
from hub.controllers.looking import Looking
from hub.controllers.metrics.decisions import DecisionMetrics
from hub.controllers.resizing import Resizing
from hub.controllers.table import JobEntry, JobTable
from hub.controllers.tempo import Tempo
from hub.controllers.world import World
from hub.jobs.spec import JobSpec
from hub.planner.backlog import Heads
from hub.planner.plan import HeldSlice, Plan, Preemption, Refusal, Snapshot
from hub.queueing.demand import Demand
from hub.queueing.fleet.policy import FleetPolicy
from hub.queueing.ledger import summed
from hub.scoring.interface import WeightedScorer

_log = logger(__name__)
_NUMBERS_A_SECOND: Final = 20.0
_UNDECIDABLE: Final = "the hub cannot decide about this job; its log says why. Change the job, or report it"


class Deciding:
    """`heads`: the planner, where it can answer before it plans, and says only news. `block`: nothing more is admitted
    while something admitted is not up. `last` is the last plan. `now` is epoch seconds."""

    def __init__(
        self,
        table: JobTable,
        world: World,
        holdings: Holdings,
        delivery: Delivery,
        evicting: Evicting,
        resizing: Resizing,
        limits: Limits,
        looking: Looking,
        foreign: Foreign,
        tempo: Tempo,
        metrics: DecisionMetrics,
        *,
        planner: Planner,
        heads: Heads | None,
        policy: FleetPolicy,
        block: bool,
        now: Callable[[], float],
    ) -> None:
        self.count = 0
        self.last = Plan()
        self.scorers: Sequence[WeightedScorer] = ()
        self._table, self._world, self._holdings = table, world, holdings
        self._delivery, self._evicting, self._limits, self._looking = delivery, evicting, limits, looking
        self._resizing = resizing
        self._foreign = foreign
        self._tempo, self._metrics = tempo, metrics
        self._heads = heads
        self.planner, self._policy, self._block, self._now = planner, policy, block, now
        self._left = self._left_at = 0.0
        # Whose numbers are others than he was told, for when there is time for that.
        self._untold: dict[str, Refusal] = {}
        self._held: tuple[tuple[HeldSlice, ...], tuple[HeldSlice, ...], tuple[HeldSlice, ...]] = ((), (), ())

    @property
    def wanted(self) -> bool:
        """Whether anything waits, or could have more."""
        return bool(self._looking.demands or self._foreign.demands or self._holdings.growing)

    def decide(self) -> float | None:
        """When (epoch seconds) the same would be decided otherwise; None: not without news."""
        self.count += 1
        started = time.perf_counter()
        late = self._late() if self._block else ""
        snapshot = self.snapshot()
        demands = snapshot.demands
        if late:
            snapshot = replace(snapshot, demands=())
        outcome, culprits = plan_without_culprits(self.planner, snapshot)
        for demand in culprits:
            self._quarantine(demand)
        self._metrics.cycle_seconds.observe(time.perf_counter() - started)
        if late:
            why = (("detail", late),)
            if self._heads is not None:
                # What it told them is not what they are told now.
                self._heads.forget()
            outcome = Plan(refusals=tuple(Refusal(d.key, Reason.WAITING_FOR_PODS_READY, why) for d in demands))
        elif self._block and len(outcome.admissions) > 1:
            # The others have their turn when the first is up.
            outcome = replace(outcome, admissions=outcome.admissions[:1], wake_at=self._now())
        self.last = outcome
        self._carry_out(outcome)
        return outcome.wake_at

    def arrived(self, demand: Demand) -> Refusal | None:
        """What it is refused with, where the last decision says so already; None: decide."""
        return self._heads.arrive(demand) if self._heads is not None and not self._block else None

    def snapshot(self) -> Snapshot:
        """What a decision would read now."""
        return Snapshot(
            now=self._now(),
            fleet=self._world.fleet,
            quotas=self._world.quotas,
            usage=summed(self._holdings.usage, self._foreign.usage),
            demands=(*self._looking.demands.values(), *self._foreign.demands.values()),
            sets=self._world.sets,
            scorers=tuple(self.scorers),
            held=self._slices(),
            policy=self._policy,
        )

    def _slices(self) -> tuple[HeldSlice, ...]:
        """The same tuple while nothing changed: planners go by that."""
        own, foreign = self._holdings.slices, self._foreign.slices
        if self._held[0] is not own or self._held[1] is not foreign:
            self._held = (own, foreign, own + foreign if foreign else own)
        return self._held[2]

    def refusals(self) -> dict[str, Refusal]:
        """What the last decision said of those that wait, by the planner's key."""
        entries, found = self._table.entries, {}
        for uid, demand in self._looking.demands.items():
            refusal = entries[uid].refusal
            if refusal is not None:
                found[demand.key] = refusal
        return found | self._foreign.refusals()

    def _late(self) -> str:
        """Who is admitted and not up, if anybody is."""
        unready = (
            e for e in self._table if e.state is not None and not e.state.ended and self._limits.unready(e.state)
        )
        late = [*(str(entry.ref) for entry in unready), *self._foreign.unready()]
        return ", ".join(sorted(late)[:3])

    def _carry_out(self, outcome: Plan) -> None:
        refusals = {refusal.key: refusal for refusal in outcome.refusals}
        touched: dict[str, JobEntry] = {}
        for preemption in outcome.preemptions:
            victim = self._preempt(preemption)
            if victim is not None:
                touched[victim.uid] = victim
        admitted = 0
        for admission in outcome.admissions:
            if self._foreign.admit(admission):
                continue
            entry = self._table.by_key(admission.key)
            if entry is None or entry.seen is None or entry.seen.spec is None:
                continue
            spec = entry.seen.spec
            try:
                self._delivery.admit(entry, spec, admission)
            except Exception:
                self._metrics.job_errors.inc()
                self._looking.demands.pop(entry.uid, None)
                _log.exception("a decision cannot be carried out", job=str(entry.ref))
                continue
            entry.fewer = refusals.get(admission.key)
            admitted += entry.uid not in touched
            touched[entry.uid] = entry
            self._admitted(entry, spec, len(admission.slices))
        for growth in outcome.growths:
            entry = self._table.entries.get(growth.uid)
            if entry is not None and self._resizing.grow(entry, growth):
                touched[entry.uid] = entry
        self._tempo.decided(admitted)
        for refusal in outcome.refusals:
            self._metrics.decisions.labels(refusal.reason.code).inc()
        self._tell(refusals, touched)
        self._foreign.told(refusals)
        for uid in touched:
            self._looking.after(uid)

    def _tell(self, refusals: Mapping[str, Refusal], touched: dict[str, JobEntry]) -> None:
        """Why they wait, to those to whom something else was said, or is still to be."""
        allowance = self._allowance()
        waiting, self._untold = {**self._untold, **refusals}, {}
        for key, refused in waiting.items():
            entry = self._table.by_key(key)
            if entry is None or entry.uid not in self._looking.demands or refused == entry.refusal:
                continue
            before = entry.refusal
            if before is not None and refused.reason is before.reason and entry.uid not in touched:
                # Only its numbers are others. Ten thousand that wait are not all told of every task that ends.
                if allowance < 1:
                    self._untold[key] = refused
                    continue
                allowance -= 1
            entry.refusal = refused
            touched[entry.uid] = entry
        self._left = allowance

    def _preempt(self, preemption: Preemption) -> JobEntry | None:
        entry = self._table.entries.get(preemption.uid)
        if self._foreign.preempt(preemption) or entry is None:
            return None
        if preemption.kept:
            return entry if self._resizing.shrink(entry, preemption, self._policy.notice) else None
        return entry if self._evicting.preempt(entry, preemption, self._policy.notice) else None

    def _quarantine(self, demand: Demand) -> None:
        """A job that no decision survives waits until it changes; the others go on."""
        self._metrics.job_errors.inc()
        if self._foreign.spoils(demand):
            return
        entry = self._table.entries[demand.uid]
        self._looking.demands.pop(demand.uid, None)
        entry.trouble = Refusal(demand.key, Reason.INVALID_SPEC, (("detail", _UNDECIDABLE),))
        entry.quarantined = demand
        _log.error("no decision about a job is possible; it waits until it changes", job=str(entry.ref))
        self._looking.after(demand.uid)

    def _allowance(self) -> float:
        """How many jobs may now be told new numbers of an old reason."""
        now = asyncio.get_running_loop().time()
        self._left = min(_NUMBERS_A_SECOND, self._left + (now - self._left_at) * _NUMBERS_A_SECOND)
        self._left_at = now
        return self._left

    def _admitted(self, entry: JobEntry, spec: JobSpec, slices: int) -> None:
        self._metrics.decisions.labels(Reason.ADMITTED.code).inc(slices)
        if entry.admitted_at is None:
            entry.admitted_at = self._now()
            self._metrics.admission_wait.observe(max(0.0, entry.admitted_at - spec.created))
