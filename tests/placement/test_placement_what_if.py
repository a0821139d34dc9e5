"""The smallest change that flips a choice: made, and seen to flip it."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from placement_fleet import NOW, SETS, addon, by_score, cluster, placement

from hub.fleet.changes import ScoresSeen
from hub.fleet.fleet import Fleet
from hub.placement.decide import decide_placement
from hub.placement.request import parse_request
from hub.placement.what_if import Change, smallest_change

SET = "cluster.open-cluster-management.io/clusterset"
FLEET = Fleet.empty().apply(
    [
        cluster("a", region="eu"),
        cluster("b", region="us"),
        cluster("c", "drain:NoSelect", region="eu"),
        cluster("d", region="eu", **{SET: "other"}),
        cluster("e", region="eu"),
        cluster("f", region="us", **{SET: "other"}),
        ScoresSeen("AddOn/r/s", {"a": 9, "e": 5, "b": 80, "c": 80, "d": 80}, math.inf),
        ScoresSeen("AddOn/r/t", {"a": 1, "e": 4}, math.inf),
    ]
)
EU = [{"requiredClusterSelector": {"labelSelector": {"matchLabels": {"region": "eu"}}}}]


def change(wanted: str, **spec: Any) -> Change | None:
    written = {"numberOfClusters": 1, "predicates": EU, "prioritizerPolicy": by_score(), **spec}
    rule = parse_request(placement(**written)).rule
    assert wanted not in decide_placement(FLEET, SETS, rule, NOW).clusters
    found = smallest_change(FLEET, SETS, rule, NOW, wanted)
    if found is not None:
        assert wanted in decide_placement(found.fleet, found.sets, found.rule, NOW).clusters
    return found


@pytest.mark.parametrize(
    ("wanted", "spec", "what"),
    [
        ("b", {}, "label region=eu on b"),
        ("c", {}, "a toleration of taint drain:NoSelect"),
        ("e", {}, "numberOfClusters 2"),
        (
            "e",
            {"prioritizerPolicy": {"mode": "Exact", "configurations": [addon(), addon(1, "t")]}},
            "numberOfClusters 2",
        ),
        (
            "e",
            {
                "prioritizerPolicy": {"mode": "Exact", "configurations": [addon(0), addon(-1, "t")]},
                "numberOfClusters": 1,
            },
            "numberOfClusters 2",
        ),
        # Set other is not there to be bound; the set of all always is.
        ("d", {}, "a binding of set global in namespace ns"),
        # It would take a label and a binding.
        ("f", {}, None),
    ],
)
def test_what_would_do(wanted: str, spec: dict[str, Any], what: str | None) -> None:
    found = change(wanted, **spec)
    assert (None if found is None else found.what) == what


def test_a_binding_and_a_weight() -> None:
    from hub.placement.sets import ClusterSets

    sets = ClusterSets.parse(
        [{"metadata": {"name": "fleet"}}, {"metadata": {"name": "other"}}],
        [{"metadata": {"name": "fleet", "namespace": "ns"}, "spec": {"clusterSet": "fleet"}}],
    )
    rule = parse_request(placement(numberOfClusters=1, predicates=EU, prioritizerPolicy=by_score())).rule
    found = smallest_change(FLEET, sets, rule, NOW, "d")
    assert found is not None
    assert found.what == "a binding of set global in namespace ns"
    assert "d" in decide_placement(found.fleet, found.sets, found.rule, NOW).clusters
    many = {f"m{n}": 100.0 - n for n in range(20)}
    fleet = Fleet.empty().apply(
        [*map(cluster, many), ScoresSeen("AddOn/r/s", many, math.inf), ScoresSeen("AddOn/r/t", {"m19": 90}, math.inf)]
    )
    policy = {"mode": "Exact", "configurations": [addon(1), addon(0, "t")]}
    asked = parse_request(placement(numberOfClusters=1, prioritizerPolicy=policy)).rule
    weighed = smallest_change(fleet, SETS, asked, NOW, "m19")
    assert weighed is not None
    assert weighed.what == "weight -1 instead of 1 for AddOn/r/s"
    assert decide_placement(weighed.fleet, weighed.sets, weighed.rule, NOW).clusters == ("m19",)


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(st.sampled_from("abcdef"), st.integers(-50, 50), min_size=2),
    st.sets(st.sampled_from("abcdef")),
    st.sets(st.sampled_from("abcdef")),
    st.integers(0, 3),
)
def test_whatever_is_said_to_flip_the_choice_flips_it(
    scores: dict[str, int], tainted: set[str], labelled: set[str], number: int
) -> None:
    fleet = Fleet.empty().apply(
        [
            cluster(name, *(["k:NoSelect"] if name in tainted else []), region="eu" if name in labelled else "us")
            for name in scores
        ]
        + [ScoresSeen("AddOn/r/s", dict(scores), math.inf)]
    )
    spec = {"numberOfClusters": number, "predicates": EU, "prioritizerPolicy": by_score()}
    rule = parse_request(placement(**spec)).rule
    chosen = decide_placement(fleet, SETS, rule, NOW).clusters
    for name in set(scores) - set(chosen):
        found = smallest_change(fleet, SETS, rule, NOW, name)
        if found is not None:
            assert name in decide_placement(found.fleet, found.sets, found.rule, NOW).clusters
        else:
            # Only what needs two changes at once has none.
            assert name in tainted or name not in labelled
