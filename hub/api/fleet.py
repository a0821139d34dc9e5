"""Our own kinds besides FleetJob: what a cluster reports of its capacity, how logs travel, where scores come from."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from hub.api import resource
from hub.api.column import AGE, Column
from hub.api.core import Taint
from hub.api.fleetjob import Indexes
from hub.api.meta import Bool, Duration, Int32, Int64, KindInfo, KubeObject, Model, Time, list_map
from hub.api.quantity import Quantity


class GpuFacts(Model):
    model: str = Field(description="The GPUs' model, as jobs ask for it. Example: A100")
    memory: Quantity | None = Field(None, description="Memory of one GPU. Example: 80Gi")
    count: Int32 = Field(ge=0, description="GPUs of one node. Example: 8")


class UsedNodes(Model):
    nodes: Int32 = Field(ge=1, description="How many nodes of the group are used like this.")
    resources: dict[str, Quantity] = Field(description='What is used on each of them. Example: {cpu: "4"}')


class NodeGroup(Model):
    name: str = Field(min_length=1, description="The group's name. Example: a100-large")
    count: Int32 = Field(ge=0, description="Nodes in the group, all alike.")
    labels: dict[str, str] = Field(default_factory=dict, description="Labels that all of them carry.")
    taints: list[Taint] = Field(default_factory=list, description="Taints that all of them carry.")
    gpu: GpuFacts | None = Field(None, description="Their GPUs, where they have any.")
    allocatable: dict[str, Quantity] = Field(description='What one node offers. Example: {cpu: "64", memory: 512Gi}')
    used: list[UsedNodes] = Field(
        default_factory=list, description="What runs there that did not come from this hub; absent nodes are empty."
    )


class Prices(Model):
    gpuHour: dict[str, Quantity] = Field(default_factory=dict, description='By model. Example: {A100: "2.5"}')
    cpuHour: Quantity | None = Field(None, description='One CPU for an hour. Example: "0.04"')
    memoryGiBHour: Quantity | None = Field(None, description='One GiB for an hour. Example: "0.005"')


class ClusterCapacityStatus(Model):
    observedTime: Time | None = Field(None, description="When the agent looked.")
    simulated: Bool = Field(False, description="True where the hardware is only declared.")
    runtime: str | None = Field(None, description="What runs the tasks: kubernetes, process or simulated.")
    images: list[str] = Field(
        default_factory=list, description="Images the site can run, * for any part; empty: it pulls any."
    )
    prices: Prices | None = Field(None, description="What an hour costs there, in the fleet's currency.")
    nodeGroups: Annotated[list[NodeGroup], list_map("name")] = Field(
        default_factory=list, description="The nodes, grouped by what makes them alike."
    )


class ClusterCapacity(KubeObject):
    """What one cluster can run, node group by node group; written by its agent, named as the cluster."""

    info: ClassVar = KindInfo(
        resource.CLUSTER_CAPACITIES,
        short_names=("capacity",),
        categories=("fleet",),
        columns=(
            Column("RUNTIME", ".status.runtime"),
            Column("SIMULATED", ".status.simulated", "boolean"),
            Column("OBSERVED", ".status.observedTime", "date"),
            AGE,
        ),
        status_subresource=False,
    )
    status: ClusterCapacityStatus | None = None


class TaskLogRequestSpec(Model):
    work: str | None = Field(None, description="The ManifestWork whose tasks are meant; absent: all of the job's.")
    jobUID: str | None = Field(None, description="The job's uid.")
    tasks: Indexes | None = Field(None, description="The tasks; absent: all of them. Example: 0,3-5")
    tailLines: Int32 | None = Field(None, ge=0, description="Only so many last lines of each task.")
    follow: Bool = Field(False, description="Go on until the tasks have ended.")
    sinceOffset: dict[str, Int64] = Field(
        default_factory=dict, description='By task, the byte to start from. Example: {"3": 4096}'
    )


class TaskLogRequestStatus(Model):
    state: Literal["Serving", "Done", "Failed"] | None = None
    message: str | None = None


class TaskLogRequest(KubeObject):
    """Asks the agent of a cluster for logs of tasks; lives in the cluster's namespace."""

    info: ClassVar = KindInfo(
        resource.TASK_LOG_REQUESTS,
        columns=(Column("STATE", ".status.state"), Column("TASKS", ".spec.tasks"), AGE),
    )
    spec: TaskLogRequestSpec
    status: TaskLogRequestStatus | None = None


class TaskLogEntry(Model):
    task: Int32 = Field(ge=0, description="The task's index in its job.")
    attempt: Int32 | None = Field(None, ge=0, description="The attempt, from 1.")
    offset: Int64 | None = Field(None, ge=0, description="Where in the task's log, in bytes, the text starts.")
    text: str = Field("", description="What the task wrote.")
    exitCode: Int32 | None = Field(None, description="Its exit code, once it has ended.")
    reason: str | None = Field(None, description="Why it ended, where an exit code does not say. Example: OOMKilled")
    final: Bool = Field(False, description="No more comes for this task.")


class TaskLog(KubeObject):
    """A piece of logs: an answer to a TaskLogRequest, or the last lines of tasks that failed."""

    info: ClassVar = KindInfo(resource.TASK_LOGS, status_subresource=False)
    entries: list[TaskLogEntry] = Field(default_factory=list, description="In order; at most 256 KiB in all.")
    final: Bool = Field(False, description="The last answer to its request.")


class ScoreSourceSpec(Model):
    promQL: str = Field(
        min_length=1,
        max_length=4096,
        description="One instant query for the whole fleet, with one series a cluster. "
        "Example: avg by (cluster) (DCGM_FI_DEV_GPU_UTIL)",
    )
    clusterLabel: str = Field(
        "cluster",
        pattern=r"^[a-zA-Z_][a-zA-Z0-9_]*$",
        description="The label of the result that names the cluster. Example: cluster",
    )
    direction: Literal["higher", "lower"] = Field("higher", description="Which values are better. Example: lower")
    weight: Int32 = Field(1, ge=-10, le=10, description="Its weight among the scores; 0 asks, and counts nothing. Example: 2")
    validFor: Duration = Field("5m", description="How long an answer counts; older is unknown, not zero. Example: 5m")
    timeout: Duration = Field("5s", description="How long one query may take. Example: 5s")


class ScoreSourceStatus(Model):
    lastUpdateTime: Time | None = Field(None, description="When it last answered.")
    clusters: Int32 | None = Field(None, ge=0, description="For how many clusters it had a value.")
    reason: str | None = Field(None, description="Why it has no values, where it has none.")
    message: str | None = Field(None, description="The same in words.")


class ScoreSource(KubeObject):
    """A PromQL query whose values become a score of every cluster."""

    info: ClassVar = KindInfo(
        resource.SCORE_SOURCES,
        categories=("fleet",),
        columns=(
            Column("DIRECTION", ".spec.direction"),
            Column("WEIGHT", ".spec.weight", "integer"),
            Column("CLUSTERS", ".status.clusters", "integer"),
            Column("UPDATED", ".status.lastUpdateTime", "date"),
            Column("QUERY", ".spec.promQL", wide=True),
            AGE,
        ),
    )
    spec: ScoreSourceSpec
    status: ScoreSourceStatus | None = None
