"""What a batch/v1 Job asks of a site, read once and checked. What a site cannot keep is refused by field. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from agent.edge.images import Images
from agent.edge.podplan import PodPlan, PodRefused, plan_pod, seconds
from hub.api import names
from hub.api.errors import InvalidObjectError
from hub.api.indexset import MAX_INDEX, IndexSet

Json = Mapping[str, Any]
JOB_CONTROLLER = "kubernetes.io/job-controller"
_DEFAULT_BACKOFF_LIMIT = 6


@dataclass(frozen=True)
class JobPlan:
    """`per_index`: failures one index may have (None: only `backoff_limit` counts, over all of them)."""

    completions: int
    indexed: bool
    per_index: int | None
    max_failed: int | None
    deadline: float | None
    tasks: IndexSet
    pod: PodPlan

    @cached_property
    def _members(self) -> tuple[int, ...]:
        return tuple(self.tasks)

    def task(self, index: int) -> int:
        """The task of the job that completion `index` stands for."""
        if self.tasks.ranges == ((0, self.completions - 1),):
            return index
        return self._members[index]


@dataclass(frozen=True, slots=True)
class JobDials:
    """What may be turned while a Job runs."""

    parallelism: int
    suspend: bool
    backoff_limit: int
    ttl: float | None


def is_ours(job: Json) -> bool:
    """Whether this site is the Job's controller."""
    return (job.get("spec") or {}).get("managedBy") in (None, "", JOB_CONTROLLER)


def job_dials(job: Json) -> JobDials:
    """Raises `InvalidObjectError` by field."""
    spec = job.get("spec")
    if not isinstance(spec, Mapping):
        raise InvalidObjectError("required, a map", field="spec")
    ttl = spec.get("ttlSecondsAfterFinished")
    completions = spec.get("completions")
    default = 1 if spec.get("parallelism") is None else _whole(spec["parallelism"], "spec.parallelism")
    return JobDials(
        parallelism=default if completions is None else min(default, max(1, _whole(completions, "spec.completions"))),
        suspend=spec.get("suspend") is True,
        backoff_limit=_DEFAULT_BACKOFF_LIMIT
        if spec.get("backoffLimit") is None
        else _whole(spec["backoffLimit"], "spec.backoffLimit", 2**31 - 1),
        ttl=None if ttl is None else seconds(ttl, "spec.ttlSecondsAfterFinished", 0),
    )


def job_plan(job: Json, images: Images, *, simulated: bool) -> JobPlan:
    """Raises `InvalidObjectError` by field; `PodRefused` with the reason of what this site cannot run."""
    metadata, spec = job["metadata"], job.get("spec")
    if not isinstance(spec, Mapping):
        raise InvalidObjectError("required, a map", field="spec")
    for name in ("podFailurePolicy", "successPolicy"):
        if spec.get(name):
            raise PodRefused("is not supported on a site without Kubernetes", field=f"spec.{name}")
    mode = spec.get("completionMode") or "NonIndexed"
    if mode not in ("Indexed", "NonIndexed"):
        raise InvalidObjectError(f"{mode!r}: write Indexed or NonIndexed", field="spec.completionMode")
    if spec.get("completions") is None:
        if mode == "Indexed":
            raise InvalidObjectError("required for an Indexed Job", field="spec.completions")
        if (spec.get("parallelism") or 1) != 1:
            raise PodRefused("required where several run at once: a site counts to a number", field="spec.completions")
    completions = 1 if spec.get("completions") is None else _whole(spec["completions"], "spec.completions")
    template = spec.get("template")
    if not isinstance(template, Mapping):
        raise InvalidObjectError("required, a pod template", field="spec.template")
    per_index = spec.get("backoffLimitPerIndex")
    max_failed, deadline = spec.get("maxFailedIndexes"), spec.get("activeDeadlineSeconds")
    try:
        pod = plan_pod(
            template.get("metadata") or {}, template.get("spec"), images, simulated=simulated, default_restart="Never"
        )
    except InvalidObjectError as error:
        error.args = (f"spec.template.{error}",)
        error.field = f"spec.template.{error.field}"
        raise
    if pod.restart == "Always":
        raise InvalidObjectError("write Never or OnFailure", field="spec.template.spec.restartPolicy")
    return JobPlan(
        completions=completions,
        indexed=mode == "Indexed",
        per_index=None if per_index is None else _whole(per_index, "spec.backoffLimitPerIndex"),
        max_failed=None if max_failed is None else _whole(max_failed, "spec.maxFailedIndexes"),
        deadline=None if deadline is None else seconds(deadline, "spec.activeDeadlineSeconds", 1),
        tasks=_tasks(metadata, template.get("metadata") or {}, completions),
        pod=pod,
    )


def _tasks(metadata: Json, template: Json, completions: int) -> IndexSet:
    where = f"metadata.annotations[{names.TASKS}]"
    text = (metadata.get("annotations") or {}).get(names.TASKS) or (template.get("annotations") or {}).get(names.TASKS)
    if text is None:
        return IndexSet.span(completions)
    try:
        tasks = IndexSet.parse(str(text))
    except InvalidObjectError as error:
        raise InvalidObjectError(str(error), field=where) from error
    if len(tasks) != completions:
        raise InvalidObjectError(
            f"{text!r} names {len(tasks)} tasks, the Job has {completions} completions", field=where
        )
    return tasks


def _whole(value: Any, where: str, most: int = MAX_INDEX) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise InvalidObjectError(f"{value!r} is not a whole number from 0 to {most:,}", field=where)
    return value
