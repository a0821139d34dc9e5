"""spreadPolicy: what OCM's API promises and does not do."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from placement_fleet import NOW, SETS, by_score, cluster, placement

from hub.fleet.changes import FleetChange, ScoresSeen
from hub.fleet.fleet import Fleet
from hub.placement.decide import PlacementOutcome, decide_placement
from hub.placement.request import parse_request

# Zone x has the best four, y two, z one, and one is nowhere.
ZONES = {"a": "x", "b": "x", "c": "x", "d": "x", "e": "y", "f": "y", "g": "z", "h": ""}


def fleet_of(zones: dict[str, str], scores: dict[str, float] | None = None, *, claims: bool = False) -> Fleet:
    changes: list[FleetChange] = []
    for number, (name, zone) in enumerate(zones.items()):
        where = {"zone": zone} if zone else {}
        changes.append(cluster(name, claims=where) if claims else cluster(name, **where))
        scores = scores or {}
        scores.setdefault(name, 50.0 - number)
    return Fleet.empty().apply([*changes, ScoresSeen("AddOn/r/s", scores or {}, math.inf)])


def spec(hard: bool, number: int | None = None, *, claim: bool = False, skew: int = 1) -> dict[str, Any]:
    constraint = {
        "topologyKey": "zone",
        "topologyKeyType": "Claim" if claim else "Label",
        "maxSkew": skew,
        "whenUnsatisfiable": "DoNotSchedule" if hard else "ScheduleAnyway",
    }
    found: dict[str, Any] = {
        "spreadPolicy": {"spreadConstraints": [constraint]}, "prioritizerPolicy": by_score(),
    }  # fmt: skip
    return found if number is None else found | {"numberOfClusters": number}


def decide(fleet: Fleet, written: dict[str, Any], **more: Any) -> PlacementOutcome:
    request = parse_request(placement(**written))
    return decide_placement(fleet, SETS, request.rule, NOW, stability=request.stability, **more)


@pytest.mark.parametrize("claim", [False, True])
@pytest.mark.parametrize(
    ("hard", "number", "skew", "chosen", "reason"),
    [
        (True, 3, 1, "aeg", "AllDecisionsScheduled"),
        (True, 5, 1, "aegbf", "AllDecisionsScheduled"),
        # z is used up: two more in y or x would be too many.
        (True, 8, 1, "aegbf", "NotAllDecisionsScheduled"),
        (True, 8, 2, "abefgc", "NotAllDecisionsScheduled"),
        (True, None, 1, "aegbf", "AllDecisionsScheduled"),
        (False, 3, 1, "aeg", "AllDecisionsScheduled"),
        (False, 6, 1, "aegbfc", "AllDecisionsScheduled"),
        # What is nowhere comes after what breaks nothing, by its rank.
        (False, 8, 1, "aegbfcdh", "AllDecisionsScheduled"),
    ],
)
def test_over_a_label_or_a_claim(
    claim: bool, hard: bool, number: int | None, skew: int, chosen: str, reason: str
) -> None:
    outcome = decide(fleet_of(ZONES, claims=claim), spec(hard, number, claim=claim, skew=skew))
    assert "".join(decision.cluster for decision in outcome.decisions) == chosen
    assert outcome.reason == reason


def test_two_constraints_hold_together() -> None:
    fleet = Fleet.empty().apply(
        [cluster(f"{zone}{vendor}{n}", zone=zone, vendor=vendor) for zone in "xy" for vendor in "pq" for n in range(2)]
    )
    constraints = [
        {"topologyKey": key, "topologyKeyType": "Label", "whenUnsatisfiable": "DoNotSchedule"}
        for key in ("zone", "vendor")
    ]
    outcome = decide(fleet, {"spreadPolicy": {"spreadConstraints": constraints}, "numberOfClusters": 4})
    assert Counter(name[0] for name in outcome.clusters) == {"x": 2, "y": 2}
    assert Counter(name[1] for name in outcome.clusters) == {"p": 2, "q": 2}


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(st.integers(0, 15).map(lambda n: f"c{n:02}"), st.sampled_from(["x", "y", "z", ""]), min_size=1),
    st.integers(0, 16),
    st.integers(1, 3),
    st.data(),
)
def test_a_hard_skew_always_holds_and_a_soft_one_costs_no_cluster(
    zones: dict[str, str], number: int, skew: int, data: st.DataObject
) -> None:
    scores = {name: float(data.draw(st.integers(-5, 5))) for name in zones}
    fleet = fleet_of(zones, scores)
    current = data.draw(st.sets(st.sampled_from(sorted(zones)), max_size=4))
    hard = decide(fleet, spec(True, number, skew=skew), current=sorted(current))
    counts = {zone: 0 for zone in zones.values() if zone}
    for name in hard.clusters:
        assert zones[name], "a cluster in no zone cannot be counted"
        counts[zones[name]] += 1
    if counts:
        assert max(counts.values()) - min(counts.values()) <= skew
    # Nobody who could still be taken is left out.
    for name in set(zones) - set(hard.clusters):
        if zones[name] and len(hard.clusters) < number:
            assert counts[zones[name]] + 1 - min(counts.values()) > skew
    soft = decide(fleet, spec(False, number, skew=skew), current=sorted(current))
    assert len(soft.decisions) == min(number, len(zones))
