"""Our own kinds besides FleetJob: what a cluster reports of its capacity, how logs travel, where scores come from."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field

from hub.api import resource
from hub.api.column import AGE, Column
from hub.api.core import Taint
from hub.api.fleetjob import Indexes
from hub.api.meta import (
    Bool,
    Conditions,
    Duration,
    Int32,
    Int64,
    KindInfo,
    KubeObject,
    LabelSelector,
    Model,
    Time,
    list_map,
    rules,
)
from hub.api.quantity import Quantity


class GpuFacts(Model):
    model: str = Field(description="The GPUs' model, as jobs ask for it. Example: A100")
    memory: Quantity | None = Field(None, description="Memory of one GPU. Example: 80Gi")
    count: Int32 = Field(ge=0, description="GPUs of one node. Example: 8")
    replicas: Int32 | None = Field(
        None, ge=1, description="How many tasks share one GPU by time (the device plugin's replicas); absent: none do."
    )


class UsedNodes(Model):
    nodes: Int32 = Field(ge=1, description="How many nodes of the group are used like this.")
    resources: dict[str, Quantity] = Field(description='What is used on each of them. Example: {cpu: "4"}')


class NodeGroup(Model):
    name: str = Field(min_length=1, description="The group's name. Example: a100-large")
    count: Int32 = Field(ge=0, description="Nodes in the group, all alike.")
    nodes: list[str] = Field(
        default_factory=list,
        description="Their names, in the order in which `used` counts them; empty where there are too many to name.",
    )
    labels: dict[str, str] = Field(default_factory=dict, description="Labels that all of them carry.")
    taints: list[Taint] = Field(default_factory=list, description="Taints that all of them carry.")
    gpu: GpuFacts | None = Field(None, description="Their GPUs, where they have any.")
    allocatable: dict[str, Quantity] = Field(description='What one node offers. Example: {cpu: "64", memory: 512Gi}')
    used: list[UsedNodes] = Field(
        default_factory=list, description="What runs there that did not come from this hub; absent nodes are empty."
    )


class SpotPrices(Model):
    gpuHour: dict[str, Quantity] = Field(default_factory=dict, description='By model. Example: {A100: "0.8"}')
    cpuHour: Quantity | None = Field(None, description='One CPU for an hour. Example: "0.01"')
    memoryGiBHour: Quantity | None = Field(None, description='One GiB for an hour. Example: "0.001"')


class PriceTime(Model):
    begin: str = Field(
        pattern=r"^(([01][0-9]|2[0-3]):(00|15|30|45)|24:00)$", description="From then on. Example: 22:00"
    )
    end: str = Field(
        pattern=r"^(([01][0-9]|2[0-3]):(00|15|30|45)|24:00)$",
        description="Until then; on the next day where it is not after begin. Example: 06:00",
    )
    days: list[Literal["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]] = Field(
        default_factory=list, max_length=7, description="The days on which it begins; empty: all. Example: [Sat, Sun]"
    )
    utcOffset: str | None = Field(
        None,
        pattern=r"^[+-](0[0-9]|1[0-4]):(00|15|30|45)$",
        description="How far the site's clock is ahead of UTC; absent: the times are UTC. Example: +02:00",
    )
    factor: Quantity = Field(description='What the prices are multiplied by meanwhile. Example: "0.6"')


class Prices(Model):
    gpuHour: dict[str, Quantity] = Field(default_factory=dict, description='By model. Example: {A100: "2.5"}')
    cpuHour: Quantity | None = Field(None, description='One CPU for an hour. Example: "0.04"')
    memoryGiBHour: Quantity | None = Field(None, description='One GiB for an hour. Example: "0.005"')
    spot: SpotPrices | None = Field(
        None, description="What nodes with a label for spot or preemptible cost instead, where it is stated."
    )
    egressGiB: Quantity | None = Field(None, description='A GiB that leaves the site. Example: "0.09"')
    times: list[PriceTime] = Field(
        default_factory=list,
        max_length=32,
        description="Times of day at which all prices are others; the first counts.",
    )


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


class HttpJson(Model):
    """A document that somebody serves over HTTP, and where in it the values are."""

    url: str = Field(
        pattern=r"^https?://[^\s/]+\S*$",
        max_length=2048,
        description="What to GET; ${cluster} becomes each cluster's name, which makes it one request a cluster. "
        "Example: https://prices.example/v1/clusters",
    )
    items: str = Field("", description="Where the list or map of clusters is, dotted; empty: the whole document.")
    cluster: str = Field("cluster", description="In a list: the field with the cluster's name. In a map the key is it.")
    value: str = Field("value", description="The field with the number, dotted; not used where members are numbers.")
    time: str | None = Field(
        None, description="The field with the value's own time (RFC 3339 or seconds): older than validFor is unknown."
    )


class StaticScores(Model):
    values: dict[str, Quantity] = Field(default_factory=dict, description='By cluster. Example: {harbour: "1.5"}')
    default: Quantity | None = Field(None, description="Of the clusters that are not named; absent: unknown.")


class Normaliser(Model):
    """How raw values become scores from 0 to 100."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            ("!has(self.midpoint) || self.type == 'sigmoid'", "only sigmoid has one", ".midpoint"),
            ("!has(self.scale) || self.type == 'sigmoid'", "only sigmoid has one", ".scale"),
            ("!has(self.min) || self.type != 'rank'", "rank has no bounds", ".min"),
            ("!has(self.max) || self.type != 'rank'", "rank has no bounds", ".max"),
        )
    )

    type: Literal["minMax", "zScore", "rank", "sigmoid", "none"] = Field(
        "minMax",
        description="How values become 0 to 100. minMax: between min and max, or the candidates' own where they are "
        "absent. zScore: the mean is 50, three deviations are 0 and 100. rank: the part of the candidates that is "
        "worse. sigmoid: midpoint is 50, one scale from it 73. none: the value is the score already, cut to 0 to 100.",
    )
    min: Quantity | None = Field(None, description='Values below count as this. Example: "0"')
    max: Quantity | None = Field(None, description='Values above count as this. Example: "100"')
    midpoint: Quantity | None = Field(None, description="Of sigmoid; absent: the candidates' median.")
    scale: Quantity | None = Field(None, description="Of sigmoid; absent: the candidates' standard deviation.")


class Forecast(Model):
    """What the query's value will be, from its past. It is asked as a range query then."""

    horizon: Duration = Field(description="How far ahead. Example: 30m")
    method: Literal["auto", "seasonalNaive", "regression"] = Field(
        "auto",
        description="seasonalNaive: as one season before. regression: a line, with the season's first harmonics where "
        "two seasons are known. auto: which of them, or the last value, was least off on the source's own past.",
    )
    history: Duration = Field("168h", description="How far back to look. Example: 168h")
    step: Duration = Field("1h", description="Between two samples; history may have 2,000 of them. Example: 1h")
    season: Duration = Field("24h", description="After which time it repeats itself. Example: 24h")


class ForecastStatus(Model):
    method: str = Field(description="Which method answers now.")
    error: str | None = Field(
        None, description="How far off it was on average, in the value's own unit, where it could be tried on the past."
    )
    lastValueError: str | None = Field(None, description="The same of the last value: what a forecast has to beat.")
    tries: Int32 = Field(0, ge=0, description="How many times of the past it was tried on.")


class ScoreSourceSpec(Model):
    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "[has(self.promQL), has(self.httpJson), has(self.static), has(self.report)].filter(x, x).size() == 1",
                "write exactly one of promQL, httpJson, static and report",
            ),
            ("!has(self.prometheusURL) || has(self.promQL)", "needs promQL", ".prometheusURL"),
            ("!has(self.forecast) || has(self.promQL)", "needs promQL", ".forecast"),
            (
                "!has(self.aggregation) || ((has(self.promQL) || has(self.httpJson)) && !has(self.forecast))",
                "is for answers with several values of a cluster: promQL without forecast, or httpJson",
                ".aggregation",
            ),
            ("!has(self.interval) || has(self.promQL) || has(self.httpJson)", "nobody is asked", ".interval"),
        )
    )

    promQL: str | None = Field(
        None,
        min_length=1,
        max_length=4096,
        description="An instant query: one for the whole fleet with one series a cluster, or with ${cluster} in it "
        "one a cluster. Example: avg by (cluster) (DCGM_FI_DEV_GPU_UTIL)",
    )
    prometheusURL: str | None = Field(
        None,
        pattern=r"^https?://[^\s/]+\S*$",
        max_length=2048,
        description="Which Prometheus to ask; absent: the hub's. With ${cluster} each cluster's own is asked. "
        "Example: https://prometheus.${cluster}.example",
    )
    httpJson: HttpJson | None = Field(None, description="Values from a JSON document instead of Prometheus.")
    static: StaticScores | None = Field(None, description="Values that are written here.")
    report: str | None = Field(
        None,
        pattern=r"^(free|allocatable|freeShare)/\S+$|^gpus/\S+$|^claim/\S+$|^label/\S+$"
        r"|^price/(cpu|memory|gpu/\S+)$",
        max_length=300,
        description="A number of the cluster's own report: free/RESOURCE, allocatable/RESOURCE, freeShare/RESOURCE "
        "(0 to 1), gpus/MODEL (wholly free ones), claim/NAME, label/KEY, price/cpu, price/memory, price/gpu/MODEL. "
        "Example: claim/gco2-per-kwh.example",
    )
    forecast: Forecast | None = Field(
        None, description="Score by what promQL will be instead of what it is; absent: by what it is."
    )
    clusterLabel: str = Field(
        "cluster",
        pattern=r"^[a-zA-Z_][a-zA-Z0-9_]*$",
        description="The label of the result that names the cluster. Example: cluster",
    )
    clusterSelector: LabelSelector | None = Field(
        None, description="Which clusters it is about; the others it is neither for nor against. Absent: all."
    )
    aggregation: Literal["avg", "max", "min", "sum", "median", "p95"] | None = Field(
        None, description="What several series of one cluster make; absent: they make its value unknown."
    )
    normaliser: Normaliser | None = Field(None, description="How values become scores; absent: minMax.")
    direction: Literal["higher", "lower"] = Field("higher", description="Which values are better. Example: lower")
    weight: Int32 = Field(
        1, ge=-10, le=10, description="Its weight among the scores; 0 asks, and counts nothing. Example: 2"
    )
    interval: Duration | None = Field(None, description="How often to ask; absent: as the hub is set. Example: 30s")
    validFor: Duration = Field("5m", description="How long an answer counts; older is unknown, not zero. Example: 5m")
    timeout: Duration = Field("5s", description="How long one query may take. Example: 5s")


class ScoreSourceStatus(Model):
    lastUpdateTime: Time | None = Field(None, description="When it last answered.")
    clusters: Int32 | None = Field(None, ge=0, description="For how many clusters it had a value.")
    reason: str | None = Field(None, description="Why it has no values, or not all.")
    message: str | None = Field(None, description="The same in words.")
    forecast: ForecastStatus | None = Field(None, description="How well the forecast does, where there is one.")
    conditions: Conditions = Field(default_factory=list, description="Ready: whether it has values that count.")


class ScoreSource(KubeObject):
    """Where numbers about clusters come from, and how they become a score of every cluster."""

    info: ClassVar = KindInfo(
        resource.SCORE_SOURCES,
        categories=("fleet",),
        columns=(
            Column("DIRECTION", ".spec.direction"),
            Column("WEIGHT", ".spec.weight", "integer"),
            Column("CLUSTERS", ".status.clusters", "integer"),
            Column("READY", ".status.conditions[?(@.type=='Ready')].status"),
            Column("UPDATED", ".status.lastUpdateTime", "date"),
            Column("QUERY", ".spec.promQL", wide=True),
            AGE,
        ),
    )
    spec: ScoreSourceSpec
    status: ScoreSourceStatus | None = None
