"""From a solution in parts of tasks to one in whole tasks that fits: floors first, then what is missing where it costs
least, moving one other task aside where that is better. Pure integer work in a total order.

What fits is counted in totals of each cluster and in `room`, how many of a class alone a cluster takes. It does not
know single nodes; who carries the result out looks at those.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

NEVER: Final = -(1 << 60)
# What an interior point leaves of a task where it means nothing.
_DUST: Final = 5e-4
# Of a smaller part than this nothing is made by rounding up: where that task is best is looked for.
_PART: Final = 0.02


class Rounding:
    """`tasks` [class, cluster] and `left` [class] are the result; `scores` are whole numbers.

    `amounts` [class, resource] is what a task takes of `free` [cluster, resource].
    """

    def __init__(self, scores: Ints, room: Ints, counts: Ints, amounts: Ints, free: Ints, parts: Floats) -> None:
        self._scores, self._room, self._amounts = scores, room, amounts
        tasks = np.minimum(np.floor(parts + _DUST).astype(np.int64), room)
        self._free = free - tasks.T @ amounts
        for cluster in np.flatnonzero((self._free < 0).any(axis=1)).tolist():
            # The parts held to within a rounding error only.
            for task_class in np.argsort(scores[:, cluster], kind="stable").tolist():
                while tasks[task_class, cluster] and (self._free[cluster] < 0).any():
                    tasks[task_class, cluster] -= 1
                    self._free[cluster] += amounts[task_class]
        self.tasks = tasks
        self.left: Ints = counts - tasks.sum(axis=1)
        for task_class in (self.left < 0).nonzero()[0].tolist():
            self._drop(task_class)
        self._open = self._fits()
        # The largest first, while there is room for them; of equals, the first.
        size = (amounts / np.maximum(free.max(axis=0), 1)).max(axis=1, initial=0.0)
        order = np.lexsort((np.arange(len(counts)), -size)).tolist()
        for task_class in order:
            if self.left[task_class]:
                self._round_up(task_class, parts[task_class])
        # The pairs that have tasks, or had some, and where each class would go next.
        self._rows, self._columns = self.tasks.nonzero()
        away = np.where(self._open, scores, NEVER)
        self._to = away.argmax(axis=1)
        self._most = away[np.arange(len(counts)), self._to]
        for task_class in order:
            while self.left[task_class] and self._add(task_class):
                self.left[task_class] -= 1

    def improve(self, rounds: int) -> None:
        """Tasks taken up one by one and put down where they, and one that makes way, bring most; for small problems."""
        for _ in range(rounds):
            moved = False
            for task_class, cluster in zip(*(found.tolist() for found in self.tasks.nonzero()), strict=True):
                while self.tasks[task_class, cluster]:
                    self._change(task_class, cluster, -1)
                    gain, way = self._best(task_class)
                    if gain <= self._scores[task_class, cluster]:
                        self._change(task_class, cluster, 1)
                        break
                    self._go(task_class, way)
                    moved = True
            if not moved:
                break

    def _fits(self) -> NDArray[np.bool_]:
        found = self.tasks < self._room
        for resource in range(self._amounts.shape[1]):
            found &= self._free[:, resource][None, :] >= self._amounts[:, resource][:, None]
        return found

    def _change(self, task_class: int, cluster: int, count: int) -> None:
        if not self.tasks[task_class, cluster]:
            self._rows = np.append(self._rows, task_class)
            self._columns = np.append(self._columns, cluster)
        self.tasks[task_class, cluster] += count
        self._free[cluster] -= count * self._amounts[task_class]
        here = (self.tasks[:, cluster] < self._room[:, cluster]) & (self._free[cluster][None, :] >= self._amounts).all(
            axis=1
        )
        self._open[:, cluster] = here
        scores = self._scores[:, cluster]
        better = here & ((scores > self._most) | ((scores == self._most) & (cluster < self._to)))
        self._to[better], self._most[better] = cluster, scores[better]
        for row in ((self._to == cluster) & ~here).nonzero()[0].tolist():
            away = np.where(self._open[row], self._scores[row], NEVER)
            self._to[row] = away.argmax()
            self._most[row] = away[self._to[row]]

    def _drop(self, task_class: int) -> None:
        for cluster in np.argsort(self._scores[task_class], kind="stable").tolist():
            count = min(int(self.tasks[task_class, cluster]), -int(self.left[task_class]))
            if count:
                self.tasks[task_class, cluster] -= count
                self._free[cluster] += count * self._amounts[task_class]
                self.left[task_class] += count

    def _round_up(self, task_class: int, parts: Floats) -> None:
        """One task more where the largest part was cut off, of equals where the score is better."""
        rest = parts - self.tasks[task_class]
        among = (self._open[task_class] & (rest > _PART)).nonzero()[0]
        order = np.lexsort((among, -self._scores[task_class, among], -rest[among]))[: int(self.left[task_class])]
        taken = among[order]
        self.tasks[task_class, taken] += 1
        self._free[taken] -= self._amounts[task_class]
        self._open[:, taken] = self.tasks[:, taken] < self._room[:, taken]
        for resource in range(self._amounts.shape[1]):
            self._open[:, taken] &= self._free[taken, resource][None, :] >= self._amounts[:, resource][:, None]
        self.left[task_class] -= len(taken)

    def _add(self, task_class: int) -> bool:
        gain, way = self._best(task_class)
        if gain == NEVER:
            return False
        self._go(task_class, way)
        return True

    def _go(self, task_class: int, way: tuple[int, int, int]) -> None:
        cluster, other, elsewhere = way
        if other >= 0:
            self._change(other, cluster, -1)
            self._change(other, elsewhere, 1)
        self._change(task_class, cluster, 1)

    def _best(self, task_class: int) -> tuple[int, tuple[int, int, int]]:
        """The most that one task more can bring, and how: (its cluster, the class that makes way or −1, to where)."""
        best = int(self._most[task_class]), (int(self._to[task_class]), -1, -1)
        rows, columns = self._rows, self._columns
        # Who makes way must be there, have somewhere to go, and leave enough.
        gain = self._most[rows] - self._scores[rows, columns] + self._scores[task_class, columns]
        able = (self.tasks[rows, columns] > 0) & (self._most[rows] > NEVER) & (self._to[rows] != columns)
        able &= rows != task_class
        able &= self.tasks[task_class, columns] < self._room[task_class, columns]
        able &= (self._free[columns] + self._amounts[rows] >= self._amounts[task_class]).all(axis=1)
        gain = np.where(able, gain, NEVER)
        if len(gain):
            # Of equals the first by cluster, then by class: the list is in the order in which pairs came about.
            most = int(gain.max())
            if most > best[0]:
                among = (gain == most).nonzero()[0]
                at = int(among[np.lexsort((rows[among], columns[among]))[0]])
                mover = int(rows[at])
                best = (most, (int(columns[at]), mover, int(self._to[mover])))
        return best
