"""Clusters, scores and Placements for tests of decisions: as short as a test wants to read them."""

from __future__ import annotations

from typing import Any

from hub.api import names
from hub.fleet.changes import ClusterSeen
from hub.placement.sets import ClusterSets

NOW = 1767225660.0  # 2026-01-01T00:01:00Z
ADDED = "2026-01-01T00:00:00Z"
SETS = ClusterSets.parse(
    [{"metadata": {"name": "fleet"}}],
    [{"metadata": {"name": "fleet", "namespace": "ns"}, "spec": {"clusterSet": "fleet"}}],
)


def cluster(
    name: str, *taints: str, cpu: str = "4", claims: dict[str, str] | None = None, **labels: str
) -> ClusterSeen:
    """`taints` as ``key:Effect``, a minute old."""
    listed = [{"key": t.split(":")[0], "effect": t.split(":")[1], "timeAdded": ADDED} for t in taints]
    return ClusterSeen(
        {
            "metadata": {"name": name, "labels": {names.CLUSTER_SET: "fleet", **labels}},
            "spec": {"hubAcceptsClient": True, "taints": listed},
            "status": {
                "allocatable": {"cpu": cpu},
                "capacity": {"cpu": cpu},
                "clusterClaims": [{"name": n, "value": v} for n, v in (claims or {}).items()],
            },
        }
    )


def placement(annotations: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "p", "namespace": "ns", "annotations": annotations or {}}, "spec": spec}


def addon(weight: int = 1, score: str = "s") -> dict[str, Any]:
    coordinate = {"type": "AddOn", "addOn": {"resourceName": "r", "scoreName": score}}
    return {"scoreCoordinate": coordinate, "weight": weight}


def built_in(name: str, weight: int = 1) -> dict[str, Any]:
    return {"scoreCoordinate": {"builtIn": name}, "weight": weight}


def by_score(*more: dict[str, Any]) -> dict[str, Any]:
    return {"mode": "Exact", "configurations": [addon(), *more]}
