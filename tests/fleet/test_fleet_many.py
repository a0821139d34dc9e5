"""Many clusters counted at once are what each is alone."""

from __future__ import annotations

import pickle
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from hub.fleet.changes import CapacitySeen, Charge, ClusterSeen
from hub.fleet.fleet import Fleet
from hub.fleet.shape import TaskShape


@st.composite
def sites(draw: st.DrawFn) -> dict[str, Any]:
    groups = []
    for number in range(draw(st.integers(0, 2))):
        allocatable = {"cpu": str(draw(st.integers(1, 8)))}
        if draw(st.booleans()):
            allocatable["pods"] = str(draw(st.integers(0, 4)))
        if draw(st.booleans()):
            allocatable["memory"] = "8Gi"
        groups.append(
            {
                "name": f"g{number}",
                "count": draw(st.integers(0, 3)),
                "allocatable": allocatable,
                "labels": {"zone": draw(st.sampled_from("ab"))},
                "gpu": {"model": "T4", "memory": "16Gi", "count": draw(st.integers(0, 3))},
            }
        )
    return {"nodeGroups": groups} | ({"images": ["busybox"]} if draw(st.booleans()) else {})


shapes = st.builds(
    TaskShape,
    requests=st.sampled_from(
        [
            (),
            (("cpu", 1000),),
            (("cpu", 2500), ("memory", 2**30)),
            (("cpu", 500), ("nvidia.com/gpu", 2)),
            (("fpga", 1),),
        ]
    ),
    gpu_share=st.sampled_from([0, 0, 300]),
    node_selector=st.sampled_from([(), (), (("zone", "a"),)]),
    images=st.sampled_from([(), ("busybox",), ("postgres",)]),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(sites(), min_size=2, max_size=6), shapes, st.lists(st.tuples(st.integers(0, 5), shapes), max_size=4))
def test_all_at_once_equals_one_by_one(
    reports: list[dict[str, Any]], shape: TaskShape, charges: list[tuple[int, TaskShape]]
) -> None:
    def fleet(numbers: range | list[int]) -> Fleet:
        changes: list[Any] = []
        for number in numbers:
            name = f"c{number}"
            changes += [
                ClusterSeen({"metadata": {"name": name}}),
                CapacitySeen({"metadata": {"name": name, "namespace": name}, "status": reports[number]}),
            ]
        held = [
            Charge(f"w{n}", f"c{at % len(reports)}", held, 1)
            for n, (at, held) in enumerate(charges)
            if at % len(reports) in numbers
        ]
        # Twice, so that a column is filled first and then brought up to date.
        early = Fleet.empty().apply(changes)
        early.fit(shape)
        return early.apply(held)

    together = fleet(range(len(reports)))
    alone = [fleet([number]) for number in range(len(reports))]
    assert together.fit(shape).tolist() == [int(one.fit(shape)[0]) for one in alone]
    assert together.capacity(shape).tolist() == [int(one.capacity(shape)[0]) for one in alone]


@given(shapes)
def test_a_shape_is_the_same_key_wherever_it_was_made(shape: TaskShape) -> None:
    copy = pickle.loads(pickle.dumps(shape))
    assert copy == shape
    assert {shape: 1}[copy] == 1
