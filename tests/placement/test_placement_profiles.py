"""Named weights: what each profile prefers, who picks it, and what it leaves alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hub.api import names
from hub.api.errors import InvalidObjectError
from hub.controllers.world import World
from hub.fleet.changes import CapacitySeen, ClusterGone, ClusterSeen, ScoresSeen
from hub.fleet.fleet import Fleet
from hub.fleet.shape import TaskShape
from hub.jobs.spec import JobSpec
from hub.placement.prioritizers import scorers_for
from hub.placement.profiles import PROFILES, with_profile
from hub.placement.rule import ClusterRule, ScoreWeight
from hub.scoring.builtin import ColumnScorer, default_scorers
from hub.scoring.combine import admit, rank
from hub.scoring.interface import ScoreRequest, WeightedScorer

TASK = TaskShape((("cpu", 1000),))


def fleet() -> Fleet:
    """Large and dear; small and cheap; green; half in use."""

    def site(name: str, cpu: int, price: str, grams: str, used: int = 0) -> list[Any]:
        group: dict[str, Any] = {"name": "n", "count": 1, "allocatable": {"cpu": str(cpu)}}
        if used:
            group["used"] = [{"nodes": 1, "resources": {"cpu": str(used)}}]
        claims = [{"name": "gco2-per-kwh", "value": grams}]
        status = {"nodeGroups": [group], "prices": {"cpuHour": price}}
        return [
            ClusterSeen({"metadata": {"name": name}, "status": {"clusterClaims": claims}}),
            CapacitySeen({"metadata": {"name": name, "namespace": name}, "status": status}),
        ]

    sites = [site("large", 64, "0.9", "400"), site("cheap", 8, "0.1", "500"), site("green", 8, "0.8", "20")]
    sites.append(site("busy", 16, "0.85", "450", used=12))
    return Fleet.empty().apply(change for changes in sites for change in changes)


@pytest.mark.parametrize(
    ("profile", "first"),
    [("cheapest", "cheap"), ("fastest-start", "large"), ("greenest", "green"), ("pack", "busy"), ("balanced", "large")],
)
def test_what_each_profile_prefers(profile: str, first: str) -> None:
    of = fleet()
    scorers = scorers_for(ClusterRule(profile=profile), default_scorers())
    assert rank(of, ScoreRequest(TASK, 1, 0.0), scorers, np.ones(4, np.bool_)).ordered[0] == first
    assert set(PROFILES) == {"cheapest", "fastest-start", "greenest", "pack", "balanced"}


def test_sources_keep_their_weights_and_what_the_rule_weighs_goes_first() -> None:
    source = WeightedScorer(ColumnScorer("co2"), 7.0)
    weights = (ScoreWeight("Price", 3),)
    scorers = scorers_for(ClusterRule(profile="cheapest", weights=weights), [*default_scorers(), source])
    found = {entry.scorer.name: entry.weight for entry in scorers}
    assert found == {"FreeSlots": 1.0, "FreeShare": 0.5, "Egress": 3.0, "co2": 7.0, "Price": 3.0}


def test_a_profile_calls_up_what_the_hub_has_switched_off() -> None:
    found = {e.scorer.name: e.weight for e in scorers_for(ClusterRule(profile="greenest"), ())}
    assert found == {"FreeSlots": 1.0, "FreeShare": 0.5, "Carbon": 10.0, "Energy": 2.0}


def job(**metadata: Any) -> dict[str, Any]:
    container = {"name": "main", "image": "i", "resources": {"requests": {"cpu": "1"}}}
    return {
        "metadata": {"name": "j", "namespace": "default", "uid": "u", **metadata},
        "spec": {"template": {"spec": {"containers": [container]}}},
    }


def test_a_job_picks_one_and_a_misspelt_one_is_said() -> None:
    picked = JobSpec.from_fleet_job(job(annotations={names.PROFILE: "greenest"}))
    assert picked.rule is not None
    assert picked.rule.profile == "greenest"
    with pytest.raises(InvalidObjectError, match="there is no profile 'green'") as caught:
        JobSpec.from_fleet_job(job(annotations={names.PROFILE: "green"}))
    assert caught.value.field == f"metadata.annotations[{names.PROFILE}]"


def test_a_placement_picks_for_its_jobs_and_a_bad_one_keeps_the_last_good() -> None:
    world = World()

    def seen(profile: str) -> None:
        metadata = {"name": "p", "namespace": "default", "annotations": {names.PROFILE: profile}}
        world.placement_changed("default", "p", {"metadata": metadata, "spec": {}})

    body = job()
    body["spec"]["placementRef"] = {"name": "p"}
    spec = JobSpec.from_fleet_job(body)
    for profile, counts in (("pack", "pack"), ("nonsense", "pack"), ("cheapest", "cheapest")):
        seen(profile)
        rule = world.rule_of(spec)
        assert isinstance(rule, ClusterRule)
        assert rule.profile == counts


def test_what_a_job_picks_goes_before_what_its_placement_picks() -> None:
    world = World()
    meta = {"name": "p", "namespace": "default", "annotations": {names.PROFILE: "pack", names.DATA: "genomes=40Gi"}}
    world.placement_changed("default", "p", {"metadata": meta, "spec": {"numberOfClusters": 1}})
    for notes, profile, data in (
        ({}, "pack", (("genomes", 40 << 30),)),
        ({names.PROFILE: "greenest"}, "greenest", (("genomes", 40 << 30),)),
        ({names.PROFILE: "cheapest", names.DATA: "weights=1Gi"}, "cheapest", (("weights", 1 << 30),)),
    ):
        body = job(annotations=notes)
        body["spec"]["placementRef"] = {"name": "p"}
        rule = world.rule_of(JobSpec.from_fleet_job(body))
        assert isinstance(rule, ClusterRule)
        assert (rule.profile, rule.data, rule.limit) == (profile, data, 1)
    body = job(annotations={names.PROFILE: "green"})
    body["spec"]["placementRef"] = {"name": "p"}
    with pytest.raises(InvalidObjectError, match="there is no profile 'green'"):
        JobSpec.from_fleet_job(body)


@pytest.mark.parametrize(
    ("missing", "order", "kept_out"),
    [
        ("Worst", ("cheap", "green", "busy", "large"), ()),
        # An unknown score is 0, which beats a negative one; that of large has ended.
        ("Neutral", ("cheap", "busy", "large", "green"), ()),
        ("LastKnown(10m)", ("large", "cheap", "green", "busy"), ()),
        ("Exclude", ("cheap", "green", "busy", "large"), ("busy", "large")),
    ],
)
def test_what_a_missing_score_counts_for_the_jobs_of_a_placement(
    missing: str, order: tuple[str, ...], kept_out: tuple[str, ...]
) -> None:
    world = World()
    weigh = {"scoreCoordinate": {"type": "AddOn", "addOn": {"resourceName": "r", "scoreName": "s"}}}
    meta = {"name": "p", "namespace": "default", "annotations": {names.MISSING_SCORE: missing}}
    spec = {"prioritizerPolicy": {"mode": "Exact", "configurations": [weigh]}}
    world.placement_changed("default", "p", {"metadata": meta, "spec": spec})
    body = job()
    body["spec"]["placementRef"] = {"name": "p"}
    rule = world.rule_of(JobSpec.from_fleet_job(body))
    assert isinstance(rule, ClusterRule)
    values = {"cheap": 50, "green": -20, "large": 90}
    where = fleet().apply([ScoresSeen("AddOn/r/s", values, 1e12, {"large": 100.0})])
    request, scorers = ScoreRequest(TASK, 1, 200.0), scorers_for(rule, ())
    admitted, by = admit(where, request, scorers)
    assert tuple(where.names[at] for at in sorted(by)) == kept_out
    assert (admitted is None) is not bool(kept_out)
    assert rank(where, request, scorers, np.ones(4, np.bool_)).ordered == order


def moved(fleet_: Fleet, **columns: dict[str, float]) -> Fleet:
    return fleet_.apply(ScoresSeen(name, values, 1e12) for name, values in columns.items())


def first(fleet_: Fleet, rule: ClusterRule) -> str:
    request = ScoreRequest(TASK, 1, 0.0, rule.data)
    everyone = np.ones(len(fleet_), np.bool_)
    return rank(fleet_, request, scorers_for(rule, default_scorers()), everyone).ordered[0]


def test_a_fast_start_minds_what_starts_late_and_what_would_have_to_be_fetched() -> None:
    rule = ClusterRule(profile="fastest-start")
    # Equals, but for their names.
    two = fleet().apply([ClusterGone("large"), ClusterGone("busy")])
    assert first(two, rule) == "cheap"
    assert first(moved(two, StartDelay={"cheap": 90.0, "green": 1.0}), rule) == "green"
    assert first(moved(two, FailureRate={"cheap": 0.1, "green": 0.0}), rule) == "green"
    assert first(moved(two, FailureRate={"cheap": 0.1}), rule) == "cheap"
    labels = {"data.fleet.quarterdeck.dev/genomes": "true"}
    holder = two.apply([ClusterSeen({"metadata": {"name": "green", "labels": labels}})])
    assert first(holder, rule) == "cheap"
    assert first(holder, with_profile(rule, {names.DATA: "genomes=40Gi"})) == "green"


def test_who_says_nothing_of_carbon_makes_no_difference_where_nobody_does() -> None:
    """A source that is missing everywhere prefers nobody; one that is missing somewhere is below the worst."""
    silent = fleet().apply(ClusterSeen({"metadata": {"name": name}}) for name in fleet().names)
    totals = {}
    for profile in ("greenest", "fastest-start", "cheapest"):
        scorers = scorers_for(ClusterRule(profile=profile), default_scorers())
        ranking = rank(silent, ScoreRequest(TASK, 1, 0.0), scorers, np.ones(4, np.bool_))
        for column in ranking.columns:
            if column.name in ("Carbon", "StartDelay", "FailureRate", "DataLocality", "Egress"):
                assert len(set(column.weighted.tolist())) == 1, column.name
        totals[profile] = ranking.ordered[0]
    assert totals == {"greenest": "large", "fastest-start": "large", "cheapest": "cheap"}


def test_data_that_cannot_be_read_is_said() -> None:
    with pytest.raises(InvalidObjectError, match="write NAME=SIZE"):
        JobSpec.from_fleet_job(job(annotations={names.DATA: "genomes"}))


def test_without_the_annotation_nothing_changes() -> None:
    rule = ClusterRule()
    assert with_profile(rule, None) is rule
    assert with_profile(rule, {}) is rule
