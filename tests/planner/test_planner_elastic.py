"""Elastic jobs in the plan: how they start, grow and give back; and that all of it comes to rest, within all bounds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from fleet_objects import demand, flavor, fleet, queue, shape, site, snapshot

from bench.fuzz_queue import elastic_case
from bench.queue_cases import Run
from bench.queue_laws import settled
from hub.fleet.changes import Charge
from hub.fleet.fleet import Fleet
from hub.planner.cycle import Cycle, plan
from hub.planner.plan import HeldSlice, Plan, Snapshot
from hub.queueing.demand import Demand
from hub.queueing.fleet.policy import FleetPolicy
from hub.queueing.kueue.settings import FINAL, INITIAL

NEVER: dict[str, Any] = {"preemption": {"reclaimWithinCohort": "Never", "withinClusterQueue": "Never"}}
ANY: dict[str, Any] = {"preemption": {"reclaimWithinCohort": "Any", "withinClusterQueue": "LowerPriority"}}
CASES, CHUNK = 400, 50


def cohort(**cpus: Any) -> list[dict[str, Any]]:
    objects: list[dict[str, Any]] = [flavor()]
    for name, given in cpus.items():
        cpu, spec = given if isinstance(given, tuple) else (given, NEVER)
        objects += queue(name, ("default", {"cpu": cpu}), cohortName="team", **spec)
    return objects


def held(name: str, slots: int, tasks: int, bounds: tuple[int, int] | None, **fields: Any) -> HeldSlice:
    """A slice on cluster x of a job in queue `e`, of tasks of one CPU."""
    values: dict[str, Any] = {
        "key": f"default/{name}",
        "uid": f"uid-{name}",
        "work": f"work-{name}-{fields.get('epoch', 1)}",
        "epoch": 1,
        "cluster": "x",
        "queue": "e",
        "local": "e",
        "priority": 0,
        "created": 0.0,
        "admitted": 0.0,
        "shape": shape(1),
        "slots": slots,
        "amounts": ((("default", "cpu"), 1000 * slots),),
        "bounds": bounds,
        "spare": tasks - slots if bounds is not None else 0,
    }
    return HeldSlice(**(values | fields))


def scene(
    objects: list[dict[str, Any]], running: list[HeldSlice], *waiting: Demand, sites: Fleet, **policy: Any
) -> Snapshot:
    usage: dict[str, dict[tuple[str, str], int]] = {}
    for one in running:
        for key, amount in one.amounts:
            used = usage.setdefault(one.queue, {})
            used[key] = used.get(key, 0) + amount
        sites = sites.apply([Charge(one.work, one.cluster, one.shape, one.slots)])
    before = snapshot(
        sites, objects, *waiting, usage=usage, held=tuple(running), policy=replace(FleetPolicy(), **policy)
    )
    return replace(before, now=1_000.0)


def growths(decided: Plan) -> dict[str, int]:
    return {entry.work: entry.slots for entry in decided.growths}


def gives(decided: Plan) -> dict[str, tuple[bool, int]]:
    return {entry.work: (entry.shrinks, entry.kept) for entry in decided.preemptions}


@pytest.mark.parametrize(
    ("cpus", "quota", "most", "expected"),
    [
        (20, 20, 6, {"work-e-1": 6}),
        (5, 20, 6, {"work-e-1": 5}),
        (20, 4, 6, {"work-e-1": 4}),
        (3, 20, 6, {}),
        (20, 20, 3, {}),
        (20, 20, 40, {"work-e-1": 8}),
    ],
    ids=["to its maximum", "as far as there is room", "as far as quota goes", "no room", "at its maximum", "its tasks"],
)
def test_it_grows_where_it_is(cpus: int, quota: int, most: int, expected: dict[str, int]) -> None:
    running = [held("e", 3, 8, (2, most))]
    before = scene(cohort(e=quota), running, sites=fleet(site("x", cpu=cpus), site("y", cpu=50)))
    assert growths(plan(before)) == expected
    assert not plan(before).preemptions
    rigid = replace(before, held=(replace(running[0], bounds=None, spare=0),))
    assert not plan(rigid).growths


@pytest.mark.parametrize("stop", ["Hold", "HoldAndDrain"])
def test_in_a_stopped_queue_nothing_grows(stop: str) -> None:
    objects = cohort(e=(20, NEVER | {"stopPolicy": stop}))
    before = scene(objects, [held("e", 3, 8, (2, 6))], sites=fleet(site("x", cpu=20)))
    assert not plan(before).growths


def test_who_waits_goes_before_growth() -> None:
    before = scene(
        cohort(e=20),
        [held("e", 3, 8, (2, 8))],
        demand("late", tasks=2, queue="e", created=9.0),
        sites=fleet(site("x", cpu=6)),
    )
    decided = plan(before)
    assert [entry.key for entry in decided.admissions] == ["default/late"]
    assert growths(decided) == {"work-e-1": 4}


@pytest.mark.parametrize("policies", [NEVER, ANY], ids=["never", "any"])
@pytest.mark.parametrize(
    ("wanted", "expected"),
    [(1, {"work-e-1": (True, 7)}), (6, {"work-e-1": (True, 2)}), (7, {})],
    ids=["as few as do", "down to its minimum", "and no further"],
)
def test_it_gives_back_to_who_is_entitled_whatever_policies_say(
    policies: dict[str, Any], wanted: int, expected: dict[str, tuple[bool, int]]
) -> None:
    newer = demand("gang", tasks=wanted, queue="e", gang=True, created=5.0)
    before = scene(cohort(e=(8, policies)), [held("e", 8, 8, (2, 8))], newer, sites=fleet(site("x", cpu=8)))
    decided = plan(before)
    assert gives(decided) == expected
    assert not decided.admissions
    if expected:
        assert decided.preemptions[0].reason == "ElasticShrink"
        assert "go" in decided.preemptions[0].message
        assert "default/gang" in decided.preemptions[0].message
        assert decided.refusals[0].reason.code == "WaitingForPreemptedWorkloads"
        # While it gives them back nothing more is asked of it, and nobody else takes them.
        kept = expected["work-e-1"][1]
        giving = replace(before, held=(replace(before.held[0], kept=kept, spare=0),))
        other = demand("other", tasks=wanted, queue="e", created=9.0)
        again = plan(replace(giving, demands=(newer, other)))
        assert not again.preemptions
        assert not again.admissions
        assert not again.growths


def test_the_slots_of_a_queue_are_its_own_before_others_borrow_them() -> None:
    """Its queue owns what the elastic job uses: nobody who would have to borrow it is entitled to it."""
    borrower = demand("borrower", tasks=2, queue="other", gang=True)
    sites = fleet(site("x", cpu=8))
    own = scene(cohort(e=8, other=0), [held("e", 8, 8, (2, 8))], borrower, sites=sites)
    assert not plan(own).preemptions
    lent = scene(cohort(e=4, other=4), [held("e", 8, 8, (2, 8))], borrower, sites=sites)
    assert gives(plan(lent)) == {"work-e-1": (True, 6)}


def test_slots_are_given_back_before_anybody_is_evicted_and_count_no_preemption() -> None:
    """Neither the budget nor the minimum runtime protects what is above the minimum."""
    running = [
        held("e", 4, 4, (1, 4), preempted=99, started=999.0),
        held("rigid", 4, 4, None, priority=-5, created=3.0, gang=True),
    ]
    owner = demand("owner", tasks=3, queue="o", gang=True)
    objects = cohort(e=5, o=(3, ANY))
    before = scene(objects, running, owner, sites=fleet(site("x", cpu=8)), minimum_runtime=500.0)
    assert gives(plan(before)) == {"work-e-1": (True, 1)}
    # Where that is not enough, others go beside it, and it still gives no more than is needed.
    large = replace(owner, groups=demand("owner", tasks=6, queue="o").groups, slots=6)
    both = plan(scene(cohort(e=1, o=(7, ANY)), running, large, sites=fleet(site("x", cpu=8))))
    assert gives(both) == {"work-e-1": (True, 2), "work-rigid-1": (False, 0)}


def test_of_an_array_a_slice_that_is_all_above_the_minimum_goes() -> None:
    running = [held("e", 2, 2, (2, 6)), held("e", 3, 3, (2, 6), epoch=2), held("e", 1, 1, (2, 6), epoch=3)]
    newer = demand("new", tasks=2, queue="e", gang=True, created=5.0)
    decided = plan(scene(cohort(e=6), running, newer, sites=fleet(site("x", cpu=6))))
    assert gives(decided) == {"work-e-3": (True, 0), "work-e-2": (True, 2)}


def test_between_elastic_jobs_shares_are_fair_and_stay() -> None:
    """One has all that is lent; the other is entitled to half of it, gets it, and then both rest."""
    objects = cohort(e=0, f=0, pool=8)
    old = held("old", 7, 8, (1, 8))
    new = held("new", 1, 8, (1, 8), queue="f", local="f", created=5.0)
    sites = fleet(site("x", cpu=8))
    before = scene(objects, [old, new], sites=sites, strategies=(FINAL, INITIAL))
    decided = plan(before)
    assert gives(decided) == {"work-old-1": (True, 4)}
    assert decided.preemptions[0].preemptor == "default/new"
    assert not decided.growths
    after = scene(objects, [held("old", 4, 8, (1, 8)), new], sites=sites, strategies=(FINAL, INITIAL))
    assert growths(plan(after)) == {"work-new-1": 4}
    rest = [held("old", 4, 8, (1, 8)), held("new", 4, 8, (1, 8), queue="f", local="f", created=5.0)]
    assert plan(scene(objects, rest, sites=sites, strategies=(FINAL, INITIAL))) == Plan()


def elastic(name: str, tasks: int, bounds: tuple[int, int], **fields: Any) -> Demand:
    return replace(demand(name, tasks=tasks, queue="e", **fields), slots=min(tasks, bounds[1]), bounds=bounds)


@pytest.mark.parametrize("gang", [True, False])
def test_it_starts_with_its_minimum_on_one_cluster_or_waits(gang: bool) -> None:
    def started(*cpus: int) -> list[tuple[str, int, int]]:
        sites = fleet(*(site(f"c{number}", cpu=cpu) for number, cpu in enumerate(cpus)))
        decided = plan(snapshot(sites, cohort(e=50), elastic("e", 8, (3, 6), gang=gang)))
        assert bool(decided.refusals) == (not decided.admissions)
        return [(p.cluster, p.slots, len(p.tasks)) for a in decided.admissions for p in a.slices]

    assert started(2, 2) == []
    assert started(3, 2) == ([("c0", 3, 8)] if gang else [("c0", 3, 5), ("c1", 2, 3)])
    assert started(3, 5) == ([("c1", 5, 8)] if gang else [("c0", 3, 4), ("c1", 3, 4)])
    assert started(2, 9) == ([("c1", 6, 8)] if gang else [("c1", 4, 5), ("c0", 2, 3)])


def test_a_hidden_minimum_sends_others_away_only_for_all_of_it() -> None:
    running = [held("low", 4, 4, None, priority=-1)]
    objects = cohort(e=(4, ANY))
    waiting = elastic("e", 8, (3, 8), gang=True)
    decided = plan(scene(objects, running, waiting, sites=fleet(site("x", cpu=4))))
    assert gives(decided) == {"work-low-1": (False, 0)}
    assert decided.refusals[0].reason.code == "WaitingForPreemptedWorkloads"
    assert not plan(scene(objects, running, waiting, sites=fleet(site("x", cpu=4)), budget=0)).preemptions


def test_what_is_beyond_the_minimum_holds_nobody_up_in_a_strict_queue() -> None:
    objects = cohort(e=(4, NEVER | {"queueingStrategy": "StrictFIFO"}))
    more = replace(elastic("e", 5, (1, 8)), slots=5, active=2, running=("x",))
    newer = demand("new", tasks=2, queue="e", gang=True, created=5.0)
    decided = plan(scene(objects, [held("e", 2, 2, (1, 8))], more, newer, sites=fleet(site("x", cpu=9))))
    assert [entry.key for entry in decided.admissions] == ["default/new"]


@pytest.mark.parametrize("first", range(0, CASES, CHUNK))
def test_with_elastic_jobs_every_cohort_comes_to_rest(first: int) -> None:
    """Every law of bench/queue_laws.py: among them that nobody is entitled to more or less by what runs."""
    for seed in range(first, first + CHUNK):
        settled(elastic_case(seed))


def test_the_elastic_cases_are_worth_it() -> None:
    runs = [Run(elastic_case(seed)).settle() for seed in range(120)]
    assert min(sum(run.grown for run in runs), sum(run.shrunk for run in runs)) > 15
    extras = sum(
        claim.entitled
        for seed in range(20)
        for claim in Cycle(Run(elastic_case(seed)).snapshot()).claims.extras.values()
    )
    assert extras > 20


def test_a_lowered_maximum_is_kept_by_what_runs() -> None:
    """Whether or not anybody needs it; and never by an eviction."""
    before = scene(cohort(e=9), [held("e", 7, 8, (2, 4))], sites=fleet(site("x", cpu=9)))
    decided = plan(before)
    assert gives(decided) == {"work-e-1": (True, 4)}
    assert decided.preemptions[0].message == "its maximum is 4 now"
    assert not decided.growths
    array = [held("e", 2, 2, (1, 3)), held("e", 3, 3, (1, 3), epoch=2)]
    assert gives(plan(scene(cohort(e=9), array, sites=fleet(site("x", cpu=9))))) == {"work-e-2": (True, 1)}
    giving = replace(before, held=(replace(before.held[0], kept=4, spare=0),))
    assert plan(giving) == Plan()
