"""Which tasks a ManifestWork carries, and where on this cluster each is: job, completion index, attempt. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from hub.api import names
from hub.api.errors import InvalidIndexSetError
from hub.api.indexset import IndexSet

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class TaskPlace:
    task: int
    index: int


@dataclass(frozen=True, slots=True)
class WorkSlice:
    """One slice of a job: completion index i of the Job `namespace`/`job` is the i-th member of `tasks`."""

    work: str
    uid: str
    job_uid: str
    namespace: str
    job: str
    tasks: IndexSet
    epoch: int
    attempt: int | None

    def places(self, wanted: IndexSet | None = None) -> list[TaskPlace]:
        return [TaskPlace(task, index) for index, task in enumerate(self.tasks) if wanted is None or task in wanted]


def slice_of(work: Mapping[str, Any]) -> WorkSlice | None:
    """None when the work carries no Job."""
    metadata = work["metadata"]
    manifests = ((work.get("spec") or {}).get("workload") or {}).get("manifests") or ()
    job = next((m for m in manifests if isinstance(m, dict) and is_job(m)), None)
    if job is None:
        return None
    labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
    return WorkSlice(
        work=metadata["name"],
        uid=metadata["uid"],
        job_uid=labels.get(names.JOB_UID, ""),
        namespace=str(job["metadata"].get("namespace", "")),
        job=str(job["metadata"].get("name", "")),
        tasks=_tasks(annotations.get(names.TASKS), job),
        epoch=_number(labels.get(names.EPOCH)) or 0,
        attempt=_number(annotations.get(names.ATTEMPT)),
    )


def slices_of_job(works: Iterable[Mapping[str, Any]], job_uid: str) -> list[WorkSlice]:
    """All slices of one job on this cluster, oldest epoch first."""
    found = [part for part in map(slice_of, works) if part is not None and job_uid and part.job_uid == job_uid]
    return sorted(found, key=lambda part: (part.epoch, part.work))


def failed_indexes(job: Mapping[str, Any]) -> IndexSet:
    """Completion indexes that a Job's status counts as failed; of a Job without indexes, 0 when it failed."""
    status = job.get("status") or {}
    try:
        found = IndexSet.parse(str(status.get("failedIndexes") or ""))
    except InvalidIndexSetError:
        found = IndexSet()
    if not found and (job.get("spec") or {}).get("completionMode") != "Indexed":
        conditions = status.get("conditions") or ()
        if any(c.get("type") == "Failed" and c.get("status") == "True" for c in conditions):
            return IndexSet.of([0])
    return found


def exit_codes(text: str) -> dict[int, int]:
    """By completion index, from the edge runtime's `exitCodes` (``1=3,17;137=4``); the unreadable is left out."""
    codes: dict[int, int] = {}
    for part in filter(None, text.split(";")):
        code, _, indexes = part.partition("=")
        try:
            codes |= dict.fromkeys(IndexSet.parse(indexes), int(code))
        except ValueError:
            continue
    return codes


def is_job(manifest: Mapping[str, Any]) -> bool:
    return manifest.get("kind") == "Job" and manifest.get("apiVersion") == "batch/v1" and "metadata" in manifest


def _tasks(text: str | None, job: Mapping[str, Any]) -> IndexSet:
    if text:
        try:
            return IndexSet.parse(text)
        except InvalidIndexSetError:
            pass
    return IndexSet.span(_number((job.get("spec") or {}).get("completions")) or 1)


def _number(value: Any) -> int | None:
    try:
        return int(value)
    except (TypeError, ValueError):
        return None
