"""What must hold of every case of bench/queue_cases.py in mode fleet. An AssertionError says which law broke."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace

from bench.queue_cases import Case, Run
from hub.planner.cycle import Cycle
from hub.planner.plan import Plan, Snapshot
from hub.queueing.assign import counted
from hub.queueing.usage import TreeUsage, fits


class Laws:
    """Looks at every cycle of a run. `said` is all that was decided, in words."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._entitled: Mapping[str, int] | None = None
        self._arrays = any(not job.gang and not job.least for job in run.case.jobs)
        self.said: list[str] = []

    def look(self, snapshot: Snapshot, decided: Plan) -> None:
        self.said.append(repr(decided))
        entitled = rights(snapshot)
        if not self._arrays:
            # An array that got few slots puts its tasks there one after the other, and asks for no more.
            assert self._entitled in (None, entitled), "what a job is entitled to changed with who runs"
        self._entitled = entitled
        self._nobody_is_lost(snapshot, decided)
        self._quota_is_kept(snapshot, decided)
        self._the_entitled_stay(snapshot, decided, entitled)
        self._elastic_jobs_keep_their_bounds(snapshot, decided)
        for name in snapshot.fleet.names:
            held = snapshot.fleet.held(name).values()
            assert not any(holding.waiting for holding in held), f"more is on {name} than it has room for"

    def _nobody_is_lost(self, snapshot: Snapshot, decided: Plan) -> None:
        refused = {refusal.key for refusal in decided.refusals}
        given: dict[str, int] = {}
        for admission in decided.admissions:
            given[admission.key] = sum(len(part.tasks) for part in admission.slices)
        for demand in snapshot.demands:
            whole = given.get(demand.key, 0) == demand.waiting
            assert whole != (demand.key in refused), f"{demand.key} has what it wants and a reason to wait, or neither"

    def _quota_is_kept(self, snapshot: Snapshot, decided: Plan) -> None:
        demands = {demand.key: demand for demand in snapshot.demands}
        used: dict[int, TreeUsage] = {}
        for admission in decided.admissions:
            tree, queue = snapshot.quotas.trees[admission.queue], snapshot.quotas.queues[admission.queue]
            if id(tree) not in used:
                used[id(tree)] = self._run.usage(admission.queue)
            each = counted(queue, demands[admission.key].shape)
            for part in admission.slices:
                amounts = [((flavor, resource), each[resource] * part.slots) for resource, flavor in part.flavors]
                position = tree.position[queue.name]
                assert fits(used[id(tree)], position, amounts), f"{admission.key} takes more quota than there is"
                used[id(tree)].add(position, amounts)

        for growth in decided.growths:
            tree = snapshot.quotas.trees[growth.queue]
            if id(tree) not in used:
                used[id(tree)] = self._run.usage(growth.queue)
            held = self._run.slices[growth.work]
            more = [(key, value // held.slots * (growth.slots - held.slots)) for key, value in held.amounts]
            position = tree.position[growth.queue]
            assert fits(used[id(tree)], position, more), f"{growth.key} grows by more quota than there is"
            used[id(tree)].add(position, more)

    def _elastic_jobs_keep_their_bounds(self, snapshot: Snapshot, decided: Plan) -> None:
        """And only they are made larger or smaller, never both at once, and smaller only for somebody else."""
        after = {held.work: held.stays for held in snapshot.held}
        before = dict(after)
        for entry in decided.preemptions:
            after[entry.work] = entry.kept
        for growth in decided.growths:
            assert after[growth.work] == before[growth.work] < growth.slots, f"{growth.key} grows and does not"
            after[growth.work] = growth.slots
        evicted = {entry.key for entry in decided.preemptions if not entry.shrinks}
        has: dict[str, int] = {}
        for held in snapshot.held:
            has[held.key] = has.get(held.key, 0) + after[held.work]
        new = {entry.key: sum(part.slots for part in entry.slices) for entry in decided.admissions}
        for job in self._run.case.jobs:
            got = has.get(job.key, 0) + new.get(job.key, 0)
            shrunk = [entry for entry in decided.preemptions if entry.key == job.key and entry.shrinks]
            if not job.least:
                assert not shrunk
                assert all(growth.key != job.key for growth in decided.growths)
                continue
            assert got <= job.slots, f"{job.key} has more than its maximum"
            if shrunk and job.key not in evicted:
                assert has[job.key] >= job.least, f"{job.key} is made smaller than its minimum"
            if not has.get(job.key) and new.get(job.key):
                assert new[job.key] >= job.least, f"{job.key} starts with less than its minimum"
            assert all(entry.preemptor != job.key for entry in shrunk)

    def _the_entitled_stay(self, snapshot: Snapshot, decided: Plan, entitled: Mapping[str, int]) -> None:
        gone = {entry.work for entry in decided.preemptions}
        assert len(gone) == len(decided.preemptions), "somebody is sent away twice"
        waiting = {demand.key for demand in snapshot.demands}
        stays: dict[str, int] = {}
        for held in snapshot.held:
            if held.work not in gone:
                stays[held.key] = stays.get(held.key, 0) + held.stays
        for entry in decided.preemptions:
            stays[entry.key] = stays.get(entry.key, 0) + entry.kept
        for entry in decided.preemptions:
            if entry.shrinks:
                assert stays[entry.key] >= min(entitled.get(entry.key, 0), self._run.running(entry.key))
        for held in snapshot.held:
            if held.work not in gone:
                continue
            assert not held.leaving
            right = entitled.get(held.key, 0)
            # Of an array that runs beyond its right a slice may be replaced by a smaller one.
            runs = self._run.running(held.key)
            assert right < runs, f"{held.key} is entitled to all that it has"
            if held.gang:
                assert stays.get(held.key, 0) >= min(right, runs), f"{held.key} loses what it is entitled to"
        for entry in decided.preemptions:
            assert entitled.get(entry.preemptor, 0) > 0, f"{entry.preemptor} takes what it has no right to"
            assert entry.preemptor in waiting or entry.shrinks


def rights(snapshot: Snapshot) -> dict[str, int]:
    """To how many slots each job is entitled."""
    claims = Cycle(snapshot).claims
    found = {key: claim.entitled for (key, _), claim in claims.claims.items()}
    for (key, _), claim in claims.extras.items():
        found[key] += claim.entitled
    return found


def settled(case: Case) -> Run:
    """The case at rest, every law looked at on the way; and once more with its input in another order."""
    run = Run(case)
    laws = Laws(run)
    run.settle(laws.look)
    assert run.settled, f"no rest after {run.cycles} cycles, {run.preemptions} preemptions"
    assert _again(case) == laws.said, "the order of the input changes the decisions"
    return run


def _again(case: Case) -> list[str]:
    rng = random.Random(len(case.jobs))
    objects = list(case.objects)
    # Who runs keeps the names of what it has; they are part of what is decided.
    held = [job for job in case.jobs if job.flavor]
    rest = [job for job in case.jobs if not job.flavor]
    for some in (objects, rest):
        rng.shuffle(some)
    found: list[str] = []
    Run(replace(case, objects=tuple(objects), jobs=(*held, *rest))).settle(
        lambda _, decided: found.append(repr(decided))
    )
    return found
