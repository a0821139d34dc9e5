"""Many single tasks decided together: our assignment, one by one, and the bound that no assignment can beat. CPU time.

Ten thousand jobs of fifty shapes, a thousand clusters of one to twelve nodes of eight GPUs, four models, prices, free
resources and scores as the hub's own scorers give them. The bound is scipy's (HiGHS) linear program over the same
scores, in which tasks may be cut in pieces: no plan, whoever makes it, is better.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse as sparse
from scipy.optimize import linprog

from bench.placement import fleet_of
from bench.report import Figure
from hub.api import names
from hub.api.indexset import IndexSet
from hub.fleet.fleet import Fleet
from hub.fleet.shape import TaskShape
from hub.planner import together
from hub.planner.batch import Problem, assign
from hub.planner.cycle import plan
from hub.planner.plan import Snapshot
from hub.queueing.demand import Demand, TaskGroup
from hub.queueing.quotas import Quotas
from hub.scoring.builtin import default_scorers
from hub.scoring.combine import rank
from hub.scoring.interface import ScoreRequest

_NOW = 1_700_000_000.0
_SHAPES = 50
_MODELS = ("A100", "H100", "T4", "V100")
_RESOURCES = ("cpu", "memory", names.GPU)
_KUEUE = "kueue.x-k8s.io/v1beta2"


def run() -> list[Figure]:
    rows: list[Figure] = []
    for clusters, jobs, promised in ((100, 1_000, False), (1_000, 10_000, True), (1_000, 16_000, False)):
        fleet, kinds = fleet_of(clusters), _kinds(1)
        order = _order(jobs)
        problem = _problem(fleet, kinds, order)
        found, seconds = _best(lambda problem=problem: assign(problem), 5)  # type: ignore[misc]
        assert not found.left.any()
        best, lp_seconds = _bound(problem)
        greedy, greedy_seconds = _one_by_one(problem, order)
        limit = 0.1 if promised else None
        what = f"{jobs:,} jobs of {_SHAPES} shapes, {clusters:,} clusters"
        rows += [
            Figure(
                f"batch of {what}", seconds * 1e3, 60.0 if promised else None, "ms",
                peer=("HiGHS", lp_seconds * 1e3),
            ),
            Figure("  below the bound (linear program)", 100 * (1 - found.value / best), limit, "%"),
            Figure("  its own proof of that (dual)", 100 * found.gap, None, "%"),
            Figure("  one by one on the same scores, below the bound", 100 * (1 - greedy / best), None, "%"),
            Figure("  one by one on the same scores", greedy_seconds * 1e3, None, "ms"),
        ]  # fmt: skip
    rows += _cycles(fleet_of(1_000), _kinds(1), _order(10_000))
    return rows


def _kinds(seed: int) -> list[TaskShape]:
    source = random.Random(seed)
    made: list[TaskShape] = []
    for number in range(_SHAPES):
        gpus = source.randint(1, 4)
        models = tuple(sorted(source.sample(_MODELS, source.randint(1, 2)))) if number % 3 else ()
        cpu, memory = 1000 * gpus * source.randint(2, 10), (gpus * source.randint(8, 90)) << 30
        made.append(TaskShape((("cpu", cpu), ("memory", memory), (names.GPU, gpus)), gpu_models=models))
    return made


def _order(jobs: int) -> list[int]:
    source = random.Random(jobs)
    return [source.randrange(_SHAPES) for _ in range(jobs)]


def _problem(fleet: Fleet, kinds: list[TaskShape], order: list[int]) -> Problem:
    room = np.stack([fleet.fit(kind) for kind in kinds])
    scores = np.stack(
        [
            rank(fleet, ScoreRequest(kind, 1, _NOW), default_scorers(), room[row] > 0).total
            for row, kind in enumerate(kinds)
        ]
    )
    return Problem(
        scores,
        room,
        np.bincount(order, minlength=len(kinds)).astype(np.int64),
        np.array([[kind.request(name) for name in _RESOURCES] for kind in kinds], np.int64),
        np.stack([fleet.free(name) for name in _RESOURCES], axis=1).astype(np.int64),
    )


def _bound(problem: Problem) -> tuple[float, float]:
    rows, columns = np.nonzero(problem.room)
    size = len(rows)
    at = np.arange(size)
    clusters, classes = len(problem.free), len(problem.counts)
    limits = [
        sparse.csr_matrix((problem.amounts[rows, r], (columns, at)), shape=(clusters, size))
        for r in range(len(_RESOURCES))
    ]
    started = time.process_time()
    solved = linprog(
        -problem.scores[rows, columns],
        A_ub=sparse.vstack(limits),
        b_ub=problem.free.T.reshape(-1),
        A_eq=sparse.csr_matrix((np.ones(size), (rows, at)), shape=(classes, size)),
        b_eq=problem.counts,
        bounds=np.stack([np.zeros(size), problem.room[rows, columns]], axis=1),
    )
    return float(-solved.fun), time.process_time() - started


def _one_by_one(problem: Problem, order: list[int]) -> tuple[float, float]:
    """Each job in its turn where it scores best and sums have room."""
    started = time.process_time()
    free, room = problem.free.copy(), problem.room.copy()
    scores = np.where(room > 0, problem.scores, -np.inf)
    best = [np.argsort(-row, kind="stable") for row in scores]
    first = [0] * len(best)
    total = 0.0
    for kind in order:
        amounts = problem.amounts[kind]
        while True:
            cluster = best[kind][first[kind]]
            if room[kind, cluster] > 0 and (free[cluster] >= amounts).all():
                break
            first[kind] += 1
        free[cluster] -= amounts
        room[kind, cluster] -= 1
        total += float(problem.scores[kind, cluster])
    return total, time.process_time() - started


def _cycles(fleet: Fleet, kinds: list[TaskShape], order: list[int]) -> list[Figure]:
    """The whole decision, quota and nodes included: together, and as if every job came alone."""
    demands = tuple(
        Demand(
            key=f"default/job-{number:05}", uid=f"uid-{number}", namespace="default", queue="q", priority=0,
            created=float(number), shape=kinds[kind], groups=(TaskGroup(IndexSet.span(1), 1),), slots=1,
        )
        for number, kind in enumerate(order)
    )  # fmt: skip
    snapshot = Snapshot(_NOW, fleet, _quotas(), {}, demands, scorers=default_scorers())
    at_once, seconds = _best(lambda: plan(snapshot), 2)
    least, together.LEAST = together.LEAST, 1 << 40
    try:
        single, alone = _best(lambda: plan(snapshot), 1)
    finally:
        together.LEAST = least
    assert len(at_once.admissions) == len(single.admissions) == len(order)
    return [
        Figure(f"a whole cycle over {len(order):,} jobs, 1,000 clusters", seconds * 1e3, None, "ms",
               peer=("one by one", alone * 1e3)),
    ]  # fmt: skip


def _quotas() -> Quotas:
    resources = [{"name": name, "nominalQuota": "1000000000"} for name in _RESOURCES]
    resources[1]["nominalQuota"] = "100000Ti"
    group = {"coveredResources": list(_RESOURCES), "flavors": [{"name": "any", "resources": resources}]}
    spec: dict[str, Any] = {"namespaceSelector": {}, "resourceGroups": [group]}
    local = {"name": "q", "namespace": "default"}
    return Quotas.parse(
        [
            {"apiVersion": _KUEUE, "kind": "ResourceFlavor", "metadata": {"name": "any"}, "spec": {}},
            {"apiVersion": _KUEUE, "kind": "ClusterQueue", "metadata": {"name": "q"}, "spec": spec},
            {"apiVersion": _KUEUE, "kind": "LocalQueue", "metadata": local, "spec": {"clusterQueue": "q"}},
        ]
    )


def _best(work: Callable[[], Any], rounds: int) -> tuple[Any, float]:
    """What it gives, and CPU seconds of the fastest round."""
    least, found = float("inf"), None
    for _ in range(rounds):
        started = time.process_time()
        found = work()
        least = min(least, time.process_time() - started)
    return found, least
