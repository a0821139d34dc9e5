"""What a scorer is. Three lines make one; how scores become one order is in hub/scoring/combine.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hub.fleet.fleet import Fleet
from hub.fleet.shape import TaskShape
from hub.scoring.normalise import Normaliser


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """What is to be placed. `now` is epoch seconds; a score that was valid until then is unknown.

    `data`: the sets of data that the job names, with their sizes in bytes (hub/scoring/locality.py).
    """

    shape: TaskShape
    count: int
    now: float
    data: tuple[tuple[str, int], ...] = ()


class Scorer(Protocol):
    """Scores all clusters at once. Found by entry point group ``quarterdeck.scorers``.

    Higher is better. A scorer of something that should be low, such as a price, gives the values as people know them
    and has a true attribute ``lower_is_better``. More that it may have: ``normaliser`` (a `Normaliser`: how its values
    become 0–100), ``concerns(fleet)`` (which clusters it is about at all, a mask; the others it neither helps nor
    harms), ``filter(fleet, request)`` (which clusters may be chosen, a mask), ``limit(fleet, request)`` (how many tasks
    of the shape more each may be given, whole numbers) and a true ``live``: asked anew for every choice, where a plugin
    is otherwise asked once a decision and shape. With ``reserve(cluster, request)`` and ``unreserve(cluster, request)``
    it is told of `request.count` tasks that are to run, or run no more, before it is asked (hub/scoring/reserving.py).
    A false ``publish`` keeps its values (for a task that asks for nothing) out of the hub's own AddOnPlacementScores.
    """

    @property
    def name(self) -> str:
        """Unique; what weights, explanations and metrics call it."""
        ...

    def score(self, fleet: Fleet, request: ScoreRequest) -> NDArray[np.float64]:
        """One value a cluster, in the order of `fleet.names`; NaN is unknown. Pure and quick."""
        ...


@dataclass(frozen=True, slots=True)
class WeightedScorer:
    scorer: Scorer
    weight: float


def lower_is_better(scorer: Scorer) -> bool:
    return bool(getattr(scorer, "lower_is_better", False))


def normaliser_of(scorer: Scorer) -> Normaliser | None:
    found = getattr(scorer, "normaliser", None)
    return found if isinstance(found, Normaliser) else None


def concerns(scorer: Scorer, fleet: Fleet) -> NDArray[np.bool_] | None:
    """Which clusters the scorer is about; None: all."""
    about = getattr(scorer, "concerns", None)
    found = None if about is None else about(fleet)
    return None if found is None else np.asarray(found)
