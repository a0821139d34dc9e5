"""How a fleet becomes the next one: by laws that must hold for any history, and what one bad report may not do."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from fleet_samples import GI, JSON, SHAPES, cluster, free_of, group, report, shape
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.api import names
from hub.fleet.changes import (
    CapacityGone,
    CapacitySeen,
    Charge,
    ClusterGone,
    ClusterSeen,
    FleetChange,
    Release,
    ScoresGone,
    ScoresSeen,
)
from hub.fleet.fleet import Fleet
from hub.fleet.shape import TaskShape

NAMES = st.sampled_from(["a", "b", "c"])
KEYS = st.sampled_from(["k1", "k2", "k3", "k4", "k5"])
CHANGES = st.one_of(
    st.builds(
        lambda name, region, ok: ClusterSeen(cluster(name, labels={"region": region}, available=ok)),
        NAMES,
        st.sampled_from(["eu", "us"]),
        st.sampled_from(["True", "Unknown"]),
    ),
    st.builds(
        lambda name, count, gpus, cpu: CapacitySeen(report(name, group(count=count, gpus=gpus, cpu=cpu))),
        NAMES,
        st.integers(0, 3),
        st.integers(0, 2),
        st.integers(1, 8),
    ),
    st.builds(ClusterGone, NAMES),
    st.builds(CapacityGone, NAMES),
    st.builds(lambda values, until: ScoresSeen("s", values, until), st.dictionaries(NAMES, st.floats()), st.just(10.0)),
    st.just(ScoresGone("s")),
    st.builds(Charge, KEYS, NAMES, SHAPES, st.integers(0, 4)),
    st.builds(Charge, KEYS, NAMES, SHAPES, st.integers(0, 4)),
    st.builds(Release, KEYS),
)
START: list[FleetChange] = [
    ClusterSeen(cluster("a")),
    CapacitySeen(report("a", group(count=2, gpus=2, cpu=4))),
    ClusterSeen(cluster("b")),
    CapacitySeen(report("b", group("x", 1, cpu=2), group("y", 2, gpus=1, cpu=8))),
]
HISTORIES = st.builds(list.__add__, st.sampled_from([START, START, []]), st.lists(CHANGES, max_size=20))
PROBES = (shape(1000), shape(500, GI, gpus=1), shape(gpu_share=300))


def after(changes: Iterable[FleetChange]) -> Fleet:
    return Fleet.empty().apply(changes)


def seen(fleet: Fleet) -> dict[str, Any]:
    """Everything a decision could ask."""
    return {
        "names": fleet.names,
        "fit": [fleet.fit(p).tolist() for p in PROBES],
        "capacity": [fleet.capacity(p).tolist() for p in PROBES],
        "free": [np.nan_to_num(fleet.free(r), nan=-1).tolist() for r in ("cpu", "memory", names.GPU)],
        "allocatable": [np.nan_to_num(fleet.allocatable(r), nan=-1).tolist() for r in ("cpu", names.GPU)],
        "gpus": np.nan_to_num(fleet.gpus_free("A100"), nan=-1).tolist(),
        "flags": [fleet.accepted.tolist(), fleet.available.tolist(), fleet.reported.tolist()],
        "scores": np.nan_to_num(fleet.scores("s", 5.0), nan=-1).tolist(),
        "charges": dict(fleet.charges),
        "problems": dict(fleet.problems),
        "digest": fleet.digest,
    }


@settings(max_examples=150, deadline=None)
@given(HISTORIES)
def test_step_by_step_is_all_at_once(changes: list[FleetChange]) -> None:
    fleet = Fleet.empty()
    for change in changes:
        fleet = fleet.apply([change])
        # Asked in between, so that every cache is warm and must notice what changed.
        seen(fleet)
    assert seen(fleet) == seen(after(changes))
    for probe in PROBES:
        assert (fleet.fit(probe) >= 0).all()
        assert (fleet.fit(probe) <= fleet.capacity(probe)).all()


@settings(max_examples=100, deadline=None)
@given(HISTORIES, st.integers(0, 10**6))
def test_what_came_before_stays_as_it_was(changes: list[FleetChange], at: int) -> None:
    steps = [Fleet.empty()]
    for change in changes:
        steps.append(steps[-1].apply([change]))
    kept = steps[at % len(steps)]
    assert seen(kept) == seen(after(changes[: at % len(steps)]))


@settings(max_examples=100, deadline=None)
@given(HISTORIES, NAMES, SHAPES, st.integers(1, 5))
def test_a_charge_and_its_release_are_nothing(
    changes: list[FleetChange], name: str, want: TaskShape, count: int
) -> None:
    fleet = after(changes)
    assert seen(fleet.apply([Charge("new", name, want, count), Release("new")])) == seen(fleet)
    grown = fleet.apply([Charge("new", name, want, count)]).apply([Charge("new", name, want, count + 3)])
    assert seen(grown.apply([Release("new")])) == seen(fleet)
    shrunk = fleet.apply([Charge("new", name, want, count + 3)]).apply([Charge("new", name, want, count)])
    assert seen(shrunk.apply([Charge("new", name, want, 0)])) == seen(fleet)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(NAMES, st.integers(0, 3), st.integers(0, 2)), max_size=4), st.data())
def test_order_of_arrival_does_not_matter_before_a_report(
    sites: list[tuple[str, int, int]], data: st.DataObject
) -> None:
    """A hub that starts sees charges, clusters and reports in any order and must come to the same fleet."""
    last = {name: (count, gpus) for name, count, gpus in sites}
    charges: list[FleetChange] = [
        Charge(f"k{i}", data.draw(NAMES), data.draw(SHAPES), data.draw(st.integers(1, 3))) for i in range(4)
    ]
    facts: list[FleetChange] = [ClusterSeen(cluster(name)) for name in last]
    reports = [CapacitySeen(report(name, group(count=n, gpus=g))) for name, (n, g) in last.items()]
    shuffled = [*charges, *facts]
    random.Random(data.draw(st.integers(0, 99))).shuffle(shuffled)
    assert seen(after([*shuffled, *reversed(reports)])) == seen(after([*charges, *facts, *reports]))


@settings(max_examples=200, deadline=None)
@given(JSON, JSON, JSON, st.sampled_from(["metadata", "spec", "status"]))
def test_no_object_raises(value: Any, other: Any, third: Any, part: str) -> None:
    start = after([ClusterSeen(cluster("good")), CapacitySeen(report("good", group())), ClusterSeen(cluster("bad"))])
    poison = [
        ClusterSeen({**cluster("bad"), part: value}),
        ClusterSeen(value),
        CapacitySeen(value),
        CapacitySeen({"metadata": {"name": "bad"}, "status": value}),
        CapacitySeen(report("bad", {**group(), "allocatable": value, "used": other, "gpu": third})),
        CapacitySeen(report("bad", {**group(), "count": value, "labels": other, "taints": third})),
        CapacitySeen(report("bad", group(), images=value, prices=other, simulated=third)),
        CapacitySeen(report("bad", group(), prices={"gpuHour": value, "cpuHour": other, "memoryGiBHour": third})),
        ClusterSeen(cluster("bad", allocatable=value, capacity=other, taints=third)),
        ScoresSeen("s", {"good": value}, 10.0),
    ]
    fleet = start.apply(poison)
    assert fleet.names[-1] == "good"
    assert fleet.fit(shape(1000))[fleet.position("good")] == 8
    assert "good" not in fleet.problems
    for probe in PROBES:
        assert (fleet.fit(probe) >= 0).all()
        fleet.explain_fit(fleet.names[0], probe)
    assert fleet.digest


@pytest.mark.parametrize(
    ("entry", "field"),
    [
        (group(cpu="many"), "status.nodeGroups[0].allocatable.cpu"),
        (group(cpu="-4"), "status.nodeGroups[0].allocatable.cpu"),
        (group(memory="9000Pi"), "status.nodeGroups[0].allocatable.memory"),
        (group(cpu="1e999"), "status.nodeGroups[0].allocatable.cpu"),
        (group(count=-1), "status.nodeGroups[0].count"),
        (group(count=10**9), "status.nodeGroups[0].count"),
        (group(count=20_000, gpus=200), "status.nodeGroups"),
        (group(gpus=1000), "status.nodeGroups[0].gpu.count"),
        (group(other={names.GPU: "1k"}), f"status.nodeGroups[0].allocatable.{names.GPU}"),
        (group(other={f"example.com/r{i}": "1" for i in range(70)}), "status.nodeGroups"),
        (group(name=""), "status.nodeGroups[0].name"),
        (group(used=[{"nodes": 2, "resources": {}}]), "status.nodeGroups[0].used"),
        (group(used=[{"nodes": 1, "resources": {"cpu": "x"}}]), "status.nodeGroups[0].used[0].resources.cpu"),
    ],
)
def test_a_report_that_cannot_be_read_leaves_the_last_good_one(entry: dict[str, Any], field: str) -> None:
    fleet = after([ClusterSeen(cluster(n)) for n in ("a", "b")])
    fleet = fleet.apply([CapacitySeen(report("a", group(cpu=4))), CapacitySeen(report("b", group(cpu=4)))])
    fleet = fleet.apply([CapacitySeen(report("a", entry)), CapacitySeen(report("b", group(cpu=6)))])
    assert fleet.fit(shape(1000)).tolist() == [4, 6]
    assert fleet.problems.keys() == {"a"}
    assert fleet.problems["a"].startswith(f"ClusterCapacity: {field}: ")
    healed = fleet.apply([CapacitySeen(report("a", group(cpu=5)))])
    assert (healed.fit(shape(1000)).tolist(), healed.problems) == ([5, 6], {})
    # The same report again, after a bad one, is also good news.
    again = fleet.apply([CapacitySeen(report("a", group(cpu=4)))])
    assert again.problems == {}


def test_two_groups_of_one_name_are_no_report() -> None:
    fleet = after([ClusterSeen(cluster("a")), CapacitySeen(report("a", group(), group()))])
    assert "is there twice" in fleet.problems["a"]
    assert not fleet.reported.any()


def test_bad_totals_cost_the_totals_only() -> None:
    fleet = after([ClusterSeen(cluster("a", allocatable={"cpu": "4"}))])
    fleet = fleet.apply([ClusterSeen(cluster("a", allocatable={"cpu": "-4"}, available="Unknown"))])
    assert fleet.facts("a").totals == {"cpu": 4000}
    assert fleet.available.tolist() == [False]
    assert fleet.problems["a"].startswith("ManagedCluster: status.allocatable.cpu: ")
    # The same bad totals at the next event are still bad.
    fleet = fleet.apply([ClusterSeen(cluster("a", allocatable={"cpu": "-4"}))])
    assert "a" in fleet.problems
    assert fleet.available.tolist() == [True]
    assert fleet.apply([ClusterSeen(cluster("a", allocatable={"cpu": "5"}))]).facts("a").totals == {"cpu": 5000}


def test_an_object_of_no_shape_changes_only_problems() -> None:
    fleet = after([ClusterSeen(cluster("a", labels={"x": "1"}))])
    broken = fleet.apply([ClusterSeen({"metadata": {"name": "a", "labels": 7}}), ClusterSeen({"metadata": {}})])
    assert broken.facts("a").labels == {"x": "1"}
    assert broken.names == ("a",)
    assert broken.problems.keys() == {"a", "(unnamed)"}


@pytest.mark.parametrize("status", ["Unknown", "False", None])
def test_only_true_is_available(status: str | None) -> None:
    obj = cluster("a", available=status or "True")
    if status is None:
        obj["status"]["conditions"] = []
    fleet = after([ClusterSeen(obj)])
    assert (fleet.accepted.tolist(), fleet.available.tolist()) == ([True], [False])


def test_facts_follow_the_object() -> None:
    taints = [{"key": "k", "value": "v", "effect": "NoSelect", "timeAdded": "2026-01-01T00:00:10Z"}]
    fleet = after([ClusterSeen(cluster("a", taints=taints, claims={"region": "eu"}, labels={"l": "1"}))])
    facts = fleet.facts("a")
    assert (facts.labels, facts.claims) == ({"l": "1"}, {"region": "eu"})
    assert [(str(t), t.added) for t in facts.taints] == [("k=v:NoSelect", 1767225610.0)]
    fleet = fleet.apply([ClusterSeen(cluster("a", labels={"l": "2"}))])
    facts = fleet.facts("a")
    assert (facts.labels, facts.claims, facts.taints) == ({"l": "2"}, {}, ())


def test_a_charge_waits_for_its_cluster_and_its_nodes() -> None:
    fleet = after([Charge("k", "late", shape(3000), 2)])
    assert fleet.names == ()
    assert fleet.holder("k") == "late"
    fleet = fleet.apply([CapacitySeen(report("late", group(cpu=8)))])
    assert fleet.names == ()
    fleet = fleet.apply([ClusterSeen(cluster("late"))])
    assert fleet.fit(shape(1000)).tolist() == [2]
    assert fleet.capacity(shape(1000)).tolist() == [8]
    gone = fleet.apply([ClusterGone("late")])
    assert (gone.names, gone.holder("k")) == ((), "late")
    assert seen(gone.apply([ClusterSeen(cluster("late"))])) == seen(fleet)


def test_charges_are_placed_again_on_other_nodes() -> None:
    fleet = after([ClusterSeen(cluster("a")), CapacitySeen(report("a", group(count=2, cpu=4)))])
    fleet = fleet.apply([Charge("x", "a", shape(3000), 2)])
    assert [cpu for cpu, _, _ in free_of(fleet, "a")] == [1000, 1000]
    larger = fleet.apply([CapacitySeen(report("a", group(count=1, cpu=16)))])
    assert [cpu for cpu, _, _ in free_of(larger, "a")] == [10000]
    smaller = fleet.apply([CapacitySeen(report("a", group(count=1, cpu=4)))])
    assert (smaller.fit(shape(3000)).tolist(), smaller.held("a")["x"].waiting) == ([0], 1)
    assert smaller.apply([CapacitySeen(report("a", group(count=2, cpu=4)))]).digest == fleet.digest


def test_prices_and_images_do_not_move_tasks() -> None:
    fleet = after([ClusterSeen(cluster("a")), CapacitySeen(report("a", group(count=2, cpu=4)))])
    # By key, y would have been first and on the first node.
    fleet = fleet.apply([Charge("z", "a", shape(3000), 1), Charge("y", "a", shape(2000), 1)])
    priced = fleet.apply([CapacitySeen(report("a", group(count=2, cpu=4), prices={"cpuHour": "1"}, images=["x"]))])
    assert [cpu for cpu, _, _ in free_of(priced, "a")] == [1000, 2000]
    assert priced.fit(shape(1000, images=("y",))).tolist() == [0]
    other = priced.apply([CapacitySeen(report("a", group(count=2, cpu=5)))])
    assert [cpu for cpu, _, _ in free_of(other, "a")] == [0, 5000]


def test_what_waits_gets_room_first() -> None:
    fleet = after([ClusterSeen(cluster("a")), CapacitySeen(report("a", group(cpu=4)))])
    fleet = fleet.apply([Charge("x", "a", shape(2000), 2), Charge("y", "a", shape(2000), 1)])
    assert (fleet.fit(shape(2000)).tolist(), fleet.held("a")["y"].waiting) == ([0], 1)
    released = fleet.apply([Release("x")])
    assert (released.fit(shape(2000)).tolist(), released.held("a")["y"].waiting) == ([1], 0)
    # What waits and is taken back is not missed.
    assert "waiting here for room" in fleet.explain_fit("a", shape(2000)).message
    assert "waiting here for room" not in fleet.apply([Release("y")]).explain_fit("a", shape(2000)).message
    # One task of x ended: y takes its room, so nothing is free still.
    fleet = fleet.apply([Charge("x", "a", shape(2000), 1)])
    assert (fleet.fit(shape(2000)).tolist(), fleet.held("a")["y"].waiting) == ([0], 0)
    assert fleet.apply([Release("x")]).fit(shape(2000)).tolist() == [1]


def test_a_key_moves_with_its_charge() -> None:
    fleet = after([x for n in "ab" for x in (ClusterSeen(cluster(n)), CapacitySeen(report(n, group(cpu=4))))])
    fleet = fleet.apply([Charge("x", "a", shape(1000), 2)]).apply([Charge("x", "b", shape(1000), 1)])
    assert fleet.fit(shape(1000)).tolist() == [4, 3]
    assert fleet.apply([Charge("x", "b", shape(1000), 1)]) is fleet
    assert fleet.apply([Charge("x", "b", shape(3000), 1)]).fit(shape(1000)).tolist() == [4, 1]
    assert fleet.apply([Release("unknown")]) is fleet


def test_charges_are_listed_by_key() -> None:
    keys = [f"k{n:03}" for n in range(300)]
    fleet = after([Charge(key, "a", shape(1), 1) for key in reversed(keys)])
    assert list(fleet.charges) == keys
    assert len(fleet.apply([Release("k007"), Release("k007")]).charges) == 299


def test_scores_are_unknown_when_missing_broken_or_old() -> None:
    fleet = after([ClusterSeen(cluster(n)) for n in "abcd"])
    fleet = fleet.apply([ScoresSeen("s", {"a": 1.0, "b": math.nan, "c": math.inf, "elsewhere": 3}, 100.0)])
    assert np.array_equal(fleet.scores("s", 100.0), [1.0, np.nan, np.nan, np.nan], equal_nan=True)
    assert np.isnan(fleet.scores("s", 100.1)).all()
    assert np.isnan(fleet.scores("other", 0)).all()
    assert fleet.score_sources == {"s": 100.0}
    # A source replaces all it said; a cluster that joins finds its value.
    fleet = fleet.apply([ScoresSeen("s", {"b": 2}, 100.0), ClusterSeen(cluster("aa")), ClusterGone("d")])
    assert np.array_equal(fleet.scores("s", 1.0), [np.nan, np.nan, 2.0, np.nan], equal_nan=True)
    assert fleet.apply([ScoresGone("s")]).score_sources == {}


def test_totals_and_flags() -> None:
    fleet = after([ClusterSeen(cluster("a")), ClusterSeen(cluster("b"))])
    groups = [group("x", 2, gpus=2, cpu=4), group("y", 1, cpu=2, used=[{"nodes": 1, "resources": {"cpu": "3"}}])]
    fleet = fleet.apply(
        [CapacitySeen(report("a", *groups, simulated=True)), Charge("k", "a", shape(500, gpu_share=250), 1)]
    )
    assert fleet.free("cpu")[0] == 7500
    assert fleet.allocatable("cpu")[0] == 10000
    assert fleet.free(names.GPU)[0] == 3.75
    assert fleet.allocatable(names.GPU)[0] == 4
    assert fleet.gpus_free("A100")[0] == 3
    assert fleet.free("example.com/none")[0] == 0
    for column in (fleet.free("cpu"), fleet.allocatable("cpu"), fleet.gpus_free("A100")):
        assert np.isnan(column[1])
    assert (fleet.simulated.tolist(), fleet.reported.tolist()) == ([True, False], [True, False])
    with pytest.raises(ValueError):
        fleet.fit(shape(1000))[0] = 1


def test_the_digest_is_of_content() -> None:
    base = after([ClusterSeen(cluster("a")), CapacitySeen(report("a", group(), observedTime="2026-01-01T00:00:00Z"))])
    noisy = cluster("a", metadata={"resourceVersion": "77"})
    assert base.apply([ClusterSeen(noisy)]).digest == base.digest
    assert base.apply([CapacitySeen(report("a", group(), observedTime="2026-01-02T00:00:00Z"))]) is base
    for change in (
        ClusterSeen(cluster("a", labels={"x": "y"})),
        CapacitySeen(report("a", group(cpu=7))),
        CapacitySeen(report("a", group(), prices={"cpuHour": "1"})),
        Charge("k", "a", shape(1), 1),
        ScoresSeen("s", {"a": 1.0}, 1.0),
        ClusterSeen(cluster("b")),
    ):
        assert base.apply([change]).digest != base.digest
