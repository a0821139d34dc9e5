"""What the hub keeps of the objects that are many: jobs, works, workloads. Small values, not the objects.

A hub of ten thousand jobs would hold half a gigabyte of dicts otherwise. A status is kept as its JSON, because it is
needed as a whole and only when something is written. Reading never raises: an object that misleads becomes a value that
says so, and stops nothing else.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from sys import intern
from typing import Any, NamedTuple, TypeVar

import orjson

from hub.api import names
from hub.api.conditions import condition_is
from hub.api.errors import InvalidObjectError
from hub.jobs.admission_checks import CheckState, read_checks, requeue_time
from hub.jobs.attempt import Attempt
from hub.jobs.memory import Memory, memory_of
from hub.jobs.spec import JobKind, JobSpec, is_ours
from hub.jobs.works import attempt_from_work

Json = dict[str, Any]
T = TypeVar("T")
_ANNOTATIONS = (
    names.CANCEL,
    names.RETRY_FAILED,
    names.CHECKPOINT_INTERVAL,
    names.RESTART_COST,
    names.MIN_PARALLELISM,
)
_LABELS = (names.QUEUE_NAME, names.PRIORITY_CLASS, names.MAX_EXEC_TIME)


class JobRef(NamedTuple):
    """Which object asks. The uid is the job: what is made anew under the same name is another job."""

    kind: JobKind
    namespace: str
    name: str
    uid: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class SeenJob:
    """A FleetJob or a plain Job of ours. `spec` is None when it cannot be read; `problem` then says why.

    `status` is the object's status as JSON (packed, once it has ended; read it by `status_object`), `memory_note` the
    annotation in which a plain Job remembers its attempts.
    `stamp` is what `spec` was read from: equal stamps, equal specs.
    """

    ref: JobRef
    version: int
    generation: int
    spec: JobSpec | None
    problem: str
    memory: Memory
    status: bytes
    memory_note: str
    deleting: bool
    stamp: tuple[object, ...]

    def status_object(self) -> Json:
        return _unpacked(self.status)


@dataclass(frozen=True, slots=True)
class SeenWork:
    """A ManifestWork of ours. `attempt` is None when it is no readable slice; its epoch counts as used all the same."""

    cluster: str
    name: str
    uid: str
    version: int
    job: JobRef
    epoch: int
    attempt: Attempt | None
    deleting: bool
    finalizers: tuple[str, ...]
    created: str

    @property
    def key(self) -> tuple[str, str]:
        return self.cluster, self.name


@dataclass(frozen=True, slots=True)
class SeenWorkload:
    """`owner` is the uid of the job it mirrors; empty when it is not ours. `suspended_by_job`: that it is not active is
    the job's own wish. `deactivated`: the reason for which the hub once deactivated it, and the epoch from which on
    limits count since. `checks`: what admission checks have answered; `requeue_at`: before when (epoch seconds) it is
    not to be queued again.
    """

    namespace: str
    name: str
    uid: str
    version: int
    owner: str
    status: bytes
    deleting: bool
    queue: str = ""
    active: bool = True
    reserved: bool = False
    suspended_by_job: bool = False
    deactivated: tuple[str, int] = ("", 0)
    checks: tuple[CheckState, ...] = ()
    requeue_at: float | None = None

    def status_object(self) -> Json:
        return _unpacked(self.status)


class Shared:
    """Equal values once: of ten thousand jobs most have the same shape, rule and retries. Hashable ones only."""

    def __init__(self, limit: int = 4096) -> None:
        self._limit = limit
        self._known: dict[Any, Any] = {}

    def __call__(self, value: T) -> T:
        if len(self._known) >= self._limit:
            self._known.clear()
        try:
            known: T = self._known.setdefault(value, value)
        except TypeError:
            # Some part of it is a map.
            return value
        return known


@dataclass(slots=True)
class Templates:
    """Equal pod templates once, however many jobs bring them: an array of tools submits the same one all day."""

    limit: int = 4096
    _known: dict[bytes, Mapping[str, Any]] = field(default_factory=dict)

    def shared(self, template: Mapping[str, Any]) -> Mapping[str, Any]:
        key = kept(template, orjson.OPT_SORT_KEYS)
        if len(self._known) >= self.limit:
            self._known.clear()
        return self._known.setdefault(key, template)


_templates = Templates()
_shared = Shared()


def version_of(obj: Mapping[str, Any]) -> int:
    """A resourceVersion as a number, to tell older from newer; servers count upwards. 0 where it is none."""
    text = str(obj["metadata"].get("resourceVersion") or "")
    return int(text) if text.isdecimal() else 0


def read_job(obj: Json, known: SeenJob | None = None) -> SeenJob | None:
    """None for a plain Job that is not ours to run. `known` is what was read of it before."""
    meta = obj["metadata"]
    kind: JobKind = "Job" if obj.get("kind") == "Job" else "FleetJob"
    if kind == "Job" and not is_ours(obj):
        return None
    ref = JobRef(
        kind,
        intern(str(meta.get("namespace") or "")),
        intern(str(meta["name"])),
        intern(str(meta.get("uid") or "")),
    )
    version = version_of(obj)
    if known is not None and known.ref.uid == ref.uid:
        if known.version == version:
            return known
        ref = known.ref
    stamp = _stamp(meta)
    if known is not None and known.ref.uid == ref.uid and known.stamp == stamp:
        spec, problem = known.spec, known.problem
    else:
        spec, problem = _read_spec(obj, kind)
    status = obj.get("status")
    annotations = meta.get("annotations")
    note = annotations.get(names.JOB_MEMORY) if kind == "Job" and isinstance(annotations, Mapping) else None
    memory = memory_of(obj)
    return SeenJob(
        ref=ref,
        version=version,
        generation=int(meta.get("generation") or 0),
        spec=spec,
        problem=problem,
        memory=replace(memory, message=intern(memory.message), attempts=tuple(map(_slim, memory.attempts))),
        status=_packed(status, small=memory.ended) if status else b"",
        memory_note=str(note or ""),
        deleting=bool(meta.get("deletionTimestamp")),
        stamp=stamp,
    )


def read_work(obj: Json, known: SeenWork | None = None) -> SeenWork | None:
    """None for a ManifestWork that no job of this hub asked for. `known` is what was read of it before."""
    meta = obj["metadata"]
    if known is not None and known.version == version_of(obj) and known.uid == meta.get("uid"):
        return known
    labels = meta.get("labels") or {}
    uid = str(labels.get(names.JOB_UID) or "")
    if not uid:
        return None
    kind: JobKind = "Job" if labels.get(names.JOB_KIND) == "Job" else "FleetJob"
    try:
        attempt = _slim(attempt_from_work(obj))
    except (InvalidObjectError, TypeError, ValueError, AttributeError, KeyError):
        # Somebody edited what identifies it; its processes may run, so it is counted but not believed.
        attempt = None
    epoch = str(labels.get(names.EPOCH) or "")
    if not epoch.isdecimal():
        epoch = str(meta["name"]).rpartition("-")[2]
    return SeenWork(
        cluster=intern(str(meta["namespace"])),
        name=intern(str(meta["name"])),
        uid=str(meta.get("uid") or ""),
        version=version_of(obj),
        job=_job_of(kind, labels, uid) if known is None or known.job.uid != uid else known.job,
        epoch=int(epoch) if epoch.isdecimal() else 0,
        attempt=attempt,
        deleting=bool(meta.get("deletionTimestamp")),
        finalizers=_shared(tuple(meta.get("finalizers") or ())),
        created=str(meta.get("creationTimestamp") or ""),
    )


def read_workload(obj: Json, known: SeenWorkload | None = None) -> SeenWorkload:
    meta = obj["metadata"]
    if known is not None and known.version == version_of(obj) and known.uid == meta.get("uid"):
        return known
    owners = meta.get("ownerReferences") or ()
    owner = next((str(o.get("uid")) for o in owners if o.get("controller")), "")
    status, spec = obj.get("status"), obj.get("spec") or {}
    annotations = meta.get("annotations") or {}
    reason, _, epoch = str(annotations.get(names.DEACTIVATED) or "").partition("/")
    finished = condition_is((status or {}).get("conditions"), "Finished")
    return SeenWorkload(
        namespace=intern(str(meta.get("namespace") or "")),
        name=intern(str(meta["name"])),
        uid=str(meta.get("uid") or ""),
        version=version_of(obj),
        owner=intern(owner),
        status=_packed(status, small=finished) if status else b"",
        deleting=bool(meta.get("deletionTimestamp")),
        queue=intern(str(spec.get("queueName") or "")),
        active=spec.get("active") is not False,
        reserved=condition_is((status or {}).get("conditions"), "QuotaReserved"),
        suspended_by_job=names.SUSPENDED_BY_JOB in annotations,
        deactivated=(reason, int(epoch) if epoch.isdecimal() else 0),
        checks=read_checks(status) if status and status.get("admissionChecks") and not finished else (),
        requeue_at=requeue_time(status) if status and status.get("requeueState") and not finished else None,
    )


def kept(value: object, option: int = 0) -> bytes:
    """JSON that stays in memory: orjson's own answer keeps a buffer of several times its size."""
    return bytes(memoryview(orjson.dumps(value, option=option)))


def _packed(status: object, *, small: bool) -> bytes:
    """A status as it is kept: JSON, or (`small`) packed, of what is over and will hardly be written again."""
    plain = kept(status)
    return bytes(memoryview(zlib.compress(plain, 1))) if small else plain


def _unpacked(status: bytes) -> Json:
    if not status:
        return {}
    # JSON of an object begins with a brace, packed bytes never do.
    found: Json = orjson.loads(status if status[0] == ord("{") else zlib.decompress(status))
    return found


def _slim(attempt: Attempt) -> Attempt:
    """The same, of strings that others have, too: clusters are few, and a work's name is in all that is said of it."""
    return replace(
        attempt,
        cluster=intern(attempt.cluster),
        work=intern(attempt.work),
        queue=intern(attempt.queue),
        message=intern(attempt.message),
        reason=intern(attempt.reason),
        usage=_shared(attempt.usage),
    )


def _job_of(kind: JobKind, labels: Mapping[str, Any], uid: str) -> JobRef:
    namespace, name = str(labels.get(names.JOB_NAMESPACE) or ""), str(labels.get(names.JOB_NAME) or "")
    return JobRef(kind, intern(namespace), intern(name), intern(uid))


def _stamp(meta: Mapping[str, Any]) -> tuple[object, ...]:
    annotations, labels = meta.get("annotations") or {}, meta.get("labels") or {}
    return _shared(
        (
            meta.get("generation"),
            *(annotations.get(name) for name in _ANNOTATIONS),
            *(labels.get(name) for name in _LABELS),
        )
    )


def _read_spec(obj: Json, kind: JobKind) -> tuple[JobSpec | None, str]:
    try:
        spec = JobSpec.from_job(obj) if kind == "Job" else JobSpec.from_fleet_job(obj)
    except InvalidObjectError as error:
        return None, str(error)
    except (TypeError, ValueError, AttributeError, KeyError) as error:
        # What no schema lets through, written by something that passed none.
        return None, f"spec: cannot be read: {type(error).__name__}: {error}"
    return replace(
        spec,
        uid=intern(spec.uid),
        name=intern(spec.name),
        namespace=intern(spec.namespace),
        queue=intern(spec.queue),
        template=_templates.shared(spec.template),
        shape=_shared(spec.shape),
        rule=_shared(spec.rule),
        retry=_shared(spec.retry),
    ), ""
