"""The decisions of a plain Placement: filter, score, order, cut. Pure; as OCM decides, to the point of its integers.

Different on purpose: a score that is missing or too old is unknown and counts less than the worst that is known (unless
the rule says otherwise), where OCM reads it as 0 and lets it beat every negative one; a taint PreferNoSelect puts a
cluster behind all others, unless it is chosen already; a cluster that nobody has accepted is not chosen; and what OCM's
API promises, spreadPolicy, is done. Groups and the objects that carry the decisions are not made here.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from hub.fleet.fleet import Fleet
from hub.placement.candidates import (
    UNKNOWN_SCORE,
    Candidates,
    Flags,
    Floats,
    Ints,
    Nobody,
    Positions,
    find_candidates,
    score_column,
    weighted,
    weights_of,
)
from hub.placement.rule import ClusterRule
from hub.placement.rules import BALANCE, STEADY
from hub.placement.sets import ClusterSets
from hub.placement.spread import spread
from hub.placement.stability import RESTLESS, Held, Stability

__all__ = [
    "UNKNOWN_SCORE", "Decision", "PlacementOutcome", "best", "choose", "decide_placement", "outcome_of",
    "score_columns", "weighted", "weights_of",
]  # fmt: skip

_NOTHING: Mapping[str, Held] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Decision:
    """`score`: the weighted sum that decided."""

    cluster: str
    score: int


@dataclass(frozen=True, slots=True)
class PlacementOutcome:
    """`decisions` in the order of choice, `clusters` the same by name. `reason` and `message` are those of OCM's
    condition PlacementSatisfied.

    `displaced`: clusters that could have stayed, and lost their place to better ones. `held`: clusters that a better
    one would have displaced, and what kept them: ``dwell``, ``hysteresis`` or ``budget``. `until`: epoch seconds at
    which time alone could change the outcome; inf: never.
    """

    decisions: tuple[Decision, ...]
    satisfied: bool
    reason: str
    message: str
    displaced: tuple[str, ...] = ()
    held: Mapping[str, str] = field(default_factory=dict)
    until: float = math.inf
    clusters: tuple[str, ...] = ()


def decide_placement(
    fleet: Fleet,
    sets: ClusterSets,
    rule: ClusterRule,
    now: float,
    *,
    current: Collection[str] = (),
    counts: Ints | None = None,
    stability: Stability = RESTLESS,
    since: Mapping[str, Held] = _NOTHING,
) -> PlacementOutcome:
    """`current`: what it decided before. `counts`: how often each cluster is in the decisions of all other Placements,
    in the order of `fleet.names`; None: nowhere. `since`: what is known of when the current ones were chosen.
    """
    found = find_candidates(fleet, sets, rule, now, current)
    return choose(fleet, rule, found, now, current=current, counts=counts, stability=stability, since=since)


def choose(
    fleet: Fleet,
    rule: ClusterRule,
    found: Candidates | Nobody,
    now: float,
    *,
    current: Collection[str] = (),
    counts: Ints | None = None,
    stability: Stability = RESTLESS,
    since: Mapping[str, Held] = _NOTHING,
) -> PlacementOutcome:
    """`decide_placement` where the candidates are known; they must have been found for the same `current`."""
    if isinstance(found, Nobody):
        return PlacementOutcome((), False, found.reason, found.message, until=found.until)
    passing, until = found.passing, found.until
    chosen = _chosen(fleet, current)
    total = found.base
    for name, weight in weights_of(rule).items():
        if name == BALANCE:
            total = total + weighted(rule, weight, _balance(counts, passing))
        elif name == STEADY:
            total = total + weight * 100 * chosen[passing].astype(np.int64)
    limit = len(passing) if rule.limit is None else rule.limit
    here = chosen[passing]
    settled = rule.limit is not None and bool(here.any()) and not bool(here.all() and limit >= len(passing))
    held: dict[str, str] = {}
    if settled and stability is not RESTLESS and stability != RESTLESS:
        order, held, ends = _settled(fleet, rule, found, total, here, limit, now, stability, since)
        until = min(until, ends)
    elif found.avoid is not None:
        order = _pick(fleet, rule, passing, np.lexsort((-total, found.avoid & ~here)), limit)
    elif rule.spread:
        order = _pick(fleet, rule, passing, np.argsort(-total, kind="stable"), limit)
    else:
        order = best(total, limit)
    decisions = tuple(
        Decision(fleet.names[position], score)
        for position, score in zip(passing[order].tolist(), total[order].tolist(), strict=True)
    )
    displaced: tuple[str, ...] = ()
    if settled:
        here[order] = False
        displaced = tuple(fleet.names[position] for position in passing[here].tolist())
    return outcome_of(rule, decisions, displaced, held, until)


def score_columns(
    fleet: Fleet,
    rule: ClusterRule,
    now: float,
    passing: Positions,
    current: Collection[str] = (),
    counts: Ints | None = None,
) -> list[tuple[str, int, Floats]]:
    """What `decide_placement` adds up: (prioritizer, weight, score of each of `passing`: −100 … 100, NaN unknown)."""
    columns: list[tuple[str, int, Floats]] = []
    for name, weight in weights_of(rule).items():
        if name == BALANCE:
            column = _balance(counts, passing)
        elif name == STEADY:
            column = np.where(_chosen(fleet, current)[passing], 100.0, 0.0)
        else:
            column = score_column(fleet, rule, name, now, passing)
        columns.append((name, weight, column))
    return columns


def outcome_of(
    rule: ClusterRule,
    decisions: tuple[Decision, ...],
    displaced: tuple[str, ...],
    held: Mapping[str, str],
    until: float,
) -> PlacementOutcome:
    """OCM's reason and message for so many decisions."""
    missing = 0 if rule.limit is None else rule.limit - len(decisions)
    if not decisions:
        said = (False, "NoManagedClusterMatched", "No ManagedCluster matches any of the cluster predicate")
    elif missing > 0:
        said = (False, "NotAllDecisionsScheduled", f"{missing} cluster decisions unscheduled")
    else:
        said = (True, "AllDecisionsScheduled", "All cluster decisions scheduled")
    clusters = tuple(sorted([decision.cluster for decision in decisions]))
    return PlacementOutcome(decisions, *said, displaced, held, until, clusters)


def _settled(
    fleet: Fleet,
    rule: ClusterRule,
    found: Candidates,
    total: Ints,
    here: Flags,
    limit: int,
    now: float,
    stability: Stability,
    since: Mapping[str, Held],
) -> tuple[Positions, dict[str, str], float]:
    """The choice where clusters that are chosen resist, what kept which, and when that ends."""
    passing = found.passing
    avoid = np.zeros(len(passing), np.bool_) if found.avoid is None else found.avoid & ~here
    restless = set(_pick(fleet, rule, passing, np.lexsort((-total, avoid)), limit).tolist())
    rank = total + stability.hysteresis * here
    pinned = np.zeros(len(passing), np.bool_)
    names, ends = fleet.names, math.inf
    for at in np.flatnonzero(here).tolist():
        known = since.get(names[passing[at]])
        if known is not None and now < known.since + stability.dwell:
            pinned[at] = True
            ends = min(ends, known.since + stability.dwell)
    dwelling = pinned.copy()
    order = _pick(fleet, rule, passing, np.lexsort((-rank, avoid, ~pinned)), limit)
    if stability.moves is not None:
        moved = [known.since for known in since.values() if known.moved and known.since + stability.window > now]
        allowed = max(0.0, stability.budget(limit) - len(moved))
        taken = np.zeros(len(passing), np.bool_)
        taken[order] = True
        lost = np.flatnonzero(here & ~taken)
        if len(lost) > allowed:
            # The best of them stay, and so do all that kept their place: it is the newcomers that have to wait.
            kept = lost[np.lexsort((-rank[lost], avoid[lost]))][: len(lost) - int(allowed)]
            pinned |= here & taken
            pinned[kept] = True
            order = _pick(fleet, rule, passing, np.lexsort((-rank, avoid, ~pinned)), limit)
            ends = min([ends, *(at + stability.window for at in moved)])
    held = {}
    for at in order.tolist():
        if here[at] and at not in restless:
            why = "dwell" if dwelling[at] else "budget" if pinned[at] else "hysteresis"
            held[names[passing[at]]] = why
    return order, held, ends


def _pick(fleet: Fleet, rule: ClusterRule, passing: Positions, ranked: Positions, limit: int) -> Positions:
    """The first `limit` of `ranked`, places in `passing`; where the rule spreads, those that are spread best."""
    if not rule.spread:
        return ranked[:limit]
    taken = spread(fleet, rule.spread, passing.tolist(), passing[ranked].tolist(), limit)
    return np.searchsorted(passing, np.array(taken, np.intp))


def _balance(counts: Ints | None, passing: Positions) -> Floats:
    most = 0 if counts is None or not len(counts) else int(counts.max())
    if counts is None or not most:
        return np.full(len(passing), 100.0)
    # Cut off before it is doubled, as OCM does.
    return 2.0 * np.trunc(100.0 * (0.5 - counts[passing] / most))


def _chosen(fleet: Fleet, current: Collection[str]) -> Flags:
    chosen = np.zeros(len(fleet.names), np.bool_)
    chosen[[fleet.position(name) for name in current if name in fleet]] = True
    return chosen


def best(total: Ints, wanted: int) -> Positions:
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
