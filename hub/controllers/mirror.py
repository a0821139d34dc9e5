"""What people see of a job: its own status. Written late, rarely, and whole.

It is a mirror: a hub that dies with none of it written loses nothing that its successor cannot find in the works. So
it is computed when it is sent, not when something happened, and how long it may wait depends on what is new: an end or
a loss goes at once, counters at most twice a second, mere numbers in a reason every ten seconds. Kueue's Workload, the
other mirror, is hub/controllers/workload_mirror.py.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import Any, Final

from hub.api import names
from hub.api.errors import InvalidObjectError
from hub.api.mergepatch import create_merge_patch
from hub.api.resource import FLEET_JOBS, JOBS
from hub.client.interface import Object
from hub.controllers.seen import SeenJob, read_job
from hub.controllers.table import JobEntry, JobTable
from hub.controllers.tempo import Tempo
from hub.controllers.writes import MergePatch, Write, WriteKey, Writes
from hub.jobs.plain import invalid_job_status, job_annotations, job_status
from hub.jobs.state import JobState
from hub.jobs.status import fleet_job_status, invalid_status

Json = dict[str, Any]

AT_ONCE: Final = 0.0
RUNNING: Final = 0.1
WAITING: Final = 0.3
COUNTERS: Final = 0.5
NUMBERS: Final = 10.0
"""Seconds from a change of this kind to its write, while it is calm."""
_SOON: Final = 0.002


class Mirror:
    """`clock` is the loop's, `now` epoch seconds."""

    def __init__(
        self,
        table: JobTable,
        writes: Writes,
        tempo: Tempo,
        clock: Callable[[], float],
        now: Callable[[], float],
    ) -> None:
        self._table, self._writes, self._tempo = table, writes, tempo
        self._clock, self._now = clock, now

    def update(self, entry: JobEntry) -> None:
        """After `entry.state` was computed anew; writes what is to be written, when it is due."""
        seen, state = entry.seen, entry.state
        if seen is None or seen.deleting:
            return
        if state is None or seen.spec is None:
            self._submit(entry, AT_ONCE)
            return
        told = _told(state)
        if told != entry.said:
            urgency = _urgency(state, entry.said, seen)
            entry.said = told
            if entry.unsaid_since is None:
                entry.unsaid_since, entry.urgency = self._clock(), urgency
            entry.urgency = min(entry.urgency, urgency)
            self._submit(entry, self._wait(entry))

    # The job's own status.

    def _wait(self, entry: JobEntry) -> float:
        """Seconds until the status is due; what may wait is not written more than twice a second either."""
        now = self._clock()
        if entry.unsaid_since is None or entry.urgency == AT_ONCE or self._writes.closing:
            return 0.0
        return max(entry.unsaid_since + self._tempo.stretched(entry.urgency), entry.written_at + COUNTERS) - now

    def _submit(self, entry: JobEntry, delay: float) -> None:
        ref = entry.ref
        resource = JOBS if ref.kind == "Job" else FLEET_JOBS
        delay = max(delay, 0.0)
        key = WriteKey(resource, ref.namespace, ref.name, "status")
        self._writes.submit(key, lambda: self._status(entry), delay=delay, on_done=self._answered)
        if ref.kind == "Job" and entry.state is not None:
            note = WriteKey(resource, ref.namespace, ref.name)
            self._writes.submit(note, lambda: self._note(entry), delay=delay, on_done=self._answered)

    def _status(self, entry: JobEntry) -> Write | None:
        seen, state = entry.seen, entry.state
        if seen is None:
            return None
        if (wait := self._wait(entry)) > _SOON:
            # Meanwhile there is so much going on that this can wait longer than was thought.
            self._submit(entry, wait)
            return None
        entry.unsaid_since = None
        previous = seen.status_object()
        wanted = self._wanted(seen, state, previous)
        patch = create_merge_patch(previous, wanted)
        if patch is None:
            return None
        entry.written_at = self._clock()
        # Of that version only: lists are replaced as a whole, and a successor may have written meanwhile.
        return MergePatch({"metadata": _seen_as(seen), "status": patch})

    def _wanted(self, seen: SeenJob, state: JobState | None, previous: Json) -> Json:
        at = self._now()
        if seen.spec is None or state is None:
            error = InvalidObjectError(seen.problem)
            if seen.ref.kind == "Job":
                return invalid_job_status(previous, error, at)
            return invalid_status({"metadata": {"generation": seen.generation}, "status": previous}, error, at)
        write = job_status if seen.ref.kind == "Job" else fleet_job_status
        return write(seen.spec, state, previous, at)

    def _note(self, entry: JobEntry) -> Write | None:
        """What a plain Job must remember besides its status."""
        seen, state = entry.seen, entry.state
        if seen is None or state is None:
            return None
        wanted = job_annotations(state)
        if not wanted or wanted.get(names.JOB_MEMORY) == seen.memory_note:
            return None
        return MergePatch({"metadata": {**_seen_as(seen), "annotations": wanted}})

    def _answered(self, answer: Object | None) -> None:
        if answer is None:
            return
        meta = answer["metadata"]
        kind = "Job" if answer.get("kind") == "Job" else "FleetJob"
        entry = self._table.named(kind, str(meta.get("namespace") or ""), str(meta["name"]))
        seen = read_job(answer, entry.seen if entry is not None else None)
        if seen is not None and entry is not None:
            self._table.job_seen(seen)


def _seen_as(seen: SeenJob) -> Json:
    return {"uid": seen.ref.uid, "resourceVersion": str(seen.version)}


def _told(state: JobState) -> tuple[Any, ...]:
    """All that the status says; equal when there is nothing new to write.

    Of a job that has ended its phase, its reason and a digest of the rest: jobs that have ended are many.
    """
    whole = (
        state.phase,
        state.reason,
        state.message,
        state.succeeded,
        state.failed,
        state.active,
        tuple((a.epoch, a.state, a.succeeded, a.failed, a.stale, a.message, a.usage) for a in state.attempts),
        state.retries_from,
        state.retry_failed,
        state.failures,
        tuple((a.epoch, a.resize, a.occupied) for a in state.attempts if a.resize is not None),
    )
    if not state.ended:
        return whole
    return state.phase, state.reason, blake2b(repr(whole).encode(), digest_size=16).digest()


def _urgency(state: JobState, before: tuple[Any, ...], seen: SeenJob) -> float:
    recorded = {attempt.epoch: attempt for attempt in seen.memory.attempts}
    for attempt in state.fenced:
        if attempt.epoch not in recorded or recorded[attempt.epoch].live:
            return AT_ONCE
    if state.ended:
        # Late results of what was stopped are worth recording, not hurrying for.
        return COUNTERS if seen.memory.ended and seen.memory.phase == state.phase else AT_ONCE
    if seen.memory.ended or not before:
        return AT_ONCE if seen.memory.ended else WAITING
    if before[0] != state.phase:
        return RUNNING if state.phase == "Running" else WAITING
    if before[3:7] != _told(state)[3:7]:
        return COUNTERS
    resized = before[-1] != _told(state)[-1]
    return WAITING if before[1] != state.reason or resized else NUMBERS
