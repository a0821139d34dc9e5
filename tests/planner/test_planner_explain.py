"""What explain says is what decided, and the change that it names would have let the job in."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from fleet_objects import demand, flavor, fleet, open_queue, queue, shape, site, snapshot
from hypothesis import given, settings
from test_planner_cycle import only, snapshots

from hub.api.errors import UsageError
from hub.api.indexset import IndexSet
from hub.api.nodeaffinity import NodeRequirement
from hub.fleet.changes import Charge
from hub.planner.cycle import plan
from hub.planner.explain import explain
from hub.planner.plan import Snapshot
from hub.queueing.demand import Demand, TaskGroup
from hub.scoring.builtin import default_scorers


def test_everything_it_looked_at() -> None:
    objects = [
        flavor(),
        *queue("q", ("default", {"cpu": {"nominalQuota": 2, "borrowingLimit": 3}}), cohortName="team"),
        *queue("r", ("default", {"cpu": {"nominalQuota": 9, "lendingLimit": 4}}), cohortName="team"),
    ]
    before = snapshot(
        fleet(site("a", cpu=4), site("b", cpu=8), site("c", available="Unknown"), site("d", cpu="500m")),
        objects,
        demand("older", tasks=2, created=-1.0),
        demand("other", created=-1.0, queue="r"),
        demand("job", groups=(TaskGroup(IndexSet.span(3), 2, ("a",)),), slots=3),
        demand("younger", created=9.0),
        scorers=default_scorers(),
    )
    found = explain(before, "default/job")
    assert (found.queue, found.position, found.waiting, found.ahead) == ("q", 3, 4, 1)
    assert [(line.node, line.used, line.borrowed, line.available) for line in found.quota] == [
        ("q", 2000, 0, 3000),
        ("team", 2000, 0, 4000),
    ]
    assert found.quota[0].borrowing_limit == 3000
    assert found.quota[1].lendable is None
    assert [(line.affordable, line.possible, line.room) for line in found.flavors] == [(3, True, 5)]
    by_name = {line.cluster: line for line in found.clusters}
    assert by_name["a"].code == "ExcludedAfterFailure"
    assert by_name["a"].message == "tasks 0-2 failed here and asked to be retried elsewhere"
    assert (by_name["b"].code, by_name["b"].rank, by_name["b"].room, by_name["b"].capacity) == ("", 1, 5, 8)
    assert [score.scorer for score in by_name["b"].scores] == ["FreeSlots", "FreeShare", "Price"]
    assert by_name["b"].total == pytest.approx(sum(score.weighted for score in by_name["b"].scores))
    assert by_name["b"].scores[2].raw is None
    assert by_name["c"].code == "ClusterUnreachable"
    assert by_name["d"].code == "ShapeNeverFits"
    assert found.admission is not None
    assert found.refusal is None
    assert found.change == ""


def test_only_what_is_decided_about_can_be_explained() -> None:
    with pytest.raises(UsageError, match="default/absent waits for nothing"):
        explain(snapshot(fleet(), []), "default/absent")


BUSY = fleet(site("a", cpu=4), site("b", cpu=4)).apply(
    [
        Charge("big-work-1", "a", shape(cpu=1), 4),
        Charge("small-work-1", "b", shape(cpu=1), 1),
        Charge("other-work-1", "b", shape(cpu=1), 3),
    ]
)


@pytest.mark.parametrize(
    ("before", "change"),
    [
        (
            snapshot(fleet(site("a")), open_queue(cpu=2), demand(shape=shape(cpu=3))),
            "ask for at most 2 cpu a task",
        ),
        (
            snapshot(
                fleet(site("a")),
                open_queue(cpu=2),
                demand("older", tasks=4, created=-1.0, shape=shape(cpu="500m")),
                demand(shape=shape(cpu="750m")),
            ),
            "raise the nominalQuota of cpu in flavor default of ClusterQueue q to 2750m",
        ),
        (
            snapshot(
                fleet(site("a", cpu=20)),
                [
                    flavor(),
                    *queue("q", ("default", {"cpu": {"nominalQuota": 1, "borrowingLimit": 1}}), cohortName="team"),
                    *queue("r", ("default", {"cpu": 9}), cohortName="team"),
                ],
                demand("older", tasks=2, created=-1.0),
                demand(),
            ),
            "raise the borrowingLimit of cpu in flavor default of ClusterQueue q to 2",
        ),
        (
            snapshot(fleet(site("a")), open_queue(cpu=2), demand(tasks=3, gang=True)),
            "start at most 2 tasks at once",
        ),
        (snapshot(BUSY, open_queue(), demand()), "wait until big-work-1 on a has ended"),
        (snapshot(BUSY, open_queue(), demand(rule=only("b"))), "wait until small-work-1 on b has ended"),
        # Its own tasks end by themselves: that is no change to wait for.
        (
            snapshot(fleet(site("a")).apply([Charge("job-uidjob-1", "a", shape(cpu=1), 4)]), open_queue(), demand()),
            "",
        ),
        (
            snapshot(fleet(site("a", cpu=2), site("b")), open_queue(), demand(shape=shape(cpu=3), rule=only("a"))),
            "drop the cluster selector name=a",
        ),
        (
            snapshot(fleet(site("a", gpus=2)), open_queue(), demand(shape=shape(gpus=1, models=["H100"]))),
            "allow other GPU models than H100",
        ),
        (
            snapshot(fleet(site("a", gpus=2)), open_queue(), demand(shape=shape(gpus=1, minMemory="90Gi"))),
            "ask for less GPU memory",
        ),
        (
            snapshot(fleet(site("a", gpus=2)), open_queue(), demand(shape=shape(gpus=3))),
            "ask for at most 2 nvidia.com/gpu a task",
        ),
        (
            snapshot(fleet(site("a", taints=[{"key": "x", "effect": "NoSelect"}])), open_queue(), demand()),
            "tolerate the clusters' taint x:NoSelect",
        ),
        (snapshot(fleet(site("a", available="Unknown")), open_queue(), demand()), "bring cluster a back"),
        (
            snapshot(
                fleet(site("a", node_labels={"zone": "x"})),
                open_queue(),
                demand(shape=replace(shape(), node_affinity=((NodeRequirement("zone", "In", ("y",)),),))),
            ),
            "drop the required node affinity",
        ),
        (
            snapshot(fleet(site("a", node_taints=[("k", "v", "NoSchedule")])), open_queue(), demand()),
            "tolerate the nodes' taint k=v:NoSchedule",
        ),
        (
            snapshot(fleet(site("a", cpu=2)), open_queue(), demand(tasks=3, gang=True)),
            "start at most 2 tasks at once",
        ),
        (snapshot(fleet(site("a")), open_queue(), demand(tasks=3, slots=0)), "raise the job's parallelism by 1"),
        (snapshot(fleet(site("a")), open_queue(), demand(queue="absent")), "use LocalQueue q"),
        (
            snapshot(
                fleet(site("a")),
                open_queue(queueingStrategy="StrictFIFO"),
                demand("older", shape=shape(cpu=9), created=-1.0),
                demand(),
            ),
            "set queueingStrategy of ClusterQueue q to BestEffortFIFO",
        ),
        (
            snapshot(fleet(site("a")), open_queue(stopPolicy="Hold"), demand()),
            "set stopPolicy of ClusterQueue q to None",
        ),
        (
            snapshot(fleet(site("a")), open_queue(namespaceSelector=None), demand()),
            "let namespaceSelector of ClusterQueue q select namespace default",
        ),
        (
            snapshot(
                fleet(site("a", gpus=1)), [flavor(), *queue("q", ("default", {"cpu": 9}))], demand(shape=shape(gpus=1))
            ),
            "ask for no nvidia.com/gpu, or add it to the resourceGroups of ClusterQueue q",
        ),
        (snapshot(fleet(), open_queue(), demand()), ""),
    ],
)
def test_the_smallest_change(before: Snapshot, change: str) -> None:
    assert explain(before, "default/job").change == change


@pytest.mark.parametrize(
    ("job", "sites", "objects", "code"),
    [
        (demand(tasks=3, gang=True), [("a", {"cpu": 2})], open_queue(), "TooSmallTogether"),
        (demand(tasks=3, gang=True), [("a", {"cpu": 3})], open_queue(), "NoRoomTogether"),
        (
            demand(running=("b",), rule=only("a")),
            [("a", {"cpu": 2})],
            [flavor(nodeLabels={"name": "z"}), *queue("q", ("default", {"cpu": 9}))],
            "FlavorMismatch",
        ),
    ],
)
def test_verdicts_of_clusters(job: Demand, sites: list[Any], objects: list[Any], code: str) -> None:
    before = snapshot(
        fleet(*(site(name, **fields) for name, fields in sites)).apply([Charge("w-1", "a", shape(cpu=1), 1)]),
        objects,
        job,
    )
    line = explain(before, "default/job").clusters[0]
    assert line.code == code
    assert line.message


def test_a_limit_on_clusters_is_a_verdict() -> None:
    from hub.placement.rule import ClusterRule

    before = snapshot(fleet(site("a"), site("b")), open_queue(), demand(rule=ClusterRule(limit=1), running=("b",)))
    lines = {line.cluster: line for line in explain(before, "default/job").clusters}
    assert (lines["a"].code, lines["a"].message) == ("ClusterLimitReached", "the job may use 1 clusters and is on b")
    assert lines["b"].rank == 1


@settings(max_examples=60, deadline=None)
@given(snapshots())
def test_explaining_is_deciding(before: Snapshot) -> None:
    decided = plan(before)
    for wanted in before.demands:
        found = explain(before, wanted.key)
        assert found.admission == next((a for a in decided.admissions if a.key == wanted.key), None)
        assert found.refusal == next((r for r in decided.refusals if r.key == wanted.key), None)
        simple = len(wanted.groups) == 1 and wanted.rule.limit is None
        if simple and found.admission is not None:
            # The first slice is on the cluster that was ranked first among those with room.
            ranked = sorted((line for line in found.clusters if line.rank), key=lambda line: line.rank)
            assert found.admission.slices[0].cluster == ranked[0].cluster
