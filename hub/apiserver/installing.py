"""CustomResourceDefinitions at work: a kind is served from the commit of its CRD on, and no longer once it is gone.

Which CRDs are sound is crds.py's and kinds.py's business; the objects of a CRD that goes are emptying.py's.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Final

from hub.api.errors import InvalidObjectError
from hub.apiserver import crds
from hub.apiserver.history import Event
from hub.apiserver.invalid import FieldError, forbidden, invalid
from hub.apiserver.kinds import ServedKind, served_from_crd
from hub.apiserver.logical import LogicalCluster
from hub.apiserver.stamps import now_text
from hub.apiserver.written import Object

CRDS: Final = ("apiextensions.k8s.io", "customresourcedefinitions")
_log = logging.getLogger(__name__)


def finish_crd(cluster: LogicalCluster, kind: ServedKind, obj: Object, old: Object | None) -> Object:
    """A CRD as it is kept: checked, with defaults, and Established, for it is served as soon as it is stored."""
    try:
        served_from_crd(obj)
    except InvalidObjectError as error:
        message = str(error).removeprefix(f"{error.field}: ")
        found = FieldError(error.field, f"Invalid value: {message}" + (f" ({error.hint})" if error.hint else ""))
        raise invalid(kind.group, kind.kind, obj["metadata"]["name"], [found]) from error
    obj = crds.with_defaults(obj)
    spec = obj["spec"]
    errors = []
    for other in cluster.registry:
        if other.group != spec["group"]:
            continue
        if other.plural == spec["names"]["plural"]:
            if not other.is_crd:
                errors.append(forbidden("spec.names.plural", f"{other.plural}.{other.group} is built in"))
                break
        elif other.kind == spec["names"]["kind"]:
            errors.append(forbidden("spec.names.kind", f"{other.kind} is served by {other.plural}.{other.group}"))
            break
    if old is not None and old["spec"]["scope"] != spec["scope"]:
        errors.append(forbidden("spec.scope", "field is immutable"))
    if errors:
        raise invalid(kind.group, kind.kind, obj["metadata"]["name"], errors)
    unchanged = old is not None and old.get("spec") == spec
    if not (unchanged and (obj.get("status") or {}).get("acceptedNames")):
        obj["status"] = crds.established(obj, now=now_text(), generation=obj["metadata"].get("generation"))
    return obj


def install_all(cluster: LogicalCluster) -> None:
    """Serves every CRD that is in the store: once, at the start."""
    served: list[ServedKind] = []
    for record in cluster.crds.select():
        try:
            served += served_from_crd(record.load())
        except InvalidObjectError as error:
            # Written by another release; its objects are safe, and served again once the CRD is corrected.
            _log.error("CustomResourceDefinition %s is not served: %s", record.name, error)
    if served:
        cluster.registry = cluster.registry.adding(served)


def follow_crds(cluster: LogicalCluster, events: Iterable[Event]) -> list[tuple[str, str]]:
    """Serves what was committed. Returns (group, plural) of what is no longer served."""
    latest = {event.record.key: event for event in events}
    served: list[ServedKind] = []
    gone: list[tuple[str, str]] = []
    for event in latest.values():
        crd = event.record.load()
        if event.type == "DELETED":
            gone.append((crd["spec"]["group"], crd["spec"]["names"]["plural"]))
        else:
            served += served_from_crd(crd)
    registry = cluster.registry
    for group, plural in gone:
        registry = registry.without(group, plural)
    cluster.registry = registry.adding(served) if served else registry
    return gone
