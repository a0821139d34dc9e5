"""What a cluster says that cannot be: it costs that cluster only, what it said before counts, the field is named."""

from __future__ import annotations

import math
import time
from typing import Any

import pytest
from fleet_samples import cluster, group, report, shape

from hub.api import names
from hub.fleet.changes import CapacitySeen, Charge, ClusterSeen
from hub.fleet.fleet import Fleet

LONG = "x" * 10_240
MANY = {f"k{n}": "v" for n in range(2_000)}
BAD: list[tuple[list[dict[str, Any]], str, str]] = [
    ([group(cpu="-4")], "[0].allocatable.cpu", "negative"),
    ([group(memory="-1Gi")], "[0].allocatable.memory", "negative"),
    ([group(cpu="9" * 400)], "[0].allocatable.cpu", ""),
    ([group(other={"example.com/fpga": 2**70})], "[0].allocatable.example.com/fpga", "more than any node has"),
    ([group(other={LONG: "1"})], "[0].allocatable", "10,240 characters"),
    ([group(other={f"example.com/r{n}": "1" for n in range(2_000)})], "[0].allocatable", "2,002 entries"),
    ([group(name=LONG)], "[0].name", "10,240 characters"),
    ([group(gpus=1, model=LONG)], "[0].gpu.model", "10,240 characters"),
    ([group(nodes=[LONG])], "[0].nodes", "10,240 characters"),
    ([group(memory="9000Pi")], "[0].allocatable.memory", "more than any node has"),
    ([group(cpu="lots")], "[0].allocatable.cpu", "lots"),
    ([group(other={"example.com/fpga": math.nan})], "[0].allocatable.example.com/fpga", "nan"),
    ([group(other={"example.com/fpga": math.inf})], "[0].allocatable.example.com/fpga", "inf"),
    ([group(cpu="NaN")], "[0].allocatable.cpu", "NaN"),
    ([group(gpus=1, gpu_memory="+Inf")], "[0].gpu.memory", "+Inf"),
    ([{**group(), "count": math.nan}], "[0].count", "nan"),
    ([{**group(), "count": True}], "[0].count", "True"),
    ([{**group(), "gpu": {"model": "T4", "count": 1, "replicas": -1}}], "[0].gpu.replicas", "-1"),
    ([{**group(), "gpu": {"model": "T4", "count": 200, "replicas": 100}}], "[0].allocatable.nvidia.com/gpu", "20000"),
    ([group("a"), group("b"), group("a")], "[2].name", "a is there twice"),
    ([group(labels={"zone": LONG})], "[0].labels.zone", "10,240 characters"),
    ([group(labels={LONG: "a"})], "[0].labels", "10,240 characters"),
    ([group(labels=MANY)], "[0].labels", "2,000 entries"),
    ([group(taints=[{"key": f"k{n}", "effect": "NoSchedule"} for n in range(2_000)])], "[0].taints", "2,000 entries"),
    ([group(count=2, nodes=["only-one"])], "[0].nodes", "1 names of 2 nodes"),
    ([group(nodes="n")], "[0].nodes", "not a list"),
    ([group(count=2, used=[{"nodes": 3, "resources": {"cpu": "1"}}])], "[0].used", "more nodes are in use"),
    ([group(used=[{"nodes": 1, "resources": {"cpu": "-1"}}])], "[0].used[0].resources.cpu", "negative"),
    ([group(count=0, used=[{"nodes": 0, "resources": {}}] * 20_001)], "[0].used", "20,001 entries"),
]


def three(**first: Any) -> Fleet:
    changes = [ClusterSeen(cluster(n)) for n in "abc"] + [CapacitySeen(report(n, group(cpu=4))) for n in "abc"]
    return Fleet.empty().apply([*changes, Charge("k", "b", shape(1000), 1)])


@pytest.mark.parametrize(("groups", "field", "words"), BAD)
def test_a_report_that_cannot_be(groups: list[dict[str, Any]], field: str, words: str) -> None:
    before = three()
    fleet = before.apply([CapacitySeen(report("b", *groups)), CapacitySeen(report("c", group(cpu=6)))])
    assert fleet.fit(shape(1000)).tolist() == [4, 3, 6]
    assert fleet.site("b") is before.site("b")
    assert fleet.problems.keys() == {"b"}
    assert fleet.problems["b"].startswith(f"ClusterCapacity: status.nodeGroups{field}: ")
    assert words in fleet.problems["b"]
    # Short enough to be read, whatever was sent.
    assert len(fleet.problems["b"]) < 300
    assert fleet.apply([CapacitySeen(report("b", group(cpu=4)))]).problems == {}


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"labels": {"env": LONG}}, "metadata.labels.env: 10,240 characters"),
        ({"labels": MANY}, "metadata.labels: 2,000 entries"),
        ({"claims": {"id.k8s.io": LONG}}, "status.clusterClaims[id.k8s.io]: 10,240 characters"),
        ({"taints": [{"key": f"k{n}", "effect": "NoSelect"} for n in range(2_000)]}, "spec.taints: 2,000 entries"),
    ],
)
def test_a_cluster_that_cannot_be(more: dict[str, Any], words: str) -> None:
    fleet = three().apply([ClusterSeen(cluster("b", available="False", **more))])
    assert fleet.available.tolist() == [True, True, True]
    assert fleet.problems["b"].startswith(f"ManagedCluster: {words}")
    assert fleet.apply([ClusterSeen(cluster("b", available="False"))]).available.tolist() == [True, False, True]


@pytest.mark.parametrize("value", ["-4", "1e999", "lots", math.nan, 2**300])
def test_totals_that_cannot_be(value: Any) -> None:
    fleet = three().apply([ClusterSeen(cluster("b", allocatable={"cpu": value}, labels={"env": "prod"}))])
    facts = fleet.facts("b")
    assert (facts.totals, facts.labels) == ({"cpu": 8000}, {"env": "prod"})
    assert fleet.problems["b"].startswith("ManagedCluster: status.allocatable.cpu: ")


def test_a_hundred_thousand_groups_cost_nothing() -> None:
    groups = [group(f"g{n}") for n in range(100_000)]
    seen = CapacitySeen(report("b", *groups))
    before = three()
    started = time.process_time()
    fleet = before.apply([seen])
    assert time.process_time() - started < 0.5
    assert fleet.problems == {"b": "ClusterCapacity: status.nodeGroups: 100,000 entries, at most 5,000"}
    assert fleet.fit(shape(1000)).tolist() == [4, 3, 4]


def test_more_in_use_than_there_is_leaves_nothing_and_no_less() -> None:
    """Not a mistake: the least of a group's nodes is what counts, and one of them may be a little larger."""
    used = [{"nodes": 1, "resources": {"cpu": "900", names.GPU: "7", "example.com/unknown": "3"}}]
    fleet = three().apply([CapacitySeen(report("b", group(count=2, cpu=4, gpus=1, used=used)))])
    assert fleet.problems == {}
    assert fleet.fit(shape(1000)).tolist() == [4, 3, 4]
    assert fleet.free("cpu")[1] == 3000
    assert fleet.fit(shape(gpus=1)).tolist() == [0, 1, 0]
    assert "at most 3 of 4 cpu free" in fleet.explain_fit("b", shape(4000)).message


def test_a_report_of_nothing_is_a_report() -> None:
    fleet = three().apply([CapacitySeen(report("b"))])
    assert (fleet.problems, fleet.fit(shape(1000)).tolist()) == ({}, [4, 0, 4])
