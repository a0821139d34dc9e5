"""Classes and clusters: what fits, how near to the best it is, held against scipy's linear program."""

from __future__ import annotations

import sys
import types
from itertools import product
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sparse
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from hub.planner.batch import Assignment, Problem, assign
from hub.planner.relaxation import PENALTY, relax


def problem(scores: Any, room: Any, counts: Any, amounts: Any, free: Any) -> Problem:
    whole = np.int64
    return Problem(
        np.array(scores, float), np.array(room, whole), np.array(counts, whole), np.array(amounts, whole),
        np.array(free, whole),
    )  # fmt: skip


def spread(classes: int, clusters: int, jobs: int, load: float, seed: int, *, sizes: int = 4) -> Problem:
    """Half of a score is the cluster's, half the pair's; GPUs are `load` taken when all is placed."""
    source = np.random.default_rng(seed)
    gpus, cpu = source.integers(1, sizes + 1, classes), source.integers(1, 8, classes)
    counts = source.multinomial(jobs, np.full(classes, 1 / classes))
    nodes = source.integers(1, 12, clusters)
    nodes = np.maximum(1, np.round(nodes * (counts @ gpus) / (load * 8 * nodes.sum()))).astype(np.int64)
    free = np.stack([nodes * 8, nodes * 128], axis=1)
    amounts = np.stack([gpus, cpu], axis=1)
    room = (free[None, :, :] // amounts[:, None, :]).min(axis=2)
    room[source.random(room.shape) < 0.2] = 0
    scores = source.uniform(0, 100, clusters)[None, :] + source.uniform(0, 100, room.shape)
    return problem(scores, room, counts, amounts, free)


def obeys(asked: Problem, found: Assignment) -> None:
    assert (found.tasks >= 0).all()
    assert (found.tasks <= asked.room).all()
    assert (found.tasks.sum(axis=1) + found.left == asked.counts).all()
    assert (found.left >= 0).all()
    assert (found.tasks.T @ asked.amounts <= asked.free).all()


def relaxation(asked: Problem) -> float:
    """The best that parts of tasks could be worth, everything placed that can be."""
    allowed = asked.room > 0
    rows, columns = np.nonzero(allowed)
    if not len(rows):
        return 0.0
    size = len(rows)
    able = allowed.any(axis=1)
    scores = np.round(asked.scores[rows, columns], 3)
    out = scores.max() - PENALTY * max(scores.max() - scores.min(), 0.001)
    limits = [
        sparse.csr_matrix((asked.amounts[rows, r], (columns, np.arange(size))), shape=(len(asked.free), size))
        for r in range(asked.amounts.shape[1])
    ]
    each = sparse.csr_matrix((np.ones(size), (rows, np.arange(size))), shape=(len(asked.counts), size))
    counts = np.where(able, asked.counts, 0)
    solved = linprog(
        -(scores - out),
        A_ub=sparse.vstack([*limits, each]),
        b_ub=np.concatenate([*asked.free.T, counts]),
        bounds=np.stack([np.zeros(size), np.minimum(asked.room[rows, columns], counts[rows])], axis=1),
    )
    return float(-solved.fun + out * counts.sum())


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    classes, clusters = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    resources = draw(st.integers(1, 2))
    amounts = [[draw(st.integers(0 if r else 1, 3)) for r in range(resources)] for _ in range(classes)]
    free = np.array([[draw(st.integers(0, 6)) for _ in range(resources)] for _ in range(clusters)])
    room = np.zeros((classes, clusters), int)
    for k, j in product(range(classes), range(clusters)):
        most = min((free[j][r] // amounts[k][r] for r in range(resources) if amounts[k][r]), default=5)
        room[k, j] = draw(st.integers(0, int(most)))
    scores = [[draw(st.sampled_from([-1.0, 0.0, 1.5, 50.0, 99.9, 300.0])) for _ in range(clusters)] for _ in room]
    return problem(scores, room, [draw(st.integers(0, 3)) for _ in range(classes)], amounts, free)


def exhaustive(asked: Problem) -> tuple[int, float]:
    """(most tasks placed, the best sum of scores with so many), by trying everything."""
    pairs = [(k, j) for k, j in product(range(len(asked.counts)), range(len(asked.free))) if asked.room[k, j]]
    best = (0, 0.0)

    def go(at: int, counts: list[int], free: np.ndarray, placed: int, score: float) -> None:
        nonlocal best
        if at == len(pairs):
            best = max(best, (placed, score))
            return
        k, j = pairs[at]
        for tasks in range(min(counts[k], int(asked.room[k, j])) + 1):
            left = free.copy()
            left[j] -= tasks * asked.amounts[k]
            if (left[j] < 0).any():
                break
            rest = counts.copy()
            rest[k] -= tasks
            go(at + 1, rest, left, placed + tasks, score + tasks * round(float(asked.scores[k, j]), 3))

    go(0, asked.counts.tolist(), asked.free.copy(), 0, 0.0)
    return best


@settings(max_examples=150, deadline=None)
@given(problems())
def test_small_problems_against_the_linear_program_and_against_trying_everything(asked: Problem) -> None:
    found = assign(asked, flow=False)
    obeys(asked, found)
    most, best = exhaustive(asked)
    placed = int(found.tasks.sum())
    # A task that can be placed beside the others, or with one of them elsewhere, is.
    assert placed >= most - 1
    if not found.left[(asked.room > 0).any(axis=1)].any():
        score = float((found.tasks * np.where(asked.room > 0, np.round(asked.scores, 3), 0)).sum())
        assert abs(score - best) < 1e-6
    able = (asked.room > 0).any(axis=1)
    assert found.bound >= relaxation(asked) - 1e-3 * max(1.0, abs(found.bound)), "nothing is worth more than the bound"
    assert (found.left[~able] == asked.counts[~able]).all()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**20), st.sampled_from([0.3, 0.6, 0.9]), st.sampled_from([5, 20]))
def test_the_value_is_near_the_linear_program_and_the_bound_is_above_it(seed: int, load: float, clusters: int) -> None:
    asked = spread(8, clusters, 40 * clusters, load, seed, sizes=2)
    found = assign(asked, flow=False)
    obeys(asked, found)
    best = relaxation(asked)
    assert found.bound >= best - 1e-6 * abs(best)
    if not found.left.any():
        assert found.value <= best + 1e-6 * abs(best)
        assert found.value >= best * 0.98
        assert found.bound <= best * 1.002


def test_many_clusters_within_a_thousandth_of_the_linear_program() -> None:
    asked = spread(50, 400, 16_000, 0.8, 7, sizes=2)
    found = assign(asked, flow=False)
    obeys(asked, found)
    assert not found.left.any()
    assert found.gap < 1e-3
    best = relaxation(asked)
    assert found.value >= best * (1 - 1e-3)
    assert found.bound >= best * (1 - 1e-9)


def test_the_better_pairs_are_found_where_the_first_come_would_take_them() -> None:
    # One by one, the first class takes `a`, where it is a little better off, and the second loses much.
    found = assign(problem([[10, 9], [10, 1]], [[4, 4], [4, 4]], [4, 4], [[1], [1]], [[4], [4]]), flow=False)
    assert found.tasks.tolist() == [[0, 4], [4, 0]]
    assert (found.value, found.left.tolist()) == (76.0, [0, 0])


def test_placing_more_goes_before_placing_better() -> None:
    # The second class fits on the first cluster only, where the first class would rather be.
    found = assign(problem([[300, 1], [2, 0]], [[2, 2], [2, 0]], [2, 2], [[1], [1]], [[2], [2]]), flow=False)
    assert found.tasks.tolist() == [[0, 2], [2, 0]]


def test_two_resources_are_both_kept() -> None:
    # Side by side on one cluster they take all of both; two of a kind would need two clusters.
    found = assign(problem([[5], [5]], [[2], [2]], [1, 1], [[3, 1], [1, 3]], [[4, 4]]), flow=False)
    assert found.tasks.tolist() == [[1], [1]]


@pytest.mark.parametrize("room", [[[0, 0]], [[0]]])
def test_what_fits_nowhere_is_left(room: list[list[int]]) -> None:
    found = assign(problem(np.full(np.shape(room), np.nan), room, [3], [[1]], [[0]] * len(room[0])))
    assert (found.left.tolist(), found.tasks.sum(), found.value) == ([3], 0, 0.0)


def test_tasks_that_take_nothing() -> None:
    found = assign(problem([[1, 2]], [[9, 9]], [3], [[0]], [[0], [0]]), flow=False)
    assert found.tasks.tolist() == [[0, 3]]


def test_equal_clusters_share() -> None:
    found = assign(problem(np.ones((2, 4)), np.full((2, 4), 25), [40, 40], [[1], [1]], [[25]] * 4), flow=False)
    assert not found.left.any()
    assert found.tasks.sum(axis=0).min() >= 15


def test_the_same_to_the_bit_whatever_is_in_memory_around_it() -> None:
    asked = spread(12, 37, 900, 0.85, 3)
    first = assign(asked, flow=False)
    moved = Problem(
        np.asfortranarray(asked.scores), np.asfortranarray(asked.room), asked.counts, asked.amounts, asked.free
    )
    second = assign(moved, flow=False)
    assert (first.tasks == second.tasks).all()
    assert (first.value, first.bound) == (second.value, second.bound)


def test_scattered_resources_count_as_the_room_there_is() -> None:
    # Sums have room for ten on the first cluster, its nodes for two.
    found = assign(problem([[9, 1]], [[2, 10]], [8], [[1]], [[10], [10]]), flow=False)
    assert found.tasks.tolist() == [[2, 6]]


def test_relaxing_reaches_the_linear_program_with_two_resources() -> None:
    asked = spread(6, 30, 300, 0.9, 11)
    allowed = asked.room > 0
    needs = [np.where(allowed, asked.amounts[:, [r]] / asked.free[None, :, r], 0.0) for r in range(2)]
    found = relax(asked.scores, allowed, asked.counts.astype(float), needs, 1e-4)
    loads = [(need * found.x).sum(axis=0) for need in needs]
    assert max(load.max() for load in loads) < 1 + 1e-4
    assert np.abs(found.x.sum(axis=1) - asked.counts).max() < 0.05
    value = float((found.x * asked.scores).sum())
    dual = float((found.worth * asked.counts).sum() + found.rent.sum())
    assert abs(value - dual) < 1e-3 * dual


class _Flow:
    """As `ortools.graph.python.min_cost_flow.SimpleMinCostFlow`, by the linear program."""

    OPTIMAL = 0

    def add_arcs_with_capacity_and_unit_cost(self, tails: Any, heads: Any, capacities: Any, costs: Any) -> Any:
        self.arcs = np.array(tails), np.array(heads), np.array(capacities), np.array(costs)
        return np.arange(len(tails))

    def set_nodes_supplies(self, nodes: Any, supplies: Any) -> None:
        self.supplies = dict(zip(np.array(nodes).tolist(), np.array(supplies).tolist(), strict=True))

    def set_node_supply(self, node: int, supply: int) -> None:
        self.supplies[node] = supply

    def solve(self) -> int:
        tails, heads, capacities, costs = self.arcs
        count, size = int(max(tails.max(), heads.max())) + 1, len(tails)
        at = np.arange(size)
        flow = sparse.csr_matrix((np.ones(size), (tails, at)), shape=(count, size))
        flow = flow - sparse.csr_matrix((np.ones(size), (heads, at)), shape=(count, size))
        wanted = [self.supplies.get(node, 0) for node in range(count)]
        solved = linprog(costs, A_eq=flow, b_eq=wanted, bounds=np.stack([np.zeros(size), capacities], axis=1))
        self.found = np.round(solved.x).astype(np.int64)
        return self.OPTIMAL

    def flows(self, arcs: Any) -> Any:
        return self.found[arcs]


def test_where_all_take_the_same_a_flow_is_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        from ortools.graph.python import min_cost_flow  # noqa: F401
    except ImportError:
        module = types.ModuleType("ortools.graph.python.min_cost_flow")
        module.SimpleMinCostFlow = _Flow  # type: ignore[attr-defined]
        for name in ("ortools", "ortools.graph", "ortools.graph.python"):
            monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
        monkeypatch.setitem(sys.modules, module.__name__, module)
    asked = spread(6, 12, 150, 0.9, 5, sizes=1)
    asked = problem(
        asked.scores, np.minimum(asked.room, asked.free[None, :, 0]), asked.counts, [[1]] * 6, asked.free[:, :1]
    )
    exact, near = assign(asked), assign(asked, flow=False)
    obeys(asked, exact)
    assert (exact.exact, near.exact) == (True, False)
    assert exact.value == exact.bound
    assert near.value <= exact.value + 1e-6
    assert near.value >= exact.value * 0.999
    assert near.bound >= exact.value - 1e-6
