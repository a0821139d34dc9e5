"""Mode kueue in a hub that runs: one head of every queue a cycle, its victims, then the places. Keeps who waits and who
holds from cycle to cycle; deterministic, no I/O.

Quota is decided as Kueue decides it (hub/queueing/kueue); clusters are chosen as in mode fleet, within the flavors that
were given. What has quota and no place gives the quota back, says so, and does not hold up those behind it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Set
from typing import Final

from hub.api.indexset import IndexSet
from hub.api.reasons import Reason
from hub.fleet.fleet import Fleet
from hub.planner.allotting import Allotting
from hub.planner.plan import Admission, HeldSlice, Plan, Preemption, Refusal, Slice, Snapshot
from hub.queueing.demand import Demand
from hub.queueing.kueue.history import History
from hub.queueing.kueue.jobs import holder, waiting_workload
from hub.queueing.kueue.live import LiveRoster, LiveScheduler
from hub.queueing.kueue.settings import Settings
from hub.queueing.kueue.verdict import Admitted, Preempted, Verdict
from hub.queueing.objects import ClusterQueue
from hub.queueing.quotas import Denial, Quotas

# Cycles that only refuse, one after the other: a line of so many different jobs is looked at to its end.
_MOST_CYCLES: Final = 100_000
_WHY: Final = {
    "InClusterQueue": "which goes before it in the ClusterQueue",
    "InCohortReclamation": "whose ClusterQueue takes back what it had lent",
    "InCohortFairSharing": "whose ClusterQueue has less than its fair share",
    "InCohortReclaimWhileBorrowing": "whose ClusterQueue takes it back, though it borrows itself",
}


class KueuePlanner:
    """`plan(snapshot)` is one cycle; what it returns is to be carried out before the next. `history`: what LocalQueues
    used before, where that orders anything."""

    def __init__(self, settings: Settings, history: History | None = None) -> None:
        self._settings = settings
        self._history = history
        self._quotas: Quotas | None = None
        self._roster = LiveRoster(Quotas(), settings)
        self._scheduler = LiveScheduler(self._roster)
        self._demands: dict[str, Demand] = {}
        self._slices: dict[str, tuple[HeldSlice, ...]] = {}
        self._listed: tuple[HeldSlice, ...] | None = None
        self._homeless: set[str] = set()
        self._fleet: Fleet | None = None
        self._said: dict[str, tuple[Verdict, str, Refusal]] = {}

    @property
    def settings(self) -> Settings:
        return self._settings

    @property
    def history(self) -> History | None:
        return self._history

    @property
    def sticky(self) -> frozenset[str]:
        """Who stays at the head of its queue because its victims are on their way out."""
        return frozenset(line.sticky for line in self._roster.lines.values() if line.sticky)

    def plan(self, snapshot: Snapshot) -> Plan:
        """What one cycle decides. `wake_at` is now while another cycle would decide more."""
        return self._cycle(snapshot, 1)

    def rounds(self, snapshot: Snapshot) -> Plan:
        """As `plan`, of as many cycles as it takes until one has something to carry out."""
        return self._cycle(snapshot, _MOST_CYCLES)

    def _cycle(self, snapshot: Snapshot, most: int) -> Plan:
        try:
            return self._cycles(snapshot, most)
        except Exception:
            # What was begun is not to be gone on with.
            self.reset()
            raise

    def _cycles(self, snapshot: Snapshot, most: int) -> Plan:
        self._follow(snapshot)
        outcome = self._scheduler.cycle(snapshot.now)
        for _ in range(most - 1):
            if outcome.admitted or outcome.preempted or not outcome.moved:
                break
            outcome = self._scheduler.cycle(snapshot.now)
        allotting = Allotting(snapshot)
        admissions = [found for one in outcome.admitted if (found := self._place(allotting, one)) is not None]
        preemptions = [part for one in outcome.preempted for part in self._preemptions(one)]
        waiting = self._roster.waiting
        heads: dict[str, str] = {}
        refusals = (
            *(self._with_fewer(self._refusal(workload.key, heads), allotting) for workload, _ in waiting),
            *self._smaller(snapshot, admissions, {workload.key for workload, _ in waiting}, allotting),
        )
        again = outcome.moved and any(not parked for _, parked in waiting)
        wake_at = snapshot.now if again else self._sampling(snapshot.now)
        return Plan(tuple(admissions), refusals, tuple(preemptions), wake_at)

    def reset(self) -> None:
        """Everything is read anew by the next plan."""
        self._quotas = None

    # What has changed since the last cycle.

    def _follow(self, snapshot: Snapshot) -> None:
        if snapshot.quotas is not self._quotas:
            self._start(snapshot)
        if snapshot.held is not self._listed:
            self._follow_held(snapshot.held)
        now = {demand.key: demand for demand in snapshot.demands}
        for key in [key for key in self._demands if key not in now]:
            del self._demands[key]
            self._homeless.discard(key)
            self._roster.drop(key)
        # What was admitted, and not carried out, asks again.
        asks = [k for k, d in now.items() if self._demands.get(k) is not d or self._roster.waits(k) is None]
        for key in sorted(asks):
            self._demands[key] = now[key]
            self._homeless.discard(key)
            self._roster.put(waiting_workload(now[key], self._settings.counted))
        if snapshot.fleet is not self._fleet:
            self._fleet = snapshot.fleet
            self._roster.unpark(sorted(self._homeless))
            self._homeless.clear()

    def _start(self, snapshot: Snapshot) -> None:
        if self._history is None and self._settings.history is not None:
            self._history = History(self._settings.history, {}, snapshot.now)
        self._quotas = snapshot.quotas
        self._roster = LiveRoster(snapshot.quotas, self._settings, history=self._history, now=snapshot.now)
        self._scheduler = LiveScheduler(self._roster)
        self._demands, self._slices, self._listed = {}, {}, None
        self._homeless, self._said = set(), {}

    def _follow_held(self, held: tuple[HeldSlice, ...]) -> None:
        self._listed = held
        found: dict[str, list[HeldSlice]] = {}
        for part in held:
            found.setdefault(part.key, []).append(part)
        for key in sorted({*self._slices, *found}):
            now = tuple(sorted(found.get(key, ()), key=lambda part: part.work))
            if now == self._slices.get(key, ()):
                continue
            if now:
                self._slices[key] = now
            else:
                del self._slices[key]
            self._roster.set_held(key, holder(now) if now else None)

    # What was decided.

    def _place(self, allotting: Allotting, one: Admitted) -> Admission | None:
        """What it gets; without a place it is parked, and others may have its quota."""
        demand, part = self._demands[one.workload.key], one.pod_sets[0]
        if not demand.place:
            given = tuple(sorted({(resource, flavor) for each in one.parts for resource, flavor, _ in each.amounts}))
            tasks = IndexSet.span(demand.waiting)
            return Admission(demand.key, one.queue, (Slice("", tasks, 1, demand.slots, given, parts=one.parts),))
        flavors = {resource: choice.flavor for resource, choice in part.flavors.items()}
        queue = self._roster.quotas.queues[one.queue]
        admission, why = allotting.allot(demand, queue, flavors, part.count)
        if admission is None:
            assert why is not None, "what is not admitted has a reason"
            self._roster.park(one.workload, Verdict(one.queue, why.reason, why.facts))
            self._homeless.add(demand.key)
        return admission

    def _preemptions(self, one: Preempted) -> Iterable[Preemption]:
        """Every slice of the job that is not on its way out already."""
        message = f"makes way for {one.preemptor}, {_WHY[one.why]}"
        for part in self._slices.get(one.held.key, ()):
            if not part.leaving:
                yield Preemption(
                    part.key, part.uid, part.work, part.epoch, part.cluster, part.queue, one.preemptor, one.why, message
                )

    def _refusal(self, key: str, heads: dict[str, str]) -> Refusal:
        """`heads`: who is asked next, by queue, as far as somebody wanted to know."""
        verdict = self._roster.verdicts[key]
        ahead = self._ahead(verdict.queue, heads) if verdict.unasked else ""
        known = self._said.get(key)
        if known is None or known[0] is not verdict or known[1] != ahead:
            known = self._said[key] = (verdict, ahead, _refusal(key, verdict, ahead))
        return known[2]

    def _ahead(self, queue: str, heads: dict[str, str]) -> str:
        """Who must have started before anybody behind is asked; empty: each has its turn in one of the next cycles."""
        if not self._roster.quotas.queues[queue].strict:
            return ""
        if queue not in heads:
            head = self._roster.lines[queue].head(self._roster.heaviness(queue))
            heads[queue] = head.key if head is not None else ""
        return heads[queue]

    def _with_fewer(self, refusal: Refusal, allotting: Allotting) -> Refusal:
        """Who would start with fewer slots is not told what all of them would take."""
        demand = self._demands.get(refusal.key)
        queue = self._queue_of(demand)
        if refusal.reason is not Reason.EXCEEDS_MAX_QUOTA or demand is None or queue is None:
            return refusal
        if demand.gang or demand.minimum is None or demand.minimum >= demand.slots:
            return refusal
        why = allotting.short(demand, queue, max(1, demand.minimum))
        return Refusal(refusal.key, why.reason, why.facts)

    def _smaller(
        self, snapshot: Snapshot, admissions: Sequence[Admission], waiting: Set[str], allotting: Allotting
    ) -> Iterator[Refusal]:
        """Whoever has fewer slots than it asks for: it keeps that size until it is over."""
        new = {one.key: sum(part.slots for part in one.slices) for one in admissions}
        for key, demand in self._demands.items():
            has = new.get(key, sum(part.slots for part in self._slices.get(key, ()) if not part.leaving))
            queue = self._queue_of(demand)
            if not has or key in waiting or queue is None or not demand.place:
                continue
            wanted = demand.slots if key in new else has + demand.slots
            if has < wanted:
                why = allotting.short(demand, queue)
                more = why.reason.message(**dict(why.facts))
                detail = f", and in mode kueue it keeps that size (one more: {more})"
                yield Refusal(key, Reason.FEWER_SLOTS, (("slots", has), ("wanted", wanted), ("detail", detail)))

    def _queue_of(self, demand: Demand | None) -> ClusterQueue | None:
        """Which pays for it, if one does now."""
        if demand is None or self._quotas is None:
            return None
        found = self._quotas.route(demand.namespace, demand.queue)
        return None if isinstance(found, Denial) else found

    def _sampling(self, now: float) -> float | None:
        """Past usage is measured at intervals, whatever happens."""
        history = self._settings.history
        return now + history.sampling if history is not None and history.half_life > 0 and self._slices else None


def _refusal(key: str, verdict: Verdict, ahead: str) -> Refusal:
    if ahead not in ("", key):
        detail = Reason.BEHIND_OLDER_JOB.message(queue=verdict.queue, ahead=ahead)
        return Refusal(key, verdict.reason, (("detail", detail),))
    if not verdict.obstacles:
        return Refusal(key, verdict.reason, verdict.facts)
    said = next((o for o in verdict.obstacles if o.reason is verdict.reason), verdict.obstacles[0])
    return Refusal(key, said.reason, said.facts(verdict.queue))
