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
from hub.queueing.kueue.settings import FINAL, INITIAL, UsageHistory
from hub.queueing.kueue.transforms import Counted, Transformation

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


def _remarks(tmp_path: Path, **more: Any) -> dict[str, str]:
    path = tmp_path / "kueue.yaml"
    path.write_text(yaml.safe_dump({**KUEUE, **more}))
    assert load_config(path).queue.mode == "kueue"
    return {remark.field: "process" if remark.process else remark.said for remark in read_document(path)[1]}


def test_what_is_about_kueues_process_is_told(tmp_path: Path) -> None:
    said = _remarks(
        tmp_path,
        metrics={"bindAddress": ":8443"},
        integrations={"frameworks": ["batch/job"]},
        clientConnection={"qps": 50, "burst": 100},
        manageJobsWithoutQueueName=False,
    )
    assert said == {"clientConnection": "process", "metrics": "process"}


@pytest.mark.parametrize(
    ("more", "field", "words"),
    [
        ({"manageJobsWithoutQueueName": True}, "manageJobsWithoutQueueName", "left alone"),
        ({"managedJobsNamespaceSelector": {"matchLabels": {"a": "b"}}}, "managedJobsNamespaceSelector", "queue name"),
        ({"integrations": {"frameworks": ["batch/job", "ray.io/rayjob"]}}, "integrations.frameworks", "batch/job"),
        ({"integrations": {"externalFrameworks": ["Foo.v1.x"]}}, "integrations.externalFrameworks", "get quota"),
        ({"integrations": {"labelKeysToCopy": ["a"]}}, "integrations.labelKeysToCopy", "not copied"),
        ({"multiKueue": {"gcInterval": "0s"}}, "multiKueue.gcInterval", "nothing to collect"),
        ({"multiKueue": {"workerLostTimeout": "5m"}}, "multiKueue.workerLostTimeout", "leases.grace"),
        ({"multiKueue": {"dispatcherName": "x/y"}}, "multiKueue.dispatcherName", "placed once"),
        (
            {"objectRetentionPolicies": {"workloads": {"afterFinished": "0s"}}},
            "objectRetentionPolicies.workloads.afterFinished",
            "ttlSecondsAfterFinished",
        ),
        (
            {"objectRetentionPolicies": {"workloads": {"afterDeactivatedByKueue": "1h"}}},
            "objectRetentionPolicies.workloads.afterDeactivatedByKueue",
            "kept",
        ),
        (
            {"resources": {"deviceClassMappings": [{"name": "gpu", "deviceClassNames": ["g"]}]}},
            "resources.deviceClassMappings",
            "not counted",
        ),
        ({"featureGates": {"PriorityBoost": True}}, "featureGates.PriorityBoost", "no gates"),
        ({"admissionFairSharing": {}}, "admissionFairSharing.usageHalfLifeTime", "nothing is remembered"),
        (
            {"admissionFairSharing": {"usageHalfLifeTime": "0h0m0s"}},
            "admissionFairSharing.usageHalfLifeTime",
            "nothing is remembered",
        ),
    ],
)
def test_what_is_done_otherwise_is_said_by_its_field(
    tmp_path: Path, more: dict[str, Any], field: str, words: str
) -> None:
    said = _remarks(tmp_path, **more)
    assert list(said) == [field]
    assert words in said[field]


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"fairSharin": {}}, "fairSharin"),
        ({"multiKueue": {"gcIntervall": "1m"}}, "multiKueue.gcIntervall"),
        ({"integrations": ["batch/job"]}, "integrations"),
        ({"objectRetentionPolicies": {"jobs": {}}}, "objectRetentionPolicies.jobs"),
        ({"waitForPodsReady": {"timeoutt": "1m"}}, "queue.waitForPodsReady.timeoutt"),
        ({"waitForPodsReady": {"requeuingStrategy": {"jitter": 1}}}, "queue.waitForPodsReady.requeuingStrategy.jitter"),
        ({"admissionFairSharing": {"halfLife": "1h"}}, "queue.admissionFairSharing.halfLife"),
        ({"resources": {"transformations": [{"input": "a", "output": {}}]}}, "queue.resources.transformations"),
        ({"resources": {"quotaCheckStrategy": "Maybe"}}, "queue.resources.quotaCheckStrategy"),
        ({"fairSharing": {"preemptionStrategy": []}}, "queue.fairSharing.preemptionStrategy"),
        ({"apiVersion": "config.kueue.x-k8s.io/v1alpha2"}, "apiVersion"),
    ],
)
def test_what_kueue_has_not_is_a_mistake(more: dict[str, Any], field: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_config({**KUEUE, **more})
    assert str(caught.value.field).startswith(field)


def test_every_field_that_decides_is_taken() -> None:
    again = {"timestamp": "Creation", "backoffBaseSeconds": 5, "backoffMaxSeconds": 50, "backoffLimitCount": 3}
    outputs = {"example.com/credits": "10"}
    transformation = {"input": "nvidia.com/gpu", "strategy": "Replace", "multiplyBy": "pods", "outputs": outputs}
    queue = parse_config(
        {
            **KUEUE,
            "fairSharing": {"preemptionStrategies": [INITIAL]},
            "admissionFairSharing": {
                "usageHalfLifeTime": "2h", "usageSamplingInterval": "1m", "resourceWeights": {"cpu": 0.5},
            },
            "waitForPodsReady": {
                "timeout": "7m", "recoveryTimeout": "0s", "blockAdmission": True, "requeuingStrategy": again,
            },
            "resources": {
                "excludeResourcePrefixes": ["example.com/x"], "transformations": [transformation],
                "quotaCheckStrategy": "IgnoreUndeclared",
            },
        }
    ).queue  # fmt: skip
    settings = queue.settings
    assert settings.strategies == (INITIAL,)
    assert settings.history == UsageHistory(7200.0, 60.0, {"cpu": 0.5})
    # No time to recover is Kueue's way to say that nobody waits for it.
    assert queue.ready == PodsReady(420.0, None, 5.0, 50.0, 3, True, False)
    assert settings.counted == Counted(
        ("example.com/x",),
        {"nvidia.com/gpu": Transformation((("example.com/credits", 10 * 10**9),), True, "pods")},
        True,
    )


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
