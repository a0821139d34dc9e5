"""Jobs that are alike are given their clusters together: how many of each class go to which cluster.

**What is optimised.** First the number of tasks that have a place; then the sum, over all tasks, of the score that
their class has on their cluster. Scores are those of the moment at which the batch is decided. Exactly:

    maximise   Σ scores[k,j]·tasks[k,j]  where as few tasks as possible are left out
    subject to Σ_j tasks[k,j] + left[k] = counts[k]                    of every class k
               Σ_k amounts[k,r]·tasks[k,j] ≤ free[j,r]                 of every cluster j and resource r
               0 ≤ tasks[k,j] ≤ room[k,j], whole numbers               (room 0: not allowed)

**How.** Where all classes take the same (replicas of one template under several rules) this is a transportation
problem, which `ortools` solves exactly where it is installed (hub/planner/flow.py). Everything else, and everything
without `ortools`, is solved as a linear program by an interior-point method of our own (hub/planner/relaxation.py) and
rounded (hub/planner/rounding.py). `Assignment.bound` comes from the dual of that program and holds whatever the primal
does: no assignment is worth more. Scores count to the thousandth of a point. Same input, same bits, on any machine.

**What it does not do.** It does not know nodes: what a mixture of shapes makes of a node is seen where the assignment
is carried out (hub/planner/run.py). It does not know the queue's order either: whoever calls it must not let anybody be
left out for somebody who is behind (hub/planner/together.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hub.planner.flow import exact_flow
from hub.planner.relaxation import PENALTY, Relaxed, relax
from hub.planner.rounding import Rounding

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

TOLERANCE: Final = 8e-4
"""The linear program is solved to this part of the range of scores, a task."""
_POINT: Final = 1000
# Up to so many pairs of class and cluster every task is looked at again after rounding, at most so often.
_SMALL: Final = 2_000
# A resource is solved for from the start when it is asked for this part as much as the one that is short first …
_PRESSING: Final = 0.6
# … and else when the solution takes more than all of it on more than so many of the clusters.
_FULL: Final = 1.001
_FEW: Final = 0.002
_LOOKS: Final = 4


@dataclass(frozen=True, slots=True, eq=False)
class Problem:
    """`scores` [class, cluster] in points; `room` [class, cluster]; `counts` [class]; `amounts` [class, resource];
    `free` [cluster, resource]. Scores count only where there is room; NaN is not allowed there."""

    scores: Floats
    room: Ints
    counts: Ints
    amounts: Ints
    free: Ints


@dataclass(frozen=True, slots=True, eq=False)
class Assignment:
    """`tasks` [class, cluster] and `left` [class].

    `value` is the sum of scores, less what `left` costs (`PENALTY` ranges of the scores below the best one, a task);
    `bound`: no assignment has a larger value. `exact`: by min-cost flow.
    """

    tasks: Ints
    left: Ints
    value: float
    bound: float
    exact: bool = False

    @property
    def gap(self) -> float:
        """How far `value` can be from the best, as a part of it."""
        return max(0.0, self.bound - self.value) / max(abs(self.value), 1e-9)


def assign(problem: Problem, *, flow: bool = True) -> Assignment:
    """`flow` False: as if `ortools` were not installed."""
    counts, room = problem.counts, np.minimum(problem.room, problem.counts[:, None])
    # A class that fits nowhere waits; the others are decided without it.
    able = np.flatnonzero((room > 0).any(axis=1) & (counts > 0))
    tasks = np.zeros(room.shape, np.int64)
    used = np.flatnonzero((room > 0).any(axis=0))
    if not len(able):
        return Assignment(tasks, counts.copy(), 0.0, 0.0)
    amounts = problem.amounts[able]
    kept = np.asarray(amounts.any(axis=0))
    # Tasks that ask for nothing still have room for so many only.
    kept[:1] |= not kept.any()
    part = Problem(
        problem.scores[able][:, used],
        problem.room[able][:, used],
        counts[able],
        amounts[:, kept],
        problem.free[used][:, kept],
    )
    found = _assign(part, flow=flow)
    tasks[np.ix_(able, used)] = found.tasks
    left = counts.copy()
    left[able] = found.left
    return Assignment(tasks, left, found.value, found.bound, found.exact)


def _assign(problem: Problem, *, flow: bool) -> Assignment:
    allowed = problem.room > 0
    counts, amounts, free = problem.counts, problem.amounts, problem.free
    room = np.minimum(problem.room, counts[:, None])
    scores = np.where(allowed, np.rint(np.where(allowed, problem.scores, 0.0) * _POINT), 0).astype(np.int64)
    best, worst = int(scores[allowed].max()), int(scores[allowed].min())
    out = best - int(PENALTY) * max(best - worst, 1)
    if flow and (amounts == amounts[0]).all():
        places = (free[:, amounts[0] > 0] // amounts[0][amounts[0] > 0]).min(axis=1, initial=1 << 40)
        exact = exact_flow(scores, room, counts, places, out)
        if exact is not None:
            left = counts - exact.sum(axis=1)
            value = (int((exact * scores).sum()) + out * int(left.sum())) / _POINT
            return Assignment(exact, left, value, value, exact=True)
    needs = _needs(allowed, amounts, free)
    binding = _binding(_with_fragments(allowed, problem.room, needs))
    points = scores / _POINT
    chosen = _pressing(binding, amounts, counts, free)
    relaxed = relax(points, allowed, counts.astype(np.float64), [binding[at] for at in chosen], TOLERANCE)
    if len(chosen) < len(binding) and _overfull(relaxed.x, [binding[at] for at in binding if at not in chosen]):
        chosen = list(binding)
        relaxed = relax(points, allowed, counts.astype(np.float64), list(binding.values()), TOLERANCE)
    rounding = Rounding(scores, room, counts, amounts, free, relaxed.x)
    if scores.size <= _SMALL:
        rounding.improve(_LOOKS)
    value = (int((rounding.tasks * scores).sum()) + out * int(rounding.left.sum())) / _POINT
    bound = _bound(points, allowed, room, counts, [needs[at] for at in chosen], relaxed, out / _POINT)
    return Assignment(rounding.tasks, rounding.left, value, max(bound, value))


def _needs(allowed: NDArray[np.bool_], amounts: Ints, free: Ints) -> list[Floats]:
    """What a task takes, as a part of what is free, a resource; something of one resource at least."""
    return [
        np.where(allowed, amounts[:, r][:, None] / np.maximum(free[:, r], 1)[None, :], 0.0)
        for r in range(amounts.shape[1])
    ]


def _with_fragments(allowed: NDArray[np.bool_], room: Ints, needs: list[Floats]) -> list[Floats]:
    """Where what is free is so scattered that sums say twice as much as there is room for, the room counts."""
    most = needs[0]
    for more in needs[1:]:
        most = np.maximum(most, more)
    least = np.where(allowed, 1.0 / (room + 1.0), 0.0)
    scattered = allowed & (least > 2.0 * most)
    if not scattered.any():
        return needs
    return [np.where(scattered & (need == most), least, need) for need in needs]


def _binding(needs: list[Floats]) -> dict[int, Floats]:
    """By number, without resources of which nobody anywhere takes a larger part than of another one."""
    kept: dict[int, Floats] = {}
    for at, need in enumerate(needs):
        if not any((need <= other).all() for other in (*kept.values(), *needs[at + 1 :])):
            kept[at] = need
    return kept


def _pressing(binding: dict[int, Floats], amounts: Ints, counts: Ints, free: Ints) -> list[int]:
    """The resources that are short first, over all clusters: the others rarely decide anything, and each costs time."""
    asked = {at: float((counts * amounts[:, at]).sum()) / max(float(free[:, at].sum()), 1.0) for at in binding}
    most = max(asked.values())
    return [at for at, part in asked.items() if part >= _PRESSING * most]


def _overfull(x: Floats, needs: Sequence[Floats]) -> bool:
    """Whether a resource that was left out is short on more than a few clusters after all."""
    return any(float(((need * x).sum(axis=0) > _FULL).mean()) > _FEW for need in needs)


def _bound(
    scores: Floats, allowed: NDArray[np.bool_], room: Ints, counts: Ints,
    needs: Sequence[Floats], relaxed: Relaxed, out: float,
) -> float:  # fmt: skip
    """Weak duality: whatever the prices, what classes bring, what clusters are worth, and what single pairs bring
    beyond both, is together no less than any assignment."""
    worth = np.maximum(relaxed.worth, out)
    rent = np.maximum(relaxed.rent, 0.0)
    price = np.zeros(scores.shape)
    for row, need in enumerate(needs):
        price += rent[row] * need
    over = np.where(allowed, np.maximum(scores - worth[:, None] - price, 0.0), 0.0)
    return float((worth * counts).sum()) + float(rent.sum()) + float((over * room).sum())
