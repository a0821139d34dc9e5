"""Kueue's admission checks and MultiKueue's objects, as v1beta2 stores them: how a ClusterQueue names its clusters.

Here nothing is dispatched and no worker is asked by a kubeconfig: the hub reads these objects as "these clusters"
(hub/queueing/worker_clusters.py).
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from hub.api import resource
from hub.api.column import AGE, Column
from hub.api.meta import Conditions, KindInfo, KubeObject, Model, ObjectName


class CheckParameters(Model):
    apiGroup: str = Field(max_length=253, description="Group of the object with the check's settings.")
    kind: str = Field(max_length=63, description="Its kind. Example: MultiKueueConfig")
    name: ObjectName = Field(description="Its name.")


class AdmissionCheckSpec(Model):
    controllerName: str = Field(
        min_length=1, max_length=253, description="Who answers the check. Example: kueue.x-k8s.io/multikueue"
    )
    parameters: CheckParameters | None = Field(None, description="Where its settings are.")


class AdmissionCheckStatus(Model):
    conditions: Conditions = Field(default_factory=list)


class AdmissionCheck(KubeObject):
    """What must be answered before a job is admitted. Of MultiKueue: on which clusters jobs of a queue may run."""

    info: ClassVar = KindInfo(
        resource.ADMISSION_CHECKS,
        categories=("fleet",),
        columns=(Column("CONTROLLER", ".spec.controllerName"), AGE),
    )
    spec: AdmissionCheckSpec | None = None
    status: AdmissionCheckStatus | None = None


class MultiKueueConfigSpec(Model):
    clusters: list[ObjectName] = Field(min_length=1, max_length=20, description="Names of MultiKueueClusters.")
    quotaManagement: Literal["Manual", "Automated"] | None = Field(
        None, description="Kueue's; here quota derives itself by an annotation of the ClusterQueue."
    )


class MultiKueueConfig(KubeObject):
    """A list of clusters for an AdmissionCheck of MultiKueue."""

    info: ClassVar = KindInfo(
        resource.MULTI_KUEUE_CONFIGS, categories=("fleet",), columns=(AGE,), status_subresource=False
    )
    spec: MultiKueueConfigSpec


class KubeConfigSource(Model):
    location: str = Field(description="Kueue's: where its kubeconfig is. Not read here: agents pull.")
    locationType: Literal["Secret", "Path"] = "Secret"


class ClusterProfileReference(Model):
    name: ObjectName = Field(description="A ClusterProfile; OCM names it as its ManagedCluster.")


class ClusterSource(Model):
    kubeConfig: KubeConfigSource | None = None
    clusterProfileRef: ClusterProfileReference | None = None


class MultiKueueClusterSpec(Model):
    # v1beta1 has kubeConfig at the top.
    clusterSource: ClusterSource | None = Field(None, description="How Kueue reaches the cluster.")
    kubeConfig: KubeConfigSource | None = Field(None, description="The same in v1beta1.")


class MultiKueueClusterStatus(Model):
    conditions: Conditions = Field(default_factory=list)


class MultiKueueCluster(KubeObject):
    """One worker cluster: the ManagedCluster of its clusterProfileRef, or of its own name."""

    info: ClassVar = KindInfo(resource.MULTI_KUEUE_CLUSTERS, categories=("fleet",), columns=(AGE,))
    spec: Annotated[MultiKueueClusterSpec, Field(default_factory=MultiKueueClusterSpec)]
    status: MultiKueueClusterStatus | None = None
