"""Gangs on nodes that belong together: one rack where they need it, or where they would rather have it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from fleet_objects import carry_out, demand, fleet, open_queue, shape, snapshot

from hub.api.indexset import IndexSet
from hub.api.reasons import Reason
from hub.fleet.changes import CapacitySeen, ClusterSeen, FleetChange
from hub.planner.cycle import plan
from hub.planner.plan import Plan, Snapshot
from hub.queueing.demand import Demand, TaskGroup

RACK = "topology.kubernetes.io/rack"


def racks(name: str, *nodes: tuple[str, int], cpu: int = 4) -> list[FleetChange]:
    """A cluster of node groups: (value of the rack's label or empty, nodes)."""
    groups = [
        {"name": f"g{at}", "count": count, "labels": {RACK: rack} if rack else {}, "allocatable": {"cpu": str(cpu)}}
        for at, (rack, count) in enumerate(nodes)
    ]
    cluster = {
        "metadata": {"name": name},
        "spec": {"hubAcceptsClient": True},
        "status": {"conditions": [{"type": "ManagedClusterConditionAvailable", "status": "True"}]},
    }
    return [ClusterSeen(cluster), CapacitySeen({"metadata": {"name": name}, "status": {"nodeGroups": groups}})]


def gang(tasks: int, name: str = "train", *, required: bool = False, preferred: bool = False, **fields: Any) -> Demand:
    asked = replace(shape(1), domain=RACK) if required else shape(1)
    return demand(name, tasks=tasks, gang=True, shape=asked, domains=(RACK,) if preferred else (), **fields)


def parts(decided: Plan) -> list[tuple[str, tuple[str, str] | None, int]]:
    return [(part.cluster, part.domain, part.slots) for a in decided.admissions for part in a.slices]


def asked(*jobs: Demand, sites: list[list[FleetChange]]) -> Snapshot:
    return snapshot(fleet(*sites), open_queue(), *jobs)


def test_a_required_rack_is_one_with_room_for_all() -> None:
    sites = [racks("a", ("r1", 1), ("r2", 1), ("", 9)), racks("b", ("r1", 3), ("r2", 2))]
    before = asked(gang(7, required=True), sites=sites)
    decided = plan(before)
    # The smallest that does: eight slots in r2, twelve in r1.
    assert parts(decided) == [("b", (RACK, "r2"), 7)]
    after = carry_out(before, decided)
    assert all(not holding.waiting for holding in after.fleet.held("b").values())
    # One slot is left in that rack, and twelve in the other.
    assert after.fleet.fit(replace(shape(1), domain=RACK)).tolist() == [4, 12]


def test_two_gangs_do_not_share_what_is_there_once() -> None:
    decided = plan(
        asked(gang(7, "one", required=True), gang(7, "two", required=True), gang(7, "three", required=True),
              sites=[racks("a", ("r1", 2), ("r2", 2))])
    )  # fmt: skip
    assert {domain for _, domain, _ in parts(decided)} == {(RACK, "r1"), (RACK, "r2")}
    assert [(refusal.reason, "one " + RACK in refusal.message) for refusal in decided.refusals] == [
        (Reason.WAITING_FOR_CAPACITY, True)
    ]


def test_no_rack_is_large_enough() -> None:
    decided = plan(asked(gang(9, required=True), sites=[racks("a", ("r1", 2), ("r2", 2))]))
    assert decided.refusals[0].reason is Reason.NO_CLUSTER_FITS
    assert "9 tasks at once on nodes of one cluster with one " + RACK in decided.refusals[0].message
    assert "8" in decided.refusals[0].message
    decided = plan(asked(gang(9, required=True), sites=[racks("a", ("", 9))]))
    assert f"do not have label {RACK}" in decided.refusals[0].message


def test_a_preferred_rack_is_taken_where_there_is_one_else_any_nodes_of_a_cluster() -> None:
    sites = [racks("a", ("r1", 1), ("r2", 1), ("r3", 1)), racks("b", ("r1", 2))]
    assert parts(plan(asked(gang(7, preferred=True), sites=sites))) == [("b", (RACK, "r1"), 7)]
    assert parts(plan(asked(gang(9, preferred=True), sites=sites))) == [("a", None, 9)]
    assert parts(plan(asked(gang(13, preferred=True), sites=sites))) == []


def test_what_waits_again_of_a_gang_goes_where_the_others_are() -> None:
    sites = [racks("a", ("", 9)), racks("b", ("", 2))]
    again = replace(gang(8), groups=(TaskGroup(IndexSet.of([3]), 2, ("b",)),), slots=1, active=7, running=("b",))
    assert parts(plan(asked(again, sites=sites))) == [("b", None, 1)]


@pytest.mark.parametrize("required", [True, False])
def test_a_plan_that_is_carried_out_leaves_nothing_to_decide(required: bool) -> None:
    jobs = [
        gang(size, f"job{size}", required=required, preferred=not required, created=float(size))
        for size in (3, 4, 5, 6, 2)
    ]
    before = asked(*jobs, sites=[racks("a", ("r1", 2), ("r2", 1)), racks("b", ("r1", 1), ("r9", 1))])
    decided = plan(before)
    assert parts(decided)
    after = carry_out(before, decided)
    assert not plan(after).admissions
    for name in after.fleet.names:
        assert all(not holding.waiting for holding in after.fleet.held(name).values())
