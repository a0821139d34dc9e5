"""Objects that pass the schema and still mislead: none of them costs more than itself, and the reason names it."""

from __future__ import annotations

import math
import time
from typing import Any

import pytest
from placement_fleet import NOW, SETS, addon, built_in, by_score, cluster, placement

from hub.api.errors import InvalidObjectError
from hub.fleet.changes import ClusterSeen, ScoresSeen
from hub.fleet.fleet import Fleet
from hub.placement.decide import UNKNOWN_SCORE, decide_placement
from hub.placement.filters import placement_verdicts
from hub.placement.request import parse_request
from hub.placement.sets import ClusterSets
from hub.placement.what_if import smallest_change


def decide(fleet: Fleet, sets: ClusterSets = SETS, **spec: Any) -> list[tuple[str, int]]:
    outcome = decide_placement(fleet, sets, parse_request(placement(**spec)).rule, NOW)
    return [(decision.cluster, decision.score) for decision in outcome.decisions]


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"numberOfClusters": -1}, "spec.numberOfClusters"),
        ({"numberOfClusters": True}, "spec.numberOfClusters"),
        ({"prioritizerPolicy": {"mode": "Bogus"}}, "spec.prioritizerPolicy.mode"),
        (
            {"prioritizerPolicy": {"configurations": [built_in("Spread")]}},
            "spec.prioritizerPolicy.configurations[0].scoreCoordinate.builtIn",
        ),
        # Defect 6: equal coordinates do not merge there, and all of them count.
        (
            {"prioritizerPolicy": {"configurations": [addon(2), addon(3)]}},
            "spec.prioritizerPolicy.configurations[1].scoreCoordinate",
        ),
        ({"tolerations": [{"operator": "Equal"}]}, "spec.tolerations[0].operator"),
        ({"tolerations": [{"key": "k", "operator": "Matches"}]}, "spec.tolerations[0].operator"),
        ({"scoreRateLimit": "often"}, "spec.scoreRateLimit"),
        ({"sortBy": "Age"}, "spec.sortBy"),
        ({"spreadPolicy": {"spreadConstraints": [{"topologyKey": "z"}] * 9}}, "spec.spreadPolicy"),
        (
            {"predicates": [{"requiredClusterSelector": {"celSelector": {"celExpressions": ["managedCluster."]}}}]},
            "spec.predicates[0].requiredClusterSelector.celSelector.celExpressions[0]",
        ),
        (
            {"predicates": [{"requiredClusterSelector": {"celSelector": {"celExpressions": ["'text'"]}}}]},
            "spec.predicates[0].requiredClusterSelector.celSelector.celExpressions[0]",
        ),
    ],
)
def test_a_placement_that_cannot_be_read_names_the_field(spec: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidObjectError) as caught:
        parse_request(placement(**spec))
    assert caught.value.field == field
    assert str(caught.value).count(field) == 1


@pytest.mark.parametrize("value", ["-4", "lots", "1e99999", 9**999, -1, None, [], {"cpu": 1}])
def test_a_cluster_that_reports_nonsense_keeps_its_last_totals_and_is_named(value: Any) -> None:
    policy = {"mode": "Exact", "configurations": [built_in("ResourceAllocatableCPU")]}
    fleet = Fleet.empty().apply([cluster("a", cpu="4"), cluster("b", cpu="8"), cluster("c", cpu="6")])
    before = decide(fleet, prioritizerPolicy=policy)
    assert before == [("b", 100), ("c", 0), ("a", -100)]
    seen = cluster("b").cluster
    wrong = {**seen, "status": {**seen["status"], "allocatable": {"cpu": value}}}
    after = fleet.apply([ClusterSeen(wrong)])
    found = decide(after, prioritizerPolicy=policy)
    assert [name for name, _ in found] in (["b", "c", "a"], ["c", "a", "b"])
    if found == before:
        assert "b" in after.problems
    assert {name: score for name, score in found if name != "b"}.keys() == {"a", "c"}
    assert all(-100 <= score <= 100 for name, score in found if name != "b")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, True, "9"])
def test_a_score_that_is_no_number_is_unknown(value: Any) -> None:
    seen = ScoresSeen("AddOn/r/s", {"a": value, "b": -100}, math.inf)
    fleet = Fleet.empty().apply([cluster("a"), cluster("b"), seen])
    assert decide(fleet, prioritizerPolicy=by_score()) == [("b", -100), ("a", UNKNOWN_SCORE)]


def test_a_label_of_ten_thousand_characters_is_said_and_what_was_known_still_counts() -> None:
    fleet = Fleet.empty().apply([cluster("a", region="eu"), cluster("b", region="eu")])
    eu = [{"requiredClusterSelector": {"labelSelector": {"matchLabels": {"region": "eu"}}}}]
    before = decide(fleet, predicates=eu)
    assert [name for name, _ in before] == ["a", "b"]
    after = fleet.apply([cluster("b", region="e" * 10_000)])
    assert decide(after, predicates=eu) == before
    assert "region" in after.problems["b"]
    assert len(after.problems["b"]) < 500
    # What a Placement asks for may be as long: it matches nothing, and costs as little.
    huge = [{"requiredClusterSelector": {"labelSelector": {"matchLabels": {"region": "e" * 10_000}}}}]
    assert decide(after, predicates=huge) == []


def test_huge_values_and_many_constraints_cost_little() -> None:
    huge = "v" * 60
    clusters = [cluster(f"c{n:03}", zone=huge + str(n % 3), **{f"k{i}": huge for i in range(5)}) for n in range(300)]
    fleet = Fleet.empty().apply(clusters)
    lines = [{"key": f"k{i % 5}", "operator": "In", "values": [huge, huge + str(i)]} for i in range(64)]
    predicates = [{"requiredClusterSelector": {"labelSelector": {"matchExpressions": lines}}}] * 64
    constraints = [
        {"topologyKey": key, "topologyKeyType": "Label", "whenUnsatisfiable": "DoNotSchedule"}
        for key in ("zone", "k1", "k2", "k3", "k4", "zone", "zone", "zone")
    ]
    started = time.process_time()
    found = decide(fleet, predicates=predicates, spreadPolicy={"spreadConstraints": constraints})
    assert len(found) == 300
    assert time.process_time() - started < 2.0


def test_an_expression_that_costs_too_much_matches_nothing_and_ends_soon() -> None:
    numbers = "[0,1,2,3,4,5,6,7,8,9]"
    text = "".join(f"{numbers}.all(x{i}, " for i in range(8)) + "x0 >= 0" + ")" * 8
    fleet = Fleet.empty().apply([cluster(name) for name in "abc"])
    predicates = [{"requiredClusterSelector": {"celSelector": {"celExpressions": [text]}}}]
    started = time.process_time()
    assert decide(fleet, predicates=predicates) == []
    assert time.process_time() - started < 3.0


def test_an_expression_that_fails_on_one_cluster_does_not_choose_that_one() -> None:
    fleet = Fleet.empty().apply([cluster("a", gpu="4"), cluster("b")])
    text = "int(managedCluster.metadata.labels['gpu']) > 3"
    predicates = [{"requiredClusterSelector": {"celSelector": {"celExpressions": [text]}}}]
    assert [name for name, _ in decide(fleet, predicates=predicates)] == ["a"]


def test_a_clock_an_hour_off_moves_nobody_to_a_cluster_it_should_not() -> None:
    """A taint from the future is tolerated for as long as it says; one whose time nobody can read is not young."""
    fleet = Fleet.empty().apply([cluster("a", "k:NoSelect"), cluster("b")])
    taint = {"key": "k", "effect": "NoSelect", "timeAdded": "2026-01-01T01:01:00Z"}
    seen = cluster("a").cluster
    spec = {"hubAcceptsClient": True}
    ahead = fleet.apply([ClusterSeen({**seen, "spec": {**spec, "taints": [taint]}})])
    tolerations = [{"key": "k", "operator": "Exists", "tolerationSeconds": 30}]
    rule = parse_request(placement(tolerations=tolerations)).rule
    outcome = decide_placement(ahead, SETS, rule, NOW)
    assert (outcome.clusters, outcome.until) == (("a", "b"), NOW + 3630)
    unread = fleet.apply([ClusterSeen({**seen, "spec": {**spec, "taints": [{**taint, "timeAdded": "yesterday"}]}})])
    assert decide_placement(unread, SETS, rule, NOW).clusters == ("b",)


def test_a_broken_set_binds_nothing_and_the_others_stand() -> None:
    """Defect 7 is a crash on what cannot be found; here it is a sentence."""
    selector = {"selectorType": "LabelSelector", "labelSelector": {"matchLabels": {"x": 7}}}
    sets = ClusterSets.parse(
        [{"metadata": {"name": "fleet"}}, {"metadata": {"name": "odd"}, "spec": {"clusterSelector": selector}}],
        [
            {"metadata": {"name": name, "namespace": "ns"}, "spec": {"clusterSet": name}}
            for name in ("fleet", "odd", "gone")
        ],
    )
    assert set(sets.problems) == {"odd", "ns/odd", "ns/gone"}
    assert decide(Fleet.empty().apply([cluster("a")]), sets) == [("a", 200 - 100)]


def test_a_cluster_that_nobody_has_accepted_and_one_that_leaves_are_never_chosen() -> None:
    """Defect 12: there a cluster that was never let in can be chosen until somebody taints it."""
    seen = cluster("a").cluster
    leaving = {**seen, "metadata": {**seen["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}}
    stranger = {**cluster("c").cluster, "spec": {}}
    fleet = Fleet.empty().apply([ClusterSeen(leaving), cluster("b"), ClusterSeen(stranger)])
    assert [name for name, _ in decide(fleet)] == ["b"]
    rule = parse_request(placement()).rule
    change = smallest_change(fleet, SETS, rule, NOW, "c")
    assert change is not None
    assert change.what == "hubAcceptsClient of c"


def test_reasons_name_the_cluster_and_the_taint() -> None:
    """Defect 11: there the reason of a taint says the literal word clustername."""
    fleet = Fleet.empty().apply([cluster("a", "k:NoSelect"), ClusterSeen({**cluster("b").cluster, "spec": {}})])
    rule = parse_request(placement()).rule
    found = {
        name: verdict[0].message(**verdict[1])
        for name, verdict in placement_verdicts(fleet, SETS, rule, NOW).items()
        if verdict is not None
    }
    assert found["a"] == "has taint k:NoSelect"
    assert "b" in found


def test_scores_in_expressions_are_a_name_and_a_value() -> None:
    """Defect 15: there the documentation promises a quantity that the API does not have."""
    fleet = Fleet.empty().apply([cluster("a"), ScoresSeen("AddOn/r/s", {"a": 7}, math.inf)])
    text = "managedCluster.scores('r') == [{'name': 's', 'value': 7}]"
    predicates = [{"requiredClusterSelector": {"celSelector": {"celExpressions": [text]}}}]
    assert [name for name, _ in decide(fleet, predicates=predicates)] == ["a"]


def test_what_a_cluster_bears_is_a_score_beside_how_often_it_is_chosen() -> None:
    """Defect 13: Balance counts decisions, as in OCM; load is for a score to say, and any weight of it decides."""
    fleet = Fleet.empty().apply([cluster("a"), cluster("b"), ScoresSeen("AddOn/r/s", {"a": -40, "b": 60}, math.inf)])
    policy = {"configurations": [addon()]}
    assert decide(fleet, numberOfClusters=1, prioritizerPolicy=policy) == [("b", 160)]
