"""What a task draws at a cluster, and what that emits: from what it asks for, the GPUs there, and the cluster's claims.

An estimate that compares clusters, not a meter: what GPUs really draw is in the catalogue for Prometheus (`gpu-power`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hub.fleet.facts import ClusterFacts
from hub.fleet.fleet import Fleet
from hub.fleet.shape import TaskShape
from hub.fleet.site import Site
from hub.scoring.interface import ScoreRequest

Floats = NDArray[np.float64]
CARBON_SOURCE: Final = "carbon-intensity"
"""A ScoreSource of this name says how clean a kilowatt hour is now; it goes before the cluster's claim."""
BOARD_WATTS: Final[Mapping[str, float]] = {
    "A10": 150, "A100": 400, "A16": 250, "A2": 60, "A30": 165, "A40": 300, "A6000": 300, "B200": 1000, "GB200": 1200,
    "H100": 700, "H200": 700, "L4": 72, "L40": 300, "L40S": 350, "MI210": 300, "MI250": 560, "MI300X": 750, "P100": 300,
    "P4": 75, "P40": 250, "T4": 70, "V100": 300,
}  # fmt: skip
"""Watts that the makers' data sheets state for a board of the largest form of each model."""
OTHER_BOARD: Final = 300.0
"""Of a model that is not in the table. To take its cluster for better or worse than the others would be a guess too."""
CPU_WATTS: Final = 5.0
"""Of one CPU (a hardware thread) of a server that is busy, with its part of the memory and the machine."""
_WORD: Final = re.compile(r"[A-Z]+\d+[A-Z]*")


class Energy:
    """Watts of one task: its GPUs' boards and its CPUs, times what the building adds (claim ``pue``, 1 without)."""

    name = "Energy"
    lower_is_better = True

    def score(self, fleet: Fleet, request: ScoreRequest) -> Floats:
        return task_watts(fleet, request.shape)


class Carbon:
    """Grams of CO2 that an hour of one task emits: its watts, and grams for a kilowatt hour as `CARBON_SOURCE` or the
    cluster's claim ``gco2-per-kwh`` says; unknown where neither does."""

    name = "Carbon"
    lower_is_better = True

    def score(self, fleet: Fleet, request: ScoreRequest) -> Floats:
        claimed = _claim(fleet, "gco2-per-kwh")
        now = fleet.scores(CARBON_SOURCE, request.now)
        grams = np.where(np.isnan(now) | (now < 0), claimed, now)
        found: Floats = task_watts(fleet, request.shape) / 1000 * grams
        return found


def task_watts(fleet: Fleet, shape: TaskShape) -> Floats:
    """Of one task, as the cluster claims ``watts-per-gpu`` and ``watts-per-cpu`` where it does. Unknown where it has
    not reported its nodes. A task that asks for nothing counts as one CPU: it is there to run."""
    gpus, cpus = shape.gpu_milli / 1000, shape.request("cpu") / 1000
    if not gpus and not cpus:
        cpus = 1.0
    boards = fleet.site_column(("board watts", shape.gpu_models), _board(shape.gpu_models), np.float64)
    stated = _claim(fleet, "watts-per-gpu")
    each = np.where(np.isnan(stated), boards, stated)
    cpu = _claim(fleet, "watts-per-cpu")
    pue = _claim(fleet, "pue")
    watts = (each * gpus if gpus else np.zeros(len(fleet.names))) + np.where(np.isnan(cpu), CPU_WATTS, cpu) * cpus
    found: Floats = np.where(fleet.reported, watts * np.where(pue >= 1, pue, 1.0), np.nan)
    return found


def board_watts(model: str) -> float:
    """By the model's usual name, wherever it stands: `NVIDIA-A100-SXM4-80GB` is an A100."""
    words = _WORD.findall(model.upper())
    return next((BOARD_WATTS[word] for word in words if word in BOARD_WATTS), OTHER_BOARD)


def _board(models: tuple[str, ...]) -> Callable[[Site | None], float]:
    def least(site: Site | None) -> float:
        groups = site.groups if site is not None else ()
        there = {model for group in groups if group.count and group.physical_gpus for model in group.models or ("",)}
        wanted = there & set(models) if models else there
        return min((board_watts(model) for model in wanted), default=math.nan)

    return least


def _claim(fleet: Fleet, name: str) -> Floats:
    def number(facts: ClusterFacts) -> float:
        try:
            value = float(facts.claims.get(name, "nan"))
        except ValueError:
            return math.nan
        return value if 0 <= value < math.inf else math.nan

    found: Floats = fleet.facts_column(("number claimed", name), number, np.float64)
    return found
