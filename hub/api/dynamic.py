"""Kinds of OCM's Dynamic Scoring Framework.

They take every object that the framework takes, and what its own samples hold that its own schema refuses. What they
have no room for is a ScorerPolicy (hub/api/scorerpolicy.py), so that nothing of ours is lost on an API server that has
the framework's own definitions.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, Strict

from hub.api import resource
from hub.api.column import AGE, Column
from hub.api.meta import Conditions, Int32, KindInfo, KubeObject, Model, Time

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
        description="Whether its configuration, or /healthz, answered last. An Inactive scorer is not asked for scores "
        "by the hub."
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
