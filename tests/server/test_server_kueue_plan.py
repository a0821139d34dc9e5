"""Mode kueue from objects to document: what is read of Workloads, queues and Configuration, and what is said."""

from __future__ import annotations

from typing import Any

import pytest
from plan_kueue import KUEUE, NOW, admitted, check, condition, decide, holding, kueue, queue, waits, workload

from hub.api.errors import InvalidObjectError
from hub.queueing.kueue.settings import FINAL, INITIAL, Settings, UsageHistory, read_settings


def test_the_document() -> None:
    document = decide(
        queue(3, preemption={"withinClusterQueue": "LowerPriority"}),
        workload("runs", 2, status=holding("2")),
        workload("high", 3, priority=5),
        workload("off", active=False),
        cycles="settle",
    )
    assert (document["mode"], document["settled"], len(document["cycles"])) == ("kueue", True, 4)
    first, second = document["cycles"][:2]
    assert first["preempted"] == [
        {"workload": "default/runs", "reason": "InClusterQueue", "clusterQueue": "q", "preemptor": "default/high"}
    ]
    assert [(row["workload"], row["reason"], row["inadmissible"]) for row in first["pending"]] == [
        ("default/high", "WaitingForPreemptedWorkloads", False),
        ("default/off", "Suspended", True),
    ]
    assert second["admitted"] == [
        {
            "workload": "default/high",
            "admission": {
                "clusterQueue": "q",
                "podSetAssignments": [
                    {"name": "main", "flavors": {"cpu": "default"}, "resourceUsage": {"cpu": "3"}, "count": 1}
                ],
            },
        }
    ]
    assert document["queues"] == [
        {
            "clusterQueue": "q",
            "usage": {"default": {"cpu": "3"}},
            "weightedShare": 0,
            "dominantResource": "",
            "pending": 1,
        }
    ]
    assert second["pending"][1] == {
        "workload": "default/runs",
        "clusterQueue": "q",
        "reason": "PendingEvaluation",
        "message": "has not been looked at by ClusterQueue q yet",
        "inadmissible": False,
    }


def test_what_ended_already_is_not_asked_for_nor_held() -> None:
    ended = {"reclaimablePods": [{"name": "main", "count": 2}]}
    document = decide(queue(4), workload("runs", 1, 5, holding("5", 5, **ended)), workload("next", 1, 3, ended))
    assert admitted(document) == {"next": 1}
    assert document["queues"][0]["usage"] == {"default": {"cpu": "4"}}


def test_what_has_finished_or_was_deactivated_holds_and_asks_for_nothing() -> None:
    done = holding("4", 1, condition("Finished"))
    assert admitted(decide(queue(4), workload("done", 4, status=done), workload("next", 4))) == {"next": 1}


def test_priorities_come_from_the_workload_or_its_class() -> None:
    priority_class = {"apiVersion": KUEUE, "kind": "WorkloadPriorityClass", "metadata": {"name": "gold"}, "value": 7}
    reference = {"group": "kueue.x-k8s.io", "kind": "WorkloadPriorityClass", "name": "gold"}
    document = decide(queue(), priority_class, workload("a", priority=6), workload("b", priorityClassRef=reference))
    assert list(admitted(document)) == ["b"]


def test_v1beta1_reads_the_same() -> None:
    objects = queue(4, cohort="c", flavorFungibility={"whenCanBorrow": "Borrow"})
    old = [obj | {"apiVersion": "kueue.x-k8s.io/v1beta1"} for obj in [*objects, workload("w", 2)]]
    assert admitted(decide(*old)) == {"w": 1}


@pytest.mark.parametrize(
    ("pod", "flavor"),
    [
        ({"nodeSelector": {"pool": "b"}}, "b"),
        ({"nodeSelector": {"zone": "eu"}}, "a"),
        ({"affinity": [{"key": "pool", "operator": "NotIn", "values": ["a"]}]}, "b"),
    ],
)
def test_selectors_and_affinity_choose_flavors(pod: dict[str, Any], flavor: str) -> None:
    if "affinity" in pod:
        terms = {"nodeSelectorTerms": [{"matchExpressions": pod["affinity"]}]}
        pod = {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}}
    document = decide(queue(4, flavors=("a", "b")), workload("w", pod=pod))
    part = document["cycles"][0]["admitted"][0]["admission"]["podSetAssignments"][0]
    assert part["flavors"] == {"cpu": flavor}


@pytest.mark.parametrize(
    ("evicted", "timestamp", "first"),
    [
        ("PodsReadyTimeout", "Eviction", "young"),
        ("PodsReadyTimeout", "Creation", "old"),
        ("AdmissionCheck", "Creation", "young"),
        ("Preempted", "Eviction", "old"),
    ],
)
def test_who_was_evicted_for_its_own_fault_queues_anew(evicted: str, timestamp: str, first: str) -> None:
    status = {"conditions": [condition("Evicted", evicted, "2025-12-31T23:59:00Z")]}
    young = workload("young", meta={"creationTimestamp": "2025-12-31T23:10:00Z"})
    ready = {"requeuingStrategy": {"timestamp": timestamp}}
    assert list(admitted(decide(queue(), workload("old", status=status), young, waitForPodsReady=ready))) == [first]


def test_who_backs_off_is_back_in_time() -> None:
    backoff = {"requeueState": {"count": 1, "requeueAt": "2026-01-01T00:00:02Z"}}
    never = {"conditions": [condition("Requeued", "Deactivated", status="False")]}
    document = decide(queue(), workload("w", status=backoff), workload("x", status=never), cycles="3")
    assert [admitted(document, cycle) for cycle in range(3)] == [{}, {}, {"w": 1}]
    assert waits(document, 2) == {"x": "PendingEvaluation"}


def test_a_gate_an_answer_and_a_closed_preemption_gate() -> None:
    runs = workload("runs", 4, status=holding("4"))
    waiting = [
        workload("gated", meta={"annotations": {"kueue.x-k8s.io/admission-gated-by": "example.com/gate"}}),
        workload("failed", status={"admissionChecks": [{"name": "budget", "state": "Retry"}]}),
        workload("closed", 4, priority=9, preemptionGates=[{"name": "g"}]),
    ]
    policy = {"withinClusterQueue": "LowerPriority"}
    document = decide(queue(4, preemption=policy), runs, *waiting, cycles="2")
    assert waits(document, 1) == {
        "gated": "AdmissionGated",
        "failed": "PendingEvaluation",
        "closed": "AdmissionGated",
    }
    opened = workload("closed", 4, priority=9, preemptionGates=[{"name": "g"}])
    opened["status"] = {"preemptionGates": [{"name": "g", "position": "Open"}]}
    assert len(decide(queue(4, preemption=policy), runs, opened)["cycles"][0]["preempted"]) == 1


def test_who_asks_for_more_than_its_limit_is_never_admitted() -> None:
    pod = {"containers": [{"name": "c", "resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}}]}
    document = decide(queue(), workload("w", pod=pod, priority=1), workload("next"), cycles="2")
    assert (admitted(document), admitted(document, 1)) == ({}, {"next": 1})
    assert document["cycles"][0]["pending"][1]["message"].endswith("requests.cpu: 2 is more than its limit 1")


@pytest.mark.parametrize(
    ("checks", "rules", "said"),
    [
        ([check("budget")], [{"name": "budget"}], None),
        ([check("budget", active="True")], [{"name": "budget"}], None),
        ([check("budget", active="False")], [{"name": "budget"}], "AdmissionCheck budget is not active"),
        ([], [{"name": "budget"}], "AdmissionCheck budget does not exist"),
        (
            [check("mk", "kueue.x-k8s.io/multikueue")],
            [{"name": "mk", "onFlavors": ["default"]}],
            "AdmissionCheck mk of MultiKueue cannot be for some flavors only",
        ),
        (
            [check("m", "kueue.x-k8s.io/multikueue"), check("n", "kueue.x-k8s.io/multikueue")],
            [{"name": "m"}, {"name": "n"}],
            "it has more than one admission check of MultiKueue",
        ),
        (
            [check("m", "kueue.x-k8s.io/multikueue"), check("p", "kueue.x-k8s.io/provisioning-request")],
            [{"name": "m"}, {"name": "p"}],
            "admission checks of MultiKueue and of ProvisioningRequests do not go together",
        ),
    ],
)
def test_admission_checks(checks: list[Any], rules: list[Any], said: str | None) -> None:
    document = decide(queue(admissionChecksStrategy={"admissionChecks": rules}), *checks, workload("w"))
    cycle = document["cycles"][0]
    if said is None:
        assert cycle["admitted"][0]["message"] == "waits for admission checks budget"
    else:
        assert cycle["pending"][0]["reason"] == "Suspended"
        assert cycle["pending"][0]["message"] == f"ClusterQueue q admits nothing now: {said}"


def test_a_stopped_queue_with_checks_is_stopped() -> None:
    strategy = {"admissionChecks": [{"name": "budget"}]}
    objects = queue(admissionChecksStrategy=strategy, stopPolicy="Hold")
    document = decide(objects, check("budget"), workload("w"))
    assert document["cycles"][0]["pending"][0]["message"].endswith("it is stopped (stopPolicy Hold)")


def test_past_usage_is_read_of_the_local_queues() -> None:
    objects = queue(4, admissionScope={"admissionMode": "UsageBasedAdmissionFairSharing"})
    past = {"fairSharing": {"admissionFairSharingStatus": {"consumedResources": {"cpu": "9"}, "lastUpdate": NOW}}}
    light = kueue("LocalQueue", "light", {"clusterQueue": "q", "fairSharing": {"weight": "2"}}, past)
    objects[1]["status"] = {
        "fairSharing": {"admissionFairSharingStatus": {"consumedResources": {"cpu": "5"}, "lastUpdate": NOW}}
    }
    waiting = [
        workload("heavy"),
        workload("light", queueName="light", meta={"creationTimestamp": "2025-12-31T23:59:00Z"}),
    ]
    history = {"usageHalfLifeTime": "168h", "usageSamplingInterval": "5m"}
    assert list(admitted(decide(objects, light, *waiting, admissionFairSharing=history))) == ["light"]
    assert list(admitted(decide(objects, light, *waiting))) == ["heavy"]


def test_jobs_of_the_hub_ask_like_workloads() -> None:
    def job(name: str, **spec: Any) -> dict[str, Any]:
        template = {"spec": {"containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": "1"}}}]}}
        body = {"queueName": "q", "tasks": 6, "template": template} | spec
        meta = {"name": name, "namespace": "default", "uid": name, "creationTimestamp": "2025-12-31T23:00:00Z"}
        return {"apiVersion": "fleet.quarterdeck.dev/v1alpha1", "kind": "FleetJob", "metadata": meta, "spec": body}

    document = decide(queue(4), job("sweep"), job("vague", priorityClassName="absent"))
    assert admitted(document) == {"sweep": 4}
    assert waits(document) == {"vague": "InvalidSpec"}
    assert {row["job"]: row["reason"] for row in document["jobs"]}["default/sweep"] == "QuotaReserved"


@pytest.mark.parametrize(
    ("configuration", "expected"),
    [
        ({}, Settings()),
        ({"fairSharing": {}}, Settings(strategies=(FINAL, INITIAL))),
        ({"fairSharing": {"enable": False}}, Settings()),
        ({"fairSharing": {"preemptionStrategies": [INITIAL]}}, Settings(strategies=(INITIAL,))),
        ({"admissionFairSharing": {}}, Settings(history=UsageHistory())),
        (
            {
                "admissionFairSharing": {
                    "usageHalfLifeTime": "1h30m",
                    "usageSamplingInterval": "60s",
                    "resourceWeights": {"cpu": 2, "nvidia.com/gpu": "500m"},
                }
            },
            Settings(history=UsageHistory(5400.0, 60.0, {"cpu": 2.0, "nvidia.com/gpu": 0.5})),
        ),
        ({"waitForPodsReady": {"blockAdmission": True}}, Settings(block=True)),
        ({"waitForPodsReady": {"blockAdmission": True, "enable": False}}, Settings()),
    ],
)
def test_the_configuration(configuration: dict[str, Any], expected: Settings) -> None:
    assert read_settings(configuration) == expected


@pytest.mark.parametrize(
    ("configuration", "field"),
    [
        ({"fairSharing": []}, "fairSharing"),
        ({"fairSharing": {"preemptionStrategies": [INITIAL, FINAL]}}, "fairSharing.preemptionStrategies"),
        ({"admissionFairSharing": {"usageHalfLifeTime": "soon"}}, "admissionFairSharing.usageHalfLifeTime"),
        ({"admissionFairSharing": {"resourceWeights": {"cpu": True}}}, "admissionFairSharing.resourceWeights.cpu"),
        ({"admissionFairSharing": {"resourceWeights": {"cpu": -1}}}, "admissionFairSharing.resourceWeights.cpu"),
        (
            {"waitForPodsReady": {"requeuingStrategy": {"timestamp": "Now"}}},
            "waitForPodsReady.requeuingStrategy.timestamp",
        ),
    ],
)
def test_what_the_configuration_may_not_say(configuration: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidObjectError) as error:
        read_settings(configuration)
    assert error.value.field == field


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (workload("w", "-1"), "spec.podSets[0].template.spec.containers[0].resources.requests.cpu: -1 is negative"),
        (workload("w", status=holding("x")), "status.admission.podSetAssignments[0].resourceUsage.cpu"),
        (
            workload("w", pod={"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{"matchExpressions": [{"key": "a", "operator": "Is"}]}]}}}}),
            "nodeSelectorTerms[0].matchExpressions[0].operator: 'Is' is not an operator",
        ),
        (
            workload("w", status={"requeueState": {"requeueAt": "soon"}}),
            "status.requeueState.requeueAt: found 'soon'; expected a time",
        ),
    ],
)  # fmt: skip
def test_a_malformed_workload_is_an_error_by_field(broken: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidObjectError, match=r"f\.yaml: Workload w: ") as error:
        decide(queue(), broken)
    assert said in str(error.value)
