"""What is wasted of a node, and that columns say the same; that hub and site take the same node: test_edge_nodes.py."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.api.waste import node_waste
from hub.fleet.waste import WasteScale

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


@given(nodes, st.integers(0, 4))
def test_columns_say_the_same(found: list[tuple[list[int], int, int]], offered: int) -> None:
    everything = np.array([per for _, _, per in found])
    scale = WasteScale(everything, np.full(len(found), offered * 1000))
    gpus = np.array([free for free, _, _ in found])
    wasted = scale.waste(np.array([cpu for _, cpu, _ in found]), gpus, np.arange(len(found)))
    assert wasted.tolist() == [node_waste(free, offered * 1000, cpu, per) for free, cpu, per in found]
