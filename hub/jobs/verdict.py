"""How a job stands, in one phase, one reason and one sentence. Sentences are made here and nowhere else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from hub.api.indexset import IndexSet
from hub.api.reasons import Reason
from hub.api.timestamps import format_duration
from hub.jobs import ledger as book
from hub.jobs.attempt import Attempt
from hub.jobs.ledger import Ledger
from hub.jobs.memory import Memory
from hub.jobs.spec import JobSpec
from hub.jobs.state import Phase, Refused
from hub.queueing.demand import TaskGroup

_SHORT: Final = 60


@dataclass(frozen=True, slots=True)
class Verdict:
    phase: Phase
    reason: Reason
    message: str


def short(tasks: IndexSet) -> str:
    """For sentences: ``1,3-57``, cut with … when it is long."""
    text = str(tasks) if len(tasks.ranges) <= _SHORT else str(IndexSet(tasks.ranges[:_SHORT]))
    if len(text) <= _SHORT and len(tasks.ranges) <= _SHORT:
        return text
    return text[: text.rfind(",", 0, _SHORT) + 1] + "…"


def retry_note(spec: JobSpec, attempt: Attempt, failed: IndexSet) -> str:
    """What is to be said of a slice that failed; `failed` are the job's tasks that failed for good.

    Empty when no task of it is tried again.
    """
    again = attempt.failed - failed - attempt.stale
    return _retrying(spec, attempt, again) if again else ""


def ended(
    spec: JobSpec, known: Sequence[Attempt], ledger: Ledger, memory: Memory | None, *, expired: bool
) -> Verdict | None:
    """The end of the job, or None while it goes on. `memory`: it had ended already, and how."""
    if memory is not None and memory.phase is not None:
        reason = memory.reason or (Reason.SUCCEEDED if memory.phase == "Succeeded" else Reason.TASKS_FAILED)
        return Verdict(memory.phase, reason, memory.message)
    succeeded, final = ledger.count(book.SUCCEEDED), ledger.count(book.FINAL)
    retry = spec.retry
    if succeeded == spec.tasks:
        return Verdict("Succeeded", Reason.SUCCEEDED, Reason.SUCCEEDED.message(tasks=spec.tasks))
    if succeeded + final == spec.tasks:
        return _all_ended(spec, known, ledger)
    if spec.cancelled:
        return Verdict("Cancelled", Reason.CANCELLED, spec.cancelled)
    if expired and spec.job_deadline is not None:
        deadline = format_duration(spec.job_deadline)
        return Verdict("Failed", Reason.DEADLINE_EXCEEDED, Reason.DEADLINE_EXCEEDED.message(deadline=deadline))
    if (retry.failures is not None and ledger.failures > retry.failures) or (
        retry.failed_tasks is not None and final > retry.failed_tasks
    ):
        return _all_ended(spec, known, ledger)
    return None


def waiting_for(
    spec: JobSpec,
    known: Sequence[Attempt],
    ledger: Ledger,
    groups: Sequence[TaskGroup],
    *,
    active: int,
    slots: int,
    refusal: Refused | None,
) -> Verdict:
    """Where a job stands that has not ended. `slots`: how many more tasks may run at once."""
    if spec.suspend:
        return Verdict("Pending", Reason.SUSPENDED, Reason.SUSPENDED.message())
    live = [attempt for attempt in known if attempt.live]
    if not live:
        if refusal is not None:
            return Verdict("Queued", refusal.reason, refusal.message)
        return _again(spec, known, ledger) or Verdict("Queued", Reason.QUEUED, Reason.QUEUED.message(queue=spec.queue))
    if refusal is not None and refusal.reason is Reason.UNSATISFIED_CHECKS and all(a.reserved for a in live):
        return Verdict("Queued", refusal.reason, refusal.message)
    clusters = ", ".join(sorted({attempt.cluster for attempt in live}))
    phase: Phase = "Admitted"
    reason, message = Reason.ADMITTED, Reason.ADMITTED.message(queue=live[-1].queue, clusters=clusters)
    # What has results is under way, also in the moment between two slices.
    if any(attempt.state == "Running" for attempt in live) or ledger.count(book.SUCCEEDED):
        phase, reason = "Running", Reason.RUNNING
        message = Reason.RUNNING.message(active=active, tasks=spec.tasks, clusters=clusters)
    waiting = sum(len(group.tasks) for group in groups)
    if waiting:
        message += f"; {waiting} wait: {_why_part(spec, known, ledger, slots, refusal)}"
    return Verdict(phase, reason, message)


def fewer_note(spec: JobSpec, known: Sequence[Attempt], why: str) -> str:
    """What is to be said of a job that runs its tasks on fewer slots than it asks for; empty when it does not."""
    live = [attempt for attempt in known if attempt.live]
    has = sum(attempt.slots for attempt in live)
    wanted = min(spec.parallelism, sum(len(attempt.open_tasks) for attempt in live))
    if has >= wanted or spec.bounds is not None:
        return ""
    return why or Reason.FEWER_SLOTS.message(slots=has, wanted=wanted, detail="")


def _why_part(spec: JobSpec, known: Sequence[Attempt], ledger: Ledger, slots: int, refusal: Refused | None) -> str:
    """Why some of a job's tasks wait while others run."""
    if not slots:
        return Reason.PARALLELISM_REACHED.message(active=spec.parallelism)
    if refusal is not None:
        return refusal.message
    again = _again(spec, known, ledger)
    return again.message if again is not None else Reason.QUEUED.message(queue=spec.queue)


def _all_ended(spec: JobSpec, known: Sequence[Attempt], ledger: Ledger) -> Verdict:
    """Failed, with what the newest failure was: a job of one task says its exit code here."""
    failed = ledger.indexes(book.FINAL) | ledger.indexes(book.FAILED)
    message = Reason.TASKS_FAILED.message(failed=len(failed), tasks=spec.tasks, indexes=short(failed))
    last = _newest_failure(known, ledger, (book.FINAL, book.FAILED))
    if last is None:
        return Verdict("Failed", Reason.TASKS_FAILED, message)
    attempt, tasks = last
    detail = _detail(attempt, tasks)
    by_deadline = {a.epoch for a in known if a.reason == Reason.DEADLINE_EXCEEDED.code}
    if by_deadline and all(known[ledger.owner[task] - 1].epoch in by_deadline for task in failed):
        deadline = format_duration(spec.slice_deadline or 0)
        said = Reason.DEADLINE_EXCEEDED.message(deadline=deadline)
        return Verdict("Failed", Reason.DEADLINE_EXCEEDED, f"{said}; {message}")
    code = _code(attempt, tasks)
    if code is not None and not spec.retry.allows(code):
        why = Reason.EXIT_CODE_NOT_RETRIED.message(code=code)
        detail = f"{detail} on {attempt.cluster}: {why}"
    elif attempt.attempt > 1:
        detail = Reason.RETRIES_EXHAUSTED.message(attempts=attempt.attempt, cluster=attempt.cluster, detail=detail)
    else:
        detail = f"{detail} on {attempt.cluster}"
    return Verdict("Failed", Reason.TASKS_FAILED, f"{message}; {detail}")


def _again(spec: JobSpec, known: Sequence[Attempt], ledger: Ledger) -> Verdict | None:
    """Why tasks that had a cluster are back in the queue."""
    failure = _newest_failure(known, ledger, (book.FAILED,))
    if failure is not None:
        return Verdict("Queued", Reason.RETRYING, _retrying(spec, *failure))
    gone = ("Lost", "Evicted")
    lost = next((attempt for attempt in reversed(known) if attempt.state in gone and attempt.open_tasks), None)
    if lost is None:
        return None
    if lost.state == "Evicted":
        cause = next((reason for reason in Reason if reason.code == lost.reason), Reason.PREEMPTED)
        return Verdict("Queued", cause, lost.message)
    message = lost.message or Reason.CLUSTER_LOST.message(cluster=lost.cluster, tasks=short(lost.open_tasks))
    return Verdict("Queued", Reason.CLUSTER_LOST, message)


def _retrying(spec: JobSpec, attempt: Attempt, tasks: IndexSet) -> str:
    return Reason.RETRYING.message(
        tasks=short(tasks),
        cluster=attempt.cluster,
        detail=_detail(attempt, tasks),
        attempt=attempt.attempt + 1,
        limit=max(spec.retry.limit, attempt.attempt + 1),
    )


def _newest_failure(
    known: Sequence[Attempt], ledger: Ledger, codes: tuple[int, ...]
) -> tuple[Attempt, IndexSet] | None:
    """The newest attempt that owns failed tasks, and those."""
    for position in range(len(known) - 1, -1, -1):
        failed = known[position].failed
        if not failed:
            continue
        mine = [
            task
            for task in failed
            if task < len(ledger.codes) and ledger.codes[task] in codes and ledger.owner[task] == position + 1
        ]
        if mine:
            return known[position], IndexSet.of(mine)
    return None


def _code(attempt: Attempt, tasks: IndexSet) -> int | None:
    return next((code for code, failed in attempt.exit_codes if failed & tasks), None)


def _detail(attempt: Attempt, tasks: IndexSet) -> str:
    codes = [str(code) for code, failed in attempt.exit_codes if failed & tasks]
    if codes:
        return f"exit code {', '.join(codes)}"
    return attempt.message or "no exit code was reported"
