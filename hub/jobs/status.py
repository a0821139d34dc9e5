"""What is written into a FleetJob's status: the whole of it, so that equal states give equal bytes and no write.

Sizes are bounded, because a status is sent to every watcher at every change: index sets are ranges, exit codes name the
first tasks of each code, and the list of attempts is cut to what fits `ATTEMPTS_BYTES`. What is cut are the oldest
attempts that are over: the works of most still say the same, what counted of them is in the job's own counts, and a
task's newest attempt carries how often it was tried.
Nothing here decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from hub.api.conditions import with_condition
from hub.api.errors import InvalidObjectError
from hub.api.indexset import IndexSet
from hub.api.reasons import Reason
from hub.api.timestamps import format_time, from_timestamp
from hub.jobs.attempt import Attempt, Usage
from hub.jobs.elastic import elastic_entry
from hub.jobs.spec import JobSpec
from hub.jobs.state import ENDED, JobState

Json = dict[str, Any]
ATTEMPTS_BYTES: Final = 20_000
"""How much the attempts may take in all, roughly; those that live or are to be taken back are always kept."""
_EXIT_CODE_BYTES: Final = 600
_MESSAGE_BYTES: Final = 300
_OWN: Final = frozenset(
    {
        "phase", "observedGeneration", "conditions", "reason", "message", "tasks", "attempts", "clusters",
        "retriesFrom", "retryFailed", "preemptions", "evictions", "submittedAt", "startedAt", "finishedAt", "usage",
        "elastic",
    }
)  # fmt: skip


def fleet_job_status(spec: JobSpec, state: JobState, previous: Mapping[str, Any], now: float) -> Json:
    """The status that the job is to have, given the one it has. `now` is epoch seconds.

    What others wrote into it stays. The caller writes the difference; there is none when nothing changed.
    """
    status: Json = {key: value for key, value in previous.items() if key not in _OWN}
    status["phase"] = state.phase
    status["observedGeneration"] = spec.generation
    status["conditions"] = _conditions(spec, state, previous.get("conditions") or (), stamp(now))
    status["reason"] = state.reason.code
    status["message"] = state.message
    status["tasks"] = _counts(state)
    if state.attempts:
        status["attempts"] = attempt_entries(state.attempts)
    if state.clusters:
        status["clusters"] = sorted(state.clusters)
    if state.retries_from:
        status["retriesFrom"] = state.retries_from
    if state.retry_failed:
        status["retryFailed"] = state.retry_failed
    if state.evictions:
        status["preemptions"] = state.preemptions
        status["evictions"] = eviction_entries(state.evictions)
    if spec.bounds is not None:
        status["elastic"] = elastic_entry(spec.bounds, state.attempts)
    for name, moment in (
        ("submittedAt", state.submitted_at),
        ("startedAt", state.started_at),
        ("finishedAt", state.finished_at),
    ):
        if moment is not None:
            status[name] = stamp(moment)
    if usage := usage_entry(state.usage):
        status["usage"] = usage
    return status


def invalid_status(obj: Mapping[str, Any], error: InvalidObjectError, now: float) -> Json:
    """The status of a FleetJob that cannot be read as written: it says so, and forgets nothing of what was there.

    A job that runs goes on as it last could be read; one that has ended stays as it ended.
    """
    previous = obj.get("status") or {}
    if previous.get("phase") in ENDED:
        return dict(previous)
    generation = int((obj.get("metadata") or {}).get("generation") or 0)
    message = Reason.INVALID_SPEC.message(detail=str(error))
    conditions: Sequence[Mapping[str, Any]] = previous.get("conditions") or ()
    if previous.get("phase") not in ("Admitted", "Running"):
        conditions = with_condition(
            conditions,
            "QuotaReserved",
            "False",
            Reason.INVALID_SPEC.code,
            message,
            now=stamp(now),
            generation=generation,
        )
    return {
        **previous,
        "phase": previous.get("phase") or "Pending",
        "observedGeneration": generation,
        "conditions": [dict(condition) for condition in conditions],
        "reason": Reason.INVALID_SPEC.code,
        "message": message,
    }


def attempt_entries(attempts: Iterable[Attempt]) -> list[Json]:
    """By epoch; see the module for what is cut."""
    kept: list[Json] = []
    left = ATTEMPTS_BYTES
    for attempt in reversed(list(attempts)):
        must = attempt.live or (not attempt.gone and attempt.fenced)
        if left <= 0 and not must:
            continue
        entry = _attempt(attempt)
        left -= 90 + sum(len(value) for value in entry.values() if isinstance(value, str))
        kept.append(entry)
    kept.reverse()
    return kept


def eviction_entries(evictions: Iterable[tuple[str, int]]) -> list[Json]:
    return [{"reason": reason, "count": count} for reason, count in evictions]


def usage_entry(usage: Usage) -> Json:
    amounts = (("cpuSeconds", usage.cpu), ("gpuSeconds", usage.gpu), ("wallSeconds", usage.wall))
    return {name: round(amount, 3) for name, amount in amounts if amount}


def stamp(moment: float) -> str:
    return format_time(from_timestamp(moment))


def _attempt(attempt: Attempt) -> Json:
    entry: Json = {
        "epoch": attempt.epoch,
        "attempt": attempt.attempt,
        "cluster": attempt.cluster,
        "tasks": str(attempt.tasks),
        "state": attempt.state,
    }
    for name, tasks in (
        ("succeeded", attempt.succeeded - attempt.stale),
        ("failed", attempt.failed - attempt.stale),
        ("stale", attempt.stale),
    ):
        if tasks:
            entry[name] = str(tasks)
    if codes := _exit_codes(attempt.exit_codes):
        entry["exitCodes"] = codes
    if attempt.started_at is not None:
        entry["startedAt"] = stamp(attempt.started_at)
    if attempt.finished_at is not None:
        entry["finishedAt"] = stamp(attempt.finished_at)
    if attempt.admitted_at is not None and attempt.fenced:
        # Of the others their works say it.
        entry["admittedAt"] = stamp(attempt.admitted_at)
    if attempt.reason:
        entry["reason"] = attempt.reason
    if attempt.message:
        entry["message"] = attempt.message[:_MESSAGE_BYTES]
    if usage := usage_entry(attempt.usage):
        entry["usage"] = usage
    return entry


def _exit_codes(codes: Sequence[tuple[int, IndexSet]]) -> str:
    parts, left = [], _EXIT_CODE_BYTES
    for code, tasks in codes:
        ranges = tasks.ranges[: max(1, left // 8)]
        parts.append(f"{code}={IndexSet(ranges)}")
        left -= len(parts[-1])
        if left <= 0:
            break
    return ";".join(parts)


def _counts(state: JobState) -> Json:
    succeeded, failed = len(state.succeeded), len(state.failed)
    counts: Json = {
        "total": state.tasks,
        "pending": max(0, state.tasks - succeeded - failed - state.active),
        "active": state.active,
        "succeeded": succeeded,
        "failed": failed,
        "summary": f"{succeeded}/{state.tasks}",
    }
    if succeeded:
        counts["succeededIndexes"] = str(state.succeeded)
    if failed:
        counts["failedIndexes"] = str(state.failed)
    return counts


def _conditions(spec: JobSpec, state: JobState, previous: Sequence[Mapping[str, Any]], now: str) -> list[Json]:
    """Those that say something; a condition appears when it is first true or first worth a reason."""
    conditions = [dict(condition) for condition in previous if isinstance(condition, Mapping)]
    generation = spec.generation or None

    def put(kind: str, status: str, reason: Reason, message: str) -> None:
        nonlocal conditions
        conditions = with_condition(conditions, kind, status, reason.code, message, now=now, generation=generation)

    has = {condition.get("type") for condition in conditions}
    reason, message = state.reason, state.message
    if not state.ended:
        live = state.live
        if live:
            queue = live[-1].queue
            clusters = ", ".join(sorted({attempt.cluster for attempt in live}))
            put("QuotaReserved", "True", Reason.QUOTA_RESERVED, Reason.QUOTA_RESERVED.message(queue=queue))
            if state.reserved:
                put("Admitted", "False", Reason.UNSATISFIED_CHECKS, message)
            else:
                put("Admitted", "True", Reason.ADMITTED, Reason.ADMITTED.message(queue=queue, clusters=clusters))
        else:
            put("QuotaReserved", "False", reason, message)
            if "Admitted" in has:
                put("Admitted", "False", reason, message)
        for kind in ("Succeeded", "Failed"):
            if kind in has:
                put(kind, "False", reason, message)
    if state.phase == "Running":
        put("Running", "True", Reason.RUNNING, message)
    elif "Running" in has:
        put("Running", "False", reason, message)
    if state.ended:
        put("Succeeded", "True" if state.phase == "Succeeded" else "False", reason, message)
        if state.phase == "Failed" or "Failed" in has:
            put("Failed", "True" if state.phase == "Failed" else "False", reason, message)
    return conditions
