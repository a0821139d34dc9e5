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
from hub.placement.rule import ClusterRule
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
    own = tuple(WeightedScorer(known.get(name) or _scorer(name), weight) for name, weight in named.items() if weight)
    return kept + own


@lru_cache(maxsize=1024)
def _scorer(name: str) -> Scorer:
    return Allocatable(name) if name in _RESOURCES else ColumnScorer(name)


def _total_of(resource: str) -> Callable[[ClusterFacts], float]:
    def total(facts: ClusterFacts) -> float:
        return float(facts.totals[resource]) if resource in facts.totals and resource in facts.size else np.nan

    return total
