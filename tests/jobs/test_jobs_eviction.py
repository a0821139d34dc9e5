"""A slice that has to go: what its work records, what becomes of its tasks, and that each eviction counts once."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jobs_world import CREATED, World, fleet_job, plain_job

from hub.api import names
from hub.api.reasons import Reason
from hub.jobs.attempt import Eviction
from hub.jobs.eviction import eviction_annotations, read_eviction
from hub.jobs.fold import demand_of
from hub.jobs.memory import memory_of
from hub.jobs.plain import job_annotations

WHY = Eviction("Preempted", "made way for lab/urgent", CREATED + 50, CREATED + 80, "InClusterQueue", "lab/urgent")


def evict(world: World, work: str, eviction: Eviction = WHY) -> None:
    world.works[work]["metadata"]["annotations"] |= eviction_annotations(eviction)


texts = st.text(max_size=40)
moments = st.floats(0, 4e9, allow_nan=False).map(lambda seconds: round(seconds, 3))


@given(texts, texts, texts, texts, moments, st.floats(0, 1e5).map(lambda s: round(s, 3)))
def test_what_is_written_is_read(cause: str, reason: str, by: str, message: str, at: float, notice: float) -> None:
    eviction = Eviction(cause or "Preempted", message, at, at + notice, reason, by)
    read = read_eviction(eviction_annotations(eviction)[names.EVICTION])
    assert read is not None
    assert (read.cause, read.message, read.reason, read.by) == (eviction.cause, message, reason, by)
    assert read.at == pytest.approx(at, abs=1e-3)
    assert read.stops == pytest.approx(at + notice, abs=1e-3)


@pytest.mark.parametrize(
    "text",
    ["", "x", "[]", "{}", '"a"', '{"cause":"Preempted","at":"soon","stops":"later"}', '{"at":1,"stops":2}', "null"],
)
def test_what_somebody_broke_tells_nobody_to_go(text: str) -> None:
    assert read_eviction(text) is None


def test_its_tasks_go_on_until_the_notice_is_over_then_wait_again_without_an_attempt_less() -> None:
    world = World(fleet_job(tasks=4, parallelism=4, retry={"limitPerTask": 1}))
    work = world.start("ash", "0-3")
    world.report(work, active=4, startTime="2023-11-14T22:13:30Z")
    world.now = CREATED + 60
    world.write()
    evict(world, work)
    state = world.write()
    assert (state.phase, state.attempts[0].state, state.active, state.wake_at) == ("Running", "Running", 4, WHY.stops)
    assert (state.waiting, state.preemptions) == ((), 0)

    # One is done in time.
    world.report(work, active=3, completedIndexes="2")
    world.now = WHY.stops
    state = world.write()
    assert [a.state for a in state.attempts] == ["Evicted"]
    assert (state.phase, state.reason, state.message) == ("Queued", Reason.PREEMPTED, "made way for lab/urgent")
    assert (str(state.succeeded), str(state.failed), state.failures) == ("2", "", 0)
    # Nobody else may be asked for them while their processes may still be there.
    assert (state.waiting, demand_of(world.spec, state, 0)) == ((), None)
    assert state.preemptions == 1
    assert world.job["status"]["preemptions"] == 1
    entry = world.job["status"]["attempts"][0]
    assert (entry["state"], entry["reason"], entry["message"]) == ("Evicted", "Preempted", "made way for lab/urgent")
    # Its room is taken until its processes are gone, and it is taken back now that it is recorded.
    assert state.attempts[0].holds == 3
    assert world.delete() == [work]
    world.gone(work)
    state = world.write()
    assert (state.attempts[0].holds, state.preemptions) == (0, 1)
    assert [(str(group.tasks), group.attempt, group.avoid) for group in state.waiting] == [("0-1,3", 1, ())]
    demand = demand_of(world.spec, state, 0)
    assert demand is not None
    assert demand.slots == 4


def test_a_result_that_comes_late_counts_until_the_task_is_somewhere_else() -> None:
    world = World(fleet_job(tasks=2))
    work = world.start("ash", "0-1")
    evict(world, work)
    world.now = WHY.stops
    world.write()
    world.report(work, completedIndexes="0")
    assert str(world.write().succeeded) == "0"
    world.start("elm", "1")
    world.report(work, completedIndexes="0-1", complete="True")
    state = world.write()
    assert (str(state.succeeded), str(state.attempts[0].stale)) == ("0", "1")


def test_who_is_ended_by_the_notice_has_not_failed_but_who_failed_before_has() -> None:
    world = World(fleet_job(tasks=3, retry={"limitPerTask": 1}))
    work = world.start("ash", "0-2")
    world.report(work, active=2, failedIndexes="1", exitCodes="143=1")
    world.write()
    evict(world, work)
    world.report(work, active=0, failedIndexes="0-2", exitCodes="143=0-1;7=2", failedCondition="True", failedReason="X")
    world.now = WHY.at + 1
    state = world.write()
    # All have ended, so there is nothing to wait for.
    assert state.attempts[0].state == "Evicted"
    assert str(state.failed) == "1-2"
    world.gone(work)
    assert [str(group.tasks) for group in world.state().waiting] == ["0"]


def test_what_ends_before_it_must_is_no_preemption() -> None:
    world = World(fleet_job(tasks=1))
    work = world.start("ash", "0")
    evict(world, work)
    world.report(work, completedIndexes="0", complete="True")
    world.now = WHY.stops + 1
    state = world.write()
    assert (state.phase, state.attempts[0].state, state.preemptions) == ("Succeeded", "Succeeded", 0)


def test_a_hub_that_dies_anywhere_finds_the_decision_and_counts_it_once() -> None:
    world = World(fleet_job(tasks=2))
    work = world.start("ash", "0-1")
    world.write()
    evict(world, work)
    world.now = WHY.stops + 5
    # Nothing of it was written when the hub died; then it dies right after it was written.
    assert world.state().preemptions == 1
    assert [world.write().preemptions for _ in range(3)] == [1, 1, 1]
    again = world.start("elm", "0-1", attempt=1)
    later = Eviction("ClusterQueueStopped", "ClusterQueue cq is being drained", world.now, world.now)
    evict(world, again, later)
    state = world.write()
    assert state.evictions == (("ClusterQueueStopped", 1), ("Preempted", 1))
    assert world.job["status"]["evictions"] == [
        {"reason": "ClusterQueueStopped", "count": 1},
        {"reason": "Preempted", "count": 1},
    ]
    world.gone(work)
    world.job["status"]["attempts"] = [world.job["status"]["attempts"][-1]]
    assert world.write().evictions == state.evictions


def test_an_array_loses_one_slice_and_the_others_run_on() -> None:
    world = World(fleet_job(tasks=6))
    ash, elm = world.start("ash", "0-2"), world.start("elm", "3-5")
    for work in (ash, elm):
        world.report(work, active=3)
    evict(world, elm)
    world.now = WHY.stops
    state = world.write()
    assert [a.state for a in state.attempts] == ["Running", "Evicted"]
    assert (state.phase, state.active) == ("Running", 3)
    assert "3 wait: made way for lab/urgent" in state.message
    assert (state.waiting, state.slots) == ((), 0)
    world.gone(elm)
    assert ([str(group.tasks) for group in world.state().waiting], world.state().slots) == (["3-5"], 3)


def test_what_is_on_a_cluster_that_is_cut_off_goes_elsewhere_though_it_was_told_to_go() -> None:
    world = World(fleet_job(tasks=2))
    work = world.start("ash", "0-1")
    evict(world, work)
    world.now = WHY.stops
    world.write()
    world.lost.add("ash")
    assert [str(group.tasks) for group in world.state().waiting] == ["0-1"]


def test_where_tasks_did_not_start_in_time_they_are_not_sent_again_at_once() -> None:
    world = World(fleet_job(tasks=2))
    work = world.start("ash", "0-1")
    evict(world, work, Eviction("PodsReadyTimeout", "0 of 2 tasks ran", CREATED + 5, CREATED + 5))
    world.now = CREATED + 6
    world.write()
    world.gone(work)
    assert [(str(group.tasks), group.attempt, group.avoid) for group in world.state().waiting] == [("0-1", 1, ("ash",))]


def test_who_is_cancelled_while_it_is_told_to_go_is_cancelled() -> None:
    world = World(fleet_job(tasks=1))
    work = world.start("ash", "0")
    evict(world, work)
    world.now = WHY.at + 1
    world.job["spec"]["cancel"] = True
    state = world.write()
    assert (state.phase, state.attempts[0].state) == ("Cancelled", "Cancelled")


def test_a_plain_job_remembers_it_in_its_annotation() -> None:
    world = World(plain_job(completions=2, parallelism=2))
    work = world.start("ash", "0-1")
    evict(world, work)
    world.now = WHY.stops
    notes = job_annotations(world.state())
    remembered: dict[str, Any] = json.loads(notes[names.JOB_MEMORY])
    assert remembered["evictions"] == [{"reason": "Preempted", "count": 1}]
    world.job["metadata"]["annotations"] |= notes
    assert memory_of(world.job).evictions == (("Preempted", 1),)
    assert world.state().preemptions == 1


def test_what_a_stop_costs_is_read_from_either_kind() -> None:
    job = fleet_job(checkpoint={"interval": "10m", "restartCost": "0s"}, maximumExecutionTime="2h")
    spec = World(job).spec
    assert (spec.checkpoint, spec.restart_cost, spec.max_execution) == (600.0, 0.0, 7200.0)
    plain = plain_job({names.CHECKPOINT_INTERVAL: "1m", names.RESTART_COST: "5s"}, completions=1, parallelism=1)
    plain["metadata"]["labels"][names.MAX_EXEC_TIME] = "30"
    spec = World(plain).spec
    assert (spec.checkpoint, spec.restart_cost, spec.max_execution) == (60.0, 5.0, 30.0)
    plain["metadata"]["labels"][names.MAX_EXEC_TIME] = "soon"
    with pytest.raises(Exception, match="whole number"):
        _ = World(plain).spec
