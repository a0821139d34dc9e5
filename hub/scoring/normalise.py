"""How raw values of one scorer become scores from 0 to 100, higher better. Pure arithmetic on vectors.

Relative ways (minMax without bounds, zScore, rank) compare the candidates of one decision with each other; absolute
ones (minMax with both bounds, none) give a cluster the same score whoever else is there. Unknown (NaN) stays unknown
and is never part of a mean. What an unknown counts is hub/scoring/combine.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
KINDS: Final = ("minMax", "zScore", "rank", "sigmoid", "none")
_DEVIATIONS: Final = 3.0
# Beyond it a sigmoid is 0 or 100 in every digit, and exp overflows.
_STEEPEST: Final = 700.0


@dataclass(frozen=True, slots=True)
class Normaliser:
    """`low` and `high` bound the raw values of every kind but rank; `midpoint` and `scale` are sigmoid's, None: taken
    from the candidates (median, standard deviation)."""

    kind: str = "minMax"
    low: float | None = None
    high: float | None = None
    midpoint: float | None = None
    scale: float | None = None

    @property
    def plain(self) -> bool:
        """The spread between the candidates' own worst and best: what scorers get that say nothing."""
        return self.kind == "minMax" and self.low is None and self.high is None

    def scores(self, values: Floats, *, lower: bool = False) -> Floats:
        """`values` as 0–100; with `lower` small values are good. Infinite values are not allowed, NaN is unknown."""
        known = ~np.isnan(values)
        found = np.full(values.shape, np.nan)
        if known.any():
            found[known] = self._of_known(values[known])
        return 100.0 - found if lower else found

    def _of_known(self, values: Floats) -> Floats:
        if self.kind == "rank":
            return _ranks(values)
        values = np.clip(
            values, -math.inf if self.low is None else self.low, math.inf if self.high is None else self.high
        )
        if self.kind == "none":
            return np.clip(values, 0.0, 100.0)
        if self.kind == "zScore":
            # As parts of the largest, so that sums of huge values are still numbers.
            parts = values / (float(np.abs(values).max()) or 1.0)
            deviation = float(parts.std())
            if not deviation > 0:
                return np.full(values.shape, 50.0)
            away: Floats = np.clip((parts - parts.mean()) / deviation / _DEVIATIONS, -1.0, 1.0)
            return 50.0 + 50.0 * away
        if self.kind == "sigmoid":
            middle = float(np.median(values / 2)) * 2 if self.midpoint is None else self.midpoint
            scale = _deviation(values / 2) * 2 if self.scale is None else self.scale
            if not scale > 0:
                return np.full(values.shape, 50.0)
            with np.errstate(over="ignore"):
                away = np.clip((values / 2 - middle / 2) / scale * 2, -_STEEPEST, _STEEPEST)
            curve: Floats = 100.0 / (1.0 + np.exp(-away))
            return curve
        low = float(values.min()) if self.low is None else self.low
        high = float(values.max()) if self.high is None else self.high
        spread = high / 2 - low / 2
        if not spread > 0:
            return np.full(values.shape, 100.0 if low == high else 50.0)
        scores: Floats = np.clip((values / 2 - low / 2) / spread, 0.0, 1.0) * 100.0
        return scores


def _ranks(values: Floats) -> Floats:
    """The part of the others that is worse, with half of those that are equal; one alone is in the middle."""
    if len(values) < 2:
        return np.full(values.shape, 50.0)
    ordered = np.sort(values)
    below = ordered.searchsorted(values, side="left")
    upto = ordered.searchsorted(values, side="right")
    ranks: Floats = (below + (upto - below - 1) / 2) / (len(values) - 1) * 100.0
    return ranks


def _deviation(values: Floats) -> float:
    # By the largest, so that squares of huge values are still numbers.
    largest = float(np.abs(values).max())
    return float((values / largest).std()) * largest if largest > 0 else 0.0
