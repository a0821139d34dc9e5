"""A decision about the heads of lanes is the decision about everyone; what changes nothing costs no decision."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from fleet_objects import demand, fleet, open_queue, shape, site, snapshot

from bench.fuzz_queue import case_of
from bench.queue_cases import Case, Run
from hub.api.reasons import Reason
from hub.planner.backlog import Backlog, Heads
from hub.planner.cycle import plan
from hub.planner.plan import Plan, Refusal, Snapshot


def crowded(seed: int) -> Run:
    """A case with many more of each kind that waits."""
    case = case_of(seed)[0]
    rng = random.Random(seed)
    more = [
        replace(job, name=f"{job.name}-{copy}", flavor="", cluster="", created=float(rng.randrange(9)))
        for job in case.jobs
        for copy in range(rng.choice([0, 0, 3, 12]))
    ]
    return Run(Case(case.objects, (*case.jobs, *more), case.strategies, case.clusters, case.notice))


def reasons(decided: Plan) -> dict[str, tuple[Reason, object]]:
    return {refusal.key: (refusal.reason, refusal.facts) for refusal in decided.refusals}


def same(ours: Plan, theirs: Plan) -> None:
    assert ours.admissions == theirs.admissions
    assert ours.preemptions == theirs.preemptions
    assert ours.wake_at == theirs.wake_at
    assert reasons(ours) == reasons(theirs)


@pytest.mark.parametrize("first", range(0, 240, 40))
def test_the_heads_decide_for_everyone(first: int) -> None:
    for seed in range(first, first + 40):
        run = crowded(seed)
        heads, said = Heads(), dict[str, Refusal]()

        def look(before: Snapshot, decided: Plan, heads: Heads = heads, said: dict[str, Refusal] = said) -> None:
            ours = heads.plan(before)
            said |= {refusal.key: refusal for refusal in ours.refusals}
            theirs = {refusal.key for refusal in decided.refusals}
            same(replace(ours, refusals=tuple(r for key, r in said.items() if key in theirs)), decided)

        run.settle(look)
        assert run.settled


def test_who_comes_behind_a_refused_one_needs_no_decision() -> None:
    """And is told what the decision would have told."""
    answered = 0
    for seed in range(120):
        run = crowded(seed).settle()
        before = run.snapshot()
        if not before.demands:
            continue
        backlog = Backlog(before.demands)
        backlog.decide(before)
        like = random.Random(seed).choice(before.demands)
        late = replace(like, key="default/late", uid="late", created=99.0)
        said = backlog.put(late)
        if said is None:
            continue
        answered += 1
        anew = plan(replace(before, demands=(*before.demands, late)))
        assert not anew.admissions
        assert reasons(anew)["default/late"] == (said.reason, said.facts)
        assert backlog.refusal("default/late") is not None
        same(backlog.whole(Plan(preemptions=anew.preemptions, wake_at=anew.wake_at)), anew)
    assert answered > 30


def test_who_comes_before_all_others_is_decided_about() -> None:
    waiting = [demand(f"j{n}", created=float(n)) for n in range(9)]
    before = snapshot(fleet(site("a", cpu=2)), open_queue(), *waiting)
    backlog = Backlog(waiting)
    backlog.decide(before)
    assert backlog.put(demand("old", created=-1.0)) is None
    assert backlog.refusal("default/j8") is None


def test_only_what_could_be_used_wakes() -> None:
    waiting = [demand(f"gpu{n}", shape=shape(1, 1), created=float(n)) for n in range(5)]
    sites = fleet(site("a", cpu=2), site("g", cpu=9, gpus=2))
    before = snapshot(sites, open_queue(), *waiting)
    backlog = Backlog(waiting)
    assert backlog.concerns("q", [("default", "cpu")], "a"), "nothing was decided yet"
    backlog.decide(before)
    assert backlog.concerns("q", [("default", "cpu")], "")
    assert backlog.concerns("q", [("default", "nvidia.com/gpu")], "")
    assert not backlog.concerns("q", [("default", "memory")], "")
    assert not backlog.concerns("other", [("default", "cpu")], "")
    assert backlog.concerns("other", [], "g")
    assert not backlog.concerns("other", [], "gone")


def test_a_decision_looks_at_kinds_not_at_jobs() -> None:
    waiting = [demand(f"j{n:05}", created=float(n), shape=shape(1 + n % 3)) for n in range(3_000)]
    sites = fleet(site("a", cpu=7))
    backlog = Backlog(waiting)
    before = snapshot(sites, open_queue())
    decided = backlog.decide(before)
    assert sum(part.slots for entry in decided.admissions for part in entry.slices) == 4
    assert len(decided.refusals) < 100
    whole = backlog.whole(decided)
    same(whole, plan(replace(before, demands=tuple(waiting))))
    assert len(whole.refusals) == 3_000 - len(decided.admissions)


def test_a_decision_that_fails_leaves_no_trace() -> None:
    class Poison:
        """Not even its hash can be had."""

        __hash__ = None  # type: ignore[assignment]

    sites, objects = fleet(site("a", cpu=2)), open_queue()
    good = [demand(f"j{n}", created=float(n)) for n in range(4)]
    bad = demand("bad", rule=Poison())
    heads = Heads()
    same(heads.plan(snapshot(sites, objects, *good)), plan(snapshot(sites, objects, *good)))
    with pytest.raises(TypeError):
        heads.plan(snapshot(sites, objects, *good, bad))
    same(heads.plan(snapshot(sites, objects, *good[1:])), plan(snapshot(sites, objects, *good[1:])))
