"""The job's state from everything that is known of its slices: the state machine of the fleet. Pure.

Phases: Pending → Queued → Admitted → Running → Succeeded | Failed | Cancelled, and back to Queued when what ran is
lost. An ended job stays as it ended; only a new ``retry-failed`` annotation opens a Failed one again. Who owns a task
is hub/jobs/ledger.py, sentences are hub/jobs/verdict.py; what is written of all this is hub/jobs/status.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Set
from dataclasses import replace
from typing import Final

from hub.api.indexset import IndexSet
from hub.api.reasons import Reason
from hub.jobs import ledger as book
from hub.jobs.attempt import Attempt, Usage
from hub.jobs.elastic import giving_note
from hub.jobs.ledger import Ledger, settle
from hub.jobs.memory import NOTHING, Memory, known_attempts
from hub.jobs.spec import JobSpec
from hub.jobs.state import ENDED, JobState, Refused
from hub.jobs.verdict import ended, fewer_note, short, waiting_for
from hub.placement.rule import ClusterRule
from hub.queueing.demand import Demand, TaskGroup

REFUSED_GRACE: Final = 10.0
"""Seconds that a cluster may fail to apply a work before its slice fails: its agent tries again meanwhile."""


def fold(
    spec: JobSpec,
    attempts: Iterable[Attempt],
    *,
    lost: Set[str] = frozenset(),
    now: float,
    memory: Memory = NOTHING,
    refusal: Refused | None = None,
    fewer: str = "",
) -> JobState:
    """`attempts`: one for each ManifestWork of the job; `lost`: clusters that are cut off; `now`: epoch seconds.

    `attempts` must be at least as new as `memory` (the job's own object): an epoch that the memory knows and no work
    carries is gone, and its tasks go elsewhere. `refusal`: why the last plan did not place what waits; `fewer`:
    why it runs with fewer slots than it asks for, where all its tasks have one to run on.
    """
    known = known_attempts(attempts, memory)
    stamp, retries_from, reopened = _retries(spec, memory)
    over = memory.ended and not reopened
    deadline = _deadline(spec, known, memory)
    expired = deadline is not None and now >= deadline and not over
    stop = _stop(spec, memory if over else None, expired=expired)
    known = [_judge(attempt, stop, lost, now) for attempt in known]
    ledger = settle(spec.tasks, known, memory.succeeded)
    if over and memory.failed:
        known = [_too_late(attempt, memory.failed) for attempt in known]
        ledger.mark(memory.failed, book.FINAL)
    _exhaust(spec, known, ledger, retries_from)
    verdict = ended(spec, known, ledger, memory if over else None, expired=expired)
    if verdict is not None and any(attempt.live for attempt in known):
        known = [_stopped(attempt, verdict.reason) for attempt in known]
        _close(ledger)
    known = [
        _recorded(attempt, ledger.stale[position], superseded=ledger.superseded[position])
        for position, attempt in enumerate(known)
    ]
    active = held = leaving = 0
    for attempt in known:
        if attempt.live:
            active += min(attempt.active, len(attempt.open_tasks))
        if _leaves(attempt, lost):
            leaving += attempt.holds
        held += attempt.holds if attempt.live else 0
    groups = _groups(spec, known, ledger) if verdict is None else ()
    slots = 0
    if verdict is None:
        slots = 0 if spec.suspend else max(0, spec.parallelism - held)
        verdict = waiting_for(spec, known, ledger, groups, active=active, slots=slots, refusal=refusal)
        if not groups and (note := fewer_note(spec, known, fewer)):
            verdict = replace(verdict, message=f"{verdict.message}; {note}")
        if note := giving_note(known):
            verdict = replace(verdict, message=f"{verdict.message}; {note}")
        slots = max(0, slots - leaving)
    recorded = {attempt.epoch for attempt in memory.attempts if not attempt.live}
    fenced = tuple(attempt for attempt in known if attempt.fenced and not attempt.gone)
    used = max([retries_from - 1, 0, *(attempt.epoch for attempt in known)])
    finished = verdict.phase in ENDED
    return JobState(
        phase=verdict.phase,
        reason=verdict.reason,
        message=verdict.message,
        tasks=spec.tasks,
        succeeded=ledger.indexes(book.SUCCEEDED),
        failed=ledger.indexes(book.FINAL),
        active=active,
        waiting=_free(groups, known, lost),
        slots=slots,
        attempts=tuple(known),
        next_epoch=used + 1,
        delete=tuple(attempt for attempt in fenced if attempt.epoch in recorded and not attempt.deleting),
        fenced=fenced,
        usage=_usage(known, memory.usage),
        clusters=_clusters(known, finished=finished),
        failures=max(memory.failures, ledger.failures),
        evictions=_evictions(known, memory),
        submitted_at=memory.submitted_at if memory.submitted_at is not None else now,
        started_at=_started(known, memory),
        finished_at=_finished(memory if over else NOTHING, now) if finished else None,
        retries_from=retries_from,
        retry_failed=stamp,
        wake_at=_wake_at(known, deadline if not finished else None, now),
    )


def demand_of(spec: JobSpec, state: JobState, priority: int, rule: ClusterRule | None = None) -> Demand | None:
    """What the job asks of the queue now; None when nothing of it is to be placed.

    `rule` is that of its Placement, where the spec only refers to one.
    """
    if not state.slots or not state.waiting:
        return None
    live = state.live
    rule = rule or spec.rule or ClusterRule()
    placed: Counter[str] = Counter()
    for attempt in live if rule.spread else ():
        placed[attempt.cluster] += attempt.holds
    return Demand(
        key=spec.key,
        uid=spec.uid,
        namespace=spec.namespace,
        queue=spec.queue,
        priority=priority,
        created=spec.created,
        shape=spec.shape,
        groups=state.waiting,
        slots=state.slots,
        rule=rule,
        active=sum(attempt.holds for attempt in live),
        running=tuple(sorted({attempt.cluster for attempt in live})),
        expected=spec.expected_duration,
        minimum=spec.bounds[0] if spec.bounds else 1 if spec.kind == "FleetJob" else spec.min_parallelism,
        bounds=spec.bounds,
        gang=spec.gang,
        domains=spec.domains,
        placed=tuple(sorted(placed.items())),
    )


def _retries(spec: JobSpec, memory: Memory) -> tuple[str, int, bool]:
    """(the annotation that was honoured, from which epoch attempts count, whether an ended job is opened again)."""
    asked = spec.retry_failed
    if not asked or asked == memory.retry_failed or spec.kind == "Job":
        return memory.retry_failed, memory.retries_from, False
    if not memory.failed or memory.phase == "Cancelled" or spec.cancelled:
        return asked, memory.retries_from, False
    # Counted from what is recorded, not from what is there: the same while the new slices are made and this is written.
    return asked, memory.epochs + 1, memory.phase == "Failed"


def _deadline(spec: JobSpec, known: list[Attempt], memory: Memory) -> float | None:
    if spec.job_deadline is None:
        return None
    started = _started(known, memory)
    # A site's clock may be behind: nothing starts before it was created.
    return None if started is None else max(started, spec.created) + spec.job_deadline


def _stop(spec: JobSpec, over: Memory | None, *, expired: bool) -> Reason | None:
    """Why nothing of the job may run."""
    if over is not None:
        return over.reason or Reason.CANCELLED
    if spec.cancelled:
        return Reason.CANCELLED
    if expired:
        return Reason.DEADLINE_EXCEEDED
    return Reason.SUSPENDED if spec.suspend else None


def _judge(attempt: Attempt, stop: Reason | None, lost: Set[str], now: float) -> Attempt:
    """What has become of a slice that its cluster still calls live."""
    if not attempt.live:
        return attempt
    told = attempt.eviction
    if told is not None and (now >= told.stops or attempt.deleting or attempt.gone):
        return replace(
            attempt, state="Evicted", active=0, reason=told.cause, message=told.message, finished_at=told.stops
        )
    if attempt.gone or (attempt.deleting and stop is None):
        why = f"its ManifestWork on {attempt.cluster} was deleted; tasks {short(attempt.open_tasks)} go elsewhere"
        return replace(attempt, state="Lost", active=0, reason=Reason.CLUSTER_LOST.code, message=why)
    if stop is not None:
        return _stopped(attempt, stop)
    if attempt.refused_at is not None and not 0 <= now - attempt.refused_at < REFUSED_GRACE:
        message = Reason.WORK_REFUSED.message(cluster=attempt.cluster, detail=attempt.message)
        return replace(
            attempt,
            state="Failed",
            active=0,
            failed=attempt.failed | attempt.open_tasks,
            reason=Reason.WORK_REFUSED.code,
            message=message,
            finished_at=now,
        )
    if attempt.cluster in lost:
        message = Reason.CLUSTER_LOST.message(cluster=attempt.cluster, tasks=short(attempt.open_tasks))
        return replace(attempt, state="Lost", active=0, reason=Reason.CLUSTER_LOST.code, message=message)
    return attempt


def _stopped(attempt: Attempt, why: Reason) -> Attempt:
    if not attempt.live:
        return attempt
    return replace(
        attempt, state="Cancelled", active=0, reason=why.code, message=_STOPPED.get(why, "the job has ended")
    )


_STOPPED: Final = {
    Reason.CANCELLED: "stopped: the job was cancelled",
    Reason.SUSPENDED: "stopped: the job was suspended",
    Reason.DEADLINE_EXCEEDED: "stopped: the job ran longer than it may",
}


def _recorded(attempt: Attempt, stale: IndexSet, *, superseded: bool) -> Attempt:
    if superseded and attempt.live:
        message = f"newer epochs have taken over tasks {short(attempt.open_tasks)}"
        attempt = replace(attempt, state="Lost", active=0, reason=Reason.CLUSTER_LOST.code, message=message)
    late = attempt.stale | stale
    return replace(attempt, stale=late) if late != attempt.stale else attempt


def _too_late(attempt: Attempt, failed: IndexSet) -> Attempt:
    """Tasks that had failed when the job ended have failed, whatever comes after."""
    late = (attempt.succeeded & failed) - attempt.counted
    return replace(attempt, stale=attempt.stale | late) if late else attempt


def _close(ledger: Ledger) -> None:
    for low, high in list(ledger.ranges(book.OPEN)):
        ledger.codes[low : high + 1] = bytes([book.WAITING]) * (high - low + 1)


def _exhaust(spec: JobSpec, known: list[Attempt], ledger: Ledger, retries_from: int) -> None:
    """Failed tasks that get no further attempt become final."""
    retry = spec.retry
    base: dict[int, int] = {}
    if retries_from:
        for attempt in known:
            if attempt.epoch < retries_from and attempt.failed:
                base.update(dict.fromkeys(attempt.failed, attempt.attempt))
    for low, high in list(ledger.ranges(book.FAILED)):
        for task in range(low, high + 1):
            attempt = known[ledger.owner[task] - 1]
            if attempt.epoch < retries_from:
                continue
            if attempt.attempt - base.get(task, 0) >= retry.limit:
                ledger.codes[task] = book.FINAL
    if retry.only is None and not retry.never:
        return
    for position, attempt in enumerate(known):
        if attempt.epoch < retries_from:
            continue
        for code, tasks in attempt.exit_codes:
            if not retry.allows(code):
                for task in tasks:
                    if task < spec.tasks and ledger.codes[task] == book.FAILED and ledger.owner[task] == position + 1:
                        ledger.codes[task] = book.FINAL


def _groups(spec: JobSpec, known: list[Attempt], ledger: Ledger) -> tuple[TaskGroup, ...]:
    """What waits, by attempt and by the clusters to avoid: tasks that never ran first, then by attempt."""
    found: dict[tuple[int, tuple[str, ...]], list[tuple[int, int]]] = {}
    avoid: dict[int, set[str]] = {}
    for attempt in known:
        if attempt.state == "Evicted" and attempt.reason == Reason.PODS_READY_TIMEOUT.code:
            for task in attempt.open_tasks:
                if task < spec.tasks and ledger.codes[task] == book.WAITING:
                    avoid.setdefault(task, set()).add(attempt.cluster)
        if attempt.failed and (spec.retry.elsewhere or attempt.reason == Reason.WORK_REFUSED.code):
            for task in attempt.failed - attempt.stale:
                if task < spec.tasks and ledger.codes[task] in (book.WAITING, book.FAILED):
                    avoid.setdefault(task, set()).add(attempt.cluster)
    for code in (book.WAITING, book.FAILED):
        for low, high in ledger.ranges(code):
            if not any(ledger.owner[low : high + 1]):
                found.setdefault((1, ()), []).append((low, high))
                continue
            for task in range(low, high + 1):
                owner = ledger.owner[task]
                number = known[owner - 1].attempt + (code == book.FAILED) if owner else 1
                found.setdefault((number, tuple(sorted(avoid.get(task, ())))), []).append((task, task))
    return tuple(
        TaskGroup(IndexSet.of_ranges(ranges), number, clusters) for (number, clusters), ranges in sorted(found.items())
    )


def _leaves(attempt: Attempt, lost: Set[str]) -> bool:
    """Whether its processes may still be there, to be gone soon."""
    return attempt.state == "Evicted" and not attempt.gone and attempt.cluster not in lost


def _free(groups: tuple[TaskGroup, ...], known: list[Attempt], lost: Set[str]) -> tuple[TaskGroup, ...]:
    """What may be placed: a task that was told to go is asked for again when it is gone, not before."""
    leaving = IndexSet()
    for attempt in known:
        if _leaves(attempt, lost):
            leaving = leaving | attempt.open_tasks
    if not leaving:
        return groups
    return tuple(replace(group, tasks=left) for group in groups if (left := group.tasks - leaving))


def _clusters(known: list[Attempt], *, finished: bool) -> tuple[str, ...]:
    """Where it runs; of a job that has ended, where its tasks ended, if any did, else where it was sent."""
    if not finished:
        return tuple(dict.fromkeys(attempt.cluster for attempt in known if attempt.live))
    ran = [a for a in known if (a.succeeded | a.failed) - a.stale and a.reason != Reason.WORK_REFUSED.code]
    return tuple(dict.fromkeys(attempt.cluster for attempt in ran or known))


def _usage(known: list[Attempt], before: Usage) -> Usage:
    """The sum; never less than was said before, since very old slices are forgotten."""
    return Usage(
        max(before.cpu, sum([attempt.usage.cpu for attempt in known])),
        max(before.gpu, sum([attempt.usage.gpu for attempt in known])),
        max(before.wall, sum([attempt.usage.wall for attempt in known])),
    )


def _evictions(known: list[Attempt], memory: Memory) -> tuple[tuple[str, int], ...]:
    """What was said before, and those that are in no status yet: each counts once, however old slices are forgotten."""
    counts = dict(memory.evictions)
    recorded = {attempt.epoch for attempt in memory.attempts if attempt.state == "Evicted"}
    for attempt in known:
        if attempt.state == "Evicted" and attempt.epoch not in recorded:
            counts[attempt.reason] = counts.get(attempt.reason, 0) + 1
    return tuple(sorted(counts.items()))


def _started(known: list[Attempt], memory: Memory) -> float | None:
    moments = [attempt.started_at for attempt in known if attempt.started_at is not None]
    if memory.started_at is not None:
        moments.append(memory.started_at)
    return min(moments, default=None)


def _finished(memory: Memory, now: float) -> float:
    return memory.finished_at if memory.finished_at is not None else now


def _wake_at(known: list[Attempt], deadline: float | None, now: float) -> float | None:
    refused = [attempt.refused_at for attempt in known if attempt.live and attempt.refused_at is not None]
    moments = [moment + REFUSED_GRACE for moment in refused]
    moments += [attempt.eviction.stops for attempt in known if attempt.live and attempt.eviction is not None]
    if deadline is not None:
        moments.append(deadline)
    return min((moment for moment in moments if moment > now), default=None)
