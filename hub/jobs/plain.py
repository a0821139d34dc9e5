"""What is written back to a plain batch/v1 Job: a status that tools for Jobs understand and an API server accepts.

batch/v1 is strict about Jobs that another controller runs: Complete needs SuccessCriteriaMet before it and a
completionTime, Failed needs FailureTarget, an ended Job has a startTime and nothing active, counters never fall, and an
end is for ever (so a plain Job's failed tasks cannot be asked for again: submit another). What that status has no room
for is an annotation of the Job. Nothing here decides.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from hub.api import names
from hub.api.conditions import condition_is, find_condition, with_condition
from hub.api.errors import InvalidObjectError
from hub.api.reasons import Reason
from hub.jobs.attempt import Attempt
from hub.jobs.spec import JobSpec
from hub.jobs.state import JobState
from hub.jobs.status import attempt_entries, eviction_entries, stamp

Json = dict[str, Any]
_SUSPENDED: Final = "Suspended"
_COUNTERS: Final = ("active", "ready", "succeeded", "failed", "terminating")


def job_status(spec: JobSpec, state: JobState, previous: Mapping[str, Any], now: float) -> Json:
    """The status that the Job is to have, given the one it has. `now` is epoch seconds."""
    status = dict(previous)
    conditions: Sequence[Mapping[str, Any]] = previous.get("conditions") or ()
    if condition_is(conditions, "Complete") or condition_is(conditions, "Failed"):
        return status
    at = stamp(now)
    status["active"] = status["ready"] = state.active
    status["succeeded"] = max(_number(previous, "succeeded"), len(state.succeeded))
    status["failed"] = max(_number(previous, "failed"), state.failures)
    status["terminating"] = 0
    for counter in _COUNTERS:
        # Servers do not keep a nought of most of them: said again it would be written again for ever.
        if not status[counter] and counter not in previous:
            del status[counter]
    if spec.indexed:
        if state.succeeded:
            status["completedIndexes"] = str(state.succeeded)
        if spec.per_index:
            status["failedIndexes"] = str(state.failed)
    started = state.started_at if state.started_at is not None else (now if state.ended else None)
    if started is not None and not previous.get("startTime"):
        status["startTime"] = stamp(min(started, now))
    if state.phase == "Succeeded":
        status["completionTime"] = max(stamp(state.finished_at or now), str(status["startTime"]))
        for kind, message in (("SuccessCriteriaMet", "every completion is there"), ("Complete", state.message)):
            conditions = with_condition(conditions, kind, "True", "CompletionsReached", message, now=at)
    elif state.ended:
        for kind in ("FailureTarget", "Failed"):
            conditions = with_condition(conditions, kind, "True", _failure(spec, state), state.message, now=at)
    elif state.live and not state.reserved:
        if find_condition(conditions, _SUSPENDED) is not None:
            conditions = with_condition(conditions, _SUSPENDED, "False", "JobResumed", state.message, now=at)
    else:
        conditions = with_condition(conditions, _SUSPENDED, "True", state.reason.code, state.message, now=at)
    if conditions:
        status["conditions"] = [dict(condition) for condition in conditions]
    return status


def invalid_job_status(previous: Mapping[str, Any], error: InvalidObjectError, now: float) -> Json:
    """The status of a Job that this queue cannot run as written: suspended, with what is wrong."""
    conditions: Sequence[Mapping[str, Any]] = previous.get("conditions") or ()
    if condition_is(conditions, "Complete") or condition_is(conditions, "Failed"):
        return dict(previous)
    message = Reason.INVALID_SPEC.message(detail=str(error))
    conditions = with_condition(conditions, _SUSPENDED, "True", Reason.INVALID_SPEC.code, message, now=stamp(now))
    return {**previous, "conditions": [dict(condition) for condition in conditions]}


def job_annotations(state: JobState) -> dict[str, str]:
    """What the Job must remember besides its status: slices whose ManifestWorks go. Empty when there is nothing."""
    kept = [attempt for attempt in state.attempts if _only_here(attempt)]
    if not kept:
        return {}
    memory: Json = {"attempts": attempt_entries(kept)}
    if state.evictions:
        memory["evictions"] = eviction_entries(state.evictions)
    return {names.JOB_MEMORY: json.dumps(memory, separators=(",", ":"), sort_keys=True)}


def _only_here(attempt: Attempt) -> bool:
    return attempt.gone or attempt.deleting or attempt.fenced


def _failure(spec: JobSpec, state: JobState) -> str:
    """batch/v1's reason for a failed Job."""
    if state.phase == "Cancelled" or state.reason is Reason.DEADLINE_EXCEEDED:
        return state.reason.code
    if spec.retry.failures is not None and state.failures > spec.retry.failures:
        return "BackoffLimitExceeded"
    if spec.retry.failed_tasks is not None and len(state.failed) > spec.retry.failed_tasks:
        return "MaxFailedIndexesExceeded"
    return "FailedIndexes" if spec.per_index else "BackoffLimitExceeded"


def _number(previous: Mapping[str, Any], name: str) -> int:
    value = previous.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
