"""The kind that says how the answers of a DynamicScorer are used, where its data comes from and who asks it.

Beside the framework's own kinds (hub/api/dynamic.py), which have no room for it.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field

from hub.api import resource
from hub.api.column import AGE, Column
from hub.api.dynamic import ScorerAuth, TokenSecretRef
from hub.api.fleet import HttpJson, Normaliser, StaticScores
from hub.api.meta import (
    ATOMIC,
    Conditions,
    Duration,
    Int32,
    KindInfo,
    KubeObject,
    LabelSelector,
    Model,
    list_map,
    rules,
)
from hub.api.quantity import Quantity


class ProgramSource(Model):
    program: str = Field(
        min_length=1,
        max_length=63,
        description="Its name under sources.programs of the configuration of who asks; nothing else can be run. "
        "Example: gpu-power",
    )


class PushedSource(Model):
    metrics: Annotated[list[str], ATOMIC] = Field(
        min_length=1, max_length=32, description='Which metrics, by their names. Example: ["gpu.power"]'
    )
    range: Int32 = Field(300, ge=1, le=3600, description="How many seconds back. Example: 300")


class PolicySource(Model):
    """Where a scorer's data comes from instead of Prometheus."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "[has(self.httpJson), has(self.static), has(self.exec), has(self.otlp)].filter(x, x).size() == 1",
                "write exactly one of httpJson, static, exec and otlp",
            ),
        )
    )

    httpJson: HttpJson | None = Field(
        None,
        description="A JSON document; each member with a number is one series of its cluster, with its texts as "
        "labels. Asked with source.auth of the DynamicScorer.",
    )
    static: StaticScores | None = Field(None, description="Values that are written here, one series a cluster.")
    exec: ProgramSource | None = Field(
        None, description="A program that who asks may run: once a cluster, without a shell, as long as timeout says."
    )
    otlp: PushedSource | None = Field(None, description="Metrics that are pushed to the hub over OTLP/HTTP.")


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
    name: str = Field(min_length=1, description="The Secret. In the scorer's namespace; read anew at each use.")


class ScorerTLS(Model):
    caSecretRef: TokenSecretRef | None = Field(
        None, description="Certificates (PEM) of who may vouch for the scorer; absent: the system's."
    )
    clientCertSecretRef: SecretRef | None = Field(
        None, description="A Secret with tls.crt and tls.key, by which the scorer knows the hub."
    )


class ScorerPolicySpec(Model):
    model_config = ConfigDict(
        json_schema_extra=rules(
            ("!has(self.source) || !has(self.queries) || self.queries.size() == 0", "are for Prometheus", ".queries"),
            (
                "!has(self.source) || self.scoredBy != 'AddOn'",
                "the framework's add-on knows Prometheus only",
                ".source",
            ),
            (
                "!has(self.source) || !has(self.source.otlp) || self.scoredBy == 'Hub'",
                "is pushed to the hub, so the hub must ask the scorer",
                ".source",
            ),
        )
    )

    scoredBy: Literal["Hub", "Agent", "AddOn"] = Field(
        "Hub",
        description="Hub: the hub asks. Agent: the agent in each cluster does, also while the hub is away, and tells "
        "the hub what it was answered; Secrets are those of namespace dynamic-scoring there. AddOn: the framework's "
        "own add-on does, as the ConfigMap tells it that the hub sends there, and the hub reads what it publishes.",
    )
    source: PolicySource | None = Field(None, description="Where data comes from instead of Prometheus.")
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
