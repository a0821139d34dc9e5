"""How much of each class each cluster takes when tasks may be split: the linear program behind a batch, solved nearly.

    maximise   Σ score[k,j]·x[k,j] − PENALTY·range·Σ left[k]
    subject to Σ_j x[k,j] + left[k] = count[k]      of every class
               Σ_k need[r][k,j]·x[k,j] ≤ 1          of every cluster and resource, as parts of what is free there

By Mehrotra's predictor-corrector interior-point method on the normal equations: clusters are eliminated first (each is
a block of as many rows as there are resources), which leaves a matrix of the classes alone. It has no bounds on single
x: rounding (hub/planner/rounding.py) knows those. An interior solution spreads over clusters that are equally good.

In single precision: what comes of it are whole tasks, and prices whose worth somebody else proves. Only operations that
IEEE 754 defines to the bit are used, in an order of our own; products of matrices are made of whole numbers small
enough that every sum is exact, so neither BLAS nor the CPU shows in the result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Flags = NDArray[np.bool_]

PENALTY: Final = 8.0
"""What a task that is left out costs, in ranges (the best score of all less the worst)."""
_ROUNDS: Final = 60
_STEP: Final = 0.9
# Where it starts: so much of every class placed, prices so far below the best, clusters worth so much of a range.
_PLACED: Final = 0.8
_BELOW: Final = 0.3
_RENT: Final = 0.5
_TINY: Final = 1e-9
_BLOCK: Final = 200_000
# Classes whose products are made at a time.
_TILE: Final = 64


@dataclass(frozen=True, slots=True)
class Relaxed:
    """`x` [class, cluster]. `worth` [class] and `rent` [resource, cluster] are the dual: what one task more of a class
    would bring (a task that is left out brings less than any), and what all of a cluster's resource is worth, in the
    unit of the scores. `gap`: between the two, as a part of the range and of a task."""

    x: Doubles
    worth: Doubles
    rent: Doubles
    gap: float
    rounds: int


def relax(scores: Doubles, allowed: Flags, counts: Doubles, needs: Sequence[Doubles], tolerance: float) -> Relaxed:
    """`scores` [class, cluster] finite; `needs`: one [class, cluster] a resource, parts of 1, 0 where not `allowed`.

    Every class must be allowed somewhere and every allowed task must need something. Pure; the same bits everywhere.
    """
    best, worst = float(scores[allowed].max()), float(scores[allowed].min())
    span = (best - worst) or 1.0
    program = _Program(
        ((best - scores) / span).astype(np.float32),
        allowed,
        counts.astype(np.float32),
        [need.astype(np.float32) for need in needs],
    )
    gap, rounds = program.gap(), 0
    # Where single precision ends, the step before is the answer.
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        while rounds < _ROUNDS and not gap < tolerance and program.step():
            gap, rounds = program.gap(), rounds + 1
    return Relaxed(
        np.where(allowed, program.x, 0.0).astype(np.float64),
        best - program.price.astype(np.float64) * span,
        -np.stack(program.rent).astype(np.float64) * span,
        gap,
        rounds,
    )


class _Program:
    """min cost·x + PENALTY·left. `x`, `left`, `idle` with their reduced costs; `price` of classes, `rent` ≤ 0."""

    def __init__(self, cost: Floats, allowed: Flags, counts: Floats, needs: Sequence[Floats]) -> None:
        self.mask = mask = allowed.astype(np.float32)
        self.cost, self.counts, self.needs = cost * mask, counts, list(needs)
        self.closed = ~allowed
        classes, clusters = cost.shape
        dominant = self.needs[0]
        for more in self.needs[1:]:
            dominant = np.maximum(dominant, more)
        alone = np.where(allowed, 1.0 / np.where(allowed, np.maximum(dominant, _TINY), 1.0), 0.0)
        x = counts[:, None] * (alone / np.maximum(alone.sum(axis=1), _TINY)[:, None])
        load = self._loads(x)
        busiest = load[0]
        for more_load in load[1:]:
            busiest = np.maximum(busiest, more_load)
        x *= np.minimum(_PLACED, 0.9 / np.maximum(busiest, _TINY))
        # Where nothing may be is 1 throughout, and counts nowhere.
        self.x: Floats = np.where(allowed, x, 1.0).astype(np.float32)
        # All equations hold from the start, of amounts and of prices, with nothing near zero.
        self.idle = [1.0 - part for part in self._loads(x)]
        self.left = counts - x.sum(axis=1)
        self.rent = [-(alone.max(axis=0) + _TINY) * (_RENT / len(needs)) for _ in needs]
        self.price = np.where(allowed, cost, np.inf).min(axis=1) - _BELOW
        reduced = cost - self.price[:, None] - self._weigh(self.rent)
        self.over: Floats = np.where(allowed, reduced, 1.0).astype(np.float32)
        self.over_left = PENALTY - self.price
        self.over_idle = [-rent for rent in self.rent]
        self.size = float(mask.sum()) + classes + clusters * len(needs)
        # How far the three kinds of equations are from holding; each step takes the same part of all of one kind away.
        self.short = counts - (self.x * mask).sum(axis=1) - self.left
        self.full = [1.0 - load - idle for load, idle in zip(self._loads(self.x * mask), self.idle, strict=True)]
        self.slack = (self.cost - self.price[:, None] - self._weigh(self.rent) - self.over) * mask
        self.slack_left = PENALTY - self.price - self.over_left

    def _loads(self, x: Floats) -> list[Floats]:
        return [(need * x).sum(axis=0) for need in self.needs]

    def _weigh(self, rent: Sequence[Floats]) -> Floats:
        total = self.needs[0] * rent[0]
        for need, more in zip(self.needs[1:], rent[1:], strict=True):
            total += need * more
        return total

    def gap(self) -> float:
        """Relative; as long as the equations do not hold it is no less than what is missing."""
        paid = float((self.cost * self.x).sum()) + PENALTY * float(self.left.sum())
        owed = float((self.price * self.counts).sum()) + sum(float(rent.sum()) for rent in self.rent)
        total = float(self.counts.sum())
        missing = float(np.abs(self.short).max()) / max(1.0, float(self.counts.max()))
        missing = max(missing, *(float(np.abs(part).max()) for part in self.full))
        return max(abs(paid - owed) / total, missing, float(np.abs(self.slack).max()) * 0.1)

    def step(self) -> bool:
        """One round; False when nothing more can be gained."""
        over, left, idle = self.over, self.left, self.idle
        ratio = self.x / over * self.mask
        ratio_left = left / self.over_left
        ratio_idle = [have / cost for have, cost in zip(idle, self.over_idle, strict=True)]
        weighted = [ratio * need for need in self.needs]
        factors = _cholesky(
            [[(row * need).sum(axis=0) for need in self.needs[: at + 1]] for at, row in enumerate(weighted)], ratio_idle
        )
        if factors is None:
            return False
        spread = _forward(factors, weighted)
        matrix = -_gram(spread)
        matrix[np.diag_indices_from(matrix)] += ratio.sum(axis=1) + ratio_left
        inverse = _inverse(matrix).astype(np.float32)
        # What stands at positions that are closed is 1 · 1.
        closed = self.mask.size - float(self.mask.sum())
        total = float((self.x * over).sum()) - closed + float((left * self.over_left).sum())
        total += sum(float((have * cost).sum()) for have, cost in zip(idle, self.over_idle, strict=True))
        first = self._direction(
            factors, spread, inverse, ratio, ratio_left, ratio_idle,
            -self.x * self.mask, -left, [-have for have in idle],
        )  # fmt: skip
        ahead, behind = self._lengths(first)
        after = float(((self.x + ahead * first.x) * (over + behind * first.over)).sum()) - closed
        after += float(((left + ahead * first.left) * (self.over_left + behind * first.over_left)).sum())
        for at in range(len(idle)):
            moved = idle[at] + ahead * first.idle[at]
            after += float((moved * (self.over_idle[at] + behind * first.over_idle[at])).sum())
        part = max(after, 0.0) / total
        target = part * part * part * total / self.size
        second = self._direction(
            factors, spread, inverse, ratio, ratio_left, ratio_idle,
            ((target - first.x * first.over) / over - self.x) * self.mask,
            (target - first.left * first.over_left) / self.over_left - left,
            [
                (target - change * other) / cost - have
                for have, cost, change, other in zip(idle, self.over_idle, first.idle, first.over_idle, strict=True)
            ],
        )  # fmt: skip
        ahead, behind = self._lengths(second)
        ahead, behind = min(1.0, _STEP * ahead), min(1.0, _STEP * behind)
        if not (ahead > 1e-8 or behind > 1e-8) or not second.finite:
            return False
        self._move(second, ahead, behind)
        return True

    def _direction(
        self, factors: list[list[Floats]], spread: list[Floats], inverse: Floats,
        ratio: Floats, ratio_left: Floats, ratio_idle: list[Floats],
        aim: Floats, aim_left: Floats, aim_idle: list[Floats],
    ) -> _Direction:  # fmt: skip
        """The Newton step after which every equation holds, and x has changed by `aim` where prices did not."""
        pull = aim - ratio * self.slack
        pull_left = aim_left - ratio_left * self.slack_left
        classes = self.short - pull.sum(axis=1) - pull_left
        clusters = [
            full - (need * pull).sum(axis=0) - idle
            for full, need, idle in zip(self.full, self.needs, aim_idle, strict=True)
        ]
        inner = _forward(factors, clusters)
        for part, own in zip(spread, inner, strict=True):
            classes = classes - (part * own).sum(axis=1)
        price = (inverse * classes[None, :]).sum(axis=1)
        outer = [own - (part * price[:, None]).sum(axis=0) for part, own in zip(spread, inner, strict=True)]
        rent = _backward(factors, outer)
        over = (self.slack - price[:, None] - self._weigh(rent)) * self.mask
        over_left = self.slack_left - price
        return _Direction(
            x=aim - ratio * over,
            left=aim_left - ratio_left * over_left,
            idle=[part + have * more for part, have, more in zip(aim_idle, ratio_idle, rent, strict=True)],
            price=price,
            rent=rent,
            over=over,
            over_left=over_left,
            over_idle=[-more for more in rent],
        )

    def _lengths(self, way: _Direction) -> tuple[float, float]:
        """How far the step may go before something becomes negative, for `x` and for the prices; at most 1."""
        ahead = max(_steepest(way.x, self.x), _steepest(way.left, self.left), 1.0)
        behind = max(_steepest(way.over, self.over), _steepest(way.over_left, self.over_left), 1.0)
        for at, idle in enumerate(self.idle):
            ahead = max(ahead, _steepest(way.idle[at], idle))
            behind = max(behind, _steepest(way.over_idle[at], self.over_idle[at]))
        return 1.0 / ahead, 1.0 / behind

    def _move(self, way: _Direction, ahead: float, behind: float) -> None:
        self.x += ahead * way.x
        self.left += ahead * way.left
        self.price += behind * way.price
        self.over += behind * way.over
        self.over_left += behind * way.over_left
        for at in range(len(self.idle)):
            self.idle[at] += ahead * way.idle[at]
            self.rent[at] += behind * way.rent[at]
            self.over_idle[at] += behind * way.over_idle[at]
            self.full[at] = self.full[at] * (1.0 - ahead)
        self.short = self.short * (1.0 - ahead)
        self.slack *= 1.0 - behind
        self.slack_left = self.slack_left * (1.0 - behind)


@dataclass(slots=True)
class _Direction:
    x: Floats
    left: Floats
    idle: list[Floats]
    price: Floats
    rent: list[Floats]
    over: Floats
    over_left: Floats
    over_idle: list[Floats]

    @property
    def finite(self) -> bool:
        vectors = (self.x, self.over, self.left, self.price, *self.idle, *self.rent)
        return all(bool(np.isfinite(vector).all()) for vector in vectors)


def _steepest(change: Floats, now: Floats) -> float:
    return -float((change / now).min())


# The block of one cluster, for all clusters at once: lower triangles as lists of rows of vectors along the clusters.


def _cholesky(block: list[list[Floats]], diagonal: list[Floats]) -> list[list[Floats]] | None:
    for row, entries in enumerate(block):
        for column in range(row + 1):
            value = entries[column]
            if row == column:
                value = value + diagonal[row]
            for before in range(column):
                value = value - block[row][before] * block[column][before]
            if row == column:
                if not float(value.min()) > 0.0:
                    return None
                block[row][row] = np.sqrt(value)
            else:
                block[row][column] = value / block[column][column]
    return block


def _forward(factors: list[list[Floats]], right: Sequence[Floats]) -> list[Floats]:
    found: list[Floats] = []
    for row, entries in enumerate(factors):
        value = right[row]
        for column in range(row):
            value = value - entries[column] * found[column]
        found.append(value / entries[row])
    return found


def _backward(factors: list[list[Floats]], right: Sequence[Floats]) -> list[Floats]:
    found = list(right)
    for row in reversed(range(len(factors))):
        value = found[row]
        for below in range(row + 1, len(factors)):
            value = value - factors[below][row] * found[below]
        found[row] = value / factors[row][row]
    return found


def _gram(parts: Sequence[Floats]) -> Doubles:
    """Σ part·partᵀ to about 2⁻²¹ of each row's largest entry: of whole numbers, so that all sums are exact."""
    size, clusters = parts[0].shape
    # Blocks so small that BLAS sees no reason to wake its threads, which cost more than they do.
    tile = min(size, _TILE)
    block = max(32, _BLOCK // (tile * tile))
    tiles = [slice(start, min(start + tile, size)) for start in range(0, size, tile)]
    total = np.zeros((size, size))
    for part in parts:
        # A power of two, so that nothing is rounded but by `rint`.
        exponents = np.frexp(np.maximum(np.abs(part).max(axis=1), 1e-30))[1]
        scale = np.ldexp(1.0, 21 - exponents)
        whole = np.zeros((size, -(-clusters // block) * block))
        whole[:, :clusters] = np.rint(part * scale[:, None])
        blocks = whole.reshape(size, -1, block).transpose(1, 0, 2)
        for at, rows in enumerate(tiles):
            for columns in tiles[: at + 1]:
                products = (blocks[:, rows] @ blocks[:, columns].transpose(0, 2, 1)).sum(axis=0)
                products /= scale[rows, None] * scale[None, columns]
                total[rows, columns] += products
                if rows is not columns:
                    total[columns, rows] += products.T
    return total


def _inverse(matrix: Doubles) -> Doubles:
    """Of a symmetric positive definite matrix, in place by Gauss and Jordan; each pivot is two vector operations."""
    work = matrix
    floor = float(np.abs(np.diagonal(work)).max()) * 1e-14
    taken = np.empty_like(work)
    for at in range(len(work)):
        pivot = max(float(work[at, at]), floor)
        column = work[:, at].copy()
        row = work[at] / pivot
        np.multiply(column[:, None], row, out=taken)
        work -= taken
        work[:, at] = column / -pivot
        work[at] = row
        work[at, at] = 1.0 / pivot
    return work
