"""How a kind is addressed over the wire. Nothing here knows what is inside an object."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from hub.api.errors import InvalidObjectError


@dataclass(frozen=True, slots=True)
class Resource:
    """One served version of one kind: ``Resource("batch", "v1", "Job", "jobs", namespaced=True)``."""

    group: str
    version: str
    kind: str
    plural: str
    namespaced: bool

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """The REST path below the server's root, such as ``/apis/batch/v1/namespaces/a/jobs/x/status``."""
        parts = ["/apis", self.group, self.version] if self.group else ["/api", self.version]
        if self.namespaced and namespace:
            parts += ["namespaces", namespace]
        parts += [part for part in (self.plural, name, subresource) if part]
        return "/".join(parts)


_CLUSTER, _WORK, _KUEUE = (
    "cluster.open-cluster-management.io",
    "work.open-cluster-management.io",
    "kueue.x-k8s.io",
)
_FLEET = "fleet.quarterdeck.dev"
_DYNAMIC = "dynamic-scoring.open-cluster-management.io"

MANAGED_CLUSTERS = Resource(_CLUSTER, "v1", "ManagedCluster", "managedclusters", False)
MANAGED_CLUSTER_SETS = Resource(_CLUSTER, "v1beta2", "ManagedClusterSet", "managedclustersets", False)
MANAGED_CLUSTER_SET_BINDINGS = Resource(
    _CLUSTER, "v1beta2", "ManagedClusterSetBinding", "managedclustersetbindings", True
)
PLACEMENTS = Resource(_CLUSTER, "v1beta1", "Placement", "placements", True)
PLACEMENT_DECISIONS = Resource(_CLUSTER, "v1beta1", "PlacementDecision", "placementdecisions", True)
ADDON_PLACEMENT_SCORES = Resource(_CLUSTER, "v1alpha1", "AddOnPlacementScore", "addonplacementscores", True)
MANIFEST_WORKS = Resource(_WORK, "v1", "ManifestWork", "manifestworks", True)
APPLIED_MANIFEST_WORKS = Resource(_WORK, "v1", "AppliedManifestWork", "appliedmanifestworks", False)
RESOURCE_FLAVORS = Resource(_KUEUE, "v1beta2", "ResourceFlavor", "resourceflavors", False)
COHORTS = Resource(_KUEUE, "v1beta2", "Cohort", "cohorts", False)
CLUSTER_QUEUES = Resource(_KUEUE, "v1beta2", "ClusterQueue", "clusterqueues", False)
LOCAL_QUEUES = Resource(_KUEUE, "v1beta2", "LocalQueue", "localqueues", True)
WORKLOADS = Resource(_KUEUE, "v1beta2", "Workload", "workloads", True)
WORKLOAD_PRIORITY_CLASSES = Resource(_KUEUE, "v1beta2", "WorkloadPriorityClass", "workloadpriorityclasses", False)
ADMISSION_CHECKS = Resource(_KUEUE, "v1beta2", "AdmissionCheck", "admissionchecks", False)
MULTI_KUEUE_CONFIGS = Resource(_KUEUE, "v1beta2", "MultiKueueConfig", "multikueueconfigs", False)
MULTI_KUEUE_CLUSTERS = Resource(_KUEUE, "v1beta2", "MultiKueueCluster", "multikueueclusters", False)
FLEET_JOBS = Resource(_FLEET, "v1alpha1", "FleetJob", "fleetjobs", True)
CLUSTER_CAPACITIES = Resource(_FLEET, "v1alpha1", "ClusterCapacity", "clustercapacities", True)
TASK_LOG_REQUESTS = Resource(_FLEET, "v1alpha1", "TaskLogRequest", "tasklogrequests", True)
TASK_LOGS = Resource(_FLEET, "v1alpha1", "TaskLog", "tasklogs", True)
SCORE_SOURCES = Resource(_FLEET, "v1alpha1", "ScoreSource", "scoresources", False)
SCORER_PLUGINS = Resource(_FLEET, "v1alpha1", "ScorerPlugin", "scorerplugins", False)
CLUSTER_SCORINGS = Resource(_FLEET, "v1alpha1", "ClusterScoring", "clusterscorings", True)
SCORER_POLICIES = Resource(_FLEET, "v1alpha1", "ScorerPolicy", "scorerpolicies", True)
DYNAMIC_SCORERS = Resource(_DYNAMIC, "v1alpha1", "DynamicScorer", "dynamicscorers", True)
DYNAMIC_SCORING_CONFIGS = Resource(_DYNAMIC, "v1alpha1", "DynamicScoringConfig", "dynamicscoringconfigs", True)

NAMESPACES = Resource("", "v1", "Namespace", "namespaces", False)
NODES = Resource("", "v1", "Node", "nodes", False)
PODS = Resource("", "v1", "Pod", "pods", True)
CONFIG_MAPS = Resource("", "v1", "ConfigMap", "configmaps", True)
SECRETS = Resource("", "v1", "Secret", "secrets", True)
JOBS = Resource("batch", "v1", "Job", "jobs", True)
PRIORITY_CLASSES = Resource("scheduling.k8s.io", "v1", "PriorityClass", "priorityclasses", False)
LEASES = Resource("coordination.k8s.io", "v1", "Lease", "leases", True)
CLUSTER_ROLES = Resource("rbac.authorization.k8s.io", "v1", "ClusterRole", "clusterroles", False)
CLUSTER_ROLE_BINDINGS = Resource("rbac.authorization.k8s.io", "v1", "ClusterRoleBinding", "clusterrolebindings", False)
ROLE_BINDINGS = Resource("rbac.authorization.k8s.io", "v1", "RoleBinding", "rolebindings", True)
EVENTS = Resource("events.k8s.io", "v1", "Event", "events", True)
CUSTOM_RESOURCE_DEFINITIONS = Resource(
    "apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions", False
)

KNOWN: tuple[Resource, ...] = tuple(value for value in list(globals().values()) if isinstance(value, Resource))
_BY_KIND = {(resource.group, resource.kind): resource for resource in KNOWN}


def resource_of(obj: Mapping[str, Any]) -> Resource:
    """How `obj` is addressed, in the version it is written in. Raises `InvalidObjectError` for unlisted kinds."""
    group, _, version = str(obj.get("apiVersion", "")).rpartition("/")
    kind = str(obj.get("kind", ""))
    known = _BY_KIND.get((group, kind))
    if known is None:
        raise InvalidObjectError(
            f"{kind or 'an object without kind'} of {obj.get('apiVersion') or 'no apiVersion'} is not known here",
            field="kind",
            hint="Anything else goes with kubectl apply.",
        )
    return replace(known, version=version)
