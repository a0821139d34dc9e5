"""Kueue's quotas: flavors, cohorts and queues, as v1beta2 stores them.

Fields, defaults and bounds are Kueue's, so that its users' files work unchanged. How v1beta1 is spelled is in
hub/api/kueue_v1beta1.py; what quota means is in hub/queueing.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field

from hub.api import resource
from hub.api.column import AGE, Column
from hub.api.core import Taint, Toleration
from hub.api.meta import (
    Conditions,
    Int32,
    Int64,
    KindInfo,
    KubeObject,
    LabelSelector,
    Model,
    ObjectName,
    Time,
    list_map,
    rules,
)
from hub.api.quantity import Quantity

ResourceName = Annotated[str, Field(min_length=1, max_length=316)]
StopPolicy = Literal["None", "Hold", "HoldAndDrain"]


class ResourceFlavorSpec(Model):
    nodeLabels: dict[str, str] = Field(
        default_factory=dict,
        json_schema_extra={"maxProperties": 8},
        description="Labels of the nodes this flavor stands for; admitted pods get them as node selector.",
    )
    nodeTaints: list[Taint] = Field(default_factory=list, max_length=8, description="Taints that jobs must tolerate.")
    tolerations: list[Toleration] = Field(default_factory=list, max_length=8, description="Added to admitted pods.")
    topologyName: ObjectName | None = Field(None, description="A Topology of these nodes.")


class ResourceFlavor(KubeObject):
    """A kind of hardware that quota is counted in."""

    info: ClassVar = KindInfo(
        resource.RESOURCE_FLAVORS,
        short_names=("flavor", "flavors", "rf"),
        categories=("fleet",),
        columns=(AGE,),
        status_subresource=False,
    )
    spec: ResourceFlavorSpec = Field(default_factory=ResourceFlavorSpec)


class ResourceQuota(Model):
    name: ResourceName = Field(description="The resource. Example: nvidia.com/gpu")
    nominalQuota: Quantity = Field(description='What the queue owns. Example: "8"')
    borrowingLimit: Quantity | None = Field(
        None, description="How much more it may take from its cohort; absent: no limit."
    )
    lendingLimit: Quantity | None = Field(None, description="How much its cohort may take of it; absent: all.")


class FlavorQuotas(Model):
    name: ObjectName = Field(description="The ResourceFlavor.")
    resources: Annotated[list[ResourceQuota], list_map("name")] = Field(
        min_length=1, max_length=64, description="One quota for each covered resource, in their order."
    )


class ResourceGroup(Model):
    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "self.flavors.all(f, size(f.resources) == size(self.coveredResources))",
                "every flavor must have the same number of resources as coveredResources",
            )
        )
    )

    coveredResources: list[ResourceName] = Field(
        min_length=1, max_length=64, description="The resources of this group. Example: [cpu, memory]"
    )
    flavors: Annotated[list[FlavorQuotas], list_map("name")] = Field(
        min_length=1, max_length=64, description="Flavors in the order in which they are tried."
    )


class FairSharing(Model):
    weight: Quantity = Field(
        default=Quantity(1), description='Share of what is lent, relative to its siblings. Example: "1"'
    )


class FairSharingStatus(Model):
    weightedShare: Int64 = Field(0, description="Dominant share of borrowed quota over the weight, in thousandths.")


class FlavorFungibility(Model):
    whenCanBorrow: Literal["MayStopSearch", "TryNextFlavor"] = Field(
        "MayStopSearch", description="Whether a flavor that fits by borrowing ends the search."
    )
    whenCanPreempt: Literal["MayStopSearch", "TryNextFlavor"] = Field(
        "TryNextFlavor", description="Whether a flavor that fits by preemption ends the search."
    )
    preference: Literal["BorrowingOverPreemption", "PreemptionOverBorrowing"] | None = Field(
        None, description="What is tried first when the search goes on; BorrowingOverPreemption if absent."
    )


class BorrowWithinCohort(Model):
    policy: Literal["Never", "LowerPriority"] = Field("Never", description="Whether borrowing may preempt.")
    maxPriorityThreshold: Int32 | None = Field(None, description="Only workloads up to this priority are preempted.")


class Preemption(Model):
    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "!(self.reclaimWithinCohort == 'Never' && has(self.borrowWithinCohort) && "
                "self.borrowWithinCohort.policy != 'Never')",
                "reclaimWithinCohort=Never and borrowWithinCohort.policy other than Never cannot be combined",
            )
        )
    )

    reclaimWithinCohort: Literal["Never", "LowerPriority", "Any"] = Field(
        "Never", description="Whom of the cohort it may preempt to have its nominal quota back."
    )
    borrowWithinCohort: BorrowWithinCohort | None = Field(None, description="Preemption while borrowing.")
    withinClusterQueue: Literal["Never", "LowerPriority", "LowerOrNewerEqualPriority"] = Field(
        "Never", description="Whom of its own queue it may preempt."
    )


class AdmissionCheckRule(Model):
    name: ObjectName = Field(description="The AdmissionCheck.")
    onFlavors: list[ObjectName] = Field(default_factory=list, description="Only for these flavors; empty: all.")


class AdmissionChecksStrategy(Model):
    admissionChecks: Annotated[list[AdmissionCheckRule], list_map("name")] = Field(
        default_factory=list, min_length=1, max_length=64
    )


class AdmissionScope(Model):
    admissionMode: Literal["UsageBasedAdmissionFairSharing", "NoAdmissionFairSharing"] = Field(
        description="Whether past usage of the LocalQueues orders admission."
    )


class MigrationConstraints(Model):
    lastAcceptableFlavorName: ObjectName | None = None


class Migration(Model):
    mode: Literal["TryPreferredFlavors", "RetainFirstAdmission"]
    constraints: MigrationConstraints | None = None


class ConcurrentAdmissionPolicy(Model):
    migration: Migration


class ClusterQueueSpec(Model):
    resourceGroups: list[ResourceGroup] = Field(
        default_factory=list, max_length=16, description="Quota by group of resources."
    )
    cohortName: ObjectName | None = Field(None, description="The cohort whose unused quota it may borrow.")
    queueingStrategy: Literal["StrictFIFO", "BestEffortFIFO"] = Field(
        "BestEffortFIFO", description="Whether a job that does not fit holds up younger ones."
    )
    namespaceSelector: LabelSelector | None = Field(
        None, description="Namespaces whose jobs it takes; absent: none; {}: all."
    )
    flavorFungibility: FlavorFungibility = Field(
        default=FlavorFungibility(whenCanBorrow="MayStopSearch", whenCanPreempt="TryNextFlavor"),
        description="When the next flavor is tried.",
    )
    preemption: Preemption = Field(
        default=Preemption(reclaimWithinCohort="Never", withinClusterQueue="Never"),
        description="Whom its jobs may preempt.",
    )
    admissionChecksStrategy: AdmissionChecksStrategy | None = Field(None, description="Checks before admission.")
    stopPolicy: StopPolicy = Field("None", description="Hold admits nothing; HoldAndDrain also evicts what runs.")
    fairSharing: FairSharing | None = Field(None, description="Its weight under fair sharing.")
    admissionScope: AdmissionScope | None = None
    concurrentAdmissionPolicy: ConcurrentAdmissionPolicy | None = None


class ResourceUsage(Model):
    name: ResourceName
    total: Quantity | None = None
    borrowed: Quantity | None = None


class FlavorUsage(Model):
    name: ObjectName
    resources: Annotated[list[ResourceUsage], list_map("name")] = Field(default_factory=list, max_length=64)


class ClusterQueueStatus(Model):
    conditions: Annotated[Conditions, Field(max_length=16)] = Field(default_factory=list)
    flavorsReservation: Annotated[list[FlavorUsage], list_map("name")] = Field(default_factory=list, max_length=256)
    flavorsUsage: Annotated[list[FlavorUsage], list_map("name")] = Field(default_factory=list, max_length=256)
    pendingWorkloads: Int32 | None = None
    reservingWorkloads: Int32 | None = None
    admittedWorkloads: Int32 | None = None
    fairSharing: FairSharingStatus | None = None


class ClusterQueue(KubeObject):
    """Quota, and the rules by which jobs get it."""

    info: ClassVar = KindInfo(
        resource.CLUSTER_QUEUES,
        short_names=("cq",),
        categories=("fleet",),
        columns=(
            Column("COHORT", ".spec.cohortName"),
            Column("STRATEGY", ".spec.queueingStrategy", wide=True),
            Column("PENDING WORKLOADS", ".status.pendingWorkloads", "integer"),
            Column("ADMITTED WORKLOADS", ".status.admittedWorkloads", "integer", wide=True),
            AGE,
        ),
    )
    spec: ClusterQueueSpec | None = None
    status: ClusterQueueStatus | None = None


class CohortSpec(Model):
    parentName: ObjectName | None = Field(None, description="The cohort above; absent: it is a root.")
    resourceGroups: list[ResourceGroup] = Field(
        default_factory=list, max_length=16, description="Quota that all below share, besides their own."
    )
    fairSharing: FairSharing | None = Field(None, description="Its weight under fair sharing.")


class CohortStatus(Model):
    fairSharing: FairSharingStatus | None = None
    conditions: Annotated[Conditions, Field(max_length=16)] = Field(default_factory=list)


class Cohort(KubeObject):
    """A group of queues that lend one another what they do not use."""

    info: ClassVar = KindInfo(
        resource.COHORTS, categories=("fleet",), columns=(Column("PARENT", ".spec.parentName"), AGE)
    )
    spec: CohortSpec | None = None
    status: CohortStatus | None = None


class LocalQueueSpec(Model):
    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "!has(oldSelf.clusterQueue) || (has(self.clusterQueue) && self.clusterQueue == oldSelf.clusterQueue)",
                "clusterQueue cannot change; make another LocalQueue",
            )
        )
    )

    clusterQueue: ObjectName | None = Field(None, description="The ClusterQueue it leads to.")
    stopPolicy: StopPolicy = Field("None", description="Hold admits nothing; HoldAndDrain also evicts what runs.")
    fairSharing: FairSharing | None = Field(None, description="Its weight among the LocalQueues of its ClusterQueue.")


class AdmissionFairSharingStatus(Model):
    consumedResources: dict[str, Quantity] = Field(default_factory=dict)
    lastUpdate: Time | None = None


class LocalQueueFairSharingStatus(Model):
    weightedShare: Int64 = 0
    admissionFairSharingStatus: AdmissionFairSharingStatus | None = None


class LocalQueueStatus(Model):
    conditions: Annotated[Conditions, Field(max_length=16)] = Field(default_factory=list)
    pendingWorkloads: Int32 | None = None
    reservingWorkloads: Int32 | None = None
    admittedWorkloads: Int32 | None = None
    flavorsReservation: Annotated[list[FlavorUsage], list_map("name")] = Field(default_factory=list, max_length=256)
    flavorsUsage: Annotated[list[FlavorUsage], list_map("name")] = Field(default_factory=list, max_length=256)
    fairSharing: LocalQueueFairSharingStatus | None = None


class LocalQueue(KubeObject):
    """A namespace's way into a ClusterQueue."""

    info: ClassVar = KindInfo(
        resource.LOCAL_QUEUES,
        short_names=("queue", "queues", "lq"),
        categories=("fleet",),
        columns=(
            Column("CLUSTERQUEUE", ".spec.clusterQueue"),
            Column("PENDING WORKLOADS", ".status.pendingWorkloads", "integer"),
            Column("ADMITTED WORKLOADS", ".status.admittedWorkloads", "integer"),
            AGE,
        ),
    )
    spec: LocalQueueSpec | None = None
    status: LocalQueueStatus | None = None
