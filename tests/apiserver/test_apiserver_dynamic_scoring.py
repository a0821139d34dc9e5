"""Objects that users of the Dynamic Scoring Framework have apply as they are, and come back as they were written."""

from __future__ import annotations

from typing import Any

import pytest

from hub.api.errors import RefusedError
from hub.api.resource import DYNAMIC_SCORERS, DYNAMIC_SCORING_CONFIGS, NAMESPACES, SCORER_POLICIES, Resource
from hub.api.validation import load_objects
from hub.client.session import Session

GROUP = "dynamic-scoring.open-cluster-management.io"
FULL = f"""
apiVersion: {GROUP}/v1alpha1
kind: DynamicScorer
metadata: {{name: from-config, namespace: default}}
spec:
  description: averages what Prometheus knows
  configURL: http://scorer.dynamic-scoring.svc:8000/config
  configSyncMode: Full
  location: Internal
  scoreDestination: AddOnPlacementScore
  scoreDimensionFormat: "${{node}};${{namespace}};${{pod}}"
  source: {{host: "http://prometheus.monitoring.svc:9090", path: /api/v1/query_range}}
  scoring: {{path: /scoring, auth: {{tokenSecretRef: {{name: api-auth-secret, key: token}}}}}}
"""
NONE = f"""
apiVersion: {GROUP}/v1alpha1
kind: DynamicScorer
metadata: {{name: by-itself, namespace: default}}
spec:
  description: says everything itself
  configURL: http://10.0.0.7:8000/config
  configSyncMode: None
  location: External
  scoreDestination: None
  source:
    type: Prometheus
    host: https://thanos-querier.openshift-monitoring.svc.cluster.local:9091
    path: /api/v1/query_range
    params: {{query: "a;b", range: 3600, step: 60}}
    auth: {{tokenSecretRef: {{name: source-query-secret, key: token}}}}
  scoring: {{host: "http://10.0.0.7:8000", path: /scoring, params: {{name: llm_forecast_score, interval: 60}}}}
"""
# Its own schema refuses this spelling, which one of its samples has.
LOWER_CASE = FULL.replace("from-config", "lower-case").replace("source: {", "source: {type: prometheus, ")
FIRST_RELEASE = FULL.replace("v1alpha1", "v1").replace("from-config", "older").replace("AddOnPl", "AddonPl")
SHORT = f"""
apiVersion: {GROUP}/v1alpha1
kind: DynamicScorer
metadata: {{name: short, namespace: default}}
spec:
  description: |
    several
    lines
  configURL: http://${{SCORER_HOST}}/performance/config
  configSyncMode: Full
"""
MASKS = f"""
apiVersion: {GROUP}/v1alpha1
kind: DynamicScoringConfig
metadata: {{name: dynamic-scoring-config, namespace: default}}
spec: {{masks: [{{clusterName: worker02, scoreName: llm_forecast_score}}]}}
"""
NO_MASKS = f"{{apiVersion: {GROUP}/v1, kind: DynamicScoringConfig, metadata: {{name: none, namespace: default}}}}"
POLICY = """
apiVersion: fleet.quarterdeck.dev/v1alpha1
kind: ScorerPolicy
metadata: {name: from-config, namespace: default}
spec:
  aggregate: p95
  normaliser: {type: sigmoid, midpoint: "50"}
  clusters: {allow: ["eu-*"]}
  overrides: [{clusters: [eu-1], source: {host: "http://prometheus.eu-1.example"}}]
  smoothing: "0.5"
"""


def resource_of(obj: dict[str, Any]) -> Resource:
    version = obj["apiVersion"].rpartition("/")[2]
    kinds = {resource.kind: resource for resource in (DYNAMIC_SCORERS, DYNAMIC_SCORING_CONFIGS, SCORER_POLICIES)}
    found = kinds[obj["kind"]]
    return Resource(found.group, version, found.kind, found.plural, namespaced=True)


@pytest.mark.parametrize("text", [FULL, NONE, LOWER_CASE, FIRST_RELEASE, SHORT, MASKS, NO_MASKS, POLICY])
async def test_what_people_have_applies_unchanged(api: Session, text: str) -> None:
    # As `quarterdeck submit` reads a file, and as kubectl applies it.
    (obj,) = load_objects(text, "a file")
    resource, name = resource_of(obj), obj["metadata"]["name"]
    for manager in ("kubectl-client-side-apply", "a-gitops-engine"):
        await api.patch(resource, name, obj, "default", type="apply", field_manager=manager, force=True)
    stored = await api.get(resource, name, "default")
    assert stored["apiVersion"] == obj["apiVersion"]
    spec = stored.get("spec") or {}
    assert {key: spec[key] for key in obj.get("spec") or {}} == (obj.get("spec") or {})
    # In the version that the hub reads, too.
    alpha = resource_of({**obj, "apiVersion": "x/v1alpha1"})
    assert (await api.get(alpha, name, "default"))["metadata"]["uid"] == stored["metadata"]["uid"]


async def test_a_status_as_the_frameworks_controller_writes_it_is_accepted(api: Session) -> None:
    (obj,) = load_objects(FULL, "a file")
    await api.create(DYNAMIC_SCORERS, obj, "default")
    params = {"query": "", "range": 0, "step": 0}
    synced = {
        "name": "x", "description": "", "source": {"type": "None", "path": "", "params": params},
        "scoring": {"path": "/s", "params": {"name": "x", "interval": 30}},
    }  # fmt: skip
    status = {"healthStatus": "Active", "lastSyncedConfig": synced}
    await api.patch(DYNAMIC_SCORERS, "from-config", {"status": status}, "default", subresource="status")
    assert (await api.get(DYNAMIC_SCORERS, "from-config", "default"))["status"] == status


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (FULL.replace("configSyncMode: Full", "configSyncMode: Half"), "configSyncMode"),
        (FULL.replace("description: averages what Prometheus knows", "x: y"), "description"),
        (NONE.replace("range: 3600", 'range: "1h"'), "range"),
        (MASKS.replace("clusterName: worker02, ", ""), "clusterName"),
        (POLICY.replace("p95", "mode"), "aggregate"),
        (POLICY.replace("clusters: [eu-1], source", "source"), "say for which"),
        (POLICY + "  source: {static: {}, exec: {program: power}}", "exactly one of httpJson, static, exec and otlp"),
        (POLICY + "  source: {static: {}}\n  queries: [{name: a, promql: b}]", "are for Prometheus"),
        (POLICY + "  source: {otlp: {metrics: [a]}}\n  scoredBy: Agent", "the hub must ask"),
        (POLICY + "  source: {static: {}}\n  scoredBy: AddOn", "knows Prometheus only"),
    ],
)
async def test_what_the_frameworks_schema_refuses_is_refused(api: Session, text: str, said: str) -> None:
    import yaml

    obj = yaml.safe_load(text)
    with pytest.raises(RefusedError, match=said):
        await api.create(resource_of(obj), obj, "default")
    assert await api.get(NAMESPACES, "default")
