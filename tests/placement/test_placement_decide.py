"""Plain Placements: the decisions of the real OCM scheduler, then what the golden cases do not touch."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hub.api import names
from hub.fleet.changes import ClusterSeen, FleetChange, ScoresSeen
from hub.fleet.fleet import Fleet
from hub.placement.decide import UNKNOWN_SCORE, PlacementOutcome, decide_placement
from hub.placement.rules import parse_rule
from hub.placement.sets import ClusterSets

# One hundred clusters and five placements over them, with what OCM's scheduler chose: names and scores, in order.
GOLDEN = json.loads((Path(__file__).parent / "data" / "ocm_decisions.json").read_text())
NOW = 1767225600.0
SETS = ClusterSets.parse(
    [{"metadata": {"name": "fleet"}}],
    [{"metadata": {"name": "fleet", "namespace": "ns"}, "spec": {"clusterSet": "fleet"}}],
)


def cluster(name: str, env: str = "prod", taint: str = "", cpu: str = "", memory: str = "", **more: Any) -> ClusterSeen:
    key, _, rest = taint.partition("=")
    value, _, effect = rest.partition(":")
    resources = {k: v for k, v in (("cpu", cpu), ("memory", memory)) if v}
    return ClusterSeen(
        {
            "metadata": {"name": name, "labels": {"env": env, names.CLUSTER_SET: more.get("set", "fleet")},
                         **more.get("metadata", {})},
            "spec": {
                "hubAcceptsClient": True,
                "taints": [{"key": key, "value": value, "effect": effect}] if taint else [],
            },
            "status": {"allocatable": resources, "capacity": more.get("capacity", resources)},
        }
    )  # fmt: skip


def coordinate(name: str, weight: int = 1) -> dict[str, Any]:
    kind, _, rest = name.partition("/")
    if kind == "AddOn":
        resource, _, score = rest.partition("/")
        return {
            "scoreCoordinate": {"type": "AddOn", "addOn": {"resourceName": resource, "scoreName": score}},
            "weight": weight,
        }
    return {"scoreCoordinate": {"type": "BuiltIn", "builtIn": name}, "weight": weight}


def exact(*coordinates: dict[str, Any]) -> dict[str, Any]:
    return {"mode": "Exact", "configurations": list(coordinates)}


def decide(fleet: Fleet, spec: dict[str, Any], **more: Any) -> PlacementOutcome:
    return decide_placement(fleet, SETS, parse_rule("ns", spec, "p", jobs=False), more.pop("now", NOW), **more)


def pairs(outcome: PlacementOutcome) -> list[tuple[str, int]]:
    return [(decision.cluster, decision.score) for decision in outcome.decisions]


GOLDEN_SPEC = {
    "numberOfClusters": 10,
    "clusterSets": ["fleet"],
    "predicates": [{"requiredClusterSelector": {"labelSelector": {"matchLabels": {"env": "prod"}}}}],
    "tolerations": [{"key": "gpu", "operator": "Exists"}],
    "prioritizerPolicy": exact(
        coordinate("Steady"),
        coordinate("Balance"),
        coordinate("ResourceAllocatableCPU"),
        coordinate("ResourceAllocatableMemory"),
        coordinate("AddOn/gpu/free", 3),
    ),
}


@pytest.mark.parametrize("case", GOLDEN["cases"])
def test_decides_as_ocm(case: dict[str, Any]) -> None:
    rows = GOLDEN["clusters"]
    changes: list[FleetChange] = [cluster(*row[:5]) for row in rows]
    fleet = Fleet.empty().apply([*changes, ScoresSeen("AddOn/gpu/free", {row[0]: row[5] for row in rows}, math.inf)])
    outcome = decide(fleet, GOLDEN_SPEC, current=case["current"], counts=np.array(case["counts"]))
    assert pairs(outcome) == [tuple(pair) for pair in case["expected"]]
    assert (outcome.satisfied, outcome.reason) == (True, "AllDecisionsScheduled")


FLEET = Fleet.empty().apply([cluster("a", cpu="4"), cluster("b", cpu="8"), cluster("c", cpu="16", env="dev")])


def test_defaults_are_balance_and_steady() -> None:
    counts = np.array([4, 1, 0])
    outcome = decide(FLEET, {}, current=["a"], counts=counts)
    assert pairs(outcome) == [("c", 100), ("b", 50), ("a", 0)]
    additive = {"prioritizerPolicy": {"configurations": [coordinate("Balance", 0), coordinate("Steady", 2)]}}
    assert pairs(decide(FLEET, additive, current=["b"], counts=counts)) == [("b", 200), ("a", 0), ("c", 0)]
    assert pairs(decide(FLEET, {})) == [("a", 100), ("b", 100), ("c", 100)]
    assert pairs(decide(FLEET, {"prioritizerPolicy": exact()})) == [("a", 0), ("b", 0), ("c", 0)]


def test_unknown_is_below_the_worst_known() -> None:
    fleet = FLEET.apply([ScoresSeen("AddOn/r/s", {"a": -100, "c": 20}, NOW + 60)])
    spec = {"prioritizerPolicy": exact(coordinate("AddOn/r/s"))}
    assert pairs(decide(fleet, spec)) == [("c", 20), ("a", -100), ("b", UNKNOWN_SCORE)]
    negative = {"prioritizerPolicy": exact(coordinate("AddOn/r/s", -2))}
    assert pairs(decide(fleet, negative)) == [("a", 200), ("c", -40), ("b", 2 * UNKNOWN_SCORE)]
    # Too old is as unknown as absent: nobody is preferred for it.
    assert pairs(decide(fleet, spec, now=NOW + 61)) == [(n, UNKNOWN_SCORE) for n in "abc"]


def test_allocatable_without_a_figure_is_unknown() -> None:
    fleet = FLEET.apply([cluster("b", cpu="32", capacity={"memory": "1Gi"})])
    spec = {"prioritizerPolicy": exact(coordinate("ResourceAllocatableCPU"))}
    assert pairs(decide(fleet, spec)) == [("c", 100), ("a", -100), ("b", UNKNOWN_SCORE)]
    same = Fleet.empty().apply([cluster("a", cpu="4"), cluster("b", cpu="4000m")])
    assert pairs(decide(same, spec)) == [("a", 100), ("b", 100)]
    nothing = Fleet.empty().apply([cluster("a"), cluster("b")])
    assert pairs(decide(nothing, spec)) == [("a", UNKNOWN_SCORE), ("b", UNKNOWN_SCORE)]


@pytest.mark.parametrize(
    ("fleet", "namespace", "spec", "reason", "message"),
    [
        (FLEET, "other", {}, "NoManagedClusterSetBindings",
         "No valid ManagedClusterSetBindings found in placement namespace"),
        (FLEET, "ns", {"clusterSets": ["x", "w"]}, "NoIntersection",
         "None of ManagedClusterSets [w,x] is bound to placement namespace"),
        (Fleet.empty().apply([cluster("z", set="elsewhere")]), "ns", {}, "AllManagedClusterSetsEmpty",
         "All ManagedClusterSets [fleet] have no member ManagedCluster"),
        (Fleet.empty().apply([cluster("z", metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"})]), "ns", {},
         "AllManagedClusterSetsEmpty", "All ManagedClusterSets [fleet] have no member ManagedCluster"),
        (Fleet.empty().apply([cluster("z", taint="k=v:NoSelect")]), "ns", {}, "NoManagedClusterMatched",
         "No ManagedCluster matches any of the cluster predicate"),
        (FLEET, "ns", {"numberOfClusters": 0}, "NoManagedClusterMatched",
         "No ManagedCluster matches any of the cluster predicate"),
        (FLEET, "ns", {"numberOfClusters": 5}, "NotAllDecisionsScheduled", "2 cluster decisions unscheduled"),
        (FLEET, "ns", {"numberOfClusters": 3}, "AllDecisionsScheduled", "All cluster decisions scheduled"),
        (FLEET, "ns", {}, "AllDecisionsScheduled", "All cluster decisions scheduled"),
    ],
)  # fmt: skip
def test_conditions(fleet: Fleet, namespace: str, spec: dict[str, Any], reason: str, message: str) -> None:
    outcome = decide_placement(fleet, SETS, parse_rule(namespace, spec, "p", jobs=False), NOW)
    assert (outcome.reason, outcome.message) == (reason, message)
    assert outcome.satisfied is (reason == "AllDecisionsScheduled")


def test_new_taints_keep_decisions_that_were_made() -> None:
    fleet = Fleet.empty().apply([cluster(n, taint="k=v:NoSelectIfNew") for n in "ab"])
    assert pairs(decide(fleet, {}, current=["b"])) == [("b", 200)]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=60), st.integers(0, 70))
@example([1] * 10 + [2, 0], 2)
@example([1] * 40, 3)
def test_choosing_few_of_many_is_sorting_all(values: list[int], limit: int) -> None:
    scored = {f"c{i:02}": value for i, value in enumerate(values)}
    fleet = Fleet.empty().apply([*map(cluster, scored), ScoresSeen("AddOn/r/s", scored, math.inf)])
    spec = {"numberOfClusters": limit, "prioritizerPolicy": exact(coordinate("AddOn/r/s"))}
    expected = sorted(scored.items(), key=lambda pair: (-pair[1], pair[0]))[:limit]
    assert pairs(decide(fleet, spec)) == expected
