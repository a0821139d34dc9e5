"""What is free on the nodes of one cluster, and which node a task takes, so that least is wasted.

The order is the one the sites use: a task goes to the node where it makes the fewest GPUs useless (hub/api/waste.py),
then to the one with the fewest free GPUs (in thousandths), then with the least free CPU, then the first by name; a
share goes to the fullest GPU that still has room. Placing several is the same as placing one after the other. Who holds
what is hub/fleet/held.py.
"""

from __future__ import annotations

import heapq

import numpy as np

from hub.api import names
from hub.api.waste import PARTS
from hub.fleet.nodes import MOST_CPU, WHOLE_GPU, Ask, Ints, NodeTable
from hub.fleet.site import NodeGroup
from hub.fleet.waste import WasteScale, parts_of

NOTHING: Ints = np.zeros(0, np.int64)
NOTHING.flags.writeable = False
_PARTS: Ints = np.array(PARTS, np.int64)[:, None]


class NodeRoom:
    """Starts as the table's own: with nothing taken. Only a copy may be changed, and only by `take` and `give_back`."""

    __slots__ = ("_nexts", "free", "gpus", "gpus_total", "parts", "table", "wasted", "whole")

    free: Ints
    # What follows from it is kept beside: summed, wholly free ones, what parts of one could use (hub/fleet/waste.py),
    # and what is wasted.
    gpus: Ints
    gpus_total: Ints
    whole: Ints
    parts: Ints
    wasted: Ints

    def __init__(self, table: NodeTable) -> None:
        self.table = table
        self.free = table.free
        self.gpus = table.gpus
        self.gpus_total = table.gpus_total
        self.whole = table.whole
        self.parts = table.parts
        self.wasted = table.wasted
        # Nodes that were asked for: several scorers look at the same one.
        self._nexts: dict[Ask, int] = {}

    def _own(self, other: NodeRoom) -> None:
        """A copy of all of `other`, to be changed."""
        self.table = other.table
        self.free = other.free.copy()
        self.gpus = other.gpus.copy()
        self.gpus_total = other.gpus_total.copy()
        self.whole = other.whole.copy()
        self.parts = other.parts.copy()
        self.wasted = other.wasted.copy()
        self._nexts = {}

    def slots(self, ask: Ask, nodes: Ints | None) -> Ints:
        return self.table.slots(ask, self.free, self.gpus, self.whole, nodes)

    def gpus_free(self) -> float:
        """Whole GPUs and parts of them, summed; a slot counts as its part of a GPU."""
        total = float(self.gpus_total.sum())
        if self.table.slotted:
            for start, group in self.table.slotted:
                counted = float(self.gpus_total[start : start + group.count].sum())
                total += self.idle_gpus(start, group) * WHOLE_GPU - counted
        return total / WHOLE_GPU

    def idle_gpus(self, start: int, group: NodeGroup) -> float:
        """GPUs of the group, which starts at node `start`, that nothing runs on; slots as their part of a GPU."""
        nodes = slice(start, start + group.count)
        if group.gpus.renamed:
            slots = np.maximum(self.free[self.table.rows[names.GPU_SHARED], nodes], 0)
        else:
            slots = self.whole[nodes]
        return int(slots.sum()) / group.gpus.replicas

    def next_node(self, ask: Ask) -> int:
        """The node that one task more would take, or −1: there is no room."""
        found = self._nexts.get(ask)
        if found is None:
            fitting = self._fitting(ask)
            found = self._nexts[ask] = self._tightest(ask, fitting) if len(fitting) else -1
        return found

    def next_gpus(self, ask: Ask, node: int) -> Ints:
        """Which GPUs of `node` one task more would take, where it has room."""
        return self._chosen_gpus(ask, self.gpus[node])

    def take(self, ask: Ask, count: int) -> tuple[Ints, Ints]:
        """Room for up to `count` tasks: the node of each that has one, and the GPUs they take there, in that order."""
        nodes = self._fitting(ask)
        if not len(nodes):
            return NOTHING, NOTHING
        return self._place_one(ask, nodes) if count == 1 else self._place(ask, nodes, count)

    def give_back(self, ask: Ask, nodes: Ints, gpus: Ints) -> None:
        """What `take` gave, or a part of it."""
        if not len(nodes):
            return
        touched, tasks = (nodes, 1) if len(nodes) == 1 else np.unique(nodes, return_counts=True)
        for row, amount in ask.needs:
            self.free[row, touched] += amount * tasks
        if ask.milli:
            np.add.at(self.gpus, (np.repeat(nodes, len(gpus) // len(nodes)), gpus), ask.share or WHOLE_GPU)
        self._changed(touched)

    def _tightest(self, ask: Ask, nodes: Ints) -> int:
        """The first in order, without a sort."""
        if len(nodes) > 1 and self.table.waste is not None:
            more = self._more_waste(ask, nodes, self.table.waste)
            nodes = nodes[more == more.min()]
        if len(nodes) > 1:
            free = self.gpus_total[nodes]
            nodes = nodes[free == free.min()]
        if len(nodes) > 1 and self.table.cpu is not None:
            return int(nodes[self.free[self.table.cpu, nodes].argmin()])
        return int(nodes[0])

    def _fitting(self, ask: Ask) -> Ints:
        return self.table.fitting(ask, self.free, self.gpus, self.whole)

    def _more_waste(self, ask: Ask, nodes: Ints, scale: WasteScale) -> Ints:
        """How much more each of `nodes` wastes with one task more; all of them have room for it."""
        cpu = self._cpu_of(nodes) - self._cpu_need(ask)
        left, whole, parts = self.gpus_total[nodes], self.whole[nodes], self.parts[:, nodes]
        if ask.share:
            # Of the fullest GPU with room.
            gpus = self.gpus[nodes]
            taken = np.where(gpus >= ask.share, gpus, WHOLE_GPU + 1).min(axis=1)
            rest = taken - ask.share
            parts += np.where(rest >= _PARTS, rest, 0) - np.where(taken >= _PARTS, taken, 0)
            whole -= taken == WHOLE_GPU
        elif ask.gpus:
            whole -= ask.gpus
            parts -= ask.milli
        more: Ints = scale.waste(cpu, left - ask.milli, whole, parts, nodes) - self.wasted[nodes]
        return more

    def _more_waste_at(self, ask: Ask, node: int, scale: WasteScale) -> int:
        gpus = self.gpus[node].copy()
        gpus[self._chosen_gpus(ask, gpus)] -= ask.share or WHOLE_GPU
        after = gpus.tolist() if ask.milli else self.gpus[node].tolist()
        return scale.waste_at(node, self._cpu_at(node) - self._cpu_need(ask), after) - int(self.wasted[node])

    def _changed(self, nodes: Ints) -> None:
        """What follows from what is free on these nodes, put right."""
        scale = self.table.waste
        if scale is None:
            return
        if len(nodes) == 1:
            node = int(nodes[0])
            gpus = self.gpus[node].tolist()
            self.gpus_total[node] = sum(gpus)
            self.whole[node] = gpus.count(WHOLE_GPU)
            for part, size in enumerate(PARTS):
                self.parts[part, node] = sum(free for free in gpus if free >= size)
            self.wasted[node] = scale.waste_at(node, self._cpu_at(node), gpus)
            return
        gpus = self.gpus[nodes]
        left = self.gpus_total[nodes] = gpus.sum(axis=1)
        whole = self.whole[nodes] = (gpus == WHOLE_GPU).sum(axis=1)
        parts = self.parts[:, nodes] = parts_of(gpus)
        self.wasted[nodes] = scale.waste(self._cpu_of(nodes), left, whole, parts, nodes)

    def _cpu_at(self, node: int) -> int:
        row = self.table.cpu
        return 0 if row is None else min(int(self.free[row, node]), MOST_CPU)

    def _cpu_of(self, nodes: Ints) -> Ints:
        row = self.table.cpu
        if row is None:
            return np.zeros(len(nodes), np.int64)
        free: Ints = np.minimum(self.free[row, nodes], MOST_CPU)
        return free

    def _cpu_need(self, ask: Ask) -> int:
        return min(next((amount for row, amount in ask.needs if row == self.table.cpu), 0), MOST_CPU)

    @staticmethod
    def _chosen_gpus(ask: Ask, gpus: Ints) -> Ints:
        if not ask.share:
            whole: Ints = (gpus == WHOLE_GPU).nonzero()[0][: ask.gpus].astype(np.int64)
            return whole
        room = np.where(gpus >= ask.share, gpus, WHOLE_GPU + 1)
        return np.array((int(room.argmin()),), np.int64)

    def _place_one(self, ask: Ask, nodes: Ints) -> tuple[Ints, Ints]:
        """As `_place` for a single task, which is most of what happens, without a sort."""
        node = self._tightest(ask, nodes)
        for row, amount in ask.needs:
            self.free[row, node] -= amount
        placed = np.array((node,), np.int64)
        taken = NOTHING
        if ask.milli:
            gpus = self.gpus[node]
            taken = self._chosen_gpus(ask, gpus)
            gpus[taken] -= ask.share or WHOLE_GPU
        self._changed(placed)
        return placed, taken

    def _place(self, ask: Ask, nodes: Ints, count: int) -> tuple[Ints, Ints]:
        """Node after node in order: the node of each task, and the GPUs they take there."""
        slots = self.slots(ask, nodes)
        if len(nodes) > 1 and self.table.waste is not None:
            return self._place_each(ask, nodes, slots, count, self.table.waste)
        if len(nodes) > 1:
            free = self.gpus_total[nodes]
            cpu = self.table.cpu
            # Stable, so equals stay in the order of nodes, which is the order of names.
            order = free.argsort(kind="stable") if cpu is None else np.lexsort((self.free[cpu, nodes], free))
            nodes, slots = nodes[order], slots[order]
        filled = np.cumsum(slots)
        last = int(np.searchsorted(filled, count))
        if last < len(nodes):
            slots = slots[: last + 1].copy()
            slots[last] -= filled[last] - count
            nodes = nodes[: last + 1]
        for row, amount in ask.needs:
            self.free[row, nodes] -= amount * slots
        gpus = NOTHING
        if ask.milli:
            gpus = self._take_shares(ask, nodes, slots) if ask.share else self._take_whole(ask, nodes, slots)
        self._changed(nodes)
        return np.repeat(nodes, slots), gpus

    def _place_each(self, ask: Ask, nodes: Ints, slots: Ints, count: int, scale: WasteScale) -> tuple[Ints, Ints]:
        """One after the other: each changes what the next would waste, but only on its own node."""
        cpu = self.table.cpu
        keys = zip(
            self._more_waste(ask, nodes, scale).tolist(),
            self.gpus_total[nodes].tolist(),
            self.free[cpu, nodes].tolist() if cpu is not None else [0] * len(nodes),
            nodes.tolist(),
            slots.tolist(),
            strict=True,
        )
        heap = list(keys)
        heapq.heapify(heap)
        placed: list[int] = []
        taken: list[Ints] = []
        while heap and len(placed) < count:
            _, _, _, node, room = heap[0]
            for row, amount in ask.needs:
                self.free[row, node] -= amount
            if ask.milli:
                chosen = self._chosen_gpus(ask, self.gpus[node])
                self.gpus[node, chosen] -= ask.share or WHOLE_GPU
                taken.append(chosen)
            placed.append(node)
            self._changed(np.array((node,), np.int64))
            if room == 1:
                heapq.heappop(heap)
                continue
            more = self._more_waste_at(ask, node, scale)
            left = int(self.free[cpu, node]) if cpu is not None else 0
            heapq.heapreplace(heap, (more, int(self.gpus_total[node]), left, node, room - 1))
        return np.array(placed, np.int64), np.concatenate(taken) if taken else NOTHING

    def _take_whole(self, ask: Ask, nodes: Ints, takes: Ints) -> Ints:
        idle = self.gpus[nodes] == WHOLE_GPU
        chosen = idle & (np.cumsum(idle, axis=1) <= (takes * ask.gpus)[:, None])
        rows, gpus = np.nonzero(chosen)
        self.gpus[nodes[rows], gpus] = 0
        return gpus.astype(np.int64)

    def _take_shares(self, ask: Ask, nodes: Ints, takes: Ints) -> Ints:
        taken: list[Ints] = []
        for node, count in zip(nodes.tolist(), takes.tolist(), strict=True):
            free = self.gpus[node]
            room = free // ask.share
            for gpu in np.argsort(free, kind="stable").tolist():
                here = min(int(room[gpu]), count)
                if here > 0:
                    free[gpu] -= here * ask.share
                    taken.append(np.full(here, gpu, np.int64))
                    count -= here
        return np.concatenate(taken)
