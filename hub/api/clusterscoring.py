"""The kind by which an agent is told which scorers to ask about its cluster, and tells what they answered.

One a cluster, named as it, in its namespace: the hub writes what is asked, the agent what came of it, all scorers at
once. Results are as scorers gave them; what becomes of them is the hub's business, as if it had asked itself.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from hub.api import resource
from hub.api.column import AGE, Column
from hub.api.dynamic import TokenSecretRef
from hub.api.meta import Bool, Int32, KindInfo, KubeObject, Model, Time, list_map
from hub.api.scorerpolicy import ScorerTLS

Seconds = Annotated[float, Field(ge=0)]


class OrderedQuery(Model):
    name: str | None = Field(None, description="What the scorer knows it by, where it has a name.")
    promql: str = Field(description="The query, about this cluster.")
    mode: Literal["range", "instant"] = Field(description="Over the source's range, or now.")


class OrderedSource(Model):
    type: Literal["None", "Prometheus", "HttpJson", "Static", "Program"] = Field(description="What kind it is.")
    url: str | None = Field(None, description="Of Prometheus's range endpoint, or of the document.")
    tokenSecretRef: TokenSecretRef | None = Field(None, description="In namespace dynamic-scoring of the cluster.")
    queries: list[OrderedQuery] = Field(default_factory=list, description="What Prometheus is asked, in this order.")
    range: Int32 | None = Field(None, ge=0, description="Seconds back.")
    step: Int32 | None = Field(None, ge=0, description="Seconds between samples.")
    items: str | None = Field(None, description="Where in the document the list or map of clusters is.")
    cluster: str | None = Field(None, description="The field of a member that names its cluster.")
    value: str | None = Field(None, description="The field of a member with the number.")
    time: str | None = Field(None, description="The field of a member with its time.")
    single: Bool | None = Field(None, description="Whether the document is about this cluster alone.")
    maxAgeSeconds: Seconds | None = Field(None, description="An older member of the document is unknown.")
    number: float | None = Field(None, description="The value that the policy has for this cluster.")
    program: str | None = Field(None, description="The program's name in the agent's own configuration.")


class OrderedScorer(Model):
    scorer: str = Field(description="The DynamicScorer. Example: default/room-temperature")
    score: str = Field(description="What its score is called.")
    digest: str = Field(description="Of what is asked: an answer to another question does not count.")
    url: str = Field(description="Where scores are asked for.")
    tokenSecretRef: TokenSecretRef | None = Field(None, description="In namespace dynamic-scoring of the cluster.")
    tls: ScorerTLS | None = Field(None, description="Secrets in namespace dynamic-scoring of the cluster.")
    intervalSeconds: Seconds = Field(description="Between two askings.")
    validSeconds: Seconds = Field(description="How long an answer counts.")
    timeoutSeconds: Seconds = Field(description="How long one request may take.")
    protocol: Literal[1, 2] = Field(1, description="2: data is sent by name as well.")
    deadband: Annotated[float, Field(ge=0)] | None = Field(
        None, description="A score that has moved by less is not worth a write. Absent: every other answer is."
    )
    source: OrderedSource = Field(description="Where its data comes from.")


class ClusterScoringSpec(Model):
    scorers: Annotated[list[OrderedScorer], list_map("scorer")] = Field(
        default_factory=list, description="Whom to ask, and what."
    )


class ScorerResult(Model):
    metric: dict[str, str] = Field(default_factory=dict, description="What the score is about.")
    score: float = Field(description="As the scorer gave it.")
    weight: float | None = Field(None, description="What it counts in a weighted mean; absent: 1.")


class AnsweredScorer(Model):
    scorer: str = Field(description="The DynamicScorer.")
    digest: str = Field(description="Of the question that this is the answer to.")
    answer: str | None = Field(None, description="Of these results; another one for each answer.")
    ageSeconds: Seconds | None = Field(None, description="How old they were at sentTime.")
    results: list[ScorerResult] = Field(default_factory=list, description="Its last results.")
    dropped: Int32 | None = Field(None, ge=0, description="How many of its results could not be used.")
    complaints: list[str] = Field(default_factory=list, description="What was wrong with those.")
    reason: str | None = Field(None, description="Why the last asking gave no score.")
    message: str | None = Field(None, description="The same in words.")


class ClusterScoringStatus(Model):
    sentTime: Time | None = Field(None, description="The agent's clock when it wrote this.")
    scorers: Annotated[list[AnsweredScorer], list_map("scorer")] = Field(
        default_factory=list, description="What came of it, scorer by scorer."
    )


class ClusterScoring(KubeObject):
    """Which scorers a cluster's agent asks, and what they answered; named as the cluster."""

    info: ClassVar = KindInfo(
        resource.CLUSTER_SCORINGS,
        categories=("fleet",),
        columns=(Column("SENT", ".status.sentTime", "date"), AGE),
    )
    spec: ClusterScoringSpec | None = None
    status: ClusterScoringStatus | None = None
