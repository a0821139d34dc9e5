"""Nominal quota from what clusters report: what counts, what is written, what is wrong with it."""

from __future__ import annotations

import json
from fractions import Fraction
from typing import Any

import pytest
from kueue_objects import cluster_queue, cohort, flavor, group, quota

from hub.api import names
from hub.api.errors import InvalidObjectError
from hub.controllers.world import World
from hub.fleet.changes import CapacitySeen, Charge, ClusterSeen, FleetChange
from hub.fleet.fleet import Fleet
from hub.fleet.shape import TaskShape
from hub.placement.sets import ClusterSets
from hub.queueing.derived import derive, derives
from hub.queueing.nominal import NominalFrom, read_nominal_from
from hub.queueing.quotas import Quotas

SET = {
    "kind": "ManagedClusterSet",
    "metadata": {"name": "gpu"},
    "spec": {"clusterSelector": {"selectorType": "ExclusiveClusterSetLabel"}},
}


def deriving(obj: dict[str, Any], **source: Any) -> dict[str, Any]:
    obj["metadata"].setdefault("annotations", {})[names.NOMINAL_FROM] = json.dumps({"clusterSet": "gpu"} | source)
    return obj


def cluster(name: str, of: str = "gpu", *, available: str = "True", **labels: str) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "labels": {names.CLUSTER_SET: of, **labels}},
        "spec": {"hubAcceptsClient": True},
        "status": {"conditions": [{"type": "ManagedClusterConditionAvailable", "status": available}]},
    }


def capacity(name: str, *groups: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": name}, "status": {"nodeGroups": list(groups)}}


def nodes(count: int, cpu: Any, gpus: int = 0, model: str = "H100", **labels: str) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": f"{model}-{cpu}", "count": count, "labels": labels, "taints": [],
        "allocatable": {"cpu": str(cpu), "memory": "64Gi"},
    }  # fmt: skip
    if gpus:
        found["gpu"] = {"model": model, "memory": "80Gi", "count": gpus}
    return found


def fleet_of(*parts: tuple[dict[str, Any], dict[str, Any]]) -> Fleet:
    changes: list[FleetChange] = []
    for seen, reported in parts:
        changes += [ClusterSeen(seen), CapacitySeen(reported)]
    return Fleet.empty().apply(changes)


def nominal(quotas: Quotas, queue: str = "q") -> dict[tuple[str, str], int]:
    return {key: value.nominal for key, value in quotas.queues[queue].quotas.items()}


SETS = ClusterSets.parse([SET], [])


def test_a_part_of_what_the_set_has() -> None:
    there = fleet_of(
        (cluster("a"), capacity("a", nodes(2, 8, 4))),
        (cluster("b"), capacity("b", nodes(1, 3))),
        (cluster("other", "cpu"), capacity("other", nodes(9, 64, 8))),
    )
    written = Quotas.parse(
        [
            flavor("any"),
            deriving(
                cluster_queue("q", group(("any", [quota("cpu", 5), quota(names.GPU, 1)])), cohort="team"), factor=0.9
            ),
            cluster_queue("plain", group(("any", [quota("cpu", 5)]))),
        ]
    )
    assert derives(written)
    found, drift = derive(written, there, SETS)
    # Nine tenths of 19 CPUs and of 8 GPUs, rounded down.
    assert nominal(found) == {("any", "cpu"): 17_100, ("any", names.GPU): 7}
    assert nominal(found, "plain") == {("any", "cpu"): 5_000}
    assert nominal(written) == {("any", "cpu"): 5_000, ("any", names.GPU): 1}
    tree = found.trees["q"]
    assert tree.nodes[tree.position["q"]].subtree["any", "cpu"] == 17_100
    assert [(d.name, d.resource, d.declared, d.derived) for d in drift] == [
        ("q", "cpu", 5_000, 17_100),
        ("q", names.GPU, 1, 7),
    ]
    assert drift[0].words == (
        "ClusterQueue q: its nominal quota of cpu in flavor any is 17100m, from cluster set gpu (written: 5)"
    )


def test_flavors_count_the_nodes_they_are_of() -> None:
    """A flavor's labels may be a whole cluster's, its nodes', or the model of their GPUs."""
    there = fleet_of(
        (cluster("a", zone="eu"), capacity("a", nodes(2, 8, 4, "H100"), nodes(1, 4, 2, "A100"))),
        (cluster("b", zone="us"), capacity("b", nodes(1, 8, 4, "H100"))),
        (cluster("c"), capacity("c", nodes(1, 2, zone="eu"))),
    )
    objects = [
        flavor("h100", nodeLabels={names.GPU_PRODUCT: "H100"}),
        flavor("eu", nodeLabels={"zone": "eu"}),
        deriving(
            cluster_queue(
                "q",
                group(("h100", [quota(names.GPU, 0)])),
                group(("eu", [quota("cpu", 0)])),
            )
        ),
    ]
    found, _ = derive(Quotas.parse(objects), there, SETS)
    assert nominal(found) == {("h100", names.GPU): 12, ("eu", "cpu"): 22_000}


def test_only_some_flavors_and_cohorts_too() -> None:
    there = fleet_of((cluster("a"), capacity("a", nodes(2, 8))))
    objects = [
        flavor("x"),
        flavor("y"),
        deriving(cohort("team", group(("x", [quota("cpu", 1)]), ("y", [quota("cpu", 2)]))), flavors=["y"], factor="2"),
    ]
    found, drift = derive(Quotas.parse(objects), there, SETS)
    assert {key: value.nominal for key, value in found.cohorts["team"].quotas.items()} == {
        ("x", "cpu"): 1_000,
        ("y", "cpu"): 32_000,
    }
    assert [entry.kind for entry in drift] == ["Cohort"]


def test_silence_takes_nothing_and_departure_does() -> None:
    objects = [flavor("any"), deriving(cluster_queue("q", group(("any", [quota("cpu", 0)]))))]
    written = Quotas.parse(objects)
    for available, expected in (("True", 8_000), ("Unknown", 8_000)):
        there = fleet_of((cluster("a", available=available), capacity("a", nodes(1, 8))))
        assert nominal(derive(written, there, SETS)[0]) == {("any", "cpu"): expected}
    gone = cluster("a")
    gone["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    there = fleet_of((gone, capacity("a", nodes(1, 8))))
    assert nominal(derive(written, there, SETS)[0]) == {("any", "cpu"): 0}


def test_a_set_that_is_not_there_gives_nothing_and_is_a_problem() -> None:
    objects = [flavor("any"), deriving(cluster_queue("q", group(("any", [quota("cpu", 3)]))), clusterSet="nowhere")]
    found, _ = derive(Quotas.parse(objects), fleet_of(), SETS)
    assert nominal(found) == {("any", "cpu"): 0}
    assert found.problems["ClusterQueue/q"] == "cluster set nowhere, its quota's source, does not exist"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "expected JSON such as"),
        ("[]", "expected JSON such as"),
        ('{"factor": 1}', "expected JSON such as"),
        ('{"clusterSet": "gpu", "faktor": 1}', "there is no faktor; known: clusterSet, factor, flavors"),
        ('{"clusterSet": "gpu", "factor": -1}', "factor: found -1; expected 0 to 1000"),
        ('{"clusterSet": "gpu", "factor": true}', "factor: found True; expected a number"),
        ('{"clusterSet": "gpu", "factor": "lots"}', "factor: found 'lots'; expected a number"),
        ('{"clusterSet": "gpu", "flavors": "x"}', "flavors: found 'x'; expected names"),
    ],
)
def test_bad_annotations_are_named(text: str, said: str) -> None:
    obj = cluster_queue("q", group(("any", [quota("cpu", 3)])))
    obj["metadata"]["annotations"] = {names.NOMINAL_FROM: text}
    with pytest.raises(InvalidObjectError, match="nominal-from") as caught:
        read_nominal_from(obj)
    assert said in str(caught.value)
    assert "ClusterQueue/q" in Quotas.parse([flavor("any"), obj]).problems


def test_factors_are_exact() -> None:
    obj = deriving(cluster_queue("q"), factor=0.9, flavors=["b", "a", "b"])
    assert read_nominal_from(obj) == NominalFrom("gpu", Fraction(9, 10), ("a", "b"))
    assert read_nominal_from(cluster_queue("q")) is None


def test_the_world_follows_its_clusters() -> None:
    world = World()
    world.quota_seen(flavor("any"))
    world.quota_seen(deriving(cluster_queue("q", group(("any", [quota("cpu", 3)])))))
    world.set_changed("gpu", SET)
    world.cluster_seen(cluster("a"))
    world.capacity_seen(capacity("a", nodes(1, 8)))
    world.refresh()
    assert nominal(world.quotas) == {("any", "cpu"): 8_000}
    assert [entry.derived for entry in world.drift] == [8_000]
    before = world.quotas
    world.charge([Charge("w", "a", TaskShape((("cpu", 1_000),)), 2)])
    world.refresh()
    assert world.quotas is before, "what runs there is no reason to look again"
    world.capacity_seen(capacity("a", nodes(1, 2)))
    world.refresh()
    assert nominal(world.quotas) == {("any", "cpu"): 2_000}
    world.quota_seen(cluster_queue("q", group(("any", [quota("cpu", 3)]))))
    world.refresh()
    assert nominal(world.quotas) == {("any", "cpu"): 3_000}
    assert world.drift == ()
