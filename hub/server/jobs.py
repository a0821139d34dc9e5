"""Jobs as people read them: FleetJobs and the plain Jobs that came in through a queue, one row each.

Reads objects as the API has them and judges nothing: what a phase or a reason means is hub/jobs. A plain Job's phase is
read from its conditions, since its status has none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from hub.api import names
from hub.api.conditions import condition_is, find_condition
from hub.api.errors import InvalidObjectError
from hub.api.indexset import IndexSet
from hub.api.reasons import Reason
from hub.jobs.memory import memory_of
from hub.server.view import Cell, Column, Table, age, moment, some, span

Json = Mapping[str, Any]
ENDED = frozenset({"Succeeded", "Failed", "Cancelled"})


@dataclass(frozen=True, slots=True)
class JobRow:
    """Times are epoch seconds. `gpu` is what one task asks for, in words."""

    kind: str
    namespace: str
    name: str
    queue: str
    phase: str
    total: int
    succeeded: int
    failed: int
    active: int
    clusters: tuple[str, ...]
    reason: str
    message: str
    gpu: str
    priority: str
    attempts: int
    created: float | None
    started: float | None
    finished: float | None

    @property
    def tasks(self) -> str:
        return f"{self.succeeded}/{self.total}"


def is_fleets(job: Json) -> bool:
    """Whether a listed object is a job of the fleet: of plain Jobs only those that name a queue."""
    return job.get("kind") != "Job" or names.QUEUE_NAME in ((job.get("metadata") or {}).get("labels") or {})


def job_row(job: Json, clusters: Iterable[str] = ()) -> JobRow:
    """`clusters`: where it has ManifestWorks, for a plain Job, whose own status has no place for its clusters."""
    meta, spec = job["metadata"], job.get("spec") or {}
    status = job.get("status") or {}
    plain = job.get("kind") == "Job"
    labels = meta.get("labels") or {}
    counts = status if plain else status.get("tasks") or {}
    total = spec.get("completions") if plain else spec.get("tasks")
    phase, reason, message = _plain_phase(job, status) if plain else _phase(status)
    succeeded, total = int(counts.get("succeeded") or 0), 1 if total is None else int(total)
    return JobRow(
        kind="Job" if plain else "FleetJob",
        namespace=str(meta.get("namespace") or ""),
        name=str(meta["name"]),
        queue=str((labels.get(names.QUEUE_NAME) if plain else spec.get("queueName")) or names.DEFAULT_QUEUE),
        phase=phase,
        total=total,
        succeeded=succeeded,
        failed=_plain_failed(status, phase, total - succeeded) if plain else int(counts.get("failed") or 0),
        active=int(counts.get("active") or 0),
        clusters=_plain_clusters(job, clusters) if plain else tuple(map(str, status.get("clusters") or ())),
        reason=reason,
        message=message,
        gpu=gpu_text(spec.get("gpu")),
        priority=str((labels.get(names.PRIORITY_CLASS) if plain else spec.get("priorityClassName")) or ""),
        attempts=len(status.get("attempts") or ()),
        created=moment(meta.get("creationTimestamp")),
        started=moment(status.get("startTime" if plain else "startedAt")),
        finished=_plain_end(status) if plain else moment(status.get("finishedAt")),
    )


def _plain_clusters(job: Json, clusters: Iterable[str]) -> tuple[str, ...]:
    """Those of its works, without those that it has left."""
    attempts = memory_of(job).attempts
    here = {attempt.cluster for attempt in attempts if attempt.live or attempt.state in ("Succeeded", "Failed")}
    left = {attempt.cluster for attempt in attempts} - here
    return tuple(sorted({*clusters} - left))


def job_table(rows: Iterable[JobRow], now: float, *, namespaces: bool = False) -> Table:
    """Oldest first within a namespace, as they were submitted."""
    columns = (
        Column("NAME", elastic=True),
        Column("KIND", wide=True, spare=9),
        Column("QUEUE", elastic=True, spare=4),
        Column("PRIORITY", wide=True, spare=8),
        Column("PHASE"),
        Column("TASKS", right=True),
        Column("RUNNING", right=True, spare=5),
        Column("FAILED", right=True, spare=1),
        Column("GPU", wide=True, spare=6),
        Column("CLUSTERS", elastic=True, spare=3),
        Column("SLICES", wide=True, right=True, spare=8),
        Column("AGE", right=True, spare=2),
        Column("TOOK", right=True, spare=5),
        Column("REASON", elastic=True, spare=1),
        Column("MESSAGE", wide=True, elastic=True, spare=7),
    )
    lines = []
    for row in sorted(rows, key=lambda row: (row.namespace, row.created or 0.0, row.name, row.kind)):
        line: tuple[Cell, ...] = (
            row.name,
            row.kind,
            row.queue,
            row.priority,
            row.phase,
            row.tasks,
            row.active or None,
            row.failed or None,
            row.gpu,
            some(row.clusters),
            row.attempts or None,
            age(row.created, now),
            span(row.started, row.finished, now),
            # The phase says it already.
            row.reason if row.reason != row.phase else "",
            row.message,
        )
        lines.append((row.namespace, *line) if namespaces else line)
    return Table((Column("NAMESPACE", elastic=True), *columns) if namespaces else columns, tuple(lines))


def gpu_text(gpu: Any) -> str:
    """``2 × A100/H100``, ``0.5 of a GPU``."""
    if not isinstance(gpu, Mapping):
        return ""
    model = "/".join(str(model) for model in gpu.get("models") or ()) or "GPU"
    if gpu.get("share") is not None:
        text = f"{gpu['share']} of a {model}"
    else:
        count = gpu.get("count")
        text = f"{1 if count is None else count} × {model}"
    return text + (f" ≥ {gpu['minMemory']}" if gpu.get("minMemory") else "")


def _phase(status: Json) -> tuple[str, str, str]:
    if not status.get("phase"):
        return "Pending", "", "the hub has not looked at it yet"
    return str(status["phase"]), str(status.get("reason") or ""), str(status.get("message") or "")


def _plain_failed(status: Json, phase: str, left: int) -> int:
    """Tasks that failed in the end. Kubernetes counts Pods: one that is tried again is no failed task."""
    if isinstance(status.get("failedIndexes"), str):
        try:
            return len(IndexSet.parse(status["failedIndexes"])) if status["failedIndexes"] else 0
        except InvalidObjectError:
            return 0
    return min(int(status.get("failed") or 0), left) if phase == "Failed" else 0


def _plain_phase(job: Json, status: Json) -> tuple[str, str, str]:
    from hub.jobs.spec import is_ours

    conditions = status.get("conditions")
    for kind, phase in (("Complete", "Succeeded"), ("Failed", "Failed")):
        verdict = find_condition(conditions, kind)
        if verdict is not None and verdict.get("status") == "True":
            reason = str(verdict.get("reason") or "")
            cancelled = reason == Reason.CANCELLED.code
            return ("Cancelled" if cancelled else phase), reason, str(verdict.get("message") or "")
    if status.get("active"):
        return "Running", "", ""
    suspended = find_condition(conditions, "Suspended")
    if suspended is None and not is_ours(job):
        return "Pending", "", f"left alone: the hub runs Jobs that are suspended or managed by {names.MANAGED_BY}"
    if suspended is None:
        return "Pending", "", "the hub has not looked at it yet"
    if condition_is(conditions, "Suspended"):
        return "Queued", str(suspended.get("reason") or ""), str(suspended.get("message") or "")
    return "Admitted", "", str(suspended.get("message") or "")


def _plain_end(status: Json) -> float | None:
    if status.get("completionTime"):
        return moment(status["completionTime"])
    failed = find_condition(status.get("conditions"), "Failed")
    return moment(failed.get("lastTransitionTime")) if failed is not None and failed.get("status") == "True" else None
