"""What is wasted of a node, and that columns say the same; that hub and site take the same node: test_edge_nodes.py."""

from __future__ import annotations

import numpy as np
import pytest
from fleet_samples import GROUPS, SHAPES, group, report
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.api.waste import node_waste
from hub.fleet.held import Held
from hub.fleet.nodes import NodeTable
from hub.fleet.shape import TaskShape
from hub.fleet.site import read_site
from hub.fleet.waste import WasteScale, parts_of

CPU = 8000


@pytest.mark.parametrize(
    ("gpus", "cpu", "wasted"),
    [
        # A quarter, a half, one, two: each with half and with all of its CPU.
        ([1000, 1000], CPU, 0),
        ([0, 0], CPU, 0),
        ([1000, 1000], 0, 2 * 4 * 2000),
        # Two can be used by nobody who needs both, once one is taken.
        ([1000, 0], CPU, 2 * 1000),
        # Halves: nothing for who needs a whole one.
        ([500, 500], CPU, 2 * 2 * 1000),
        # With half of the CPU gone, two whole ones with all their CPU are no more.
        ([1000, 1000], CPU // 2, 2000),
    ],
)
def test_what_is_wasted(gpus: list[int], cpu: int, wasted: int) -> None:
    assert node_waste(gpus, 2000, cpu, CPU) == wasted


nodes = st.lists(
    st.tuples(st.lists(st.integers(0, 1000), min_size=4, max_size=4), st.integers(0, 64_000), st.integers(0, 64_000)),
    min_size=1,
    max_size=6,
)


@settings(max_examples=100, deadline=None)
@given(GROUPS, st.lists(st.tuples(st.integers(0, 4), st.integers(0, 5), SHAPES), min_size=1, max_size=12))
def test_what_is_kept_beside_the_gpus_follows_from_them(
    groups: list[tuple[int, int, int, int]], steps: list[tuple[int, int, TaskShape]]
) -> None:
    entries = [group(f"g{i}", n, gpus, cpu=cpu, memory=f"{mem}Gi") for i, (n, cpu, mem, gpus) in enumerate(groups)]
    table = NodeTable(read_site(report("c", *entries)))
    held = Held(table)
    for key, count, want in steps:
        # 0 is a release; another shape or count of a key that holds something replaces it.
        held = held.charge(f"k{key}", want, count)
        assert held.gpus_total.tolist() == held.gpus.sum(axis=1).tolist()
        assert held.whole.tolist() == (held.gpus == 1000).sum(axis=1).tolist()
        assert held.parts.tolist() == parts_of(held.gpus).tolist()
        offered = [len(row) and int((row == 1000).sum()) * 1000 for row in table.gpus]
        cpu, per = held.free[table.rows["cpu"]].tolist(), table.free[table.rows["cpu"]].tolist()
        assert held.wasted.tolist() == [
            node_waste(held.gpus[n].tolist(), offered[n], cpu[n], per[n]) for n in range(table.count)
        ]
    for key in range(5):
        held = held.release(f"k{key}")
    for kept in ("free", "gpus", "gpus_total", "whole", "parts", "wasted"):
        assert getattr(held, kept).tolist() == getattr(table, kept).tolist()


@given(nodes, st.integers(0, 4))
def test_columns_say_the_same(found: list[tuple[list[int], int, int]], offered: int) -> None:
    everything = np.array([per for _, _, per in found])
    scale = WasteScale(everything, np.full(len(found), offered * 1000))
    gpus = np.array([free for free, _, _ in found])
    cpu = np.array([cpu for _, cpu, _ in found])
    whole = (gpus == 1000).sum(axis=1)
    wasted = scale.waste(cpu, gpus.sum(axis=1), whole, parts_of(gpus), np.arange(len(found)))
    assert wasted.tolist() == [node_waste(free, offered * 1000, cpu, per) for free, cpu, per in found]
