"""The catalogue of score sources: its rules pass Prometheus's own tests, its objects are accepted and ask for rules."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from hub.api.validation import load_objects
from hub.placement.score_sources import source_scorer

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


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_every_source_is_accepted_and_called_as_its_file(path: Path) -> None:
    (source,) = load_objects(path.read_text(), str(path))
    assert source_scorer(source).scorer.name == path.stem
