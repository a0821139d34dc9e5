"""DynamicScorers in a plan from files: what is published of them counts, and what is missing is said."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from plan_objects import NOW, OCM, job, meta, queue, site

from hub.api.names import SCORER
from hub.api.timestamps import parse_time
from hub.cli.plan_input import Settings, file_sources
from hub.server.reading import Objects, Source, sort_objects
from hub.server.recorded_scorers import described_sources, recorded_scorers
from hub.server.snapshot import State

Json = dict[str, Any]
CLUSTERS = ("ash", "elm", "fir")


def scorer(name: str = "cool", *, synced: bool = True, **spec: Any) -> Json:
    body: Json = {
        "apiVersion": "dynamic-scoring.open-cluster-management.io/v1alpha1",
        "kind": "DynamicScorer",
        "metadata": meta(name, "default"),
        "spec": {
            "description": "",
            "configURL": "http://scorer.example/config",
            "configSyncMode": "Full",
            "location": "External",
            "scoreDestination": "AddOnPlacementScore",
            **spec,
        },
    }
    if synced:
        source = {
            "type": "Prometheus",
            "host": "http://p.example",
            "path": "",
            "params": {"query": "q", "range": 60, "step": 5},
        }
        scoring = {"path": "/s", "params": {"name": "my_score", "interval": 30}}
        body["status"] = {
            "healthStatus": "Active",
            "lastSyncedConfig": {"name": "", "description": "", "source": source, "scoring": scoring},
        }
    return body


def policy(**spec: Any) -> Json:
    return {
        "apiVersion": "fleet.quarterdeck.dev/v1alpha1", "kind": "ScorerPolicy",
        "metadata": meta("cool", "default"), "spec": spec,
    }  # fmt: skip


def published(cluster: str, *, owner: str = "default/cool", until: str = "", **scores: int) -> Json:
    annotations = {SCORER: owner} if owner else {}
    status: Json = {"scores": [{"name": name, "value": value} for name, value in scores.items()]}
    return {
        "apiVersion": f"{OCM}/v1alpha1", "kind": "AddOnPlacementScore",
        "metadata": meta("my-score", cluster, annotations=annotations),
        "status": status | ({"validUntil": until} if until else {}),
    }  # fmt: skip


def objects_of(*objects: Json) -> Objects:
    sites = itertools.chain.from_iterable(site(name, nodes=1) for name in CLUSTERS)
    return sort_objects(Source(obj, "f.yaml") for obj in [*sites, *objects])


def decided(capsys: pytest.CaptureFixture[str], *objects: Json) -> tuple[list[str], str]:
    """Where a job goes, and the warnings."""
    import yaml

    sites = itertools.chain.from_iterable(site(name, nodes=1) for name in CLUSTERS)
    text = "---\n".join(
        yaml.safe_dump(obj) for obj in [*sites, *queue("research", cpu=6), job("one", "research"), *objects]
    )
    document = Settings.read(NOW, "1", None, None).decide(file_sources("f.yaml", text))
    (one,) = document["jobs"]
    assert document["ignored"] == []
    return [entry["cluster"] for entry in one["clusters"]], capsys.readouterr().err


def test_what_is_published_of_a_scorer_decides_in_a_plan_from_files(capsys: pytest.CaptureFixture[str]) -> None:
    """Three equal clusters: without the scorer the name decides, with it its scores."""
    assert decided(capsys)[0] == ["ash"]
    where, said = decided(
        capsys, scorer(), published("ash", my_score=1), published("elm", my_score=9), published("fir", my_score=5)
    )
    assert where == ["elm"]
    assert "DynamicScorer default/cool: its scores are those that were published, in whole numbers" in said
    where, _ = decided(
        capsys, scorer(), policy(direction="lower", weight=5),
        published("ash", my_score=7), published("elm", my_score=9), published("fir", my_score=5),
    )  # fmt: skip
    assert where == ["fir"]
    # Normalised ones are the better the higher, whichever way the raw ones were.
    where, _ = decided(
        capsys, scorer(), policy(direction="lower", normaliser={"type": "rank"}),
        published("ash", my_score=0), published("elm", my_score=50), published("fir", my_score=100),
    )  # fmt: skip
    assert where == ["fir"]


def test_what_the_input_does_not_hold_is_said_and_not_passed_over(capsys: pytest.CaptureFixture[str]) -> None:
    where, said = decided(capsys, scorer(synced=False), published("elm", my_score=9))
    assert where == ["ash"]
    assert "there is no status.lastSyncedConfig: it counts nothing here" in said.replace("\n", " ")
    where, said = decided(capsys, scorer())
    assert where == ["ash"]
    assert "no AddOnPlacementScore my-score of the input has its scores" in said
    _, said = decided(capsys, scorer(), policy(smoothing="7"))
    assert "spec.smoothing" in said
    _, said = decided(capsys, scorer(), scorer("later"), published("elm", my_score=9))
    assert "default/later: default/cool gives score my_score already" in said
    # A scorer of mode None says everything itself.
    scoring = {"path": "/s", "params": {"name": "my_score", "interval": 30}}
    where, said = decided(
        capsys, scorer(synced=False, configSyncMode="None", scoring=scoring), published("elm", my_score=9)
    )
    assert where == ["elm"]


def test_targets_masks_owners_and_ends_hold_as_in_the_hub() -> None:
    masks: Json = {
        "apiVersion": "dynamic-scoring.open-cluster-management.io/v1alpha1", "kind": "DynamicScoringConfig",
        "metadata": meta("dynamic-scoring-config", "default"),
        "spec": {"masks": [{"clusterName": "fir", "scoreName": "my_score"}]},
    }  # fmt: skip
    found = recorded_scorers(
        objects_of(
            scorer(), masks, published("ash", my_score=1, until="2025-01-01T00:00:00Z"),
            published("elm", owner="", my_score=9), published("fir", my_score=5),
        )
    )  # fmt: skip
    (column,) = found.columns
    assert column.values == {"ash": 1.0, "elm": 9.0}
    assert column.until == {"ash": parse_time("2025-01-01T00:00:00Z").timestamp()}
    assert (
        not recorded_scorers(objects_of(scorer(), published("ash", owner="default/other", my_score=1)))
        .columns[0]
        .values
    )
    only = recorded_scorers(objects_of(scorer(), policy(clusters={"allow": ["e*"]}), published("ash", my_score=1)))
    assert not only.columns[0].values
    assert recorded_scorers(objects_of(scorer(scoreDestination="None"))).scorers == []
    assert recorded_scorers(objects_of(scorer(), policy(scoredBy="AddOn"))).scorers == []


def test_several_scores_of_a_cluster_are_made_one_as_the_policy_says() -> None:
    parts = published("ash", n1=10, n2=40)
    assert recorded_scorers(objects_of(scorer(), parts)).columns[0].values == {"ash": 25.0}
    assert recorded_scorers(objects_of(scorer(), policy(aggregate="max"), parts)).columns[0].values == {"ash": 40.0}
    whole = published("ash", n1=10, n2=40, my_score=33)
    assert recorded_scorers(objects_of(scorer(), policy(aggregate="max"), whole)).columns[0].values == {"ash": 33.0}


def test_a_value_that_has_ended_is_unknown_to_the_state() -> None:
    objects = objects_of(
        scorer(), published("ash", my_score=1, until="2020-01-01T00:00:00Z"), published("elm", my_score=2)
    )
    state = State(objects, parse_time(NOW).timestamp(), ())
    state.world.refresh()
    values = state.world.fleet.scores("Dynamic/my_score", state.now)
    assert values[1] == 2.0
    assert values[0] != values[0]


def test_l_what_is_asked_for_a_score_is_told() -> None:
    assert described_sources(objects_of(scorer())) == {"Dynamic/my_score": "q"}
    named = policy(queries=[{"name": "a", "promql": "up"}, {"name": "b", "promql": "down", "mode": "instant"}])
    assert described_sources(objects_of(scorer(), named)) == {"Dynamic/my_score": "up; down"}
    document = policy(source={"httpJson": {"url": "http://x.example/v1"}})
    assert described_sources(objects_of(scorer(), document)) == {"Dynamic/my_score": "http://x.example/v1"}
