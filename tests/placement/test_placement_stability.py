"""What keeps a cluster where it is, what an unknown score is worth, and what a taint may only ask for."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from placement_fleet import NOW, SETS, addon, by_score, cluster, placement

from hub.api import names
from hub.api.errors import InvalidObjectError
from hub.fleet.changes import FleetChange, ScoresSeen
from hub.fleet.fleet import Fleet
from hub.placement.decide import UNKNOWN_SCORE, PlacementOutcome, decide_placement
from hub.placement.request import parse_request
from hub.placement.stability import Held


def scored(*extra: FleetChange, **scores: float) -> Fleet:
    return Fleet.empty().apply([*map(cluster, scores), ScoresSeen("AddOn/r/s", scores, math.inf), *extra])


def decide(fleet: Fleet, annotations: dict[str, str] | None = None, now: float = NOW, **more: Any) -> PlacementOutcome:
    known = {name: more.pop(name) for name in ("current", "since", "counts") if name in more}
    written = {"numberOfClusters": 1, "prioritizerPolicy": by_score(), **more}
    request = parse_request(placement(annotations, **written))
    return decide_placement(fleet, SETS, request.rule, now, stability=request.stability, **known)


@pytest.mark.parametrize(
    ("annotations", "since", "chosen", "why"),
    [
        ({}, {}, "b", {}),
        # Nothing said: a chosen cluster is safe for scoreRateLimit, a minute.
        ({}, {"a": Held(NOW - 59)}, "a", {"a": "dwell"}),
        ({}, {"a": Held(NOW - 60)}, "b", {}),
        ({names.MIN_DWELL: "10m"}, {"a": Held(NOW - 599)}, "a", {"a": "dwell"}),
        ({names.MIN_DWELL: "10m"}, {"a": Held(NOW - 601)}, "b", {}),
        ({names.HYSTERESIS: "10"}, {}, "a", {"a": "hysteresis"}),
        ({names.HYSTERESIS: "9"}, {}, "b", {}),
        ({names.MAX_MOVES: "1/10m"}, {}, "b", {}),
        ({names.MAX_MOVES: "0/10m"}, {}, "a", {"a": "budget"}),
    ],
)
def test_a_better_cluster_has_to_be_better_enough(
    annotations: dict[str, str], since: dict[str, Held], chosen: str, why: dict[str, str]
) -> None:
    outcome = decide(scored(a=10, b=20), annotations, current=["a"], since=since)
    # b is ten points better; equals would go by name.
    assert outcome.clusters == (chosen,)
    assert outcome.held == why
    assert outcome.displaced == (() if chosen == "a" else ("a",))


def test_hysteresis_is_not_in_the_score() -> None:
    outcome = decide(scored(a=10, b=20), {names.HYSTERESIS: "50"}, current=["a"])
    assert [(d.cluster, d.score) for d in outcome.decisions] == [("a", 10)]


def test_what_keeps_a_cluster_ends_at_its_moment() -> None:
    fleet, since = scored(a=10, b=20), {"a": Held(NOW - 10)}
    outcome = decide(fleet, current=["a"], since=since)
    assert outcome.until == NOW + 50
    assert decide(fleet, now=outcome.until, current=["a"], since=since).clusters == ("b",)


def test_a_cluster_that_fails_a_filter_leaves_whatever_keeps_it() -> None:
    annotations = {names.MIN_DWELL: "1h", names.HYSTERESIS: "100", names.MAX_MOVES: "0/1h"}
    fleet = scored(cluster("a", "k:NoSelect"), a=10, b=5)
    assert decide(fleet, annotations, current=["a"], since={"a": Held(NOW - 1)}).clusters == ("b",)


def test_a_budget_for_moves_lets_the_worst_go_first() -> None:
    fleet = scored(a=1, b=2, c=3, d=50, e=60, f=70)
    annotations, current = {names.MAX_MOVES: "1/10m", names.MIN_DWELL: "0s"}, ["a", "b", "c"]
    outcome = decide(fleet, annotations, current=current, numberOfClusters=3)
    assert outcome.clusters == ("b", "c", "f")
    assert outcome.displaced == ("a",)
    assert outcome.held == {"b": "budget", "c": "budget"}
    since = {"f": Held(NOW, True)}
    again = decide(fleet, annotations, now=NOW + 1, current=outcome.clusters, since=since, numberOfClusters=3)
    assert again.clusters == outcome.clusters
    assert again.until == NOW + 600
    later = decide(fleet, annotations, now=NOW + 601, current=outcome.clusters, since=since, numberOfClusters=3)
    assert later.clusters == ("c", "e", "f")
    percent = {names.MAX_MOVES: "50%/10m"}
    assert decide(fleet, percent, current=current, numberOfClusters=3).clusters == ("c", "e", "f")


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(st.sampled_from("abcdefgh"), st.integers(-9, 9).map(float), min_size=1),
    st.sets(st.sampled_from("abcdefgh"), max_size=4),
    st.integers(1, 4),
    st.integers(0, 3),
)
def test_never_more_moves_than_the_budget_and_never_fewer_clusters(
    scores: dict[str, float], chosen: set[str], number: int, moves: int
) -> None:
    fleet = scored(**scores)
    current = sorted(chosen & set(scores))[:number]
    outcome = decide(fleet, {names.MAX_MOVES: f"{moves}/1h"}, current=current, numberOfClusters=number)
    assert len(outcome.displaced) <= moves
    assert len(outcome.decisions) == min(number, len(scores))


@pytest.mark.parametrize(
    ("missing", "expected"),
    [
        (None, [("a", -10), ("b", UNKNOWN_SCORE)]),
        ("Worst", [("a", -10), ("b", UNKNOWN_SCORE)]),
        ("Neutral", [("b", 0), ("a", -10)]),
        ("Exclude", [("a", -10)]),
        ("LastKnown(10m)", [("b", 90), ("a", -10)]),
        ("LastKnown(30s)", [("a", -10), ("b", UNKNOWN_SCORE)]),
    ],
)
def test_what_an_expired_score_is_worth(missing: str | None, expected: list[tuple[str, int]]) -> None:
    """Defect 5: in OCM the expired 90 is 0 and outranks a valid −10."""
    seen = ScoresSeen("AddOn/r/s", {"a": -10, "b": 90}, math.inf, {"b": NOW - 60})
    fleet = Fleet.empty().apply([cluster("a"), cluster("b"), seen])
    outcome = decide(fleet, {names.MISSING_SCORE: missing} if missing else None, numberOfClusters=2)
    assert [(d.cluster, d.score) for d in outcome.decisions] == expected
    assert outcome.until == (NOW + 540 if missing == "LastKnown(10m)" else math.inf)


def test_a_score_that_is_valid_says_when_to_look_again() -> None:
    seen = ScoresSeen("AddOn/r/s", {"a": -10, "b": 90}, math.inf, {"b": NOW + 7})
    fleet = Fleet.empty().apply([cluster("a"), cluster("b"), seen])
    outcome = decide(fleet)
    assert (outcome.clusters, outcome.until) == (("b",), NOW + 7)
    assert decide(fleet, now=NOW + 7).clusters == ("a",)


def test_a_toleration_says_when_to_look_again() -> None:
    fleet = scored(cluster("a", "k:NoSelect"), cluster("b", "k:NoSelect"), a=1)
    toleration = {"key": "k", "operator": "Exists", "tolerationSeconds": 90}
    outcome = decide(fleet, tolerations=[toleration])
    assert (outcome.clusters, outcome.until) == (("a",), NOW + 30)
    assert decide(fleet, now=NOW + 30, tolerations=[toleration]).clusters == ()


def test_prefer_no_select_is_a_preference() -> None:
    fleet = scored(cluster("a", "k:PreferNoSelect"), a=90, b=-5, c=-6)
    assert decide(fleet).clusters == ("b",)
    assert [d.cluster for d in decide(fleet, numberOfClusters=3).decisions] == ["b", "c", "a"]
    assert decide(fleet, tolerations=[{"key": "k", "operator": "Exists"}]).clusters == ("a",)
    # Nobody is moved for it.
    assert decide(fleet, current=["a"]).clusters == ("a",)


@pytest.mark.parametrize(
    ("annotations", "words"),
    [
        ({names.HYSTERESIS: "-1"}, "a number of points"),
        ({names.HYSTERESIS: "9" * 30}, "a number of points"),
        ({names.MIN_DWELL: "soon"}, "a time such as 90s"),
        ({names.MIN_DWELL: "9" * 30 + "h"}, "a time such as 90s"),
        ({names.MAX_MOVES: "3"}, "such as 2/10m"),
        ({names.MAX_MOVES: "101%/1h"}, "such as 2/10m"),
        ({names.MAX_MOVES: "1/x"}, "a time such as 90s"),
        ({names.MISSING_SCORE: "Zero"}, "Worst, Exclude, Neutral or LastKnown"),
        ({names.MISSING_SCORE: "LastKnown(x)"}, "a time such as 90s"),
    ],
)
def test_annotations_that_cannot_be_read(annotations: dict[str, str], words: str) -> None:
    with pytest.raises(InvalidObjectError, match=words) as caught:
        parse_request(placement(annotations))
    assert caught.value.field == f"metadata.annotations[{next(iter(annotations))}]"


def test_scores_of_cel_are_read_and_new_ones_noticed() -> None:
    expression = "managedCluster.scores('r').exists(s, s.name == 's' && s.value >= 20)"
    predicates = [{"requiredClusterSelector": {"celSelector": {"celExpressions": [expression]}}}]
    fleet = scored(a=10, b=20)
    assert decide(fleet, numberOfClusters=None, predicates=predicates).clusters == ("b",)
    better = fleet.apply([ScoresSeen("AddOn/r/s", {"a": 30, "b": 20}, math.inf)])
    assert decide(better, numberOfClusters=None, predicates=predicates).clusters == ("a", "b")
    # Its validity is not looked at, as in OCM; without any score there is nothing to look at.
    old = fleet.apply([ScoresSeen("AddOn/r/s", {"b": 20}, math.inf, {"b": NOW - 1})])
    assert decide(old, numberOfClusters=None, predicates=predicates).clusters == ("b",)


@pytest.mark.parametrize(
    ("expression", "chosen"),
    [
        ("parseJSON(managedCluster.status.clusterClaims[0].value).gpus > 3", ("a",)),
        ("semver(managedCluster.metadata.labels['v']).isLessThan(semver('1.10.0'))", ("a",)),
        ("quantity(managedCluster.status.allocatable.cpu).isGreaterThan(quantity('3500m'))", ("a", "b")),
    ],
)
def test_the_libraries_of_cel(expression: str, chosen: tuple[str, ...]) -> None:
    fleet = Fleet.empty().apply(
        [
            cluster("a", claims={"json": '{"gpus": 4}'}, v="1.9.3"),
            cluster("b", claims={"json": '{"gpus": 2}'}, v="1.10.1"),
            cluster("c", cpu="3", claims={"json": "{"}, v="new"),
        ]
    )
    predicates = [{"requiredClusterSelector": {"celSelector": {"celExpressions": [expression]}}}]
    assert decide(fleet, numberOfClusters=None, predicates=predicates).clusters == chosen


def test_weights_that_cancel_leave_the_name() -> None:
    fleet = scored(ScoresSeen("AddOn/r/t", {"a": 5.0, "b": 90.0}, math.inf), a=5.0, b=90.0)
    policy = {"mode": "Exact", "configurations": [addon(3), addon(-3, "t")]}
    outcome = decide(fleet, prioritizerPolicy=policy, numberOfClusters=2)
    assert [(d.cluster, d.score) for d in outcome.decisions] == [("a", 0), ("b", 0)]
