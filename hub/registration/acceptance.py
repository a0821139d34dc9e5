"""Who is let into the fleet, and what a ManagedCluster looks like once it is.

Pure: a cluster and a rule in, a merge patch out. The API tells nobody who created an object, so the rule is about the
identity that the cluster's agent has by OCM's naming, ``system:open-cluster-management:CLUSTER:AGENT``: whoever hands
out credentials hands them out under that name. A person's later "no" is never overruled.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Final

from hub.api import names
from hub.api.mergepatch import create_merge_patch

Json = dict[str, Any]

AUTO_ACCEPTED: Final = "open-cluster-management.io/automatically-accepted-on"
DEFAULT_SET: Final = "default"
_DEFAULT_LEASE_SECONDS: Final = 60


@dataclass(frozen=True, slots=True)
class AcceptRule:
    """Clusters whose agent's identity matches one of `users` (shell patterns) and that carry all of `labels`."""

    users: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()

    def matches(self, cluster: Mapping[str, Any]) -> bool:
        metadata = cluster["metadata"]
        identity = f"system:open-cluster-management:{metadata['name']}:agent"
        labels = metadata.get("labels") or {}
        return any(fnmatchcase(identity, pattern) for pattern in self.users) and all(
            labels.get(key) == value for key, value in self.labels
        )


def is_accepted(cluster: Mapping[str, Any]) -> bool:
    return (cluster.get("spec") or {}).get("hubAcceptsClient") is True


def is_leaving(cluster: Mapping[str, Any]) -> bool:
    return bool(cluster["metadata"].get("deletionTimestamp"))


def lease_seconds(cluster: Mapping[str, Any]) -> int:
    """At least one second, whatever is written there."""
    value = (cluster.get("spec") or {}).get("leaseDurationSeconds")
    return value if isinstance(value, int) and value >= 1 else _DEFAULT_LEASE_SECONDS


def entry_patch(
    cluster: Mapping[str, Any], rule: AcceptRule, now: str, finalizers: tuple[str, ...] = ()
) -> Json | None:
    """What is to change in metadata and spec: acceptance, the default set, the times of taints. None: nothing.

    `now` is RFC 3339; `finalizers` are what an accepted cluster is to be held by, in the same write. What OCM's
    admission does on writing is done here on reading, so that it holds on every server.
    """
    if is_leaving(cluster):
        return None
    metadata, spec = cluster["metadata"], cluster.get("spec") or {}
    labels = metadata.get("labels") or {}
    annotations = metadata.get("annotations") or {}
    wanted_labels, wanted_annotations, wanted_spec = dict(labels), dict(annotations), dict(spec)
    if not labels.get(names.CLUSTER_SET):
        wanted_labels[names.CLUSTER_SET] = DEFAULT_SET
    if not is_accepted(cluster) and AUTO_ACCEPTED not in annotations and rule.matches(cluster):
        wanted_spec["hubAcceptsClient"] = True
        wanted_annotations[AUTO_ACCEPTED] = now
    if spec.get("taints"):
        wanted_spec["taints"] = [
            taint if taint.get("timeAdded") else taint | {"timeAdded": now} for taint in spec["taints"]
        ]
    held = list(metadata.get("finalizers") or ())
    missing = [name for name in finalizers if name not in held] if wanted_spec.get("hubAcceptsClient") is True else []
    old: Json = {"metadata": {"labels": labels, "annotations": annotations, "finalizers": held}, "spec": spec}
    new: Json = {"metadata": {"labels": wanted_labels, "annotations": wanted_annotations}, "spec": wanted_spec}
    new["metadata"]["finalizers"] = held + missing
    patch = create_merge_patch(old, new)
    if patch is not None and missing:
        # The list is replaced as a whole: it must be the one that was seen.
        patch["metadata"]["resourceVersion"] = metadata.get("resourceVersion")
    return patch


def cluster_namespace(name: str) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name, "labels": {names.CLUSTER_NAME: name}},
    }


def cluster_lease(cluster: Mapping[str, Any], now: str) -> Json:
    """The Lease as the hub makes it; `now` is a micro time. From then on only the agent renews it."""
    name = cluster["metadata"]["name"]
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": names.CLUSTER_LEASE, "namespace": name, "labels": {names.CLUSTER_NAME: name}},
        "spec": {"holderIdentity": name, "leaseDurationSeconds": lease_seconds(cluster), "renewTime": now},
    }
