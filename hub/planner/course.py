"""What happens from here on: decisions, carried out as they fall, and the ends of what runs. Nothing is really done.

What is admitted holds its quota and its room, who is told to go leaves and waits again, and the clock moves from one
end to the next. Who decides is the caller's (hub/planner/ways.py); when somebody starts is hub/planner/estimate.py's
question, who starts at all hub/planner/line.py's.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

from hub.api.indexset import IndexSet
from hub.fleet.changes import Charge, FleetChange, Release
from hub.fleet.shape import on_domain
from hub.planner.plan import Admission, HeldSlice, Plan, Preemption, Slice, Snapshot
from hub.queueing.assign import counted, flavored
from hub.queueing.demand import Demand, TaskGroup
from hub.queueing.objects import FlavorResource

Decide = Callable[[Snapshot], Plan]
"""A planner. It may keep what it decided: one belongs to one course."""

_ROUNDS: Final = 10_000
"""Decisions at one moment; each but the last starts something."""


def is_idle(plan: Plan, before: Plan) -> bool:
    """Whether a decision did nothing, and said what the one before it said: the next one would, too."""
    return not plan.admissions and not plan.preemptions and plan.refusals == before.refusals


@dataclass(order=True, slots=True)
class _End:
    """Something ends at `at`; `work` is what the fleet has it charged by. `back`: what of it waits again then."""

    at: float
    work: str
    queue: str = field(compare=False)
    amounts: tuple[tuple[FlavorResource, int], ...] = field(compare=False)
    back: HeldSlice | None = field(compare=False, default=None)


class Course:
    """`snapshot` is how things stand; `endless` counts what runs and does not say how long it takes. `slower`: how many
    times as long as expected everything takes. `given`: slots that jobs got, by key."""

    def __init__(self, snapshot: Snapshot, decide: Decide, slower: float = 1.0) -> None:
        self.snapshot, self.endless = snapshot, 0
        self.given: dict[str, int] = {}
        self._decide, self._slower = decide, slower
        self._usage = {queue: dict(used) for queue, used in snapshot.usage.items()}
        self._ends: list[_End] = []
        self._started = 0
        self._wake_at = math.inf
        for held in snapshot.held:
            self._ends_at(held)
        heapq.heapify(self._ends)
        for held in snapshot.held:
            if not held.leaving and held.kept is not None:
                self._resize(held.work, held.kept)

    def decide(self) -> tuple[Plan, bool]:
        """One decision, carried out; and whether another would decide more at this very moment."""
        plan = self._decide(self.snapshot)
        now = self.snapshot.now
        for admission in plan.admissions:
            self._start(admission)
        for preemption in plan.preemptions:
            if preemption.kept:
                self._resize(preemption.work, preemption.kept)
            else:
                self._send_away(preemption)
        for growth in plan.growths:
            self._resize(growth.work, growth.slots)
        again = plan.wake_at is not None and plan.wake_at <= now
        # What an elastic job gave back is there for whom it did.
        again = again or any(preemption.kept for preemption in plan.preemptions)
        self._wake_at = math.inf if plan.wake_at is None or again else plan.wake_at
        return plan, again

    def settle(self) -> Plan:
        """Decides until nothing more happens at this moment. What came out: all that was admitted and preempted, and
        why the others wait in the end."""
        admissions: list[Admission] = []
        preemptions: list[Preemption] = []
        plan = Plan()
        for _ in range(_ROUNDS):
            before = plan
            plan, again = self.decide()
            admissions += plan.admissions
            preemptions += plan.preemptions
            if not again or is_idle(plan, before):
                break
        return Plan(tuple(admissions), plan.refusals, tuple(preemptions), plan.wake_at)

    @property
    def next_at(self) -> float:
        """When something ends, or would be decided otherwise without that; infinite: never."""
        return min(self._ends[0].at if self._ends else math.inf, self._wake_at)

    def advance(self) -> None:
        """To `next_at`; all that ends then has ended."""
        at = max(self.next_at, self.snapshot.now)
        changes: list[FleetChange] = []
        gone: set[str] = set()
        back: list[HeldSlice] = []
        while self._ends and self._ends[0].at <= at:
            end = heapq.heappop(self._ends)
            if end.work in gone:
                continue
            self._use(end.queue, end.amounts, -1)
            changes.append(Release(end.work))
            gone.add(end.work)
            if end.back is not None:
                back.append(end.back)
        snapshot = self.snapshot
        demands = {demand.key: demand for demand in snapshot.demands}
        for held in back:
            demands[held.key] = waiting_again(held, demands.get(held.key))
        self.snapshot = replace(
            snapshot,
            now=at,
            fleet=snapshot.fleet.apply(changes),
            usage=self._usage,
            demands=tuple(demands.values()) if back else snapshot.demands,
            held=tuple(held for held in snapshot.held if held.work not in gone),
        )
        # Whoever went before its end came has two of them.
        self._ends = [end for end in self._ends if end.work not in gone]
        heapq.heapify(self._ends)

    def _ends_at(self, held: HeldSlice) -> None:
        now = self.snapshot.now
        if held.leaving:
            # Whether it waits again, or was cancelled, is not known.
            self._ends.append(_End(now, held.work, held.queue, held.amounts))
        elif held.expected is None:
            self.endless += 1
        else:
            began = held.started if held.started is not None else held.admitted
            # Late already: as likely now as ever.
            at = max(now, began + held.expected * self._slower)
            self._ends.append(_End(at, held.work, held.queue, held.amounts))

    def _start(self, admission: Admission) -> None:
        """Charges what was admitted, and takes it from what waits."""
        snapshot = self.snapshot
        demand = next(demand for demand in snapshot.demands if demand.key == admission.key)
        queue = snapshot.quotas.queues[admission.queue]
        each = counted(queue, demand.shape)
        changes: list[FleetChange] = []
        held: list[HeldSlice] = []
        for part in admission.slices:
            self._started += 1
            # No ManifestWork's name has a slash, so this is nobody's.
            work = f"course/{self._started:06d}"
            amounts = tuple(((flavor, r), each[r] * part.slots) for r, flavor in part.flavors if r in each)
            self._use(admission.queue, amounts, 1)
            held.append(_held(snapshot, demand, admission.queue, part, work, amounts))
            if part.cluster:
                labels = snapshot.fleet.facts(part.cluster).labels
                shape = on_domain(flavored(snapshot.quotas, demand.shape, part.flavors, labels), part.domain)
                changes.append(Charge(work, part.cluster, shape, part.slots))
            self.given[admission.key] = self.given.get(admission.key, 0) + part.slots
            if demand.expected is None:
                self.endless += 1
            else:
                waves = -(-len(part.tasks) // part.slots)
                end = _End(snapshot.now + demand.expected * waves * self._slower, work, admission.queue, amounts)
                heapq.heappush(self._ends, end)
        left = without(demand, admission)
        demands = tuple(d for d in snapshot.demands if d.key != demand.key) + ((left,) if left is not None else ())
        self.snapshot = replace(
            snapshot,
            fleet=snapshot.fleet.apply(changes),
            usage=self._usage,
            demands=demands,
            held=(*snapshot.held, *held),
        )

    def _send_away(self, preemption: Preemption) -> None:
        """It goes at once: how long it takes to stop is its own, and counts in seconds."""
        snapshot = self.snapshot
        victim = next((held for held in snapshot.held if held.work == preemption.work), None)
        if victim is None or victim.leaving:
            return
        heapq.heappush(self._ends, _End(snapshot.now, victim.work, victim.queue, victim.amounts, victim))
        self.endless -= victim.expected is None
        held = tuple(replace(one, leaving=True) if one is victim else one for one in snapshot.held)
        self.snapshot = replace(snapshot, held=held)

    def _resize(self, work: str, slots: int) -> None:
        """A slice of an elastic job gives slots back, at once, or has more."""
        snapshot = self.snapshot
        held = next((one for one in snapshot.held if one.work == work), None)
        if held is None or not held.slots:
            return
        amounts = tuple((key, value // held.slots * slots) for key, value in held.amounts)
        self._use(held.queue, held.amounts, -1)
        self._use(held.queue, amounts, 1)
        now = replace(held, slots=slots, amounts=amounts, kept=None, spare=max(0, held.spare + held.slots - slots))
        # In place: what orders them is none of what has changed.
        self._ends = [replace(end, amounts=amounts) if end.work == work else end for end in self._ends]
        fleet = snapshot.fleet
        there = fleet.held(held.cluster).get(work) if held.cluster in fleet else None
        if there is not None:
            fleet = fleet.apply([Charge(work, held.cluster, there.shape, slots)])
        held_now = tuple(now if one is held else one for one in snapshot.held)
        self.snapshot = replace(snapshot, fleet=fleet, usage=self._usage, held=held_now)

    def _use(self, queue: str, amounts: tuple[tuple[FlavorResource, int], ...], sign: int) -> None:
        used = self._usage.setdefault(queue, {})
        for resource, amount in amounts:
            used[resource] = used.get(resource, 0) + sign * amount


def without(demand: Demand, admission: Admission) -> Demand | None:
    """What still waits of a job when these slices have started; None when nothing does."""
    taken: dict[int, IndexSet] = {}
    for part in admission.slices:
        taken[part.attempt] = taken.get(part.attempt, IndexSet()) | part.tasks
    groups = []
    for group in demand.groups:
        tasks = group.tasks - taken.get(group.attempt, IndexSet())
        if tasks:
            groups.append(TaskGroup(tasks, group.attempt, group.avoid))
    slots = demand.slots - sum(part.slots for part in admission.slices)
    if not groups or slots <= 0:
        return None
    running = tuple(sorted({*demand.running, *(part.cluster for part in admission.slices if part.cluster)}))
    active = demand.active + demand.slots - slots
    return replace(demand, groups=tuple(groups), slots=slots, running=running, active=active)


def waiting_again(held: HeldSlice, beside: Demand | None = None) -> Demand:
    """What a slice that is gone asks for anew, with what of its job waits already. Which tasks it had is not known
    here, only how many ran: those are what competes."""
    if beside is not None:
        last = max((span[1] for group in beside.groups for span in group.tasks.ranges), default=-1)
        again = TaskGroup(IndexSet.of_ranges([(last + 1, last + held.slots)]), 1)
        return replace(beside, groups=(*beside.groups, again), slots=beside.slots + held.slots)
    demand = Demand(
        key=held.key,
        uid=held.uid,
        namespace=held.key.partition("/")[0],
        queue=held.local,
        priority=held.priority,
        created=held.created,
        shape=held.shape,
        groups=(TaskGroup(IndexSet.span(held.slots), 1),),
        slots=held.slots,
        gang=held.gang,
        expected=held.expected,
        place=held.place,
        minimum=None,
        bounds=held.bounds,
    )
    return demand if held.rule is None else replace(demand, rule=held.rule)


def _held(
    snapshot: Snapshot,
    demand: Demand,
    queue: str,
    part: Slice,
    work: str,
    amounts: tuple[tuple[FlavorResource, int], ...],
) -> HeldSlice:
    return HeldSlice(
        key=demand.key,
        uid=demand.uid,
        work=work,
        epoch=1,
        cluster=part.cluster,
        queue=queue,
        local=demand.queue,
        priority=demand.priority,
        created=demand.created,
        admitted=snapshot.now,
        started=snapshot.now,
        shape=demand.shape,
        slots=part.slots,
        amounts=amounts,
        expected=demand.expected,
        gang=demand.gang,
        rule=demand.rule,
        place=demand.place,
        bounds=demand.bounds,
        spare=len(part.tasks) - part.slots if demand.bounds is not None else 0,
        domain=part.domain,
    )
