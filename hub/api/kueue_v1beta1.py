"""Kueue's v1beta1, for files that still say so: the kinds that it spells differently from what is stored.

How one spelling becomes the other is in hub/api/conversion.py.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from hub.api import kueue, workload
from hub.api.column import Column
from hub.api.meta import SET, KindInfo, Model, ObjectName, list_map


class FlavorFungibility(Model):
    whenCanBorrow: Literal["Borrow", "MayStopSearch", "TryNextFlavor"] = Field("Borrow")
    whenCanPreempt: Literal["Preempt", "MayStopSearch", "TryNextFlavor"] = Field("TryNextFlavor")
    preference: Literal["BorrowingOverPreemption", "PreemptionOverBorrowing"] | None = Field(None)


class ClusterQueueSpec(kueue.ClusterQueueSpec):
    cohort: ObjectName | None = Field(None, description="The cohort whose unused quota it may borrow.")
    admissionChecks: Annotated[list[ObjectName], SET] = Field(
        default_factory=list, description="Checks before admission, for every flavor."
    )
    flavorFungibility: FlavorFungibility = Field(  # type: ignore[assignment]  # the older spelling of the same
        default=FlavorFungibility(whenCanBorrow="Borrow", whenCanPreempt="TryNextFlavor")
    )


class ClusterQueue(kueue.ClusterQueue):
    """Quota, and the rules by which jobs get it (v1beta1)."""

    info: ClassVar = KindInfo(
        kueue.ClusterQueue.info.resource,
        columns=tuple(
            Column("COHORT", ".spec.cohort") if column.name == "COHORT" else column
            for column in kueue.ClusterQueue.info.columns
        ),
    )
    spec: ClusterQueueSpec | None = None


class LocalQueueStatus(kueue.LocalQueueStatus):
    flavorUsage: Annotated[list[kueue.FlavorUsage], list_map("name")] = Field(default_factory=list, max_length=16)


class LocalQueue(kueue.LocalQueue):
    """A namespace's way into a ClusterQueue (v1beta1)."""

    status: LocalQueueStatus | None = None


class WorkloadSpec(workload.WorkloadSpec):
    priorityClassName: ObjectName | None = Field(None, description="Name of the class its priority comes from.")
    priorityClassSource: Literal["kueue.x-k8s.io/workloadpriorityclass", "scheduling.k8s.io/priorityclass", ""] = Field(
        "", description="Which kind of class that is."
    )


class Workload(workload.Workload):
    """What one queue decides about one job (v1beta1)."""

    spec: WorkloadSpec | None = None
