"""Decisions of the real scheduler, one cycle each, and that ours do not depend on how the input lies."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hub.api.quantity import Quantity
from hub.cli.plan_input import Settings
from hub.server.reading import Source

_CASES = [json.loads(line) for line in (Path(__file__).parent / "data" / "kueue_cases.jsonl").read_text().splitlines()]


def _decide(case: dict[str, Any], objects: list[Any], cycles: str = "1") -> dict[str, Any]:
    return Settings.read(case["now"], cycles, None, "kueue").decide([Source(obj) for obj in objects])


def _admission(admission: dict[str, Any]) -> object:
    return admission["clusterQueue"], sorted(
        (
            part["name"],
            part["count"],
            sorted(part["flavors"].items()),
            sorted((name, Quantity(value).nano) for name, value in part["resourceUsage"].items()),
        )
        for part in admission["podSetAssignments"]
    )


@pytest.mark.parametrize("case", _CASES, ids=lambda case: case["case"])
def test_decides_as_the_real_one(case: dict[str, Any]) -> None:
    cycle = _decide(case, case["input"]["items"])["cycles"][0]
    expected = case["expected"]
    assert {e["workload"]: _admission(e["admission"]) for e in cycle["admitted"]} == {
        e["workload"]: _admission(e["admission"]) for e in expected["admitted"]
    }
    assert {e["workload"]: (e["reason"], e["clusterQueue"]) for e in cycle["preempted"]} == {
        e["workload"]: (e["reason"], e["clusterQueue"]) for e in expected["preempted"]
    }


@pytest.mark.parametrize("case", _CASES[::6], ids=lambda case: case["case"])
def test_the_order_of_the_input_does_not_matter(case: dict[str, Any]) -> None:
    shuffled = list(case["input"]["items"])
    random.Random(7).shuffle(shuffled)
    assert _decide(case, shuffled, "8") == _decide(case, case["input"]["items"], "8")


def test_the_same_bytes_under_any_hash_seed(tmp_path: Path) -> None:
    for case in (_CASES[17], _CASES[49]):
        (tmp_path / f"{case['case']}.json").write_text(json.dumps(case["input"]))
    command = [sys.executable, "-m", "hub.cli", "plan", "--each", "-f", str(tmp_path), "-o", "json"]
    command += ["--mode", "kueue", "--now", _CASES[0]["now"], "--cycles", "5"]
    answers = {
        subprocess.run(
            command, env=os.environ | {"PYTHONHASHSEED": seed}, check=True, capture_output=True, timeout=60
        ).stdout
        for seed in ("0", "77")
    }
    assert len(answers) == 1
    assert b'"preempted":[{' in answers.pop()
