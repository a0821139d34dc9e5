"""Every job and what is known of its works: one entry a job, found by uid, by name and by the planner's key.

Here is what the hub has asked for and not seen yet: a work that was submitted counts from that moment, so no epoch is
used twice and nothing is placed twice while the API is slow. Entries outlive their job while works of it are left. It
writes nothing and decides nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from hub.api.reasons import Reason
from hub.controllers.seen import JobRef, SeenJob, SeenWork, SeenWorkload
from hub.fleet.shape import TaskShape
from hub.jobs.attempt import Attempt, Eviction, Resize
from hub.jobs.state import JobState
from hub.planner.plan import Refusal
from hub.queueing.demand import Demand

WorkKey = tuple[str, str]


@dataclass(slots=True, eq=False)
class JobEntry:
    """`seen` is None when the job is gone (or was never seen) and works of it are left.

    `assumed`: slices that were decided and whose ManifestWorks were not seen yet, by epoch. `departed`: what works said
    last that are gone, by epoch, until the job's status has it. `used`: the highest epoch that was ever given out here.
    `pause_until`: loop time before which nothing new is placed, after a refused write (`trouble`). `quarantined`: what
    it asked for when no decision about it was possible. `fewer`: why it was given fewer slots than it asked for.
    `gone`: its deletion was seen, so it is certain. `hold`: why nothing of it may be placed for now; `awaits`: what
    keeps that of it which is reserved from being sent;
    `deactivate`: why its Workload is to be deactivated. `evicting`: slices that were decided to go, by epoch, until
    their works say so; `resizing` the same of slices that were made larger or smaller. `up`: slices that were up once,
    and since when (epoch seconds) they are not; `recovered`: some were down and are up again.
    """

    ref: JobRef
    seen: SeenJob | None = None
    works: dict[WorkKey, SeenWork] = field(default_factory=dict)
    assumed: dict[int, Attempt] = field(default_factory=dict)
    departed: dict[int, Attempt] = field(default_factory=dict)
    used: int = 0
    state: JobState | None = None
    refusal: Refusal | None = None
    fewer: Refusal | None = None
    workload: SeenWorkload | None = None
    workload_asked: bool = False
    pause_until: float = 0.0
    pauses: int = 0
    trouble: Refusal | None = None
    quarantined: Demand | None = None
    written_at: float = -1e9
    admitted_at: float | None = None
    # What the statuses were last asked to say, and since when (loop time) that is not written.
    said: tuple[Any, ...] = ()
    urgency: float = 0.0
    unsaid_since: float | None = None
    workload_said: tuple[Any, ...] = ()
    workload_since: float | None = None
    timer: asyncio.TimerHandle | None = None
    shape: TaskShape | None = None
    hold: Refusal | None = None
    awaits: Refusal | None = None
    deactivate: Reason | None = None
    evicting: dict[int, Eviction] = field(default_factory=dict)
    resizing: dict[int, Resize] = field(default_factory=dict)
    up: dict[int, float | None] = field(default_factory=dict)
    recovered: bool = False
    gone: bool = False

    @property
    def uid(self) -> str:
        return self.ref.uid

    def attempts(self) -> list[Attempt]:
        """One an epoch: what works say, and what was only assumed yet.

        Two works of one epoch cannot come from one leader; the one that the job's status names counts, else the first.
        """
        found: dict[int, Attempt] = {**self.departed, **self.assumed}
        recorded = {a.epoch: a.cluster for a in self.seen.memory.attempts} if self.seen is not None else {}
        for work in sorted(self.works.values(), key=lambda w: (w.epoch, w.cluster != recorded.get(w.epoch), w.cluster)):
            if work.attempt is None:
                continue
            known = found.get(work.epoch)
            if known is not None and work.attempt.reserved and not known.reserved:
                # It was sent since.
                continue
            if known is None or known.gone or known.reserved or known.cluster == work.cluster:
                found[work.epoch] = work.attempt
        for epoch, resize in self.resizing.items():
            attempt = found.get(epoch)
            if attempt is not None and attempt.slots == resize.before:
                occupied = max(attempt.occupied, resize.before) if resize.slots < resize.before else 0
                found[epoch] = replace(attempt, slots=resize.slots, resize=resize, occupied=occupied)
        return list(found.values())

    def next_epoch(self) -> int:
        """A number that no slice of this job has had: not in a work, not in the status, not on its way."""
        highest = [self.used, *self.assumed, *(work.epoch for work in self.works.values())]
        if self.seen is not None:
            highest.append(self.seen.memory.epochs)
        if self.state is not None:
            highest.append(self.state.next_epoch - 1)
        self.used = max(highest) + 1
        return self.used

    def doubles(self) -> list[SeenWork]:
        """Works that the job cannot mean: a second one of an epoch. What was reserved is one once it was sent."""
        attempts = self.attempts()
        chosen = {(attempt.namespace, attempt.work) for attempt in attempts}
        sent = {attempt.epoch for attempt in attempts if not attempt.reserved and attempt.epoch not in self.assumed}
        return [
            work
            for work in self.works.values()
            if work.attempt is not None and work.key not in chosen and (not work.attempt.reserved or work.epoch in sent)
        ]


class JobTable:
    """`dirty` is what is to be looked at again, in order of arrival; `on_mark` is called when there is more of it."""

    def __init__(self) -> None:
        self.on_mark: Callable[[], None] = lambda: None
        self.entries: dict[str, JobEntry] = {}
        self.dirty: dict[str, None] = {}
        self._by_name: dict[tuple[str, str, str], str] = {}
        self._by_key: dict[str, str] = {}
        self._by_work: dict[WorkKey, str] = {}
        self._workloads: dict[tuple[str, str], SeenWorkload] = {}

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[JobEntry]:
        return iter(self.entries.values())

    def mark(self, uid: str) -> None:
        self.dirty[uid] = None
        self.on_mark()

    def mark_all(self) -> None:
        self.dirty.update(dict.fromkeys(self.entries))
        self.on_mark()

    def mark_open(self) -> None:
        """Every job that has not ended, as far as is known."""
        self.dirty.update((uid, None) for uid, e in self.entries.items() if e.state is None or not e.state.ended)
        self.on_mark()

    def mark_cluster(self, cluster: str) -> None:
        """Every job with something on `cluster`."""
        for (where, _), uid in self._by_work.items():
            if where == cluster:
                self.dirty[uid] = None
        for entry in self.entries.values():
            if any(attempt.cluster == cluster for attempt in entry.assumed.values()) or any(
                work.attempt is not None and work.attempt.reserved and work.attempt.cluster == cluster
                for work in entry.works.values()
            ):
                self.dirty[entry.uid] = None
        self.on_mark()

    def named(self, kind: str, namespace: str, name: str) -> JobEntry | None:
        uid = self._by_name.get((kind, namespace, name))
        return self.entries.get(uid) if uid else None

    def by_key(self, key: str) -> JobEntry | None:
        """By the planner's key."""
        uid = self._by_key.get(key)
        return self.entries.get(uid) if uid else None

    def workload(self, namespace: str, name: str) -> SeenWorkload | None:
        return self._workloads.get((namespace, name))

    def work(self, cluster: str, name: str) -> SeenWork | None:
        uid = self._by_work.get((cluster, name))
        return self.entries[uid].works.get((cluster, name)) if uid else None

    # What was seen.

    def job_seen(self, seen: SeenJob) -> JobEntry:
        """An older state than the one that is known changes nothing."""
        ref = seen.ref
        before = self.named(ref.kind, ref.namespace, ref.name)
        if before is not None and before.uid != ref.uid:
            self.job_gone(before.ref)
        entry = self._entry(ref)
        if entry.seen is not None and entry.seen.version > seen.version:
            return entry
        entry.seen = seen
        self._by_name[ref.kind, ref.namespace, ref.name] = ref.uid
        if seen.spec is not None:
            self._by_key[seen.spec.key] = ref.uid
            if entry.workload is None:
                known = self._workloads.get((seen.spec.namespace, seen.spec.workload))
                entry.workload = known if known is not None and known.owner == ref.uid else None
        self.mark(ref.uid)
        return entry

    def job_gone(self, ref: JobRef) -> JobEntry | None:
        entry = self.entries.get(ref.uid)
        if entry is None:
            return None
        if entry.seen is not None and entry.seen.spec is not None:
            key = entry.seen.spec.key
            if self._by_key.get(key) == ref.uid:
                del self._by_key[key]
        if self._by_name.get((ref.kind, ref.namespace, ref.name)) == ref.uid:
            del self._by_name[ref.kind, ref.namespace, ref.name]
        entry.seen, entry.gone = None, True
        self.mark(ref.uid)
        return entry

    def work_seen(self, work: SeenWork) -> JobEntry:
        uid = self._by_work.get(work.key)
        if uid is not None:
            known = self.entries[uid].works.get(work.key)
            if known is not None and known.uid == work.uid and known.version > work.version:
                return self.entries[uid]
            if uid != work.job.uid:
                self._drop_work(work.key)
        entry = self._entry(work.job)
        if work.job is not entry.ref and work.job == entry.ref:
            work = replace(work, job=entry.ref)
        entry.works[work.key] = work
        entry.used = max(entry.used, work.epoch)
        self._by_work[work.key] = work.job.uid
        assumed = entry.assumed.get(work.epoch)
        if assumed is not None and assumed.namespace == work.cluster:
            # A map that was emptied keeps its room; of most jobs it stays empty from here on.
            entry.assumed = {epoch: other for epoch, other in entry.assumed.items() if epoch != work.epoch}
        self.mark(entry.uid)
        return entry

    def work_gone(self, cluster: str, name: str, uid: str) -> JobEntry | None:
        owner = self._by_work.get((cluster, name))
        if owner is None:
            return None
        known = self.entries[owner].works.get((cluster, name))
        if known is not None and known.uid != uid:
            return None
        return self._drop_work((cluster, name))

    def workload_seen(self, workload: SeenWorkload) -> JobEntry | None:
        key = (workload.namespace, workload.name)
        known = self._workloads.get(key)
        if known is not None and known.uid == workload.uid and known.version > workload.version:
            return None
        self._workloads[key] = workload
        entry = self.entries.get(workload.owner)
        if entry is not None:
            entry.workload = workload
        return entry

    def workload_gone(self, namespace: str, name: str, uid: str) -> JobEntry | None:
        """The entry that should have one by that name, if there is one."""
        known = self._workloads.get((namespace, name))
        if known is not None and known.uid == uid:
            del self._workloads[namespace, name]
        entry = self.by_key(f"{namespace}/{name}")
        if entry is None:
            return None
        if entry.workload is not None and entry.workload.uid == uid:
            entry.workload = None
        entry.workload_asked = False
        self.mark(entry.uid)
        return entry

    def forget(self, entry: JobEntry) -> None:
        """Nothing is left of it."""
        if entry.seen is None and not entry.works and not entry.assumed:
            self.entries.pop(entry.uid, None)
            self.dirty.pop(entry.uid, None)

    def _entry(self, ref: JobRef) -> JobEntry:
        entry = self.entries.get(ref.uid)
        if entry is None:
            entry = self.entries[ref.uid] = JobEntry(ref)
        return entry

    def _drop_work(self, key: WorkKey) -> JobEntry:
        entry = self.entries[self._by_work.pop(key)]
        work = entry.works.pop(key, None)
        if work is not None and work.attempt is not None and entry.seen is not None:
            known = entry.departed.get(work.epoch)
            if known is None or known.reserved or not work.attempt.reserved:
                entry.departed[work.epoch] = replace(work.attempt, gone=True, active=0)
        self.mark(entry.uid)
        return entry
