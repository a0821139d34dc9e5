"""Changing objects: replacing them, patching them, and their subresources.

What a write changes nothing of keeps its version and is no event. An object that is being deleted goes when the last
finalizer does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace as replaced
from typing import Any

from hub.apiserver.access_rules import REQUESTS, certificate_status
from hub.apiserver.admit import admit, check_type
from hub.apiserver.create import create
from hub.apiserver.guards import guard
from hub.apiserver.installing import CRDS, finish_crd
from hub.apiserver.invalid import forbidden as forbidden_field
from hub.apiserver.invalid import invalid, wrong
from hub.apiserver.kinds import ServedKind
from hub.apiserver.logical import LogicalCluster
from hub.apiserver.looking_up import ClusterLook
from hub.apiserver.ownership import own_fields
from hub.apiserver.patching import Patch
from hub.apiserver.record import Key, Record
from hub.apiserver.requests import Attributes, authorize
from hub.apiserver.stamps import content_changed, keep_system_fields, now_text
from hub.apiserver.status import bad_request, conflict, modified, not_found
from hub.apiserver.written import Object, Options, Written, encode, stage


def replace(
    cluster: LogicalCluster, kind: ServedKind, obj: Object, key: Key, options: Options, *, subresource: str = ""
) -> Written:
    """Stages `obj`, which is taken over, in place of what is there.

    Raises `NotFoundError`, `ConflictError` where its resourceVersion or uid is another's, `RefusedError`.
    """
    obj = check_type(kind, obj)
    metadata = obj["metadata"]
    if metadata.get("name", key[1]) != key[1]:
        raise bad_request(f"the name of the object ({metadata['name']}) does not match the name on the URL ({key[1]})")
    if (metadata.get("namespace") or key[0]) != key[0]:
        raise bad_request("the namespace of the provided object does not match the namespace sent on the request")
    record = cluster.latest(kind, key)
    if kind.is_crd and not metadata.get("resourceVersion"):
        must = wrong("metadata.resourceVersion", 0, "must be specified for an update")
        raise invalid(kind.group, kind.kind, key[1], [must])
    old = kind.from_storage(record.load())
    return store_change(cluster, kind, obj, record, old, options, verb="update", subresource=subresource)


def patch(
    cluster: LogicalCluster, kind: ServedKind, change: Patch, key: Key, options: Options, *, subresource: str = ""
) -> Written:
    """Stages what `change` makes of the object. Apply creates what is not there.

    Raises as `replace` does, and what the patch itself raises.
    """
    record = cluster.collection(kind).latest(key)
    if record is None:
        if not change.creates or subresource:
            raise not_found(kind.group, kind.plural, key[1])
        obj = check_type(kind, change.apply(kind, None, options, subresource))
        metadata = obj["metadata"] = {"name": key[1], **obj["metadata"]}
        if metadata["name"] != key[1]:
            raise bad_request("a patch cannot change metadata.name or metadata.namespace")
        if options.user is not None and cluster.authorizer is not None:
            asked = Attributes("create", "", kind.group, kind.version, kind.plural, key[0])
            authorize(cluster.authorizer, options.user, asked)
        if metadata.get("uid"):
            raise conflict(kind.group, kind.plural, key[1], "uid mismatch: the object does not exist")
        return create(cluster, kind, obj, key[0] or None, replaced(options, applied=True), verb="patch")
    if change.format == "apply":
        options = replaced(options, applied=True)
    old = kind.from_storage(record.load())
    obj = check_type(kind, change.apply(kind, old, options, subresource))
    if obj["metadata"].get("name", key[1]) != key[1] or (obj["metadata"].get("namespace") or key[0]) != key[0]:
        raise bad_request("a patch cannot change metadata.name or metadata.namespace")
    return store_change(cluster, kind, obj, record, old, options, verb="patch", subresource=subresource)


def store_change(
    cluster: LogicalCluster,
    kind: ServedKind,
    obj: Object,
    record: Record,
    old: Object,
    options: Options,
    *,
    verb: str,
    subresource: str,
) -> Written:
    """Stages `obj`, in `kind`'s version, in place of `record`, which `old` is in that version.

    Only what `subresource` covers is taken over. Raises as `replace` does.
    """
    check_preconditions(kind, record, obj["metadata"])
    obj = _taken_over(kind, obj, record, old, subresource)
    if options.consultation is not None:
        complete = lambda made: kind.admit(made, old).obj  # noqa: E731
        made = options.consultation.mutated("UPDATE", kind, obj, old, subresource, complete)
        obj = obj if made is obj else _taken_over(kind, made, record, old, subresource)
    warnings: list[str] = []
    obj = admit(kind, obj, old, options, warnings, None if subresource else ClusterLook(cluster))
    if kind.storage_key == CRDS and not subresource:
        obj = finish_crd(cluster, kind, obj, old)
    guard(cluster, kind, obj, old, options, subresource)
    if options.consultation is not None:
        options.consultation.validated("UPDATE", kind, obj, old, subresource)
    own_fields(kind, obj, old, options, subresource)
    metadata = obj["metadata"]
    if record.deleting and not metadata.get("finalizers") and _may_vanish(kind, obj):
        record = stage(cluster, kind, "DELETED", obj, record, options, verb=verb, subresource=subresource)
        return Written(record, deleted=True, warnings=warnings)
    if kind.generation and "generation" in metadata and content_changed(obj, old, status_apart=kind.has_status):
        metadata["generation"] += 1
    if _equal(kind, obj, old, record):
        return Written(record, changed=False, warnings=warnings)
    record = stage(cluster, kind, "MODIFIED", obj, record, options, verb=verb, subresource=subresource)
    return Written(record, warnings=warnings)


def _taken_over(kind: ServedKind, obj: Object, record: Record, old: Object, subresource: str) -> Object:
    """What of `obj` a write to `subresource` may change of `old`."""
    if subresource in ("status", "approval"):
        obj = _only_status(obj, old)
        if kind.storage_key == REQUESTS:
            obj["status"] = certificate_status(obj, old, subresource, now_text())
        return obj
    # A patched object shares what did not change with the old one.
    obj = {**obj, "metadata": dict(obj["metadata"])}
    keep_system_fields(obj["metadata"], old["metadata"])
    if kind.has_status:
        _keep_status(obj, old)
    _check_finalizers(kind, obj["metadata"], record, old["metadata"])
    return obj


def check_preconditions(kind: ServedKind, record: Record, metadata: Mapping[str, Any]) -> None:
    """Raises `ConflictError` where `metadata` names another resourceVersion or uid than the stored object has."""
    version, uid = metadata.get("resourceVersion"), metadata.get("uid")
    if uid and uid != record.uid:
        why = f"Precondition failed: UID in precondition: {uid}, UID in object meta: {record.uid}"
        raise conflict(kind.group, kind.plural, record.name, why)
    if version and version != str(record.version):
        if not str(version).isdigit():
            raise invalid(
                kind.group, kind.kind, record.name, [wrong("metadata.resourceVersion", version, "must be a number")]
            )
        raise modified(kind.group, kind.plural, record.name)


def _may_vanish(kind: ServedKind, obj: Object) -> bool:
    # A namespace stays until it is empty, which its own list of finalizers says.
    return kind.storage_key != ("", "namespaces") or not (obj.get("spec") or {}).get("finalizers")


def _only_status(obj: Object, old: Object) -> Object:
    result = dict(old)
    # A copy: stamping the version must not reach what the change is compared with.
    result["metadata"] = dict(old["metadata"])
    if "managedFields" in obj["metadata"]:
        result["metadata"]["managedFields"] = obj["metadata"]["managedFields"]
    _set_status(result, obj.get("status"), present="status" in obj)
    return result


def _keep_status(obj: Object, old: Object) -> None:
    _set_status(obj, old.get("status"), present="status" in old)


def _set_status(obj: Object, status: Any, *, present: bool) -> None:
    if present:
        obj["status"] = status
    else:
        obj.pop("status", None)


def _check_finalizers(kind: ServedKind, metadata: Object, record: Record, old: Object) -> None:
    if not record.deleting:
        return
    before = old.get("finalizers") or []
    added = [name for name in metadata.get("finalizers") or [] if name not in before]
    if added:
        detail = f"no new finalizers can be added if the object is being deleted, found new finalizers {added}"
        raise invalid(kind.group, kind.kind, record.name, [forbidden_field("metadata.finalizers", detail)])


def _equal(kind: ServedKind, obj: Object, old: Object, record: Record) -> bool:
    # Python takes 1, 1.0 and true for equal, JSON does not: their texts differ in length.
    obj["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"]
    return obj == old and len(encode(kind.to_storage(obj))) == len(record.raw)
