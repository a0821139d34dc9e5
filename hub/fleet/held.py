"""What this hub's own tasks hold on the nodes of one cluster: taken in best-fit order, given back exactly.

The order is the one the sites use: a task goes to the node with the fewest free GPUs (in thousandths) that still has
room, then with the least free CPU, then the first by name; a share goes to the fullest GPU that still has room. A task
never changes the place of another, so filling node after node is the same as placing one task after the other.

Tasks without room wait: they are held all the same, hold no node, and get what is given back before anyone else, as a
pod that is pending in the cluster would. Nothing here is ever negative.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from hub.api import names
from hub.fleet.nodes import WHOLE_GPU, Ints, NodeTable
from hub.fleet.shape import TaskShape

_NONE: Ints = np.zeros(0, np.int64)
_NONE.flags.writeable = False


@dataclass(frozen=True, slots=True, eq=False)
class Holding:
    """`nodes`: the node of each task that has one; `gpus`: GPU numbers on it, `gpus_per_task` a task, in that order."""

    shape: TaskShape
    count: int
    nodes: Ints = field(default_factory=lambda: _NONE)
    gpus: Ints = field(default_factory=lambda: _NONE)

    @property
    def waiting(self) -> int:
        return self.count - len(self.nodes)

    @property
    def gpus_per_task(self) -> int:
        return 1 if self.shape.gpu_share else self.shape.gpus


class Held:
    """Immutable: `charge` and `release` give the next one. Keys are the charges' own."""

    __slots__ = ("free", "gpus", "gpus_total", "holdings", "table", "waiting", "whole")

    def __init__(self, table: NodeTable) -> None:
        self.table = table
        self.free = table.free
        self.gpus = table.gpus
        self.gpus_total = table.gpus_total
        self.whole = table.whole
        self.holdings: Mapping[str, Holding] = {}
        self.waiting = 0

    @classmethod
    def on(cls, table: NodeTable, holdings: Mapping[str, Holding]) -> Held:
        """All of `holdings` placed anew on other nodes, in the order of their keys."""
        held = cls(table)
        if not holdings:
            return held
        held = held._copy()
        placed = {}
        for key in sorted(holdings):
            placed[key] = held._grow(Holding(holdings[key].shape, 0), holdings[key].count)
        return held._with(placed)

    def charge(self, key: str, shape: TaskShape, count: int) -> Held:
        """`key` holds `count` tasks of `shape` from now on, whatever it held before; 0 is as good as released."""
        now = self.holdings.get(key)
        if count <= 0:
            return self.release(key)
        if now is not None and now.shape != shape:
            return self.release(key).charge(key, shape, count)
        held = self._copy()
        holdings = dict(self.holdings)
        if now is not None and count < now.count:
            holdings[key] = held._shrink(now, count)
            return held._settle(holdings)
        holdings[key] = held._grow(now or Holding(shape, 0), count)
        return held._with(holdings)

    def release(self, key: str) -> Held:
        now = self.holdings.get(key)
        if now is None:
            return self
        held = self._copy()
        holdings = dict(self.holdings)
        del holdings[key]
        held._give_back(now.shape, now.nodes, now.gpus)
        return held._settle(holdings)

    def slots(self, shape: TaskShape, nodes: Ints | None) -> Ints:
        return self.table.slots(shape, self.free, self.gpus, self.whole, nodes)

    def _copy(self) -> Held:
        held = Held.__new__(Held)
        held.table = self.table
        held.free = self.free.copy()
        held.gpus = self.gpus.copy()
        held.gpus_total = self.gpus_total.copy()
        held.whole = self.whole.copy()
        held.holdings = self.holdings
        held.waiting = self.waiting
        return held

    def _with(self, holdings: Mapping[str, Holding]) -> Held:
        self.holdings = holdings
        self.waiting = sum(holding.waiting for holding in holdings.values())
        return self

    def _settle(self, holdings: dict[str, Holding]) -> Held:
        """Room was given back: those that wait have the first claim to it."""
        if self.waiting:
            for key in sorted(key for key, holding in holdings.items() if holding.waiting):
                holdings[key] = self._grow(holdings[key], holdings[key].count)
        return self._with(holdings)

    def _grow(self, holding: Holding, count: int) -> Holding:
        """`holding` with `count` tasks, as many of them on nodes as there is room for now."""
        shape = holding.shape
        nodes, takes = self._choose(shape, count - len(holding.nodes))
        if not len(nodes):
            return Holding(shape, count, holding.nodes, holding.gpus)
        for name, amount in self._per_task(shape):
            self.free[self.table.rows[name], nodes] -= amount * takes
        gpus = _NONE
        if shape.gpu_share:
            gpus = self._take_shares(shape.gpu_share, nodes, takes)
        elif shape.gpus:
            gpus = self._take_whole(shape.gpus, nodes, takes)
        if len(gpus):
            self.gpus_total[nodes] -= takes * shape.gpu_milli
            self.whole[nodes] = (self.gpus[nodes] == WHOLE_GPU).sum(axis=1)
        return Holding(
            shape,
            count,
            np.concatenate([holding.nodes, np.repeat(nodes, takes)]),
            np.concatenate([holding.gpus, gpus]),
        )

    def _choose(self, shape: TaskShape, count: int) -> tuple[Ints, Ints]:
        """Nodes in the order they are taken, and how many tasks each takes."""
        eligible = self.table.eligible(shape)
        slots = self.slots(shape, eligible)
        fitting = np.flatnonzero(slots)
        if not len(fitting) or count <= 0:
            return _NONE, _NONE
        slots = slots[fitting]
        nodes = fitting if eligible is None else eligible[fitting]
        if len(nodes) > 1:
            cpu = nodes if self.table.cpu is None else self.free[self.table.cpu, nodes]
            order = np.lexsort((nodes, cpu, self.gpus_total[nodes]))
            nodes, slots = nodes[order], slots[order]
        filled = np.cumsum(slots)
        last = int(np.searchsorted(filled, count))
        if last < len(nodes):
            slots = slots[: last + 1].copy()
            slots[last] -= filled[last] - count
            nodes = nodes[: last + 1]
        return nodes, slots

    def _per_task(self, shape: TaskShape) -> list[tuple[str, int]]:
        needs = [(name, amount) for name, amount in shape.requests if name != names.GPU]
        if "pods" in self.table.rows and not shape.request("pods"):
            needs.append(("pods", 1))
        return needs

    def _take_whole(self, per_task: int, nodes: Ints, takes: Ints) -> Ints:
        idle = self.gpus[nodes] == WHOLE_GPU
        chosen = idle & (np.cumsum(idle, axis=1) <= (takes * per_task)[:, None])
        rows, gpus = np.nonzero(chosen)
        self.gpus[nodes[rows], gpus] = 0
        return gpus.astype(np.int64)

    def _take_shares(self, share: int, nodes: Ints, takes: Ints) -> Ints:
        taken: list[Ints] = []
        for node, count in zip(nodes.tolist(), takes.tolist(), strict=True):
            free = self.gpus[node]
            room = free // share
            for gpu in np.argsort(free, kind="stable").tolist():
                here = min(int(room[gpu]), count)
                if here > 0:
                    free[gpu] -= here * share
                    taken.append(np.full(here, gpu, np.int64))
                    count -= here
        return np.concatenate(taken)

    def _shrink(self, holding: Holding, count: int) -> Holding:
        """The last tasks go first; of these, those that have no node before those that have one."""
        keep = min(count, len(holding.nodes))
        keep_gpus = keep * holding.gpus_per_task
        self._give_back(holding.shape, holding.nodes[keep:], holding.gpus[keep_gpus:])
        return Holding(holding.shape, count, holding.nodes[:keep], holding.gpus[:keep_gpus])

    def _give_back(self, shape: TaskShape, nodes: Ints, gpus: Ints) -> None:
        if not len(nodes):
            return
        touched, tasks = np.unique(nodes, return_counts=True)
        for name, amount in self._per_task(shape):
            self.free[self.table.rows[name], touched] += amount * tasks
        if len(gpus):
            milli = shape.gpu_share or WHOLE_GPU
            np.add.at(self.gpus, (np.repeat(nodes, len(gpus) // len(nodes)), gpus), milli)
            self.gpus_total[touched] += tasks * shape.gpu_milli
            self.whole[touched] = (self.gpus[touched] == WHOLE_GPU).sum(axis=1)
