"""F, G and H of dynamic scores where clusters are chosen: what holds still, who is meant, who is asked."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.api.errors import InvalidObjectError
from hub.asking.answer import Result, ScorerAnswer
from hub.asking.question import NamedQuery, SecretKey
from hub.fleet.changes import ClusterSeen, ScoresSeen
from hub.fleet.fleet import Fleet
from hub.fleet.shape import TaskShape
from hub.placement.scorer_targets import DynamicScore, column_name, parse_targets, route
from hub.scoring.combine import rank
from hub.scoring.dynamic.data import SourcePlan
from hub.scoring.dynamic.plan import ScorerPlan, make_plan
from hub.scoring.dynamic.policy import parse_policy
from hub.scoring.dynamic.spec import parse_scorer
from hub.scoring.dynamic.values import ScorerValues
from hub.scoring.interface import ScoreRequest, WeightedScorer

SPEC: dict[str, Any] = {
    "description": "d", "configURL": "http://s.example/config", "configSyncMode": "None", "location": "External",
    "scoreDestination": "AddOnPlacementScore",
    "source": {
        "host": "http://p.example", "path": "/api/v1/query_range",
        "params": {"query": "avg by (cluster) (x)", "range": 60, "step": 15},
    },
    "scoring": {"path": "/scoring", "params": {"name": "s", "interval": 10}},
}  # fmt: skip


def plan(spec: dict[str, Any] | None = None, **policy: Any) -> ScorerPlan:
    return make_plan(parse_scorer({**SPEC, **(spec or {})}), None, parse_policy(policy))


def best(values: ScorerValues, found: ScorerPlan, fleet: Fleet, now: float) -> str:
    column, ends = values.column()
    fleet = fleet.apply([ScoresSeen(column_name(found.score), column, np.inf, ends)])
    entry = WeightedScorer(DynamicScore(found, fleet.names), 1.0)
    everyone = np.ones(len(fleet), np.bool_)
    return rank(fleet, ScoreRequest(TaskShape(), 1, now), [entry], everyone).ordered[0]


FLEET = Fleet.empty().apply(ClusterSeen({"metadata": {"name": name}}) for name in ("ash", "elm"))


@given(st.lists(st.tuples(st.floats(-3, 3), st.floats(-3, 3)), min_size=100, max_size=100))
@settings(max_examples=25, deadline=None)
def test_f_noise_on_equal_clusters_moves_at_most_once_and_a_real_change_within_two_looks(
    noise: list[tuple[float, float]],
) -> None:
    found, values = plan(smoothing="0.6", scoreDeadband="7"), ScorerValues()
    now, choices = 0.0, []

    def look(ash: float, elm: float) -> str:
        for cluster, score in (("ash", ash), ("elm", elm)):
            values.take(cluster, found, ScorerAnswer((Result(("",) * 7, score),)), now)
        return best(values, found, FLEET, now)

    for ash, elm in noise:
        now += 10
        choices.append(look(50 + ash, 50 + elm))
    moves = sum(before != after for before, after in pairwise(choices))
    assert moves <= 1
    other = "elm" if choices[-1] == "ash" else "ash"
    for _ in range(2):
        now += 10
        chosen = look(50 if other == "elm" else 90, 90 if other == "elm" else 50)
    assert chosen == other


def test_c_a_value_that_has_ended_counts_less_than_the_worst_that_is_known() -> None:
    found, values = plan(), ScorerValues()
    values.take("ash", found, ScorerAnswer((Result(("",) * 7, 90.0),)), 0.0)
    values.take("elm", found, ScorerAnswer((Result(("",) * 7, -70.0),)), 15.0)
    assert best(values, found, FLEET, 19.0) == "ash"
    assert best(values, found, FLEET, 21.0) == "elm"


@pytest.mark.parametrize(
    ("spec", "cluster", "labels", "meant"),
    [
        ({}, "ash", {}, True),
        ({"clusters": {"allow": ["eu-*", "ash"]}}, "ash", {}, True),
        ({"clusters": {"allow": ["eu-*"]}}, "ash", {}, False),
        ({"clusters": {"allow": ["*"], "deny": ["a*"]}}, "ash", {}, False),
        ({"clusterSelector": {"matchLabels": {"a": "b"}}}, "ash", {"a": "b"}, True),
        ({"clusterSelector": {"matchLabels": {"a": "b"}}}, "ash", {"a": "c"}, False),
    ],
)
def test_g_who_is_meant(spec: dict[str, Any], cluster: str, labels: dict[str, str], meant: bool) -> None:
    assert parse_targets(spec).concerns(cluster, labels) is meant


def test_g_a_cluster_that_a_score_is_not_about_gets_the_mean() -> None:
    found = plan(normaliser={"type": "none"})
    fleet = FLEET.apply([ClusterSeen({"metadata": {"name": "oak"}})])
    fleet = fleet.apply([ScoresSeen(column_name("s"), {"ash": 10.0, "elm": 30.0}, np.inf)])
    entry = WeightedScorer(DynamicScore(found, ("ash", "elm")), 1.0)
    ranking = rank(fleet, ScoreRequest(TaskShape(), 1, 0.0), [entry], np.ones(3, np.bool_))
    assert ranking.columns[0].normalised.tolist() == [10.0, 30.0, 20.0]


@pytest.mark.parametrize(
    ("overrides", "source", "scoring", "own"),
    [
        ([], "http://p.example/api/v1/query_range", "http://s.example/scoring", False),
        (
            [{"clusters": ["a*"], "source": {"host": "http://q.example/"}}],
            "http://q.example/api/v1/query_range", "http://s.example/scoring", False,
        ),
        (
            [{"clusters": ["ash"], "source": {"host": "http://q.example", "path": "/x"}}],
            "http://q.example/x", "http://s.example/scoring", True,
        ),
        (
            [{"clusters": ["*"], "source": {"host": "http://${cluster}.example"}}],
            "http://ash.example/api/v1/query_range", "http://s.example/scoring", True,
        ),
        (
            [
                {"clusters": ["elm"], "scoring": {"host": "http://no.example"}},
                {"clusterSelector": {"matchLabels": {"a": "b"}}, "scoring": {"host": "http://t.example", "path": "/y"}},
                {"clusters": ["*"], "scoring": {"host": "http://late.example"}},
            ],
            "http://p.example/api/v1/query_range", "http://t.example/y", False,
        ),
    ],
)  # fmt: skip
def test_h_the_first_override_that_says_it_counts(
    overrides: list[dict[str, Any]], source: str, scoring: str, own: bool
) -> None:
    found = route(plan(), parse_targets({"overrides": overrides}), "ash", {"a": "b"})
    assert (found.source, found.scoring, found.own) == (source, scoring, own)


def test_h_a_clusters_name_in_a_query_asks_it_alone_and_overrides_bring_their_token() -> None:
    found = plan()
    asks = SourcePlan("Prometheus", "http://p", "/q", (NamedQuery("", 'x{c="${cluster}"}'),), 60, 15)
    targets = parse_targets(
        {"overrides": [{"clusters": ["*"], "source": {"auth": {"tokenSecretRef": {"name": "n", "key": "k"}}}}]}
    )
    one = route(replace(found, source=asks), targets, "ash", {})
    assert one.own
    assert one.source_token == SecretKey("n", "k")
    assert one.source == "http://p/q"


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"clusters": {"allow": "ash"}}, "spec.clusters.allow"),
        ({"clusterSelector": {"matchExpressions": [{"key": "a", "operator": "Is"}]}}, "spec.clusterSelector"),
        ({"overrides": [{"source": {"host": "http://x"}}]}, "spec.overrides[0]"),
        ({"overrides": [{"clusters": ["a"], "source": {"host": "x"}}]}, "spec.overrides[0].source.host"),
        ({"overrides": [{"clusters": ["a"], "scoring": {"path": "x"}}]}, "spec.overrides[0].scoring.path"),
    ],
)
def test_targets_that_cannot_work_name_their_field(spec: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidObjectError) as caught:
        parse_targets(spec)
    assert caught.value.field.startswith(field)
