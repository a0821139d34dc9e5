"""Placements decided by classes, and from one state of the fleet to the next: always as each alone, from scratch."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from placement_fleet import NOW, SETS, addon, built_in, cluster, placement

from hub.fleet.changes import ClusterGone, FleetChange, ScoresSeen
from hub.fleet.fleet import Fleet
from hub.placement.classes import PlacementClass
from hub.placement.decide import decide_placement
from hub.placement.request import parse_request

NAMES = [f"c{number}" for number in range(9)]
TAINTS = st.sampled_from([(), ("k:NoSelect",), ("k:NoSelectIfNew",), ("k:PreferNoSelect",), ("o:NoSelectIfNew",)])


@st.composite
def clusters(draw: st.DrawFn) -> list[FleetChange]:
    changes: list[FleetChange] = [
        cluster(
            name,
            *draw(TAINTS),
            cpu=str(draw(st.integers(1, 4))),
            zone=draw(st.sampled_from("xyz")),
        )
        for name in draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=9))
    ]
    scores = draw(st.dictionaries(st.sampled_from(NAMES), st.integers(-100, 100)))
    until = draw(st.dictionaries(st.sampled_from(NAMES), st.sampled_from([NOW - 5, NOW + 5]), max_size=3))
    return [*changes, ScoresSeen("AddOn/r/s", scores, math.inf, until)]


@st.composite
def specs(draw: st.DrawFn) -> dict[str, Any]:
    configurations = [addon(draw(st.integers(-3, 3)))]
    configurations += [built_in(n, draw(st.integers(-2, 3))) for n in ("Balance", "Steady", "ResourceAllocatableCPU")]
    spec: dict[str, Any] = {
        "prioritizerPolicy": {"mode": draw(st.sampled_from(["Exact", "Additive"])), "configurations": configurations}
    }
    if draw(st.booleans()):
        spec["numberOfClusters"] = draw(st.integers(0, 6))
    if draw(st.booleans()):
        line = {"key": "zone", "operator": draw(st.sampled_from(["In", "NotIn"])), "values": ["x", "y"]}
        spec["predicates"] = [{"requiredClusterSelector": {"labelSelector": {"matchExpressions": [line]}}}]
    if draw(st.booleans()):
        spec["tolerations"] = [{"key": "k", "operator": "Exists"}]
    if draw(st.integers(0, 3)) == 0:
        unsatisfiable = draw(st.sampled_from(["DoNotSchedule", "ScheduleAnyway"]))
        spec["spreadPolicy"] = {
            "spreadConstraints": [
                {"topologyKey": "zone", "topologyKeyType": "Label", "whenUnsatisfiable": unsatisfiable}
            ]
        }
    return spec


@settings(max_examples=250, deadline=None)
@given(clusters(), specs(), st.lists(st.sets(st.sampled_from(NAMES), max_size=4), min_size=1, max_size=4))
def test_a_class_decides_as_each_of_its_members_alone(
    changes: list[FleetChange], spec: dict[str, Any], standing: list[set[str]]
) -> None:
    fleet = Fleet.empty().apply(changes)
    request = parse_request(placement(**spec))
    tally = np.zeros(len(fleet.names), np.int64)
    for chosen in standing:
        tally += np.array([name in chosen for name in fleet.names], np.int64)
    view = PlacementClass(fleet, SETS, request.rule, NOW, tally)
    for chosen in standing:
        current = tuple(sorted(chosen))
        others = tally - np.array([name in chosen for name in fleet.names], np.int64)
        alone = decide_placement(fleet, SETS, request.rule, NOW, current=current, counts=others)
        assert view.decide(current) == alone
        assert view.decide(current) == alone
        assert view.decide(current, scores=False).clusters == alone.clusters


@settings(max_examples=150, deadline=None)
@given(clusters(), st.lists(clusters(), max_size=3), specs(), st.sets(st.sampled_from(NAMES), max_size=3))
def test_step_by_step_is_from_scratch(
    first: list[FleetChange], later: list[list[FleetChange]], spec: dict[str, Any], chosen: set[str]
) -> None:
    request = parse_request(placement(**spec))
    fleet, history = Fleet.empty(), list[FleetChange]()
    for changes in (first, *later):
        if fleet.names and len(changes) % 2:
            changes = [ClusterGone(fleet.names[0]), *changes]
        fleet = fleet.apply(changes)
        history += changes
        stepwise = decide_placement(fleet, SETS, request.rule, NOW, current=sorted(chosen))
        fresh = decide_placement(Fleet.empty().apply(history), SETS, request.rule, NOW, current=sorted(chosen))
        assert stepwise == fresh


@settings(max_examples=100, deadline=None)
@given(clusters(), specs())
def test_a_decision_stands_when_something_unrelated_changes(changes: list[FleetChange], spec: dict[str, Any]) -> None:
    request = parse_request(placement(**spec))
    fleet = Fleet.empty().apply(changes)
    before = decide_placement(fleet, SETS, request.rule, NOW)
    aside: list[FleetChange] = [
        cluster("zz-elsewhere", **{"cluster.open-cluster-management.io/clusterset": "other"}),
        ScoresSeen("AddOn/other/s", {"c1": 3}, math.inf),
    ]
    assert decide_placement(fleet.apply(aside), SETS, request.rule, NOW) == before


def test_candidates_that_are_the_same_are_known_to_be() -> None:
    fleet = Fleet.empty().apply([cluster("a", zone="x"), cluster("b", zone="y")])
    rule = parse_request(placement(prioritizerPolicy={"configurations": [addon()]})).rule
    tally = np.zeros(2, np.int64)
    before = PlacementClass(fleet, SETS, rule, NOW, tally)
    labelled = PlacementClass(fleet.apply([cluster("a", zone="z")]), SETS, rule, NOW, tally)
    assert labelled.same_candidates(before)
    assert labelled.same_scores(before)
    more = fleet.apply([cluster("c", **{"cluster.open-cluster-management.io/clusterset": "other"})])
    assert PlacementClass(more, SETS, rule, NOW, np.zeros(3, np.int64)).same_candidates(before)
    scored = PlacementClass(fleet.apply([ScoresSeen("AddOn/r/s", {"a": 1}, math.inf)]), SETS, rule, NOW, tally)
    assert scored.same_candidates(before)
    assert not scored.same_scores(before)
    tainted = PlacementClass(fleet.apply([cluster("a", "k:NoSelect")]), SETS, rule, NOW, tally)
    assert not tainted.same_candidates(before)
    avoided = PlacementClass(fleet.apply([cluster("a", "k:PreferNoSelect")]), SETS, rule, NOW, tally)
    assert not avoided.same_candidates(before)
