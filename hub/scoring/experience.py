"""What the hub has seen of its own slices on each cluster: how often they fail there, and how long they take to start.

One slice is one observation, however many tasks it has, so that an array with a mistake in its program says little.
Observations fade, so that a cluster that was mended is trusted again. What a slice was and when it ended is told by
hub/controllers/experience.py; nothing here looks at a clock.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hub.fleet.fleet import Fleet
from hub.scoring.interface import ScoreRequest
from hub.scoring.normalise import Normaliser

Floats = NDArray[np.float64]
HALF_LIFE: Final = 6 * 3600.0
"""Seconds after which an observation counts half."""
PRIOR: Final = 3.0
"""So many observations like the fleet's mean are added to each cluster's own: a first failure decides nothing."""
KEPT: Final = 32
"""So many slices of each cluster are remembered, the newest ones."""
_NOTHING: Final = 2.0**-12


@dataclass(frozen=True, slots=True)
class Observation:
    """`value`: what part of the slice's ended tasks failed (0–1), or seconds that it took to start. `at`: epoch s."""

    cluster: str
    value: float
    at: float


class Experience:
    """The newest observations of each cluster, by key; one that is told twice counts once, and one that is told
    otherwise replaces the first."""

    def __init__(self, half_life: float = HALF_LIFE, prior: float = PRIOR, kept: int = KEPT) -> None:
        self._half_life, self._prior, self._kept = half_life, prior, kept
        # (at, value) by key: few bytes each, because a hub sees thousands of slices.
        self._seen: dict[str, dict[str, tuple[float, float]]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._seen.values()))

    def tell(self, key: str, observation: Observation) -> bool:
        """True when that is news. What is older than all that is kept of the cluster is none."""
        here = self._seen.setdefault(observation.cluster, {})
        found = (observation.at, observation.value)
        if here.get(key) == found:
            return False
        if key not in here and len(here) >= self._kept:
            oldest = min(here, key=lambda known: (here[known][0], known))
            if (found[0], key) < (here[oldest][0], oldest):
                return False
            del here[oldest]
        here[key] = found
        return True

    def means(self, now: float) -> dict[str, float]:
        """(Σ w·x + p·m) / (Σ w + p) of each cluster with observations x: w = 2^(−age / half-life), p the prior, m the
        same mean over the whole fleet. Rounded to four digits, so that nothing moves by rounding errors."""
        weights: dict[str, float] = {}
        values: dict[str, float] = {}
        for cluster, seen in list(self._seen.items()):
            parts = [(2.0 ** (-max(0.0, now - at) / self._half_life), value) for at, value in seen.values()]
            weight = math.fsum(part for part, _ in parts)
            if weight < _NOTHING:
                # Of what is so long ago nothing is known any more; the cluster may be gone itself.
                del self._seen[cluster]
                continue
            weights[cluster] = weight
            values[cluster] = math.fsum(part * value for part, value in parts)
        total = math.fsum(weights.values())
        mean = math.fsum(values.values()) / total if total else 0.0
        return {
            cluster: round((values[cluster] + self._prior * mean) / (weights[cluster] + self._prior), 4)
            for cluster in sorted(weights)
        }


def failed_part(succeeded: int, failed: int, *, lost: bool) -> float | None:
    """What a slice that ended says of its cluster; None: nothing. `lost`: cut off, or refused; it failed as a whole."""
    if lost:
        return 1.0
    ended = succeeded + failed
    return failed / ended if ended else None


class Remembered:
    """A column that the hub itself keeps. A cluster of which it has seen nothing yet counts as the mean of the others:
    to rank it below one that fails would keep it from ever being tried."""

    lower_is_better = True

    def __init__(self, name: str, normaliser: Normaliser) -> None:
        self.name = name
        self.normaliser = normaliser

    def score(self, fleet: Fleet, request: ScoreRequest) -> Floats:
        values = fleet.scores(self.name, request.now)
        unknown = np.isnan(values)
        if unknown.all() or not unknown.any():
            return values
        return np.where(unknown, values[~unknown].mean(), values)


FAILURE_RATE: Final = "FailureRate"
START_DELAY: Final = "StartDelay"


def failure_rate() -> Remembered:
    """The part of recent slices' tasks that failed there, 0–1; from one half on it is as bad as it can be."""
    return Remembered(FAILURE_RATE, Normaliser("minMax", low=0.0, high=0.5))


def start_delay() -> Remembered:
    """Seconds from the decision to a slice's first task, lately; from ten minutes on it is as bad as it can be."""
    return Remembered(START_DELAY, Normaliser("minMax", low=0.0, high=600.0))


def rounded(means: Mapping[str, float], step: float) -> dict[str, float]:
    """In steps, so that what hardly moved is not new to anybody."""
    return {cluster: round(round(value / step) * step, 6) for cluster, value in means.items()}
