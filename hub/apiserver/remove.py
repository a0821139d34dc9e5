"""Deleting objects: preconditions, finalizers, and what becomes of the objects that they own.

Dependents are garbage.py's to delete; a namespace's contents and a CRD's objects are emptying.py's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from hub.apiserver.consultation import Consultation
from hub.apiserver.kinds import ServedKind
from hub.apiserver.logical import LogicalCluster
from hub.apiserver.record import Key, Record
from hub.apiserver.stamps import stamp_deletion
from hub.apiserver.status import bad_request, forbidden
from hub.apiserver.update import check_preconditions
from hub.apiserver.written import Object, Options, Written, stage

FOREGROUND: Final = "foregroundDeletion"
ORPHAN: Final = "orphan"
CRD_FINALIZER: Final = "customresourcecleanup.apiextensions.k8s.io"
_POLICIES: Final = {"Background": "", "Foreground": FOREGROUND, "Orphan": ORPHAN}
# What a cluster cannot be without.
_KEPT_NAMESPACES: Final = frozenset({"default", "kube-system", "kube-public"})
# As Kubernetes has it, for the sake of clients older than garbage collection.
_ORPHANS_BY_DEFAULT: Final = frozenset({("batch", "jobs")})
_ORPHANS_WARNING: Final = (
    "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or set "
    "propagationPolicy=Orphan to suppress this warning"
)


@dataclass(frozen=True, slots=True)
class DeleteOptions:
    policy: str = ""
    preconditions: Mapping[str, Any] | None = None
    dry_run: bool = False
    consultation: Consultation | None = None


def delete_options(body: Any, query: Mapping[str, str]) -> DeleteOptions:
    """Of a request's body (None: it had none) and query; the body wins. Raises `RefusedError` (400)."""
    body = body or {}
    if not isinstance(body, dict) or body.get("kind", "DeleteOptions") != "DeleteOptions":
        raise bad_request("the body of a delete must be DeleteOptions")
    policy = body.get("propagationPolicy") or query.get("propagationPolicy") or ""
    if policy not in ("", *_POLICIES):
        raise bad_request(f"propagationPolicy: found {policy!r}; allowed: {', '.join(_POLICIES)}")
    orphan = body.get("orphanDependents")
    if orphan is None and "orphanDependents" in query:
        orphan = query["orphanDependents"] not in ("false", "0")
    if orphan is not None and policy:
        raise bad_request("orphanDependents and propagationPolicy are not to be given both")
    if orphan is not None:
        policy = "Orphan" if orphan else "Background"
    preconditions = body.get("preconditions")
    if preconditions is not None and not isinstance(preconditions, dict):
        raise bad_request("preconditions must be an object")
    dry_run = body.get("dryRun") or ([query["dryRun"]] if query.get("dryRun") else [])
    if dry_run not in ([], ["All"]):
        raise bad_request(f"dryRun: found {dry_run}; allowed: All")
    return DeleteOptions(policy, preconditions, bool(dry_run))


def delete(cluster: LogicalCluster, kind: ServedKind, key: Key, how: DeleteOptions, *, verb: str = "delete") -> Written:
    """Stages the deletion, or its beginning where finalizers hold the object.

    Raises `NotFoundError`, `ConflictError` for preconditions, `RefusedError` for what cannot be deleted.
    """
    record = cluster.latest(kind, key)
    if how.preconditions:
        check_preconditions(kind, record, how.preconditions)
    options = Options(dry_run=how.dry_run)
    obj = kind.from_storage(record.load())
    if how.consultation is not None:
        how.consultation.validated("DELETE", kind, None, obj, "")
    metadata = obj["metadata"]
    finalizers: list[str] = list(metadata.get("finalizers") or ())
    orphans = not how.policy and kind.storage_key in _ORPHANS_BY_DEFAULT
    warnings = [_ORPHANS_WARNING] if orphans else []
    wanted = ORPHAN if orphans else _POLICIES[how.policy or "Background"]
    if how.policy and not record.deleting:
        finalizers = [name for name in finalizers if name not in (FOREGROUND, ORPHAN)]
    if wanted and wanted not in finalizers and not record.deleting:
        finalizers.append(wanted)
    _hold = _HELD.get(kind.storage_key)
    held = _hold is not None and _hold(cluster, kind, obj, finalizers)
    if not finalizers and not held:
        metadata.pop("finalizers", None)
        removed = stage(cluster, kind, "DELETED", obj, record, options, verb=verb)
        return Written(removed, deleted=True, warnings=warnings)
    if record.deleting:
        return Written(record, changed=False, warnings=warnings)
    metadata["finalizers"] = finalizers
    if not finalizers:
        del metadata["finalizers"]
    stamp_deletion(metadata, counts_generations=kind.generation)
    return Written(stage(cluster, kind, "MODIFIED", obj, record, options, verb=verb), warnings=warnings)


def delete_collection(
    cluster: LogicalCluster, kind: ServedKind, records: list[Record], how: DeleteOptions
) -> list[Record]:
    """Stages the deletion of each of `records` that is still there. Returns their last states."""
    removed = []
    collection = cluster.collection(kind)
    for record in records:
        current = collection.latest(record.key)
        if current is not None and current.uid == record.uid:
            removed.append(delete(cluster, kind, record.key, how).record)
    return removed


def finish(cluster: LogicalCluster, kind: ServedKind, record: Record, *, verb: str = "delete") -> None:
    """Stages the end of an object whose last reason to stay is gone."""
    obj = kind.from_storage(record.load())
    obj["metadata"].pop("finalizers", None)
    stage(cluster, kind, "DELETED", obj, record, Options(), verb=verb)


Hold = Callable[[LogicalCluster, ServedKind, Object, list[str]], bool]


def _hold_namespace(cluster: LogicalCluster, kind: ServedKind, obj: Object, finalizers: list[str]) -> bool:
    name = obj["metadata"]["name"]
    if name in _KEPT_NAMESPACES:
        raise forbidden("", "namespaces", name, "this namespace may not be deleted")
    obj["status"] = {**(obj.get("status") or {}), "phase": "Terminating"}
    return bool((obj.get("spec") or {}).get("finalizers"))


def _hold_crd(cluster: LogicalCluster, kind: ServedKind, obj: Object, finalizers: list[str]) -> bool:
    spec = obj["spec"]
    if cluster.store.collection(cluster.name, spec["group"], spec["names"]["plural"]).records:
        if CRD_FINALIZER not in finalizers:
            finalizers.append(CRD_FINALIZER)
        return True
    return False


_HELD: Final[Mapping[tuple[str, str], Hold]] = {
    ("", "namespaces"): _hold_namespace,
    ("apiextensions.k8s.io", "customresourcedefinitions"): _hold_crd,
}
