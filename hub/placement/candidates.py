"""Who could be chosen for a rule and what the scores say of each, before it matters who is chosen already.

Placements with equal rules share this: it reads neither a Placement's own decisions nor those of others, which Balance
and Steady add later (hub/placement/decide.py). The integers are OCM's.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hub.fleet.fleet import Fleet
from hub.placement.filters import ADDON, allowed_sets, avoided, matching, tolerated, tolerated_next
from hub.placement.prioritizers import allocatable_column
from hub.placement.rule import ClusterRule
from hub.placement.rules import ALLOCATABLE_CPU, ALLOCATABLE_MEMORY, BALANCE, STEADY
from hub.placement.sets import ClusterSets

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Positions = NDArray[np.intp]
# Scores go from −100 to 100.
UNKNOWN_SCORE = -101


@dataclass(frozen=True, slots=True)
class Nobody:
    """Why there is nothing to choose from: OCM's reason and message."""

    reason: str
    message: str
    until: float = math.inf


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """`passing`: positions in `fleet.names`, ascending; the other vectors run along it. `base`: the weighted sum of all
    scores but Balance and Steady. `avoid`: tainted PreferNoSelect; None: nobody is. `excluded`: passed every filter,
    but a score is missing that must not be. `until`: epoch seconds at which time alone could change any of it.
    """

    passing: Positions
    base: Ints
    avoid: Flags | None
    excluded: Positions
    until: float


def find_candidates(
    fleet: Fleet, sets: ClusterSets, rule: ClusterRule, now: float, current: Collection[str] = ()
) -> Candidates | Nobody:
    """`current`: what is chosen already, which a taint NoSelectIfNew does not concern."""
    bound = sets.bound(rule.namespace)
    if not bound:
        return Nobody("NoManagedClusterSetBindings", "No valid ManagedClusterSetBindings found in placement namespace")
    chosen = tuple(name for name in bound if not rule.sets or name in rule.sets)
    if not chosen:
        names = ",".join(rule.sets)
        return Nobody("NoIntersection", f"None of ManagedClusterSets [{names}] is bound to placement namespace")
    members = allowed_sets(fleet, sets, rule) & ~leaving(fleet)
    if not members.any():
        names = ",".join(chosen)
        return Nobody("AllManagedClusterSetsEmpty", f"All ManagedClusterSets [{names}] have no member ManagedCluster")
    passing = np.flatnonzero(members & fleet.accepted & matching(fleet, rule) & tolerated(fleet, rule, now, current))
    until = tolerated_next(fleet, rule, now)
    shared = [(name, weight) for name, weight in weights_of(rule).items() if name not in (BALANCE, STEADY)]
    grace = rule.missing.max_age
    for name, _ in shared:
        if name.startswith(ADDON):
            until = min(until, fleet.scores_end(name, now, grace))
    excluded = passing[:0]
    if rule.missing.kind == "Exclude" and len(passing):
        known = np.ones(len(passing), np.bool_)
        for name, _ in shared:
            known &= ~np.isnan(raw_column(fleet, rule, name, now)[passing])
        passing, excluded = passing[known], passing[~known]
    base = np.zeros(len(passing), np.int64)
    for name, weight in shared:
        base += weighted(rule, weight, score_column(fleet, rule, name, now, passing))
    avoid = avoided(fleet, rule)[passing]
    return Candidates(passing, base, avoid if avoid.any() else None, excluded, until)


def weights_of(rule: ClusterRule) -> dict[str, int]:
    """Prioritizers and their weights: in mode Additive Balance and Steady count 1 unless the rule says otherwise."""
    weights = {} if rule.exact else {BALANCE: 1, STEADY: 1}
    weights.update((entry.name, entry.weight) for entry in rule.weights)
    return {name: weight for name, weight in weights.items() if weight}


def score_column(fleet: Fleet, rule: ClusterRule, name: str, now: float, passing: Positions) -> Floats:
    """A shared prioritizer's score of each of `passing`: −100 … 100, NaN unknown."""
    column = raw_column(fleet, rule, name, now)[passing]
    return _spread(column) if name in (ALLOCATABLE_CPU, ALLOCATABLE_MEMORY) else column


def raw_column(fleet: Fleet, rule: ClusterRule, name: str, now: float) -> Floats:
    """What a shared prioritizer reads of every cluster of the fleet, before it is compared; NaN unknown."""
    if name in (ALLOCATABLE_CPU, ALLOCATABLE_MEMORY):
        return allocatable_column(fleet, name)
    return fleet.scores(name, now, rule.missing.max_age)


def weighted(rule: ClusterRule, weight: int, column: Floats) -> Ints:
    """What a column adds to the sum; cut to integers, as OCM does."""
    known = ~np.isnan(column)
    if known.all():
        return column.astype(np.int64) * weight
    values = np.where(known, column, 0.0).astype(np.int64) * weight
    return values if rule.missing.kind == "Neutral" else np.where(known, values, UNKNOWN_SCORE * abs(weight))


def leaving(fleet: Fleet) -> Flags:
    """Clusters with a deletion timestamp: never chosen, whatever they are worth."""
    return fleet.facts_column("leaving", lambda facts: facts.deleting, np.bool_)


def _spread(values: Floats) -> Floats:
    """−100 for the least, 100 for the most; 100 for all where there is no difference."""
    known = ~np.isnan(values)
    if not known.any():
        return values
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    if low == high:
        return np.where(known, 100.0, np.nan)
    return np.trunc(((values - low) / (high - low) - 0.5) * 2.0 * 100.0)
