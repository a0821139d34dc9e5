"""A plain Job gets its own status back, by batch/v1's rules for Jobs that another controller runs."""

from __future__ import annotations

import json
from typing import Any

import pytest
from jobs_world import CREATED, World, plain_job, refused

from hub.api import names
from hub.api.conditions import condition_is, find_condition
from hub.api.errors import InvalidObjectError
from hub.api.indexset import IndexSet
from hub.jobs.plain import invalid_job_status, job_annotations, job_status
from hub.jobs.state import JobState


class PlainWorld(World):
    def write(self) -> JobState:
        """As the hub does, checked as an API server checks it."""
        state = self.state()
        before = self.job.get("status") or {}
        self.job["metadata"]["annotations"] |= job_annotations(state)
        self.job["status"] = job_status(self.spec, state, before, self.now)
        check(self.job, before)
        return state


def check(job: dict[str, Any], before: dict[str, Any]) -> None:
    """What an API server demands of a status (pkg/registry/batch/job)."""
    status, conditions = job["status"], job["status"].get("conditions")
    complete, failed = condition_is(conditions, "Complete"), condition_is(conditions, "Failed")
    for name in ("succeeded", "failed"):
        assert status.get(name, 0) >= before.get(name, 0)
    assert status.get("ready", 0) <= status.get("active", 0)
    for kind in ("Complete", "Failed", "SuccessCriteriaMet", "FailureTarget"):
        assert condition_is(conditions, kind) or not condition_is(before.get("conditions"), kind)
    assert not (complete and failed)
    assert not complete or condition_is(conditions, "SuccessCriteriaMet")
    assert not failed or condition_is(conditions, "FailureTarget")
    assert not condition_is(conditions, "SuccessCriteriaMet") or not condition_is(conditions, "FailureTarget")
    assert ("completionTime" in status) == complete
    if complete or failed:
        assert not status.get("active")
        assert not status.get("terminating")
        assert status["startTime"]
        assert status.get("completionTime", status["startTime"]) >= status["startTime"]
    for name in ("startTime", "completionTime"):
        assert status.get(name) == before.get(name) or not before.get(name)
    done, bad = (IndexSet.parse(status.get(name) or "") for name in ("completedIndexes", "failedIndexes"))
    assert not done & bad
    assert not (done | bad) - IndexSet.span(job["spec"]["completions"])
    assert "failedIndexes" not in status or "backoffLimitPerIndex" in job["spec"]
    assert "completedIndexes" not in status or job["spec"]["completionMode"] == "Indexed"
    json.dumps(status)


def test_a_plain_job_from_its_queue_to_its_end() -> None:
    world = PlainWorld(plain_job(completions=3, parallelism=2))
    world.write()
    suspended = find_condition(world.job["status"]["conditions"], "Suspended")
    assert suspended is not None
    assert (suspended["status"], suspended["reason"]) == ("True", "Queued")
    assert "observedGeneration" not in suspended
    name = world.start("ash", "0-2", slots=2)
    world.report(name, active=2, completedIndexes="0", startTime="2023-11-14T22:13:20Z")
    world.write()
    status = dict(world.job["status"])
    assert condition_is(status.pop("conditions"), "Suspended", "False")
    assert status == {
        "active": 2, "ready": 2, "succeeded": 1, "completedIndexes": "0",
        "startTime": "2023-11-14T22:13:20Z",
    }  # fmt: skip
    world.now += 30
    world.report(name, complete="True", completedIndexes="0-2")
    world.write()
    assert condition_is(world.job["status"]["conditions"], "Complete")
    assert world.job["status"]["completionTime"] == "2023-11-14T22:13:51Z"
    ended = json.dumps(world.job["status"])
    world.now += 30
    assert world.write().phase == "Succeeded"
    assert json.dumps(world.job["status"]) == ended


def test_noughts_that_a_server_does_not_keep_are_not_written_again() -> None:
    world = PlainWorld(plain_job(completions=1))
    world.write()
    assert set(world.job["status"]) == {"conditions"}
    name = world.start("ash", "0", slots=1)
    world.report(name, active=1, startTime="2023-11-14T22:13:20Z")
    world.write()
    world.report(name, complete="True", completedIndexes="0")
    world.write()
    # What was above nought is taken back by name: a patch that leaves it out would leave it there.
    assert (world.job["status"]["active"], world.job["status"]["ready"]) == (0, 0)
    assert "failed" not in world.job["status"]


@pytest.mark.parametrize(
    ("limits", "reason", "failed_indexes"),
    [
        ({"backoffLimit": 0}, "BackoffLimitExceeded", None),
        ({"backoffLimitPerIndex": 0}, "FailedIndexes", "1"),
        ({"backoffLimitPerIndex": 0, "maxFailedIndexes": 0}, "MaxFailedIndexesExceeded", "1"),
    ],
)
def test_a_failed_plain_job_says_why_as_batch_does(limits: dict[str, int], reason: str, failed_indexes: Any) -> None:
    world = PlainWorld(plain_job(completions=2, parallelism=2, **limits))
    world.report(world.start("ash", "0-1"), failedCondition="True", completedIndexes="0", failedIndexes="1")
    world.write()
    failed = find_condition(world.job["status"]["conditions"], "Failed")
    assert failed is not None
    assert (failed["reason"], world.job["status"]["failed"]) == (reason, 1)
    assert world.job["status"].get("failedIndexes") == failed_indexes
    # A Job that has ended has ended: batch/v1 knows no way back.
    world.job["metadata"]["annotations"][names.RETRY_FAILED] = "2023-11-14T22:30:00Z"
    assert world.write().phase == "Failed"


@pytest.mark.parametrize(("end", "reason"), [("deadline", "DeadlineExceeded"), ("cancel", "Cancelled")])
def test_a_plain_job_that_is_stopped_has_failed_and_its_slices_are_remembered(end: str, reason: str) -> None:
    world = PlainWorld(plain_job(completions=2, parallelism=2, activeDeadlineSeconds=60, completionMode="NonIndexed"))
    name = world.start("ash", "0-1")
    world.report(name, active=2, startTime="2023-11-14T22:13:20Z")
    world.write()
    if end == "deadline":
        world.now = CREATED + 61
    else:
        world.job["metadata"]["annotations"][names.CANCEL] = "enough"
    world.write()
    failed = find_condition(world.job["status"]["conditions"], "Failed")
    assert failed is not None
    assert failed["reason"] == reason
    assert world.delete() == [name]
    world.gone(name)
    state = world.write()
    assert state.phase == ("Failed" if end == "deadline" else "Cancelled")
    assert (state.next_epoch, state.attempts[0].state) == (2, "Cancelled")


def test_an_epoch_is_never_used_again_when_its_work_is_gone() -> None:
    world = PlainWorld(plain_job(completions=2, parallelism=2))
    name = world.start("ash", "0-1")
    world.report(name, active=1, completedIndexes="0")
    world.lost.add("ash")
    world.write()
    assert world.delete() == [name]
    world.gone(name)
    state = world.write()
    assert (state.next_epoch, str(state.succeeded), str(state.waiting[0].tasks)) == (2, "0", "1")
    assert world.job["status"]["completedIndexes"] == "0"


def test_what_was_completed_stays_completed_when_everything_else_is_forgotten() -> None:
    world = PlainWorld(plain_job(completions=2, parallelism=2))
    world.report(world.start("ash", "0"), complete="True", completedIndexes="0")
    world.write()
    world.works.clear()
    state = world.write()
    assert (str(state.succeeded), [str(group.tasks) for group in state.waiting]) == ("0", ["1"])


def test_failures_are_never_counted_down() -> None:
    world = PlainWorld(plain_job(completions=2, parallelism=2, backoffLimit=5))
    world.report(world.start("ash", "0-1"), failedCondition="True", failedIndexes="0-1")
    assert world.write().failures == 2
    world.works.clear()
    assert world.write().failures == 2
    assert world.job["status"]["failed"] == 2


def test_a_refused_work_of_a_plain_job_is_taken_back() -> None:
    world = PlainWorld(plain_job(completions=1, backoffLimit=0))
    name = world.start("ash", "0")
    world.works[name] = refused(world.works[name], "no such namespace", "2023-11-14T22:13:00Z")
    assert world.write().phase == "Failed"
    assert world.delete() == [name]


def test_a_job_of_nothing_is_complete() -> None:
    world = PlainWorld(plain_job(completions=0))
    world.write()
    assert condition_is(world.job["status"]["conditions"], "Complete")


def test_memory_that_somebody_spoilt_is_forgotten() -> None:
    world = PlainWorld(plain_job(completions=1))
    for spoilt in ("{", "[]", "7", '{"attempts": 7}'):
        world.job["metadata"]["annotations"][names.JOB_MEMORY] = spoilt
        assert world.state().next_epoch == 1


def test_a_plain_job_that_cannot_be_read_is_suspended_with_what_is_wrong() -> None:
    error = InvalidObjectError("a fleet cannot honour it", field="spec.successPolicy")
    status = invalid_job_status({"active": 0}, error, CREATED)
    (condition,) = status["conditions"]
    assert (condition["type"], condition["reason"]) == ("Suspended", "InvalidSpec")
    assert condition["message"] == "spec.successPolicy: a fleet cannot honour it"
    ended = {"conditions": [{"type": "Failed", "status": "True"}]}
    assert invalid_job_status(ended, error, CREATED) == ended
