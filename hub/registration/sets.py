"""What the hub says of cluster sets and bindings, and the two sets it keeps on every hub. Pure.

OCM's conditions and messages; a set whose maintenance somebody switched off is left alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from hub.api.conditions import with_condition

Json = dict[str, Any]
AUTO_UPDATE: Final = "cluster.open-cluster-management.io/autoupdate"
MAINTAINED: Final[Mapping[str, Json]] = {
    "default": {"selectorType": "ExclusiveClusterSetLabel"},
    "global": {"selectorType": "LabelSelector", "labelSelector": {}},
}


def restored(cluster_set: Mapping[str, Any]) -> Json | None:
    """A merge patch that gives one of the two kept sets its selector back; None: it has it, or is not one of them."""
    metadata = cluster_set["metadata"]
    wanted = MAINTAINED.get(str(metadata.get("name")))
    if wanted is None or (metadata.get("annotations") or {}).get(AUTO_UPDATE) == "false":
        return None
    found = (cluster_set.get("spec") or {}).get("clusterSelector") or {}
    if _said(found) == _said(wanted):
        return None
    selector = {"selectorType": wanted["selectorType"], "labelSelector": None}
    if "labelSelector" in wanted:
        selector["labelSelector"] = {"matchLabels": None, "matchExpressions": None}
    return {"spec": {"clusterSelector": selector}}


def set_status(cluster_set: Mapping[str, Any], members: int, now: str) -> list[Json]:
    """The set's conditions: how many clusters it has."""
    if members:
        verdict = ("False", "ClustersSelected", f"{members} ManagedClusters selected")
    else:
        verdict = ("True", "NoClusterMatched", "No ManagedCluster selected")
    return with_condition(_conditions(cluster_set), "ClusterSetEmpty", *verdict, now=now)


def binding_status(binding: Mapping[str, Any], now: str, *, exists: bool) -> list[Json]:
    """The binding's conditions: whether its set is there."""
    name = str((binding.get("spec") or {}).get("clusterSet") or "")
    if exists:
        verdict = ("True", "ClusterSetBound", f"ManagedClusterSet {name} is bound")
    else:
        verdict = ("False", "ClusterSetNotFound", f"ManagedClusterSet {name} does not exist")
    return with_condition(_conditions(binding), "Bound", *verdict, now=now)


def _said(selector: Mapping[str, Any]) -> tuple[str, Any]:
    kind = str(selector.get("selectorType") or "ExclusiveClusterSetLabel")
    labels = selector.get("labelSelector")
    chosen = {key: value for key, value in (labels or {}).items() if value}
    return kind, chosen if kind == "LabelSelector" and labels is not None else None


def _conditions(obj: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return (obj.get("status") or {}).get("conditions") or []
