"""Corners of Kueue's rules that only a comparison with the real scheduler shows, each on the smallest input."""

from __future__ import annotations

from typing import Any

import pytest
from kueue_objects import cluster_queue, cpu_queue, flavor, group, local_queue, quota

from hub.cli.plan_input import Settings
from hub.server.reading import Source

_NOW = "2026-01-01T00:00:00Z"


def workload(
    name: str, queue: str, *, priority: int = 0, at: str = "2025-12-31T23:00:00Z", held: bool = False, **requests: str
) -> dict[str, Any]:
    """One pod; `held`: it has its quota, of the flavor "default"."""
    pods = {"containers": [{"name": "c", "image": "i", "resources": {"requests": requests}}], "restartPolicy": "Never"}
    obj: dict[str, Any] = {
        "apiVersion": "kueue.x-k8s.io/v1beta2",
        "kind": "Workload",
        "metadata": {"name": name, "namespace": "default", "uid": name, "creationTimestamp": at},
        "spec": {
            "podSets": [{"name": "main", "count": 1, "template": {"spec": pods}}],
            "priority": priority,
            "queueName": queue,
        },
    }
    if held:
        obj["status"] = {
            "admission": {
                "clusterQueue": queue,
                "podSetAssignments": [
                    {
                        "name": "main",
                        "count": 1,
                        "flavors": dict.fromkeys(requests, "default"),
                        "resourceUsage": requests,
                    }
                ],
            },
            "conditions": [
                {"type": kind, "status": "True", "reason": kind, "message": "", "lastTransitionTime": at}
                for kind in ("QuotaReserved", "Admitted")
            ],
        }
    return obj


def decide(*objects: dict[str, Any], cycles: int = 1, **configuration: Any) -> list[dict[str, Any]]:
    """Cycles of a plan; every ClusterQueue has a LocalQueue of its name."""
    given = [flavor("default"), *objects]
    given += [local_queue(o["metadata"]["name"], o["metadata"]["name"]) for o in objects if o["kind"] == "ClusterQueue"]
    given.append({"apiVersion": "config.kueue.x-k8s.io/v1beta2", "kind": "Configuration"} | configuration)
    plan = Settings.read(_NOW, str(cycles), None, "kueue").decide([Source(obj) for obj in given])
    cycles_: list[dict[str, Any]] = plan["cycles"]
    return cycles_


def names(rows: list[dict[str, Any]]) -> list[str]:
    return [str(row["workload"]).removeprefix("default/") for row in rows]


def test_what_is_asked_for_as_zero_has_a_flavor() -> None:
    queue = cluster_queue("q", group(("default", [quota("cpu", 1), quota("memory", "1Gi")])))
    (cycle,) = decide(queue, workload("one", "q", cpu="1", memory="0"))
    (part,) = cycle["admitted"][0]["admission"]["podSetAssignments"]
    assert part["flavors"] == {"cpu": "default", "memory": "default"}
    assert part["resourceUsage"] == {"cpu": "1", "memory": "0"}


def test_zero_of_what_no_group_covers_is_no_obstacle() -> None:
    (cycle,) = decide(cpu_queue("q", 1), workload("one", "q", cpu="1", **{"example.com/x": "0"}))
    assert names(cycle["admitted"]) == ["one"]
    assert cycle["admitted"][0]["admission"]["podSetAssignments"][0]["flavors"] == {"cpu": "default"}


@pytest.mark.parametrize("active", [True, False])
def test_who_was_deactivated_holds_nothing(active: bool) -> None:
    held = workload("held", "q", cpu="1", held=True)
    held["spec"]["active"] = active
    (cycle,) = decide(cpu_queue("q", 1), held, workload("waits", "q", cpu="1"))
    assert names(cycle["admitted"]) == ([] if active else ["waits"])


@pytest.mark.parametrize("overdrawn", [True, False])
def test_a_head_of_a_queue_beyond_its_limit_reserves_less_than_nothing(overdrawn: bool) -> None:
    """What it holds beyond quota and limit is taken off its queue's usage, and so is missing when victims leave."""
    objects = [
        cpu_queue("over", 2, 4, 1, cohort="c"),
        cpu_queue(
            "next",
            5,
            cohort="c",
            preemption={"reclaimWithinCohort": "LowerPriority", "borrowWithinCohort": {"policy": "LowerPriority"}},
        ),
        workload("all", "over", cpu="7", priority=-10, held=True),
        workload("wants", "next", cpu="6"),
    ]
    if overdrawn:
        objects.append(workload("stuck", "over", cpu="1", priority=100))
    (cycle,) = decide(*objects)
    assert names(cycle["preempted"]) == ([] if overdrawn else ["all"])


@pytest.mark.parametrize("strategy", ["LessThanInitialShare", "LessThanOrEqualToFinalShare"])
def test_who_uses_more_than_its_own_of_what_nobody_lends_may_be_taken_from(strategy: str) -> None:
    """It has no share, for nothing of it can be lent, and borrows all the same: the cohort is overdrawn by it."""
    owner = cpu_queue("owner", 1, 1, 0, cohort="c", preemption={"reclaimWithinCohort": "Any"})
    objects = [
        cpu_queue("over", 0, cohort="c"),
        owner,
        workload("all", "over", cpu="4", priority=50, held=True),
        workload("wants", "owner", cpu="1"),
    ]
    (cycle,) = decide(*objects, fairSharing={"preemptionStrategies": [strategy]})
    assert [(row["workload"], row["reason"]) for row in cycle["preempted"]] == [("default/all", "InCohortReclamation")]


@pytest.mark.parametrize("version", ["v1beta1", "v1beta2"])
def test_kinds_of_kueue_that_decide_nothing_are_no_slips_of_the_pen(version: str) -> None:
    from hub.api.validation import load_objects

    for kind in ("Topology", "ProvisioningRequestConfig"):
        text = f"{{apiVersion: kueue.x-k8s.io/{version}, kind: {kind}, metadata: {{name: one}}}}"
        assert load_objects(text, "here", recorded=True)[0]["kind"] == kind


def grown(name: str, queue: str, of: str, pods: int, **requests: str) -> dict[str, Any]:
    """A larger slice of an elastic job that runs already."""
    obj = workload(name, queue, at="2025-12-31T23:30:00Z", **requests)
    obj["spec"]["podSets"][0]["count"] = pods
    obj["metadata"]["annotations"] = {
        "kueue.x-k8s.io/elastic-job": "true",
        "kueue.x-k8s.io/workload-slice-replacement-for": f"default/{of}",
    }
    return obj


def test_a_job_that_grows_needs_only_what_is_more_and_its_slice_before_ends() -> None:
    objects = [
        cpu_queue("q", 3),
        workload("small", "q", cpu="1", held=True),
        grown("large", "q", "small", 3, cpu="1"),
        workload("next", "q", cpu="1", priority=-1),
    ]
    first, second = decide(*objects, cycles=2)
    (row,) = first["admitted"]
    assert (row["workload"], row["replaces"]) == ("default/large", "default/small")
    assert row["admission"]["podSetAssignments"][0]["resourceUsage"] == {"cpu": "3"}
    assert first["preempted"] == []
    # All three are in use: the slice before gave back what it had, no more.
    assert second["admitted"] == []


@pytest.mark.parametrize(
    ("flavors", "admitted"), [(("default", "other"), ["large"]), (("other", "default"), ["large"])]
)
def test_a_job_grows_in_the_flavor_it_has(flavors: tuple[str, str], admitted: list[str]) -> None:
    queue = cluster_queue("q", group(*((name, [quota("cpu", 3)]) for name in flavors)))
    objects = [
        queue,
        flavor("other"),
        workload("small", "q", cpu="1", held=True),
        grown("large", "q", "small", 3, cpu="1"),
    ]
    (cycle,) = decide(*objects)
    assert names(cycle["admitted"]) == admitted
    assert cycle["admitted"][0]["admission"]["podSetAssignments"][0]["flavors"] == {"cpu": "default"}


def test_a_job_that_cannot_grow_in_its_flavor_stays_as_it_is() -> None:
    queue = cluster_queue("q", group(("default", [quota("cpu", 2)]), ("other", [quota("cpu", 9)])))
    objects = [
        queue,
        flavor("other"),
        workload("small", "q", cpu="1", held=True),
        grown("large", "q", "small", 3, cpu="1"),
    ]
    (cycle,) = decide(*objects)
    assert cycle["admitted"] == []
    (row,) = cycle["pending"]
    assert "the slice that it takes the place of has another flavor than other" in row["message"]


def test_preempting_for_growth_spares_the_slice_before() -> None:
    preemption = {"withinClusterQueue": "LowerPriority"}
    large = grown("large", "q", "small", 2, cpu="1")
    large["spec"]["priority"] = 10
    objects = [
        cpu_queue("q", 2, preemption=preemption),
        workload("small", "q", cpu="1", priority=10, held=True),
        workload("low", "q", cpu="1", held=True),
        large,
    ]
    first, second = decide(*objects, cycles=2)
    assert names(first["preempted"]) == ["low"]
    assert names(second["admitted"]) == ["large"]
