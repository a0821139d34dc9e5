"""What is written of a job: bounded, valid, equal when nothing changed, and enough to remember by."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from typing import Any

import pytest
from jobs_world import CREATED, UID, World, fleet_job, plain_job, tasks
from pydantic import ValidationError

from hub.api import names
from hub.api.conditions import condition_is, find_condition
from hub.api.errors import InvalidObjectError
from hub.api.fleetjob import FleetJob
from hub.api.indexset import IndexSet
from hub.api.workload import Workload
from hub.jobs.attempt import Attempt, Usage
from hub.jobs.feedback import parse_exit_codes
from hub.jobs.fold import fold
from hub.jobs.memory import NOTHING, memory_of
from hub.jobs.spec import JobSpec
from hub.jobs.status import fleet_job_status, invalid_status


def test_a_status_says_all_and_is_valid() -> None:
    world = World(fleet_job(tasks=4, retry={"limitPerTask": 2}))
    world.write()
    world.report(world.start("ash", "0-2"), startTime="2023-11-14T22:13:25Z", active=1, completedIndexes="0",
                 failedIndexes="1", exitCodes="9=1", usage="cpu=1.25;gpu=0;wall=3")  # fmt: skip
    world.now += 5
    world.write()
    FleetJob.model_validate(world.job)
    status = world.job["status"]
    conditions = {c["type"]: (c["status"], c["reason"], c["observedGeneration"]) for c in status.pop("conditions")}
    assert conditions == {
        "QuotaReserved": ("True", "QuotaReserved", 1),
        "Admitted": ("True", "Admitted", 1),
        "Running": ("True", "Running", 1),
    }
    assert status == {
        "phase": "Running",
        "observedGeneration": 1,
        "reason": "Running",
        "message": "1 of 4 tasks running on ash; 2 wait: tasks 1 failed on ash (exit code 9); attempt 2 of 2 follows",
        "tasks": {
            "total": 4, "pending": 2, "active": 1, "succeeded": 1, "failed": 0, "summary": "1/4",
            "succeededIndexes": "0",
        },
        "attempts": [{
            "epoch": 1, "attempt": 1, "cluster": "ash", "tasks": "0-2", "state": "Running", "succeeded": "0",
            "failed": "1", "exitCodes": "9=1", "startedAt": "2023-11-14T22:13:25Z",
            "usage": {"cpuSeconds": 1.25, "wallSeconds": 3.0},
        }],
        "clusters": ["ash"],
        "submittedAt": "2023-11-14T22:13:21Z",
        "startedAt": "2023-11-14T22:13:25Z",
        "usage": {"cpuSeconds": 1.25, "wallSeconds": 3.0},
    }  # fmt: skip


def test_conditions_follow_the_phases() -> None:
    world = World(fleet_job(tasks=2))
    world.write()
    conditions = world.job["status"]["conditions"]
    assert [(c["type"], c["status"], c["reason"]) for c in conditions] == [("QuotaReserved", "False", "Queued")]
    name = world.start("ash", "0-1")
    world.report(name, active=1, completedIndexes="0")
    world.write()
    world.lost.add("ash")
    world.write()
    conditions = world.job["status"]["conditions"]
    assert [(c["type"], c["status"], c["reason"]) for c in conditions] == [
        (kind, "False", "ClusterLost") for kind in ("QuotaReserved", "Admitted", "Running")
    ]
    world.report(world.start("elm", "1"), complete="True", completedIndexes="0")
    world.now += 60
    world.write()
    conditions = world.job["status"]["conditions"]
    assert condition_is(conditions, "Succeeded")
    assert find_condition(conditions, "Failed") is None
    succeeded = find_condition(conditions, "Succeeded")
    assert succeeded is not None
    assert succeeded["lastTransitionTime"] == "2023-11-14T22:14:21Z"


def test_nothing_new_is_nothing_to_write() -> None:
    world = World(fleet_job(tasks=2))
    world.job["status"] = {"somebodyElse": {"kept": True}}
    for values in ({}, {"active": 1}, {"active": 1, "completedIndexes": "0"}, {"complete": "True"}):
        if not world.works:
            world.start("ash", "0-1")
        world.report("train-3f2a9c4e-1", **values)
        world.write()
        before = json.dumps(world.job["status"], sort_keys=True)
        world.now += 1000
        world.write()
        assert json.dumps(world.job["status"], sort_keys=True) == before
    assert world.job["status"]["somebodyElse"] == {"kept": True}


def _attempts(count: int, slices: int, failing: float, seed: int) -> list[Attempt]:
    rng = random.Random(seed)
    found, epoch, size = [], 0, count // slices
    retried: list[int] = []
    for number in range(slices):
        epoch += 1
        part = range(number * size, (number + 1) * size)
        failed = IndexSet.of(task for task in part if rng.random() < failing)
        mine = IndexSet.of(part)
        retried += failed
        found.append(
            Attempt(epoch, 1, f"site-{number % 7}", mine, 99, f"w-{epoch}", "q", state="Failed", failed=failed,
                    succeeded=mine - failed, exit_codes=((1, failed),), usage=Usage(1.5, 0.5, 7.25))
        )  # fmt: skip
    for start in range(slices // 2):
        epoch += 1
        mine = IndexSet.of(retried[start :: slices // 2])
        if mine:
            found.append(Attempt(epoch, 2, "site-9", mine, 99, f"w-{epoch}", "q", state="Succeeded", succeeded=mine))
    return found


@pytest.mark.parametrize(
    ("slices", "failing"), [(50, 0.0), (50, 0.02), (50, 0.5), (500, 0.05), (5000, 0.3), (1, 0.5), (2500, 1.0)]
)
def test_the_status_of_five_thousand_tasks_is_small(slices: int, failing: float) -> None:
    spec = JobSpec.from_fleet_job(fleet_job(tasks=5000, retry={"limitPerTask": 2}))
    state = fold(spec, _attempts(5000, slices, failing, seed=1), now=CREATED)
    status = fleet_job_status(spec, state, {}, CREATED)
    assert len(json.dumps(status, separators=(",", ":"))) < 50_000
    FleetJob.model_validate({**fleet_job(tasks=5000), "status": status})
    # What is there can be read back, and the newest attempt is.
    assert status["attempts"][-1]["epoch"] == state.next_epoch - 1
    memory = memory_of({**fleet_job(), "status": status})
    assert memory.succeeded == state.succeeded
    for entry in status["attempts"]:
        parse_exit_codes(entry.get("exitCodes", ""))
    # And what was cut is not missed.
    again = fold(spec, _attempts(5000, slices, failing, seed=1), now=CREATED, memory=memory)
    assert (again.phase, again.succeeded, again.failed, again.next_epoch) == (
        state.phase, state.succeeded, state.failed, state.next_epoch,
    )  # fmt: skip


def test_old_slices_of_which_nothing_is_left_are_forgotten_and_what_they_did_is_not() -> None:
    spec = JobSpec.from_fleet_job(fleet_job(tasks=5000))
    gone = [replace(a, gone=True, counted=a.succeeded) for a in _attempts(5000, 1000, 0.0, seed=2)]
    memory = replace(NOTHING, attempts=tuple(gone))
    first = fold(spec, (), now=CREATED, memory=memory)
    status = fleet_job_status(spec, first, {}, CREATED)
    assert len(status["attempts"]) < 500
    state = fold(spec, (), now=CREATED, memory=memory_of({**fleet_job(), "status": status}))
    assert (state.phase, len(state.succeeded), state.next_epoch, state.usage) == (
        "Succeeded", 5000, first.next_epoch, first.usage,
    )  # fmt: skip


def test_live_slices_are_always_listed() -> None:
    spec = JobSpec.from_fleet_job(fleet_job(tasks=1000))
    attempts = [
        Attempt(i + 1, 1, f"site-{i}", tasks(str(i)), 1, f"w-{i}", "q", state="Running", active=1) for i in range(1000)
    ]
    status = fleet_job_status(spec, fold(spec, attempts, now=CREATED), {}, CREATED)
    assert len(status["attempts"]) == 1000


def test_what_was_remembered_is_what_was_written() -> None:
    world = World(fleet_job(tasks=3, retry={"limitPerTask": 2}))
    name = world.start("ash", "0-2")
    world.report(name, active=1, completedIndexes="0", failedIndexes="1", exitCodes="9=1")
    world.lost.add("ash")
    state = world.write()
    memory = memory_of(world.job)
    (attempt,) = memory.attempts
    (was,) = state.attempts
    assert (attempt.state, attempt.reason, attempt.message) == (was.state, was.reason, was.message)
    assert (attempt.succeeded, attempt.failed, attempt.exit_codes, attempt.work) == (
        was.succeeded, was.failed, was.exit_codes, name,
    )  # fmt: skip
    assert (memory.phase, memory.reason, memory.submitted_at) == (state.phase, state.reason, state.submitted_at)


@pytest.mark.parametrize(
    "garbage",
    [
        "text", [], {"phase": "Dancing", "attempts": "none", "tasks": [], "submittedAt": "noon"},
        {"attempts": [None, {}, {"epoch": "1"}, {"epoch": 1, "tasks": "x", "state": "Lost"},
                      {"epoch": 2, "tasks": "0", "state": "Odd"}, {"epoch": 3, "tasks": "0", "state": "Lost",
                       "exitCodes": "?", "usage": {"cpuSeconds": "x"}, "startedAt": 7}]},
        {"tasks": {"succeededIndexes": "9-1"}, "usage": "all", "retriesFrom": -1, "reason": 7},
    ],
)  # fmt: skip
def test_a_status_that_somebody_spoilt_is_read_as_far_as_it_goes(garbage: Any) -> None:
    memory = memory_of({**fleet_job(), "status": garbage})
    assert memory.phase is None
    assert [attempt.epoch for attempt in memory.attempts] == ([3] if isinstance(garbage, dict) and garbage.get(
        "attempts") not in (None, "none") else [])  # fmt: skip
    assert fold(JobSpec.from_fleet_job(fleet_job()), (), now=CREATED, memory=memory).phase == "Queued"


def test_a_job_that_cannot_be_read_says_so_and_keeps_the_rest() -> None:
    job = fleet_job(tasks=0)
    error = InvalidObjectError("0 is not a whole number from 1", field="spec.tasks")
    job["status"] = invalid_status(job, error, CREATED)
    assert (job["status"]["phase"], job["status"]["reason"]) == ("Pending", "InvalidSpec")
    assert job["status"]["message"] == "spec.tasks: 0 is not a whole number from 1"
    assert find_condition(job["status"]["conditions"], "QuotaReserved")["status"] == "False"
    assert invalid_status(job, error, CREATED + 9) == job["status"]
    running = {**job, "status": {"phase": "Running", "attempts": [{"epoch": 1}], "conditions": []}}
    assert invalid_status(running, error, CREATED) | {"message": "", "observedGeneration": 0} == {
        **running["status"], "reason": "InvalidSpec", "message": "", "observedGeneration": 0,
    }  # fmt: skip
    ended = {**job, "status": {"phase": "Failed"}}
    assert invalid_status(ended, error, CREATED) == {"phase": "Failed"}


def test_the_mirror_for_kueues_users() -> None:
    from hub.jobs.workload import workload_object, workload_status

    world = World(fleet_job(tasks=4, parallelism=3, gpu={"count": 2}, priorityClassName="batch", queueName="research"))
    workload = workload_object(world.spec, 50)
    spec = workload["spec"]
    assert (workload["metadata"]["name"], workload["metadata"]["labels"]) == ("train", {names.KUEUE_JOB_UID: UID})
    assert workload["metadata"]["ownerReferences"][0]["kind"] == "FleetJob"
    assert (spec["queueName"], spec["priority"], spec["priorityClassRef"]["name"]) == ("research", 50, "batch")
    (pods,) = spec["podSets"]
    assert (pods["count"], pods["minCount"]) == (3, 1)
    assert pods["template"]["spec"]["containers"][0]["resources"]["limits"] == {names.GPU: "2"}

    def mirror() -> dict[str, Any]:
        workload["status"] = workload_status(world.spec, world.write(), workload.get("status") or {}, world.now)
        Workload.model_validate(workload)
        status: dict[str, Any] = workload["status"]
        return status

    status = mirror()
    assert [(c["type"], c["status"], c["reason"]) for c in status["conditions"]] == [
        ("QuotaReserved", "False", "Queued")
    ]
    first = world.start("ash", "0-1")
    status = mirror()
    assert status["admission"] == {
        "clusterQueue": "cq",
        "podSetAssignments": [
            {"name": "main", "flavors": {"cpu": "default"}, "resourceUsage": {"cpu": "2"}, "count": 2}
        ],
    }
    assert condition_is(status["conditions"], "Admitted")
    # It grows with what is admitted, and does not shrink task by task.
    second = world.start("elm", "2")
    assert mirror()["admission"]["podSetAssignments"][0]["count"] == 3
    world.report(first, complete="True", completedIndexes="0-1")
    assert mirror()["admission"]["podSetAssignments"][0]["count"] == 3
    world.lost.add("elm")
    status = mirror()
    assert "admission" not in status
    evicted = find_condition(status["conditions"], "Evicted")
    assert evicted is not None
    assert (evicted["status"], evicted["reason"]) == ("True", "NodeFailures")
    assert not condition_is(status["conditions"], "Admitted")
    world.delete()
    world.gone(second)
    world.report(world.start("ash", "2-3"), complete="True")
    status = mirror()
    finished = find_condition(status["conditions"], "Finished")
    assert finished is not None
    assert (finished["status"], finished["reason"]) == ("True", "Succeeded")
    before = dict(status)
    world.now += 100
    assert mirror() == before


def test_a_share_is_counted_in_thousandths() -> None:
    from hub.jobs.workload import workload_status

    spec = JobSpec.from_fleet_job(fleet_job(gpu={"share": "250m"}))
    attempt = Attempt(1, 1, "ash", tasks("0"), 1, "w", "q", ((names.GPU_MILLI, "a100"), ("pods", "any")))
    status = workload_status(spec, fold(spec, [attempt], now=CREATED), {}, CREATED)
    (assignment,) = status["admission"]["podSetAssignments"]
    assert assignment["resourceUsage"] == {names.GPU_MILLI: "250", "pods": "1"}


def test_a_suspended_job_is_deactivated() -> None:
    from hub.jobs.workload import workload_object, workload_status

    world = World(fleet_job())
    world.start("ash", "0")
    status = workload_status(world.spec, world.write(), {}, world.now)
    world.job["spec"]["suspend"] = True
    assert workload_object(world.spec)["spec"]["active"] is False
    status = workload_status(world.spec, world.write(), status, world.now)
    assert condition_is(status["conditions"], "Evicted")
    world.job["spec"]["suspend"] = False
    world.start("ash", "0")
    status = workload_status(world.spec, world.write(), status, world.now)
    assert condition_is(status["conditions"], "Evicted", "False")
    assert condition_is(status["conditions"], "Admitted")


def test_a_plain_job_gets_a_workload_of_its_own_name() -> None:
    from hub.jobs.workload import workload_object

    workload = workload_object(JobSpec.from_job(plain_job(completions=2)))
    assert workload["metadata"]["name"] == "job-train-3f2a9c4e"
    assert workload["metadata"]["ownerReferences"][0]["apiVersion"] == "batch/v1"


def test_the_model_refuses_what_we_would_never_write() -> None:
    with pytest.raises(ValidationError):
        FleetJob.model_validate({**fleet_job(), "status": {"attempts": [{"epoch": -1}]}})
