"""FleetJob: the one kind that people write every day. `kubectl explain fleetjob.spec` prints what is said here.

What a job's states mean and how they follow from one another is in hub/jobs; nothing here decides.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, ConfigDict, Field, WithJsonSchema

from hub.api import resource
from hub.api.cluster import PlacementSpec
from hub.api.column import AGE, Column
from hub.api.core import PodTemplateSpec
from hub.api.errors import InvalidObjectError
from hub.api.meta import (
    ATOMIC,
    Bool,
    Conditions,
    Duration,
    Int32,
    Int64,
    KindInfo,
    KubeObject,
    Model,
    ObjectName,
    Time,
    list_map,
    rules,
)
from hub.api.patterns import LABEL_KEY_PATTERN
from hub.api.quantity import Quantity

MAX_TASKS = 100_000
# Above 0 and at most 1, to the thousandth; written so that RE2 (a real API server) and Python agree.
_SHARE_PATTERN = r"^(1|1000m|[1-9][0-9]{0,2}m|0?\.([1-9][0-9]{0,2}|0[1-9][0-9]?|00[1-9]))$"
_INDEXES_PATTERN = r"^([0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*)?$"

Indexes = Annotated[str, Field(pattern=_INDEXES_PATTERN)]


def _part_of_one(share: Quantity) -> Quantity:
    if not 0 < share.milli() <= 1000:
        raise InvalidObjectError(f"{share} is not a part of one GPU: write more than 0 and at most 1, such as 500m")
    return share


Share = Annotated[Quantity, AfterValidator(_part_of_one), WithJsonSchema({"type": "string", "pattern": _SHARE_PATTERN})]
Phase = Literal["Pending", "Queued", "Admitted", "Running", "Succeeded", "Failed", "Cancelled"]


class GpuRequest(Model):
    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "!has(self.share) || !has(self.count) || self.count <= 1",
                "a share is a part of one GPU: leave out count, or set it to 1",
            )
        )
    )

    count: Int32 | None = Field(
        None, ge=0, description="Whole GPUs a task. One when `gpu` is given without count and share. Example: 1"
    )
    share: Share | None = Field(None, description="A part of one GPU a task, instead of whole ones. Example: 500m")
    models: Annotated[list[str], ATOMIC] = Field(
        default_factory=list,
        max_length=32,
        description="Models that will do, as the nodes' label nvidia.com/gpu.product or the site's declaration "
        "names them; empty: any. Example: [A100, H100]",
    )
    minMemory: Quantity | None = Field(None, description="Memory that each GPU must have at least. Example: 40Gi")


class ExitCodes(Model):
    model_config = ConfigDict(json_schema_extra={"minProperties": 1, "maxProperties": 1})

    in_: Annotated[list[Int32], ATOMIC] | None = Field(
        None, alias="in", min_length=1, max_length=255, description="Retry after these only. Example: [1, 137]"
    )
    notIn: Annotated[list[Int32], ATOMIC] | None = Field(
        None, min_length=1, max_length=255, description="Retry after every other than these. Example: [2]"
    )


class RetryPolicy(Model):
    limitPerTask: Int32 = Field(
        1, ge=1, le=100, description="Attempts of each task in all; 1 means that no task is retried. Example: 3"
    )
    elsewhere: Bool = Field(
        True, description="Retry on another cluster than the one it failed on, where there is one. Example: true"
    )
    onExitCodes: ExitCodes | None = Field(
        None, description="Which exit codes are worth a retry; absent: every failure is. Example: {notIn: [2]}"
    )


class PlacementReference(Model):
    name: ObjectName = Field(description="A Placement in the job's namespace. Example: gpu-sites")


class TopologyRequest(Model):
    model_config = ConfigDict(json_schema_extra={"minProperties": 1, "maxProperties": 1})

    required: str | None = Field(
        None,
        max_length=316,
        pattern=LABEL_KEY_PATTERN,
        description="A node label: all tasks run on nodes with the same value of it, or the job waits. "
        "Example: topology.kubernetes.io/rack",
    )
    preferred: str | None = Field(
        None,
        max_length=316,
        pattern=LABEL_KEY_PATTERN,
        description="The same where a cluster has room like that now, else anywhere on one cluster. "
        "Example: nvidia.com/gpu.clique",
    )


class Checkpointing(Model):
    interval: Duration | None = Field(
        None,
        description="How often a task saves what it can go on from; absent: a task that is stopped starts over. "
        "Example: 10m",
    )
    restartCost: Duration | None = Field(
        None, description="What stopping and starting again costs a task besides. Example: 2m"
    )


class Elasticity(Model):
    model_config = ConfigDict(
        json_schema_extra=rules(("!has(self.max) || self.min <= self.max", "min must not be more than max", ".min"))
    )

    min: Int32 = Field(
        1,
        ge=1,
        description="It starts with so many tasks at once, together on one cluster, and is never made smaller. "
        "Example: 2",
    )
    max: Int32 | None = Field(
        None, ge=1, description="How many of its tasks may run at once at most; absent: all of them. Example: 16"
    )


class FleetJobSpec(Model):
    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "!(has(self.placement) && has(self.placementRef))",
                "write placement or placementRef, not both",
                ".placementRef",
            ),
            (
                "!has(self.template.spec.restartPolicy) || self.template.spec.restartPolicy == 'Never'",
                "a task is started again by spec.retry only; leave it out or write Never",
                ".template.spec.restartPolicy",
            ),
            (
                "!(has(self.elastic) && has(self.parallelism))",
                "elastic.max says how many tasks of an elastic job run at once: leave parallelism out",
                ".parallelism",
            ),
            (
                "!has(self.elastic) || self.elastic.min <= (has(self.tasks) ? self.tasks : 1)",
                "more tasks than there are cannot be the least",
                ".elastic.min",
            ),
            (
                "has(self.elastic) == has(oldSelf.elastic)",
                "a job is made elastic when it is submitted; submit another job",
                ".elastic",
            ),
            ("self.tasks == oldSelf.tasks", "tasks cannot change once the job exists; submit another job", ".tasks"),
            (
                "self.template == oldSelf.template",
                "template cannot change once the job exists; submit another job",
                ".template",
            ),
            (
                "has(self.gpu) == has(oldSelf.gpu) && (!has(self.gpu) || self.gpu == oldSelf.gpu)",
                "gpu cannot change once the job exists; submit another job",
                ".gpu",
            ),
            (
                "!has(self.gang) || !self.gang || !has(self.parallelism) || self.parallelism >= self.tasks",
                "all tasks of a gang run at once: leave parallelism out, or write as many as there are tasks",
                ".parallelism",
            ),
            (
                "!has(self.topology) || (has(self.gang) && self.gang)",
                "tasks are placed together only in a gang: write gang: true",
                ".topology",
            ),
            (
                "(has(self.gang) && self.gang) == (has(oldSelf.gang) && oldSelf.gang)",
                "gang cannot change once the job exists; submit another job",
                ".gang",
            ),
            (
                "has(self.topology) == has(oldSelf.topology) && "
                "(!has(self.topology) || self.topology == oldSelf.topology)",
                "topology cannot change once the job exists; submit another job",
                ".topology",
            ),
        )
    )

    queueName: ObjectName = Field(
        "default", description="The LocalQueue in the job's namespace that it waits in. Example: research"
    )
    priorityClassName: ObjectName | None = Field(
        None, description="A WorkloadPriorityClass; its value orders the queue, higher first. Example: batch"
    )
    suspend: Bool = Field(
        False,
        description="While true nothing of the job runs; what runs is stopped and counts as no attempt. Example: false",
    )
    cancel: Bool = Field(
        False, description="True ends the job: its processes are stopped, its phase is Cancelled. Example: true"
    )
    tasks: Int32 = Field(
        1,
        ge=1,
        le=MAX_TASKS,
        description="How many tasks; each finds its number, from 0, in QUARTERDECK_TASK_INDEX. Example: 500",
    )
    parallelism: Int32 | None = Field(
        None, ge=1, description="How many tasks may run at once over all clusters; absent: all of them. Example: 100"
    )
    elastic: Elasticity | None = Field(
        None,
        description="While it runs it takes more slots when quota and room are there, and gives back what it has "
        "beyond min when somebody is entitled to that. Example: {min: 2, max: 16}",
    )
    gang: Bool = Field(
        False,
        description="True: all tasks start at once on one cluster, or none does, as distributed training needs it. "
        "Example: true",
    )
    topology: TopologyRequest | None = Field(
        None,
        description="Which nodes of its cluster a gang needs or prefers; absent: it prefers one NVLink domain, then "
        "one rack, where nodes carry those labels. Example: {required: topology.kubernetes.io/rack}",
    )
    template: PodTemplateSpec = Field(
        description="What one task runs, as a pod template. "
        "Example: {spec: {containers: [{name: main, image: busybox, command: [date]}]}}"
    )
    gpu: GpuRequest | None = Field(
        None, description="The GPUs that each task needs. Example: {count: 1, models: [A100, H100]}"
    )
    expectedDuration: Duration | None = Field(
        None, description="How long a task usually takes; estimates and backfill use it. Example: 20m"
    )
    checkpoint: Checkpointing | None = Field(
        None,
        description="What being preempted costs the job: among those that may be asked to go, the cheapest goes. "
        "Example: {interval: 10m, restartCost: 2m}",
    )
    maximumExecutionTime: Duration | None = Field(
        None,
        description="How long it may hold quota in all, over evictions; then its Workload is deactivated. Example: 8h",
    )
    activeDeadline: Duration | None = Field(
        None, description="How long one slice of the job may run on a cluster before it is stopped. Example: 2h"
    )
    retry: RetryPolicy = Field(
        default=RetryPolicy(limitPerTask=1, elsewhere=True),
        description="What happens to tasks that fail. Example: {limitPerTask: 3, elsewhere: true}",
    )
    placement: PlacementSpec | None = Field(
        None,
        description="Which clusters may run it, as the spec of a Placement. "
        "Example: {predicates: [{requiredClusterSelector: {labelSelector: {matchLabels: {region: eu}}}}]}",
    )
    placementRef: PlacementReference | None = Field(
        None, description="A Placement instead of an inline one. Example: {name: gpu-sites}"
    )
    ttlSecondsAfterFinished: Int32 | None = Field(
        None, ge=0, description="Seconds after its end when the job is deleted; absent: it is kept. Example: 3600"
    )


class TaskCounts(Model):
    total: Int32 = Field(0, ge=0, description="All tasks.")
    pending: Int32 = Field(0, ge=0, description="Not started, or waiting to be started again.")
    active: Int32 = Field(0, ge=0, description="Running now.")
    succeeded: Int32 = Field(0, ge=0, description="Ended well.")
    failed: Int32 = Field(0, ge=0, description="Failed for good: no attempt is left.")
    succeededIndexes: Indexes | None = Field(None, description="Which succeeded. Example: 1,3-57")
    failedIndexes: Indexes | None = Field(None, description="Which failed for good. Example: 0")
    summary: str | None = Field(None, description="succeeded/total, for tables. Example: 57/60")


class Usage(Model):
    cpuSeconds: Annotated[float, Field(ge=0)] | None = Field(None, description="CPU time of all ended tasks.")
    gpuSeconds: Annotated[float, Field(ge=0)] | None = Field(None, description="GPUs held times how long.")
    wallSeconds: Annotated[float, Field(ge=0)] | None = Field(None, description="Running time, summed over tasks.")


class AttemptStatus(Model):
    epoch: Int32 = Field(ge=0, description="Number of the slice within the job; newer epochs override older ones.")
    attempt: Int32 | None = Field(None, ge=1, description="Which attempt this is for its tasks, from 1.")
    cluster: str = Field(description="The cluster it was sent to.")
    tasks: Indexes = Field(description="The tasks in it. Example: 0-29")
    state: Literal["Pending", "Running", "Succeeded", "Failed", "Lost", "Cancelled", "Evicted"] = Field(
        description="Where it stands. Evicted: it had to go (reason and message say why), its open tasks wait again."
    )
    succeeded: Indexes | None = Field(None, description="Tasks of it that succeeded.")
    failed: Indexes | None = Field(None, description="Tasks of it that failed.")
    exitCodes: str | None = Field(
        None, description="Failed tasks by exit code; of very many only the first. Example: 1=3,17;137=4"
    )
    stale: Indexes | None = Field(
        None, description="Tasks whose result came after a newer epoch had taken them over; recorded, not counted."
    )
    startedAt: Time | None = Field(None, description="When its first task started.")
    finishedAt: Time | None = Field(None, description="When its last task ended, or when it was stopped.")
    admittedAt: Time | None = Field(None, description="When it was sent; of slices that were taken back.")
    usage: Usage | None = Field(None, description="What its ended tasks have used.")
    reason: str | None = Field(None, description="Why it did not go its way. Example: ClusterLost")
    message: str | None = Field(None, description="The last reason, in words.")


class ElasticStatus(Model):
    current: Int32 = Field(0, ge=0, description="How many of its tasks may run at once now.")
    min: Int32 = Field(ge=1, description="What it starts with and is never made smaller than.")
    max: Int32 = Field(ge=1, description="How many may run at once at most.")
    giving: Int32 | None = Field(
        None, ge=0, description="Slots that were given back and that tasks still run on, to be stopped."
    )
    message: str | None = Field(None, description="When and for whom its size was changed last.")


class EvictionCount(Model):
    reason: str = Field(description="Why slices had to go, as Kueue spells it. Example: Preempted")
    count: Int32 = Field(ge=0, description="How often.")


class FleetJobStatus(Model):
    phase: Phase | None = Field(None, description="Where the job stands.")
    observedGeneration: Int64 | None = Field(None, description="The metadata.generation this status is about.")
    conditions: Conditions = Field(
        default_factory=list, description="QuotaReserved, Admitted, Running, Succeeded, Failed; each with its reason."
    )
    reason: str | None = Field(None, description="The one current reason. Example: WaitingForQuota")
    message: str | None = Field(None, description="The same in words.")
    tasks: TaskCounts | None = Field(None, description="Tasks by state.")
    attempts: Annotated[list[AttemptStatus], list_map("epoch")] = Field(
        default_factory=list,
        description="The slices that were sent to clusters, by epoch; of very many the oldest are left out once over.",
    )
    clusters: list[str] = Field(
        default_factory=list, description="Clusters that run it; once it has ended, where its tasks ended."
    )
    retriesFrom: Int32 | None = Field(
        None, ge=0, description="The epoch from which attempts are counted since the failed tasks were asked for again."
    )
    retryFailed: str | None = Field(None, description="The annotation retry-failed that was honoured last.")
    preemptions: Int32 | None = Field(
        None, ge=0, description="How often a slice made way for another job; its attempts say for which."
    )
    evictions: Annotated[list[EvictionCount], list_map("reason")] = Field(
        default_factory=list, description="Slices that had to go, by reason."
    )
    elastic: ElasticStatus | None = Field(None, description="Of an elastic job, how large it is.")
    submittedAt: Time | None = Field(None, description="When the hub first saw it.")
    startedAt: Time | None = Field(None, description="When its first task started.")
    finishedAt: Time | None = Field(None, description="When it ended.")
    usage: Usage | None = Field(None, description="What it has used, over all attempts.")


class FleetJob(KubeObject):
    """A job, or an array of tasks, that the hub queues, places on clusters of the fleet and sees through to its end."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            ("size(self.metadata.name) <= 63", "metadata.name must be no longer than 63 characters: labels carry it")
        )
    )

    info: ClassVar = KindInfo(
        resource.FLEET_JOBS,
        short_names=("fj",),
        categories=("fleet", "all"),
        columns=(
            Column("QUEUE", ".spec.queueName"),
            Column("PHASE", ".status.phase"),
            Column("TASKS", ".status.tasks.summary", description="succeeded/total"),
            Column("CLUSTERS", ".status.clusters"),
            Column("REASON", ".status.reason", wide=True),
            Column("GPU", ".spec.gpu.count", "integer", wide=True),
            Column("PREEMPTED", ".status.preemptions", "integer", wide=True),
            AGE,
        ),
    )
    spec: FleetJobSpec
    status: FleetJobStatus | None = None
