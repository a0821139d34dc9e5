"""I, K of what scorers must do: an agent needs no admin's rights, what is built in can be tried without a fleet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from hub.cli.main import main
from hub.scoring.builtin import default_scorers

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ROOT / "manifests" / "scores"
NOW = 1767225600
Json = dict[str, Any]


def rules(path: Path) -> list[Json]:
    documents = [document for document in yaml.safe_load_all(path.read_text()) if document]
    assert not any((document.get("roleRef") or {}).get("name") == "cluster-admin" for document in documents), path
    return [rule for document in documents for rule in document.get("rules") or ()]


def test_i_an_agent_that_asks_scorers_needs_no_admins_rights() -> None:
    roles = sorted((ROOT / "manifests" / "agent" / "base").glob("*.yaml"))
    found = [rule for path in roles for rule in rules(path)]
    found += rules(ROOT / "manifests" / "hub" / "base" / "agent-roles.yaml")
    assert any("clusterscorings/status" in rule["resources"] for rule in found)
    for rule in found:
        assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]], rule
        if "secrets" in rule["resources"]:
            # Read by name, and only where somebody binds the role.
            assert rule["verbs"] == ["get"]
    bound = [
        document["roleRef"]["name"]
        for path in roles
        for document in yaml.safe_load_all(path.read_text())
        if document and document.get("kind") in ("RoleBinding", "ClusterRoleBinding")
    ]
    assert "quarterdeck-agent-scorer-secrets" not in bound


def run(*arguments: object) -> None:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    assert ended.value.code in (0, None)


def answered(tmp_path: Path, capsys: pytest.CaptureFixture[str], source: Path | Json, data: Json) -> list[Json]:
    file, recorded = tmp_path / "source.yaml", tmp_path / "data.json"
    file.write_text(source.read_text() if isinstance(source, Path) else json.dumps(source))
    recorded.write_text(json.dumps(data))
    capsys.readouterr()
    run("score", "test", file, "--data", recorded, "--now", "2026-01-01T00:00:00Z", "-o", "json")
    (result,) = json.loads(capsys.readouterr().out)
    found: list[Json] = result["clusters"]
    return found


@pytest.mark.parametrize(
    "name", ["gpu-headroom", "gpu-memory", "utilisation", "queue-wait", "gpu-energy", "cost", "failure-rate"]
)
def test_k_what_is_built_in_as_a_query_is_tried_with_a_recorded_answer(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    low, high = (0.2, 0.6) if name == "failure-rate" else (20.0, 60.0)
    result = [{"metric": {"cluster": c}, "value": [NOW, str(value)]} for c, value in (("ash", low), ("elm", high))]
    data = {"status": "success", "data": {"resultType": "vector", "result": result}}
    clusters = answered(tmp_path, capsys, SOURCES / f"{name}.yaml", data)
    assert {row["cluster"]: row["raw"] for row in clusters} == {"ash": low, "elm": high}
    lower = yaml.safe_load((SOURCES / f"{name}.yaml").read_text())["spec"].get("direction") == "lower"
    assert clusters[0]["cluster"] == ("ash" if lower else "elm")
    assert clusters[0]["normalised"] > clusters[1]["normalised"]


def test_k_what_is_built_in_as_code_is_there() -> None:
    assert {"Price", "Energy", "Carbon", "DataLocality", "FailureRate"} <= {e.scorer.name for e in default_scorers()}


def test_k_a_forecast_is_tried_with_a_recorded_matrix(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A line that rises by two an hour goes on for three hours."""
    source = {
        "apiVersion": "fleet.quarterdeck.dev/v1alpha1",
        "kind": "ScoreSource",
        "metadata": {"name": "soon"},
        "spec": {
            "promQL": "x",
            "direction": "lower",
            "forecast": {"horizon": "3h", "history": "168h", "step": "1h", "season": "24h", "method": "regression"},
        },
    }
    hours = range(168)
    result = [
        {"metric": {"cluster": c}, "values": [[NOW - 3600 * (167 - h), str(start + rise * h)] for h in hours]}
        for c, start, rise in (("ash", 0.0, 2.0), ("elm", 500.0, 0.0))
    ]
    data = {"status": "success", "data": {"resultType": "matrix", "result": result}}
    raw = {row["cluster"]: row["raw"] for row in answered(tmp_path, capsys, source, data)}
    assert raw["ash"] == pytest.approx(2.0 * 170, rel=0.01)
    assert raw["elm"] == pytest.approx(500.0, rel=0.01)
