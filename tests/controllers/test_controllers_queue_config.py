"""The queue's part of the configuration: defaults, Kueue's own file, and mistakes that are named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from hub.api.errors import UsageError
from hub.controllers.config import load_config, parse_config, read_document
from hub.jobs.limits import PodsReady
from hub.queueing.fleet.policy import FleetPolicy
from hub.queueing.kueue.settings import FINAL, INITIAL

KUEUE: dict[str, Any] = {"apiVersion": "config.kueue.x-k8s.io/v1beta2", "kind": "Configuration"}


def test_an_empty_file_is_mode_fleet_with_nothing_extra() -> None:
    queue = parse_config({}).queue
    assert (queue.mode, queue.policy, queue.ready, queue.idle) == ("fleet", FleetPolicy(), None, None)


def test_all_that_can_be_said_of_a_policy() -> None:
    queue = parse_config(
        {
            "queue": {
                "fairSharing": {"preemptionStrategies": ["LessThanInitialShare"]},
                "minimumRuntime": "5m", "preemptionBudget": None, "notice": "1m", "backfill": False,
                "protectedStart": None,
                "waitForPodsReady": {
                    "timeout": "2m", "blockAdmission": True,
                    "requeuingStrategy": {"timestamp": "Creation", "backoffBaseSeconds": 5, "backoffLimitCount": 0},
                },
                "idle": {"below": 5, "for": "1h", "action": "demote"},
            }
        }
    ).queue  # fmt: skip
    assert queue.policy == FleetPolicy((INITIAL,), 300.0, None, 60.0, None, False)
    assert queue.ready == PodsReady(120.0, 120.0, 5.0, 3600.0, 0, True, False)
    assert queue.idle is not None
    assert (queue.idle.for_, queue.idle.action) == (3600.0, "demote")


@pytest.mark.parametrize(
    ("more", "fair", "ready"),
    [
        ({}, (), PodsReady(1800.0, 1800.0)),
        ({"fairSharing": {}}, (FINAL, INITIAL), PodsReady(1800.0, 1800.0)),
        ({"apiVersion": "config.kueue.x-k8s.io/v1beta1"}, (), None),
        ({"apiVersion": "config.kueue.x-k8s.io/v1beta1", "fairSharing": {}}, (), None),
        (
            {
                "apiVersion": "config.kueue.x-k8s.io/v1beta1",
                "fairSharing": {"enable": True, "preemptionStrategies": [FINAL]},
                "waitForPodsReady": {"enable": True, "timeout": "10m", "recoveryTimeout": "1m"},
            },
            (FINAL,),
            PodsReady(600.0, 60.0),
        ),
    ],
)
def test_kueues_own_file_is_a_queue_in_mode_kueue(more: dict[str, Any], fair: tuple[str, ...], ready: Any) -> None:
    queue = parse_config({**KUEUE, **more}).queue
    assert (queue.mode, queue.settings.strategies, queue.ready, queue.policy.notice) == ("kueue", fair, ready, 0.0)


def test_what_is_about_kueues_process_is_told(tmp_path: Path) -> None:
    path = tmp_path / "kueue.yaml"
    path.write_text(yaml.safe_dump({**KUEUE, "metrics": {"bindAddress": ":8443"}, "integrations": {"frameworks": []}}))
    assert read_document(path)[1] == ("integrations", "metrics")
    assert load_config(path).queue.mode == "kueue"


@pytest.mark.parametrize(
    ("queue", "field", "words"),
    [
        ({"mode": "both"}, "queue.mode", "fleet"),
        ({"minimumRuntim": "1s"}, "queue.minimumRuntim", "known here"),
        ({"idle": {"for": "1h"}}, "queue.idle.below", "required"),
        ({"idle": {"below": 101}}, "queue.idle.below", "100"),
        ({"waitForPodsReady": {"timeout": "0s"}}, "queue.waitForPodsReady.timeout", "greater"),
        ({"fairSharing": {"preemptionStrategies": [INITIAL, FINAL]}}, "queue.fairSharing", "allowed"),
        ({"admissionFairSharing": {"resourceWeights": {"cpu": -1}}}, "queue.admissionFairSharing", "-1"),
    ],
)
def test_a_mistake_is_named_by_field(queue: dict[str, Any], field: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_config({"queue": queue})
    assert str(caught.value.field).startswith(field)
    assert words in str(caught.value)
