"""The queue's recording rules and alerts: they pass Prometheus's own tests, and ask for metrics that the hub has."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from hub.controllers.metrics.all import HubMetrics

RULES = Path(__file__).resolve().parents[2] / "manifests" / "prometheus" / "quarterdeck-queue-rules.yaml"


@pytest.mark.prometheus
@pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool on PATH")
def test_they_pass_promtool() -> None:
    done = subprocess.run(
        ["promtool", "test", "rules", str(RULES.with_suffix(".test.yaml"))], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_metric_is_the_hubs_or_recorded_before() -> None:
    known: set[str] = set()
    for metric in HubMetrics().registry.collect():
        known |= {metric.name, f"{metric.name}_total"}
    for group in yaml.safe_load(RULES.read_text())["groups"]:
        for rule in group["rules"]:
            assert set(re.findall(r"quarterdeck[:_][a-z0-9_]+", rule["expr"])) <= known
            known.add(rule.get("record", ""))
