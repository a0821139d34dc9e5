"""A slice as the ManifestWork that carries it, and back: what a ManifestWork says of its slice.

This is the wire between hub and agent. Everything a new hub needs to take over a decision is in the object: tasks,
attempt, slots, ClusterQueue and flavors are its annotations, the job is in its labels. What the slices of a job mean
together is hub/jobs/fold.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from hub.api import names
from hub.api.conditions import condition_is, find_condition
from hub.api.errors import InvalidObjectError
from hub.api.indexset import IndexSet
from hub.api.reasons import Reason
from hub.api.resource import JOBS, MANIFEST_WORKS
from hub.api.timestamps import parse_time
from hub.jobs.attempt import Attempt, AttemptState, Usage
from hub.jobs.spec import JobSpec
from hub.jobs.template import pod_template

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
)
_SHOWN: Final = 60


def slice_to_work(
    spec: JobSpec,
    cluster: str,
    tasks: IndexSet,
    attempt: int,
    slots: int,
    flavors: Sequence[tuple[str, str]],
    queue: str,
    epoch: int,
) -> Json:
    """The ManifestWork, without status, for the namespace `cluster`. `flavors` are (resource, flavor)."""
    name = names.work_name(spec.name, spec.uid, epoch)
    labels = {**spec.labels, names.EPOCH: str(epoch)}
    notes = {names.TASKS: str(tasks), names.ATTEMPT: str(attempt)}
    decided = {
        names.SLOTS: str(slots),
        names.CLUSTER_QUEUE: queue,
        names.FLAVORS: ",".join(f"{resource}={flavor}" for resource, flavor in sorted(flavors)),
    }
    job: Json = {
        "completions": len(tasks),
        "parallelism": min(slots, len(tasks)),
        "completionMode": "Indexed",
        "backoffLimitPerIndex": 0,
        "backoffLimit": _NO_BACKOFF_LIMIT,
    }
    if spec.slice_deadline is not None:
        job["activeDeadlineSeconds"] = max(1, round(spec.slice_deadline))
    job["template"] = pod_template(spec, cluster, tasks, attempt, notes)
    job["template"]["metadata"]["labels"][names.EPOCH] = str(epoch)
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
            "namespace": cluster,
            "labels": labels,
            "annotations": {**notes, **decided},
            "finalizers": [names.WORK_FINALIZER],
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
    report = _Report(tasks, size, _feedback(work))
    refusal = None if report.values else _refusal(work)
    succeeded = report.tasks_of("completedIndexes")
    failed = report.tasks_of("failedIndexes") - succeeded
    complete, over = report.flag("complete"), report.flag("failedCondition")
    if complete:
        succeeded = tasks - failed
    elif not over and not report.has("complete") and _finished(work):
        over = True
        report.note("its Job has ended, but its agent reports no results")
    open_tasks = tasks - succeeded - failed
    reason = ""
    if over and open_tasks:
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
    finished = (report.time("completionTime") or _last_change(work)) if ended else None
    return Attempt(
        epoch=epoch,
        attempt=_whole(notes.get(names.ATTEMPT, 1), names.ATTEMPT),
        cluster=str(meta.get("namespace") or ""),
        tasks=tasks,
        slots=min(_whole(notes.get(names.SLOTS, size), names.SLOTS), size),
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
    )


def format_exit_codes(codes: Sequence[tuple[int, IndexSet]]) -> str:
    return ";".join(f"{code}={tasks}" for code, tasks in codes if tasks)


def parse_exit_codes(text: str) -> tuple[tuple[int, IndexSet], ...]:
    """``1=3,17;137=4``, sorted by code. Raises `InvalidObjectError`."""
    found: dict[int, IndexSet] = {}
    for entry in filter(None, text.split(";")):
        code, equals, indexes = entry.partition("=")
        if not equals or not code.strip().lstrip("-").isdecimal():
            raise InvalidObjectError(f"{entry[:_SHOWN]!r} is not CODE=INDEXES")
        found[int(code)] = found.get(int(code), IndexSet()) | IndexSet.parse(indexes)
    return tuple(sorted(found.items(), key=lambda item: item[0]))


class _Report:
    """Feedback values by name, and what was wrong with them, in words."""

    __slots__ = ("_all", "_size", "_tasks", "message", "values")

    def __init__(self, tasks: IndexSet, size: int, values: Mapping[str, Any]) -> None:
        self.values = values
        self.message = ""
        self._tasks = tasks
        self._size = size
        self._all = f"0-{size - 1}" if size > 1 else "0"

    def has(self, name: str) -> bool:
        return name in self.values

    def note(self, text: str) -> None:
        if text:
            self.message = f"{self.message}; {text}" if self.message else text

    def text(self, name: str) -> str:
        value = self.values.get(name, "")
        return value if isinstance(value, str) else str(value)

    def number(self, name: str) -> int:
        value = self.values.get(name, 0)
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return value
        self._unreadable(name, value)
        return 0

    def flag(self, name: str) -> bool:
        return self.values.get(name) in ("True", True)

    def tasks_of(self, name: str) -> IndexSet:
        """Completion indexes, translated to the job's tasks; positions past the slice's end are not its own."""
        text = self.text(name)
        if not text:
            return IndexSet()
        if text == self._all:
            return self._tasks
        try:
            return self._translate(text, name)
        except InvalidObjectError as error:
            self._unreadable(name, text, error)
            return IndexSet()

    def time(self, name: str) -> float | None:
        text = self.text(name)
        if not text:
            return None
        try:
            return parse_time(text).timestamp()
        except InvalidObjectError:
            self._unreadable(name, text)
            return None

    def exit_codes(self, failed: IndexSet) -> tuple[tuple[int, IndexSet], ...]:
        text = self.text("exitCodes")
        if not text:
            return ()
        try:
            codes = parse_exit_codes(text)
        except InvalidObjectError as error:
            self._unreadable("exitCodes", text, error)
            return ()
        translated = ((code, self._tasks.at(indexes) & failed) for code, indexes in codes)
        return tuple((code, tasks) for code, tasks in translated if tasks)

    def usage(self) -> Usage:
        text = self.text("usage")
        amounts = {}
        for part in filter(None, text.split(";")):
            name, _, value = part.partition("=")
            try:
                amounts[name.strip()] = max(0.0, min(float(value), 1e15))
            except ValueError:
                self._unreadable("usage", text)
                return Usage()
        # A NaN compares false with everything and ends as the bound above: it is no amount.
        clean = {name: amount for name, amount in amounts.items() if amount < 1e15}
        return Usage(clean.get("cpu", 0.0), clean.get("gpu", 0.0), clean.get("wall", 0.0))

    def _translate(self, text: str, name: str) -> IndexSet:
        indexes = IndexSet.parse(text)
        if indexes and indexes.ranges[-1][1] >= self._size:
            self.note(f"{name} {_short(text)} names tasks that are not in the slice of {self._size}; they are left out")
        return self._tasks.at(indexes)

    def _unreadable(self, name: str, value: object, error: Exception | None = None) -> None:
        self.note(
            f"its agent reported {name} as {_short(str(value))!r}, which cannot be read"
            + (f": {error}" if error else "")
        )


def _feedback(work: Mapping[str, Any]) -> dict[str, Any]:
    """The values of the work's Job, whatever else is in the status."""
    values: dict[str, Any] = {}
    manifests = _part(_part(work, "status"), "resourceStatus").get("manifests")
    for manifest in manifests if isinstance(manifests, list) else ():
        reported = _part(_part(manifest, "statusFeedback"), "values", list)
        for entry in reported:
            if not isinstance(entry, Mapping) or not isinstance(entry.get("fieldValue"), Mapping):
                continue
            typed = entry["fieldValue"]
            kind = str(typed.get("type", ""))
            value = typed.get({"Integer": "integer", "Boolean": "boolean", "JsonRaw": "jsonRaw"}.get(kind, "string"))
            if value is not None:
                values.setdefault(str(entry.get("name", "")), value)
    return values


def _part(value: Any, name: str, kind: type = dict) -> Any:
    found = value.get(name) if isinstance(value, Mapping) else None
    return found if isinstance(found, kind) else kind()


def _refusal(work: Mapping[str, Any]) -> tuple[str, float] | None:
    """Why the cluster cannot apply it, and since when (epoch seconds; 0 when it does not say)."""
    status = _part(work, "status")
    verdict = find_condition(_part(status, "conditions", list), "Applied")
    if verdict is None or verdict.get("status") != "False":
        return None
    detail = str(verdict.get("message") or verdict.get("reason") or "it does not say why")
    for manifest in _part(_part(status, "resourceStatus"), "manifests", list):
        applied = find_condition(_part(manifest, "conditions", list), "Applied")
        if applied is not None and applied.get("status") == "False" and applied.get("message"):
            detail = str(applied["message"])
            break
    return detail.removeprefix("Failed to apply manifest: "), _moment(verdict.get("lastTransitionTime")) or 0.0


def _finished(work: Mapping[str, Any]) -> bool:
    return condition_is(_part(_part(work, "status"), "conditions", list), "Complete")


def _last_change(work: Mapping[str, Any]) -> float | None:
    """When its Job was reported complete: a Job that failed has no completionTime."""
    verdict = find_condition(_part(_part(work, "status"), "conditions", list), "Complete")
    return (
        _moment(verdict.get("lastTransitionTime")) if verdict is not None and verdict.get("status") == "True" else None
    )


def _moment(text: Any) -> float | None:
    try:
        return parse_time(text).timestamp()
    except (InvalidObjectError, OverflowError):
        return None


def _flavors(text: str) -> tuple[tuple[str, str], ...]:
    pairs = (part.partition("=") for part in text.split(",") if "=" in part)
    return tuple(sorted((resource, flavor) for resource, _, flavor in pairs))


def _whole(value: Any, name: str) -> int:
    text = str(value if value is not None else "")
    if not text.isdecimal():
        raise InvalidObjectError(f"{text!r} is not a number", field=name)
    return int(text)


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
