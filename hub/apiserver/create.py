"""Creating objects: who may not be there yet, what the server adds, and what a client cannot set."""

from __future__ import annotations

from typing import Final

from hub.apiserver.access_rules import REQUESTS, stamp_requester
from hub.apiserver.admit import admit, check_type
from hub.apiserver.guards import guard
from hub.apiserver.installing import CRDS, finish_crd
from hub.apiserver.invalid import invalid, required
from hub.apiserver.kinds import ServedKind
from hub.apiserver.logical import LogicalCluster
from hub.apiserver.looking_up import ClusterLook
from hub.apiserver.ownership import own_fields
from hub.apiserver.stamps import generated_name, stamp_new
from hub.apiserver.status import already_exists, bad_request, forbidden
from hub.apiserver.written import Object, Options, Written, stage

_TRIES: Final = 8
# A node comes with what it is; that is how Kubernetes has it too.
_STATUS_FROM_THE_START: Final = frozenset({("", "nodes")})


def create(
    cluster: LogicalCluster,
    kind: ServedKind,
    obj: Object,
    namespace: str | None,
    options: Options,
    *,
    verb: str = "create",
) -> Written:
    """Stages `obj`, which is taken over. `namespace` is the one of the request.

    Raises `AlreadyExistsError`, `NotFoundError` for the namespace, `RefusedError`.
    """
    obj = check_type(kind, obj)
    if kind.storage_key == REQUESTS:
        obj = stamp_requester(obj, options.user.written() if options.user is not None else None)
    metadata = obj["metadata"]
    _place(kind, metadata, namespace)
    if metadata.get("resourceVersion"):
        raise bad_request("resourceVersion should not be set on objects to be created")
    if kind.namespaced:
        _check_namespace(cluster, kind, metadata)
    _name(cluster, kind, metadata)
    if kind.is_crd:
        _check_crd(cluster, kind)
    if kind.has_status and kind.storage_key not in _STATUS_FROM_THE_START:
        obj.pop("status", None)
    stamp_new(metadata, counts_generations=kind.generation)
    warnings: list[str] = []
    if options.consultation is not None:
        obj = options.consultation.mutated("CREATE", kind, obj, None, "", lambda made: kind.admit(made).obj)
        if kind.has_status and kind.storage_key not in _STATUS_FROM_THE_START:
            obj = {name: value for name, value in obj.items() if name != "status"}
    obj = admit(kind, obj, None, options, warnings, ClusterLook(cluster))
    obj = finish_crd(cluster, kind, obj, None) if kind.storage_key == CRDS else obj
    guard(cluster, kind, obj, None, options, "")
    if options.consultation is not None:
        options.consultation.validated("CREATE", kind, obj, None, "")
    # Last, as in Kubernetes: what is wrong with an object is said first.
    name = obj["metadata"]["name"]
    if cluster.collection(kind).latest((obj["metadata"].get("namespace") or "", name)) is not None:
        raise already_exists(kind.group, kind.plural, name)
    own_fields(kind, obj, None, options, "")
    record = stage(cluster, kind, "ADDED", obj, None, options, verb=verb)
    return Written(record, created=True, warnings=warnings)


def _place(kind: ServedKind, metadata: Object, namespace: str | None) -> None:
    found = metadata.get("namespace")
    if kind.namespaced:
        if not namespace:
            raise bad_request(f"{kind.plural} are created in a namespace: the path must name one")
        if found and found != namespace:
            raise bad_request("the namespace of the provided object does not match the namespace sent on the request")
        metadata["namespace"] = namespace
    elif found:
        raise bad_request(f"{kind.plural} have no namespace, the object names {found!r}")
    else:
        metadata.pop("namespace", None)


def _name(cluster: LogicalCluster, kind: ServedKind, metadata: Object) -> None:
    collection = cluster.collection(kind)
    namespace = metadata.get("namespace") or ""
    name = metadata.get("name")
    if name:
        if not isinstance(name, str):
            raise bad_request("metadata.name must be a string")
        return
    base = metadata.get("generateName")
    if not base or not isinstance(base, str):
        raise invalid(kind.group, kind.kind, "", [required("metadata.name", "name or generateName is required")])
    for _ in range(_TRIES):
        made = generated_name(base)
        if collection.latest((namespace, made)) is None:
            metadata["name"] = made
            return
    raise already_exists(kind.group, kind.plural, base)


def _check_namespace(cluster: LogicalCluster, kind: ServedKind, metadata: Object) -> None:
    namespace = metadata["namespace"]
    if cluster.namespace(namespace).deleting:
        why = f"unable to create new content in namespace {namespace} because it is being terminated"
        cause = {
            "reason": "NamespaceTerminating",
            "message": f"namespace {namespace} is being terminated",
            "field": "metadata.namespace",
        }
        name = str(metadata.get("name") or metadata.get("generateName") or "")
        raise forbidden(kind.group, kind.plural, name, why, cause)


def _check_crd(cluster: LogicalCluster, kind: ServedKind) -> None:
    crd = cluster.crds.latest(("", f"{kind.plural}.{kind.group}"))
    if crd is not None and crd.deleting:
        raise forbidden(kind.group, kind.plural, "", "its CustomResourceDefinition is being deleted")
