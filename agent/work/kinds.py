"""Which resource a manifest's apiVersion and kind are served as, and in which order kinds are applied.

The Kubernetes kinds are known by heart (no discovery round trip for a Job); others are looked up among the local
API's CustomResourceDefinitions, and looked up again after a while, so a CRD and its objects may come in one work.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from hub.api.errors import ApiError
from hub.api.resource import CUSTOM_RESOURCE_DEFINITIONS, Resource
from hub.client.interface import KubeApi

_BUILTIN: Final[dict[str, str]] = {
    "": "ConfigMap:configmaps Endpoints:endpoints Event:events LimitRange:limitranges Namespace:namespaces! Node:nodes!"
    " PersistentVolume:persistentvolumes! PersistentVolumeClaim:persistentvolumeclaims Pod:pods"
    " PodTemplate:podtemplates ReplicationController:replicationcontrollers ResourceQuota:resourcequotas"
    " Secret:secrets Service:services ServiceAccount:serviceaccounts",
    "apps": "ControllerRevision:controllerrevisions DaemonSet:daemonsets Deployment:deployments ReplicaSet:replicasets"
    " StatefulSet:statefulsets",
    "batch": "CronJob:cronjobs Job:jobs",
    "autoscaling": "HorizontalPodAutoscaler:horizontalpodautoscalers",
    "policy": "PodDisruptionBudget:poddisruptionbudgets",
    "networking.k8s.io": "Ingress:ingresses IngressClass:ingressclasses! NetworkPolicy:networkpolicies",
    "rbac.authorization.k8s.io": "ClusterRole:clusterroles! ClusterRoleBinding:clusterrolebindings! Role:roles"
    " RoleBinding:rolebindings",
    "storage.k8s.io": "CSIDriver:csidrivers! StorageClass:storageclasses! VolumeAttachment:volumeattachments!",
    "scheduling.k8s.io": "PriorityClass:priorityclasses!",
    "coordination.k8s.io": "Lease:leases",
    "discovery.k8s.io": "EndpointSlice:endpointslices",
    "events.k8s.io": "Event:events",
    "node.k8s.io": "RuntimeClass:runtimeclasses!",
    "apiextensions.k8s.io": "CustomResourceDefinition:customresourcedefinitions!",
    "apiregistration.k8s.io": "APIService:apiservices!",
    "admissionregistration.k8s.io": "MutatingWebhookConfiguration:mutatingwebhookconfigurations!"
    " ValidatingWebhookConfiguration:validatingwebhookconfigurations!"
    " ValidatingAdmissionPolicy:validatingadmissionpolicies!"
    " ValidatingAdmissionPolicyBinding:validatingadmissionpolicybindings!",
}
_TABLE: Final[dict[tuple[str, str], tuple[str, bool]]] = {
    (group, kind): (plural.rstrip("!"), not plural.endswith("!"))
    for group, entries in _BUILTIN.items()
    for kind, _, plural in (entry.partition(":") for entry in entries.split())
}

_RANKS: Final[dict[str, int]] = {
    kind: rank
    for rank, kinds in enumerate(
        (
            "PriorityClass Namespace CustomResourceDefinition StorageClass PersistentVolume PodSecurityPolicy",
            "ClusterRole ClusterRoleBinding Role RoleBinding",
            "NetworkPolicy ResourceQuota LimitRange PodDisruptionBudget ServiceAccount",
            "Secret ConfigMap PersistentVolumeClaim",
            "Service",
            "DaemonSet Pod ReplicationController ReplicaSet Deployment HorizontalPodAutoscaler StatefulSet Job CronJob",
            "APIService MutatingWebhookConfiguration ValidatingWebhookConfiguration ValidatingAdmissionPolicy"
            " ValidatingAdmissionPolicyBinding",
        )
    )
    for kind in kinds.split()
}
_OTHER_RANK: Final = 1000
_CRD_LOOKUP_SECONDS: Final = 5.0


def rank(kind: str) -> int:
    """Lower is applied first. By kind alone, whatever the group: as OCM orders them."""
    return _RANKS.get(kind, _OTHER_RANK)


def split_api_version(api_version: str) -> tuple[str, str]:
    group, _, version = api_version.rpartition("/")
    return group, version


class Kinds:
    """Resolves kinds against one local API. `clock` is monotonic seconds."""

    def __init__(self, api: KubeApi, clock: Callable[[], float] = time.monotonic) -> None:
        self._api = api
        self._clock = clock
        self._custom: dict[tuple[str, str], tuple[str, bool]] = {}
        self._looked_up = float("-inf")
        self._cache: dict[tuple[str, str], Resource] = {}

    async def resolve(self, api_version: str, kind: str) -> Resource | None:
        """None when the local API serves no such kind, as far as it says."""
        cached = self._cache.get((api_version, kind))
        if cached is not None:
            return cached
        group, version = split_api_version(api_version)
        found = _TABLE.get((group, kind)) or await self._custom_kind(group, kind)
        if found is None:
            return None
        resource = Resource(group, version, kind, found[0], found[1])
        self._cache[api_version, kind] = resource
        return resource

    async def resolve_plural(self, group: str, version: str, plural: str) -> Resource | None:
        """The way back from an AppliedManifestWork's record, which has no kind."""
        for (known_group, kind), (known_plural, _) in _TABLE.items():
            if (known_group, known_plural) == (group, plural):
                return await self.resolve(f"{group}/{version}" if group else version, kind)
        await self._refresh()
        for (known_group, kind), (known_plural, namespaced) in self._custom.items():
            if (known_group, known_plural) == (group, plural):
                return Resource(group, version, kind, plural, namespaced)
        return None

    async def _custom_kind(self, group: str, kind: str) -> tuple[str, bool] | None:
        if (group, kind) not in self._custom:
            await self._refresh()
        return self._custom.get((group, kind))

    async def _refresh(self) -> None:
        if self._clock() - self._looked_up < _CRD_LOOKUP_SECONDS:
            return
        try:
            listing = await self._api.list(CUSTOM_RESOURCE_DEFINITIONS)
        except ApiError:
            return
        self._looked_up = self._clock()
        self._custom = dict(filter(None, map(_custom_entry, listing.items)))


def _custom_entry(definition: dict[str, Any]) -> tuple[tuple[str, str], tuple[str, bool]] | None:
    spec = definition.get("spec", {})
    naming = spec.get("names", {})
    if not (spec.get("group") and naming.get("kind") and naming.get("plural")):
        return None
    return (spec["group"], naming["kind"]), (naming["plural"], spec.get("scope") != "Cluster")
