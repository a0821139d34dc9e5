"""The registry: every kind that Quarterdeck serves, and the model that describes it."""

from __future__ import annotations

from collections.abc import Mapping

from hub.api import kueue_v1beta1
from hub.api.cluster import (
    AddOnPlacementScore,
    ManagedCluster,
    ManagedClusterSet,
    ManagedClusterSetBinding,
    Placement,
    PlacementDecision,
)
from hub.api.clusterscoring import ClusterScoring
from hub.api.dynamic import DynamicScorer, DynamicScoringConfig
from hub.api.fleet import ClusterCapacity, ScoreSource, TaskLog, TaskLogRequest
from hub.api.fleetjob import FleetJob
from hub.api.kueue import ClusterQueue, Cohort, LocalQueue, ResourceFlavor
from hub.api.meta import KubeObject
from hub.api.multikueue import AdmissionCheck, MultiKueueCluster, MultiKueueConfig
from hub.api.scorerplugin import ScorerPlugin
from hub.api.scorerpolicy import ScorerPolicy
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
    AdmissionCheck,
    MultiKueueConfig,
    MultiKueueCluster,
    FleetJob,
    ClusterCapacity,
    TaskLogRequest,
    TaskLog,
    ScoreSource,
    DynamicScorer,
    DynamicScoringConfig,
    ScorerPolicy,
    ClusterScoring,
    ScorerPlugin,
)


_OLDER: Mapping[type[KubeObject], Mapping[str, type[KubeObject]]] = {
    ResourceFlavor: {"v1beta1": ResourceFlavor},
    Cohort: {"v1beta1": Cohort},
    ClusterQueue: {"v1beta1": kueue_v1beta1.ClusterQueue},
    LocalQueue: {"v1beta1": kueue_v1beta1.LocalQueue},
    Workload: {"v1beta1": kueue_v1beta1.Workload},
    WorkloadPriorityClass: {"v1beta1": WorkloadPriorityClass},
    AdmissionCheck: {"v1beta1": AdmissionCheck},
    MultiKueueConfig: {"v1beta1": MultiKueueConfig},
    MultiKueueCluster: {"v1beta1": MultiKueueCluster},
    # What the framework's first releases served.
    DynamicScorer: {"v1": DynamicScorer},
    DynamicScoringConfig: {"v1": DynamicScoringConfig},
}


def older_versions(kind: type[KubeObject]) -> Mapping[str, type[KubeObject]]:
    """Versions of `kind` that are served besides the stored one, and their models."""
    return _OLDER.get(kind, {})
