"""The scorers that every hub has, and how much each counts unless somebody says otherwise.

They read what the clusters report themselves, so they work without Prometheus. Each is exact about the shape that is to
be placed: sums over a cluster hide that its free GPUs are in pieces.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from hub.api import names
from hub.fleet.facts import ClusterFacts
from hub.fleet.fleet import Fleet
from hub.fleet.shape import TaskShape
from hub.fleet.site import Site
from hub.scoring.interface import ScoreRequest, WeightedScorer
from hub.scoring.mix import NOTHING_SEEN, ShapeMix
from hub.scoring.packing import Fragmentation, Scarcity

Floats = NDArray[np.float64]
_GIB = float(1 << 30)


class FreeSlots:
    """How many more tasks of the shape have room now: for a GPU job, its GPUs as they can really be used."""

    name = "FreeSlots"

    def score(self, fleet: Fleet, request: ScoreRequest) -> Floats:
        return np.where(fleet.reported, fleet.fit(request.shape).astype(np.float64), np.nan)


class FreeShare:
    """The part (0–1) that stays free of the scarcest resource of the shape once a task is placed."""

    name = "FreeShare"

    def score(self, fleet: Fleet, request: ScoreRequest) -> Floats:
        asked = _asked(request.shape)
        if not asked:
            return np.where(fleet.reported, 1.0, np.nan)
        resources = tuple(resource for resource, _ in asked)
        free, offered = fleet.free_of(resources), fleet.allocatable_of(resources)
        # A cluster without any of it has nothing left of it.
        share = (free - [amount for _, amount in asked]) / np.where(offered > 0, offered, np.inf)
        least = share[:, 0]
        for column in range(1, len(asked)):
            least = np.minimum(least, share[:, column])
        return np.minimum(np.maximum(least, 0.0), 1.0)


class Price:
    """What an hour of one task costs, by the cluster's own prices, on the cheapest GPU model there that will do."""

    name = "Price"
    lower_is_better = True

    def score(self, fleet: Fleet, request: ScoreRequest) -> Floats:
        shape = request.shape
        prices: Floats = fleet.site_column(("price", shape), lambda site: task_hour(site, shape), np.float64)
        return prices


class Carbon:
    """Grams of CO2 for a kilowatt hour, as the cluster claims it (``gco2-per-kwh``); unknown where it does not."""

    name = "Carbon"
    lower_is_better = True

    def score(self, fleet: Fleet, request: ScoreRequest) -> Floats:
        grams: Floats = fleet.facts_column("gco2-per-kwh", _grams, np.float64)
        return grams


class ColumnScorer:
    """Values that came from outside: a PromQL query, an AddOnPlacementScore. Too old is unknown, as absent is."""

    def __init__(self, name: str, source: str = "", *, lower_is_better: bool = False) -> None:
        self.name = name
        self.source = source or name
        self.lower_is_better = lower_is_better

    def score(self, fleet: Fleet, request: ScoreRequest) -> Floats:
        return fleet.scores(self.source, request.now)


def task_hour(site: Site | None, shape: TaskShape) -> float:
    """NaN where nothing that the task asks for has a price.

    What has none beside what has one is taken to be part of it, as clouds sell machines: memory with the CPU, both
    with the GPU. A GPU without a price is never free.
    """
    if site is None:
        return math.nan
    prices = site.prices
    gpu = 0.0
    if shape.gpu_milli:
        models = {model for group in site.groups if group.count and group.gpus.count for model in group.models}
        wanted = models & set(shape.gpu_models) if shape.gpu_models else models
        known = [prices.gpu_hour[model] for model in wanted if model in prices.gpu_hour]
        if not known:
            return math.nan
        gpu = min(known) * shape.gpu_milli / 1000
    total = gpu
    for amount, price in (
        (shape.request("cpu") / 1000, prices.cpu_hour),
        (shape.request("memory") / _GIB, prices.memory_gib_hour),
    ):
        total += amount * (price or 0.0)
    return total if shape.gpu_milli or prices.cpu_hour is not None or prices.memory_gib_hour is not None else math.nan


def default_scorers(mix: ShapeMix = NOTHING_SEEN) -> tuple[WeightedScorer, ...]:
    """What decides where nobody configured anything. `mix`: what is typically asked for; it decides about GPUs only.

    Room for the exact shape and what is left for the tasks to come count most: `bench/openb` says what that is worth.
    The free share spreads load between sites of different size, and the price decides between equals without sending
    everything to the cheapest.
    """
    scorers = (WeightedScorer(FreeSlots(), 2.0), WeightedScorer(FreeShare(), 1.0), WeightedScorer(Price(), 1.0))
    if not mix.typical:
        return scorers
    return (*scorers, WeightedScorer(Fragmentation(mix), 2.0), WeightedScorer(Scarcity(mix), 2.0))


def _grams(facts: ClusterFacts) -> float:
    try:
        value = float(facts.claims.get("gco2-per-kwh", "nan"))
    except ValueError:
        return math.nan
    return value if 0 <= value < math.inf else math.nan


def _asked(shape: TaskShape) -> list[tuple[str, float]]:
    asked = [(name, float(amount)) for name, amount in shape.requests if name != names.GPU]
    if shape.gpu_milli:
        asked.append((names.GPU, shape.gpu_milli / 1000))
    return asked
