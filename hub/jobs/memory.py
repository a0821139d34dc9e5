"""What a job's own object remembers of it: what its ManifestWorks, once gone, can say no more.

A FleetJob remembers in its status. A plain Job's status has no room for attempts: they are in an annotation, in the
same shape. Reading never fails: what cannot be read was never said. Nothing here judges what is remembered.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, cast, get_args

from hub.api import names
from hub.api.conditions import find_condition
from hub.api.errors import InvalidObjectError
from hub.api.indexset import IndexSet
from hub.api.reasons import Reason
from hub.api.timestamps import parse_time
from hub.jobs.attempt import Attempt, AttemptState, Usage
from hub.jobs.feedback import parse_exit_codes
from hub.jobs.state import ENDED, Phase

_EMPTY: Final = IndexSet()
_REASONS: Final = {reason.code: reason for reason in Reason}
_RANK: Final = {"Pending": 0, "Running": 1}


@dataclass(frozen=True, slots=True)
class Memory:
    """`phase` None: nothing was ever said. `reason` and `message` are the ones last written. Times are epoch seconds.

    `epochs`: the highest epoch that was ever used, as far as is known.
    """

    phase: Phase | None = None
    reason: Reason | None = None
    message: str = ""
    attempts: tuple[Attempt, ...] = ()
    succeeded: IndexSet = _EMPTY
    failed: IndexSet = _EMPTY
    failures: int = 0
    evictions: tuple[tuple[str, int], ...] = ()
    epochs: int = 0
    submitted_at: float | None = None
    started_at: float | None = None
    finished_at: float | None = None
    retries_from: int = 0
    retry_failed: str = ""
    usage: Usage = Usage()

    @property
    def ended(self) -> bool:
        return self.phase in ENDED


NOTHING: Final = Memory()


def memory_of(obj: Mapping[str, Any]) -> Memory:
    """Of a FleetJob or a plain Job, as its object is now."""
    status = obj.get("status")
    status = status if isinstance(status, Mapping) else {}
    if obj.get("kind") == "Job":
        return _of_job(obj, status)
    return _of_status(obj, status) if status else NOTHING


def known_attempts(works: Iterable[Attempt], memory: Memory) -> list[Attempt]:
    """Everything known of every epoch, by epoch: what works say, joined with what is remembered.

    `works` must be at least as new as `memory`: an epoch that is remembered and has no work counts as gone. The join
    never loses a result, so an old message replayed changes nothing.
    """
    found = {attempt.epoch: attempt for attempt in works}
    for old in memory.attempts:
        now = found.get(old.epoch)
        found[old.epoch] = replace(old, gone=True) if now is None else _join(now, old)
    return [found[epoch] for epoch in sorted(found)]


def _join(now: Attempt, old: Attempt) -> Attempt:
    succeeded = now.succeeded | old.succeeded
    failed = (now.failed | old.failed) - succeeded
    state, reason, message = now.state, now.reason, now.message
    if old.state in ("Lost", "Cancelled", "Evicted"):
        state, reason, message = old.state, old.reason, old.message or message
    elif not (now.tasks - succeeded - failed):
        state = "Failed" if failed else "Succeeded"
    elif not old.live:
        # An old report, or results that do not count: it had ended already.
        state = old.state
    elif now.live and _RANK.get(old.state, 0) > _RANK.get(state, 0):
        state = old.state
    if old.reason and state == old.state:
        reason, message = old.reason, old.message or message
    return replace(
        now,
        state=state,
        reason=reason,
        message=message,
        succeeded=succeeded,
        failed=failed,
        counted=old.succeeded,
        stale=old.stale,
        exit_codes=now.exit_codes or old.exit_codes,
        usage=Usage(
            max(now.usage.cpu, old.usage.cpu), max(now.usage.gpu, old.usage.gpu), max(now.usage.wall, old.usage.wall)
        ),
        started_at=_first(now.started_at, old.started_at),
        finished_at=now.finished_at or old.finished_at,
        admitted_at=_first(now.admitted_at, old.admitted_at),
    )


def _first(one: float | None, other: float | None) -> float | None:
    return min((moment for moment in (one, other) if moment is not None), default=None)


def _of_status(obj: Mapping[str, Any], status: Mapping[str, Any]) -> Memory:
    meta = obj.get("metadata") or {}
    tasks = status.get("tasks")
    tasks = tasks if isinstance(tasks, Mapping) else {}
    attempts = []
    for entry in _entries(status.get("attempts")):
        attempt = _attempt(entry, str(meta.get("name") or ""), str(meta.get("uid") or ""))
        if attempt is not None:
            attempts.append(attempt)
    phase = status.get("phase")
    retries_from = _number(status.get("retriesFrom"))
    return Memory(
        phase=cast(Phase, phase) if phase in get_args(Phase) else None,
        reason=_REASONS.get(str(status.get("reason") or "")),
        message=str(status.get("message") or ""),
        attempts=tuple(sorted(attempts, key=lambda attempt: attempt.epoch)),
        succeeded=_indexes(tasks.get("succeededIndexes")),
        failed=_indexes(tasks.get("failedIndexes")),
        failures=_number(status.get("failures")),
        evictions=_evictions(status.get("evictions")),
        epochs=max([0, retries_from - 1, *(attempt.epoch for attempt in attempts)]),
        submitted_at=_moment(status.get("submittedAt")),
        started_at=_moment(status.get("startedAt")),
        finished_at=_moment(status.get("finishedAt")),
        retries_from=retries_from,
        retry_failed=str(status.get("retryFailed") or ""),
        usage=_usage(status.get("usage")),
    )


def _of_job(obj: Mapping[str, Any], status: Mapping[str, Any]) -> Memory:
    import json

    kept = ((obj.get("metadata") or {}).get("annotations") or {}).get(names.JOB_MEMORY)
    try:
        remembered = json.loads(kept) if kept else {}
    except (ValueError, TypeError, RecursionError):
        remembered = {}
    memory = _of_status(obj, remembered) if isinstance(remembered, Mapping) else NOTHING
    phase: Phase | None = memory.phase
    reason, message, ended_at = memory.reason, memory.message, memory.finished_at
    for kind, end in (("Complete", "Succeeded"), ("Failed", "Failed")):
        verdict = find_condition(_entries(status.get("conditions")), kind)
        if verdict is not None and verdict.get("status") == "True":
            phase = cast(Phase, end)
            message = str(verdict.get("message") or "")
            ended_at = _moment(verdict.get("lastTransitionTime")) or ended_at
            reason = _REASONS.get(str(verdict.get("reason") or ""), reason)
            if phase == "Failed" and verdict.get("reason") == Reason.CANCELLED.code:
                phase = "Cancelled"
            if phase == "Succeeded":
                reason = Reason.SUCCEEDED
    return replace(
        memory,
        phase=phase,
        reason=reason,
        message=message,
        succeeded=memory.succeeded | _indexes(status.get("completedIndexes")),
        failed=memory.failed | _indexes(status.get("failedIndexes")),
        failures=max(memory.failures, _number(status.get("failed"))),
        started_at=_moment(status.get("startTime")) or memory.started_at,
        finished_at=_moment(status.get("completionTime")) or ended_at,
    )


def _attempt(entry: Mapping[str, Any], job: str, uid: str) -> Attempt | None:
    epoch, tasks = _number(entry.get("epoch")), _indexes(entry.get("tasks"))
    state = entry.get("state")
    if not epoch or not tasks or state not in get_args(AttemptState):
        return None
    succeeded, failed = _indexes(entry.get("succeeded")) & tasks, _indexes(entry.get("failed")) & tasks
    codes = entry.get("exitCodes")
    try:
        exit_codes = parse_exit_codes(codes) if isinstance(codes, str) else ()
    except InvalidObjectError:
        exit_codes = ()
    return Attempt(
        epoch=epoch,
        attempt=max(1, _number(entry.get("attempt"))),
        cluster=str(entry.get("cluster") or ""),
        tasks=tasks,
        slots=0,
        work=names.work_name(job, uid, epoch),
        state=cast(AttemptState, state),
        succeeded=succeeded,
        failed=failed - succeeded,
        exit_codes=exit_codes,
        usage=_usage(entry.get("usage")),
        started_at=_moment(entry.get("startedAt")),
        finished_at=_moment(entry.get("finishedAt")),
        admitted_at=_moment(entry.get("admittedAt")),
        message=str(entry.get("message") or ""),
        reason=str(entry.get("reason") or ""),
        counted=succeeded,
        stale=_indexes(entry.get("stale")) & tasks,
    )


def _entries(value: Any) -> list[Mapping[str, Any]]:
    return [entry for entry in value if isinstance(entry, Mapping)] if isinstance(value, list) else []


def _evictions(value: Any) -> tuple[tuple[str, int], ...]:
    return tuple(sorted((str(entry.get("reason") or ""), _number(entry.get("count"))) for entry in _entries(value)))


def _indexes(value: Any) -> IndexSet:
    if not isinstance(value, str) or not value:
        return _EMPTY
    try:
        return IndexSet.parse(value)
    except InvalidObjectError:
        return _EMPTY


def _number(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def _moment(value: Any) -> float | None:
    try:
        return parse_time(value).timestamp() if value else None
    except (InvalidObjectError, OverflowError):
        return None


def _usage(value: Any) -> Usage:
    if not isinstance(value, Mapping):
        return Usage()
    cpu, gpu, wall = (value.get(name) for name in ("cpuSeconds", "gpuSeconds", "wallSeconds"))
    return Usage(*(float(part) if isinstance(part, int | float) and part > 0 else 0.0 for part in (cpu, gpu, wall)))
