"""Random cohorts with jobs that wait and jobs that run, decided cycle by cycle until nothing changes; in both modes.

Nothing ends and nothing arrives meanwhile: whatever happens is the queue's own doing, so a queue that is sound comes
to rest. What is checked of the outcome is said by who uses it (tests/planner, bench/fuzz_queue.py).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from hub.api.indexset import IndexSet
from hub.fleet.changes import CapacitySeen, Charge, ClusterSeen, FleetChange, Release
from hub.fleet.fleet import Fleet
from hub.fleet.shape import TaskShape
from hub.planner.cycle import plan
from hub.planner.plan import HeldSlice, Plan, Snapshot
from hub.queueing.assign import counted, flavored
from hub.queueing.demand import Demand, TaskGroup
from hub.queueing.fleet.policy import FleetPolicy
from hub.queueing.kueue.cycle import Scheduler
from hub.queueing.kueue.roster import Roster
from hub.queueing.kueue.settings import FINAL, INITIAL, Settings, Strategy
from hub.queueing.kueue.workload import Held, PodSet, Workload
from hub.queueing.objects import FlavorResource
from hub.queueing.quotas import Quotas
from hub.queueing.usage import TreeUsage

_API: Final = "kueue.x-k8s.io/v1beta2"
FLAVORS: Final = ("a", "b")
STRATEGIES: Final[tuple[tuple[Strategy, ...], ...]] = ((), (FINAL, INITIAL), (FINAL,), (INITIAL,))
MOST_CYCLES: Final = 200
NOW: Final = 1_000.0


@dataclass(frozen=True, slots=True)
class Job:
    """`slots` tasks, each of `cpu`; `flavor` is what it runs in at the start, empty: it waits.

    `least`: an elastic job's minimum, whose maximum is `slots`; it starts with `has` slots. 0: it is not elastic.
    """

    name: str
    queue: str
    cpu: int
    slots: int
    priority: int
    created: float
    gang: bool
    flavor: str = ""
    cluster: str = ""
    since: float = 0.0
    least: int = 0
    has: int = 0

    @property
    def key(self) -> str:
        return f"default/{self.name}"

    @property
    def bounds(self) -> tuple[int, int] | None:
        return (self.least, self.slots) if self.least else None


@dataclass(frozen=True, slots=True)
class Case:
    """`clusters`: CPUs of each cluster (one node), none: only quota is decided. `notice`: cycles until a victim is
    gone."""

    objects: tuple[Mapping[str, Any], ...]
    jobs: tuple[Job, ...]
    strategies: tuple[Strategy, ...]
    clusters: tuple[int, ...] = ()
    notice: int = 0

    @property
    def quotas(self) -> Quotas:
        return Quotas.parse(self.objects)


def random_case(rng: random.Random, *, places: bool, arrays: bool, elastic: bool = False) -> Case:
    """Up to three levels of cohorts, up to six queues, up to twenty-six jobs; `elastic`: half of them are."""
    objects, queues = _cohorts(rng)
    clusters = tuple(rng.randrange(2, 9) for _ in range(rng.randrange(1, 4))) if places else ()
    free = list(clusters)
    jobs = []
    for number in range(rng.randrange(2, 27)):
        gang = not arrays or rng.random() < 0.5
        job = Job(
            f"j{number}",
            rng.choice(queues),
            rng.randrange(1, 4),
            rng.choice([1, 1, 2, 3, 5]),
            rng.randrange(3),
            float(rng.randrange(5)),
            gang,
        )
        if elastic and rng.random() < 0.5:
            job = replace(job, slots=rng.randrange(1, 9), gang=rng.random() < 0.5)
            job = replace(job, least=rng.randrange(1, min(3, job.slots) + 1))
            job = replace(job, has=rng.randrange(job.least, job.slots + 1))
        if rng.random() < 0.4:
            flavor, since = rng.choice(FLAVORS), float(rng.randrange(5))
            where = rng.randrange(len(free)) if free else 0
            if not free:
                job = replace(job, flavor=flavor, since=since)
            elif free[where] >= job.cpu * (job.has or job.slots):
                free[where] -= job.cpu * (job.has or job.slots)
                job = replace(job, flavor=flavor, since=since, cluster=f"c{where}")
        jobs.append(job)
    return Case(tuple(objects), tuple(jobs), rng.choice(STRATEGIES), clusters, rng.choice([0, 0, 1, 2]))


class Run:
    """A case in mode fleet. `look` is called with every snapshot and what was decided about it."""

    def __init__(self, case: Case, policy: FleetPolicy | None = None) -> None:
        self.case = case
        self.policy = replace(policy or FleetPolicy(), strategies=case.strategies)
        self.quotas = case.quotas
        self.jobs = {job.key: job for job in case.jobs}
        self.slices: dict[str, HeldSlice] = {}
        self.leaves: dict[str, int] = {}
        self.tasks: dict[str, int] = {}
        self.preempted: dict[str, int] = {}
        self.shrinks: dict[str, int] = {}
        self.preemptions = self.admissions = self.cycles = self.grown = self.shrunk = 0
        self.settled = False
        self.fleet = fleet_of(case.clusters)
        self._works = 0
        for job in case.jobs:
            if job.flavor:
                self._start(job, job.cluster, job.has or job.slots, (("cpu", job.flavor),), job.since, job.slots)

    def settle(self, look: Callable[[Snapshot, Plan], None] = lambda snapshot, decided: None) -> Run:
        while not self.settled and self.cycles < MOST_CYCLES:
            self.step(look)
        return self

    def step(self, look: Callable[[Snapshot, Plan], None] = lambda snapshot, decided: None) -> None:
        snapshot = self.snapshot()
        decided = plan(snapshot)
        look(snapshot, decided)
        self.cycles += 1
        moves = decided.admissions or decided.preemptions or decided.growths or self.leaves or self.shrinks
        self.settled = not moves
        for work in [work for work, left in self.shrinks.items() if left <= 0]:
            kept = self.slices[work].kept
            assert kept is not None
            del self.shrinks[work]
            self._resize(work, kept)
        self.shrinks = {work: left - 1 for work, left in self.shrinks.items()}
        for work in [work for work, left in self.leaves.items() if left <= 0]:
            self._end(work)
        self.leaves = {work: left - 1 for work, left in self.leaves.items()}
        for gone in decided.preemptions:
            held = self.slices[gone.work]
            assert not held.leaving, "who is on the way out is not sent away again"
            assert held.kept is None, "who is being made smaller is left alone until that is done"
            if gone.shrinks:
                self.shrunk += 1
            else:
                self.preemptions += 1
                self.preempted[gone.key] = self.preempted.get(gone.key, 0) + 1
            if gone.kept and self.case.notice:
                self.slices[gone.work] = replace(held, kept=gone.kept)
                self.shrinks[gone.work] = self.case.notice - 1
            elif gone.kept:
                self._resize(gone.work, gone.kept)
            elif self.case.notice:
                self.slices[gone.work] = replace(self.slices[gone.work], leaving=True)
                self.leaves[gone.work] = self.case.notice - 1
            else:
                self._end(gone.work)
        for admission in decided.admissions:
            self.admissions += 1
            job = self.jobs[admission.key]
            for part in admission.slices:
                self._start(job, part.cluster, part.slots, part.flavors, NOW + self.cycles, len(part.tasks))
        for growth in decided.growths:
            self.grown += 1
            self._resize(growth.work, growth.slots)

    def snapshot(self) -> Snapshot:
        usage: dict[str, dict[FlavorResource, int]] = {}
        for held in self.slices.values():
            for key, value in held.amounts:
                into = usage.setdefault(held.queue, {})
                into[key] = into.get(key, 0) + value
        demands = [demand for job in self.case.jobs if (demand := self._demand(job)) is not None]
        slices = tuple(replace(one, preempted=self.preempted.get(one.key, 0)) for one in self.slices.values())
        return Snapshot(
            NOW + self.cycles, self.fleet, self.quotas, usage, tuple(demands), held=slices, policy=self.policy
        )

    def running(self, key: str) -> int:
        return sum(held.stays for held in self.slices.values() if held.key == key)

    def usage(self, queue: str) -> TreeUsage:
        """Of the tree that the queue is in."""
        tree = self.quotas.trees[queue]
        usage = TreeUsage(tree)
        for held in self.slices.values():
            if held.queue in tree.position:
                usage.add(tree.position[held.queue], held.amounts)
        return usage

    def _demand(self, job: Job) -> Demand | None:
        has = [held for held in self.slices.values() if held.key == job.key]
        waiting = job.slots - sum(self.tasks[held.work] for held in has)
        slots = job.slots - sum(held.slots for held in has)
        if waiting <= 0 or slots <= 0:
            return None
        return Demand(
            key=job.key,
            uid=job.name,
            namespace="default",
            queue=job.queue,
            priority=job.priority,
            created=job.created,
            shape=_shape(job),
            groups=(TaskGroup(IndexSet.span(waiting), 1),),
            slots=slots,
            gang=job.gang,
            place=bool(self.case.clusters),
            running=tuple(sorted({held.cluster for held in has})),
            active=sum(held.slots for held in has if not held.leaving),
            bounds=job.bounds,
        )

    def _start(
        self, job: Job, cluster: str, slots: int, flavors: tuple[tuple[str, str], ...], admitted: float, tasks: int = 0
    ) -> None:
        self._works += 1
        work = f"w{self._works:04}"
        self.tasks[work] = tasks or slots
        amounts = counted(self.quotas.queues[job.queue], _shape(job))
        self.slices[work] = HeldSlice(
            key=job.key,
            uid=job.name,
            work=work,
            epoch=self._works,
            cluster=cluster,
            queue=job.queue,
            priority=job.priority,
            created=job.created,
            admitted=admitted,
            shape=_shape(job),
            slots=slots,
            amounts=tuple(((flavor, resource), amounts[resource] * slots) for resource, flavor in flavors),
            gang=job.gang,
            place=bool(self.case.clusters),
            local=job.queue,
            bounds=job.bounds,
            spare=self._spare(job, work, slots),
        )
        if cluster:
            asked = flavored(self.quotas, _shape(job), flavors, self.fleet.facts(cluster).labels)
            self.fleet = self.fleet.apply([Charge(work, cluster, asked, slots)])

    def _spare(self, job: Job, work: str, slots: int) -> int:
        return self.tasks[work] - slots if job.least else 0

    def _resize(self, work: str, slots: int) -> None:
        held = self.slices[work]
        amounts = tuple((key, value // held.slots * slots) for key, value in held.amounts)
        spare = self._spare(self.jobs[held.key], work, slots)
        self.slices[work] = replace(held, slots=slots, amounts=amounts, kept=None, spare=spare)
        if held.cluster:
            there = self.fleet.held(held.cluster)[work]
            self.fleet = self.fleet.apply([Charge(work, held.cluster, there.shape, slots)])

    def _end(self, work: str) -> None:
        self.slices.pop(work)
        self.tasks.pop(work)
        self.leaves.pop(work, None)
        self.shrinks.pop(work, None)
        self.fleet = self.fleet.apply([Release(work)])


@dataclass(slots=True)
class KueueRun:
    """The same case in mode kueue, as far as quota goes."""

    settled: bool = False
    cycles: int = 0
    preemptions: int = 0
    admissions: int = 0
    usage: Mapping[str, Mapping[FlavorResource, int]] = field(default_factory=dict)


def kueue_run(case: Case) -> KueueRun:
    waiting, held = [], []
    quotas = case.quotas
    for job in case.jobs:
        pods = (PodSet("main", job.slots, (("cpu", job.cpu * 1000),)),)
        workload = Workload(job.key, job.name, "default", job.queue, job.priority, job.created, pods)
        if job.flavor:
            amounts = (((job.flavor, "cpu"), job.cpu * 1000 * job.slots),)
            held.append(Held(workload, job.queue, amounts, job.since))
        else:
            waiting.append(workload)
    scheduler = Scheduler(Roster(quotas, Settings(strategies=case.strategies), waiting=waiting, held=held, now=NOW))
    run = KueueRun()
    while not run.settled and run.cycles < MOST_CYCLES:
        outcome = scheduler.cycle(NOW + run.cycles)
        run.cycles += 1
        run.admissions += len(outcome.admitted)
        run.preemptions += len(outcome.preempted)
        run.settled = not outcome.moved
    run.usage = scheduler.roster.usage()
    return run


def _shape(job: Job) -> TaskShape:
    return TaskShape(requests=(("cpu", job.cpu * 1000),))


def fleet_of(clusters: tuple[int, ...]) -> Fleet:
    changes: list[FleetChange] = []
    for number, cpus in enumerate(clusters):
        name = f"c{number}"
        changes.append(
            ClusterSeen(
                {
                    "metadata": {"name": name},
                    "spec": {"hubAcceptsClient": True},
                    "status": {"conditions": [{"type": "ManagedClusterConditionAvailable", "status": "True"}]},
                }
            )
        )
        group = {"name": "nodes", "count": 1, "labels": {}, "taints": [], "allocatable": {"cpu": str(cpus)}}
        changes.append(CapacitySeen({"metadata": {"name": name, "namespace": name}, "status": {"nodeGroups": [group]}}))
    return Fleet.empty().apply(changes)


def _cohorts(rng: random.Random) -> tuple[list[dict[str, Any]], list[str]]:
    found: list[dict[str, Any]] = [_object("ResourceFlavor", name, {}) for name in FLAVORS]
    found.append(_object("Cohort", "root", {"resourceGroups": _groups(rng, 0.2, borrows=False)}))
    cohorts = ["root"]
    for number in range(rng.randrange(4)):
        spec = {"parentName": rng.choice(cohorts), "fairSharing": _weight(rng), "resourceGroups": _groups(rng, 0.3)}
        found.append(_object("Cohort", f"cohort{number}", spec))
        cohorts.append(f"cohort{number}")
    queues = [f"q{number}" for number in range(rng.randrange(1, 7))]
    for name in queues:
        reclaim = rng.choice(["Never", "LowerPriority", "Any", "Any"])
        borrow = rng.choice(["Never", "LowerPriority"]) if reclaim != "Never" else "Never"
        inside = rng.random() < 0.9
        spec = {
            "namespaceSelector": {},
            "resourceGroups": _groups(rng, 1.0, borrows=inside),
            "queueingStrategy": rng.choice(["StrictFIFO", "BestEffortFIFO", "BestEffortFIFO"]),
            "fairSharing": _weight(rng),
            "preemption": {
                "reclaimWithinCohort": reclaim,
                "withinClusterQueue": rng.choice(["Never", "LowerPriority", "LowerOrNewerEqualPriority"]),
                "borrowWithinCohort": {"policy": borrow, **rng.choice([{}, {"maxPriorityThreshold": 1}])},
            },
            "flavorFungibility": {
                "whenCanBorrow": rng.choice(["MayStopSearch", "TryNextFlavor"]),
                "whenCanPreempt": rng.choice(["MayStopSearch", "TryNextFlavor"]),
            },
        }
        if inside:
            spec["cohortName"] = rng.choice(cohorts)
        found.append(_object("ClusterQueue", name, spec))
        local = _object("LocalQueue", name, {"clusterQueue": name})
        local["metadata"]["namespace"] = "default"
        found.append(local)
    return found, queues


def _object(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": _API, "kind": kind, "metadata": {"name": name}, "spec": spec}


def _weight(rng: random.Random) -> dict[str, str]:
    return {"weight": rng.choice(["0", "500m", "1", "1", "2"])}


def _groups(rng: random.Random, chance: float, *, borrows: bool = True) -> list[dict[str, Any]]:
    if rng.random() > chance:
        return []
    flavors = []
    for name in FLAVORS:
        nominal = rng.randrange(9)
        entry: dict[str, Any] = {"name": "cpu", "nominalQuota": nominal}
        if borrows and rng.random() < 0.3:
            entry["lendingLimit"] = rng.randrange(nominal + 1)
        if borrows and rng.random() < 0.3:
            entry["borrowingLimit"] = rng.randrange(6)
        flavors.append({"name": name, "resources": [entry]})
    return [{"coveredResources": ["cpu"], "flavors": flavors}]
