"""OCM's cluster group: clusters, sets, placement and its decisions, scores.

Fields, defaults and bounds are OCM's, so that its agents and its users' files work unchanged. What the fields mean for
a decision is not here (hub/placement).
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from hub.api import resource
from hub.api.column import AGE, Column
from hub.api.meta import (
    ATOMIC,
    Bool,
    Condition,
    Conditions,
    DnsLabel,
    Int32,
    Int64,
    IntOrString,
    KindInfo,
    KubeObject,
    LabelSelector,
    Model,
    Time,
    Wire,
    list_map,
)
from hub.api.patterns import LABEL_KEY_PATTERN
from hub.api.quantity import Quantity

TaintEffect = Literal["NoSelect", "PreferNoSelect", "NoSelectIfNew"]


class ClientConfig(Model):
    url: str = Field(description="Address of the cluster's API server.")
    caBundle: Annotated[str, Wire(format="byte")] | None = Field(None, description="Its CA, PEM in base64.")


class ClusterTaint(Model):
    key: str = Field(max_length=316, pattern=LABEL_KEY_PATTERN, description="The taint's key.")
    value: str | None = Field(None, max_length=1024, description="The taint's value.")
    effect: TaintEffect = Field(description="What the taint does to placements that do not tolerate it.")
    timeAdded: Annotated[str, Wire(format="date-time", nullable=True)] | None = Field(
        None, description="When it was added; the hub sets it."
    )


class ManagedClusterSpec(Model):
    hubAcceptsClient: Bool | None = Field(None, description="Whether the hub accepts this cluster.")
    leaseDurationSeconds: Int32 = Field(60, description="Seconds of silence after which the cluster counts as lost.")
    managedClusterClientConfigs: list[ClientConfig] = Field(
        default_factory=list, description="How the cluster's API server could be reached."
    )
    taints: list[ClusterTaint] = Field(default_factory=list, description="What keeps placements away.")


class ClusterVersion(Model):
    kubernetes: str | None = Field(None, description="Kubernetes version of the cluster.")


class ClusterClaimValue(Model):
    name: str | None = Field(None, min_length=1, max_length=253, description="The claim's name.")
    value: str | None = Field(None, min_length=1, max_length=1024, description="The claim's value.")


class ManagedNamespaceStatus(Model):
    clusterSet: str = Field(description="The set that asked for it.")
    name: DnsLabel = Field(description="The namespace.")
    conditions: Conditions = Field(default_factory=list)


class ManagedClusterStatus(Model):
    version: ClusterVersion | None = None
    capacity: dict[str, Quantity] = Field(default_factory=dict, description="Total resources of the cluster.")
    allocatable: dict[str, Quantity] = Field(default_factory=dict, description="What of it workloads may use.")
    clusterClaims: list[ClusterClaimValue] = Field(default_factory=list, description="Facts the cluster claims.")
    managedNamespaces: Annotated[list[ManagedNamespaceStatus], list_map("clusterSet", "name")] = Field(
        default_factory=list, description="Namespaces that the cluster's sets keep on it."
    )
    conditions: Conditions = Field(default_factory=list)


class ManagedCluster(KubeObject):
    """A cluster of the fleet, as the hub knows it."""

    info: ClassVar = KindInfo(
        resource.MANAGED_CLUSTERS,
        short_names=("mcl", "mcls"),
        categories=("fleet",),
        columns=(
            Column("HUB ACCEPTED", ".spec.hubAcceptsClient", "boolean"),
            Column("MANAGED CLUSTER URLS", ".spec.managedClusterClientConfigs[*].url"),
            Column("JOINED", '.status.conditions[?(@.type=="ManagedClusterJoined")].status'),
            Column("AVAILABLE", '.status.conditions[?(@.type=="ManagedClusterConditionAvailable")].status'),
            AGE,
        ),
    )
    spec: ManagedClusterSpec | None = None
    status: ManagedClusterStatus | None = None


class ClusterSelector(Model):
    selectorType: Literal["ExclusiveClusterSetLabel", "LabelSelector"] = Field(
        "ExclusiveClusterSetLabel", description="How members are chosen."
    )
    labelSelector: LabelSelector | None = Field(None, description="For LabelSelector; {} chooses every cluster.")


class ManagedNamespace(Model):
    name: DnsLabel = Field(description="A namespace kept on every cluster of the set.")


class ManagedClusterSetSpec(Model):
    clusterSelector: ClusterSelector = Field(default=ClusterSelector(), description="Which clusters are in the set.")
    managedNamespaces: Annotated[list[ManagedNamespace], list_map("name")] = Field(default_factory=list)


class ConditionsStatus(Model):
    # A plain list: OCM does not merge these by type.
    conditions: list[Condition] = Field(default_factory=list)


class ManagedClusterSet(KubeObject):
    """A set of clusters that namespaces can be given access to."""

    info: ClassVar = KindInfo(
        resource.MANAGED_CLUSTER_SETS,
        short_names=("mclset", "mclsets"),
        categories=("fleet",),
        columns=(Column("EMPTY", '.status.conditions[?(@.type=="ClusterSetEmpty")].status'), AGE),
    )
    spec: ManagedClusterSetSpec = Field(default=ManagedClusterSetSpec(clusterSelector=ClusterSelector()))
    status: ConditionsStatus | None = None


class ManagedClusterSetBindingSpec(Model):
    clusterSet: str | None = Field(None, min_length=1, description="The set; the same as the binding's name.")


class ManagedClusterSetBinding(KubeObject):
    """Lets the placements of a namespace choose from a set of clusters."""

    info: ClassVar = KindInfo(
        resource.MANAGED_CLUSTER_SET_BINDINGS,
        short_names=("mclsetbinding", "mclsetbindings"),
        categories=("fleet",),
        columns=(Column("SET", ".spec.clusterSet"), AGE),
    )
    spec: ManagedClusterSetBindingSpec | None = None
    status: ConditionsStatus | None = None


class ClaimRequirement(Model):
    key: str = Field(description="The claim's name.")
    operator: str = Field(description="In, NotIn, Exists or DoesNotExist.")
    values: Annotated[list[str], ATOMIC] = Field(default_factory=list)


class ClaimSelector(Model):
    matchExpressions: Annotated[list[ClaimRequirement], ATOMIC] = Field(default_factory=list)


class CelSelector(Model):
    celExpressions: list[str] = Field(
        default_factory=list, description='CEL over `managedCluster`; all must be true. Example: ["size(...) > 0"]'
    )


class ClusterRequirement(Model):
    labelSelector: LabelSelector | None = Field(None, description="By the cluster's labels.")
    claimSelector: ClaimSelector | None = Field(None, description="By the claims in the cluster's status.")
    celSelector: CelSelector | None = Field(None, description="By CEL expressions over the cluster.")


class ClusterPredicate(Model):
    requiredClusterSelector: ClusterRequirement | None = Field(None, description="What a cluster must match.")


class AddOnScore(Model):
    resourceName: str = Field(description="Name of the AddOnPlacementScore in each cluster's namespace.")
    scoreName: str = Field(description="Name of the score in it.")


class ScoreCoordinate(Model):
    type: Literal["BuiltIn", "AddOn"] = Field("BuiltIn", description="Where the score comes from.")
    builtIn: str | None = Field(
        None, description="Balance, Steady, ResourceAllocatableCPU or ResourceAllocatableMemory."
    )
    addOn: AddOnScore | None = Field(None, description="Which AddOnPlacementScore.")


class PrioritizerConfig(Model):
    scoreCoordinate: ScoreCoordinate = Field(description="Which score.")
    weight: Int32 = Field(1, ge=-10, le=10, description="Its weight; negative prefers low scores.")


class PrioritizerPolicy(Model):
    mode: str = Field("Additive", description="Additive keeps the default prioritizers; Exact uses only those named.")
    configurations: Annotated[list[PrioritizerConfig], ATOMIC] = Field(default_factory=list)


class SpreadConstraint(Model):
    topologyKey: str = Field(max_length=316, pattern=LABEL_KEY_PATTERN, description="The label or claim to spread by.")
    topologyKeyType: Literal["Label", "Claim"] = Field(description="What topologyKey names.")
    maxSkew: Int32 = Field(1, ge=1, description="How far the number of clusters in two topologies may differ.")
    whenUnsatisfiable: Literal["DoNotSchedule", "ScheduleAnyway"] = Field("ScheduleAnyway")


class SpreadPolicy(Model):
    spreadConstraints: Annotated[list[SpreadConstraint], ATOMIC] = Field(default_factory=list, max_length=8)


class ClusterToleration(Model):
    key: str | None = Field(None, max_length=316, pattern=LABEL_KEY_PATTERN, description="The taint's key.")
    operator: str = Field("Equal", description="Equal or Exists.")
    value: str | None = Field(None, max_length=1024, description="The taint's value, for Equal.")
    effect: TaintEffect | None = Field(None, description="The effect; empty tolerates all.")
    tolerationSeconds: Int64 | None = Field(None, description="How long after timeAdded the taint is tolerated.")


class GroupClusterSelector(Model):
    labelSelector: LabelSelector | None = None
    claimSelector: ClaimSelector | None = None


class DecisionGroup(Model):
    groupName: str = Field(pattern=r"^[a-zA-Z0-9][-A-Za-z0-9_.]{0,61}[a-zA-Z0-9]$", description="The group's name.")
    groupClusterSelector: GroupClusterSelector = Field(description="Which clusters belong to it.")


class GroupStrategy(Model):
    decisionGroups: list[DecisionGroup] = Field(default_factory=list)
    clustersPerDecisionGroup: Annotated[IntOrString, Wire(pattern=r"^((100|[1-9][0-9]{0,1})%|[1-9][0-9]*)$")] = Field(
        "100%", description="Size of a group: a number of clusters or a percentage."
    )


class DecisionStrategy(Model):
    groupStrategy: GroupStrategy | None = None


class PlacementSpec(Model):
    clusterSets: list[str] = Field(
        default_factory=list, description="Sets to choose from; empty: every set bound to the namespace."
    )
    numberOfClusters: Int32 | None = Field(
        None, ge=0, description="How many clusters to choose; absent: all that match."
    )
    predicates: list[ClusterPredicate] = Field(
        default_factory=list, description="What a cluster must match; one of them is enough."
    )
    prioritizerPolicy: PrioritizerPolicy | None = Field(None, description="Which scores order the clusters.")
    spreadPolicy: SpreadPolicy | None = Field(None, description="How to spread over topologies.")
    tolerations: list[ClusterToleration] = Field(default_factory=list, description="Taints of clusters it accepts.")
    decisionStrategy: DecisionStrategy | None = Field(None, description="How decisions are grouped.")
    sortBy: Literal["ClusterName", "Score"] = Field("ClusterName", description="Order of the decisions.")
    scoreRateLimit: str = Field("1m", pattern=r"^[0-9]+[hms]$", description="How often scores may change decisions.")


class DecisionGroupStatus(Model):
    decisionGroupIndex: Int32 | None = None
    decisionGroupName: str | None = None
    decisions: list[str] = Field(default_factory=list, description="Names of the PlacementDecisions.")
    clusterCount: Int32 = 0


class PlacementStatus(Model):
    numberOfSelectedClusters: Int32 | None = None
    decisionGroups: list[DecisionGroupStatus] = Field(default_factory=list)
    lastScoreUpdateTime: Time | None = None
    conditions: Conditions = Field(default_factory=list)


class Placement(KubeObject):
    """A standing choice of clusters."""

    info: ClassVar = KindInfo(
        resource.PLACEMENTS,
        categories=("fleet",),
        columns=(
            Column("SUCCEEDED", '.status.conditions[?(@.type=="PlacementSatisfied")].status'),
            Column("REASON", '.status.conditions[?(@.type=="PlacementSatisfied")].reason'),
            Column("SELECTEDCLUSTERS", ".status.numberOfSelectedClusters", "integer"),
        ),
    )
    spec: PlacementSpec
    status: PlacementStatus | None = None


class ClusterDecision(Model):
    clusterName: str = Field(description="The cluster.")
    reason: str = Field(description="Why it was chosen; OCM leaves it empty.")
    score: Int64 | None = Field(None, description="Its score.")


class PlacementDecisionStatus(Model):
    decisions: list[ClusterDecision]


class PlacementDecision(KubeObject):
    """The clusters a Placement chose, at most a hundred an object."""

    info: ClassVar = KindInfo(resource.PLACEMENT_DECISIONS)
    status: PlacementDecisionStatus | None = None


class ScoreItem(Model):
    name: str = Field(description="The score's name.")
    value: Int32 = Field(ge=-100, le=100, description="Its value; higher is better.")


class AddOnPlacementScoreStatus(Model):
    conditions: Conditions = Field(default_factory=list)
    scores: Annotated[list[ScoreItem], list_map("name")] = Field(default_factory=list)
    validUntil: Time | None = Field(None, description="After this the scores are unknown.")


class AddOnPlacementScore(KubeObject):
    """Scores of one cluster, written by whoever measures it."""

    info: ClassVar = KindInfo(resource.ADDON_PLACEMENT_SCORES)
    status: AddOnPlacementScoreStatus | None = None
