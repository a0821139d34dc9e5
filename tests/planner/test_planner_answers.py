"""What a hub answers in either mode: who is next, why the others wait, when somebody starts, by its own rules."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from fleet_objects import carry_out, demand, flavor, fleet, queue, shape, site, snapshot
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.api.reasons import Reason
from hub.planner.course import Course
from hub.planner.estimate import Estimate, estimate
from hub.planner.kueue import KueuePlanner
from hub.planner.kueue_answers import KueueWay
from hub.planner.lending import loans_of, said
from hub.planner.line import in_line
from hub.planner.plan import HeldSlice, Plan, Refusal, Snapshot
from hub.planner.ways import FleetWay, Way
from hub.queueing.demand import Demand
from hub.queueing.kueue.history import History, Past
from hub.queueing.kueue.settings import Settings, UsageHistory

KUEUE, FLEET = KueueWay(Settings()), FleetWay()
BOTH = pytest.mark.parametrize("way", [KUEUE, FLEET], ids=["kueue", "fleet"])
ROOM = site("large", cpu=100_000)
TAKES = {"reclaimWithinCohort": "Any", "withinClusterQueue": "LowerPriority"}


def team(name: str = "q", cpu: int = 4, **spec: Any) -> list[dict[str, Any]]:
    return [flavor(), *queue(name, ("default", {"cpu": cpu}), **spec)]


def held(key: str, cpu: int, name: str = "q", **fields: Any) -> HeldSlice:
    values: dict[str, Any] = {
        "key": f"default/{key}", "uid": f"uid-{key}", "work": f"{key}-1", "epoch": 1, "cluster": "large",
        "queue": name, "local": name, "priority": 0, "created": -100.0, "admitted": 0.0, "shape": shape(cpu),
        "slots": 1, "amounts": ((("default", "cpu"), cpu * 1000),),
    }  # fmt: skip
    return HeldSlice(**(values | fields))


def holding(before: Snapshot, *slices: HeldSlice) -> Snapshot:
    usage: dict[str, dict[tuple[str, str], int]] = {}
    for part in slices:
        for key, value in part.amounts:
            into = usage.setdefault(part.queue, {})
            into[key] = into.get(key, 0) + value
    return replace(before, held=slices, usage=usage)


def names(demands: list[Demand]) -> list[str]:
    return [one.key.partition("/")[2] for one in demands]


def reasons(plan: Plan) -> dict[str, str]:
    return {refusal.key.partition("/")[2]: refusal.reason.code for refusal in plan.refusals}


# The order.


def test_kueue_orders_each_queue_by_priority_age_and_uid_and_asks_queues_side_by_side() -> None:
    waiting = [
        demand("young", queue="a", created=3.0),
        demand("zeal", queue="a", created=1.0, uid="uid-2"),
        demand("anna", queue="a", created=1.0, uid="uid-9"),
        demand("first", queue="a", created=9.0, priority=5),
        demand("late", queue="b", created=8.0),
        demand("again", queue="b", created=0.0, queued=9.0),
        demand("lost", queue="none"),
    ]
    state = snapshot(fleet(ROOM), [*team("a"), *team("b")], *waiting)
    assert names(KUEUE.first_come(state)) == ["first", "late", "zeal", "again", "anna", "young", "lost"]
    places = {place.demand.key.partition("/")[2]: place for place in in_line(state, KUEUE.first_come(state), {})}
    assert [places[name].in_cluster_queue for name in ("first", "zeal", "anna", "young")] == [1, 2, 3, 4]
    assert [places[name].in_cluster_queue for name in ("late", "again")] == [1, 2]
    assert (places["lost"].cluster_queue, places["lost"].position) == ("", 7)


def test_kueue_asks_first_who_used_least_where_the_queue_says_so() -> None:
    past = UsageHistory(half_life=3600.0)
    used = {("default", "heavy"): Past({"cpu": 9.0}, 0.0), ("default", "light"): Past({"cpu": 1.0}, 0.0)}
    way = KueueWay(Settings(history=past), History(past, used, 0.0))
    local = [queue(name)[1] | {"spec": {"clusterQueue": "q"}} for name in ("heavy", "light")]
    by_usage = team(admissionScope={"admissionMode": "UsageBasedAdmissionFairSharing"})
    waiting = [demand("x", queue="heavy", priority=9), demand("y", queue="light")]
    assert names(way.first_come(snapshot(fleet(ROOM), [*by_usage, *local], *waiting))) == ["y", "x"]
    assert names(way.first_come(snapshot(fleet(ROOM), [*team(), *local], *waiting))) == ["x", "y"]


def test_kueue_keeps_at_the_head_who_waits_for_its_victims() -> None:
    low = held("low", 4)
    first = demand("first", shape=shape(4), priority=5)
    state = holding(snapshot(fleet(ROOM), team(preemption=TAKES), first), low)
    planner = KueuePlanner(Settings())
    assert planner.plan(state).preemptions
    urgent = demand("urgent", shape=shape(4), priority=9)
    later = holding(replace(state, demands=(first, urgent)), replace(low, leaving=True))
    assert names(KueueWay.of(planner).first_come(later)) == ["first", "urgent"]
    assert names(KUEUE.first_come(later)) == ["urgent", "first"]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("ab"), st.integers(1, 5), st.integers(0, 2), st.integers(0, 5)),
        min_size=1,
        max_size=9,
    ),
    st.booleans(),
)
def test_kueues_heads_are_asked_in_the_order_that_is_shown(jobs: list[tuple[str, int, int, int]], strict: bool) -> None:
    spec = {"queueingStrategy": "StrictFIFO"} if strict else {}
    waiting = [
        demand(f"j{number}", queue=name, shape=shape(cpu), priority=priority, created=float(created), minimum=None)
        for number, (name, cpu, priority, created) in enumerate(jobs)
    ]
    state = snapshot(fleet(ROOM), [*team("a", 3, **spec), *team("b", 3, **spec)], *waiting)
    shown = names(KUEUE.first_come(state))
    outcome = KUEUE.outlook(state)
    started = [entry.key.partition("/")[2] for entry in outcome.admissions]
    for name in "ab":
        mine = [job for job in shown if next(d for d in waiting if d.key == f"default/{job}").queue == name]
        got = [job for job in started if job in mine]
        assert got == [job for job in mine if job in got], "nobody starts before one that is shown before it"
        if strict:
            assert got == mine[: len(got)]
    # Each has exactly one answer.
    assert sorted([*started, *reasons(outcome)]) == sorted(shown)


# Why the others wait.


def test_kueue_says_of_each_what_its_cycles_come_to() -> None:
    waiting = [
        demand("fits", shape=shape(3), created=1.0),
        demand("large", shape=shape(4), created=2.0),
        demand("small", shape=shape(1), created=3.0),
        demand("never", shape=shape(9), created=4.0),
    ]
    outcome = KUEUE.outlook(snapshot(fleet(ROOM), team(), *waiting))
    assert [entry.key for entry in outcome.admissions] == ["default/fits", "default/small"]
    assert reasons(outcome) == {"large": "WaitingForQuota", "never": "ExceedsMaxQuota"}


def test_behind_a_head_that_waits_everybody_is_told_behind_whom() -> None:
    waiting = [demand("large", shape=shape(9), created=1.0), demand("small", created=2.0), demand("third", created=3.0)]
    outcome = KUEUE.outlook(snapshot(fleet(ROOM), team(queueingStrategy="StrictFIFO"), *waiting))
    assert not outcome.admissions
    said = {refusal.key.partition("/")[2]: refusal.message for refusal in outcome.refusals}
    assert reasons(outcome) == {"large": "ExceedsMaxQuota", "small": "PendingEvaluation", "third": "PendingEvaluation"}
    assert said["small"] == said["third"] == "ClusterQueue q is StrictFIFO and default/large before it still waits"


@BOTH
def test_what_would_help_is_tried_by_the_rules_of_the_mode(way: Way) -> None:
    state = holding(snapshot(fleet(ROOM), team(), demand("next", shape=shape(3))), held("runs", 3))
    found = way.explain(state, "default/next")
    assert found.refusal is not None
    assert found.refusal.reason.code == "WaitingForQuota"
    assert found.change == "raise the nominalQuota of cpu in flavor default of ClusterQueue q to 6"
    assert [(line.node, line.used) for line in found.quota if line.resource == "cpu"] == [("q", 3000)]


@pytest.mark.parametrize(
    ("objects", "reason", "change"),
    [
        (team(stopPolicy="Hold"), "Suspended", "set stopPolicy of ClusterQueue q to None"),
        (
            team(namespaceSelector=None),
            "Misconfigured",
            "let namespaceSelector of ClusterQueue q select namespace default",
        ),
        (team("r"), "Misconfigured", "use LocalQueue r"),
    ],
)
def test_one_word_of_kueue_for_several_causes_still_leads_to_the_right_change(
    objects: list[dict[str, Any]], reason: str, change: str
) -> None:
    found = KUEUE.explain(snapshot(fleet(ROOM), objects, demand()), "default/job")
    assert found.refusal is not None
    assert (found.refusal.reason.code, found.change) == (reason, change)


def test_behind_a_strict_head_another_strategy_would_help() -> None:
    waiting = [demand("large", shape=shape(9), created=1.0), demand("small", created=2.0)]
    found = KUEUE.explain(snapshot(fleet(ROOM), team(queueingStrategy="StrictFIFO"), *waiting), "default/small")
    assert (found.position, found.ahead) == (2, 1)
    assert found.change == "set queueingStrategy of ClusterQueue q to BestEffortFIFO"


# When somebody starts.


@BOTH
def test_a_start_follows_from_the_ends_of_what_runs(way: Way) -> None:
    runs = held("runs", 4, started=0.0, expected=600.0)
    state = holding(snapshot(fleet(ROOM), team(), demand("next", shape=shape(3))), runs)
    assert estimate(state, "default/next", way.begin) == Estimate(600.0, 1200.0)
    assert estimate(state, "default/absent", way.begin).why == "it does not wait"


def test_a_line_of_jobs_is_run_through_one_after_the_other() -> None:
    waiting = [demand(f"j{n}", shape=shape(4), created=float(n), expected=60.0, minimum=None) for n in range(4)]
    state = holding(snapshot(fleet(ROOM), team(), *waiting), held("runs", 4, started=0.0, expected=100.0))
    for way in (KUEUE, FLEET):
        assert [estimate(state, f"default/j{n}", way.begin).earliest for n in range(4)] == [100.0, 160.0, 220.0, 280.0]


def test_in_mode_kueue_nobody_starts_before_the_head_of_a_strict_queue_does() -> None:
    runs = held("runs", 3, started=0.0, expected=600.0)
    waiting = [demand("large", shape=shape(4), created=1.0), demand("small", created=2.0)]
    strict = holding(snapshot(fleet(ROOM), team(queueingStrategy="StrictFIFO"), *waiting), runs)
    start = estimate(strict, "default/small", KUEUE.begin)
    assert (start.earliest, start.why) == (
        None,
        "one running slice ahead of it does not say how long it takes (expectedDuration)",
    )
    assert estimate(strict, "default/large", KUEUE.begin) == Estimate(600.0, 1200.0)
    relaxed = holding(snapshot(fleet(ROOM), team(), *waiting), runs)
    assert estimate(relaxed, "default/small", KUEUE.begin) == Estimate(0.0, 0.0)


@BOTH
def test_who_is_sent_away_for_another_waits_again_and_is_counted(way: Way) -> None:
    preempts = {"preemption": TAKES}
    low = held("low", 4, expected=50.0, started=0.0, priority=-1)
    waiting = [
        demand("high", shape=shape(4), priority=9, expected=100.0),
        demand("last", shape=shape(4), priority=-2, expected=10.0),
    ]
    state = holding(snapshot(fleet(ROOM), team(**preempts), *waiting), low)
    assert estimate(state, "default/high", way.begin) == Estimate(0.0, 0.0)
    # high until 100, then low anew until 150, then it.
    assert estimate(state, "default/last", way.begin) == Estimate(150.0, 300.0)


@BOTH
def test_what_never_ends_and_what_never_helps_is_said(way: Way) -> None:
    state = holding(
        snapshot(fleet(ROOM), team(), demand("next", shape=shape(3)), demand("never", shape=shape(9))), held("runs", 4)
    )
    assert "expectedDuration" in estimate(state, "default/next", way.begin).why
    assert estimate(state, "default/never", way.begin).why == "waiting alone does not help"


def test_a_course_leaves_its_beginning_alone() -> None:
    state = holding(snapshot(fleet(ROOM), team(), demand(tasks=9)), held("runs", 2, expected=5.0, started=0.0))
    for way in (KUEUE, FLEET):
        course = Course(state, way.begin())
        outcome = course.settle()
        assert course.given == {"default/job": 2}
        assert state.usage == {"q": {("default", "cpu"): 2000}}
        after = carry_out(state, outcome)
        assert {d.key: d.waiting for d in course.snapshot.demands} == {d.key: d.waiting for d in after.demands}
        course.advance()
        assert course.snapshot.now == 5.0
        assert course.snapshot.usage == {"q": {("default", "cpu"): 2000}}


# Who has borrowed it.


def test_who_has_borrowed_is_named_with_the_time_that_its_jobs_say() -> None:
    objects = [*team("q", 4, cohortName="lab"), *team("r", 2, cohortName="lab"), *team("s", 0, cohortName="lab")]
    slices = (
        held("own", 1, "q"),
        held("long", 2, "r", expected=900.0, started=0.0, work="r-1"),
        held("short", 2, "r", expected=300.0, started=0.0, work="r-2"),
        held("silent", 1, "s"),
    )
    state = holding(snapshot(fleet(ROOM), objects, demand("next", queue="q", shape=shape(3))), *slices)
    for way in (KUEUE, FLEET):
        (refusal,) = way.outlook(state).refusals
        assert refusal.message == "needs 3 cpu in flavor default; 0 free in ClusterQueue q and its cohort lab"
        found = loans_of(state, refusal)
        assert [(loan.queue, loan.amount, loan.until) for loan in found] == [("r", 2000, 300.0), ("s", 1000, None)]
        assert said(found, 0.0) == "2 lent to r (likely back in 5m), 1 to s (its jobs do not say until when)"
        assert said(found, 301.0).startswith("2 lent to r (back any moment)")
        assert found[0].document() == {
            "clusterQueue": "r", "flavor": "default", "resource": "cpu", "amount": "2", "until": "1970-01-01T00:05:00Z",
        }  # fmt: skip
    assert loans_of(state, None) == []
    assert said([], 0.0) == ""


def test_a_planner_that_always_wants_to_be_asked_again_is_not_asked_for_ever() -> None:
    asked = []

    def restless(snapshot: Snapshot) -> Plan:
        asked.append(snapshot.now)
        return Plan(refusals=(Refusal("default/job", Reason.WAITING_FOR_QUOTA),), wake_at=snapshot.now)

    state = snapshot(fleet(ROOM), team(), demand())
    assert estimate(state, "default/job", lambda: restless).earliest is None
    assert len(asked) < 10
    Course(state, restless).settle()
    assert len(asked) < 20
