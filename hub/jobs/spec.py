"""What a job asks for, read once: a FleetJob, or a plain batch/v1 Job that came in through a queue.

Everything that decides about jobs reads a `JobSpec` and never the object. What the schema already refuses is not
checked again, unless an object that got around the schema would mislead us. Nothing here knows how the job is doing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from hub.api import names
from hub.api.errors import InvalidObjectError
from hub.api.fleetjob import MAX_TASKS
from hub.api.timestamps import parse_duration, parse_time
from hub.fleet.shape import TaskShape, amount_of, task_shape
from hub.jobs.elastic import bounds_of
from hub.jobs.gang import gang_of, pods_together, refuse_pod_sets
from hub.placement.profiles import with_profile
from hub.placement.rule import ClusterRule
from hub.placement.rules import parse_rule

JobKind = Literal["FleetJob", "Job"]
MAX_NAME: Final = 63
"""Labels carry the job's name, and a label's value is at most so long."""
_INT32: Final = 2**31 - 1
BACKOFF_LIMIT: Final = 6
"""batch/v1's default."""


@dataclass(frozen=True, slots=True)
class Retry:
    """What happens to tasks that fail.

    `limit` attempts of each task in all. `only` / `never`: exit codes that are (are not) worth a retry; a failure
    without an exit code always is. `failures`: more failures than that over all tasks end the job; `failed_tasks`: more
    tasks that failed for good than that do (both batch/v1's, for plain Jobs only).
    """

    limit: int = 1
    elsewhere: bool = True
    only: frozenset[int] | None = None
    never: frozenset[int] = frozenset()
    failures: int | None = None
    failed_tasks: int | None = None

    def allows(self, code: int) -> bool:
        return code not in self.never if self.only is None else code in self.only


@dataclass(frozen=True, slots=True)
class JobSpec:
    """`created` is epoch seconds, durations are seconds. `template` and `gpu` are as the object has them.

    `rule` is None when the clusters are named by the Placement `placement_ref` instead; `profile` and `data` are then
    the job's own, which go before the Placement's. `job_deadline` is of the job from its first task's start (batch/v1),
    `slice_deadline` of one slice on its cluster. `cancelled`: why its owner
    ended it, empty if it goes on. `retry_failed` is the annotation as it is. `indexed` False: tasks have no number of
    their own. `per_index`: a plain Job's failures count for each index alone. `checkpoint`: between states to go on
    from; `restart_cost`: what a stop costs besides; `max_execution`: how long it may hold quota in all.
    `min_parallelism`: how few tasks at once a plain Job may be admitted with. `gang`: all tasks start at once on one
    cluster; `domains` are node labels of which it prefers one value, what it needs is the shape's `domain`.
    `bounds`: an elastic job's fewest and most slots; the latter is its `parallelism`.
    """

    kind: JobKind
    namespace: str
    name: str
    uid: str
    generation: int
    created: float
    queue: str
    tasks: int
    parallelism: int
    template: Mapping[str, Any] = field(hash=False)
    shape: TaskShape
    gpu: Mapping[str, Any] | None = field(default=None, hash=False)
    rule: ClusterRule | None = ClusterRule()
    placement_ref: str = ""
    profile: str = ""
    data: tuple[tuple[str, int], ...] = ()
    priority_class: str = ""
    pod_priority: str = ""
    indexed: bool = True
    per_index: bool = False
    retry: Retry = Retry()
    suspend: bool = False
    cancelled: str = ""
    retry_failed: str = ""
    slice_deadline: float | None = None
    job_deadline: float | None = None
    expected_duration: float | None = None
    checkpoint: float | None = None
    restart_cost: float = 0.0
    max_execution: float | None = None
    min_parallelism: int | None = None
    gang: bool = False
    domains: tuple[str, ...] = ()
    bounds: tuple[int, int] | None = None
    ttl: float | None = None

    @property
    def workload(self) -> str:
        """Name of its Workload: its own; a plain Job's is set apart, since a FleetJob may have the same name."""
        return self.name if self.kind == "FleetJob" else f"job-{self.name[:50].rstrip('-.')}-{self.uid[:8]}"

    @property
    def key(self) -> str:
        """``namespace/name`` of its Workload: unique over both kinds; what demands, plans and messages call the job."""
        return f"{self.namespace}/{self.workload}"

    @property
    def labels(self) -> dict[str, str]:
        """What everything made for it carries."""
        return {
            names.JOB_UID: self.uid,
            names.JOB_NAME: self.name,
            names.JOB_NAMESPACE: self.namespace,
            names.JOB_KIND: self.kind,
        }

    @staticmethod
    def from_fleet_job(obj: Mapping[str, Any]) -> JobSpec:
        """Raises `InvalidObjectError` with the field that cannot be right, such as ``spec.gpu.models[1]``."""
        spec, meta = _section(obj, "spec"), _section(obj, "metadata")
        annotations = meta.get("annotations") or {}
        template = _template(spec)
        gpu = spec.get("gpu")
        tasks = _count(spec, "tasks", 1, low=1, high=MAX_TASKS)
        reference = str((spec.get("placementRef") or {}).get("name") or "")
        own = with_profile(ClusterRule(), annotations)
        if reference and spec.get("placement"):
            raise InvalidObjectError("write placement or placementRef, not both", field="spec.placementRef")
        restart = template["spec"].get("restartPolicy") or "Never"
        if restart != "Never":
            raise InvalidObjectError(
                f"is {restart}; a task is started again by spec.retry only: leave it out or write Never",
                field="spec.template.spec.restartPolicy",
            )
        refuse_pod_sets(template)
        gang, shape, domains = gang_of(spec, tasks, _shape(template, _gpu(gpu)))
        bounds = bounds_of(spec, tasks)
        rule = None if reference else _rule(meta, spec)
        if gang and rule is not None and rule.spread:
            raise InvalidObjectError(
                "a gang starts on one cluster, so its tasks cannot be spread: leave gang or spreadPolicy out",
                field="spec.placement.spreadPolicy",
            )
        if bounds is not None and bounds[0] > 1 and rule is not None and rule.spread:
            raise InvalidObjectError(
                f"is {bounds[0]}, which start together on one cluster, so its tasks cannot be spread: write 1, or "
                "leave spreadPolicy out",
                field="spec.elastic.min",
            )
        return JobSpec(
            kind="FleetJob",
            **_identity(meta),
            queue=str(spec.get("queueName") or names.DEFAULT_QUEUE),
            tasks=tasks,
            parallelism=bounds[1] if bounds is not None else min(tasks, _count(spec, "parallelism", tasks, low=1)),
            bounds=bounds,
            template=template,
            shape=shape,
            gang=gang,
            domains=domains,
            gpu=gpu,
            rule=rule,
            placement_ref=reference,
            profile=own.profile if reference else "",
            data=own.data if reference else (),
            priority_class=str(spec.get("priorityClassName") or ""),
            pod_priority=_pod_priority(template),
            retry=_retry(spec.get("retry") or {}),
            suspend=spec.get("suspend") is True,
            cancelled=_cancelled(annotations) or ("cancelled by its owner" if spec.get("cancel") is True else ""),
            retry_failed=str(annotations.get(names.RETRY_FAILED) or ""),
            slice_deadline=_duration(spec, "activeDeadline"),
            expected_duration=_duration(spec, "expectedDuration"),
            checkpoint=_duration(spec.get("checkpoint") or {}, "interval", "spec.checkpoint"),
            restart_cost=_duration(spec.get("checkpoint") or {}, "restartCost", "spec.checkpoint", zero=True) or 0.0,
            max_execution=_duration(spec, "maximumExecutionTime"),
            ttl=_seconds(spec, "ttlSecondsAfterFinished", low=0),
        )

    @staticmethod
    def from_job(obj: Mapping[str, Any]) -> JobSpec:
        """A plain Job. Its `suspend` is the queue's, not its owner's, as with Kueue; parallelism 0 pauses it.

        Raises `InvalidObjectError` with the field that this queue cannot honour.
        """
        spec, meta = _section(obj, "spec"), _section(obj, "metadata")
        annotations = meta.get("annotations") or {}
        for name, instead in _REFUSED.items():
            if spec.get(name):
                raise InvalidObjectError(f"a fleet cannot honour it; {instead}", field=f"spec.{name}")
        parallelism = _count(spec, "parallelism", 1, low=0)
        if spec.get("completions") is None and parallelism > 1:
            raise InvalidObjectError(
                "is missing: a Job whose pods share a work queue cannot be split over clusters; say how many must end",
                field="spec.completions",
            )
        tasks = _count(spec, "completions", 1, low=0, high=MAX_TASKS)
        template = _template(spec)
        indexed = spec.get("completionMode") == "Indexed"
        per_index = _seconds(spec, "backoffLimitPerIndex", low=0)
        total = _seconds(spec, "backoffLimit", low=0)
        gang, shape, domains = pods_together(template, _shape(template, None))
        fewest = _written(annotations, names.MIN_PARALLELISM, "metadata.annotations")
        if gang and fewest is not None and fewest < min(tasks, parallelism):
            raise InvalidObjectError(
                "pods that are placed together start all at once: leave it out, or the topology of the pod template",
                field=f"metadata.annotations[{names.MIN_PARALLELISM}]",
            )
        return JobSpec(
            kind="Job",
            **_identity(meta),
            queue=str((meta.get("labels") or {}).get(names.QUEUE_NAME) or names.DEFAULT_QUEUE),
            tasks=tasks,
            parallelism=min(tasks, max(parallelism, 1)),
            template=template,
            shape=shape,
            gang=gang,
            domains=domains,
            rule=with_profile(ClusterRule(namespace=str(meta.get("namespace") or "default")), annotations),
            priority_class=str((meta.get("labels") or {}).get(names.PRIORITY_CLASS) or ""),
            pod_priority=_pod_priority(template),
            indexed=indexed,
            per_index=per_index is not None,
            retry=_job_retry(per_index, total, _seconds(spec, "maxFailedIndexes", low=0)),
            suspend=parallelism == 0,
            cancelled=_cancelled(annotations),
            job_deadline=_seconds(spec, "activeDeadlineSeconds", low=0),
            checkpoint=_duration(annotations, names.CHECKPOINT_INTERVAL, "metadata.annotations"),
            restart_cost=_duration(annotations, names.RESTART_COST, "metadata.annotations", zero=True) or 0.0,
            max_execution=_written(meta.get("labels") or {}, names.MAX_EXEC_TIME, "metadata.labels"),
            min_parallelism=fewest,
            slice_deadline=_seconds(spec, "activeDeadlineSeconds", low=0),
            ttl=_seconds(spec, "ttlSecondsAfterFinished", low=0),
        )


def is_ours(job: Mapping[str, Any]) -> bool:
    """Whether a batch/v1 Job is to be run by the fleet: it names a queue, and is suspended or managed by the hub."""
    spec = job.get("spec") or {}
    labels = (job.get("metadata") or {}).get("labels") or {}
    manager = spec.get("managedBy")
    if not labels.get(names.QUEUE_NAME) or manager not in (None, names.MANAGED_BY):
        return False
    return manager == names.MANAGED_BY or spec.get("suspend") is True


_REFUSED: Final = {
    "manualSelector": "leave selector and manualSelector out",
    "podFailurePolicy": "use backoffLimitPerIndex, or a FleetJob with retry.onExitCodes",
    "successPolicy": "leave it out, or split the Job",
}


def _section(obj: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = obj.get(name)
    if not isinstance(section, Mapping):
        raise InvalidObjectError("is missing or no object", field=name)
    return section


def _identity(meta: Mapping[str, Any]) -> dict[str, Any]:
    name = str(meta.get("name") or "")
    if not name or len(name) > MAX_NAME:
        raise InvalidObjectError(
            f"{name!r} has {len(name)} characters: 1 to {MAX_NAME} are allowed", field="metadata.name"
        )
    created = meta.get("creationTimestamp")
    return {
        "name": name,
        "namespace": str(meta.get("namespace") or "default"),
        "uid": str(meta.get("uid") or ""),
        "generation": int(meta.get("generation") or 0),
        "created": parse_time(str(created)).timestamp() if created else 0.0,
    }


def _pod_priority(template: Mapping[str, Any]) -> str:
    """The PriorityClass that its pods name."""
    return str((template.get("spec") or {}).get("priorityClassName") or "")


def _template(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    template = spec.get("template")
    pod = template.get("spec") if isinstance(template, Mapping) else None
    containers = pod.get("containers") if isinstance(pod, Mapping) else None
    if not isinstance(containers, list) or not containers:
        raise InvalidObjectError("at least one container is needed", field="spec.template.spec.containers")
    for index, container in enumerate(containers):
        if not isinstance(container, Mapping) or not container.get("name"):
            raise InvalidObjectError("is missing", field=f"spec.template.spec.containers[{index}].name")
    assert isinstance(template, Mapping)
    return template


def _shape(template: Mapping[str, Any], gpu: Mapping[str, Any] | None) -> TaskShape:
    try:
        return task_shape(template, gpu)
    except InvalidObjectError as error:
        if not error.field:
            raise
        raise InvalidObjectError(
            str(error).removeprefix(f"{error.field}: "), field=f"spec.{error.field}", hint=error.hint
        ) from error


def _gpu(gpu: Any) -> Mapping[str, Any] | None:
    if gpu is None:
        return None
    if not isinstance(gpu, Mapping):
        raise InvalidObjectError("is no object", field="spec.gpu")
    for index, model in enumerate(gpu.get("models") or ()):
        if not isinstance(model, str) or not model.strip():
            raise InvalidObjectError(
                "an empty model matches no GPU; leave the entry out", field=f"spec.gpu.models[{index}]"
            )
    if gpu.get("share") is not None:
        share = amount_of("cpu", gpu["share"], "spec.gpu.share")
        if not 0 < share <= 1000:
            raise InvalidObjectError(f"{gpu['share']} is not a part of one GPU", field="spec.gpu.share")
        if int(gpu.get("count") or 1) > 1:
            raise InvalidObjectError("a share is a part of one GPU: leave count out", field="spec.gpu.count")
    count = gpu.get("count")
    if count is not None and (not isinstance(count, int) or isinstance(count, bool) or count < 0):
        raise InvalidObjectError(f"{count!r} is not a number of GPUs", field="spec.gpu.count")
    if count == 0 and gpu.get("share") is None and (gpu.get("models") or gpu.get("minMemory")):
        raise InvalidObjectError("is 0, so models and minMemory mean nothing", field="spec.gpu.count")
    return gpu


def _rule(meta: Mapping[str, Any], spec: Mapping[str, Any]) -> ClusterRule:
    namespace = str(meta.get("namespace") or "default")
    placement = spec.get("placement")
    annotations = meta.get("annotations")
    if placement is None:
        return with_profile(ClusterRule(namespace=namespace), annotations)
    try:
        return with_profile(parse_rule(namespace, placement), annotations)
    except InvalidObjectError as error:
        if not error.field or error.field.startswith(("spec.", "metadata.")):
            raise
        raise InvalidObjectError(
            str(error).removeprefix(f"{error.field}: "), field=f"spec.placement.{error.field}", hint=error.hint
        ) from error


def _retry(retry: Mapping[str, Any]) -> Retry:
    codes = retry.get("onExitCodes") or {}
    if codes.get("in") and codes.get("notIn"):
        raise InvalidObjectError("write in or notIn, not both", field="spec.retry.onExitCodes")
    limit = retry.get("limitPerTask", 1)
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
        raise InvalidObjectError(f"{limit!r} is not a number of attempts from 1", field="spec.retry.limitPerTask")
    return Retry(
        limit=limit,
        elsewhere=retry.get("elsewhere") is not False,
        only=frozenset(codes["in"]) if codes.get("in") else None,
        never=frozenset(codes.get("notIn") or ()),
    )


def _job_retry(per_index: float | None, total: float | None, failed: float | None) -> Retry:
    """batch/v1: with backoffLimitPerIndex each index has its own retries, and backoffLimit counts only if written."""
    if per_index is not None:
        return Retry(
            limit=int(per_index) + 1,
            failures=None if total is None else int(total),
            failed_tasks=None if failed is None else int(failed),
        )
    budget = BACKOFF_LIMIT if total is None else int(total)
    return Retry(limit=budget + 1, failures=budget)


def _cancelled(annotations: Mapping[str, Any]) -> str:
    return str(annotations.get(names.CANCEL) or "")


def _count(spec: Mapping[str, Any], name: str, default: int, *, low: int, high: int | None = None) -> int:
    value = spec.get(name)
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or value < low or (high is not None and value > high):
        allowed = f"from {low}" + (f" to {high:,}" if high is not None else "")
        raise InvalidObjectError(f"{value!r} is not a whole number {allowed}", field=f"spec.{name}")
    return value


def _seconds(spec: Mapping[str, Any], name: str, *, low: int) -> float | None:
    return None if spec.get(name) is None else float(_count(spec, name, 0, low=low))


def _written(texts: Mapping[str, Any], name: str, section: str) -> int | None:
    """A label's or annotation's whole number from 1."""
    text = texts.get(name)
    if text is None:
        return None
    if not str(text).isdecimal() or not 1 <= int(str(text)) <= _INT32:
        raise InvalidObjectError(f"{str(text)[:40]!r} is not a whole number from 1", field=f"{section}[{name}]")
    return int(str(text))


def _duration(spec: Mapping[str, Any], name: str, section: str = "spec", *, zero: bool = False) -> float | None:
    text = spec.get(name)
    if text is None:
        return None
    try:
        seconds = parse_duration(str(text)).total_seconds()
    except InvalidObjectError as error:
        raise InvalidObjectError(str(error), field=f"{section}.{name}") from error
    if seconds <= 0 and not zero:
        raise InvalidObjectError(f"{text} is no time at all", field=f"{section}.{name}")
    return seconds
