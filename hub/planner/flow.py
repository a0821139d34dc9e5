"""Exact assignment where every task takes the same of a cluster: min-cost flow by `ortools`, an optional extra.

A task is a unit of flow from its class over a cluster to the end, or from its class past all clusters where there is no
place left. Without `ortools` the answer is None, and hub/planner/batch.py does without.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


def exact_flow(scores: Ints, room: Ints, counts: Ints, places: Ints, out: int) -> Ints | None:
    """Tasks [class, cluster] with the largest sum of `scores`, or None without `ortools`.

    `room` [class, cluster], `places` [cluster] for all classes together. A task without a place counts `out`, which
    must be less than any score.
    """
    solver = _solver()
    if solver is None:
        return None
    classes, clusters = scores.shape
    rows, columns = (room > 0).nonzero()
    end = classes + clusters
    flow = solver()
    arcs = flow.add_arcs_with_capacity_and_unit_cost(
        np.concatenate((rows, np.arange(classes), np.arange(clusters) + classes)),
        np.concatenate((columns + classes, np.full(classes, end), np.full(clusters, end))),
        np.concatenate((room[rows, columns], counts, places)),
        np.concatenate((-scores[rows, columns], np.full(classes, -out), np.zeros(clusters, np.int64))),
    )
    flow.set_nodes_supplies(np.arange(classes), counts)
    flow.set_node_supply(end, -int(counts.sum()))
    if flow.solve() != flow.OPTIMAL:
        return None
    tasks = np.zeros(scores.shape, np.int64)
    tasks[rows, columns] = flow.flows(arcs[: len(rows)])
    return tasks


def _solver() -> Any:
    try:
        from ortools.graph.python.min_cost_flow import SimpleMinCostFlow
    except ImportError:
        return None
    return SimpleMinCostFlow
