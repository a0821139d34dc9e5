"""What is told to who asks in a cluster: our agent by an entry of its ClusterScoring, the framework's own add-on by the
ConfigMap that it reads, field by field as it has it.

For scorers whose policy says so. Endpoints are those of the cluster, overrides applied, so that nobody there needs to
know of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import orjson

from hub.api import names
from hub.api.resource import MANIFEST_WORKS
from hub.asking.question import CLUSTER, Question, SecretKey, to_wire
from hub.scoring.dynamic.plan import ScorerPlan
from hub.scoring.dynamic.spec import NOTHING, PROMETHEUS, ScorerSpec

WORK: Final = "dynamic-scoring-config-manifestwork"
CONFIG_MAP: Final = "dynamic-scoring-config"
NAMESPACE: Final = "dynamic-scoring"

Json = dict[str, Any]


def summary(
    name: str,
    spec: ScorerSpec,
    plan: ScorerPlan,
    cluster: str,
    source: str,
    source_token: SecretKey | None,
    scoring: str,
    token: SecretKey | None,
) -> Json:
    """One scorer for one cluster. `source` and `scoring`: the endpoints there, with their tokens."""
    asked = ";".join(query.promql.replace(CLUSTER, cluster) for query in plan.source.queries)
    return {
        "name": name,
        "scoreName": plan.score,
        "sourceType": PROMETHEUS if plan.source.queries else NOTHING,
        "sourceEndpoint": source,
        "sourceEndpointAuthName": source_token.name if source_token else "",
        "sourceEndpointAuthKey": source_token.key if source_token else "",
        "sourceQuery": asked,
        "sourceRange": plan.source.range,
        "sourceStep": plan.source.step,
        "scoringEndpoint": scoring,
        "scoringInterval": int(plan.interval),
        "scoringEndpointAuthName": token.name if token else "",
        "scoringEndpointAuthKey": token.key if token else "",
        "location": spec.location,
        "scoreDestination": "AddOnPlacementScore" if plan.publishes else "None",
        "scoreDimensionFormat": plan.dimension_format,
    }


def order(name: str, question: Question, plan: ScorerPlan) -> Json:
    """One scorer for our agent of a cluster; `name`: namespace and name of the DynamicScorer."""
    settling = plan.policy.settling
    found = {
        "scorer": name,
        "digest": question.digest,
        **to_wire(question),
        "intervalSeconds": plan.interval,
        "validSeconds": plan.valid_for,
    }
    # What is averaged over time must be told each time.
    return found | ({"deadband": settling.deadband} if settling.part == 1 else {})


def config_map(summaries: Iterable[Mapping[str, Any]]) -> Json:
    """`summaries` in any order; the same ones give the same text."""
    ordered = sorted((dict(one) for one in summaries), key=lambda one: (one["scoreName"], one["name"]))
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": CONFIG_MAP, "namespace": NAMESPACE},
        "data": {"summaries": orjson.dumps(ordered).decode()},
    }


def work_of(cluster: str, manifest: Json) -> Json:
    """The ManifestWork that brings it there."""
    return {
        "apiVersion": MANIFEST_WORKS.api_version,
        "kind": MANIFEST_WORKS.kind,
        "metadata": {"name": WORK, "namespace": cluster, "labels": {names.SCORING_CONFIG: "true"}},
        "spec": {"workload": {"manifests": [manifest]}},
    }
