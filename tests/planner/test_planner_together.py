"""Runs of jobs that are decided together: the same jobs get a place as one by one, and what is said of it is true."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from fleet_objects import carry_out, demand, flavor, fleet, open_queue, queue, shape, site, snapshot
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.api.reasons import Reason
from hub.placement.rule import ClusterRule
from hub.planner import together
from hub.planner.cycle import plan
from hub.planner.explain import explain
from hub.planner.plan import Plan, Snapshot
from hub.planner.record import describe
from hub.scoring.builtin import default_scorers


def where(decided: Plan) -> dict[str, str]:
    return {admission.key: part.cluster for admission in decided.admissions for part in admission.slices}


def alone(before: Snapshot, monkeypatch: pytest.MonkeyPatch) -> Plan:
    with monkeypatch.context() as patch:
        patch.setattr(together, "LEAST", 10**9)
        return plan(before)


def many(count: int, **fields: object) -> list[object]:
    return [demand(f"job{n:04}", created=float(n), **fields) for n in range(count)]


def scored(*changes: object, jobs: list[object], **fields: object) -> Snapshot:
    return snapshot(fleet(*changes), open_queue(), *jobs, scorers=default_scorers(), **fields)  # type: ignore[arg-type]


def test_a_run_is_placed_as_a_whole_and_says_so() -> None:
    before = scored(site("a", cpu=40), site("b", cpu=40), jobs=many(40))
    decided = plan(before)
    assert len(decided.admissions) == 40
    assert not decided.refusals
    for admission in decided.admissions:
        note = json.loads(admission.slices[0].decision)
        assert note["together"] == 40
        assert note["of"] in (1, 2)
        assert describe(admission.slices[0].decision).endswith("; decided together with 39 other jobs")
    # Nobody fills one cluster while the other is idle.
    assert sorted(list(where(decided).values()).count(name) for name in "ab")[0] >= 10
    assert not plan(carry_out(before, decided)).admissions


def test_few_are_asked_one_by_one() -> None:
    decided = plan(scored(site("a", cpu=40), site("b", cpu=40), jobs=many(together.LEAST - 1)))
    assert all("together" not in json.loads(a.slices[0].decision) for a in decided.admissions)


def test_who_is_ahead_is_never_refused_for_somebody_behind() -> None:
    jobs = many(30, shape=shape(1))
    # The twentieth needs a whole cluster. With all before it placed there is none left, and those behind come after.
    jobs[20] = demand("job0020", created=20.0, shape=shape(30))
    before = scored(site("a", cpu=30), site("b", cpu=30), jobs=jobs)
    decided = plan(before)
    placed = where(decided)
    assert all(f"default/job{n:04}" in placed for n in range(20))
    if "default/job0020" not in placed:
        waiting = next(r for r in decided.refusals if r.key == "default/job0020")
        assert waiting.reason is Reason.WAITING_FOR_CAPACITY
    # A large one that has room beside those ahead of it gets it, however many wait behind.
    jobs = [demand("first", created=0.0, shape=shape(30)), *many(60)[1:]]
    decided = plan(scored(site("a", cpu=30), site("b", cpu=30), jobs=jobs))
    assert "default/first" in where(decided)
    assert len(where(decided)) == 31


def test_quota_is_taken_in_order_and_ends_a_run() -> None:
    jobs = many(60)
    before = snapshot(fleet(site("a", cpu=100), site("b", cpu=100)), open_queue(cpu=25), *jobs)  # type: ignore[arg-type]
    decided = plan(before)
    assert sorted(where(decided)) == [f"default/job{n:04}" for n in range(25)]
    assert {refusal.reason for refusal in decided.refusals} == {Reason.WAITING_FOR_QUOTA}
    assert [refusal.key for refusal in decided.refusals] == [f"default/job{n:04}" for n in range(25, 60)]


def test_another_queue_goes_on_where_one_has_no_quota() -> None:
    objects = [flavor(), *queue("q", ("default", {"cpu": 10})), *queue("r", ("default", {"cpu": 100}))]
    jobs = [demand(f"job{n:04}", created=float(n), queue="qr"[n % 2]) for n in range(80)]
    decided = plan(snapshot(fleet(site("a", cpu=100), site("b", cpu=100)), objects, *jobs))
    placed = where(decided)
    assert len(placed) == 50
    assert sum(note["together"] > 1 for note in map(json.loads, notes(decided)) if "together" in note) > 20


def notes(decided: Plan) -> list[str]:
    return [part.decision for admission in decided.admissions for part in admission.slices]


def test_a_strict_queue_waits_for_its_head() -> None:
    jobs = many(30)
    jobs[20] = demand("job0020", created=20.0, shape=shape(300))
    before = snapshot(
        fleet(site("a", cpu=30), site("b", cpu=30)),
        open_queue(queueingStrategy="StrictFIFO"),
        *jobs,  # type: ignore[arg-type]
    )
    decided = plan(before)
    assert sorted(where(decided)) == [f"default/job{n:04}" for n in range(20)]
    reasons = {refusal.key: refusal.reason for refusal in decided.refusals}
    assert reasons["default/job0020"] is Reason.NO_CLUSTER_FITS
    assert {reasons[f"default/job{n:04}"] for n in range(21, 30)} == {Reason.BEHIND_OLDER_JOB}


def test_who_may_go_anywhere_leaves_room_for_who_may_not() -> None:
    """Half of the jobs may go to two clusters only, which have room for little more than them."""
    sites = [site(name, cpu=23) for name in "abcd"]
    jobs = [
        demand(f"job{n:04}", created=float(n), rule=ClusterRule(chosen=("a", "b") if n % 2 else ("a", "b", "c", "d")))
        for n in range(80)
    ]
    decided = plan(snapshot(fleet(*sites), open_queue(), *jobs, scorers=default_scorers()))
    placed = where(decided)
    # One by one those that may go anywhere would fill `a` and `b`, too, and some of the others would wait.
    assert len(placed) == 80
    assert {placed[f"default/job{n:04}"] for n in range(1, 80, 2)} == {"a", "b"}


def test_explain_sees_what_was_decided_before_the_job() -> None:
    before = scored(site("a", cpu=30), site("b", cpu=30), jobs=many(61))
    decided = plan(before)
    assert len(where(decided)) == 60
    found = explain(before, "default/job0060")
    assert found.refusal is not None
    assert found.refusal.reason is Reason.WAITING_FOR_CAPACITY
    assert (found.position, found.waiting) == (61, 61)
    assert explain(before, "default/job0030").admission is not None


@st.composite
def runs(draw: st.DrawFn) -> Snapshot:
    sites = [
        site(name, nodes=draw(st.integers(1, 3)), cpu=draw(st.integers(2, 8)), gpus=draw(st.sampled_from([0, 2, 4])))
        for name in "abcde"[: draw(st.integers(1, 5))]
    ]
    objects = open_queue(cpu=draw(st.sampled_from([9, 30, 1000])), gpus=draw(st.sampled_from([4, 1000])))
    objects += queue("r", ("default", {"cpu": 12, "nvidia.com/gpu": 5}), queueingStrategy="StrictFIFO")
    kinds = [shape(draw(st.integers(1, 3)), draw(st.integers(0, 2))) for _ in range(draw(st.integers(1, 3)))]
    demands = [
        demand(
            f"job{number:02}",
            tasks=draw(st.sampled_from([1, 1, 1, 1, 3])),
            queue=draw(st.sampled_from("qqqr")),
            priority=draw(st.sampled_from([0, 0, 0, 5])),
            created=float(draw(st.integers(0, 9))),
            shape=draw(st.sampled_from(kinds)),
            gang=draw(st.sampled_from([False, False, False, True])),
        )
        for number in range(draw(st.integers(4, 25)))
    ]
    return snapshot(fleet(*sites), objects, *demands, scorers=default_scorers())


@settings(max_examples=60, deadline=None)
@given(runs())
def test_laws_hold_of_runs_too(before: Snapshot) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(together, "LEAST", 2)
        patch.setattr(together, "EACH", 0)
        decided = plan(before)
        assert plan(replace(before, demands=before.demands[::-1])) == decided
        after = carry_out(before, decided)
        assert not plan(after).admissions, "carried out, a plan leaves nothing to decide"
    for name in after.fleet.names:
        assert all(holding.waiting == 0 for holding in after.fleet.held(name).values())
    placed = {admission.key for admission in decided.admissions}
    waiting = {refusal.key for refusal in decided.refusals}
    assert placed | waiting == {wanted.key for wanted in before.demands}
    # Of jobs that differ in age only none is placed while an older one waits.
    ordered = sorted(before.demands, key=lambda wanted: wanted.order)
    for position, older in enumerate(ordered):
        for younger in ordered[position + 1 :]:
            same = (older.shape, older.queue, older.rule, older.waiting, older.gang, older.priority)
            if same == (younger.shape, younger.queue, younger.rule, younger.waiting, younger.gang, younger.priority):
                assert not (older.key not in placed and younger.key in placed)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 40), st.integers(1, 6), st.integers(1, 20))
def test_as_many_of_equal_jobs_as_one_by_one(jobs: int, clusters: int, cpu: int) -> None:
    sites = [site(f"s{n}", cpu=cpu + n) for n in range(clusters)]
    before = snapshot(fleet(*sites), open_queue(), *many(jobs), scorers=default_scorers())  # type: ignore[arg-type]
    with pytest.MonkeyPatch.context() as patch:
        single = alone(before, patch)
        patch.setattr(together, "LEAST", 2)
        assert where(plan(before)).keys() == where(single).keys()
