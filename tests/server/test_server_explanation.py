"""An explanation's document: where scores come from, which filter removed whom, and that the change named flips it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.api import names
from hub.cli.plan_input import Settings, quiet
from hub.scoring.state import Column, ScoreState, Standing
from hub.server.explanation_document import explanation_document
from hub.server.reading import Source

Json = dict[str, Any]
NOW = "2026-01-01T00:10:00Z"
CLUSTER = "cluster.open-cluster-management.io"


def cluster(name: str, *taints: str, cpu: int = 4, accepted: bool = True, **labels: str) -> Json:
    total = {"cpu": str(cpu), "memory": "8Gi"}
    return {
        "apiVersion": f"{CLUSTER}/v1",
        "kind": "ManagedCluster",
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "hubAcceptsClient": accepted,
            "taints": [{"key": t.split(":")[0], "effect": t.split(":")[1]} for t in taints],
        },
        "status": {
            "allocatable": total,
            "capacity": total,
            "conditions": [{"type": "ManagedClusterConditionAvailable", "status": "True"}],
        },
    }


def binding(name: str = "global") -> Json:
    return {
        "apiVersion": f"{CLUSTER}/v1beta2",
        "kind": "ManagedClusterSetBinding",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"clusterSet": name},
    }


def addon(cluster_name: str, value: int, resource: str = "r", score: str = "s") -> Json:
    return {
        "apiVersion": f"{CLUSTER}/v1alpha1",
        "kind": "AddOnPlacementScore",
        "metadata": {
            "name": resource,
            "namespace": cluster_name,
            "managedFields": [{"subresource": "status", "time": "2026-01-01T00:09:30Z"}],
        },
        "status": {"scores": [{"name": score, "value": value}]},
    }


def placement(annotations: dict[str, str] | None = None, **spec: Any) -> Json:
    return {
        "apiVersion": f"{CLUSTER}/v1beta1",
        "kind": "Placement",
        "metadata": {"name": "p", "namespace": "default", "annotations": annotations or {}},
        "spec": spec,
    }


def weigh(weight: int = 1, resource: str = "r", score: str = "s") -> Json:
    coordinate = {"type": "AddOn", "addOn": {"resourceName": resource, "scoreName": score}}
    return {"scoreCoordinate": coordinate, "weight": weight}


def built_in(name: str, weight: int = 1) -> Json:
    return {"scoreCoordinate": {"builtIn": name}, "weight": weight}


def source(name: str = "load", **spec: Any) -> Json:
    return {
        "apiVersion": names.API_VERSION,
        "kind": "ScoreSource",
        "metadata": {"name": name},
        "spec": spec or {"promQL": "avg by (cluster) (load)"},
        "status": {"lastUpdateTime": "2026-01-01T00:09:00Z"},
    }


def explained(*objects: Json, scores: ScoreState | None = None, key: str = "default/p") -> Json:
    settings_ = Settings.read(NOW, "1", None, None).knowing(scores, moment=NOW)
    with quiet():
        found, state = settings_.state([Source(obj) for obj in objects], live=True)
        document = explanation_document(found, state, key)
    assert document is not None
    return document


EU = [{"requiredClusterSelector": {"labelSelector": {"matchLabels": {"region": "eu"}}}}]


def test_every_filter_with_what_it_removed_and_every_score_with_its_source() -> None:
    objects = [
        cluster("a", region="eu", cpu=4),
        cluster("b", region="us"),
        cluster("c", "drain:NoSelect", region="eu"),
        cluster("d", region="eu", accepted=False),
        cluster("e", region="eu", cpu=8),
        cluster("f", region="eu"),
        binding(),
        addon("a", 80),
        addon("e", 30),
        placement(
            {names.MISSING_SCORE: "Exclude"},
            numberOfClusters=1,
            predicates=EU,
            prioritizerPolicy={"mode": "Exact", "configurations": [weigh(2), built_in("ResourceAllocatableCPU")]},
        ),
    ]
    found = explained(*objects)["placement"]
    assert {step["filter"]: [r["cluster"] for r in step["removed"]] for step in found["filters"]} == {
        "Acceptance": ["d"],
        "ManagedClusterSet": [],
        "Predicate": ["b"],
        "TaintToleration": ["c"],
        "MissingScore": ["f"],
        "Spread": [],
    }
    assert [r["message"] for step in found["filters"] for r in step["removed"]][-1] == (
        "no score AddOn/r/s, and missing-score is Exclude"
    )
    lines = {line["cluster"]: line for line in found["clusters"]}
    assert lines["a"]["scores"] == [
        {"scorer": "AddOn/r/s", "weight": 2, "raw": 80.0, "normalised": 80, "weighted": 160},
        {"scorer": "ResourceAllocatableCPU", "weight": 1, "raw": 4.0, "normalised": -100, "weighted": -100},
    ]
    assert (lines["a"]["total"], lines["e"]["total"], lines["e"]["rank"]) == (60, 160, 1)
    assert found["scorers"][0] == {
        "scorer": "AddOn/r/s", "weight": 2, "source": "AddOnPlacementScore r, score s", "query": "", "age": 30.0,
        "problem": "",
    }  # fmt: skip
    assert found["scorers"][1]["source"].startswith("ManagedCluster status.allocatable.cpu")
    assert found["nextBest"] == {
        "cluster": "a", "total": 60, "margin": 100, "wouldBeChosenWith": "numberOfClusters 2",
    }  # fmt: skip
    assert found["smallestChange"] == {"cluster": "a", "change": "numberOfClusters 2"}
    assert {name: line.get("wouldBeChosenWith") for name, line in lines.items()} == {
        "a": "numberOfClusters 2",
        # Two changes would be needed: without a score they are excluded, too.
        "b": None,
        "c": None,
        "d": None,
        "e": None,
        "f": None,
    }


@pytest.mark.parametrize(
    ("what", "scores", "origin"),
    [
        # The hub's own score, rounded there: what it is made of says more.
        ("load", None, {"query": "avg by (cluster) (load)", "age": 60.0, "problem": ""}),
        (
            "load",
            ScoreState(1767226200.0, standing={"load": Standing(1767226195.0, "2 series of one cluster")}),
            {"query": "avg by (cluster) (load)", "age": 5.0, "problem": "2 series of one cluster"},
        ),
        ("gone", None, {"query": "", "age": 30.0, "problem": ""}),
    ],
)
def test_what_the_hub_publishes_is_explained_by_its_query(what: str, scores: ScoreState | None, origin: Json) -> None:
    policy = {"mode": "Exact", "configurations": [weigh(1, names.HUB_SCORES, what)]}
    found = explained(
        cluster("a"), binding(), source(), addon("a", 80, names.HUB_SCORES, what), placement(prioritizerPolicy=policy),
        scores=scores,
    )["placement"]["scorers"][0]  # fmt: skip
    assert {key: found[key] for key in origin} == origin
    assert found["source"] == f"AddOnPlacementScore quarterdeck, score {what}"


def job(**spec: Any) -> Json:
    container = {"name": "main", "image": "i", "resources": {"requests": {"cpu": "1"}}}
    template = {"spec": {"containers": [container]}}
    return {
        "apiVersion": names.API_VERSION,
        "kind": "FleetJob",
        "metadata": {"name": "j", "namespace": "default", "uid": "u", "creationTimestamp": NOW},
        "spec": {"template": template, "queueName": "q", **spec},
    }


def capacity(name: str, cpu: int = 4) -> Json:
    return {
        "apiVersion": names.API_VERSION,
        "kind": "ClusterCapacity",
        "metadata": {"name": name, "namespace": name},
        "status": {
            "observedTime": "2026-01-01T00:09:48Z",
            "nodeGroups": [{"name": "n", "count": 1, "allocatable": {"cpu": str(cpu), "memory": "8Gi"}}],
        },
    }


def queue() -> list[Json]:
    kueue = "kueue.x-k8s.io/v1beta2"
    resources = [{"name": "cpu", "nominalQuota": 99}]
    group = {"coveredResources": ["cpu"], "flavors": [{"name": "default", "resources": resources}]}
    return [
        {"apiVersion": kueue, "kind": "ResourceFlavor", "metadata": {"name": "default"}},
        {
            "apiVersion": kueue,
            "kind": "ClusterQueue",
            "metadata": {"name": "q"},
            "spec": {"namespaceSelector": {}, "resourceGroups": [group]},
        },
        {
            "apiVersion": kueue,
            "kind": "LocalQueue",
            "metadata": {"name": "q", "namespace": "default"},
            "spec": {"clusterQueue": "q"},
        },
    ]


def test_a_job_with_its_scores_filters_margin_and_what_would_have_sent_it_elsewhere() -> None:
    scores = ScoreState(
        1767226200.0,
        weights=(("FreeSlots", 1.0), ("load", 3.0), ("site-plugin", 0.5)),
        columns={"load": Column({"a": 1.0, "b": 0.25, "c": 0.5})},
        standing={"load": Standing(1767226190.0), "site-plugin": Standing(1767226199.0, "score: ValueError: no")},
    )
    objects = [
        *queue(), job(), source(promQL="avg by (cluster) (load)", direction="lower"),
        cluster("a"), cluster("b"), cluster("c"), cluster("d", "k:NoSelect"),
        *(capacity(name, cpu) for name, cpu in zip("abcd", (9, 4, 4, 4), strict=True)),
    ]  # fmt: skip
    found = explained(*objects, scores=scores, key="default/j")["job"]
    assert [entry["scorer"] for entry in found["scorers"]] == ["FreeSlots", "load"]
    by_name = {entry["scorer"]: entry for entry in found["scorers"]}
    assert by_name["load"]["source"] == "ScoreSource load, Prometheus"
    assert (by_name["load"]["query"], by_name["load"]["age"]) == ("avg by (cluster) (load)", 10.0)
    assert by_name["FreeSlots"]["age"] == 12.0
    assert found["filters"][4] == {
        "filter": "TaintToleration",
        "removed": [{"cluster": "d", "reason": "ClusterTainted", "message": "has taint k:NoSelect"}],
    }
    assert found["verdict"]["admitted"][0]["cluster"] == "b"
    assert found["nextBest"]["cluster"] == "c"
    assert found["elsewhere"]["cluster"] in ("a", "c")


values = st.dictionaries(st.sampled_from("abcd"), st.integers(-100, 100), max_size=4)


@settings(max_examples=60, deadline=None)
@given(
    values,
    values,
    st.sets(st.sampled_from("abcd")),
    st.sets(st.sampled_from("abcd")),
    st.integers(0, 3),
    st.integers(-3, 3),
)
def test_the_change_that_is_named_is_made_in_the_objects_and_flips_the_choice(
    first: dict[str, int], second: dict[str, int], tainted: set[str], here: set[str], number: int, weight: int
) -> None:
    """What can be written into the objects is written there, and decided anew from them."""
    objects = [
        cluster(name, *(["k:NoSelect"] if name in tainted else []), region="eu" if name in here else "us")
        for name in "abcd"
    ]
    objects += [binding(), *(addon(c, v) for c, v in first.items()), *(addon(c, v, "t") for c, v in second.items())]
    policy = {"mode": "Exact", "configurations": [weigh(1), weigh(weight, "t")]}
    asked = placement(numberOfClusters=number, predicates=EU, prioritizerPolicy=policy)
    found = explained(*objects, asked)["placement"]
    for line in found["clusters"]:
        what = line.get("wouldBeChosenWith")
        if what is None:
            continue
        changed = explained(*_changed([*objects, asked], line["cluster"], what))["placement"]
        after = next(entry for entry in changed["clusters"] if entry["cluster"] == line["cluster"])
        assert (line["rank"], after["rank"] > 0) == (0, True), what


def _changed(objects: list[Json], name: str, what: str) -> list[Json]:
    """The objects after a person has done what is said."""
    objects = copy.deepcopy(objects)
    asked = objects[-1]["spec"]
    words = what.split()
    if words[0] == "label":
        key, _, value = words[1].partition("=")
        target = next(o for o in objects if o["kind"] == "ManagedCluster" and o["metadata"]["name"] == name)
        target["metadata"]["labels"][key] = value
    elif what == "a toleration of taint k:NoSelect":
        asked["tolerations"] = [{"key": "k", "operator": "Exists"}]
    elif words[0] == "numberOfClusters":
        asked["numberOfClusters"] = int(words[1])
    else:
        assert words[0] == "weight", what
        resource = words[-1].split("/")[1]
        for entry in asked["prioritizerPolicy"]["configurations"]:
            if entry["scoreCoordinate"]["addOn"]["resourceName"] == resource:
                entry["weight"] = int(words[1])
    return objects


@pytest.mark.parametrize(
    ("missing", "chosen", "said"),
    [
        ("Worst", "b", "AddOn/r/s: score expired 12s ago"),
        ("Exclude", "b", "no score AddOn/r/s (expired 12s ago), and missing-score is Exclude"),
        ("LastKnown(5s)", "b", "AddOn/r/s: score expired 12s ago"),
        ("LastKnown(1m)", "a", ""),
    ],
)
def test_c_of_a_score_that_has_ended_the_reason_says_since_when(missing: str, chosen: str, said: str) -> None:
    """The best cluster's score ended 12 seconds ago: what that counts is the Placement's to say."""
    best = addon("a", 90)
    best["status"]["validUntil"] = "2026-01-01T00:09:48Z"
    objects = [
        cluster("a"),
        cluster("b"),
        binding(),
        best,
        addon("b", 40),
        placement(
            {names.MISSING_SCORE: missing},
            numberOfClusters=1,
            prioritizerPolicy={"mode": "Exact", "configurations": [weigh()]},
        ),
    ]
    found = explained(*objects)["placement"]
    lines = {line["cluster"]: line for line in found["clusters"]}
    assert [name for name, line in lines.items() if line["rank"] == 1] == [chosen]
    assert lines["a"]["message"] == said
    (origin,) = found["scorers"]
    assert origin["problem"] == "a: score expired 12s ago"
