"""Kueue's workloads: what a job looks like to a queue, and what the queue decided about it, as v1beta2 stores them.

The hub writes one for every job, so that the queue can be read with the tools people know. Topology assignments are
kept as they come: nothing of ours places pods within a cluster.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field

from hub.api import resource
from hub.api.column import AGE, Column
from hub.api.core import PodTemplateSpec, Toleration
from hub.api.meta import (
    SET,
    Bool,
    Conditions,
    DnsLabel,
    Int32,
    KindInfo,
    KubeObject,
    Model,
    ObjectName,
    Opaque,
    Time,
    list_map,
    rules,
)
from hub.api.quantity import Quantity

# Kueue freezes what quota was counted for while it is reserved; the rules speak of the object before and after.
_RESERVED = (
    "has({0}.status) && has({0}.status.conditions) && "
    "{0}.status.conditions.exists(c, c.type == 'QuotaReserved' && c.status == 'True')"
)
_STILL_RESERVED = f"{_RESERVED.format('oldSelf')} && {_RESERVED.format('self')}"


def _frozen(field: str) -> tuple[str, str]:
    return (
        f"!({_STILL_RESERVED}) || (has(self.spec.{field}) == has(oldSelf.spec.{field}) && "
        f"(!has(self.spec.{field}) || self.spec.{field} == oldSelf.spec.{field}))",
        f"spec.{field} cannot change while quota is reserved",
    )


class SliceTopologyConstraint(Model):
    topology: str
    size: Int32 = Field(ge=1)


class PodSetTopologyRequest(Model):
    required: str | None = None
    preferred: str | None = None
    unconstrained: Bool | None = None
    podIndexLabel: str | None = None
    subGroupIndexLabel: str | None = None
    subGroupCount: Int32 | None = None
    podSetGroupName: str | None = None
    podSetSliceRequiredTopology: str | None = None
    podSetSliceSize: Int32 | None = None
    podsetSliceRequiredTopologyConstraints: list[SliceTopologyConstraint] = Field(default_factory=list, max_length=3)


class PodSet(Model):
    model_config = ConfigDict(
        json_schema_extra=rules(
            ("!has(self.minCount) || self.minCount <= self.count", "minCount must not be more than count")
        )
    )

    name: DnsLabel = Field("main", description="Unique in the workload.")
    template: PodTemplateSpec = Field(description="The pod, as quota counts it.")
    count: Int32 = Field(1, ge=0, description="How many pods.")
    minCount: Int32 | None = Field(None, ge=1, description="How few will do.")
    topologyRequest: PodSetTopologyRequest | None = None


class PriorityClassRef(Model):
    group: Literal["kueue.x-k8s.io", "scheduling.k8s.io"]
    kind: Literal["WorkloadPriorityClass", "PriorityClass"]
    name: ObjectName


class PreemptionGate(Model):
    name: str = Field(max_length=316)


class WorkloadSpec(Model):
    podSets: Annotated[list[PodSet], list_map("name")] = Field(
        default_factory=list, min_length=1, max_length=18, description="What is to run, in groups of equal pods."
    )
    queueName: ObjectName | None = Field(None, description="The LocalQueue.")
    priorityClassRef: PriorityClassRef | None = Field(None, description="Where the priority comes from.")
    priority: Int32 | None = Field(None, description="Higher goes first.")
    active: Bool = Field(True, description="False takes it out of the queue and evicts it.")
    maximumExecutionTimeSeconds: Int32 | None = Field(None, ge=1, description="After this it is deactivated.")
    preemptionGates: Annotated[list[PreemptionGate], list_map("name")] = Field(default_factory=list, max_length=8)


class TopologyAssignment(Model):
    levels: list[str] = Field(default_factory=list, max_length=16)
    slices: list[Opaque] = Field(default_factory=list)


class PodSetAssignment(Model):
    name: DnsLabel = Field("main", description="The pod set.")
    flavors: dict[str, str] = Field(default_factory=dict, description="The flavor chosen for each resource.")
    resourceUsage: dict[str, Quantity] = Field(default_factory=dict, description="What is charged, for all its pods.")
    count: Int32 | None = Field(None, ge=0, description="How many pods were admitted.")
    topologyAssignment: TopologyAssignment | None = None
    delayedTopologyRequest: Literal["Pending", "Ready"] | None = None


class Admission(Model):
    clusterQueue: ObjectName = Field(description="The ClusterQueue whose quota it has.")
    podSetAssignments: Annotated[list[PodSetAssignment], list_map("name")] = Field(default_factory=list, max_length=18)


class RequeueState(Model):
    count: Int32 | None = Field(None, ge=0)
    requeueAt: Time | None = None


class ReclaimablePod(Model):
    name: DnsLabel
    count: Int32 = Field(ge=0, description="Pods that have ended and need no quota any more.")


class PodSetUpdate(Model):
    name: DnsLabel
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    nodeSelector: dict[str, str] = Field(default_factory=dict)
    tolerations: list[Toleration] = Field(default_factory=list, max_length=8)


class AdmissionCheckState(Model):
    name: ObjectName
    state: Literal["Pending", "Ready", "Retry", "Rejected"]
    lastTransitionTime: Time
    message: str = Field(max_length=32768)
    requeueAfterSeconds: Int32 | None = None
    retryCount: Int32 | None = None
    podSetUpdates: list[PodSetUpdate] = Field(default_factory=list, max_length=18)


class PodSetRequest(Model):
    name: DnsLabel = Field("main", description="The pod set.")
    resources: dict[str, Quantity] = Field(default_factory=dict, description="What all its pods ask for.")


class EvictionCount(Model):
    reason: str = Field(max_length=316)
    underlyingCause: str = Field(max_length=316)
    count: Int32 = Field(ge=0)


class SchedulingStats(Model):
    evictions: Annotated[list[EvictionCount], list_map("reason", "underlyingCause")] = Field(default_factory=list)


class UnhealthyNode(Model):
    name: str


class PreemptionGateState(Model):
    name: str = Field(max_length=316)
    position: Literal["Open", "Closed"]
    lastTransitionTime: Time


class WorkloadStatus(Model):
    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "!(has(self.clusterName) && has(self.nominatedClusterNames) && size(self.nominatedClusterNames) > 0)",
                "clusterName and nominatedClusterNames exclude each other",
            ),
            (
                "!has(oldSelf.clusterName) || !has(self.clusterName) || self.clusterName == oldSelf.clusterName",
                "clusterName cannot change once set",
            ),
        )
    )

    admission: Admission | None = Field(None, description="What it was given.")
    requeueState: RequeueState | None = None
    conditions: Annotated[Conditions, Field(max_length=16)] = Field(
        default_factory=list, description="QuotaReserved, Admitted, Evicted, Preempted, Requeued, PodsReady, Finished."
    )
    reclaimablePods: Annotated[list[ReclaimablePod], list_map("name")] = Field(default_factory=list, max_length=18)
    admissionChecks: Annotated[list[AdmissionCheckState], list_map("name")] = Field(default_factory=list, max_length=8)
    resourceRequests: Annotated[list[PodSetRequest], list_map("name")] = Field(default_factory=list, max_length=18)
    accumulatedPastExecutionTimeSeconds: Int32 | None = None
    schedulingStats: SchedulingStats | None = None
    nominatedClusterNames: Annotated[list[str], SET] = Field(default_factory=list, max_length=20)
    clusterName: str | None = Field(None, max_length=256, description="Where it runs.")
    unhealthyNodes: Annotated[list[UnhealthyNode], list_map("name")] = Field(default_factory=list, max_length=8)
    preemptionGates: Annotated[list[PreemptionGateState], list_map("name")] = Field(default_factory=list, max_length=8)


class Workload(KubeObject):
    """What a queue decides about one job."""

    model_config = ConfigDict(
        json_schema_extra=rules(*(_frozen(f) for f in ("podSets", "queueName", "maximumExecutionTimeSeconds")))
    )
    info: ClassVar = KindInfo(
        resource.WORKLOADS,
        short_names=("wl",),
        categories=("fleet",),
        columns=(
            Column("QUEUE", ".spec.queueName"),
            Column("RESERVED IN", ".status.admission.clusterQueue"),
            Column("ADMITTED", '.status.conditions[?(@.type=="Admitted")].status'),
            Column("FINISHED", '.status.conditions[?(@.type=="Finished")].status'),
            AGE,
        ),
    )
    spec: WorkloadSpec | None = None
    status: WorkloadStatus | None = None


class WorkloadPriorityClass(KubeObject):
    """A named priority in queues; it says nothing about pods."""

    info: ClassVar = KindInfo(
        resource.WORKLOAD_PRIORITY_CLASSES,
        categories=("fleet",),
        columns=(Column("VALUE", ".value", "integer"), AGE),
        status_subresource=False,
    )
    value: Int32 = Field(description="The priority; higher goes first. Example: 1000")
    description: str | None = Field(None, max_length=2048, description="When to use it.")
