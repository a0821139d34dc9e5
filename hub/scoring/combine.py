"""How many scores become one order of clusters, with everything kept that an explanation needs.

Each scorer's values are spread over 0 (the worst candidate) to 100 (the best) and weighted; clusters are ordered by the
sum, then by name. Rules that keep this honest:

- Unknown is not zero: where a scorer knows nothing of a cluster, it counts one point below the worst that is known.
- Where all known values are equal the scorer prefers none of them: each gets 100, so that unknown is still below.
- Where low is better (a price; a negative weight) the scale is turned round first, so unknown stays last there, too.
- A scorer that raises or answers nonsense costs itself only: it is unknown everywhere, and `problems` says why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hub.fleet.fleet import Fleet
from hub.scoring.interface import ScoreRequest, WeightedScorer, lower_is_better

UNKNOWN = -1.0


@dataclass(frozen=True, slots=True)
class ScoreColumn:
    """What one scorer said, in the order of the fleet's names; NaN is unknown or no candidate.

    `normalised` is 0–100; `weighted` is what it adds to the total.
    """

    name: str
    weight: float
    raw: NDArray[np.float64]
    normalised: NDArray[np.float64]
    weighted: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Ranking:
    """`order`: positions of the candidates, best first. `total`: NaN where no candidate. `problems`: scorer → what."""

    names: tuple[str, ...]
    order: NDArray[np.intp]
    total: NDArray[np.float64]
    columns: tuple[ScoreColumn, ...]
    problems: Mapping[str, str]

    @property
    def ordered(self) -> tuple[str, ...]:
        """The candidates' names, best first."""
        return tuple(self.names[position] for position in self.order.tolist())


def rank(
    fleet: Fleet, request: ScoreRequest, scorers: Sequence[WeightedScorer], candidates: NDArray[np.bool_]
) -> Ranking:
    """Orders `candidates` (a mask in the order of `fleet.names`). The order is total: equal sums go by name."""
    chosen = np.flatnonzero(candidates)
    total = np.full(len(fleet.names), np.nan)
    total[chosen] = 0.0
    columns: list[ScoreColumn] = []
    problems: dict[str, str] = {}
    for entry in scorers:
        if not entry.weight:
            continue
        raw, problem = _ask(entry, fleet, request)
        if problem:
            problems[entry.scorer.name] = problem
        column = _column(entry, raw, chosen)
        total[chosen] += column.weighted[chosen]
        columns.append(column)
    # A stable sort over positions, which are in name order.
    order = chosen[np.argsort(-total[chosen], kind="stable")]
    return Ranking(fleet.names, order, total, tuple(columns), problems)


def _ask(entry: WeightedScorer, fleet: Fleet, request: ScoreRequest) -> tuple[NDArray[np.float64], str]:
    size = len(fleet.names)
    try:
        answer = np.asarray(entry.scorer.score(fleet, request), dtype=np.float64)
    # Whatever somebody else's code raises must not stop the others.
    except Exception as error:
        return np.full(size, np.nan), f"{type(error).__name__}: {error}"
    if answer.shape != (size,):
        return np.full(size, np.nan), f"answered shape {answer.shape}, expected ({size},)"
    broken = np.isinf(answer)
    if broken.any():
        where = fleet.names[int(np.flatnonzero(broken)[0])]
        return np.where(broken, np.nan, answer), f"answered an infinite value for {where}"
    return answer, ""


def _column(entry: WeightedScorer, raw: NDArray[np.float64], chosen: NDArray[np.intp]) -> ScoreColumn:
    normalised = np.full(raw.shape, np.nan)
    weighted = np.full(raw.shape, np.nan)
    values = raw[chosen]
    known = ~np.isnan(values)
    if known.any():
        low, high = float(values[known].min()), float(values[known].max())
        # Halved, so that the distance of two huge values is still a number.
        spread = high / 2 - low / 2
        scaled = np.full(values.shape, 100.0) if spread <= 0 else (values / 2 - low / 2) / spread * 100.0
        if spread > 0 and (entry.weight < 0) != lower_is_better(entry.scorer):
            scaled = 100.0 - scaled
        normalised[chosen] = np.where(known, scaled, np.nan)
    weighted[chosen] = np.where(known, normalised[chosen], UNKNOWN) * abs(entry.weight)
    return ScoreColumn(entry.scorer.name, entry.weight, raw, normalised, weighted)
