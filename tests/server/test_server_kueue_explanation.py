"""`plan --mode kueue --explain`: the place in the queue, the quota path, the flavors, and what would admit it."""

from __future__ import annotations

from typing import Any

import pytest

from hub.api.errors import UsageError
from hub.cli.plan_input import Settings
from hub.server.reading import Source

_API = "kueue.x-k8s.io/v1beta2"


def obj(kind: str, name: str, spec: dict[str, Any], **more: Any) -> dict[str, Any]:
    meta = {"name": name, "namespace": "default"} if kind in ("LocalQueue", "Workload") else {"name": name}
    return {"apiVersion": _API, "kind": kind, "metadata": meta | more.pop("metadata", {}), "spec": spec} | more


def queue(name: str, cpu: dict[str, int], cohort: str = "", **spec: Any) -> dict[str, Any]:
    flavors = [{"name": f, "resources": [{"name": "cpu", "nominalQuota": n}]} for f, n in cpu.items()]
    body = {"namespaceSelector": {}, "resourceGroups": [{"coveredResources": ["cpu"], "flavors": flavors}]} | spec
    return obj("ClusterQueue", name, body | ({"cohortName": cohort} if cohort else {}))


def workload(name: str, cpu: int, lq: str = "q", at: int = 0, priority: int = 0, **pod: Any) -> dict[str, Any]:
    pod_spec = {"containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu}}}]} | pod
    spec = {"queueName": lq, "priority": priority}
    spec["podSets"] = [{"name": "main", "count": 1, "template": {"spec": pod_spec}}]
    return obj("Workload", name, spec, metadata={"uid": name, "creationTimestamp": f"2025-12-31T23:00:{at:02d}Z"})


def holding(name: str, cpu: int, flavor: str, priority: int = 0) -> dict[str, Any]:
    held = workload(name, cpu, priority=priority)
    part = {"name": "main", "count": 1, "flavors": {"cpu": flavor}, "resourceUsage": {"cpu": cpu}}
    when = {"status": "True", "reason": "R", "message": "", "lastTransitionTime": "2025-12-31T23:30:00Z"}
    return held | {
        "status": {
            "admission": {"clusterQueue": "q", "podSetAssignments": [part]},
            "conditions": [{"type": "QuotaReserved"} | when],
        }
    }


def explained(key: str, *objects: dict[str, Any], cycles: int = 1) -> dict[str, Any]:
    given = [
        obj("ResourceFlavor", "spot", {"nodeTaints": [{"key": "spot", "effect": "NoSchedule"}]}),
        obj("ResourceFlavor", "paid", {}),
        obj("LocalQueue", "q", {"clusterQueue": "q"}),
        *objects,
    ]
    document = Settings.read("2026-01-01T00:00:00Z", str(cycles), None, "kueue").decide(
        [Source(one) for one in given], key=key
    )
    found: dict[str, Any] = document["explain"]
    return found


def test_who_waits_for_quota_hears_what_would_admit_it() -> None:
    found = explained(
        "default/big",
        queue("q", {"spot": 9, "paid": 2}, cohort="c"),
        queue("r", {"paid": 3}, cohort="c"),
        holding("runs", 2, "paid"),
        workload("first", 1, at=1, tolerations=[{"operator": "Exists"}], priority=1),
        workload("big", 5, at=2),
    )["workload"]
    assert (found["phase"], found["position"], found["waiting"], found["clusterQueue"]) == ("Pending", 2, 2, "q")
    assert [(row["flavor"], row["verdict"]) for row in found["flavorVerdicts"]] == [
        ("spot", "NoMatch"),
        ("paid", "NoFit"),
    ]
    assert "not tolerated" in found["flavorVerdicts"][0]["message"]
    assert [(row["node"], row["used"], row["available"]) for row in found["quota"]] == [
        ("q", "2", "3"),
        ("c", "2", "3"),
    ]
    # It is not the head of its queue, so one cycle cannot admit it, whatever the quota.
    assert found["smallestChange"] == ""


def test_the_smallest_change_was_tried() -> None:
    objects = [queue("q", {"spot": 0, "paid": 2}), holding("runs", 1, "paid"), workload("big", 4)]
    found = explained("default/big", *objects)["workload"]
    assert found["verdict"]["reason"] == "ExceedsMaxQuota"
    assert found["smallestChange"] == "raise nominalQuota of cpu of flavor paid in ClusterQueue q by 3"
    raised = [queue("q", {"spot": 0, "paid": 5}), *objects[1:]]
    again = explained("default/big", *raised)["workload"]
    assert again["phase"] == "QuotaReserved"
    assert again["verdict"]["admitted"][0]["flavors"] == {"cpu": "paid"}


def test_a_flavor_that_is_good_enough_ends_the_walk() -> None:
    found = explained("default/one", queue("q", {"paid": 2, "spot": 9}), workload("one", 1))["workload"]
    assert [(row["flavor"], row["verdict"]) for row in found["flavorVerdicts"]] == [
        ("paid", "Fits"),
        ("spot", "NotTried"),
    ]


def test_whom_it_would_preempt_and_who_is_preempted() -> None:
    objects = [
        queue("q", {"paid": 2}, preemption={"withinClusterQueue": "LowerPriority"}),
        holding("low", 2, "paid", priority=-1),
        workload("high", 2, priority=1),
    ]
    high = explained("default/high", *objects)["workload"]
    assert high["wouldPreempt"] == ["default/low"]
    assert high["verdict"]["reason"] == "WaitingForPreemptedWorkloads"
    assert [row["verdict"] for row in high["flavorVerdicts"]] == ["Preempts"]
    low = explained("default/low", *objects)["workload"]
    assert low["phase"] == "QuotaReserved"
    assert low["verdict"]["message"] == "preempted for default/high"
    assert [row["used"] for row in low["quota"]] == ["2"]


def test_who_has_no_queue_and_who_does_not_exist() -> None:
    lost = explained("default/lost", queue("q", {"paid": 2}), workload("lost", 1, lq="nowhere"))["workload"]
    assert lost["quota"] == lost["flavorVerdicts"] == []
    assert lost["verdict"]["reason"] == "Misconfigured"
    with pytest.raises(UsageError, match="no job, Workload or Placement"):
        explained("default/nobody", queue("q", {"paid": 2}))


def test_people_read_it(capsys: pytest.CaptureFixture[str]) -> None:
    from hub.cli.explanation_text import print_explanation

    print_explanation(explained("default/big", queue("q", {"spot": 1, "paid": 2}), workload("big", 4)))
    said = capsys.readouterr().out
    assert "flavors, in the order they are tried" in said
    assert "NoMatch" in said
    assert "4 cpu is more than the 2 it may have" in said
