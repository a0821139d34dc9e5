"""The state of a fleet made from objects, to decide about and to go on from: files, or one listing of a live hub.

The same values and the same code as the running hub's: its world, its job table's entries, its fold. What differs is
that nothing is written; a plan is carried out by assuming its slices, as the hub does until the API has answered.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Final

from hub.api import resource
from hub.api.conditions import find_condition
from hub.api.errors import InvalidObjectError
from hub.api.reasons import Reason
from hub.api.timestamps import format_time, from_timestamp
from hub.controllers.checking import Answers
from hub.controllers.foreign_workload import Holding, Waiting, mirrored, read_workload
from hub.controllers.holdings import Holdings, holder_of
from hub.controllers.limits import Limits
from hub.controllers.past_usage import read_past
from hub.controllers.seen import read_job, read_work
from hub.controllers.seen import read_workload as read_mirror
from hub.controllers.table import JobEntry
from hub.controllers.world import World
from hub.fleet.changes import Charge, Release
from hub.fleet.shape import on_domain
from hub.jobs.fold import demand_of, fold
from hub.jobs.state import JobState
from hub.jobs.works import attempt_from_work, slice_to_work
from hub.placement.rule import ClusterRule
from hub.planner.kueue_answers import KueueWay
from hub.planner.plan import HeldSlice, Plan, Refusal, Slice, Snapshot
from hub.planner.ways import Blocked, FleetWay, Way
from hub.queueing.assign import flavored
from hub.queueing.demand import Demand
from hub.queueing.kueue.history import History
from hub.queueing.ledger import change, summed
from hub.queueing.objects import FlavorResource
from hub.scoring.interface import WeightedScorer
from hub.scoring.state import ScoreState
from hub.server.departures import Departure, Departures
from hub.server.planned_job import Job, ended, preempted, resized, told, unready
from hub.server.reading import Json, Objects
from hub.server.reserved import Reserved
from hub.server.rules import Rules
from hub.server.world_reading import read_world

_FOR_EVER: Final = float("inf")


class State:
    """Jobs, Workloads of others, quota and fleet at `now` (epoch seconds). `notes` is what has no effect, in words."""

    def __init__(
        self,
        objects: Objects,
        now: float,
        scorers: Sequence[WeightedScorer],
        *,
        live: bool = False,
        scores: ScoreState | None = None,
        rules: Rules | None = None,
    ) -> None:
        """`live`: the objects are a hub's, so an empty fleet is one; from files it means that only quota is decided.
        `scores`: what that hub's scorers know; `scorers` are made of it then. `rules`: how its queue decides.

        What is malformed is added to `objects.problems`; call `objects.check()` before anything is made of the state.
        """
        self.now, self._live = now, live
        self.scorers = tuple(scorers)
        self.scores = scores
        self.rules = rules or Rules()
        self.notes: set[str] = set()
        self.jobs: dict[str, Job] = {}
        self.workloads: dict[str, Waiting] = {}
        # Workloads of others as they were read.
        self.foreign: dict[str, Json] = {}
        self.world = World(self.rules.settings.counted)
        self.limits = Limits(self.world, self.rules.ready, self.rules.policy.notice, lambda: self.now)
        self.departures = Departures(self.rules.ready)
        # Workloads that may not be admitted before that moment (epoch seconds).
        self.resting: dict[str, tuple[float, Waiting]] = {}
        self._due: frozenset[str] = frozenset()
        self.answers = Answers(self.world, lambda: self.now)
        self.placing = live or bool(objects.of(resource.MANAGED_CLUSTERS))
        self._holdings = Holdings(self.world)
        self._reserved = Reserved()
        self.world.in_force.used = self.usage
        self.notes |= set(read_world(self.world, objects, scores))
        self._read_jobs(objects)
        self._read_workloads(objects)
        self._decides = self._way(objects) if self.rules.kueue else FleetWay()

    @property
    def way(self) -> Way:
        """How the hub decides now."""
        late = self.late()
        return Blocked(self._decides, late) if late else self._decides

    def late(self) -> str:
        """Who is admitted and not up, where that keeps others from starting; empty: nobody."""
        ready = self.rules.ready
        if ready is None or not ready.block:
            return ""
        own = [str(job.seen.ref) for job in self.jobs.values() if unready(job, self.limits)]
        return ", ".join(sorted([*own, *self.departures.unready()])[:3])

    def snapshot(self) -> Snapshot:
        self.world.refresh()
        for key in [key for key, (at, _) in self.resting.items() if at <= self.now]:
            self.workloads[key] = self.resting.pop(key)[1]
        demands = self.demands()
        demands += [waiting.demand for waiting in self.workloads.values() if waiting.demand is not None]
        return Snapshot(
            now=self.now,
            fleet=self.world.fleet,
            quotas=self.world.quotas,
            usage=self.usage(),
            demands=tuple(demands if self.placing else (replace(demand, place=False) for demand in demands)),
            sets=self.world.sets,
            scorers=self.scorers,
            held=self._held(),
            policy=self.rules.policy,
        )

    def demands(self) -> list[Demand]:
        """Of the hub's own jobs."""
        return [demand for job in self.jobs.values() if (demand := self._demand(job)) is not None]

    def job_slices(self) -> dict[str, list[HeldSlice]]:
        """What of the hub's own jobs holds quota, by the job's key; none of it on clusters that are cut off."""
        found: dict[str, list[HeldSlice]] = {}
        for one in self._holdings.slices:
            found.setdefault(one.key, []).append(one)
        return found

    def out_of_reach(self) -> dict[str, dict[FlavorResource, int]]:
        """What the hub's own jobs hold besides: of what is cut off nobody can be sent away."""
        left = {queue: dict(used) for queue, used in self._holdings.usage.items()}
        for one in self._holdings.slices:
            change(left, one.queue, one.amounts, -1)
        return left

    def demand_of(self, key: str) -> Demand | None:
        """What of one of the hub's own jobs waits."""
        job = next((job for job in self.jobs.values() if job.key == key), None)
        return self._demand(job) if job is not None else None

    def held_by(self, job: Job) -> dict[FlavorResource, int]:
        """What quota one of the hub's own jobs holds."""
        return self._holdings.of(job.entry.uid)

    def problems(self) -> set[str]:
        """What of clusters, sets and queues could not be read or agreed, in words."""
        world = self.world
        found = {f"cluster {name}: {problem}" for name, problem in world.fleet.problems.items()}
        found |= {f"cluster set or binding {name}: {problem}" for name, problem in world.sets.problems.items()}
        # A hub that runs says it of the queue itself.
        found |= {one.words for one in world.drift if one.in_force != one.declared and not self._live}
        return found | {f"{name}: {problem}" for name, problem in world.quotas.problems.items()}

    def usage(self) -> dict[str, dict[FlavorResource, int]]:
        """What is held, by ClusterQueue."""
        return summed(self._holdings.usage, self._reserved.usage)

    def due(self) -> list[Departure]:
        """Who has to give quota back now whoever else waits, by key; it counts as on its way out from here on."""
        self.world.refresh()
        for job in self.jobs.values():
            self._fold(job)
        found = [Departure(job.key, *told(job.evictions)) for job in self.jobs.values() if job.evictions]
        found += self.departures.due(self.world.quotas, self.now)
        self._due = frozenset(one.key for one in found)
        return sorted(found, key=lambda one: one.key)

    def depart(self, gone: Iterable[Departure]) -> None:
        """They have given it back, and wait again as far as they may."""
        jobs = {job.key: job for job in self.jobs.values()}
        for one in gone:
            job = jobs.get(one.key)
            if job is not None:
                for attempt, cause in job.evictions:
                    ended(job, attempt, cause.reason.code, cause.message, self.now)
                self._fold(job)
                continue
            self.departures.gone(one.key)
            for work, waiting in self._reserved.take(one.key):
                self.world.charge([Release(work)])
                self._rest(waiting, one)
        self._due = frozenset()

    def _rest(self, waiting: Waiting, one: Departure) -> None:
        demand = waiting.demand
        if demand is None or one.why.deactivated:
            self.workloads[waiting.key] = replace(waiting, demand=None)
            return
        if one.why.to_the_end:
            waiting = replace(waiting, demand=replace(demand, queued=self.now))
        if one.why.back_at > self.now:
            self.resting[waiting.key] = (one.why.back_at, waiting)
        else:
            self.workloads[waiting.key] = waiting

    def carry_out(self, decided: Plan) -> None:
        """Assumes every slice, and remembers of every job why it waits."""
        by_key = {job.key: job for job in self.jobs.values()}
        refusals = {refusal.key: refusal for refusal in decided.refusals}
        for preemption in decided.preemptions:
            job = self.jobs.get(preemption.uid)
            if job is not None and preemption.kept:
                resized(job, preemption.epoch, preemption.kept)
            elif job is not None:
                preempted(job, preemption)
        for growth in decided.growths:
            resized(self.jobs[growth.uid], growth.epoch, growth.slots)
        for work, waiting in self._reserved.leave(decided.preemptions):
            self.world.charge([Release(work)])
            self.workloads[waiting.key] = waiting
            self.departures.gone(waiting.key)
        for admission in decided.admissions:
            job = by_key.get(admission.key)
            if job is not None:
                self._start(job, admission.queue, admission.slices)
            else:
                self._reserve(self.workloads.pop(admission.key), admission.queue, admission.slices)
        for job in self.jobs.values():
            refusal = refusals.get(job.key)
            if refusal != job.refusal or job.key in refusals:
                job.refusal = refusal
            self._fold(job)

    def told(self, job: Job, refusal: Refusal | None) -> JobState:
        """The job's state once it knows why it waits."""
        job.refusal = refusal
        self._fold(job)
        assert job.entry.state is not None, "only a job that can be read is decided about"
        return job.entry.state

    # What is read.

    def _read_jobs(self, objects: Objects) -> None:
        for kind in (resource.FLEET_JOBS, resource.JOBS):
            for source in objects.sources(kind):
                obj = self.dated(source.obj, kind.kind)
                seen = read_job(obj)
                if seen is None:
                    continue
                if seen.spec is None:
                    objects.problem(source, InvalidObjectError(seen.problem))
                self.jobs[seen.ref.uid] = Job(JobEntry(seen.ref, seen=seen), seen, seen.problem)
        for work in objects.of(resource.MANIFEST_WORKS):
            found = read_work(dict(work))
            job = self.jobs.get(found.job.uid) if found is not None else None
            if found is not None and job is not None:
                job.entry.works[found.key] = found
        for workload in objects.of(resource.WORKLOADS):
            mirror = read_mirror(dict(self.dated(workload, "Workload")))
            if mirror.owner in self.jobs:
                self.jobs[mirror.owner].entry.workload = mirror
        for job in self.jobs.values():
            self._fold(job)

    def _read_workloads(self, objects: Objects) -> None:
        keys = {job.key for job in self.jobs.values()}
        for source in objects.sources(resource.WORKLOADS):
            obj = self.dated(source.obj, "Workload")
            if mirrored(obj, self.jobs, keys):
                continue
            try:
                found = read_workload(obj, self.world.quotas, place=self.placing)
            except InvalidObjectError as error:
                objects.problem(source, error)
                continue
            if found is not None:
                self.foreign[found.key] = obj
            if isinstance(found, Holding):
                self._reserved.read(found)
                self.departures.holds(obj, found.queue)
            elif found is not None:
                self.workloads[found.key] = found
                self.notes |= {f"Workload {found.key}: {note}" for note in found.notes}

    def dated(self, obj: Json, kind: str) -> dict[str, Any]:
        """As the API would store it now, if it comes from a file: with a uid and a time of creation."""
        meta = dict(obj.get("metadata") or {})
        where = f"{kind}/{meta.get('namespace') or 'default'}/{meta.get('name')}"
        meta.setdefault("namespace", "default")
        meta["uid"] = meta.get("uid") or str(uuid.uuid5(uuid.NAMESPACE_URL, where))
        meta["creationTimestamp"] = meta.get("creationTimestamp") or format_time(from_timestamp(self.now))
        return {**obj, "metadata": meta}

    # What follows.

    def _fold(self, job: Job) -> None:
        spec = job.seen.spec
        if spec is None:
            return
        lost = self.world.lost if self.placing else frozenset[str]()
        state = fold(spec, job.entry.attempts(), lost=lost, now=self.now, memory=job.seen.memory, refusal=job.refusal)
        standing = self.limits.standing(job.entry, spec, state) | self.answers.standing(job.entry, spec, state)
        job.entry.hold = standing.hold
        job.evictions = tuple(told for told in standing.evict if told[0].eviction is None)
        if (waits := standing.hold or job.entry.awaits) is not None:
            memory = job.seen.memory
            state = fold(spec, job.entry.attempts(), lost=lost, now=self.now, memory=memory, refusal=waits)
        job.entry.state = state
        rule, priority = self.world.rule_of(spec), self.world.priority_of(spec)
        holder = holder_of(
            spec,
            priority if isinstance(priority, int) else 0,
            state.preemptions,
            rule if isinstance(rule, ClusterRule) else None,
        )
        told = {attempt.epoch for attempt, _ in job.evictions} if job.key in self._due else ()
        self._holdings.update(holder, state.attempts, told)

    def _demand(self, job: Job) -> Demand | None:
        spec, state = job.seen.spec, job.entry.state
        if spec is None or state is None or job.seen.deleting or job.entry.hold is not None:
            return None
        rule, priority = self.world.rule_of(spec), self.world.priority_of(spec)
        problem = next((value for value in (rule, priority) if isinstance(value, str)), "")
        demand = demand_of(
            spec,
            state,
            priority if isinstance(priority, int) else 0,
            rule if isinstance(rule, ClusterRule) else None,
        )
        queued = self.limits.queued(state)
        if demand is None or not (problem or queued is not None):
            return demand
        return replace(demand, problem=problem, queued=queued)

    def _start(self, job: Job, queue: str, parts: Iterable[Slice]) -> None:
        spec = job.seen.spec
        assert spec is not None, "only a job that can be read has a demand"
        for part in parts:
            epoch = job.entry.next_epoch()
            work = slice_to_work(
                spec, part.cluster, part.tasks, part.attempt, part.slots, part.flavors, queue, epoch, part.decision,
                domain=part.domain,
            )  # fmt: skip
            job.entry.assumed[epoch] = attempt_from_work(work)

    def _reserve(self, waiting: Waiting, queue: str, parts: Sequence[Slice]) -> None:
        demand = waiting.demand
        assert demand is not None, "only what is in the queue is admitted"
        self._reserved.admit(waiting, self.world.quotas.queues[queue], parts, self.now)
        self.departures.admitted(self.foreign[waiting.key], queue, self.now)
        for held in self._reserved.slices:
            part = next((part for part in parts if part.cluster and part.cluster == held.cluster), None)
            if held.key == demand.key and part is not None:
                labels = self.world.fleet.facts(part.cluster).labels
                shape = on_domain(flavored(self.world.quotas, demand.shape, part.flavors, labels), part.domain)
                self.world.charge([Charge(held.work, part.cluster, shape, part.slots)])

    def _way(self, objects: Objects) -> Way:
        settings = self.rules.settings
        history = None
        if settings.history is not None:
            history = History(settings.history, read_past(objects.of(resource.LOCAL_QUEUES)), self.now)
        # Who preempts stays at the head of its queue; that it does is what it was told last.
        waits = Reason.WAITING_FOR_PREEMPTED
        sticky = {job.key for job in self.jobs.values() if job.seen.memory.reason is waits}
        for obj in objects.of(resource.WORKLOADS):
            held = find_condition((obj.get("status") or {}).get("conditions"), "QuotaReserved") or {}
            if held.get("reason") == waits.code:
                sticky.add(f"{obj['metadata'].get('namespace') or 'default'}/{obj['metadata']['name']}")
        return KueueWay(settings, history, frozenset(sticky))

    def _held(self) -> tuple[HeldSlice, ...]:
        others = [replace(one, leaving=True) if one.key in self._due else one for one in self._reserved.slices]
        held = (*self._holdings.slices, *others)
        return held if self.placing else tuple(replace(one, place=False) for one in held)


__all__ = ["Job", "State"]
