"""Slices on their way to clusters and back: makes ManifestWorks, takes them back, lets go of what is recorded.

A slice counts from the moment it is decided (it is *assumed*), whether the API has answered or not. Taking one back
that may still run is done in steps, so that no result is lost whoever dies in between: the end is in the job's status
first; then the work gets our finalizer and is deleted; its agent stops the processes and says what had finished; when
that is in the status too, our finalizer goes, and the work with it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from hub.api import names
from hub.api.resource import MANIFEST_WORKS
from hub.client.interface import Object
from hub.controllers.logs import logger
from hub.controllers.seen import SeenWork
from hub.controllers.sending import Sending, take
from hub.controllers.table import JobEntry, JobTable
from hub.controllers.world import World
from hub.controllers.writes import Delete, MergePatch, Write, WriteKey, Writes
from hub.fleet.shape import Toleration
from hub.jobs.attempt import Attempt
from hub.jobs.memory import Memory
from hub.jobs.pod_updates import PodUpdates, updated
from hub.jobs.spec import JobSpec
from hub.jobs.works import attempt_from_work, slice_to_work
from hub.planner.plan import Admission, Slice

Json = dict[str, Any]
_log = logger(__name__)
POD_GRACE: Final = 30.0
"""Kubernetes' seconds between SIGTERM and SIGKILL where a pod does not say."""


class Delivery:
    """`clock` is the loop's. `notice`: seconds that slices have which are told to go."""

    def __init__(
        self, table: JobTable, world: World, writes: Writes, clock: Callable[[], float], notice: float = 0.0
    ) -> None:
        self._table, self._world, self._writes, self._clock = table, world, writes, clock
        self._notice = notice

    # To the cluster.

    def admit(self, entry: JobEntry, spec: JobSpec, admission: Admission) -> None:
        """Every slice of the admission becomes a work with an epoch of its own. What admission checks must let through
        first is only reserved: see `send`."""
        for part in admission.slices:
            epoch = entry.next_epoch()
            flavors = (flavor for _, flavor in part.flavors)
            reserved = bool(self._world.quotas.strangers(admission.queue, flavors))
            work = self._work(spec, part, admission.queue, epoch, reserved=reserved)
            entry.assumed[epoch] = attempt_from_work(work)
            self._create(entry, work, epoch, admission.key)

    def send(self, entry: JobEntry, spec: JobSpec, attempt: Attempt, updates: PodUpdates) -> None:
        """What was reserved goes to its cluster, under the same epoch, with what its checks add to its pods."""
        part = Slice(
            attempt.cluster, attempt.tasks, attempt.attempt, attempt.slots, attempt.flavors, attempt.decision,
            attempt.domain,
        )  # fmt: skip
        if updates:
            spec = replace(spec, template=updated(spec.template, updates))
        work = self._work(spec, part, attempt.queue, attempt.epoch)
        entry.assumed[attempt.epoch] = attempt_from_work(work)
        self._create(entry, work, attempt.epoch, spec.key)

    def _work(self, spec: JobSpec, part: Slice, queue: str, epoch: int, *, reserved: bool = False) -> Json:
        labels, tolerations = self._world.flavoring(part.flavors)
        if labels or tolerations:
            cluster = self._world.clusters.get(part.cluster) or {}
            own = (cluster.get("metadata") or {}).get("labels") or {}
            selector = {key: value for key, value in labels if own.get(key) != value}
            spec = replace(spec, template=flavored(spec.template, selector, tolerations))
        if self._notice > POD_GRACE:
            spec = replace(spec, template=patient(spec.template, self._notice))
        return slice_to_work(
            spec, part.cluster, part.tasks, part.attempt, part.slots, part.flavors, queue, epoch, part.decision,
            self._world.gpu_offer(part.cluster), part.domain, reserved=reserved,
        )  # fmt: skip

    def _create(self, entry: JobEntry, work: Json, epoch: int, key_of_job: str) -> None:
        Sending(self._table, self._writes, self._clock, entry, epoch, work, key_of_job).submit()

    # And back.

    def take_back(self, entry: JobEntry, attempts: tuple[Attempt, ...]) -> None:
        """Works whose end is in the job's status already."""
        for attempt in attempts:
            work = entry.works.get((attempt.namespace, attempt.work))
            if work is not None and not work.deleting:
                self._hold_then_delete(work)

    def drop_doubles(self, entry: JobEntry) -> None:
        for work in entry.doubles():
            if not work.deleting and work.attempt is not None and work.attempt.reserved:
                self._delete(work)
            elif not work.deleting:
                _log.error("a second work of one epoch is taken back", job=str(entry.ref), cluster=work.cluster)
                self._delete(work)

    def let_go(self, entry: JobEntry, memory: Memory) -> None:
        """Works that only our finalizer holds, and whose last results are recorded."""
        if entry.state is None:
            return
        for work in entry.works.values():
            if not (work.deleting and work.finalizers == (names.HUB_FINALIZER,)):
                continue
            now = next((a for a in entry.state.attempts if a.epoch == work.epoch), None)
            if work.attempt is None or now is None or _is_recorded(now, memory):
                self._release(work)

    def clear(self, entry: JobEntry) -> None:
        """The job is gone: so are its works, whatever they did."""
        entry.assumed.clear()
        for work in entry.works.values():
            if not work.deleting:
                self._delete(work)
            elif names.HUB_FINALIZER in work.finalizers:
                self._release(work)

    def _hold_then_delete(self, work: SeenWork) -> None:
        if names.HUB_FINALIZER in work.finalizers:
            self._delete(work)
            return

        def desired() -> Write | None:
            current = self._current(work)
            if current is None or current.deleting:
                return None
            return _finalizers(current, (*current.finalizers, names.HUB_FINALIZER))

        def done(answer: Object | None) -> None:
            self._seen(answer)
            current = self._current(work)
            if current is not None:
                self._delete(current)

        self._writes.submit(WriteKey(MANIFEST_WORKS, work.cluster, work.name), desired, on_done=done)

    def _delete(self, work: SeenWork) -> None:
        def desired() -> Write | None:
            current = self._current(work)
            return Delete(work.uid) if current is not None and not current.deleting else None

        self._writes.submit(WriteKey(MANIFEST_WORKS, work.cluster, work.name), desired)

    def _release(self, work: SeenWork) -> None:
        def desired() -> Write | None:
            current = self._current(work)
            if current is None or names.HUB_FINALIZER not in current.finalizers:
                return None
            return _finalizers(current, tuple(f for f in current.finalizers if f != names.HUB_FINALIZER))

        self._writes.submit(WriteKey(MANIFEST_WORKS, work.cluster, work.name), desired, on_done=self._seen)

    def _current(self, work: SeenWork) -> SeenWork | None:
        entry = self._table.entries.get(work.job.uid)
        current = entry.works.get(work.key) if entry is not None else None
        return current if current is not None and current.uid == work.uid else None

    def _seen(self, answer: Object | None) -> None:
        take(self._table, answer)


def patient(template: Mapping[str, Any], notice: float) -> Json:
    """The template with the notice as its grace, unless it says itself how long it takes: on Kubernetes what is told to
    go has that time and no other."""
    pod = template.get("spec") or {}
    if pod.get("terminationGracePeriodSeconds") is not None:
        return dict(template)
    return {**template, "spec": {**pod, "terminationGracePeriodSeconds": math.ceil(notice)}}


def flavored(template: Mapping[str, Any], labels: Mapping[str, str], tolerations: tuple[Toleration, ...]) -> Json:
    """The template with what its flavors add; what the job itself says of a label stays."""
    pod = dict(template.get("spec") or {})
    if labels:
        pod["nodeSelector"] = {**labels, **(pod.get("nodeSelector") or {})}
    if tolerations:
        added = [
            {key: value for key in ("key", "operator", "value", "effect") if (value := getattr(toleration, key))}
            for toleration in tolerations
        ]
        pod["tolerations"] = [*(pod.get("tolerations") or ()), *added]
    return {**template, "spec": pod}


def _finalizers(work: SeenWork, finalizers: tuple[str, ...]) -> MergePatch:
    # The list is replaced as a whole, so it must be the one that was seen: the agent changes it, too.
    metadata: Json = {"uid": work.uid, "resourceVersion": str(work.version), "finalizers": list(finalizers) or None}
    return MergePatch({"metadata": metadata})


def _is_recorded(now: Attempt, memory: Memory) -> bool:
    then = next((attempt for attempt in memory.attempts if attempt.epoch == now.epoch), None)
    return (
        then is not None
        and then.state == now.state
        and then.stale == now.stale
        and then.succeeded == now.succeeded - now.stale
        and then.failed == now.failed - now.stale
    )
