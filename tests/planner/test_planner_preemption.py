"""Who makes way for whom, case by case: policies, cost, room, slices, what is kept, what a job waits for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from fleet_objects import demand, flavor, fleet, queue, shape, site, snapshot

from hub.fleet.changes import Charge
from hub.fleet.fleet import Fleet
from hub.planner.cycle import plan
from hub.planner.plan import HeldSlice, Plan, Snapshot
from hub.queueing.demand import Demand
from hub.queueing.fleet.policy import FleetPolicy
from hub.queueing.kueue.settings import FINAL, INITIAL

FAIR = FleetPolicy(strategies=(FINAL, INITIAL))
NOW = 1_000.0
ANY: dict[str, Any] = {"preemption": {"reclaimWithinCohort": "Any", "withinClusterQueue": "LowerPriority"}}
LOWER: dict[str, Any] = {"preemption": {"reclaimWithinCohort": "LowerPriority"}}


def cohort(**cpus: Any) -> list[dict[str, Any]]:
    """Queues of one cohort: CPUs, or (CPUs, spec)."""
    objects: list[dict[str, Any]] = [flavor()]
    for name, given in cpus.items():
        cpu, spec = given if isinstance(given, tuple) else (given, {})
        objects += queue(name, ("default", {"cpu": cpu}), cohortName="team", **spec)
    return objects


def held(name: str, queue: str, cpu: int = 1, slots: int = 1, **fields: Any) -> HeldSlice:
    values: dict[str, Any] = {
        "key": f"default/{name}",
        "uid": f"uid-{name}",
        "work": f"work-{name}-{fields.get('epoch', 1)}",
        "epoch": 1,
        "cluster": "",
        "queue": queue,
        "priority": 0,
        "created": 0.0,
        "admitted": 0.0,
        "shape": shape(cpu),
        "slots": slots,
        "amounts": ((("default", "cpu"), cpu * 1000 * slots),),
        "place": False,
    }
    return HeldSlice(**(values | fields))


def scene(
    objects: list[dict[str, Any]],
    running: list[HeldSlice],
    *waiting: Demand,
    sites: Fleet | None = None,
    policy: FleetPolicy | None = None,
    **fields: Any,
) -> Snapshot:
    """What runs is charged and paid for; on clusters where there are any."""
    usage: dict[str, dict[tuple[str, str], int]] = {}
    there = fleet() if sites is None else sites
    for one in running:
        for key, amount in one.amounts:
            used = usage.setdefault(one.queue, {})
            used[key] = used.get(key, 0) + amount
        if one.cluster:
            there = there.apply([Charge(one.work, one.cluster, one.shape, one.slots)])
    waiting = tuple(replace(one, place=sites is not None) for one in waiting)
    before = snapshot(there, objects, *waiting, usage=usage, held=tuple(running), policy=policy or FleetPolicy())
    return replace(before, now=NOW, **fields)


def victims(decided: Plan) -> dict[str, str]:
    return {entry.key.partition("/")[2]: entry.reason for entry in decided.preemptions}


def reasons(decided: Plan) -> dict[str, str]:
    return {entry.key.partition("/")[2]: entry.reason.code for entry in decided.refusals}


def started(decided: Plan) -> list[str]:
    return [entry.key.partition("/")[2] for entry in decided.admissions]


def test_an_owner_takes_its_own_back() -> None:
    before = scene(
        cohort(a=(4, ANY), b=4), [held("b1", "b", 4), held("b2", "b", 4, created=1.0)], demand("a1", queue="a")
    )
    decided = plan(before)
    assert victims(decided) == {"b2": "InCohortReclamation"}
    assert reasons(decided) == {"a1": "WaitingForPreemptedWorkloads"}
    assert "takes back what it owns for default/a1" in decided.preemptions[0].message
    assert decided.preemptions[0].work == "work-b2-1"
    # While it leaves, nothing more is asked of anyone, and nobody else takes what it leaves.
    leaving = replace(before, held=(before.held[0], replace(before.held[1], leaving=True)))
    again = plan(leaving)
    assert not again.preemptions
    assert reasons(again) == {"a1": "WaitingForPreemptedWorkloads"}
    other = plan(replace(leaving, demands=(*leaving.demands, demand("c", queue="b", place=False, created=5.0))))
    assert not other.admissions
    gone = replace(before, held=before.held[:1], usage={"b": {("default", "cpu"): 4000}})
    assert started(plan(gone)) == ["a1"]


@pytest.mark.parametrize(
    ("policy", "mine", "theirs", "newer", "expected"),
    [
        ("Never", 5, 0, True, {}),
        ("LowerPriority", 5, 0, True, {"old": "InClusterQueue"}),
        ("LowerPriority", 5, 5, True, {}),
        ("LowerOrNewerEqualPriority", 5, 5, True, {"old": "InClusterQueue"}),
        ("LowerOrNewerEqualPriority", 5, 5, False, {}),
        ("LowerOrNewerEqualPriority", 4, 5, True, {}),
    ],
)
def test_within_a_queue(policy: str, mine: int, theirs: int, newer: bool, expected: dict[str, str]) -> None:
    objects = cohort(q=(2, {"preemption": {"withinClusterQueue": policy}}))
    running = [held("old", "q", 2, priority=theirs, created=9.0 if newer else 1.0)]
    decided = plan(scene(objects, running, demand("new", queue="q", shape=shape(2), priority=mine, created=5.0)))
    assert victims(decided) == expected
    if expected:
        assert "priority 5" in decided.preemptions[0].message


@pytest.mark.parametrize(
    ("reclaim", "priority", "expected"),
    [("Never", 9, set()), ("LowerPriority", 9, {"b2"}), ("LowerPriority", 0, set()), ("Any", 0, {"b2"})],
)
def test_reclaim_follows_the_owner_s_policy(reclaim: str, priority: int, expected: set[str]) -> None:
    objects = cohort(a=(4, {"preemption": {"reclaimWithinCohort": reclaim}}), b=4)
    running = [held("b1", "b", 4, created=1.0), held("b2", "b", 4, priority=3, created=2.0)]
    waiting = demand("a1", queue="a", shape=shape(4), priority=priority)
    assert set(victims(plan(scene(objects, running, waiting)))) <= {"b1", "b2"}
    found = victims(plan(scene(objects, running, waiting)))
    assert len(found) == len(expected)


def test_borrowing_may_take_from_lower_priorities_only_up_to_the_threshold() -> None:
    def found(threshold: int | None, theirs: int) -> dict[str, str]:
        borrow: dict[str, Any] = {"policy": "LowerPriority"}
        if threshold is not None:
            borrow["maxPriorityThreshold"] = threshold
        spec = {"preemption": {"reclaimWithinCohort": "LowerPriority", "borrowWithinCohort": borrow}}
        running = [held("b1", "b", 2, priority=theirs)]
        return victims(
            plan(scene(cohort(a=(0, spec), b=0, c=2), running, demand("a1", queue="a", shape=shape(2), priority=5)))
        )

    assert found(None, 1) == {"b1": "InCohortReclaimWhileBorrowing"}
    assert found(1, 1) == {"b1": "InCohortReclaimWhileBorrowing"}
    assert found(0, 1) == {}
    assert found(None, 5) == {}


def test_fair_sharing_takes_from_who_borrows_more_and_stops_at_the_middle() -> None:
    objects = cohort(a=(0, ANY), b=0, pool=4)
    running = [held(f"b{n}", "b", created=float(n)) for n in range(4)]
    waiting = [demand(f"a{n}", queue="a", created=10.0 + n) for n in range(4)]
    decided = plan(scene(objects, running, *waiting, policy=FAIR))
    assert victims(decided) == {"b3": "InCohortFairSharing", "b2": "InCohortFairSharing"}
    assert "fair share" in decided.preemptions[0].message
    # By priority and age alone, the older stay.
    assert victims(plan(scene(objects, running, *waiting))) == {}


def test_the_entitled_stay_whatever_a_policy_allows() -> None:
    objects = cohort(a=(0, ANY), b=0, pool=4)
    running = [held(f"b{n}", "b", created=float(n)) for n in range(2)] + [held(f"a{n}", "a") for n in range(2)]
    decided = plan(scene(objects, running, demand("a9", queue="a", created=20.0), policy=FAIR))
    assert not decided.preemptions
    assert reasons(decided) == {"a9": "WaitingForQuota"}


COSTS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("lower priority", {"priority": 0, "started": 0.0}, {"priority": 1, "started": 990.0}),
    ("less work lost", {"started": 900.0}, {"started": 100.0}),
    ("a checkpoint just now", {"started": 0.0, "checkpoint": 100.0}, {"started": 500.0}),
    ("no restart cost", {"started": 900.0}, {"started": 900.0, "restart": 60.0}),
    ("newest of equals", {"admitted": 30.0, "started": 900.0}, {"admitted": 20.0, "started": 900.0}),
]


@pytest.mark.parametrize(("why", "cheap", "dear"), COSTS, ids=[case[0] for case in COSTS])
def test_the_cheapest_goes(why: str, cheap: dict[str, Any], dear: dict[str, Any]) -> None:
    """Two run in quota of others, who are two as well; but only one of those may take it back."""
    for names in (("x", "y"), ("y", "x")):
        running = [held(name, "b", 2, **given) for name, given in zip(names, (cheap, dear), strict=True)]
        owners = [demand("a1", queue="a", shape=shape(2)), demand("c1", queue="c", shape=shape(2))]
        decided = plan(scene(cohort(a=(2, ANY), b=0, c=2), running, *owners))
        assert set(victims(decided)) == {names[0]}, why
        assert reasons(decided) == {"a1": "WaitingForPreemptedWorkloads", "c1": "WaitingForQuota"}


def test_as_few_as_do() -> None:
    """Small ones are cheaper one by one, but the large one is needed anyway: they are spared."""
    running = [
        held("s1", "b", 1, started=999.0),
        held("s2", "b", 1, started=998.0),
        held("large", "b", 4, started=997.0),
    ]
    owners = [demand("a1", queue="a", shape=shape(4)), demand("c1", queue="c", shape=shape(2))]
    decided = plan(scene(cohort(a=(4, ANY), b=0, c=2), running, *owners))
    assert set(victims(decided)) == {"large"}


def test_minimum_runtime_and_when_to_look_again() -> None:
    policy = FleetPolicy(minimum_runtime=100.0)
    running = [held("b1", "b", 4, started=950.0)]
    decided = plan(scene(cohort(a=(4, ANY), b=0), running, demand("a1", queue="a", shape=shape(4)), policy=policy))
    assert not decided.preemptions
    assert decided.wake_at == 1_050.0
    later = replace(
        scene(cohort(a=(4, ANY), b=0), running, demand("a1", queue="a", shape=shape(4)), policy=policy), now=1_050.0
    )
    assert set(victims(plan(later))) == {"b1"}


def test_the_budget_of_preemptions() -> None:
    for budget, times, expected in ((2, 1, {"b1"}), (2, 2, set()), (None, 99, {"b1"}), (0, 0, set())):
        running = [held("b1", "b", 4, preempted=times)]
        before = scene(
            cohort(a=(4, ANY), b=0), running, demand("a1", queue="a", shape=shape(4)), policy=FleetPolicy(budget=budget)
        )
        assert set(victims(plan(before))) == expected


def on(name: str, cluster: str, cpu: int = 1, slots: int = 1, **fields: Any) -> HeldSlice:
    return held(name, "b", cpu, slots, **({"cluster": cluster, "place": True} | fields))


def test_quota_and_room_are_freed_together() -> None:
    """Room is on y, quota everywhere: who goes is who runs where the preemptor fits."""
    sites = fleet(site("x", cpu=2), site("y", cpu=4))
    running = [on("small", "x", 2, started=990.0), on("large", "y", 4, started=10.0)]
    waiting = demand("a1", queue="a", shape=shape(4))
    decided = plan(scene(cohort(a=(6, ANY), b=0), running, waiting, sites=sites))
    assert set(victims(decided)) == {"large"}
    assert decided.preemptions[0].cluster == "y"


def test_room_belongs_to_whom_it_is_before_whatever_quota_there_is() -> None:
    """There is quota for both, and room for one: a priority decides about room as it does about quota."""
    sites = fleet(site("x", cpu=4))
    objects = cohort(q=(100, {"preemption": {"withinClusterQueue": "LowerPriority"}}))
    running = [held("low", "q", 4, cluster="x", place=True)]
    urgent = demand("urgent", queue="q", shape=shape(4), priority=9, created=5.0)
    assert victims(plan(scene(objects, running, urgent, sites=sites))) == {"low": "InClusterQueue"}
    assert not plan(scene(objects, running, replace(urgent, priority=0), sites=sites)).preemptions


def test_nobody_goes_where_that_makes_no_room() -> None:
    """Others that nobody may send away hold the only cluster that is large enough."""
    sites = fleet(site("x", cpu=2), site("y", cpu=4))
    running = [on("small", "x", 2), held("own", "a", 1, cluster="y", place=True)]
    decided = plan(scene(cohort(a=(9, ANY), b=0), running, demand("a1", queue="a", shape=shape(4)), sites=sites))
    assert not decided.preemptions
    assert reasons(decided) == {"a1": "WaitingForCapacity"}


def test_an_array_shrinks_slice_by_slice() -> None:
    running = [held("b", "b", 1, 2, epoch=n, started=100.0 * n) for n in range(1, 5)]
    decided = plan(scene(cohort(a=(4, ANY), b=4), running, demand("a1", tasks=3, queue="a")))
    assert [entry.epoch for entry in decided.preemptions] == [4, 3]


def test_a_slice_that_is_too_large_is_replaced_and_the_rest_kept() -> None:
    running = [held("b", "b", 1, 8)]
    before = scene(cohort(a=(4, ANY), b=4), running, demand("a1", tasks=3, queue="a"))
    decided = plan(before)
    assert victims(decided) == {"b": "InCohortReclamation"}
    assert "of its 8 slots are kept for it" in decided.preemptions[0].message
    kept = int(decided.preemptions[0].message.rpartition("; ")[2].split()[0])
    assert kept == 5
    # Gone, its tasks wait again, and both get what they are entitled to.
    after = replace(before, held=(), usage={}, demands=(*before.demands, demand("b", tasks=8, queue="b", place=False)))
    got = {a.key: sum(part.slots for part in a.slices) for a in plan(after).admissions}
    assert got == {"default/a1": 3, "default/b": 5}


def test_what_a_job_is_entitled_to_is_kept_while_its_slice_leaves() -> None:
    running = [held("b", "b", 1, 8, leaving=True)]
    waiting = [demand("a1", tasks=3, queue="a"), demand("b9", tasks=9, queue="b", created=50.0)]
    decided = plan(scene(cohort(a=(4, ANY), b=4), running, *waiting))
    assert not decided.preemptions
    assert not decided.admissions
    assert reasons(decided)["a1"] == "WaitingForPreemptedWorkloads"


def test_who_can_never_be_placed_takes_nothing_from_anyone() -> None:
    sites = fleet(site("x", cpu=4))
    running = [on("b1", "x", 4)]
    decided = plan(scene(cohort(a=(9, ANY), b=0), running, demand("a1", queue="a", shape=shape(8)), sites=sites))
    assert not decided.preemptions
    assert reasons(decided) == {"a1": "NoClusterFits"}
    # And somebody behind it does.
    decided = plan(
        scene(
            cohort(a=(9, ANY), b=0), running, demand("a1", queue="a", shape=shape(8)),
            demand("a2", queue="a", shape=shape(4), created=9.0), sites=sites,
        )
    )  # fmt: skip
    assert set(victims(decided)) == {"b1"}


def test_a_strict_queue_waits_for_its_head() -> None:
    strict = ANY | {"queueingStrategy": "StrictFIFO"}
    waiting = [demand("head", queue="a", shape=shape(9), created=1.0), demand("next", queue="a", created=2.0)]
    decided = plan(scene(cohort(a=(4, strict), b=9, c=0), [held("b1", "b", 9), held("b2", "b", 4)], *waiting))
    assert reasons(decided)["next"] == "BehindOlderJob"
    # Elsewhere a head that is too large does not cost those behind it what their queue owns.
    free = plan(scene(cohort(a=(4, ANY), b=9, c=0), [held("b1", "b", 9), held("b2", "b", 4)], *waiting))
    assert reasons(free)["next"] == "WaitingForPreemptedWorkloads"


def test_usage_that_no_slice_accounts_for_stays() -> None:
    before = scene(cohort(a=(4, ANY), b=0), [], demand("a1", queue="a", shape=shape(4)))
    decided = plan(replace(before, usage={"b": {("default", "cpu"): 4000}}))
    assert not decided.preemptions
    assert reasons(decided) == {"a1": "WaitingForQuota"}
