"""ScoreSources as scorers: which clusters they are about, what they read, how their values are spread."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from hub.api.errors import InvalidObjectError
from hub.fleet.changes import CapacitySeen, ClusterSeen, ScoresSeen
from hub.fleet.fleet import Fleet
from hub.fleet.shape import TaskShape
from hub.placement.score_sources import source_scorer
from hub.scoring.combine import Ranking, rank
from hub.scoring.interface import ScoreRequest, WeightedScorer

REQUEST = ScoreRequest(TaskShape(), 1, 0.0)


def fleet() -> Fleet:
    def cluster(name: str, claims: dict[str, str], **labels: str) -> ClusterSeen:
        listed = [{"name": key, "value": value} for key, value in claims.items()]
        return ClusterSeen({"metadata": {"name": name, "labels": labels}, "status": {"clusterClaims": listed}})

    def capacity(name: str, **status: Any) -> CapacitySeen:
        return CapacitySeen({"metadata": {"name": name, "namespace": name}, "status": status})

    nodes = {"name": "n", "count": 2, "gpu": {"model": "A100", "count": 4}, "allocatable": {"cpu": "8"}}
    busy = {"nodes": 1, "resources": {"cpu": "4", "nvidia.com/gpu": "1"}}
    return Fleet.empty().apply(
        [
            cluster("a", {"gco2": "300"}, gpu="yes", rack="3"),
            cluster("b", {"gco2": "low"}, gpu="yes"),
            cluster("c", {}, rack="x"),
            capacity("a", nodeGroups=[nodes | {"used": [busy]}], prices={"cpuHour": "0.1", "gpuHour": {"A100": "2"}}),
            capacity("b", nodeGroups=[{"name": "n", "count": 1, "allocatable": {"cpu": "2"}}]),
        ]
    )


def source(name: str = "s", **spec: Any) -> WeightedScorer:
    return source_scorer({"metadata": {"name": name}, "spec": spec})


def ranked(*entries: WeightedScorer, fleet: Fleet) -> Ranking:
    ranking = rank(fleet, REQUEST, entries, np.ones(len(fleet.names), np.bool_))
    assert ranking.problems == {}
    return ranking


@pytest.mark.parametrize(
    ("report", "expected"),
    [
        ("free/cpu", [12000, 2000, math.nan]),
        ("allocatable/cpu", [16000, 2000, math.nan]),
        ("freeShare/gpu", [7 / 8, math.nan, math.nan]),
        ("gpus/A100", [7, 0, math.nan]),
        ("claim/gco2", [300, math.nan, math.nan]),
        ("label/rack", [3, math.nan, math.nan]),
        ("price/cpu", [0.1, math.nan, math.nan]),
        ("price/gpu/A100", [2, math.nan, math.nan]),
        ("price/memory", [math.nan] * 3),
    ],
)
def test_the_clusters_own_reports(report: str, expected: list[float]) -> None:
    found = source(report=report).scorer.score(fleet(), REQUEST)
    assert np.array_equal(found, expected, equal_nan=True)


def test_values_that_are_written_down() -> None:
    found = source(static={"values": {"a": "1.5", "b": -2}, "default": "100m"}).scorer.score(fleet(), REQUEST)
    assert found.tolist() == [1.5, -2.0, 0.1]
    found = source(static={"values": {"b": 1}}).scorer.score(fleet(), REQUEST)
    assert np.isnan(found[[0, 2]]).all()


def test_values_that_were_asked_for_count_until_they_expire() -> None:
    told = fleet().apply([ScoresSeen("load", {"a": 1.0}, 10.0)])
    scorer = source("load", promQL="x").scorer
    assert scorer.score(told, ScoreRequest(TaskShape(), 1, 10.0))[0] == 1.0
    assert np.isnan(scorer.score(told, ScoreRequest(TaskShape(), 1, 10.5))).all()


def test_clusters_that_a_source_is_not_about_are_neither_helped_nor_harmed() -> None:
    entry = source(
        static={"values": {"a": "10", "b": "20", "c": "1000"}}, clusterSelector={"matchLabels": {"gpu": "yes"}}
    )
    column = ranked(entry, fleet=fleet()).columns[0]
    assert column.normalised.tolist() == [0.0, 100.0, 50.0]
    assert math.isnan(column.raw[2])
    # Where it knows nothing of those it is about, it says nothing about anybody.
    silent = source(promQL="x", clusterSelector={"matchLabels": {"gpu": "yes"}})
    assert ranked(silent, fleet=fleet()).total.tolist() == [-1.0, -1.0, -1.0]


def test_unknown_among_those_it_is_about_is_still_the_worst() -> None:
    entry = source(static={"values": {"a": "10"}}, clusterSelector={"matchLabels": {"gpu": "yes"}})
    assert ranked(entry, fleet=fleet()).ordered == ("a", "c", "b")


@pytest.mark.parametrize(
    ("normaliser", "direction", "expected"),
    [
        ({"type": "none"}, "higher", [10, 20, 60]),
        ({"min": "0", "max": "200"}, "lower", [95, 90, 70]),
        ({"type": "rank"}, "lower", [100, 50, 0]),
    ],
)
def test_normalisers_and_directions(normaliser: dict[str, str], direction: str, expected: list[float]) -> None:
    values = {"a": "10", "b": "20", "c": "60"}
    entry = source(static={"values": values}, normaliser=normaliser, direction=direction, weight=2)
    ranking = ranked(entry, fleet=fleet())
    assert ranking.columns[0].normalised.tolist() == expected
    assert ranking.total.tolist() == [2 * value for value in expected]
    turned = ranked(WeightedScorer(entry.scorer, -1.0), fleet=fleet())
    assert turned.total.tolist() == [100 - value for value in expected]


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({}, "spec: "),
        ({"promQL": "x", "report": "free/cpu"}, "found promQL and report"),
        ({"report": "mood/today"}, "spec.report"),
        ({"report": "free/"}, "spec.report"),
        ({"report": "price/disk"}, "spec.report"),
        ({"static": {"values": {"a": "much"}}}, "spec.static.values.a"),
        ({"promQL": "x", "aggregation": "mode"}, "spec.aggregation"),
        ({"promQL": "x", "interval": "soon"}, "spec.interval"),
        ({"promQL": "x", "prometheusURL": "ftp://x"}, "spec.prometheusURL"),
        ({"report": "free/cpu", "prometheusURL": "http://x"}, ""),
        ({"httpJson": {"url": "file:///etc/passwd"}}, "spec.httpJson.url"),
        ({"httpJson": {}}, "spec.httpJson.url"),
        ({"promQL": "x", "direction": "up"}, "spec.direction"),
        ({"promQL": "x", "weight": 11}, "spec.weight"),
        ({"promQL": "x", "normaliser": {"type": "log"}}, "spec.normaliser.type"),
        ({"promQL": "x", "normaliser": {"min": "2", "max": "1"}}, "spec.normaliser.min"),
        ({"promQL": "x", "normaliser": {"type": "sigmoid", "scale": "0"}}, "0 is not above 0"),
        ({"promQL": "x", "normaliser": {"scale": "1"}}, "spec.normaliser.scale: only sigmoid"),
        ({"promQL": "x", "normaliser": {"type": "zScore", "midpoint": "1"}}, "spec.normaliser.midpoint: only sigmoid"),
        ({"promQL": "x", "normaliser": {"type": "rank", "max": "1"}}, "spec.normaliser.max: rank has no bounds"),
        ({"report": "free/cpu", "aggregation": "avg"}, "spec.aggregation"),
        ({"promQL": "x", "aggregation": "avg", "forecast": {"horizon": "1h"}}, "spec.aggregation"),
        ({"static": {}, "interval": "30s"}, "spec.interval"),
        ({"promQL": "x", "clusterSelector": {"matchLabels": {"a": 1}}}, "spec.clusterSelector.matchLabels.a"),
        ({"report": "free/cpu", "forecast": {"horizon": "1h"}}, "spec.forecast: needs promQL"),
        ({"promQL": "x", "forecast": {}}, "spec.forecast.horizon"),
        ({"promQL": "x", "forecast": {"horizon": "200h"}}, "spec.forecast.horizon"),
        ({"promQL": "x", "forecast": {"horizon": "1h", "method": "magic"}}, "spec.forecast.method"),
        ({"promQL": "x", "forecast": {"horizon": "1h", "step": "1s"}}, "spec.forecast.history"),
        ({"promQL": "x", "forecast": {"horizon": "1h", "step": "0s"}}, "spec.forecast.step"),
        ({"promQL": "x", "forecast": {"horizon": "1h", "season": "1m"}}, "spec.forecast.season"),
        ({"promQL": "x", "forecast": {"horizon": "soon"}}, "spec.forecast.horizon"),
    ],
)
def test_what_cannot_work_names_its_field(spec: dict[str, Any], field: str) -> None:
    if not field:
        assert source(**spec).weight == 1.0
        return
    with pytest.raises(InvalidObjectError) as caught:
        source(**spec)
    assert field in str(caught.value)
