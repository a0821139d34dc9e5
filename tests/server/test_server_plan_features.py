"""What a hub in mode kueue does to Workloads beside choosing them, one feature a row, as `plan` shows it."""

from __future__ import annotations

from typing import Any

import pytest
from plan_kueue import KUEUE, NOW, admitted, check, condition, decide, evicted, holding, kueue, queue, waits, workload
from plan_objects import job as fleet_job
from plan_objects import site

from hub.api.indexset import IndexSet
from hub.cli.plan_input import Settings as Input
from hub.jobs.spec import JobSpec
from hub.jobs.works import slice_to_work
from hub.server.reading import Source

Json = dict[str, Any]
ADMITTED = condition("Admitted", at="2025-12-31T23:30:00Z")
_STATUS = ("admissionChecks", "accumulatedPastExecutionTimeSeconds", "requeueState", "reclaimablePods")
DRAIN, HOLD = "HoldAndDrain", "Hold"


def runs(name: str = "runs", cpu: Any = 2, *conditions: Json, **more: Any) -> Json:
    status = {name: more.pop(name) for name in _STATUS if name in more}
    held = holding(str(cpu), 1, *(conditions or (ADMITTED,)), **status)
    return workload(name, cpu, status=held, **more)


def local(stop: str) -> list[Json]:
    found = queue()
    found[1]["spec"]["stopPolicy"] = stop
    return found


def checks(*names: str, **more: Any) -> list[Json]:
    strategy = {"admissionChecks": [{"name": name} for name in names]}
    return [*queue(admissionChecksStrategy=strategy, **more), *(check(name) for name in names)]


def said(state: str, **more: Any) -> Json:
    entry = {"name": "c", "state": state, "message": "no", "lastTransitionTime": "2025-12-31T23:59:00Z"} | more
    return {"admissionChecks": [entry]}


# Who waits: (objects, who is admitted in two cycles, why the others wait).


@pytest.mark.parametrize(
    ("objects", "starts", "reasons"),
    [
        pytest.param([queue(stopPolicy=HOLD), workload("w")], [], {"w": "Suspended"}, id="cluster queue on hold"),
        pytest.param([queue(stopPolicy=DRAIN), workload("w")], [], {"w": "Suspended"}, id="cluster queue drained"),
        pytest.param([local(HOLD), workload("w")], [], {"w": "OnHold"}, id="local queue on hold"),
        pytest.param([local(DRAIN), workload("w")], [], {"w": "OnHold"}, id="local queue drained"),
        pytest.param([queue(namespaceSelector=None), workload("w")], [], {"w": "Misconfigured"}, id="no namespace"),
        pytest.param(
            [
                queue(namespaceSelector={"matchLabels": {"team": "a"}}),
                {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default", "labels": {"team": "a"}}},
                workload("w"),
            ],
            ["w"], {}, id="its namespace",
        ),
        pytest.param([checks("c"), workload("w", status=said("Pending"))], ["w"], {}, id="check pending"),
        pytest.param([checks("c"), workload("w", status=said("Ready"))], ["w"], {}, id="check ready"),
        pytest.param(
            [checks("c"), workload("w", status=said("Retry")), workload("x")], ["x"], {"w": "PendingEvaluation"},
            id="check says retry",
        ),
        pytest.param(
            [checks("c"), workload("w", status=said("Rejected"))], [], {"w": "PendingEvaluation"}, id="check rejected"
        ),
        pytest.param([queue(), workload("w", active=False)], [], {"w": "Suspended"}, id="deactivated"),
        pytest.param(
            [queue(), workload("w", status={"requeueState": {"count": 1, "requeueAt": "2026-01-01T00:05:00Z"}})],
            [], {"w": "PendingEvaluation"}, id="backs off",
        ),
        pytest.param(
            [queue(4), workload("w", 1, 6, {"reclaimablePods": [{"name": "main", "count": 2}]})], ["w"], {},
            id="pods that ended before are not asked for",
        ),
        pytest.param([queue(4), workload("w", 1, 6)], [], {"w": "ExceedsMaxQuota"}, id="whole or not at all"),
        pytest.param([queue(4), workload("w", 1, 6, pods={"minCount": 2})], ["w"], {}, id="partly"),
        pytest.param([queue(4), workload("w", 1, 6, pods={"minCount": 5})], [], {"w": "ExceedsMaxQuota"}, id="too few"),
    ],
)  # fmt: skip
def test_who_waits(objects: list[Any], starts: list[str], reasons: Json) -> None:
    document = decide(*objects, cycles="2")
    assert [*admitted(document), *admitted(document, 1)] == starts
    assert waits(document, 1) == reasons


def test_partial_admission_takes_as_many_as_there_are() -> None:
    document = decide(queue(4), workload("w", 1, 6, pods={"minCount": 2}))
    assert admitted(document) == {"w": 4}


# Who holds: (objects, what is said of "runs", whether its quota is free in the next cycle, why it waits then).


@pytest.mark.parametrize(
    ("objects", "reason", "words", "after"),
    [
        pytest.param([queue(stopPolicy=HOLD), runs()], None, "", None, id="who runs ends in peace"),
        pytest.param([local(HOLD), runs()], None, "", None, id="who runs ends in peace, local"),
        pytest.param(
            [queue(stopPolicy=DRAIN), runs()], "ClusterQueueStopped",
            "ClusterQueue q is being drained (stopPolicy HoldAndDrain)", "Suspended", id="drained",
        ),
        pytest.param(
            [local(DRAIN), runs()], "LocalQueueStopped", "LocalQueue q is being drained (stopPolicy HoldAndDrain)",
            "OnHold", id="drained, local",
        ),
        pytest.param(
            [queue(stopPolicy=DRAIN), runs("runs", 2, ADMITTED, condition("Evicted", "Preempted"))], None, "", None,
            id="on its way out already",
        ),
        pytest.param(
            [checks("c", stopPolicy=HOLD), runs("runs", 2, condition("Admitted", status="False"))], "Suspended",
            "ClusterQueue q is stopped", "Suspended", id="reserved only is given back",
        ),
        pytest.param(
            [queue(), runs(active=False)], "Deactivated", "The workload is deactivated", "Suspended", id="deactivated"
        ),
        pytest.param([checks("c"), runs(**said("Pending"))], None, "", None, id="check pending"),
        pytest.param([checks("c"), runs(**said("Ready"))], None, "", None, id="check ready"),
        pytest.param(
            [checks("c"), runs(**said("Retry", requeueAfterSeconds=300))], "AdmissionCheck",
            "gives its quota back, for admission checks ask to try again: c (no)", "PendingEvaluation",
            id="check says retry",
        ),
        pytest.param(
            [checks("c"), runs(**said("Rejected"))], "DeactivatedDueToAdmissionCheck",
            "The workload is deactivated: admission checks reject it: c (no)", "Suspended", id="check rejected",
        ),
        pytest.param([queue(), runs(maximumExecutionTimeSeconds=3600)], None, "", None, id="time is left"),
        pytest.param(
            [queue(), runs(maximumExecutionTimeSeconds=1800)], "DeactivatedDueToMaximumExecutionTimeExceeded",
            "The workload is deactivated: it was admitted for longer than 30m", "Suspended", id="out of time",
        ),
        pytest.param(
            [queue(), runs(maximumExecutionTimeSeconds=3600, accumulatedPastExecutionTimeSeconds=1800)],
            "DeactivatedDueToMaximumExecutionTimeExceeded",
            "The workload is deactivated: it was admitted for longer than 1h", "Suspended",
            id="out of time, all in all",
        ),
    ],
)  # fmt: skip
def test_who_gives_its_quota_back(objects: list[Any], reason: str | None, words: str, after: str | None) -> None:
    document = decide(*objects, cycles="2")
    assert evicted(document) == ({} if reason is None else {"runs": reason})
    if reason is None:
        assert document["queues"][0]["usage"] == {"default": {"cpu": "2"}}
        return
    (row,) = document["cycles"][0]["evicted"]
    assert row == {"workload": "default/runs", "reason": reason, "clusterQueue": "q", "message": words}
    assert evicted(document, 1) == {}
    assert waits(document, 1) == {"runs": after}
    assert document["queues"][0]["usage"] == {"default": {"cpu": "0"}}


def test_what_is_given_back_is_there_for_others_from_the_next_cycle_on() -> None:
    objects = [queue(4, cohortName="c"), queue(0, "r", cohortName="c", stopPolicy=DRAIN)]
    drained = runs(cpu=4)
    drained["status"]["admission"]["clusterQueue"] = "r"
    drained["spec"]["queueName"] = "r"
    document = decide(*objects, drained, workload("next", 4), cycles="2")
    assert (admitted(document), waits(document)["next"]) == ({}, "WaitingForQuota")
    assert evicted(document) == {"runs": "ClusterQueueStopped"}
    assert admitted(document, 1) == {"next": 1}


def test_a_limit_on_time_ends_what_was_admitted_by_the_plan_itself() -> None:
    document = decide(queue(2), workload("short", 2, maximumExecutionTimeSeconds=2), workload("next", 2), cycles="5")
    assert [sorted(admitted(document, number)) for number in range(5)] == [["next"], [], [], [], []]
    first = workload("short", 2, maximumExecutionTimeSeconds=2, priority=1)
    document = decide(queue(2), first, workload("next", 2), cycles="5")
    assert [sorted(admitted(document, number)) for number in range(5)] == [["short"], [], [], ["next"], []]
    assert evicted(document, 2) == {"short": "DeactivatedDueToMaximumExecutionTimeExceeded"}


# waitForPodsReady.

READY = condition("PodsReady")
LATE: Json = {"waitForPodsReady": {"timeout": "10m", "requeuingStrategy": {"backoffBaseSeconds": 2}}}


def test_nothing_starts_while_something_admitted_is_not_up() -> None:
    block = {"timeout": "10h", "blockAdmission": True}
    unready, ready = runs("runs", 1), runs("runs", 1, ADMITTED, READY)
    document = decide(queue(), unready, workload("next"), waitForPodsReady=block)
    assert waits(document) == {"next": "WaitingForPodsReady"}
    assert admitted(decide(queue(), ready, workload("next"), waitForPodsReady=block)) == {"next": 1}


@pytest.mark.parametrize(
    ("conditions", "ready", "reason"),
    [
        ((ADMITTED,), {"timeout": "29m"}, "PodsReadyTimeout"),
        ((ADMITTED,), {"timeout": "31m"}, None),
        ((ADMITTED, READY), {"timeout": "29m"}, None),
        ((ADMITTED, condition("PodsReady", "WaitForStart", status="False")), {"timeout": "29m"}, "PodsReadyTimeout"),
        (
            (ADMITTED, condition("PodsReady", "WaitForRecovery", "2025-12-31T23:58:00Z", "False")),
            {"timeout": "29m", "recoveryTimeout": "1m"},
            "PodsReadyTimeout",
        ),
        (
            (ADMITTED, condition("PodsReady", "WaitForRecovery", "2025-12-31T23:58:00Z", "False")),
            {"timeout": "1m", "recoveryTimeout": "3m"},
            None,
        ),
        ((ADMITTED,), {"timeout": "29m", "enable": False}, None),
    ],
)
def test_pods_that_are_not_up_in_time(conditions: tuple[Json, ...], ready: Json, reason: str | None) -> None:
    document = decide(queue(), runs("runs", 2, *conditions), waitForPodsReady=ready)
    assert evicted(document) == ({} if reason is None else {"runs": reason})


def test_who_was_late_backs_off_and_goes_to_the_end() -> None:
    other = workload("other", 2, meta={"creationTimestamp": "2025-12-31T23:50:00Z"})
    document = decide(queue(2), runs(), other, cycles="6", **LATE)
    assert evicted(document) == {"runs": "PodsReadyTimeout"}
    # Two seconds, and by then the other one has what there is.
    assert [sorted(admitted(document, number)) for number in range(6)] == [[], ["other"], [], [], [], []]
    assert waits(document, 1) == {"runs": "PendingEvaluation"}
    assert waits(document, 3) == {"runs": "WaitingForQuota"}
    document = decide(queue(2), runs(), cycles="6", **LATE)
    assert [sorted(admitted(document, number)) for number in range(6)] == [[], [], ["runs"], [], [], []]
    longer = runs(requeueState={"count": 2})
    document = decide(queue(2), longer, cycles="10", **LATE)
    assert [number for number in range(10) if admitted(document, number)] == [8], "the third time waits 2·2² s"


def test_who_was_late_too_often_is_deactivated() -> None:
    limited = {"timeout": "10m", "requeuingStrategy": {"backoffLimitCount": 1}}
    document = decide(queue(2), runs(requeueState={"count": 1}), cycles="2", waitForPodsReady=limited)
    assert evicted(document) == {"runs": "DeactivatedDueToRequeuingLimitExceeded"}
    assert waits(document, 1) == {"runs": "Suspended"}


# Order, shares and policies.


def test_what_was_admitted_counts_at_once_for_its_local_queue() -> None:
    objects = queue(1, admissionScope={"admissionMode": "UsageBasedAdmissionFairSharing"}) + [
        kueue("LocalQueue", name, {"clusterQueue": "q"}) for name in ("left", "right")
    ]
    waiting = [
        workload(name, queueName=name[:-1].removesuffix("-"), meta={"creationTimestamp": f"2025-12-31T23:0{n}:00Z"})
        for n, name in enumerate(("left-1", "left-2", "right-1"))
    ]
    half = {"usageHalfLifeTime": "5m", "usageSamplingInterval": "5m"}
    # Each gives its place back at once, so that only the order is left to see.
    policy = {"maximumExecutionTimeSeconds": 1}
    short = [{**one, "spec": {**one["spec"], **policy}} for one in waiting]
    document = decide(objects, *short, cycles="9", admissionFairSharing=half)
    order = [name for number in range(9) for name in admitted(document, number)]
    assert order == ["left-1", "right-1", "left-2"]
    plain = decide(objects, *short, cycles="9")
    assert [name for number in range(9) for name in admitted(plain, number)] == ["left-1", "left-2", "right-1"]


@pytest.mark.parametrize(
    ("reference", "first"),
    [
        ({"group": "kueue.x-k8s.io", "kind": "WorkloadPriorityClass", "name": "gold"}, "late"),
        ({"group": "scheduling.k8s.io", "kind": "PriorityClass", "name": "gold"}, "early"),
        ({"group": "scheduling.k8s.io", "kind": "PriorityClass", "name": "iron"}, "late"),
        ({"group": "kueue.x-k8s.io", "kind": "WorkloadPriorityClass", "name": "iron"}, "early"),
    ],
)
def test_priority_classes_of_both_kinds(reference: Json, first: str) -> None:
    classes = [
        {"apiVersion": KUEUE, "kind": "WorkloadPriorityClass", "metadata": {"name": "gold"}, "value": 9},
        {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "iron"}, "value": 9},
    ]  # fmt: skip
    late = workload("late", priorityClassRef=reference, meta={"creationTimestamp": "2025-12-31T23:30:00Z"})
    document = decide(queue(), *classes, late, workload("early"))
    assert list(admitted(document)) == [first]
    assert "PriorityClass.scheduling.k8s.io" not in document["ignored"]


@pytest.mark.parametrize(("threshold", "priority", "taken"), [(5, 4, True), (5, 6, False), (None, 6, True)])
def test_borrowing_by_force_stops_at_its_threshold(threshold: int | None, priority: int, taken: bool) -> None:
    borrow = {"policy": "LowerPriority"} | ({"maxPriorityThreshold": threshold} if threshold is not None else {})
    mine = queue(2, cohortName="c", preemption={"reclaimWithinCohort": "LowerPriority", "borrowWithinCohort": borrow})
    other = queue(2, "r", cohortName="c")
    theirs = runs("theirs", 4, priority=priority)
    theirs["status"]["admission"]["clusterQueue"] = theirs["spec"]["queueName"] = "r"
    document = decide(mine, other, theirs, workload("wants", 3, priority=9))
    said = [(row["workload"], row["reason"]) for row in document["cycles"][0]["preempted"]]
    assert said == ([("default/theirs", "InCohortReclaimWhileBorrowing")] if taken else [])


@pytest.mark.parametrize(("weight", "share"), [("0", 2**63 - 1), ("2n", 250 * 500_000_000), ("1", 250), ("2", 125)])
def test_shares_of_every_weight(weight: str, share: int) -> None:
    lender = queue(4, cohortName="c")
    borrower = queue(0, "r", cohortName="c", fairSharing={"weight": weight})
    theirs = runs("theirs", 1)
    theirs["status"]["admission"]["clusterQueue"] = theirs["spec"]["queueName"] = "r"
    document = decide(lender, borrower, theirs, fairSharing={})
    assert [row["weightedShare"] for row in document["queues"]] == [0, share]


# The hub's own jobs.


def _job(name: str, **more: Any) -> Json:
    found = fleet_job(name, "q", **more)
    found["metadata"] |= {"uid": name, "creationTimestamp": "2025-12-31T22:00:00Z"}
    return found


def test_a_plain_job_is_admitted_whole_unless_it_says_how_few_will_do() -> None:
    def plain(**annotations: str) -> Json:
        pods = {"containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": "1"}}}]}
        meta = {"name": "plain", "namespace": "default", "uid": "p", "labels": {"kueue.x-k8s.io/queue-name": "q"}}
        spec = {
            "parallelism": 6,
            "completions": 6,
            "suspend": True,
            "template": {"spec": {**pods, "restartPolicy": "Never"}},
        }
        return {"apiVersion": "batch/v1", "kind": "Job", "metadata": meta | {"annotations": annotations}, "spec": spec}

    assert admitted(decide(queue(4), plain())) == {}
    few = {"kueue.x-k8s.io/job-min-parallelism": "2"}
    assert admitted(decide(queue(4), plain(**few))) == {"job-plain-p": 4}
    assert admitted(decide(queue(4), _job("array", tasks=6))) == {"array": 4}


# The same in mode fleet.


def fleet(*objects: Any, cycles: str = "2", **configuration: Any) -> Json:
    found = [part for some in objects for part in (some if isinstance(some, list) else [some])]
    if configuration:
        found.append({"apiVersion": "config.kueue.x-k8s.io/v1beta2", "kind": "Configuration"} | configuration)
    return Input.read(NOW, cycles, None, "fleet").decide([Source(obj, "f.yaml") for obj in found])


@pytest.mark.parametrize(
    ("objects", "reason", "after"),
    [
        pytest.param([queue(stopPolicy=HOLD), runs()], None, None, id="on hold"),
        pytest.param([queue(stopPolicy=DRAIN), runs()], "ClusterQueueStopped", "QueueInactive", id="drained"),
        pytest.param([local(DRAIN), runs()], "LocalQueueStopped", "QueueInactive", id="drained, local"),
        pytest.param([queue(), runs(active=False)], "Deactivated", "Suspended", id="deactivated"),
        pytest.param(
            [queue(), runs(**said("Rejected"))], "DeactivatedDueToAdmissionCheck", "Suspended", id="check rejected"
        ),
        pytest.param(
            [queue(), runs(maximumExecutionTimeSeconds=1800)], "DeactivatedDueToMaximumExecutionTimeExceeded",
            "Suspended", id="out of time",
        ),
    ],
)  # fmt: skip
def test_in_mode_fleet_it_gives_its_quota_back_as_well(objects: list[Any], reason: str | None, after: str) -> None:
    document = fleet(*objects)
    assert evicted(document) == ({} if reason is None else {"runs": reason})
    if reason is None:
        assert document["queues"][0]["usage"] == {"default": {"cpu": "2"}}
        return
    assert evicted(document, 1) == {}
    assert waits(document, 1) == {"runs": after}
    assert document["queues"][0]["usage"] == {"default": {"cpu": "0"}}


def test_in_mode_fleet_who_was_late_backs_off() -> None:
    document = fleet(queue(2), runs(), cycles="5", **LATE)
    assert evicted(document) == {"runs": "PodsReadyTimeout"}
    assert waits(document, 1) == {"runs": "PendingEvaluation"}
    assert document["cycles"][1]["pending"][0]["message"] == "backs off for another 1 s"
    assert [number for number in range(5) if admitted(document, number)] == [2]


def test_in_mode_fleet_nothing_starts_while_something_admitted_is_not_up() -> None:
    block = {"timeout": "10h", "blockAdmission": True}
    document = fleet(queue(), runs("runs", 1), workload("next"), waitForPodsReady=block)
    assert (admitted(document), waits(document)) == ({}, {"next": "WaitingForPodsReady"})
    ready = runs("runs", 1, ADMITTED, READY)
    document = fleet(queue(), ready, workload("next"), workload("other"), waitForPodsReady=block)
    assert (admitted(document), waits(document)) == ({"next": 1}, {"other": "WaitingForPodsReady"})
    assert (admitted(document, 1), waits(document, 1)) == ({}, {"other": "WaitingForPodsReady"})


def test_jobs_of_a_drained_queue_go_in_both_modes() -> None:
    """A slice of the hub's own job runs; its queue is being emptied."""
    array = _job("array", tasks=2)
    spec = JobSpec.from_fleet_job(array)
    work = slice_to_work(spec, "north", IndexSet.span(2), 1, 2, (("cpu", "default"),), "q", 1)
    for mode, after in (("kueue", "Suspended"), ("fleet", "QueueInactive")):
        objects = [*queue(stopPolicy=DRAIN), array, work, *site("north")]
        document = Input.read(NOW, "2", None, mode).decide([Source(obj, "f.yaml") for obj in objects])
        assert evicted(document) == {"array": "ClusterQueueStopped"}
        assert document["queues"][0]["usage"] == {"default": {"cpu": "0"}}
        assert waits(document, 1) == {"array": after}


def test_a_running_job_makes_way_in_mode_kueue_and_waits_again() -> None:
    array = _job("array", tasks=2)
    spec = JobSpec.from_fleet_job(array)
    work = slice_to_work(spec, "north", IndexSet.span(2), 1, 2, (("cpu", "default"),), "q", 1)
    objects = [*queue(2, preemption={"withinClusterQueue": "LowerPriority"}), array, work, *site("north")]
    document = decide(*objects, workload("urgent", 2, priority=9), cycles="4")
    said = [(row["workload"], row["reason"]) for row in document["cycles"][0]["preempted"]]
    assert said == [("default/array", "InClusterQueue")]
    assert admitted(document, 1) == {"urgent": 1}
    assert waits(document, 3) == {"array": "WaitingForQuota"}
