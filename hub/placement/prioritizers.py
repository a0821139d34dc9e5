"""What a rule's prioritizers mean for jobs: which scorers count, with which weights.

Mode Additive adds the rule's to the hub's own; a name that the hub has already gets the rule's weight, 0 switches it
off. Mode Exact counts only what the rule names. Balance and Steady are for Placements only (hub/placement/decide.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from hub.fleet.facts import ClusterFacts
from hub.fleet.fleet import Fleet
from hub.placement.profiles import profiled
from hub.placement.rule import WORST, ClusterRule, MissingScore
from hub.placement.rules import ALLOCATABLE_CPU, ALLOCATABLE_MEMORY
from hub.scoring.builtin import ColumnScorer
from hub.scoring.interface import Scorer, ScoreRequest, WeightedScorer

_RESOURCES = {ALLOCATABLE_CPU: "cpu", ALLOCATABLE_MEMORY: "memory"}


class Allocatable:
    """OCM's ResourceAllocatable: the cluster's allocatable sum, whatever runs there; unknown without a capacity."""

    def __init__(self, name: str) -> None:
        self.name = name

    def score(self, fleet: Fleet, request: ScoreRequest) -> NDArray[np.float64]:
        return allocatable_column(fleet, self.name)


def allocatable_column(fleet: Fleet, name: str) -> NDArray[np.float64]:
    """Allocatable CPU (thousandths) or memory (bytes) as the ManagedCluster states it; NaN where it does not."""
    column: NDArray[np.float64] = fleet.facts_column(name, _total_of(_RESOURCES[name]), np.float64)
    return column


def scorers_for(rule: ClusterRule, defaults: Iterable[WeightedScorer]) -> tuple[WeightedScorer, ...]:
    """What orders clusters for a job with this rule, where `defaults` are the hub's own scorers."""
    defaults = profiled(rule.profile, defaults) if rule.profile else tuple(defaults)
    if not rule.weights and not rule.exact:
        return defaults
    named = {entry.name: float(entry.weight) for entry in rule.weights}
    kept = () if rule.exact else tuple(entry for entry in defaults if entry.scorer.name not in named)
    known = {entry.scorer.name: entry.scorer for entry in defaults}
    own = tuple(
        WeightedScorer(known.get(name) or _scorer(name, rule.missing), weight)
        for name, weight in named.items()
        if weight
    )
    return kept + own


class _Forgiving(ColumnScorer):
    """Scores of add-ons where an unknown one is not the worst: an old one counts for a while, it is 0 as in OCM, or the
    cluster is not chosen at all."""

    def __init__(self, name: str, missing: MissingScore) -> None:
        super().__init__(name)
        self._missing = missing
        if missing.kind == "Exclude":
            self.filter = self._known

    def score(self, fleet: Fleet, request: ScoreRequest) -> NDArray[np.float64]:
        values = fleet.scores(self.source, request.now, self._missing.max_age)
        return np.nan_to_num(values, nan=0.0) if self._missing.kind == "Neutral" else values

    def _known(self, fleet: Fleet, request: ScoreRequest) -> NDArray[np.bool_]:
        return ~np.isnan(fleet.scores(self.source, request.now))


@lru_cache(maxsize=1024)
def _scorer(name: str, missing: MissingScore = WORST) -> Scorer:
    if name in _RESOURCES:
        return Allocatable(name)
    return ColumnScorer(name) if missing == WORST else _Forgiving(name, missing)


def _total_of(resource: str) -> Callable[[ClusterFacts], float]:
    def total(facts: ClusterFacts) -> float:
        return float(facts.totals[resource]) if resource in facts.totals and resource in facts.size else np.nan

    return total
