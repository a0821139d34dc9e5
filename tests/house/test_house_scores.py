"""The catalogue of score sources: its rules pass Prometheus's own tests, its objects are accepted and ask for rules."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from hub.api.validation import load_objects
from hub.fleet.shape import TaskShape
from hub.placement.score_sources import source_scorer
from hub.scoring.builtin import default_scorers
from hub.scoring.interface import lower_is_better
from hub.scoring.mix import ShapeMix, Typical

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "manifests" / "prometheus" / "quarterdeck-rules.yaml"
SOURCES = sorted((ROOT / "manifests" / "scores").glob("*.yaml"))


@pytest.mark.prometheus
@pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool on PATH")
def test_the_recording_rules_pass_promtool() -> None:
    done = subprocess.run(
        ["promtool", "test", "rules", str(RULES.with_suffix(".test.yaml"))], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_there_is_a_source_for_every_score_that_is_recorded() -> None:
    recorded = {
        rule["record"] for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]
    }  # fmt: skip
    asked = {yaml.safe_load(path.read_text())["spec"]["promQL"] for path in SOURCES}
    assert asked <= recorded
    # What only a filter can use is no source.
    assert {name for name in recorded if name.startswith("fleet:score_")} - asked == {
        "fleet:score_gpu_headroom_largest_node"
    }


def test_every_rule_is_tested_and_every_score_is_on_the_page() -> None:
    rules = yaml.safe_load(RULES.read_text())["groups"]
    recorded = {rule["record"] for group in rules for rule in group["rules"]}
    (tests,) = yaml.safe_load(RULES.with_suffix(".test.yaml").read_text())["tests"]
    tried = {test["expr"] for test in tests["promql_expr_test"]}
    # What others are made of is tested by them.
    inner = {"fleet:node_usable", "fleet:pod_live", "fleet:node_gpu_slots", "fleet:node_gpu_slots_free"}
    assert recorded - tried == inner | {"fleet:gpu_power_watts", "fleet:gpu_sick"}
    page = (ROOT / "docs" / "scorers" / "catalogue.md").read_text()
    assert [name for name in sorted(recorded) if name.startswith("fleet:score_") and name not in page] == []
    assert [path.stem for path in SOURCES if f"| `{path.stem}` |" not in page] == []


def test_every_scorer_of_the_hub_is_on_the_page_with_its_weight() -> None:
    page = (ROOT / "docs" / "scorers" / "catalogue.md").read_text()
    shape = TaskShape((("nvidia.com/gpu", 1),))
    for entry in default_scorers(ShapeMix((Typical(shape, 1.0),))):
        row = next((line for line in page.splitlines() if line.startswith(f"| `{entry.scorer.name}` |")), "")
        assert row.endswith(f"| {entry.weight:g} |"), entry.scorer.name
        better = "less" if lower_is_better(entry.scorer) else "more"
        assert f"| {better} |" in row, entry.scorer.name


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_every_source_is_accepted_and_called_as_its_file(path: Path) -> None:
    (source,) = load_objects(path.read_text(), str(path))
    assert source_scorer(source).scorer.name == path.stem
