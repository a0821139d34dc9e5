"""Our kinds on a real API server: they are accepted as they are, lose nothing, and read well."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from e2e import versions
from e2e.building import CannotBuildError
from e2e.cluster import Cluster
from e2e.finding import find
from e2e.planes import control_plane
from hub.api.crd import schema_of
from hub.api.kinds import KINDS
from hub.api.meta import KubeObject

Json = dict[str, Any]
ROOT: Final = Path(__file__).resolve().parents[2]
CRDS: Final = sorted((ROOT / "manifests" / "crds").glob("*.yaml"))


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    wanted = os.environ.get("E2E_KUBERNETES") or versions.newest()
    try:
        with control_plane("kinds", version=wanted, controllers=False) as found:
            yield found
    except CannotBuildError as error:
        pytest.skip(str(error))


def kubectl(cluster: Cluster, *arguments: str, stdin: str = "", fails: bool = False) -> str:
    tool = find(cluster.version)[0]["kubectl"]
    done = subprocess.run(
        [tool, "--kubeconfig", str(cluster.kubeconfig), *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=120,
    )
    assert (done.returncode != 0) == fails, f"kubectl {' '.join(arguments)}: {done.stderr}{done.stdout}"
    return done.stderr if fails else done.stdout


@pytest.fixture(scope="module")
def served(cluster: Cluster) -> Cluster:
    """With all kinds, applied twice: the second time changes nothing."""
    for said in ("serverside-applied", "serverside-applied"):
        answer = kubectl(cluster, "apply", "--server-side", "-k", "manifests/crds")
        assert answer.count(said) == len(CRDS)
    kubectl(cluster, "wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
    return cluster


def test_every_schema_is_structural_and_every_name_accepted(served: Cluster) -> None:
    found = json.loads(kubectl(served, "get", "crds", "-o", "json"))["items"]
    assert len(found) == len(CRDS)
    for crd in found:
        conditions = {part["type"]: part["status"] for part in crd["status"]["conditions"]}
        assert conditions["Established"] == "True", crd["metadata"]["name"]
        assert conditions.get("NonStructuralSchema", "False") == "False", crd["metadata"]["name"]
        assert crd["metadata"]["generation"] == 1, f"{crd['metadata']['name']} was changed by applying it again"


def test_nothing_of_a_schema_is_lost(served: Cluster) -> None:
    """What is stored says what was written; a server only adds defaults of its own."""
    for path in CRDS:
        wanted = yaml.safe_load(path.read_text())
        live = json.loads(kubectl(served, "get", "crd", wanted["metadata"]["name"], "-o", "json"))
        by_name = {version["name"]: version for version in live["spec"]["versions"]}
        for version in wanted["spec"]["versions"]:
            assert by_name[version["name"]]["schema"] == version["schema"], path.name
            assert by_name[version["name"]].get("additionalPrinterColumns") == version.get("additionalPrinterColumns")


def _full(schema: Json, depth: int = 0) -> Any:
    """A value in which every field of `schema` is there; None where a pattern or rule makes guessing vain."""
    if "default" in schema:
        return schema["default"]
    if schema.get("enum"):
        return schema["enum"][0]
    if schema.get("x-kubernetes-int-or-string"):
        return 1
    kind = schema.get("type")
    if kind == "object":
        if "properties" in schema:
            found = {name: _full(part, depth + 1) for name, part in schema["properties"].items()}
            return {name: value for name, value in found.items() if value is not None}
        values = schema.get("additionalProperties")
        return {"key": _full(values, depth + 1)} if isinstance(values, dict) else {}
    if kind == "array":
        item = _full(schema["items"], depth + 1)
        return [] if item is None else [item]
    if kind == "string":
        if schema.get("format") == "date-time":
            return "2026-01-02T03:04:05Z"
        return None if schema.get("pattern") else "x" * max(1, schema.get("minLength", 1))
    if kind in ("integer", "number"):
        return max(1, schema.get("minimum", 1))
    return True if kind == "boolean" else None


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_no_field_is_pruned(served: Cluster, kind: type[KubeObject]) -> None:
    """Every field that a model has is known to the server: strict validation names what it would drop."""
    resource, schema = kind.info.resource, schema_of(kind)
    body = {
        name: value
        for name, part in schema["properties"].items()
        if name not in ("apiVersion", "kind", "metadata") and (value := _full(part)) is not None
    }
    obj = {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": {"name": "x"}, **body}
    arguments = ["create", "--validate=strict", "--dry-run=server", "-f", "-"]
    if resource.namespaced:
        arguments += ["-n", "default"]
    tool = [find(served.version)[0]["kubectl"], "--kubeconfig", str(served.kubeconfig), *arguments]
    done = subprocess.run(tool, input=json.dumps(obj), capture_output=True, text=True, timeout=60)
    # Rules between fields may refuse such an object; unknown fields would be named first.
    assert "unknown field" not in done.stderr, done.stderr


def _only_newest(cluster: Cluster) -> None:
    if cluster.version != versions.newest():
        pytest.skip("the same text by the same kubectl")


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_explain_reads_well(served: Cluster, kind: type[KubeObject]) -> None:
    _only_newest(served)
    resource = kind.info.resource
    text = kubectl(served, "explain", resource.plural, f"--api-version={resource.api_version}")
    assert f"KIND:       {resource.kind}" in text
    said = text.partition("DESCRIPTION:")[2].partition("FIELDS:")[0].strip()
    assert said, "the kind says nothing of itself"
    assert "<empty>" not in said


@pytest.mark.parametrize("kind", [k for k in KINDS if k.info.resource.group == "fleet.quarterdeck.dev"])
def test_every_field_of_our_own_kinds_explains_itself(served: Cluster, kind: type[KubeObject]) -> None:
    _only_newest(served)
    resource = kind.info.resource
    if "spec" not in schema_of(kind)["properties"]:
        pytest.skip("has no spec")
    text = kubectl(served, "explain", f"{resource.plural}.spec", f"--api-version={resource.api_version}")
    fields = text.partition("FIELDS:")[2]
    assert "<no description>" not in fields


JOB = {
    "apiVersion": "fleet.quarterdeck.dev/v1alpha1",
    "kind": "FleetJob",
    "metadata": {"name": "j", "namespace": "default"},
    "spec": {"tasks": 2, "template": {"spec": {"containers": [{"name": "c", "image": "i"}]}}},
}


def test_rules_are_kept_transition_rules_too(served: Cluster) -> None:
    wrong = {**JOB, "spec": {**JOB["spec"], "gang": True, "parallelism": 1}}  # type: ignore[dict-item]
    said = kubectl(served, "create", "-f", "-", stdin=json.dumps(wrong), fails=True)
    assert "all tasks of a gang run at once" in said
    kubectl(served, "create", "-f", "-", stdin=json.dumps(JOB))
    said = kubectl(
        served, "patch", "fleetjob", "j", "-n", "default", "--type=merge", "-p", '{"spec": {"tasks": 3}}', fails=True
    )
    assert "tasks cannot change once the job exists" in said
    live = json.loads(kubectl(served, "get", "fleetjob", "j", "-n", "default", "-o", "json"))
    assert live["spec"]["queueName"] == "default", "defaults are filled in"
    assert "PHASE" in kubectl(served, "get", "fleetjobs", "-n", "default")


def test_other_peoples_objects_keep_every_field(served: Cluster) -> None:
    """A ClusterQueue with what Kueue's documentation shows, as it comes back."""
    queue = {
        "apiVersion": "kueue.x-k8s.io/v1beta2",
        "kind": "ClusterQueue",
        "metadata": {"name": "q"},
        "spec": {
            "cohortName": "all",
            "queueingStrategy": "BestEffortFIFO",
            "namespaceSelector": {"matchLabels": {"team": "a"}},
            "stopPolicy": "None",
            "preemption": {
                "reclaimWithinCohort": "Any",
                "withinClusterQueue": "LowerPriority",
                "borrowWithinCohort": {"policy": "LowerPriority", "maxPriorityThreshold": 100},
            },
            "flavorFungibility": {"whenCanBorrow": "TryNextFlavor", "whenCanPreempt": "TryNextFlavor"},
            "fairSharing": {"weight": "2"},
            "admissionChecksStrategy": {"admissionChecks": [{"name": "ask", "onFlavors": ["f"]}]},
            "resourceGroups": [
                {
                    "coveredResources": ["cpu", "memory"],
                    "flavors": [
                        {
                            "name": "f",
                            "resources": [
                                {"name": "cpu", "nominalQuota": "9", "borrowingLimit": "1", "lendingLimit": "1"},
                                {"name": "memory", "nominalQuota": "36Gi"},
                            ],
                        }
                    ],
                }
            ],
        },
    }
    kubectl(served, "create", "--validate=strict", "-f", "-", stdin=json.dumps(queue))
    live = json.loads(kubectl(served, "get", "clusterqueue", "q", "-o", "json"))
    assert _covers(live["spec"], queue["spec"])


def _covers(live: Any, wanted: Any) -> bool:
    if isinstance(wanted, dict):
        return isinstance(live, dict) and all(
            key in live and _covers(live[key], value) for key, value in wanted.items()
        )
    if isinstance(wanted, list):
        return len(live) == len(wanted) and all(map(_covers, live, wanted))
    return bool(str(live) == str(wanted))
