"""Tasks of one job spread over topologies, and taints that ask to go elsewhere first."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from fleet_objects import demand, fleet, open_queue, shape, site, snapshot
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.api.errors import InvalidObjectError
from hub.fleet.changes import Charge
from hub.jobs.spec import JobSpec
from hub.placement.rule import ClusterRule, ClusterToleration, SpreadConstraint
from hub.planner.cycle import plan
from hub.planner.explain import explain
from hub.planner.plan import Snapshot

ZONE = "zone"


def rule(*, skew: int = 1, hard: bool = True, **fields: Any) -> ClusterRule:
    return ClusterRule(spread=(SpreadConstraint(ZONE, False, skew, hard),), **fields)


def zoned(**zones: tuple[str, int]) -> Any:
    """name=(zone, cpus)"""
    return fleet(*(site(name, cpu=cpu, labels={ZONE: zone} if zone else {}) for name, (zone, cpu) in zones.items()))


def given_to(before: Snapshot, key: str = "default/job") -> dict[str, int]:
    found: Counter[str] = Counter()
    for admission in plan(before).admissions:
        if admission.key == key:
            for part in admission.slices:
                found[part.cluster] += part.slots
    return dict(sorted(found.items()))


@pytest.mark.parametrize(
    ("zones", "spread", "tasks", "expected"),
    [
        # Three of each, not all six on the larger one.
        ({"a": ("eu", 9), "b": ("us", 3)}, rule(), 6, {"a": 3, "b": 3}),
        # The small zone is full: one more may start in the other, no more.
        ({"a": ("eu", 9), "b": ("us", 3)}, rule(), 9, {"a": 4, "b": 3}),
        ({"a": ("eu", 9), "b": ("us", 3)}, rule(skew=3), 9, {"a": 6, "b": 3}),
        ({"a": ("eu", 9), "b": ("us", 3)}, rule(hard=False), 9, {"a": 6, "b": 3}),
        # Without the label there is no topology to be even in.
        ({"a": ("eu", 9), "b": ("", 9)}, rule(), 4, {"a": 4}),
        ({"a": ("eu", 2), "b": ("", 9)}, rule(hard=False), 4, {"a": 2, "b": 2}),
        # Two clusters of one zone share what the zone gets.
        ({"a": ("eu", 2), "b": ("eu", 9), "c": ("us", 9)}, rule(), 8, {"a": 2, "b": 2, "c": 4}),
        # A limit on clusters counts, whatever zone they are in.
        ({"a": ("eu", 9), "b": ("us", 9), "c": ("ap", 9)}, rule(limit=2, hard=False), 6, 2),
    ],
)
def test_tasks_are_spread(
    zones: dict[str, tuple[str, int]], spread: ClusterRule, tasks: int, expected: dict[str, int] | int
) -> None:
    found = given_to(snapshot(zoned(**zones), open_queue(), demand(tasks=tasks, rule=spread)))
    if isinstance(expected, int):
        assert (len(found), sum(found.values())) == (expected, tasks)
    else:
        assert found == expected


def test_what_runs_already_counts_and_the_reason_says_what_is_uneven() -> None:
    job = demand(tasks=2, rule=rule(), running=("a",), active=3, placed=(("a", 3),))
    before = snapshot(zoned(a=("eu", 9), b=("us", 2)), open_queue(), job)
    assert given_to(before) == {"b": 2}
    full = zoned(a=("eu", 9), b=("us", 1)).apply([Charge("other-work-1", "b", shape(cpu=1), 1)])
    found = explain(snapshot(full, open_queue(), job), "default/job")
    assert found.refusal is not None
    assert found.refusal.reason.code == "SpreadUneven"
    assert found.refusal.message == (
        "has room on a only, where more tasks would make the spread over label zone larger than 1"
    )
    lines = {line.cluster: line for line in found.clusters}
    assert lines["a"].code == "SpreadUneven"
    assert lines["b"].code == "NoFreeSlot"


def test_two_equal_jobs_are_each_even_by_themselves() -> None:
    """The first is refused for its own tasks; that says nothing of the second, which has none."""
    jobs = [demand(name, tasks=4, created=float(at), rule=rule()) for at, name in enumerate(("job", "next"))]
    before = snapshot(zoned(a=("eu", 9), b=("us", 1)), open_queue(), *jobs)
    assert given_to(before) == {"a": 2, "b": 1}
    assert given_to(before, "default/next") == {"a": 1}


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["eu", "us", "ap", ""]), st.integers(1, 6)), min_size=1, max_size=5),
    st.integers(1, 12),
    st.integers(1, 3),
    st.booleans(),
)
def test_a_hard_skew_always_holds_and_a_soft_one_costs_no_task(
    sites: list[tuple[str, int]], tasks: int, skew: int, hard: bool
) -> None:
    zones = {f"c{number}": entry for number, entry in enumerate(sites)}
    before = snapshot(zoned(**zones), open_queue(), demand(tasks=tasks, rule=rule(skew=skew, hard=hard)))
    found = given_to(before)
    counts = Counter({zone: 0 for zone, _ in zones.values() if zone})
    for cluster, slots in found.items():
        counts[zones[cluster][0]] += slots
    if not hard:
        assert sum(found.values()) == min(tasks, sum(cpu for _, cpu in sites))
        return
    assert not counts[""]
    if counts:
        assert max(counts.values()) - min(counts.values()) <= skew
    # Nothing more could start without breaking it.
    if sum(found.values()) < tasks:
        least = min((n for zone, n in counts.items() if zone), default=0)
        for cluster, (zone, cpu) in zones.items():
            assert not zone or found.get(cluster, 0) == cpu or counts[zone] + 1 - least > skew


def avoided(**fields: Any) -> Any:
    taint = {"key": "old", "effect": "PreferNoSelect"}
    return fleet(site("a", cpu=9, taints=[taint]), site("b", cpu=2), site("c", cpu=1), **fields)


def test_a_taint_that_asks_to_go_elsewhere_is_heard_while_there_is_elsewhere() -> None:
    assert given_to(snapshot(avoided(), open_queue(), demand(tasks=3))) == {"b": 2, "c": 1}
    assert given_to(snapshot(avoided(), open_queue(), demand(tasks=5))) == {"a": 2, "b": 2, "c": 1}
    found = explain(snapshot(avoided(), open_queue(), demand(tasks=1)), "default/job")
    lines = {line.cluster: line for line in found.clusters}
    assert (lines["a"].rank, lines["a"].code) == (3, "ClusterAvoided")
    assert lines["a"].message == "has taint old:PreferNoSelect: it comes after all others"


def test_who_tolerates_it_does_not_mind() -> None:
    tolerant = ClusterRule(tolerations=(ClusterToleration("old", "Exists"),))
    assert given_to(snapshot(avoided(), open_queue(), demand(tasks=1, rule=tolerant))) == given_to(
        snapshot(fleet(site("a", cpu=9), site("b", cpu=2), site("c", cpu=1)), open_queue(), demand(tasks=1))
    )


def test_a_gang_is_in_one_place_and_not_spread() -> None:
    container = {"name": "main", "image": "i", "resources": {"requests": {"cpu": "1"}}}
    constraint = {"topologyKey": ZONE, "topologyKeyType": "Label"}
    spec = {
        "template": {"spec": {"containers": [container]}},
        "tasks": 2,
        "placement": {"spreadPolicy": {"spreadConstraints": [constraint]}},
    }
    job = {"metadata": {"name": "j", "uid": "u"}, "spec": spec}
    read = JobSpec.from_fleet_job(job).rule
    assert read is not None
    assert read.spread == (SpreadConstraint(ZONE, False),)
    with pytest.raises(InvalidObjectError, match="its tasks cannot be spread") as caught:
        JobSpec.from_fleet_job({**job, "spec": {**spec, "gang": True}})
    assert caught.value.field == "spec.placement.spreadPolicy"
