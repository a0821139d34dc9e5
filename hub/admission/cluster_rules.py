"""What OCM's admission webhooks do to clusters, bindings and works, so that its clients meet what they expect.

Only what an object (and its predecessor) tells; who may do what is for the API server to say.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import orjson

from hub.admission.findings import FieldError, duplicate, forbidden, required, wrong
from hub.admission.rule import Object, Review, Reviewed
from hub.api.names import CLUSTER_SET

_CLUSTER_GROUP: Final = "cluster.open-cluster-management.io"
_WORK_GROUP: Final = "work.open-cluster-management.io"
_NAMESPACE: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_DEFAULT_SET: Final = "default"
_DEFAULT_LEASE_SECONDS: Final = 60
MAX_MANIFESTS_BYTES: Final = 500 * 1024


def managed_cluster(obj: Object, old: Object | None, now: str) -> Reviewed:
    """A set, a lease duration, and on each taint since when; names are namespaces, client configs are https."""
    result = dict(obj)
    metadata = result["metadata"] = dict(obj["metadata"])
    labels = metadata.get("labels") or {}
    if not labels.get(CLUSTER_SET):
        metadata["labels"] = {**labels, CLUSTER_SET: _DEFAULT_SET}
    spec = dict(obj.get("spec") or {})
    if not spec.get("leaseDurationSeconds"):
        spec["leaseDurationSeconds"] = _DEFAULT_LEASE_SECONDS
    errors: list[FieldError] = []
    if spec.get("taints"):
        before = ((old or {}).get("spec") or {}).get("taints") or ()
        spec["taints"] = _timed(spec["taints"], before, now, creating=old is None, errors=errors)
    result["spec"] = spec
    name = str(metadata.get("name") or "")
    # A cluster's namespace bears its name.
    if not _NAMESPACE.fullmatch(name):
        errors.append(wrong("metadata.name", name, "must be a DNS label, because a namespace has the same name"))
    for index, config in enumerate(spec.get("managedClusterClientConfigs") or ()):
        url = config.get("url")
        if isinstance(url, str) and not url.startswith("https://"):
            errors.append(wrong(f"spec.managedClusterClientConfigs[{index}].url", url, "must be an https URL"))
    return result, errors


def _timed(taints: Any, before: Any, now: str, *, creating: bool, errors: list[FieldError]) -> list[Any]:
    known = {taint.get("key"): taint for taint in before}
    result = []
    for index, taint in enumerate(taints):
        previous = known.get(taint.get("key"))
        if creating:
            result.append({**taint, "timeAdded": now})
        elif previous is None or any(taint.get(part) != previous.get(part) for part in ("value", "effect")):
            if taint.get("timeAdded"):
                errors.append(_not_yours(index, taint))
            result.append({**taint, "timeAdded": now})
        else:
            if taint.get("timeAdded") != previous.get("timeAdded"):
                errors.append(_not_yours(index, taint))
            result.append(taint)
    return result


def _not_yours(index: int, taint: Mapping[str, Any]) -> FieldError:
    detail = f'It is not allowed to set TimeAdded of Taint "{taint.get("key")}".'
    return forbidden(f"spec.taints[{index}].timeAdded", detail)


def binding(obj: Object, old: Object | None, now: str) -> Reviewed:
    name, wanted = obj["metadata"].get("name"), (obj.get("spec") or {}).get("clusterSet")
    if name == wanted:
        return dict(obj), ()
    return dict(obj), [wrong("metadata.name", name, f"must be the name of the set, {wanted}")]


def manifest_work(obj: Object, old: Object | None, now: str) -> Reviewed:
    """At least one manifest, each with a name of its own, and not more in all than an agent will take."""
    manifests = ((obj.get("spec") or {}).get("workload") or {}).get("manifests") or ()
    before = ((old or {}).get("spec") or {}).get("workload", {}).get("manifests") if old is not None else None
    if before is not None and before == manifests:
        return dict(obj), ()
    where = "spec.workload.manifests"
    if not manifests:
        return dict(obj), [required(where, "a work needs at least one manifest")]
    errors: list[FieldError] = []
    size = sum(len(orjson.dumps(manifest)) for manifest in manifests)
    if size > MAX_MANIFESTS_BYTES:
        said = f"Too long: {size} bytes of manifests; at most {MAX_MANIFESTS_BYTES}"
        errors.append(FieldError(where, said, "FieldValueTooLong"))
    seen: set[str] = set()
    for index, manifest in enumerate(manifests):
        # What a manifest holds is checked by whoever applies it: here it may be anything.
        written = manifest.get("metadata")
        metadata: Mapping[str, Any] = written if isinstance(written, Mapping) else {}
        if metadata.get("generateName"):
            errors.append(forbidden(f"{where}[{index}].metadata.generateName", "a manifest needs a name of its own"))
        elif not metadata.get("name"):
            errors.append(required(f"{where}[{index}].metadata.name"))
        identity = (manifest.get("apiVersion"), manifest.get("kind"), metadata.get("namespace"), metadata.get("name"))
        if repr(identity) in seen:
            errors.append(duplicate(f"{where}[{index}]", "/".join(str(part or "") for part in identity)))
        seen.add(repr(identity))
    return dict(obj), errors


RULES: Final[Mapping[tuple[str, str], Review]] = {
    (_CLUSTER_GROUP, "managedclusters"): managed_cluster,
    (_CLUSTER_GROUP, "managedclustersetbindings"): binding,
    (_WORK_GROUP, "manifestworks"): manifest_work,
}
