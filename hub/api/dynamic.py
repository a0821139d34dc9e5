"""Kinds of OCM's Dynamic Scoring Framework, and ours beside them that says how a scorer's answers are used.

DynamicScorer and DynamicScoringConfig take every object that the framework takes, and what its own samples hold that
its own schema refuses. What they have no room for is a ScorerPolicy, so that nothing of ours is lost on an API server
that has the framework's own definitions.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field, Strict

from hub.api import resource
from hub.api.column import AGE, Column
from hub.api.fleet import Normaliser
from hub.api.meta import (
    ATOMIC,
    Conditions,
    Duration,
    Int32,
    KindInfo,
    KubeObject,
    LabelSelector,
    Model,
    Time,
    list_map,
    rules,
)
from hub.api.quantity import Quantity

# As the framework has them: integers without a format.
WholeNumber = Annotated[int, Strict()]
_SECRET = "In the scorer's namespace; read anew at each use."


class TokenSecretRef(Model):
    name: str = Field(description=f"The Secret. {_SECRET} Example: api-auth-secret")
    key: str = Field(description="The key in it whose value is the bearer token. Example: token")


class ScorerAuth(Model):
    tokenSecretRef: TokenSecretRef = Field(description="Where the bearer token is.")


class SourceParams(Model):
    query: str = Field(
        description="PromQL over a range; several joined by semicolons. ${cluster} becomes each cluster's name. "
        "Example: avg by (cluster, node) (node_load1)"
    )
    range: WholeNumber = Field(description="How many seconds back. Example: 3600")
    step: WholeNumber = Field(description="Seconds between samples. Example: 60")


class ScoringParams(Model):
    name: str = Field(description="The score's name. Example: sample_my_score")
    interval: WholeNumber = Field(description="Seconds between two askings. Example: 30")


class ScorerSource(Model):
    type: Literal["Prometheus", "None", "prometheus", "none"] | None = Field(
        None,
        description="Prometheus, or None for a scorer that needs no data. Absent: Prometheus where there is a query.",
    )
    host: str | None = Field(None, description="Example: http://prometheus.monitoring.svc:9090")
    path: str | None = Field(None, description="Absent: /api/v1/query_range.")
    params: SourceParams | None = Field(None, description="What is asked of Prometheus.")
    auth: ScorerAuth | None = Field(None, description="How the hub shows Prometheus who it is.")


class ScorerEndpoint(Model):
    host: str | None = Field(None, description="Scheme and host; absent: those of configURL.")
    path: str | None = Field(None, description="What is posted to. Example: /scoring")
    params: ScoringParams | None = Field(None, description="The score's name and how often it is asked for.")
    auth: ScorerAuth | None = Field(None, description="How the hub shows the scorer who it is.")


class DynamicScorerSpec(Model):
    description: str = Field(description="What the score says, for people.")
    configURL: str = Field(
        description="Where the scorer serves its configuration. With configSyncMode None only /healthz of its host is "
        "asked. Example: http://sample-scorer.dynamic-scoring.svc:8000/config"
    )
    configSyncMode: Literal["Full", "None"] = Field(
        description="Full: what the scorer's own configuration says goes before this object. None: only this object."
    )
    location: Literal["Internal", "External"] | None = Field(
        None, description="Whether it runs in the fleet. A scorer without it is not asked."
    )
    scoreDestination: Literal["AddOnPlacementScore", "AddonPlacementScore", "None"] | None = Field(
        None,
        description="AddOnPlacementScore: scores are published, and order clusters. None: they are metrics only. A "
        "scorer without it is not asked.",
    )
    scoreDimensionFormat: str | None = Field(
        None,
        description="What names each published score: scoreName, cluster, node, pod, container, device, namespace, app "
        "and meta, each written as ${node}. Absent: ${scoreName}. Example: ${node};${namespace};${pod}",
    )
    source: ScorerSource | None = Field(None, description="Where its data comes from.")
    scoring: ScorerEndpoint | None = Field(None, description="Where scores are asked for.")


class SyncedSource(Model):
    type: str | None = None
    host: str | None = None
    path: str
    params: SourceParams


class SyncedScoring(Model):
    host: str | None = None
    path: str
    params: ScoringParams


class SyncedConfig(Model):
    name: str
    description: str
    source: SyncedSource
    scoring: SyncedScoring


class DynamicScorerStatus(Model):
    healthStatus: Literal["Active", "Inactive", "Unknown"] = Field(
        description="Whether its configuration, or /healthz, answered last. An Inactive scorer is not asked for scores."
    )
    lastSyncedConfig: SyncedConfig | None = Field(None, description="Its own configuration as it was last read.")
    lastSyncTime: Time | None = Field(None, description="When its configuration last changed.")
    lastScoreTime: Time | None = Field(None, description="When it last gave a score.")
    clusters: Int32 | None = Field(None, ge=0, description="For how many clusters it has values that count.")
    conditions: Conditions = Field(
        default_factory=list,
        description="Ready: it has values that count. Synced: its configuration could be read. Answering: no cluster's "
        "last asking failed. Fresh: no value ended without a new one.",
    )


class DynamicScorer(KubeObject):
    """A scorer behind HTTP that speaks the Dynamic Scoring Framework's protocol."""

    info: ClassVar = KindInfo(
        resource.DYNAMIC_SCORERS,
        categories=("fleet",),
        columns=(
            Column("MODE", ".spec.configSyncMode"),
            Column("HEALTH", ".status.healthStatus"),
            Column("CLUSTERS", ".status.clusters", "integer"),
            Column("READY", ".status.conditions[?(@.type=='Ready')].status"),
            Column("REASON", ".status.conditions[?(@.type=='Ready')].reason"),
            Column("SCORE", ".status.lastSyncedConfig.scoring.params.name", wide=True),
            AGE,
        ),
    )
    spec: DynamicScorerSpec | None = None
    status: DynamicScorerStatus | None = None


class ScoreMask(Model):
    clusterName: str = Field(description="The cluster's exact name.")
    scoreName: str = Field(description="The score's exact name.")


class DynamicScoringConfigSpec(Model):
    masks: list[ScoreMask] = Field(
        default_factory=list, description="Which cluster is not given which score. Others are."
    )


class DynamicScoringConfigStatus(Model):
    conditions: Conditions = Field(
        default_factory=list, description="InEffect: whether this is the one that counts, and what of it says nothing."
    )


class DynamicScoringConfig(KubeObject):
    """Which clusters a score is kept from. Only the one called dynamic-scoring-config counts."""

    info: ClassVar = KindInfo(
        resource.DYNAMIC_SCORING_CONFIGS,
        categories=("fleet",),
        columns=(Column("IN EFFECT", ".status.conditions[?(@.type=='InEffect')].status"), AGE),
    )
    spec: DynamicScoringConfigSpec | None = None
    status: DynamicScoringConfigStatus | None = None


class NamedQuery(Model):
    name: str = Field(min_length=1, max_length=63, description="What the scorer knows it by. Example: load")
    promql: str = Field(min_length=1, max_length=4096, description="The query; ${cluster} becomes the cluster's name.")
    mode: Literal["range", "instant"] = Field("range", description="Over the source's range, or now.")


class ClusterPatterns(Model):
    allow: Annotated[list[str], ATOMIC] = Field(
        default_factory=list, description='Only clusters with such names; empty: all. Example: ["eu-*"]'
    )
    deny: Annotated[list[str], ATOMIC] = Field(
        default_factory=list, description='No clusters with such names, whatever is allowed. Example: ["*-test"]'
    )


class PlacementRef(Model):
    name: str = Field(min_length=1, description="A Placement in the same namespace.")


class SourceOverride(Model):
    host: str | None = Field(None, description="Instead of the source's host. Example: https://prometheus.eu.example")
    path: str | None = Field(None, description="Instead of the source's path.")
    auth: ScorerAuth | None = Field(None, description="Instead of the source's.")


class EndpointOverride(Model):
    host: str | None = Field(None, description="Instead of the scoring host.")
    path: str | None = Field(None, description="Instead of the scoring path.")
    auth: ScorerAuth | None = Field(None, description="Instead of the scoring endpoint's.")


class ClusterOverride(Model):
    model_config = ConfigDict(
        json_schema_extra=rules(
            ("has(self.clusters) || has(self.clusterSelector)", "say for which: clusters or clusterSelector")
        )
    )

    clusters: Annotated[list[str], ATOMIC] = Field(
        default_factory=list, description='For clusters with such names. Example: ["eu-*"]'
    )
    clusterSelector: LabelSelector | None = Field(None, description="For clusters with such labels.")
    source: SourceOverride | None = Field(None, description="Where the data of those comes from.")
    scoring: EndpointOverride | None = Field(None, description="Where the scores of those are asked for.")


class SecretRef(Model):
    name: str = Field(min_length=1, description=f"The Secret. {_SECRET}")


class ScorerTLS(Model):
    caSecretRef: TokenSecretRef | None = Field(
        None, description="Certificates (PEM) of who may vouch for the scorer; absent: the system's."
    )
    clientCertSecretRef: SecretRef | None = Field(
        None, description="A Secret with tls.crt and tls.key, by which the scorer knows the hub."
    )


class ScorerPolicySpec(Model):
    scoredBy: Literal["Hub", "Agent"] = Field(
        "Hub",
        description="Hub: the hub asks. Agent: the framework's own add-on does, in each cluster, as the ConfigMap "
        "tells it that the hub sends there; the hub reads what it publishes.",
    )
    weight: Int32 = Field(1, ge=-10, le=10, description="Its weight among the scores; 0 asks, and counts nothing.")
    direction: Literal["higher", "lower"] = Field("higher", description="Which values are better.")
    normaliser: Normaliser | None = Field(
        None,
        description="How raw values become scores from 0 to 100, published ones too; absent: scores are published as "
        "they are, cut to -100 to 100, and spread between the candidates' own where clusters are ordered.",
    )
    aggregate: Literal["avg", "max", "min", "sum", "median", "p95", "weighted"] | None = Field(
        None,
        description="How a cluster's results become its one score, which is published under the score's name. "
        "weighted: the mean by each result's own field weight. Absent: avg where clusters are ordered; of what is "
        "published under one name the last counts.",
    )
    clusterSelector: LabelSelector | None = Field(None, description="Which clusters are scored, by label.")
    clusters: ClusterPatterns | None = Field(None, description="Which clusters are scored, by name.")
    placementRef: PlacementRef | None = Field(None, description="Which clusters are scored: those it has chosen.")
    clusterLabel: str = Field(
        "cluster",
        pattern=r"^[a-zA-Z_][a-zA-Z0-9_]*$",
        description="Where one query answers for the whole fleet: the label that names the cluster.",
    )
    queries: Annotated[list[NamedQuery], list_map("name")] = Field(
        default_factory=list, description="Instead of the source's query; sent by name to scorers of protocol 2."
    )
    protocol: Literal[1, 2] | None = Field(
        None,
        description="2: the request also has named (series by query) and cluster. Absent: what the scorer's "
        "configuration says as protocol, else 1.",
    )
    overrides: Annotated[list[ClusterOverride], ATOMIC] = Field(
        default_factory=list, description="For single clusters; of several for one the first that says it counts."
    )
    tls: ScorerTLS | None = Field(None, description="For https to the scorer.")
    timeout: Duration = Field("30s", description="How long one request may take.")
    validFor: Duration | None = Field(None, description="How long a score counts; absent: two intervals.")
    smoothing: Quantity | None = Field(
        None,
        description='What part of a new value counts at once; the rest is what was before. Absent: 1. Example: "0.5"',
    )
    scoreDeadband: Quantity | None = Field(
        None, description='By less than this a score does not move. Absent: 0. Example: "5"'
    )
    minHold: Duration | None = Field(None, description="How long a score stays after it moved. Absent: no time.")


class ScorerPolicyStatus(Model):
    conditions: Conditions = Field(
        default_factory=list, description="Accepted: it can be read, and there is a DynamicScorer of its name."
    )


class ScorerPolicy(KubeObject):
    """How the answers of the DynamicScorer of the same name and namespace are used, and for which clusters."""

    info: ClassVar = KindInfo(
        resource.SCORER_POLICIES,
        categories=("fleet",),
        columns=(
            Column("WEIGHT", ".spec.weight", "integer"),
            Column("AGGREGATE", ".spec.aggregate"),
            Column("ACCEPTED", ".status.conditions[?(@.type=='Accepted')].status"),
            AGE,
        ),
    )
    spec: ScorerPolicySpec
    status: ScorerPolicyStatus | None = None
