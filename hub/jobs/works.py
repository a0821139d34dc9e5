"""A slice as the ManifestWork that carries it, and back: what a ManifestWork says of its slice.

This is the wire between hub and agent. Everything a new hub needs to take over a decision is in the object: tasks,
attempt, slots, ClusterQueue and flavors are its annotations, the job is in its labels. What the slices of a job mean
together is hub/jobs/fold.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, Final

from hub.api import names
from hub.api.conditions import find_condition
from hub.api.errors import InvalidObjectError
from hub.api.indexset import IndexSet
from hub.api.reasons import Reason
from hub.api.resource import JOBS, MANIFEST_WORKS
from hub.api.timestamps import parse_time
from hub.fleet.site import GpuOffer
from hub.jobs.attempt import Attempt, AttemptState
from hub.jobs.eviction import SIGNALLED, read_eviction
from hub.jobs.feedback import Report, feedback_values, is_finished, last_change, refusal_of
from hub.jobs.resize import read_resize
from hub.jobs.spec import JobSpec
from hub.jobs.template import DIVIDED, pod_template

Json = dict[str, Any]
_NO_BACKOFF_LIMIT: Final = 2147483647
_PATHS: Final = (
    ("active", ".status.active"),
    ("ready", ".status.ready"),
    ("succeeded", ".status.succeeded"),
    ("failed", ".status.failed"),
    ("completedIndexes", ".status.completedIndexes"),
    ("failedIndexes", ".status.failedIndexes"),
    ("startTime", ".status.startTime"),
    ("completionTime", ".status.completionTime"),
    ("complete", '.status.conditions[?(@.type=="Complete")].status'),
    ("failedCondition", '.status.conditions[?(@.type=="Failed")].status'),
    ("failedReason", '.status.conditions[?(@.type=="Failed")].reason'),
    ("failedMessage", '.status.conditions[?(@.type=="Failed")].message'),
    ("exitCodes", ".status.exitCodes"),
    ("usage", ".status.usage"),
    # What was told to go and has not gone yet: Kubernetes does not count it as active. How many may run at once, as the
    # site understands it.
    ("terminating", ".status.terminating"),
    ("slots", ".status.slots"),
)


def slice_to_work(
    spec: JobSpec,
    cluster: str,
    tasks: IndexSet,
    attempt: int,
    slots: int,
    flavors: Sequence[tuple[str, str]],
    queue: str,
    epoch: int,
    decision: str = "",
    offer: GpuOffer = DIVIDED,
    domain: tuple[str, str] | None = None,
    *,
    reserved: bool = False,
) -> Json:
    """The ManifestWork, without status, for the namespace `cluster`. `flavors` are (resource, flavor).

    `decision` is kept for people who ask later why it is there; `offer` is what the cluster says of its GPUs. `domain`
    is the node label, and its value, that all its pods must find. `reserved`: the same decision, kept in the hub's own
    namespace, where no agent sees it, until admission checks let it through.
    """
    name = names.work_name(spec.name, spec.uid, epoch)
    labels = {**spec.labels, names.EPOCH: str(epoch)}
    notes = {names.TASKS: str(tasks), names.ATTEMPT: str(attempt)}
    decided = {
        names.SLOTS: str(slots),
        names.CLUSTER_QUEUE: queue,
        names.FLAVORS: ",".join(f"{resource}={flavor}" for resource, flavor in sorted(flavors)),
    }
    if decision:
        decided[names.DECISION] = decision
    if domain is not None:
        decided[names.TOPOLOGY_DOMAIN] = "=".join(domain)
    if reserved:
        decided[names.RESERVED_FOR] = cluster
    job: Json = {
        "completions": len(tasks),
        "parallelism": min(slots, len(tasks)),
        "completionMode": "Indexed",
        "backoffLimitPerIndex": 0,
        "backoffLimit": _NO_BACKOFF_LIMIT,
    }
    if spec.slice_deadline is not None:
        job["activeDeadlineSeconds"] = max(1, round(spec.slice_deadline))
    job["template"] = pod_template(spec, cluster, tasks, attempt, notes, offer)
    job["template"]["metadata"]["labels"][names.EPOCH] = str(epoch)
    if domain is not None:
        pod = job["template"]["spec"]
        pod["nodeSelector"] = {**(pod.get("nodeSelector") or {}), domain[0]: domain[1]}
    manifest = {
        "apiVersion": JOBS.api_version,
        "kind": JOBS.kind,
        "metadata": {"name": name, "namespace": spec.namespace, "labels": labels, "annotations": notes},
        "spec": job,
    }
    config = {
        "resourceIdentifier": {
            "group": JOBS.group,
            "resource": JOBS.plural,
            "namespace": spec.namespace,
            "name": name,
        },
        "feedbackScrapeType": "Watch",
        "feedbackRules": [
            {"type": "JSONPaths", "jsonPaths": [{"name": value, "path": path} for value, path in _PATHS]}
        ],
        "conditionRules": [{"type": "WellKnownConditions", "condition": "Complete"}],
    }
    return {
        "apiVersion": MANIFEST_WORKS.api_version,
        "kind": MANIFEST_WORKS.kind,
        "metadata": {
            "name": name,
            "namespace": names.HUB_NAMESPACE if reserved else cluster,
            "labels": labels,
            "annotations": {**notes, **decided},
            **({} if reserved else {"finalizers": [names.WORK_FINALIZER]}),
        },
        "spec": {"workload": {"manifests": [manifest]}, "manifestConfigs": [config]},
    }


def attempt_from_work(work: Mapping[str, Any]) -> Attempt:
    """What a ManifestWork of ours says. Whatever its status holds, this answers: what cannot be read is in `message`.

    Raises `InvalidObjectError` only for a ManifestWork that is no slice (labels or annotations missing or unreadable).
    """
    meta = work["metadata"]
    labels, notes = meta.get("labels") or {}, meta.get("annotations") or {}
    epoch = _whole(labels.get(names.EPOCH), names.EPOCH)
    tasks = IndexSet.parse(str(notes.get(names.TASKS) or ""))
    if not tasks:
        raise InvalidObjectError("names no task", field=f"metadata.annotations[{names.TASKS}]")
    size = len(tasks)
    report = Report(tasks, size, feedback_values(work))
    refusal = None if report.values else refusal_of(work)
    succeeded = report.tasks_of("completedIndexes")
    failed = report.tasks_of("failedIndexes") - succeeded
    complete, over = report.flag("complete"), report.flag("failedCondition")
    if complete:
        succeeded = tasks - failed
    elif not over and not report.has("complete") and is_finished(work):
        over = True
        report.note("its Job has ended, but its agent reports no results")
    eviction = read_eviction(str(notes.get(names.EVICTION) or ""))
    slots = min(_whole(notes.get(names.SLOTS, size), names.SLOTS), size)
    resize = read_resize(str(notes.get(names.RESIZE) or ""))
    if eviction is not None:
        # Whoever was told to go and went has not failed.
        for code, part in report.exit_codes(failed):
            failed = failed - part if code in SIGNALLED else failed
        if over or complete or _occupied(work, report, 0, 1) == 0:
            eviction = replace(eviction, stops=eviction.at)
    open_tasks = tasks - succeeded - failed
    reason = ""
    if over and open_tasks and eviction is None:
        # Its Job ended as a whole: what had not ended by then did not succeed.
        failed, open_tasks = failed | open_tasks, IndexSet()
        cause = report.text("failedReason")
        reason = Reason.DEADLINE_EXCEEDED.code if cause == Reason.DEADLINE_EXCEEDED.code else ""
        report.note(report.text("failedMessage") or cause)
    active = report.number("ready") if report.has("ready") else report.number("active")
    active = min(active, len(open_tasks))
    state: AttemptState = "Pending"
    if not open_tasks:
        state = "Failed" if failed else "Succeeded"
    elif active or succeeded or failed:
        state = "Running"
    started = report.time("startTime") if state != "Pending" else None
    ended = state in ("Succeeded", "Failed")
    finished = (report.time("completionTime") or last_change(work)) if ended else None
    return Attempt(
        epoch=epoch,
        attempt=_whole(notes.get(names.ATTEMPT, 1), names.ATTEMPT),
        cluster=cluster_of(work),
        tasks=tasks,
        slots=slots,
        work=str(meta.get("name") or ""),
        queue=str(notes.get(names.CLUSTER_QUEUE) or ""),
        flavors=_flavors(str(notes.get(names.FLAVORS) or "")),
        state=state,
        active=active,
        succeeded=succeeded,
        failed=failed,
        exit_codes=report.exit_codes(failed),
        usage=report.usage(),
        started_at=started,
        finished_at=finished,
        message=refusal[0] if refusal else report.message,
        deleting=bool(meta.get("deletionTimestamp")),
        reason=reason,
        refused_at=refusal[1] if refusal else None,
        decision=str(notes.get(names.DECISION) or ""),
        domain=_domain(str(notes.get(names.TOPOLOGY_DOMAIN) or "")),
        admitted_at=_created(meta),
        eviction=eviction,
        reserved=bool(_reserved_for(meta)),
        resize=resize,
        occupied=_occupied(work, report, slots, resize.before) if resize is not None and resize.before > slots else 0,
    )


def _occupied(work: Mapping[str, Any], report: Report, slots: int, before: int) -> int:
    """How many tasks may run there of a slice that has `slots` since it had `before`.

    What is reported counts from when its cluster has the change: until then as many may be started as before.
    """
    applied = find_condition((work.get("status") or {}).get("conditions"), "Applied")
    seen = applied is not None and applied.get("status") == "True"
    if not seen or applied is None or applied.get("observedGeneration") != work["metadata"].get("generation"):
        return before
    if report.has("slots") and report.number("slots") != slots:
        return before
    return min(before, report.number("active") + report.number("terminating"))


def cluster_of(work: Mapping[str, Any]) -> str:
    """The cluster that a ManifestWork is for: that of its namespace, or the one for which it is reserved."""
    meta = work["metadata"]
    return _reserved_for(meta) or str(meta.get("namespace") or "")


def _reserved_for(meta: Mapping[str, Any]) -> str:
    # Only there does it mean that: nobody who may write works of one cluster can hold back those of another.
    if meta.get("namespace") != names.HUB_NAMESPACE:
        return ""
    return str((meta.get("annotations") or {}).get(names.RESERVED_FOR) or "")


def _created(meta: Mapping[str, Any]) -> float | None:
    try:
        return parse_time(str(meta["creationTimestamp"])).timestamp() if meta.get("creationTimestamp") else None
    except (InvalidObjectError, OverflowError):
        return None


def _domain(text: str) -> tuple[str, str] | None:
    key, found, value = text.partition("=")
    return (key, value) if found else None


@lru_cache(maxsize=1024)
def _flavors(text: str) -> tuple[tuple[str, str], ...]:
    pairs = (part.partition("=") for part in text.split(",") if "=" in part)
    return tuple(sorted((resource, flavor) for resource, _, flavor in pairs))


def _whole(value: Any, name: str) -> int:
    text = str(value if value is not None else "")
    if not text.isdecimal():
        raise InvalidObjectError(f"{text!r} is not a number", field=name)
    return int(text)
