"""What this hub's own tasks hold on the nodes of one cluster: taken as hub/fleet/room.py says, given back exactly.

Tasks without room wait: they are held all the same, hold no node, and get what is given back before anyone else, as a
pod that is pending in the cluster would. Nothing here is ever negative.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from hub.fleet.nodes import Ints, NodeTable
from hub.fleet.room import NOTHING, NodeRoom
from hub.fleet.shape import TaskShape


@dataclass(frozen=True, slots=True, eq=False)
class Holding:
    """`nodes`: the node of each task that has one; `gpus`: GPU numbers on it, `gpus_per_task` a task, in that order."""

    shape: TaskShape
    count: int
    nodes: Ints = field(default_factory=lambda: NOTHING)
    gpus: Ints = field(default_factory=lambda: NOTHING)

    @property
    def waiting(self) -> int:
        return self.count - len(self.nodes)

    @property
    def gpus_per_task(self) -> int:
        return 1 if self.shape.gpu_share else self.shape.gpus


class Held(NodeRoom):
    """Immutable: `charge` and `release` give the next one. Keys are the charges' own."""

    __slots__ = ("holdings", "waiting")

    holdings: Mapping[str, Holding]

    def __init__(self, table: NodeTable) -> None:
        super().__init__(table)
        self.holdings = {}
        self.waiting = 0

    @classmethod
    def on(cls, table: NodeTable, holdings: Mapping[str, Holding]) -> Held:
        """All of `holdings` placed anew on other nodes, in the order of their keys."""
        held = cls(table)
        if not holdings:
            return held
        held = held._copy({})
        held.holdings = {
            key: held._grow(Holding(holdings[key].shape, 0), holdings[key].count) for key in sorted(holdings)
        }
        return held

    def charge(self, key: str, shape: TaskShape, count: int) -> Held:
        """`key` holds `count` tasks of `shape` from now on, whatever it held before; 0 is as good as released."""
        now = self.holdings.get(key)
        if count <= 0:
            return self.release(key)
        if now is not None and now.shape != shape:
            return self.release(key).charge(key, shape, count)
        holdings = dict(self.holdings)
        held = self._copy(holdings)
        if now is None:
            holdings[key] = held._grow(Holding(shape, 0), count)
        elif count < now.count:
            holdings[key] = held._shrink(now, count)
            held._settle(holdings)
        else:
            holdings[key] = held._grow(now, count)
        return held

    def release(self, key: str) -> Held:
        now = self.holdings.get(key)
        if now is None:
            return self
        holdings = dict(self.holdings)
        del holdings[key]
        held = self._copy(holdings)
        held.waiting -= now.waiting
        held.give_back(held.table.ask(now.shape), now.nodes, now.gpus)
        held._settle(holdings)
        return held

    def _copy(self, holdings: Mapping[str, Holding]) -> Held:
        held = Held.__new__(Held)
        held._own(self)
        held.holdings = holdings
        held.waiting = self.waiting
        return held

    def _settle(self, holdings: dict[str, Holding]) -> None:
        """Room was given back: those that wait have the first claim to it."""
        if self.waiting:
            for key in sorted(key for key, holding in holdings.items() if holding.waiting):
                holdings[key] = self._grow(holdings[key], holdings[key].count)

    def _grow(self, holding: Holding, count: int) -> Holding:
        """`holding` with `count` tasks, as many of them on nodes as there is room for now."""
        wanted = count - len(holding.nodes)
        placed, gpus = self.take(self.table.ask(holding.shape), wanted) if wanted else (NOTHING, NOTHING)
        grown = Holding(
            holding.shape,
            count,
            np.concatenate((holding.nodes, placed)) if len(holding.nodes) else placed,
            np.concatenate((holding.gpus, gpus)) if len(holding.gpus) else gpus,
        )
        self.waiting += grown.waiting - holding.waiting
        return grown

    def _shrink(self, holding: Holding, count: int) -> Holding:
        """The last tasks go first; of these, those that have no node before those that have one."""
        keep = min(count, len(holding.nodes))
        keep_gpus = keep * holding.gpus_per_task
        self.give_back(self.table.ask(holding.shape), holding.nodes[keep:], holding.gpus[keep_gpus:])
        shrunk = Holding(holding.shape, count, holding.nodes[:keep], holding.gpus[:keep_gpus])
        self.waiting += shrunk.waiting - holding.waiting
        return shrunk
