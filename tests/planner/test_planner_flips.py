"""What would have sent a job elsewhere, or let it in: the change is made, and the choice is seen to flip."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from fleet_objects import demand, fleet, open_queue, shape, site, snapshot
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.fleet.changes import Charge, ScoresSeen
from hub.placement.rule import ClusterRule, Predicate, Requirement, ScoreWeight
from hub.planner.cycle import plan
from hub.planner.explain import explain
from hub.planner.flips import Flip
from hub.planner.flips import given as given_to
from hub.planner.plan import Snapshot
from hub.planner.whatif import smallest_change
from hub.scoring.builtin import ColumnScorer
from hub.scoring.interface import WeightedScorer

FOR_EVER = 1e12


def scored(*clusters: Any, weights: dict[str, float], **columns: dict[str, float]) -> tuple[Any, dict[str, Any]]:
    found = fleet(*clusters).apply(ScoresSeen(name, values, FOR_EVER) for name, values in columns.items())
    return found, {"scorers": tuple(WeightedScorer(ColumnScorer(name), weight) for name, weight in weights.items())}


def said(flip: Flip | None) -> tuple[str, str] | None:
    return None if flip is None else (flip.cluster, flip.words)


def test_the_weight_that_turns_the_totals() -> None:
    """a: 100 + 0, b: 0 + 60, c: 20 + 100; a and c are equal where y counts 0.8, and a is first by name."""
    where, scorers = scored(
        site("a"), site("b"), site("c"), weights={"x": 1.0, "y": 1.0},
        x={"a": 10, "b": 0, "c": 2}, y={"a": 0, "b": 6, "c": 10},
    )  # fmt: skip
    found = explain(snapshot(where, open_queue(), demand(), **scorers), "default/job")
    assert found.admission is not None
    assert found.admission.slices[0].cluster == "c"
    assert found.next_best == ("a", 20.0)
    assert said(found.flip) == ("a", "weight 0.8 instead of 1 for y in the hub's scorers.weights")


@pytest.mark.parametrize(
    ("clusters", "rule", "charges", "flip"),
    [
        # What the rule weighs is weighed in whole numbers, where the rule is written.
        (
            [site("a"), site("b")],
            ClusterRule(weights=(ScoreWeight("x", 3), ScoreWeight("y", 2))),
            [],
            ("b", "weight 1 instead of 3 for x in prioritizerPolicy"),
        ),
        (
            [site("a"), site("b", labels={"zone": "us"})],
            ClusterRule(predicates=(Predicate(labels=(Requirement("zone", "DoesNotExist"),)),)),
            [],
            None,
        ),
        ([site("a"), site("b", taints=[{"key": "k", "effect": "NoSelect"}])], ClusterRule(), [], None),
        ([site("b", cpu=1), site("a")], ClusterRule(), [Charge("other-work-1", "b", shape(cpu=1), 1)], None),
        ([site("a"), site("b", available="Unknown")], ClusterRule(), [], None),
        # Nobody else is there.
        ([site("a")], ClusterRule(), [], None),
    ],
)
def test_what_a_weight_or_one_change_there_does(
    clusters: list[Any], rule: ClusterRule, charges: list[Any], flip: tuple[str, str] | None
) -> None:
    where, scorers = scored(*clusters, weights={"x": 1.0, "y": 1.0}, x={"a": 1, "b": 0}, y={"a": 0, "b": 1})
    found = explain(snapshot(where.apply(charges), open_queue(), demand(rule=rule), **scorers), "default/job")
    assert said(found.flip) == flip


@pytest.mark.parametrize(
    ("clusters", "rule", "charges", "words"),
    [
        (
            [site("a"), site("b", labels={"zone": "us"})],
            ClusterRule(predicates=(Predicate(labels=(Requirement("zone", "DoesNotExist"),)),)),
            [],
            "label zone removed from b (!zone)",
        ),
        (
            [site("a"), site("b", taints=[{"key": "k", "effect": "NoSelect"}])],
            ClusterRule(),
            [],
            "a toleration of taint k:NoSelect",
        ),
        (
            [site("a"), site("b", cpu=1)],
            ClusterRule(),
            [Charge("x-work-1", "b", shape(cpu=1), 1)],
            "x-work-1 there ended",
        ),
        ([site("a"), site("b", available="Unknown")], ClusterRule(), [], "b back"),
    ],
)
def test_the_better_cluster_that_was_kept_out(
    clusters: list[Any], rule: ClusterRule, charges: list[Any], words: str
) -> None:
    where, scorers = scored(*clusters, weights={"x": 1.0}, x={"a": 0, "b": 1})
    found = explain(snapshot(where.apply(charges), open_queue(), demand(rule=rule), **scorers), "default/job")
    assert said(found.flip) == ("b", words)


def test_less_of_what_is_asked() -> None:
    where, scorers = scored(site("a", gpus=8), site("b", gpus=2), weights={"x": 1.0}, x={"a": 0, "b": 1})
    before = snapshot(where, open_queue(), demand(shape=shape(gpus=4)), **scorers)
    assert said(explain(before, "default/job").flip) == ("b", "ask for at most 2 nvidia.com/gpu a task")


@pytest.mark.parametrize(
    ("before", "change"),
    [
        # The largest node could hold three when empty, and two now: asking for three would only make it wait.
        (
            snapshot(
                fleet(site("a", cpu=3)).apply([Charge("other-work-1", "a", shape(cpu=1), 1)]),
                open_queue(), demand(shape=shape(cpu=4)),
            ),
            "ask for at most 2 cpu a task",
        ),
        (
            snapshot(
                fleet(site("a", gpus=3)).apply([Charge("other-work-1", "a", shape(gpus=1), 2)]),
                open_queue(), demand(shape=shape(gpus=4)),
            ),
            "ask for at most 1 nvidia.com/gpu a task",
        ),
        (snapshot(fleet(site("a")), open_queue(), demand(shape=shape(gpus=1))), "ask for no GPU"),
        # Full now, and no single slice gives enough back.
        (
            snapshot(
                fleet(site("a", cpu=4)).apply(Charge(f"w{n}-work-1", "a", shape(cpu=1), 1) for n in range(3)),
                open_queue(), demand(shape=shape(cpu=4)),
            ),
            "ask for at most 1 cpu a task",
        ),
        (
            snapshot(
                fleet(site("a", cpu=4)).apply(Charge(f"w{n}-work-1", "a", shape(cpu=1), 1) for n in range(4)),
                open_queue(), demand(shape=shape(cpu=4)),
            ),
            "wait until the 4 slices of others on a have ended",
        ),
    ],
)  # fmt: skip
def test_where_the_largest_node_is_partly_busy(before: Snapshot, change: str) -> None:
    assert explain(before, "default/job").change == change


values = st.dictionaries(st.sampled_from("abcd"), st.integers(0, 9), max_size=4)


@st.composite
def fleets(draw: st.DrawFn) -> Snapshot:
    names = draw(st.lists(st.sampled_from("abcd"), min_size=1, max_size=4, unique=True))
    clusters = []
    for name in names:
        taints = [{"key": "k", "effect": draw(st.sampled_from(["NoSelect", "PreferNoSelect"]))}]
        clusters.append(
            site(
                name,
                cpu=draw(st.integers(1, 4)),
                gpus=draw(st.integers(0, 3)),
                labels={"zone": draw(st.sampled_from(["eu", "us"]))},
                taints=taints if draw(st.integers(0, 3)) == 0 else [],
                available=draw(st.sampled_from(["True", "True", "True", "Unknown"])),
            )
        )
    where, scorers = scored(*clusters, weights={"x": 1.0, "y": -2.0}, x=draw(values), y=draw(values))
    where = where.apply(
        Charge(f"w{n}-work-1", draw(st.sampled_from(names)), shape(cpu=1), draw(st.integers(1, 2)))
        for n in range(draw(st.integers(0, 3)))
    )
    zone = Predicate(labels=(Requirement("zone", "In", ("eu",)),))
    rule = ClusterRule(
        predicates=(zone,) if draw(st.booleans()) else (),
        weights=(ScoreWeight("x", draw(st.integers(-3, 3))),) if draw(st.booleans()) else (),
    )
    asked = shape(cpu=draw(st.integers(1, 5)), gpus=draw(st.integers(0, 3)))
    quota = draw(st.sampled_from([1, 3, 99]))
    older = demand("older", created=-1.0, shape=shape(cpu=1))
    job = demand(tasks=draw(st.integers(1, 3)), rule=rule, shape=asked)
    return snapshot(where, open_queue(cpu=quota), *([older] if draw(st.booleans()) else []), job, **scorers)


@settings(max_examples=120, deadline=None)
@given(fleets())
def test_whatever_is_said_to_flip_the_choice_flips_it(before: Snapshot) -> None:
    job = next(entry for entry in before.demands if entry.key == "default/job")
    decided = plan(before)
    admission = next((entry for entry in decided.admissions if entry.key == job.key), None)
    refusal = next((entry for entry in decided.refusals if entry.key == job.key), None)
    found = explain(before, job.key)
    if refusal is not None:
        edit = smallest_change(before, job, refusal)
        assert found.change == ("" if edit is None else edit.words)
        if edit is not None:
            assert _slots(edit.snapshot, edit.demand) > _slots(before, job)
    if admission is None:
        assert found.flip is None
        return
    chosen = {part.cluster for part in admission.slices}
    assert given_to(before, job) == chosen
    if found.flip is not None:
        assert found.flip.cluster not in chosen
        assert found.flip.cluster in given_to(found.flip.snapshot, found.flip.demand)


def _slots(before: Snapshot, job: Any) -> int:
    demands = tuple(job if entry.key == job.key else entry for entry in before.demands)
    found = plan(replace(before, demands=demands)).admissions
    return sum(part.slots for entry in found if entry.key == job.key for part in entry.slices)
