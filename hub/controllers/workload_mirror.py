"""Kueue's Workload of every job: made once, its status written late, so that a job that ends at once costs one of each.

It follows the job; of what is in it only `spec.active` and the answers of admission checks decide anything. That an
earlier job's Workload still has the name (it is being collected) is waited out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from hub.api import names
from hub.api.errors import AlreadyExistsError
from hub.api.mergepatch import create_merge_patch
from hub.api.resource import WORKLOADS
from hub.client.interface import Object
from hub.controllers.checking import Checking
from hub.controllers.logs import logger
from hub.controllers.seen import read_workload
from hub.controllers.table import JobEntry, JobTable
from hub.controllers.tempo import Tempo
from hub.controllers.world import World
from hub.controllers.writes import Create, MergePatch, Write, WriteKey, Writes
from hub.jobs.limits import is_up
from hub.jobs.spec import JobSpec
from hub.jobs.state import JobState
from hub.jobs.workload import workload_object, workload_status

Json = dict[str, Any]
_log = logger(__name__)
# Seconds. A creation lets the job's first works go ahead; an end lets the job's own status do so.
_CREATE: Final = 0.02
_NEWS: Final = 1.0
_END: Final = 0.05
_NAME_TAKEN: Final = 0.5
_SOON: Final = 0.002


class WorkloadMirror:
    """`clock` is the loop's, `now` epoch seconds."""

    def __init__(
        self,
        table: JobTable,
        world: World,
        writes: Writes,
        tempo: Tempo,
        clock: Callable[[], float],
        now: Callable[[], float],
        *,
        checking: Checking,
        waits: bool = False,
    ) -> None:
        """`waits`: whether it is watched that tasks are up in time."""
        self._checking = checking
        self._waits = waits
        self._table, self._world, self._writes, self._tempo = table, world, writes, tempo
        self._clock, self._now = clock, now

    def update(self, entry: JobEntry) -> None:
        """After `entry.state` was computed anew."""
        seen, state, workload = entry.seen, entry.state, entry.workload
        if seen is None or seen.deleting or seen.spec is None or state is None:
            return
        spec = seen.spec
        key = WriteKey(WORKLOADS, spec.namespace, spec.workload)
        if workload is None:
            if not entry.workload_asked:
                entry.workload_asked = True
                self._create(entry, key, _CREATE)
            return
        if workload.deleting:
            return
        if self._changes(entry, spec):
            delay = 0.0 if entry.deactivate is not None else _NEWS
            self._writes.submit(key, lambda: self._respecified(entry), delay=delay, on_done=self._answered)
        going = bool(state.live) and all(attempt.eviction is not None for attempt in state.live)
        asked = self._checking.asked(state)
        told = (
            state.ended,
            bool(state.live),
            None if state.live else state.reason,
            going,
            state.evictions,
            self._pods_ready(entry),
            entry.hold,
            workload.uid,
            (state.reserved, asked, tuple((one.name, one.state) for one in workload.checks)),
        )
        if told != entry.workload_said:
            entry.workload_said = told
            if entry.workload_since is None:
                entry.workload_since = self._clock()
            self._submit_status(entry, key._replace(subresource="status"), state)

    def _pods_ready(self, entry: JobEntry) -> str:
        """Kueue's reason of the condition PodsReady."""
        state = entry.state
        if not self._waits or state is None or not state.live or state.reserved:
            return ""
        if any(attempt.eviction is None and not attempt.reserved and not is_up(attempt) for attempt in state.live):
            return "WaitForRecovery" if any(since is not None for since in entry.up.values()) else "WaitForStart"
        return "Recovered" if entry.recovered else "Started"

    def _create(self, entry: JobEntry, key: WriteKey, delay: float) -> None:
        def desired() -> Write | None:
            seen = entry.seen
            if seen is None or seen.spec is None or seen.deleting or entry.workload is not None:
                return None
            priority = self._world.priority_of(seen.spec)
            return Create(workload_object(seen.spec, priority if isinstance(priority, int) else 0))

        def failed(_key: WriteKey, error: Exception) -> None:
            if isinstance(error, AlreadyExistsError):
                # An earlier job's, about to be collected; or ours, from an answer that got lost.
                self._create(entry, key, _NAME_TAKEN)
                return
            _log.warning("no Workload for a job", job=str(entry.ref), why=str(error))

        self._writes.submit(key, desired, delay=delay, on_done=self._answered, on_error=failed)

    def _submit_status(self, entry: JobEntry, key: WriteKey, state: JobState) -> None:
        delay = max(0.0, self._wait(entry, state))
        self._writes.submit(key, lambda: self._status(entry, key), delay=delay, on_done=self._answered)

    def _wait(self, entry: JobEntry, state: JobState) -> float:
        if entry.workload_since is None or self._writes.closing:
            return 0.0
        going = any(attempt.eviction is not None for attempt in state.live)
        # Others act on what is said of checks, and the job waits for them.
        checks = entry.workload is not None and bool(entry.workload.checks or self._checking.asked(state))
        delay = _END if state.ended or going or checks else self._tempo.stretched(_NEWS)
        return entry.workload_since + delay - self._clock()

    def _status(self, entry: JobEntry, key: WriteKey) -> Write | None:
        seen, state, workload = entry.seen, entry.state, entry.workload
        if seen is None or seen.spec is None or state is None or workload is None or workload.deleting:
            return None
        if self._wait(entry, state) > _SOON:
            self._submit_status(entry, key, state)
            return None
        entry.workload_since = None
        previous = workload.status_object()
        asked = self._checking.asked(state)
        wanted = workload_status(
            seen.spec,
            state,
            previous,
            self._now(),
            hold=entry.hold,
            pods_ready=self._pods_ready(entry),
            asked=asked,
            ours=self._checking.ours(asked),
        )
        patch = create_merge_patch(previous, wanted)
        if patch is None:
            return None
        # Lists are replaced as a whole, and the checks' controllers or a successor may have written meanwhile.
        metadata: Json = {"uid": workload.uid, "resourceVersion": str(workload.version)}
        return MergePatch({"metadata": metadata, "status": patch})

    def _changes(self, entry: JobEntry, spec: JobSpec) -> Json:
        """What of the Workload's spec follows the job's; Kueue freezes the queue while quota is reserved.

        Who set `active` is noted: what a person or a limit has deactivated, no change of the job activates.
        """
        workload, changes, notes = entry.workload, Json(), Json()
        if workload is None:
            return {}
        if workload.active and entry.deactivate is not None and entry.state is not None:
            changes["active"] = False
            notes[names.DEACTIVATED] = f"{entry.deactivate.code}/{entry.state.next_epoch}"
        elif workload.active and spec.suspend:
            changes["active"] = False
            notes[names.SUSPENDED_BY_JOB] = "true"
        elif workload.suspended_by_job and not spec.suspend:
            notes[names.SUSPENDED_BY_JOB] = None
            if not workload.active:
                changes["active"] = True
        if workload.queue != spec.queue and not workload.reserved:
            changes["queueName"] = spec.queue
        patch: Json = {"spec": changes} if changes else {}
        return patch | ({"metadata": {"annotations": notes}} if notes else {})

    def _respecified(self, entry: JobEntry) -> Write | None:
        seen, workload = entry.seen, entry.workload
        if seen is None or seen.spec is None or workload is None or workload.deleting:
            return None
        changes = self._changes(entry, seen.spec)
        if not changes:
            return None
        return MergePatch({**changes, "metadata": {"uid": workload.uid, **changes.get("metadata", {})}})

    def _answered(self, answer: Object | None) -> None:
        if answer is None:
            return
        meta = answer["metadata"]
        known = self._table.workload(str(meta.get("namespace") or ""), str(meta["name"]))
        entry = self._table.workload_seen(read_workload(answer, known))
        if entry is not None:
            # Once it is there, its status can be written.
            self.update(entry)
