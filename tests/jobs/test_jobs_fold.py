"""The life of a job: what each report, loss, wish of its owner and second thought does to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from jobs_world import CREATED, World, fleet_job, plain_job, refused, tasks

from hub.api import names
from hub.api.indexset import IndexSet
from hub.api.reasons import Reason
from hub.jobs.fold import REFUSED_GRACE, demand_of
from hub.jobs.spec import JobSpec
from hub.jobs.verdict import retry_note
from hub.placement.rule import ClusterRule

RETRY = {"limitPerTask": 2, "elsewhere": True}


@dataclass(frozen=True)
class No:
    reason: Reason
    message: str


def test_a_job_waits_runs_and_succeeds() -> None:
    world = World(fleet_job(tasks=3, parallelism=2))
    state = world.write()
    demand = demand_of(world.spec, state, 7)
    assert demand is not None
    assert (state.phase, state.reason, demand.slots, demand.priority) == ("Queued", Reason.QUEUED, 2, 7)
    assert [(str(group.tasks), group.attempt) for group in demand.groups] == [("0-2", 1)]
    assert (demand.key, demand.queue, demand.created) == ("lab/train", "default", CREATED)

    work = world.start("ash", "0-2", slots=2)
    state = world.write()
    assert (state.phase, state.reason) == ("Admitted", Reason.ADMITTED)
    assert "cq onto ash" in state.message
    assert demand_of(world.spec, state, 7) is None

    world.report(work, active=2, startTime="2023-11-14T22:13:30Z")
    state = world.write()
    assert (state.phase, state.active, state.pending) == ("Running", 2, 1)
    assert state.message == "2 of 3 tasks running on ash"
    assert state.started_at == CREATED + 10

    world.report(work, complete="True", completedIndexes="0-2", usage="cpu=1.5;gpu=0;wall=4", completionTime="x")
    world.now += 60
    state = world.write()
    assert (state.phase, str(state.succeeded), state.finished_at) == ("Succeeded", "0-2", world.now)
    assert (state.usage.cpu, state.usage.wall) == (1.5, 4.0)
    world.now += 60
    assert world.state().finished_at == world.now - 60
    assert not world.state().delete


def test_a_job_with_results_is_under_way_between_two_slices() -> None:
    world = World(fleet_job(tasks=4))
    first = world.start("ash", "0-1")
    assert world.write().phase == "Admitted"
    world.report(first, complete="True", completedIndexes="0-1")
    world.start("ash", "2-3")
    state = world.write()
    assert (state.phase, state.message) == ("Running", "0 of 4 tasks running on ash")


def test_a_failed_task_is_tried_elsewhere_and_the_others_keep_their_results() -> None:
    world = World(fleet_job(tasks=4, retry=RETRY))
    first = world.start("ash", "0-3")
    world.report(first, failedCondition="True", failedReason="FailedIndexes", completedIndexes="0-1,3",
                 failedIndexes="2", exitCodes="3=2")  # fmt: skip
    state = world.write()
    demand = demand_of(world.spec, state, 0)
    assert demand is not None
    assert [(str(group.tasks), group.attempt, group.avoid) for group in demand.groups] == [("2", 2, ("ash",))]
    assert (state.phase, state.reason) == ("Queued", Reason.RETRYING)
    assert state.message == "tasks 2 failed on ash (exit code 3); attempt 2 of 2 follows"

    second = world.start("elm", "2", attempt=2)
    world.report(second, active=1)
    assert world.write().phase == "Running"
    world.report(second, failedCondition="True", failedIndexes="0", exitCodes="3=0")
    state = world.write()
    assert (state.phase, str(state.failed), str(state.succeeded)) == ("Failed", "2", "0-1,3")
    assert state.message == "1 of 4 tasks failed: 2; failed 2 times; last on elm: exit code 3"
    assert demand_of(world.spec, state, 0) is None


@pytest.mark.parametrize(
    ("rule", "again"),
    [
        ({}, "0-3"),
        ({"onExitCodes": {"in": [1, 137]}}, "0,2-3"),
        ({"onExitCodes": {"notIn": [2]}}, "0,2-3"),
        ({"onExitCodes": {"in": [2]}}, "1,3"),
        ({"elsewhere": False}, "0-3"),
    ],
)
def test_which_exit_codes_are_worth_a_retry(rule: dict[str, Any], again: str) -> None:
    """Task 3 ended without an exit code: that is never the program's verdict, so it is always tried again."""
    world = World(fleet_job(tasks=4, retry={**RETRY, **rule}))
    world.report(world.start("ash", "0-3"), failedCondition="True", failedIndexes="0-3", exitCodes="1=0;2=1;137=2")
    state = world.state()
    waiting = IndexSet()
    for group in state.waiting:
        assert group.attempt == 2
        assert group.avoid == (("ash",) if rule.get("elsewhere", True) else ())
        waiting |= group.tasks
    assert str(waiting) == again
    assert state.failed == tasks("0-3") - waiting


def test_a_code_that_is_not_retried_says_so() -> None:
    world = World(fleet_job(retry={**RETRY, "onExitCodes": {"notIn": [2]}}))
    world.report(world.start("ash", "0"), failedCondition="True", failedIndexes="0", exitCodes="2=0")
    assert world.state().message.endswith("exit code 2 on ash: exit code 2 is not to be retried")


def test_tasks_of_a_lost_cluster_go_elsewhere_and_its_late_results_do_not_count() -> None:
    world = World(fleet_job(tasks=4))
    first = world.start("ash", "0-3")
    world.report(first, active=2, completedIndexes="0")
    world.write()
    world.lost.add("ash")
    state = world.state()
    assert (state.phase, state.reason, state.delete) == ("Queued", Reason.CLUSTER_LOST, ())
    # It may only be deleted once its loss is recorded.
    assert [attempt.work for attempt in state.fenced] == [first]
    world.write()
    assert world.delete() == [first]
    assert world.delete() == []
    demand = demand_of(world.spec, world.state(), 0)
    assert demand is not None
    # What had ended before counts; a loss is no attempt.
    assert [(str(group.tasks), group.attempt, group.avoid) for group in demand.groups] == [("1-3", 1, ())]

    second = world.start("elm", "1-3")
    world.report(second, active=3)
    world.write()
    world.lost.clear()
    world.report(first, completedIndexes="0-1", failedIndexes="2")
    state = world.write()
    assert (str(state.succeeded), state.phase) == ("0", "Running")
    entry = world.job["status"]["attempts"][0]
    assert (entry["state"], entry["succeeded"], entry["stale"], "failed" in entry) == ("Lost", "0", "1-2", False)
    world.gone(first)
    world.report(second, complete="True", completedIndexes="0-2")
    state = world.write()
    assert (state.phase, str(state.succeeded)) == ("Succeeded", "0-3")
    assert world.job["status"]["attempts"][0] == entry
    assert state.next_epoch == 3


def test_a_result_of_a_lost_cluster_counts_while_nobody_else_has_the_task() -> None:
    world = World(fleet_job(tasks=2))
    first = world.start("ash", "0-1")
    world.report(first, active=2)
    world.lost.add("ash")
    world.write()
    world.report(first, completedIndexes="1")
    state = world.write()
    assert (str(state.succeeded), [str(group.tasks) for group in state.waiting]) == ("1", ["0"])


def test_a_success_that_was_counted_stays_counted_when_a_newer_slice_has_the_task() -> None:
    world = World(fleet_job(tasks=2))
    first = world.start("ash", "0-1")
    world.report(first, active=1, completedIndexes="0")
    world.write()
    second = world.start("elm", "0-1")
    state = world.write()
    assert str(state.succeeded) == "0"
    world.report(second, complete="True", completedIndexes="0-1")
    state = world.write()
    assert str(state.succeeded) == "0-1"
    counted = [entry.get("succeeded") for entry in world.job["status"]["attempts"]]
    assert counted == ["0", "1"]


def test_a_slice_whose_tasks_newer_epochs_have_taken_over_is_taken_back() -> None:
    world = World(fleet_job(tasks=2))
    first = world.start("ash", "0-1")
    world.report(first, active=2)
    second = world.start("elm", "0-1")
    world.report(second, active=2)
    world.write()
    assert world.attempt(first).state == "Lost"
    assert world.delete() == [first]
    assert world.attempt(second).state == "Running"


def test_a_work_that_somebody_else_deleted_or_that_is_gone_gives_its_tasks_back() -> None:
    world = World(fleet_job(tasks=2))
    first = world.start("ash", "0")
    second = world.start("elm", "1")
    world.report(second, active=1)
    world.write()
    world.works[first]["metadata"]["deletionTimestamp"] = "2023-11-14T22:20:00Z"
    world.gone(second)
    state = world.write()
    assert {attempt.state for attempt in state.attempts} == {"Lost"}
    assert (state.phase, str(state.waiting[0].tasks), state.next_epoch) == ("Queued", "0-1", 3)
    assert "was deleted" in state.message
    assert [attempt.holds for attempt in state.attempts] == [1, 0]


def test_a_refused_work_fails_after_a_grace_in_which_its_agent_tries_again() -> None:
    world = World(fleet_job(tasks=2, retry={"limitPerTask": 2, "elsewhere": False}))
    first = world.start("ash", "0-1")
    world.works[first] = refused(world.works[first], "image nope is mapped to nothing", "2023-11-14T22:13:21Z")
    state = world.write()
    assert (state.phase, state.wake_at) == ("Admitted", CREATED + 1 + REFUSED_GRACE)
    world.now = CREATED + 2 + REFUSED_GRACE
    state = world.write()
    assert (state.phase, state.reason) == ("Queued", Reason.RETRYING)
    assert "ash could not apply the work: image nope is mapped to nothing" in state.message
    # Where it was refused it would be refused again, whatever the job says of elsewhere.
    assert state.waiting[0].avoid == ("ash",)
    assert world.delete() == [first]
    assert world.state().attempts[0].holds == 0


def test_a_refusal_that_passes_costs_nothing() -> None:
    world = World(fleet_job())
    first = world.start("ash", "0")
    clean = world.works[first]
    world.works[first] = refused(clean, "the API does not answer", "2023-11-14T22:13:21Z")
    assert world.write().phase == "Admitted"
    world.works[first] = clean
    world.report(first, complete="True", completedIndexes="0")
    assert world.write().phase == "Succeeded"


@pytest.mark.parametrize("wish", [{"cancel": True}, {}])
def test_cancel_ends_it_and_what_was_done_stays_recorded(wish: dict[str, Any]) -> None:
    world = World(fleet_job(tasks=3))
    first = world.start("ash", "0-1")
    world.report(first, active=1, completedIndexes="0")
    world.write()
    world.job["spec"] |= wish
    if not wish:
        world.job["metadata"]["annotations"][names.CANCEL] = "too dear"
    state = world.write()
    assert (state.phase, state.reason, str(state.succeeded)) == ("Cancelled", Reason.CANCELLED, "0")
    assert state.message == ("cancelled by its owner" if wish else "too dear")
    assert (state.waiting, demand_of(world.spec, state, 0)) == ((), None)
    assert world.delete() == [first]
    # Still held on the cluster until its agent has stopped it.
    assert world.state().attempts[0].holds == 1
    world.report(first, completedIndexes="0-1")
    assert (world.write().phase, str(world.state().succeeded)) == ("Cancelled", "0-1")
    world.job["spec"].pop("cancel", None)
    world.job["metadata"]["annotations"].clear()
    assert world.write().phase == "Cancelled"


def test_suspend_takes_it_back_and_resume_goes_on_without_counting_an_attempt() -> None:
    world = World(fleet_job(tasks=2))
    first = world.start("ash", "0-1")
    world.report(first, active=1, completedIndexes="0")
    world.write()
    world.job["spec"]["suspend"] = True
    state = world.write()
    assert (state.phase, state.reason, demand_of(world.spec, state, 0)) == ("Pending", Reason.SUSPENDED, None)
    assert world.delete() == [first]
    world.gone(first)
    world.job["spec"]["suspend"] = False
    state = world.write()
    assert (state.phase, str(state.succeeded)) == ("Queued", "0")
    assert [(str(group.tasks), group.attempt) for group in state.waiting] == [("1", 1)]


def test_retry_failed_gives_new_attempts_once() -> None:
    world = World(fleet_job(tasks=2, retry=RETRY))
    for attempt in (1, 2):
        name = world.start("ash", "0-1" if attempt == 1 else "1", attempt=attempt)
        done = {"completedIndexes": "0", "failedIndexes": "1"} if attempt == 1 else {"failedIndexes": "0"}
        world.report(name, failedCondition="True", **done)
        world.write()
    assert world.state().phase == "Failed"
    finished = world.job["status"]["finishedAt"]
    world.job["metadata"]["annotations"][names.RETRY_FAILED] = "2023-11-14T22:30:00.5Z"
    state = world.state()
    assert (state.phase, state.retries_from, str(state.failed)) == ("Queued", 3, "")
    assert [(str(group.tasks), group.attempt) for group in state.waiting] == [("1", 3)]
    # Made before the status is written: the epoch from which attempts count must not move.
    third = world.start("ash", "1", attempt=3)
    assert world.write().retries_from == 3
    assert "finishedAt" not in world.job["status"]
    assert world.job["status"]["retryFailed"] == "2023-11-14T22:30:00.5Z"
    world.report(third, failedCondition="True", failedIndexes="0")
    state = world.write()
    assert (state.phase, state.waiting[0].attempt) == ("Queued", 4)
    world.report(world.start("ash", "1", attempt=4), failedCondition="True", failedIndexes="0")
    world.now += 100
    state = world.write()
    assert (state.phase, str(state.failed)) == ("Failed", "1")
    assert world.job["status"]["finishedAt"] != finished
    assert world.write().phase == "Failed"


def test_retry_failed_opens_nothing_that_has_not_failed() -> None:
    world = World(fleet_job({names.RETRY_FAILED: "2023-11-14T22:30:00Z"}))
    world.report(world.start("ash", "0"), complete="True", completedIndexes="0")
    assert world.write().phase == "Succeeded"
    assert (world.write().phase, world.state().retries_from) == ("Succeeded", 0)


def test_a_slice_that_outlives_its_deadline_fails_its_tasks() -> None:
    world = World(fleet_job(tasks=2, activeDeadline="2h"))
    name = world.start("ash", "0-1")
    assert world.works[name]["spec"]["workload"]["manifests"][0]["spec"]["activeDeadlineSeconds"] == 7200
    world.report(name, failedCondition="True", failedReason="DeadlineExceeded", completedIndexes="0")
    state = world.write()
    assert (state.phase, state.reason, str(state.failed)) == ("Failed", Reason.DEADLINE_EXCEEDED, "1")
    assert state.message.startswith("ran longer than activeDeadline 2h; 1 of 2 tasks failed: 1")


def test_what_waits_while_others_run_says_why() -> None:
    world = World(fleet_job(tasks=6, parallelism=4))
    world.report(world.start("ash", "0-1"), active=2)
    world.refusal = No(Reason.WAITING_FOR_CAPACITY, "ash is full")
    state = world.state()
    assert (state.phase, state.slots) == ("Running", 2)
    assert state.message == "2 of 6 tasks running on ash; 4 wait: ash is full"
    world.report(world.start("elm", "2-3"), active=2)
    state = world.state()
    assert (state.slots, demand_of(world.spec, state, 0)) == (0, None)
    assert state.message.endswith("2 wait: 4 tasks run; parallelism allows no more")


def test_a_refusal_is_the_reason_of_a_job_that_waits() -> None:
    world = World(fleet_job())
    world.refusal = No(Reason.NO_CLUSTERS, "no cluster has joined this hub")
    state = world.state()
    assert (state.phase, state.reason, state.message) == ("Queued", Reason.NO_CLUSTERS, world.refusal.message)


def test_slots_are_given_back_task_by_task_at_a_slices_end() -> None:
    world = World(fleet_job(tasks=6, parallelism=3))
    name = world.start("ash", "0-3", slots=3)
    world.report(name, active=3, completedIndexes="0")
    assert world.state().slots == 0
    world.report(name, active=1, completedIndexes="0-2")
    demand = demand_of(world.spec, world.state(), 0)
    assert demand is not None
    assert (demand.slots, demand.active, demand.running, str(demand.groups[0].tasks)) == (2, 1, ("ash",), "4-5")


def test_an_old_status_of_a_work_replayed_changes_nothing() -> None:
    world = World(fleet_job(tasks=2, retry=RETRY))
    name = world.start("ash", "0-1")
    world.report(name, active=2)
    early = world.works[name]
    world.report(name, failedCondition="True", completedIndexes="0", failedIndexes="1", exitCodes="7=1")
    before = world.write()
    world.works[name] = early
    after = world.write()
    assert (after.phase, after.succeeded, after.waiting) == (before.phase, before.succeeded, before.waiting)
    assert after.attempts[0].exit_codes == before.attempts[0].exit_codes


def test_an_ended_job_takes_no_late_success_of_a_task_that_failed() -> None:
    world = World(fleet_job())
    name = world.start("ash", "0")
    world.works[name] = refused(world.works[name], "no", "2023-11-14T22:13:00Z")
    assert world.write().phase == "Failed"
    world.report(name, complete="True", completedIndexes="0")
    state = world.write()
    assert (state.phase, str(state.failed), str(state.succeeded)) == ("Failed", "0", "")
    assert world.job["status"]["attempts"][0]["stale"] == "0"


def test_a_placement_that_is_only_referred_to_is_given_by_the_caller() -> None:
    world = World(fleet_job(placementRef={"name": "gpu-sites"}))
    assert (world.spec.rule, world.spec.placement_ref) == (None, "gpu-sites")
    rule = ClusterRule(namespace="lab", reference="gpu-sites")
    demand = demand_of(world.spec, world.state(), 0, rule)
    assert demand is not None
    assert demand.rule == rule


def test_a_plain_jobs_deadline_is_of_the_whole_job() -> None:
    world = World(plain_job(completions=3, parallelism=2, activeDeadlineSeconds=60))
    name = world.start("ash", "0-2", slots=2)
    world.report(name, active=2, startTime="2023-11-14T22:13:30Z", completedIndexes="0")
    state = world.state()
    assert (state.phase, state.wake_at) == ("Running", CREATED + 70)
    world.now = CREATED + 70
    state = world.state()
    assert (state.phase, state.reason, str(state.succeeded)) == ("Failed", Reason.DEADLINE_EXCEEDED, "0")
    assert [attempt.state for attempt in state.fenced] == ["Cancelled"]


@pytest.mark.parametrize(
    ("limits", "phase"),
    [
        ({"backoffLimit": 2}, "Queued"),
        ({"backoffLimit": 1}, "Failed"),
        ({"backoffLimitPerIndex": 1}, "Queued"),
        ({"backoffLimitPerIndex": 0, "maxFailedIndexes": 5}, "Failed"),
        ({"backoffLimitPerIndex": 3, "backoffLimit": 1}, "Failed"),
    ],
)
def test_a_plain_jobs_limits_are_kept(limits: dict[str, int], phase: str) -> None:
    """Two of two tasks failed once."""
    world = World(plain_job(completions=2, parallelism=2, **limits))
    world.report(world.start("ash", "0-1"), failedCondition="True", failedIndexes="0-1")
    assert world.state().phase == phase


def test_too_many_failed_indexes_end_a_plain_job_while_others_run() -> None:
    world = World(plain_job(completions=4, parallelism=4, backoffLimitPerIndex=0, maxFailedIndexes=1))
    name = world.start("ash", "0-3")
    world.report(name, active=3, failedIndexes="0")
    assert world.state().phase == "Running"
    world.report(name, active=2, failedIndexes="0-1")
    state = world.state()
    assert (state.phase, [attempt.state for attempt in state.fenced], state.waiting) == ("Failed", ["Cancelled"], ())


def test_a_job_without_tasks_has_succeeded() -> None:
    assert World(plain_job(completions=0)).state().phase == "Succeeded"


def test_specs_of_the_same_shape_are_one_shape() -> None:
    one, other = (JobSpec.from_fleet_job(fleet_job(tasks=n)) for n in (1, 2))
    assert one.shape == other.shape
    assert hash(one.shape) == hash(other.shape)


def test_what_is_said_of_a_slice_whose_tasks_are_tried_again() -> None:
    world = World(fleet_job(tasks=3, retry={**RETRY, "onExitCodes": {"notIn": [2]}}))
    world.report(world.start("ash", "0-2"), failedCondition="True", failedIndexes="0-1", exitCodes="1=0;2=1",
                 completedIndexes="2")  # fmt: skip
    state = world.state()
    (attempt,) = state.attempts
    assert retry_note(world.spec, attempt, state.failed) == (
        "tasks 0 failed on ash (exit code 1); attempt 2 of 2 follows"
    )
    assert retry_note(world.spec, attempt, tasks("0-1")) == ""


def test_a_thousand_failures_are_said_in_one_line() -> None:
    world = World(fleet_job(tasks=2000))
    world.report(world.start("ash", "0-1999"), failedCondition="True",
                 failedIndexes=",".join(str(n) for n in range(0, 2000, 2)),
                 completedIndexes=",".join(str(n) for n in range(1, 2000, 2)), exitCodes="1=0")  # fmt: skip
    message = world.state().message
    assert message.startswith("1000 of 2000 tasks failed: 0,2,4,")
    assert len(message) < 250
