"""Whatever order messages come in, however often: the same end, and nothing counted twice or taken back."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from jobs_world import CREATED, fleet_job, reported

from hub.api import names
from hub.api.indexset import IndexSet
from hub.jobs.attempt import Attempt
from hub.jobs.fold import demand_of, fold
from hub.jobs.memory import NOTHING, memory_of
from hub.jobs.spec import JobSpec
from hub.jobs.state import JobState
from hub.jobs.status import fleet_job_status
from hub.jobs.works import attempt_from_work, slice_to_work
from hub.queueing.demand import Demand

CLUSTERS = ("ash", "elm", "oak")


@dataclass
class Site:
    """What an agent holds of one slice: the truth about its tasks, and every report it ever sent."""

    work: dict[str, Any]
    tasks: tuple[int, ...]
    ended: dict[int, bool] = field(default_factory=dict)
    reports: list[dict[str, Any]] = field(default_factory=list)
    heard: int = 0
    stopped: bool = False

    def end(self, position: int, well: bool) -> None:
        if not self.stopped and position not in self.ended:
            self.ended[position] = well
            self.report()

    def report(self) -> None:
        good = IndexSet.of(i for i, well in self.ended.items() if well)
        bad = IndexSet.of(i for i, well in self.ended.items() if not well)
        values: dict[str, Any] = {"active": 0 if self.stopped else len(self.tasks) - len(self.ended)}
        values |= {"completedIndexes": str(good), "failedIndexes": str(bad)}
        if len(self.ended) == len(self.tasks):
            values["failedCondition" if bad else "complete"] = "True"
        self.reports.append(reported(self.work, **values))


class Fleet:
    """A hub, its sites and the messages between them, moved by hypothesis."""

    def __init__(self, tasks: int, parallelism: int, limit: int) -> None:
        self.job = fleet_job(tasks=tasks, parallelism=parallelism, retry={"limitPerTask": limit}, suspend=False)
        self.sites: dict[str, Site] = {}
        self.deleting: set[str] = set()
        self.lost: set[str] = set()
        self.now = CREATED
        self.counted = IndexSet()
        self.phase = ""
        self.epochs: list[int] = []
        self.plan: Demand | None = None
        self.over: dict[int, str] = {}
        self.asked = 0
        self.reopened = False

    @property
    def spec(self) -> JobSpec:
        return JobSpec.from_fleet_job(self.job)

    def suspend(self, on: bool) -> None:
        self.job["spec"]["suspend"] = on

    def retry_failed(self) -> None:
        self.asked += 1
        self.reopened = self.phase == "Failed"
        self.job["metadata"]["annotations"][names.RETRY_FAILED] = f"asked for the {self.asked}. time"

    def heard(self) -> list[Attempt]:
        found = []
        for name, site in self.sites.items():
            work = site.reports[site.heard - 1] if site.heard else site.work
            meta = dict(work["metadata"])
            if name in self.deleting:
                meta["deletionTimestamp"] = "2023-11-14T22:20:00Z"
            found.append(attempt_from_work({**work, "metadata": meta}))
        return found

    def state(self) -> JobState:
        return fold(self.spec, self.heard(), lost=self.lost, now=self.now, memory=memory_of(self.job))

    def hub(self, choice: int) -> None:
        """One turn of the hub: write the status, place what waits on one cluster, take back what is fenced."""
        self.now += 1
        state = self.state()
        self.job["status"] = fleet_job_status(self.spec, state, self.job.get("status") or {}, self.now)
        self.check(state)
        for attempt in self.state().delete:
            self.deleting.add(attempt.work)
        fresh = demand_of(self.spec, state, 0)
        # Sometimes the plan was made before the news came.
        demand = self.plan if choice % 7 == 0 else fresh
        self.plan = fresh
        open_clusters = [name for name in CLUSTERS if name not in self.lost]
        if demand is None or not open_clusters:
            return
        group = demand.groups[choice % len(demand.groups)]
        cluster = open_clusters[choice % len(open_clusters)]
        part = group.tasks.take(1 + choice % 5)
        assert demand is not fresh or not part & state.succeeded
        work = slice_to_work(
            self.spec, cluster, part, group.attempt, min(demand.slots, len(part)), (), "cq", state.next_epoch
        )
        self.epochs.append(state.next_epoch)
        self.sites[work["metadata"]["name"]] = Site(work, tuple(part))

    def site(self, choice: int) -> Site | None:
        return list(self.sites.values())[choice % len(self.sites)] if self.sites else None

    def check(self, state: JobState) -> None:
        entries = self.job["status"].get("attempts", [])
        counted = [task for entry in entries for task in IndexSet.parse(entry.get("succeeded", ""))]
        assert len(counted) == len(set(counted)), "a task was counted twice"
        assert not IndexSet.of(counted) - state.succeeded
        assert not self.counted - state.succeeded, "a success was taken back"
        assert not state.succeeded & state.failed
        waiting = [task for group in state.waiting for task in group.tasks]
        assert len(waiting) == len(set(waiting))
        assert not IndexSet.of(waiting) & (state.succeeded | state.failed)
        assert self.epochs == sorted(set(self.epochs))
        assert state.next_epoch > max(self.epochs, default=0)
        assert all(group.attempt <= self.spec.retry.limit * (1 + self.asked) for group in state.waiting)
        if self.job["spec"]["suspend"]:
            assert not state.live
            assert not state.slots
        for entry in entries:
            assert self.over.get(entry["epoch"], entry["state"]) == entry["state"], "what was over went on"
            if entry["state"] in ("Lost", "Cancelled", "Succeeded"):
                self.over[entry["epoch"]] = entry["state"]
        if self.phase in ("Succeeded", "Failed", "Cancelled") and not self.reopened:
            assert state.phase == self.phase, "an ended job came back"
        self.reopened = False
        assert self.fold_again(state) == state
        self.counted, self.phase = state.succeeded, state.phase

    def fold_again(self, state: JobState) -> JobState:
        """The status just written, folded again with the same messages, says the same."""
        again = self.state()
        assert fleet_job_status(self.spec, again, self.job["status"], self.now + 9) == self.job["status"]
        assert (again.phase, again.succeeded, again.failed, again.waiting) == (
            state.phase,
            state.succeeded,
            state.failed,
            state.waiting,
        )
        return state


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 7), st.integers(1, 6), st.integers(1, 3))
def test_a_fleet_that_loses_and_repeats_messages_counts_every_task_once(
    seed: int, tasks: int, parallelism: int, limit: int
) -> None:
    rng = random.Random(seed)
    fleet = Fleet(tasks, parallelism, limit)
    for _ in range(70):
        kind, site = rng.random(), fleet.site(rng.randrange(100))
        if kind < 0.35 or site is None:
            fleet.hub(rng.randrange(100))
        elif kind < 0.6:
            site.end(rng.randrange(len(site.tasks)), well=rng.random() < 0.6)
        elif kind < 0.75:
            site.heard = len(site.reports)
        elif kind < 0.85:
            # An old report heard again.
            site.heard = rng.randrange(len(site.reports) + 1)
        elif kind < 0.9:
            fleet.lost ^= {rng.choice(CLUSTERS)}
        elif kind < 0.92:
            fleet.suspend(rng.random() < 0.5)
        elif kind < 0.93:
            fleet.retry_failed()
        elif fleet.deleting:
            # Its agent is back: it stops what runs, says what had ended, and the work goes.
            name = rng.choice(sorted(fleet.deleting))
            fleet.sites[name].stopped = True
            fleet.sites[name].report()
            fleet.sites[name].heard = len(fleet.sites[name].reports)
            fleet.hub(rng.randrange(100))
            fleet.deleting.discard(name)
            del fleet.sites[name]
    # In the end everything is heard, no cluster stays away, and the job comes to its end.
    fleet.lost.clear()
    fleet.suspend(False)
    for turn in range(60):
        for site in list(fleet.sites.values()):
            for position in range(len(site.tasks)):
                site.end(position, well=True)
            site.heard = len(site.reports)
        fleet.hub(turn)
        if fleet.phase in ("Succeeded", "Failed"):
            break
    assert fleet.phase in ("Succeeded", "Failed")


@st.composite
def histories(draw: st.DrawFn) -> tuple[int, list[tuple[dict[str, Any], list[dict[str, Any]]]]]:
    """Works of one job as a hub may have made them, each with everything it reported, in order."""
    tasks = draw(st.integers(1, 6))
    spec = JobSpec.from_fleet_job(fleet_job(tasks=tasks, retry={"limitPerTask": 3}))
    waiting = dict.fromkeys(range(tasks), 1)
    works = []
    for epoch in range(1, draw(st.integers(1, 5)) + 1):
        if not waiting:
            break
        number = draw(st.sampled_from(sorted(set(waiting.values()))))
        part = IndexSet.of(task for task, attempt in waiting.items() if attempt == number)
        site = Site(slice_to_work(spec, draw(st.sampled_from(CLUSTERS)), part, number, 9, (), "q", epoch), tuple(part))
        for position in draw(st.permutations(range(len(part)))):
            if draw(st.integers(0, 3)) or epoch == 1:
                well = draw(st.booleans())
                site.end(position, well)
                task = site.tasks[position]
                if well or number == 3:
                    del waiting[task]
                else:
                    waiting[task] = number + 1
            else:
                # It goes on there.
                del waiting[site.tasks[position]]
        works.append((site.work, site.reports))
    return tasks, works


@settings(max_examples=250, deadline=None)
@given(histories(), st.data())
def test_any_interleaving_of_reports_ends_the_same(
    history: tuple[int, list[tuple[dict[str, Any], list[dict[str, Any]]]]], data: st.DataObject
) -> None:
    tasks, works = history
    job = fleet_job(tasks=tasks, retry={"limitPerTask": 3})
    spec = JobSpec.from_fleet_job(job)

    def state(shown: Iterable[dict[str, Any]], remembered: bool) -> JobState:
        memory = memory_of(job) if remembered else NOTHING
        return fold(spec, [attempt_from_work(work) for work in shown], now=CREATED, memory=memory)

    final = state([reports[-1] if reports else work for work, reports in works], remembered=False)
    for _ in range(data.draw(st.integers(0, 8))):
        shown = [data.draw(st.sampled_from([work, *reports])) for work, reports in works]
        said = state(data.draw(st.permutations(shown)), remembered=True)
        job["status"] = fleet_job_status(spec, said, job.get("status") or {}, CREATED)
    last = [reports[-1] if reports else work for work, reports in works]
    end = state(data.draw(st.permutations(last)), remembered=True)
    assert (end.phase, end.succeeded, end.failed, end.waiting, end.next_epoch) == (
        final.phase,
        final.succeeded,
        final.failed,
        final.waiting,
        final.next_epoch,
    )
    assert [a.stale for a in end.attempts] == [a.stale for a in final.attempts]
