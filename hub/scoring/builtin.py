"""The scorers that every hub has, and how much each counts unless somebody says otherwise.

They read what the clusters report themselves, so they work without Prometheus. Each is exact about the shape that is to
be placed: sums over a cluster hide that its free GPUs are in pieces.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from hub.api import names
from hub.fleet.fleet import Fleet
from hub.fleet.shape import TaskShape
from hub.scoring.energy import Carbon, Energy
from hub.scoring.experience import failure_rate, start_delay
from hub.scoring.interface import Scorer, ScoreRequest, WeightedScorer
from hub.scoring.locality import DataLocality, Egress
from hub.scoring.mix import NOTHING_SEEN, ShapeMix
from hub.scoring.packing import Fragmentation, Scarcity
from hub.scoring.price import Price, task_hour

__all__ = ["ColumnScorer", "FreeShare", "FreeSlots", "Price", "default_scorers", "task_hour"]

Floats = NDArray[np.float64]


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


class ColumnScorer:
    """Values that came from outside: a PromQL query, an AddOnPlacementScore. Too old is unknown, as absent is."""

    def __init__(self, name: str, source: str = "", *, lower_is_better: bool = False) -> None:
        self.name = name
        self.source = source or name
        self.lower_is_better = lower_is_better

    def score(self, fleet: Fleet, request: ScoreRequest) -> Floats:
        return fleet.scores(self.source, request.now)


# What has a weight only where somebody gives it one: the hub's configuration, or a profile.
_ON_REQUEST: Final[tuple[Scorer, ...]] = (Energy(), Carbon(), DataLocality(), Egress(), failure_rate(), start_delay())


def default_scorers(mix: ShapeMix = NOTHING_SEEN) -> tuple[WeightedScorer, ...]:
    """What decides where nobody configured anything. `mix`: what is typically asked for; it decides about GPUs only.

    Those with weight 0 are there to be given one.

    Room for the exact shape and what is left for the tasks to come count most: `bench/openb` says what that is worth.
    The free share spreads load between sites of different size, and the price decides between equals without sending
    everything to the cheapest.
    """
    scorers = [WeightedScorer(FreeSlots(), 2.0), WeightedScorer(FreeShare(), 1.0), WeightedScorer(Price(), 1.0)]
    if mix.typical:
        scorers += [WeightedScorer(Fragmentation(mix), 2.0), WeightedScorer(Scarcity(mix), 2.0)]
    return (*scorers, *(WeightedScorer(scorer, 0.0) for scorer in _ON_REQUEST))


def _asked(shape: TaskShape) -> list[tuple[str, float]]:
    asked = [(name, float(amount)) for name, amount in shape.requests if name != names.GPU]
    if shape.gpu_milli:
        asked.append((names.GPU, shape.gpu_milli / 1000))
    return asked
