"""When a waiting job is likely to start: the planner itself, run forward over the ends that are to be expected.

What runs is taken to end when its job said it would (`expectedDuration`), what starts in between likewise, and at every
end the cycle decides as it would then. The range goes from "all take as long as they say" to "all take `SLOWER` times
as long". What does not say how long it takes never ends here: if the job does not start without such an end, there is
no estimate, and the reason says so. Nothing is known here of jobs that nobody has submitted yet.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

from hub.api.indexset import IndexSet
from hub.api.reasons import Reason
from hub.api.timestamps import format_time, from_timestamp
from hub.fleet.changes import Charge, FleetChange, Release
from hub.fleet.shape import on_domain
from hub.planner.plan import Admission, HeldSlice, Plan, Snapshot
from hub.queueing.assign import counted, flavored
from hub.queueing.demand import Demand, TaskGroup
from hub.queueing.objects import FlavorResource

SLOWER: Final = 2.0
# Reasons that no end of what runs takes away.
_FOR_GOOD: Final = frozenset(
    {
        Reason.QUEUE_NOT_FOUND, Reason.QUEUE_INACTIVE, Reason.NAMESPACE_MISMATCH, Reason.NO_MATCHING_FLAVOR,
        Reason.EXCEEDS_MAX_QUOTA, Reason.INVALID_SPEC, Reason.NO_CLUSTERS, Reason.NO_CLUSTER_FITS,
    }
)  # fmt: skip
MOST_STEPS: Final = 64
"""Ends that are looked at: farther ahead an estimate would be a guess."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """`earliest` and `latest` are epoch seconds of the job's first task's start; None: unknown, and `why` says it."""

    earliest: float | None
    latest: float | None
    why: str = ""


def estimate_document(found: Estimate) -> dict[str, str]:
    """For programs; times as on the wire. What is not known is not there, and `unknownBecause` says why."""
    document: dict[str, str] = {}
    if found.earliest is not None:
        document["earliest"] = format_time(from_timestamp(found.earliest))
    if found.latest is not None:
        document["latest"] = format_time(from_timestamp(found.latest))
    if found.why:
        document["unknownBecause"] = found.why
    return document


def estimate(snapshot: Snapshot, key: str, decide: Callable[[Snapshot], Plan]) -> Estimate:
    """Of the waiting job `key`; `decide` is the planner."""
    if not any(demand.key == key for demand in snapshot.demands):
        return Estimate(None, None, "it does not wait")
    first = _Course(snapshot, 1.0, decide).start_of(key)
    if first.at is None:
        return Estimate(None, None, first.why)
    last = first if first.at <= snapshot.now else _Course(snapshot, SLOWER, decide).start_of(key)
    return Estimate(first.at, last.at, last.why if last.at is None else "")


@dataclass(frozen=True, slots=True)
class _Start:
    at: float | None
    why: str = ""


@dataclass(order=True, slots=True)
class _End:
    """Something ends at `at`; `work` is what the fleet has it charged by."""

    at: float
    work: str
    queue: str = field(compare=False)
    amounts: tuple[tuple[FlavorResource, int], ...] = field(compare=False)


class _Course:
    """One run forward. The clock moves from end to end."""

    def __init__(self, snapshot: Snapshot, slower: float, decide: Callable[[Snapshot], Plan]) -> None:
        self._snapshot, self._slower, self._decide = snapshot, slower, decide
        self._usage = {queue: dict(used) for queue, used in snapshot.usage.items()}
        self._ends: list[_End] = []
        self._endless = 0
        self._started = 0
        for held in snapshot.held:
            self._ends_at(held)
        heapq.heapify(self._ends)

    def start_of(self, key: str) -> _Start:
        for _ in range(MOST_STEPS):
            plan = self._decide(self._snapshot)
            if any(admission.key == key for admission in plan.admissions):
                return _Start(self._snapshot.now)
            for admission in plan.admissions:
                self._start(admission)
            if any(preemption.preemptor == key for preemption in plan.preemptions):
                # Those who make way are told now; how long they take is theirs.
                return _Start(self._snapshot.now)
            if any(refusal.key == key and refusal.reason in _FOR_GOOD for refusal in plan.refusals):
                return _Start(None, "waiting alone does not help")
            if not self._ends:
                return _Start(None, self._nothing_ends())
            self._end_next()
        return _Start(None, f"more than {MOST_STEPS} others end before it")

    def _nothing_ends(self) -> str:
        if self._endless == 1:
            return "one running slice ahead of it does not say how long it takes (expectedDuration)"
        if self._endless:
            return f"{self._endless} running slices ahead of it do not say how long they take (expectedDuration)"
        return "nothing that runs would make room for it"

    def _ends_at(self, held: HeldSlice) -> None:
        now = self._snapshot.now
        if held.leaving:
            self._ends.append(_End(now, held.work, held.queue, held.amounts))
        elif held.expected is None:
            self._endless += 1
        else:
            began = held.started if held.started is not None else held.admitted
            # Late already: as likely now as ever.
            at = max(now, began + held.expected * self._slower)
            self._ends.append(_End(at, held.work, held.queue, held.amounts))

    def _start(self, admission: Admission) -> None:
        """Charges what was admitted, and takes it from what waits."""
        snapshot = self._snapshot
        demand = next(demand for demand in snapshot.demands if demand.key == admission.key)
        queue = snapshot.quotas.queues[admission.queue]
        each = counted(queue, demand.shape)
        takes = demand.expected
        changes: list[FleetChange] = []
        for part in admission.slices:
            self._started += 1
            # No ManifestWork's name has a slash, so this is nobody's.
            work = f"estimate/{self._started:06d}"
            amounts = tuple(((flavor, r), each[r] * part.slots) for r, flavor in part.flavors if r in each)
            self._use(admission.queue, amounts, 1)
            if part.cluster:
                labels = snapshot.fleet.facts(part.cluster).labels
                shape = on_domain(flavored(snapshot.quotas, demand.shape, part.flavors, labels), part.domain)
                changes.append(Charge(work, part.cluster, shape, part.slots))
            if takes is None:
                self._endless += 1
            else:
                waves = -(-len(part.tasks) // part.slots)
                end = _End(snapshot.now + takes * waves * self._slower, work, admission.queue, amounts)
                heapq.heappush(self._ends, end)
        left = _without(demand, admission)
        demands = tuple(d for d in snapshot.demands if d.key != demand.key) + ((left,) if left is not None else ())
        self._snapshot = replace(
            snapshot, fleet=snapshot.fleet.apply(changes), usage=self._usage, demands=demands, held=snapshot.held
        )

    def _end_next(self) -> None:
        """The next end, and all that end at the same moment."""
        at = self._ends[0].at
        changes: list[FleetChange] = []
        gone = set()
        while self._ends and self._ends[0].at <= at:
            end = heapq.heappop(self._ends)
            self._use(end.queue, end.amounts, -1)
            changes.append(Release(end.work))
            gone.add(end.work)
        snapshot = self._snapshot
        self._snapshot = replace(
            snapshot,
            now=max(snapshot.now, at),
            fleet=snapshot.fleet.apply(changes),
            usage=self._usage,
            held=tuple(held for held in snapshot.held if held.work not in gone),
        )

    def _use(self, queue: str, amounts: tuple[tuple[FlavorResource, int], ...], sign: int) -> None:
        used = self._usage.setdefault(queue, {})
        for resource, amount in amounts:
            used[resource] = used.get(resource, 0) + sign * amount


def _without(demand: Demand, admission: Admission) -> Demand | None:
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
