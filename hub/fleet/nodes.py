"""The nodes of one cluster as columns: how many of a shape fit, and which nodes are taken first.

Which nodes it may use at all is hub/fleet/admission.py. One table a capacity report; what is free now is kept beside it
by hub/fleet/room.py and passed in. All amounts are int64 in `amount_of` units, GPUs are thousandths of each single GPU,
because halves on two GPUs are not one whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hub.api import names
from hub.fleet.admission import admitted_nodes, group_refusal
from hub.fleet.shape import TaskShape
from hub.fleet.site import BY_SITE, NodeGroup, Site
from hub.fleet.waste import WasteScale, parts_of

Ints = NDArray[np.int64]
# More tasks than one job may have, so that a task that asks for nothing has a number, too.
MAX_SLOTS = 1_000_000
_UNLIMITED = 1 << 60
WHOLE_GPU = 1000
# Thousandths that count where nodes are compared; products with it stay within an int64.
MOST_CPU = 10**9
# Counted by the GPU; and without a limit where no node names one.
_APART = (names.GPU, "pods")
# Shapes that a table remembers; a fleet of more asks again.
_KEPT = 512


@dataclass(frozen=True, slots=True, eq=False)
class Ask:
    """What a shape means on one table. `nodes`: those that may run it by model, labels and taints; None: all.

    `needs`: (row, amount of it) a task, pods included. `gpus` whole ones (or slots of GPUs that are shared by time) or
    `share` thousandths of one; `milli` either, 0 where a share is a resource of its own.
    `impossible`: it asks for something that no node has.
    """

    nodes: Ints | None
    needs: tuple[tuple[int, int], ...]
    gpus: int
    share: int
    milli: int
    impossible: bool


class NodeTable:
    """`free` [resource, node], `gpus` [node, gpu], `whole` [node]: what is there less what others use; frozen."""

    __slots__ = (
        "_admitted", "_asks", "count", "cpu", "free", "gpus", "gpus_total", "groups", "parts", "rows", "share_by",
        "slotted", "starts", "waste", "wasted", "whole",
    )  # fmt: skip

    def __init__(self, site: Site) -> None:
        groups = self.groups = site.groups
        self.share_by = site.share_by
        resources = sorted({name for group in groups for name in group.allocatable})
        self.rows = {name: row for row, name in enumerate(resources)}
        self.cpu = self.rows.get("cpu")
        self.starts: list[int] = []
        self.count = sum(group.count for group in groups)
        width = max((group.gpus.count for group in groups if group.count), default=0)
        self.free: Ints = np.zeros((len(resources), self.count), np.int64)
        self.gpus: Ints = np.zeros((self.count, width), np.int64)
        start = 0
        for group in groups:
            self.starts.append(start)
            self._fill(group, start)
            start += group.count
        # Groups whose GPUs tasks share by time: what is counted there are slots, not GPUs.
        self.slotted = tuple(
            (at, group) for at, group in zip(self.starts, groups, strict=True) if group.gpus.replicas > 1
        )
        self.gpus_total: Ints = self.gpus.sum(axis=1)
        self.whole: Ints = (self.gpus == WHOLE_GPU).sum(axis=1)
        self._asks: dict[TaskShape, Ask] = {}
        self._admitted: dict[tuple[object, ...], Ints | None] = {}
        # None: there is no GPU to waste.
        self.waste = self._scale(groups) if width else None
        self.parts = parts_of(self.gpus)
        self.wasted: Ints = np.zeros(self.count, np.int64)
        if self.waste is not None:
            everywhere = np.arange(self.count)
            cpu = np.zeros(self.count, np.int64) if self.cpu is None else np.minimum(self.free[self.cpu], MOST_CPU)
            self.wasted = self.waste.waste(cpu, self.gpus_total, self.whole, self.parts, everywhere)

    def _scale(self, groups: Sequence[NodeGroup]) -> WasteScale:
        def along(amounts: Iterable[int]) -> Ints:
            return np.repeat(np.fromiter(amounts, np.int64, len(groups)), [group.count for group in groups])

        # Within what the products of them may be: no node has a million CPUs.
        cpu = along(min(group.allocatable.get("cpu", 0), MOST_CPU) for group in groups)
        return WasteScale(cpu, along(group.gpus.count * WHOLE_GPU for group in groups))

    def _fill(self, group: NodeGroup, start: int) -> None:
        end = start + group.count
        for name, row in self.rows.items():
            # A node that says nothing of pods has no limit of them; of anything else it has none.
            self.free[row, start:end] = group.allocatable.get(name, _UNLIMITED if name == "pods" else 0)
        self.gpus[start:end, : group.gpus.count] = WHOLE_GPU
        at = start
        for used in group.used:
            nodes = slice(at, at + used.nodes)
            at += used.nodes
            for name, amount in used.resources.items():
                row = self.rows.get(name, -1)
                if row >= 0:
                    self.free[row, nodes] -= amount
            taken, part = divmod(min(used.gpu, group.gpus.count * WHOLE_GPU), WHOLE_GPU)
            self.gpus[nodes, :taken] = 0
            if part:
                self.gpus[nodes, taken] = WHOLE_GPU - part

    def ask(self, shape: TaskShape) -> Ask:
        """`shape` as a question to these nodes; looked up once a report."""
        known = self._asks.get(shape)
        if known is None:
            if len(self._asks) >= _KEPT:
                self._asks.clear()
            known = self._asks[shape] = self._ask(shape)
        return known

    def slots(self, ask: Ask, free: Ints, gpus: Ints, whole: Ints, nodes: Ints | None) -> Ints:
        """How many tasks each of `nodes` (None: every node) takes more; from 0 to `MAX_SLOTS`."""
        found: Ints | None = None
        if ask.impossible:
            return np.zeros(self.count if nodes is None else len(nodes), np.int64)
        for row, amount in ask.needs:
            offered = free[row] if nodes is None else free[row, nodes]
            found = _least(found, offered if amount == 1 else offered // amount)
        if ask.share:
            found = _least(found, ((gpus if nodes is None else gpus[nodes]) // ask.share).sum(axis=1))
        elif ask.gpus:
            idle = whole if nodes is None else whole[nodes]
            found = _least(found, idle if ask.gpus == 1 else idle // ask.gpus)
        if found is None:
            return np.full(self.count if nodes is None else len(nodes), MAX_SLOTS, np.int64)
        return np.minimum(np.maximum(found, 0), MAX_SLOTS)

    def fitting(self, ask: Ask, free: Ints, gpus: Ints, whole: Ints) -> Ints:
        """The nodes that take at least one task more."""
        nodes = ask.nodes
        if ask.impossible:
            return np.zeros(0, np.int64)
        enough = [(free[row] if nodes is None else free[row, nodes]) >= amount for row, amount in ask.needs]
        if ask.share:
            enough.append(((gpus if nodes is None else gpus[nodes]) >= ask.share).any(axis=1))
        elif ask.gpus:
            enough.append((whole if nodes is None else whole[nodes]) >= ask.gpus)
        if not enough:
            return np.arange(self.count) if nodes is None else nodes
        fits = enough[0]
        for more in enough[1:]:
            fits &= more
        found: Ints = fits.nonzero()[0]
        return found if nodes is None else nodes[found]

    @staticmethod
    def slots_of(ask: Ask, free: Mapping[int, Ints], whole: Ints, count: int) -> Ints:
        """As `slots` for whole GPUs, of `count` nodes of any tables on which `ask` is the same; `free` by row."""
        found: Ints | None = None
        for row, amount in ask.needs:
            found = _least(found, free[row] if amount == 1 else free[row] // amount)
        if ask.gpus:
            found = _least(found, whole if ask.gpus == 1 else whole // ask.gpus)
        if found is None:
            return np.full(count, MAX_SLOTS, np.int64)
        return np.minimum(np.maximum(found, 0), MAX_SLOTS)

    def _ask(self, shape: TaskShape) -> Ask:
        needs = [(name, amount) for name, amount in shape.requests if name not in _APART and amount > 0]
        if "pods" in self.rows:
            needs.append(("pods", shape.request("pods") or 1))
        gpus, share = (0, shape.gpu_share) if shape.gpu_share else (shape.gpus, 0)
        if share and self.share_by == names.GPU:
            gpus, share = 1, 0
        elif share and self.share_by not in (BY_SITE, ""):
            needs.append((self.share_by, share if self.share_by == names.GPU_MILLI else 1))
            share = 0
        return Ask(
            nodes=self._eligible(shape),
            needs=tuple((self.rows[name], amount) for name, amount in needs if name in self.rows),
            gpus=gpus,
            share=share,
            milli=share or gpus * WHOLE_GPU,
            impossible=any(name not in self.rows for name, _ in needs),
        )

    def _eligible(self, shape: TaskShape) -> Ints | None:
        # Whatever a shape asks of amounts, these decide: jobs that differ in their size only are judged once.
        divided = self.share_by in (BY_SITE, names.GPU_MILLI)
        key = (
            shape.gpu_milli > 0, min(shape.gpu_share, 1) if divided else shape.gpu_share, min(shape.gpus, 2),
            shape.gpu_models, shape.gpu_min_memory, shape.gpu_slot, shape.node_selector, shape.tolerations,
            shape.node_affinity,
        )  # fmt: skip
        if key not in self._admitted:
            if len(self._admitted) >= _KEPT:
                self._admitted.clear()
            self._admitted[key] = self._judge(shape)
        return self._admitted[key]

    def _judge(self, shape: TaskShape) -> Ints | None:
        parts: list[Ints] = []
        every = True
        for start, group in zip(self.starts, self.groups, strict=True):
            if group_refusal(group, shape, self.share_by) is not None:
                every = False
                continue
            admitted = admitted_nodes(group, shape)
            every = every and admitted is None
            parts.append(
                np.arange(start, start + group.count) if admitted is None else np.array(admitted, np.int64) + start
            )
        if every:
            return None
        return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def _least(found: Ints | None, more: Ints) -> Ints:
    return more if found is None else np.minimum(found, more)
