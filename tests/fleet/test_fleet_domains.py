"""How many tasks fit in one rack or NVLink domain of a cluster."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from hub.api import names
from hub.api.reasons import Reason
from hub.fleet.changes import CapacitySeen, Charge, ClusterSeen
from hub.fleet.fleet import Fleet
from hub.fleet.shape import TaskShape, on_domain

RACK = "topology.kubernetes.io/rack"
ONE = TaskShape((("cpu", 1000),), domain=RACK)


def group(name: str, count: int, rack: str = "", cpu: int = 4, **fields: Any) -> dict[str, Any]:
    labels = {RACK: rack} if rack else {}
    return {"name": name, "count": count, "labels": labels, "allocatable": {"cpu": str(cpu)}, **fields}


def fleet(**clusters: list[dict[str, Any]]) -> Fleet:
    changes: list[Any] = []
    for name, groups in clusters.items():
        changes.append(ClusterSeen({"metadata": {"name": name}, "spec": {"hubAcceptsClient": True}}))
        changes.append(CapacitySeen({"metadata": {"name": name}, "status": {"nodeGroups": groups}}))
    return Fleet.empty().apply(changes)


def test_what_counts_is_the_largest_domain() -> None:
    found = fleet(
        a=[group("x", 2, "r1"), group("y", 1, "r2"), group("z", 1, "r1")],
        b=[group("x", 5)],
        c=[group("x", 1, "r1"), group("y", 9)],
    )
    assert found.fit(replace(ONE, domain="")).tolist() == [16, 20, 40]
    assert found.fit(ONE).tolist() == [12, 0, 4]
    assert found.capacity(ONE).tolist() == [12, 0, 4]
    assert found.domains("a", ONE) == {"r1": 12, "r2": 4}
    assert found.domains("b", ONE) == {}


def test_charges_are_counted_where_they_are() -> None:
    found = fleet(a=[group("x", 2, "r1"), group("y", 2, "r2")])
    there = on_domain(ONE, (RACK, "r2"))
    assert (there.domain, there.node_selector) == ("", ((RACK, "r2"),))
    found = found.apply([Charge("k", "a", there, 6)])
    assert found.domains("a", ONE) == {"r1": 8, "r2": 2}
    assert found.fit(ONE).tolist() == [8]
    assert found.capacity(ONE).tolist() == [8]


@pytest.mark.parametrize(
    ("shape", "domains"),
    [
        (TaskShape((("cpu", 1000), (names.GPU, 2)), domain=RACK), {"r1": 4}),
        (TaskShape((("cpu", 1000),), gpu_share=500, domain=RACK), {"r1": 4}),
        (TaskShape((("cpu", 3000),), domain=RACK), {"r1": 1, "r2": 2}),
    ],
)
def test_only_nodes_that_may_run_it_count(shape: TaskShape, domains: dict[str, int]) -> None:
    gpu = {"gpu": {"model": "A100", "memory": "80Gi", "count": 8}}
    found = fleet(a=[group("x", 1, "r1", **gpu), group("y", 2, "r2"), group("z", 3)])
    assert found.domains("a", shape) == domains


def test_why_none_fits() -> None:
    found = fleet(a=[group("x", 2)])
    verdict = found.explain_fit("a", ONE)
    assert verdict.reason is Reason.SHAPE_NEVER_FITS
    assert f"do not have label {RACK}" in verdict.message


def test_shapes_that_differ_in_the_domain_only_are_not_equal() -> None:
    assert replace(ONE, domain="") != ONE
    assert hash(replace(ONE, domain="zone")) != hash(ONE)
