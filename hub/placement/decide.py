"""The decisions of a plain Placement: filter, score, order, cut. Pure; as OCM decides, to the point of its integers.

Different on purpose: a score that is missing or too old is unknown and counts less than the worst that is known, where
OCM reads it as 0 and lets it beat every negative one; and a cluster with the deletion timestamp is never chosen anew.
Groups and the objects that carry the decisions are not made here.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hub.fleet.fleet import Fleet
from hub.placement.filters import allowed_sets, matching, tolerated
from hub.placement.prioritizers import allocatable_column
from hub.placement.rule import ClusterRule
from hub.placement.rules import ALLOCATABLE_CPU, ALLOCATABLE_MEMORY, BALANCE, STEADY
from hub.placement.sets import ClusterSets

Ints = NDArray[np.int64]
# Scores go from −100 to 100.
UNKNOWN_SCORE = -101


@dataclass(frozen=True, slots=True)
class Decision:
    """`score`: the weighted sum that decided."""

    cluster: str
    score: int


@dataclass(frozen=True, slots=True)
class PlacementOutcome:
    """`decisions` in the order of choice. `reason` and `message` are those of OCM's condition PlacementSatisfied."""

    decisions: tuple[Decision, ...]
    satisfied: bool
    reason: str
    message: str


def decide_placement(
    fleet: Fleet,
    sets: ClusterSets,
    rule: ClusterRule,
    now: float,
    *,
    current: Collection[str] = (),
    counts: Ints | None = None,
) -> PlacementOutcome:
    """`current`: what it decided before. `counts`: how often each cluster is in the decisions of all other Placements,
    in the order of `fleet.names`; None: nowhere.
    """
    bound = sets.bound(rule.namespace)
    if not bound:
        return _nothing(
            "NoManagedClusterSetBindings", "No valid ManagedClusterSetBindings found in placement namespace"
        )
    chosen = tuple(name for name in bound if not rule.sets or name in rule.sets)
    if not chosen:
        names = ",".join(rule.sets)
        return _nothing("NoIntersection", f"None of ManagedClusterSets [{names}] is bound to placement namespace")
    members = allowed_sets(fleet, sets, rule) & ~_leaving(fleet)
    if not members.any():
        names = ",".join(chosen)
        return _nothing("AllManagedClusterSetsEmpty", f"All ManagedClusterSets [{names}] have no member ManagedCluster")
    passing = np.flatnonzero(members & matching(fleet, rule) & tolerated(fleet, rule, now, current))
    total = _scores(fleet, rule, now, passing, current, counts)
    order = _best(total, len(passing) if rule.limit is None else rule.limit)
    decisions = tuple(
        Decision(fleet.names[position], score)
        for position, score in zip(passing[order].tolist(), total[order].tolist(), strict=True)
    )
    missing = 0 if rule.limit is None else rule.limit - len(decisions)
    if not decisions:
        return _nothing("NoManagedClusterMatched", "No ManagedCluster matches any of the cluster predicate")
    if missing > 0:
        return PlacementOutcome(
            decisions, False, "NotAllDecisionsScheduled", f"{missing} cluster decisions unscheduled"
        )
    return PlacementOutcome(decisions, True, "AllDecisionsScheduled", "All cluster decisions scheduled")


def weights_of(rule: ClusterRule) -> dict[str, int]:
    """Prioritizers and their weights: in mode Additive Balance and Steady count 1 unless the rule says otherwise."""
    weights = {} if rule.exact else {BALANCE: 1, STEADY: 1}
    weights.update((entry.name, entry.weight) for entry in rule.weights)
    return {name: weight for name, weight in weights.items() if weight}


def score_columns(
    fleet: Fleet,
    rule: ClusterRule,
    now: float,
    passing: NDArray[np.intp],
    current: Collection[str] = (),
    counts: Ints | None = None,
) -> list[tuple[str, int, NDArray[np.float64]]]:
    """What `decide_placement` adds up: (prioritizer, weight, score of each of `passing`: −100 … 100, NaN unknown)."""
    columns: list[tuple[str, int, NDArray[np.float64]]] = []
    for name, weight in weights_of(rule).items():
        if name == BALANCE:
            column = _balance(counts, passing)
        elif name == STEADY:
            column = _steady(fleet, current, passing)
        elif name in (ALLOCATABLE_CPU, ALLOCATABLE_MEMORY):
            column = _spread(allocatable_column(fleet, name)[passing])
        else:
            column = fleet.scores(name, now)[passing]
        columns.append((name, weight, column))
    return columns


def weighted(weight: int, column: NDArray[np.float64]) -> Ints:
    """What a column adds to the sum; cut to integers, as OCM does."""
    known = ~np.isnan(column)
    if known.all():
        return column.astype(np.int64) * weight
    values = np.where(known, column, 0.0).astype(np.int64)
    return np.where(known, values * weight, UNKNOWN_SCORE * abs(weight))


def _scores(
    fleet: Fleet,
    rule: ClusterRule,
    now: float,
    passing: NDArray[np.intp],
    current: Collection[str],
    counts: Ints | None,
) -> Ints:
    total = np.zeros(len(passing), np.int64)
    for _, weight, column in score_columns(fleet, rule, now, passing, current, counts):
        total += weighted(weight, column)
    return total


def _balance(counts: Ints | None, passing: NDArray[np.intp]) -> NDArray[np.float64]:
    most = 0 if counts is None or not len(counts) else int(counts.max())
    if counts is None or not most:
        return np.full(len(passing), 100.0)
    # Cut off before it is doubled, as OCM does.
    return 2.0 * np.trunc(100.0 * (0.5 - counts[passing] / most))


def _steady(fleet: Fleet, current: Collection[str], passing: NDArray[np.intp]) -> NDArray[np.float64]:
    held = np.zeros(len(fleet.names))
    held[[fleet.position(name) for name in current if name in fleet]] = 100.0
    return held[passing]


def _spread(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """−100 for the least, 100 for the most; 100 for all where there is no difference."""
    known = ~np.isnan(values)
    if not known.any():
        return values
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    if low == high:
        return np.where(known, 100.0, np.nan)
    return np.trunc(((values - low) / (high - low) - 0.5) * 2.0 * 100.0)


def _best(total: Ints, wanted: int) -> NDArray[np.intp]:
    """Positions of the `wanted` highest, best first, equals in name order; without sorting the rest."""
    if wanted < len(total) // 4:
        if wanted <= 0:
            return np.zeros(0, np.intp)
        least = np.partition(total, len(total) - wanted)[len(total) - wanted]
        above = np.flatnonzero(total > least)
        equal = np.flatnonzero(total == least)[: wanted - len(above)]
        among = np.sort(np.concatenate([above, equal]))
        return among[np.argsort(-total[among], kind="stable")]
    return np.argsort(-total, kind="stable")[:wanted]


def _leaving(fleet: Fleet) -> NDArray[np.bool_]:
    return fleet.facts_column("leaving", lambda facts: facts.deleting, np.bool_)


def _nothing(reason: str, message: str) -> PlacementOutcome:
    return PlacementOutcome((), False, reason, message)
