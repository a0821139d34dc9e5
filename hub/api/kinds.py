"""The registry: every kind that Quarterdeck serves, and the model that describes it."""

from __future__ import annotations

from collections.abc import Mapping

from hub.api.cluster import (
    AddOnPlacementScore,
    ManagedCluster,
    ManagedClusterSet,
    ManagedClusterSetBinding,
    Placement,
    PlacementDecision,
)
from hub.api.fleet import ClusterCapacity, ScoreSource, TaskLog, TaskLogRequest
from hub.api.fleetjob import FleetJob
from hub.api.kueue import ClusterQueue, Cohort, LocalQueue, ResourceFlavor
from hub.api.meta import KubeObject
from hub.api.work import AppliedManifestWork, ManifestWork
from hub.api.workload import Workload, WorkloadPriorityClass

KINDS: tuple[type[KubeObject], ...] = (
    ManagedCluster,
    ManagedClusterSet,
    ManagedClusterSetBinding,
    Placement,
    PlacementDecision,
    AddOnPlacementScore,
    ManifestWork,
    AppliedManifestWork,
    ResourceFlavor,
    Cohort,
    ClusterQueue,
    LocalQueue,
    Workload,
    WorkloadPriorityClass,
    FleetJob,
    ClusterCapacity,
    TaskLogRequest,
    TaskLog,
    ScoreSource,
)


def older_versions(kind: type[KubeObject]) -> Mapping[str, type[KubeObject]]:
    """Versions of `kind` that are served besides the stored one."""
    return {}
