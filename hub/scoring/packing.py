"""Scorers that keep GPUs usable: fragmentation (FGD) and the price of scarce models.

Each looks at the node that the cluster would really take, with what typically comes (hub/scoring/mix.py) in mind. They
are exact about single GPUs: halves on two GPUs are no whole one, and a GPU beside no free CPU is of no use.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hub.fleet.fleet import Fleet
from hub.fleet.held import Held
from hub.fleet.nodes import WHOLE_GPU, Ask, NodeTable
from hub.fleet.shape import TaskShape
from hub.fleet.site import Site
from hub.scoring.interface import ScoreRequest
from hub.scoring.mix import ShapeMix
from hub.scoring.normalise import Normaliser

Floats = NDArray[np.float64]
_ABSOLUTE = Normaliser("none")


class Fragmentation:
    """How much less of a cluster's free GPUs typical tasks could use once this one is placed (Weng et al., FGD).

    0–100, 50: nothing changes, or exactly what the task takes. Whole points, so that equals are equal.
    """

    name = "Fragmentation"
    normaliser = _ABSOLUTE

    def __init__(self, mix: ShapeMix) -> None:
        self.mix = mix

    def score(self, fleet: Fleet, request: ScoreRequest) -> Floats:
        if not self.mix.typical:
            return np.full(len(fleet.names), np.nan)
        shape, mix = request.shape, self.mix
        column: Floats = fleet.held_column(
            ("fragmentation", shape, mix), lambda held: _fragmentation(held, shape, mix), np.float64
        )
        return column

    def fragments(self, fleet: Fleet) -> float:
        """Thousandths of free GPUs, over the whole fleet, that a typical task cannot use: for people and benches."""
        mix = self.mix
        column = fleet.held_column(("fragments", mix), lambda held: _all_fragments(held, mix), np.float64)
        return float(np.nansum(column))


class Scarcity:
    """What it costs others to use a GPU model that they need: demand that names the model, over how much there is.

    Only for tasks that name no model; 100 less ten points for each time that the demand fills the model's GPUs.
    """

    name = "Scarcity"
    normaliser = _ABSOLUTE

    def __init__(self, mix: ShapeMix) -> None:
        self.mix = mix

    def score(self, fleet: Fleet, request: ScoreRequest) -> Floats:
        shape = request.shape
        if not shape.gpu_milli or shape.gpu_models or not self.mix.typical:
            # Whoever names a model needs it, and whoever takes no GPU takes none from others.
            return np.where(fleet.reported, 100.0, np.nan)
        prices = _pressure(fleet, self.mix)
        column: Floats = fleet.held_column(
            ("scarcity", shape, tuple(sorted(prices.items()))), lambda held: _scarcity(held, shape, prices), np.float64
        )
        return column


@dataclass(frozen=True, slots=True)
class _Next:
    """The node that would be taken, and how."""

    node: int
    ask: Ask


def _next(held: Held | None, shape: TaskShape) -> _Next | None:
    if held is None:
        return None
    ask = held.table.ask(shape)
    node = held.next_node(ask)
    return None if node < 0 else _Next(node, ask)


def _fragmentation(held: Held | None, shape: TaskShape, mix: ShapeMix) -> float:
    found = _next(held, shape)
    if held is None or found is None:
        return math.nan
    # The node as it is, and as it would be.
    free, gpus = np.repeat(held.free[None, :, found.node], 2, axis=0), np.repeat(held.gpus[None, found.node], 2, axis=0)
    for row, amount in found.ask.needs:
        free[1, row] -= amount
    if found.ask.milli:
        gpus[1, held.next_gpus(found.ask, found.node)] -= found.ask.share or WHOLE_GPU
    needs = _needs(held.table, mix)
    before, after = needs.fragments(free, gpus, needs.allowed[:, found.node]).tolist()
    # Equals must be equal: what sums of parts leave behind in the last digits would decide between them.
    worse = round(after - before, 3)
    return float(int(100.0 / (1.0 + math.exp(max(-700.0, min(700.0, worse / WHOLE_GPU))))))


def _all_fragments(held: Held | None, mix: ShapeMix) -> float:
    if held is None or not mix.typical:
        return math.nan
    needs = _needs(held.table, mix)
    return math.fsum(
        float(needs.fragments(held.free[None, :, node], held.gpus[None, node], needs.allowed[:, node])[0])
        for node in range(held.table.count)
    )


class _Needs:
    """A mix as a table's nodes see it: what each typical task needs of every resource, and which nodes allow it."""

    def __init__(self, table: NodeTable, mix: ShapeMix) -> None:
        count = len(mix.typical)
        self.parts = np.array([typical.part for typical in mix.typical])
        self.needs = np.zeros((count, len(table.rows)), np.int64)
        self.allowed = np.ones((count, table.count), np.bool_)
        self.wanted = np.zeros(count, np.int64)
        self.least = np.zeros(count, np.int64)
        for row, typical in enumerate(mix.typical):
            ask = table.ask(typical.shape)
            for resource, amount in ask.needs:
                self.needs[row, resource] = amount
            self.wanted[row] = 1 if ask.share else ask.gpus
            self.least[row] = ask.share or WHOLE_GPU
            if ask.impossible:
                self.allowed[row] = False
            elif ask.nodes is not None:
                self.allowed[row] = False
                self.allowed[row, ask.nodes] = True

    def fragments(self, free: NDArray[np.int64], gpus: NDArray[np.int64], allowed: NDArray[np.bool_]) -> Floats:
        """Expected thousandths of free GPUs that a typical task cannot use, of each of several states of one node.

        `free` [state, resource], `gpus` [state, GPU], `allowed` [typical task].
        """
        # [typical task, state, GPU]
        fitting = gpus >= self.least[:, None, None]
        runs = (self.needs[:, None, :] <= free).all(axis=2)
        runs &= allowed[:, None]
        runs &= fitting.sum(axis=2) >= self.wanted[:, None]
        usable = np.where(runs, (fitting * gpus).sum(axis=2), 0)
        found: Floats = self.parts @ (gpus.sum(axis=1) - usable)
        return found


_KEPT = 4096
_tables: dict[tuple[int, ShapeMix], tuple[NodeTable, _Needs]] = {}


def _needs(table: NodeTable, mix: ShapeMix) -> _Needs:
    """Once a table and mix: both outlive many decisions."""
    known = _tables.get((id(table), mix))
    if known is not None and known[0] is table:
        return known[1]
    if len(_tables) >= _KEPT:
        _tables.clear()
    made = _Needs(table, mix)
    _tables[id(table), mix] = (table, made)
    return made


def _scarcity(held: Held | None, shape: TaskShape, prices: dict[str, float]) -> float:
    found = _next(held, shape)
    if held is None or found is None:
        return math.nan
    position = int(np.searchsorted(held.table.starts, found.node, side="right")) - 1
    models = held.table.groups[position].models
    return 100.0 - 10.0 * min(10.0, max((prices.get(model, 0.0) for model in models), default=0.0))


def _pressure(fleet: Fleet, mix: ShapeMix) -> dict[str, float]:
    """By model: what typical tasks that name it ask of it, as a multiple of its part of all GPUs."""
    offered: dict[str, float] = {}
    for model in sorted({model for typical in mix.typical for model in typical.shape.gpu_models}):
        column = fleet.site_column(("gpus of", model), _count_of(model), np.float64)
        offered[model] = float(column.sum())
    everything = float(fleet.site_column("all gpus", _all_gpus, np.float64).sum())
    demand = sum(typical.part * typical.shape.gpu_milli for typical in mix.typical)
    asked = dict.fromkeys(offered, 0.0)
    for typical in mix.typical:
        there = {model: offered[model] for model in typical.shape.gpu_models if offered.get(model)}
        total = sum(there.values())
        for model, count in there.items():
            asked[model] += typical.part * typical.shape.gpu_milli * count / total
    if not (everything and demand):
        return {}
    return {model: (asked[model] / demand) / (offered[model] / everything) for model in offered if offered[model] > 0}


def _count_of(model: str) -> Callable[[Site | None], float]:
    def count(site: Site | None) -> float:
        groups = site.groups if site is not None else ()
        return float(sum(group.count * group.physical_gpus for group in groups if model in group.models))

    return count


def _all_gpus(site: Site | None) -> float:
    return float(sum(group.count * group.physical_gpus for group in site.groups)) if site is not None else 0.0
