"""What a job asks for, and what is refused by its field."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from jobs_world import CREATED, fleet_job, plain_job

from hub.api import names
from hub.api.errors import InvalidObjectError
from hub.jobs.spec import JobSpec, Retry, is_ours


def _set(obj: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    obj = copy.deepcopy(obj)
    *parents, last = path.split(".")
    place: Any = obj
    for part in parents:
        place = place[int(part)] if part.isdecimal() else place.setdefault(part, {})
    place[int(last) if last.isdecimal() else last] = value
    return obj


def test_the_defaults_of_a_fleet_job() -> None:
    spec = JobSpec.from_fleet_job(fleet_job())
    assert (spec.tasks, spec.parallelism, spec.queue, spec.created) == (1, 1, "default", CREATED)
    assert (spec.retry, spec.key, spec.suspend, spec.cancelled) == (Retry(1, True), "lab/train", False, "")
    assert spec.rule is not None
    assert spec.rule.namespace == "lab"
    assert spec.labels[names.JOB_KIND] == "FleetJob"


def test_everything_a_fleet_job_says_is_read() -> None:
    spec = JobSpec.from_fleet_job(
        fleet_job(
            tasks=8,
            parallelism=99,
            queueName="research",
            priorityClassName="batch",
            suspend=True,
            gpu={"count": 2, "models": ["H100", "A100"], "minMemory": "40Gi"},
            expectedDuration="20m",
            activeDeadline="2h",
            ttlSecondsAfterFinished=60,
            retry={"limitPerTask": 3, "elsewhere": False, "onExitCodes": {"in": [1, 137]}},
            placement={"clusterSets": ["gpu"]},
        )
    )
    assert (spec.parallelism, spec.queue, spec.priority_class, spec.suspend) == (8, "research", "batch", True)
    assert (spec.shape.gpus, spec.shape.gpu_models, spec.shape.gpu_min_memory) == (2, ("A100", "H100"), 40 * 2**30)
    assert (spec.expected_duration, spec.slice_deadline, spec.job_deadline, spec.ttl) == (1200, 7200, None, 60)
    assert spec.retry == Retry(3, False, only=frozenset({1, 137}))
    assert spec.rule is not None
    assert spec.rule.sets == ("gpu",)


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        ("spec", None, "spec"),
        ("metadata", None, "metadata"),
        ("metadata.name", "x" * 64, "metadata.name"),
        ("spec.template.spec.containers", [], "spec.template.spec.containers"),
        ("spec.template.spec.containers", [{"image": "a"}], "spec.template.spec.containers[0].name"),
        ("spec.template.spec.containers.0.resources", {"requests": {"cpu": "two"}},
         "spec.template.spec.containers[0].resources.requests.cpu"),
        ("spec.template.spec.restartPolicy", "Always", "spec.template.spec.restartPolicy"),
        ("spec.gpu", {"count": 1, "models": ["A100", " "]}, "spec.gpu.models[1]"),
        ("spec.gpu", {"count": 0, "models": ["A100"]}, "spec.gpu.count"),
        ("spec.gpu", {"count": -1}, "spec.gpu.count"),
        ("spec.gpu", {"share": "500m", "count": 2}, "spec.gpu.count"),
        ("spec.gpu", {"share": "1500m"}, "spec.gpu.share"),
        ("spec.gpu", {"minMemory": "lots"}, "spec.gpu.minMemory"),
        ("spec.gpu", "one", "spec.gpu"),
        ("spec.tasks", 0, "spec.tasks"),
        ("spec.tasks", 100_001, "spec.tasks"),
        ("spec.parallelism", "many", "spec.parallelism"),
        ("spec.activeDeadline", "soon", "spec.activeDeadline"),
        ("spec.activeDeadline", "0s", "spec.activeDeadline"),
        ("spec.retry", {"limitPerTask": 0}, "spec.retry.limitPerTask"),
        ("spec.retry", {"onExitCodes": {"in": [1], "notIn": [2]}}, "spec.retry.onExitCodes"),
        ("spec.placement", {"predicates": [{"requiredClusterSelector": {"labelSelector": {
            "matchExpressions": [{"key": "a", "operator": "Near"}]}}}]}, "spec.placement"),
    ],
)  # fmt: skip
def test_what_a_fleet_job_cannot_mean_is_refused_by_field(path: str, value: Any, field: str) -> None:
    with pytest.raises(InvalidObjectError) as caught:
        JobSpec.from_fleet_job(_set(fleet_job(), path, value))
    assert caught.value.field == field or caught.value.field.startswith(f"{field}.")
    assert str(caught.value).startswith(caught.value.field)


def test_placement_and_a_reference_exclude_each_other() -> None:
    with pytest.raises(InvalidObjectError, match=r"spec\.placementRef"):
        JobSpec.from_fleet_job(fleet_job(placement={"clusterSets": ["a"]}, placementRef={"name": "b"}))


@pytest.mark.parametrize(
    ("limits", "retry"),
    [
        ({}, Retry(7, failures=6)),
        ({"backoffLimit": 0}, Retry(1, failures=0)),
        ({"backoffLimitPerIndex": 2}, Retry(3)),
        ({"backoffLimitPerIndex": 2, "backoffLimit": 5, "maxFailedIndexes": 1}, Retry(3, failures=5, failed_tasks=1)),
    ],
)
def test_backoff_limits_of_a_plain_job(limits: dict[str, int], retry: Retry) -> None:
    assert JobSpec.from_job(plain_job(completions=4, **limits)).retry == retry


def test_a_plain_job_is_the_same_job() -> None:
    job = plain_job(completions=4, parallelism=2, activeDeadlineSeconds=60, completionMode="NonIndexed")
    job["metadata"]["labels"][names.PRIORITY_CLASS] = "high"
    spec = JobSpec.from_job(job)
    assert (spec.tasks, spec.parallelism, spec.queue, spec.priority_class) == (4, 2, "research", "high")
    assert (spec.indexed, spec.job_deadline, spec.slice_deadline, spec.suspend) == (False, 60, 60, False)
    # A FleetJob of the same name is another job.
    assert spec.key != JobSpec.from_fleet_job(fleet_job()).key
    assert spec.key == "lab/job-train-3f2a9c4e"


def test_parallelism_zero_pauses_a_plain_job() -> None:
    assert JobSpec.from_job(plain_job(completions=4, parallelism=0)).suspend


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"manualSelector": True}, "spec.manualSelector"),
        ({"podFailurePolicy": {"rules": [{}]}}, "spec.podFailurePolicy"),
        ({"successPolicy": {"rules": [{}]}}, "spec.successPolicy"),
        ({"parallelism": 3}, "spec.completions"),
        ({"completions": -1}, "spec.completions"),
        ({"backoffLimit": "6"}, "spec.backoffLimit"),
    ],
)
def test_what_a_plain_job_cannot_have_is_refused_by_field(spec: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidObjectError) as caught:
        JobSpec.from_job(plain_job(**spec))
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("change", "ours"),
    [
        ({}, True),
        ({"suspend": False}, False),
        ({"suspend": False, "managedBy": names.MANAGED_BY}, True),
        ({"managedBy": "kueue.x-k8s.io/multikueue"}, False),
    ],
)
def test_which_plain_jobs_are_ours(change: dict[str, Any], ours: bool) -> None:
    job = plain_job(**change)
    assert is_ours(job) is ours
    del job["metadata"]["labels"]
    assert not is_ours(job)
