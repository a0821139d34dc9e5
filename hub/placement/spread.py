"""Choosing clusters so that they are spread over topologies: a skew over a label or a claim, as spreadPolicy says it.

Clusters are taken one by one in the order of their rank; each time the best one that breaks no hard constraint and as
few soft ones as possible. That is exact for one constraint; several hard ones together may leave out a cluster that a
search through all combinations would have placed.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from functools import partial

from hub.fleet.facts import ClusterFacts
from hub.fleet.fleet import Fleet
from hub.placement.rule import SpreadConstraint

# A topology of clusters that have none: no skew is counted there.
NOWHERE = ""


def spread(
    fleet: Fleet, constraints: Sequence[SpreadConstraint], candidates: Iterable[int], ranked: Sequence[int], limit: int
) -> list[int]:
    """At most `limit` of `ranked` (positions in `fleet.names`, best first), in the order they were taken.

    `candidates` are all clusters that could be chosen: their topologies are those that count as empty.
    """
    topologies = [topologies_of(fleet, constraint) for constraint in constraints]
    candidates = list(candidates)
    taken: list[Counter[str]] = [
        Counter({column[position]: 0 for position in candidates if column[position] != NOWHERE})
        for column in topologies
    ]
    # Clusters of the same topologies differ in rank only: of each such class only the first is ever looked at.
    classes: dict[tuple[str, ...], deque[tuple[int, int]]] = {}
    for rank, position in enumerate(ranked):
        classes.setdefault(tuple(column[position] for column in topologies), deque()).append((rank, position))
    chosen: list[int] = []
    while len(chosen) < limit and classes:
        least = [min(counts.values(), default=0) for counts in taken]
        best: tuple[int, int] | None = None
        found: tuple[str, ...] | None = None
        for where, waiting in classes.items():
            broken = breaks(constraints, where, taken, least)
            if broken is not None and (best is None or (broken, waiting[0][0]) < best):
                best, found = (broken, waiting[0][0]), where
        if found is None:
            break
        _, position = classes[found].popleft()
        if not classes[found]:
            del classes[found]
        for topology, counts in zip(found, taken, strict=True):
            if topology != NOWHERE:
                counts[topology] += 1
        chosen.append(position)
    return chosen


def breaks(
    constraints: Sequence[SpreadConstraint],
    where: tuple[str, ...],
    taken: Sequence[Counter[str]],
    least: Sequence[int],
) -> int | None:
    """How many soft constraints one more there (a cluster, or a task) would break; None: a hard one."""
    broken = 0
    for constraint, topology, counts, fewest in zip(constraints, where, taken, least, strict=True):
        if topology != NOWHERE and counts[topology] + 1 - fewest <= constraint.skew:
            continue
        if constraint.hard:
            return None
        broken += 1
    return broken


def topologies_of(fleet: Fleet, constraint: SpreadConstraint) -> Sequence[str]:
    """The topology of each cluster, in the order of `fleet.names`; `NOWHERE` where it has none."""
    column = fleet.facts_column(("topology", constraint.key, constraint.claim), partial(_topology, constraint), object)
    found: list[str] = column.tolist()
    return found


def _topology(constraint: SpreadConstraint, facts: ClusterFacts) -> str:
    return (facts.claims if constraint.claim else facts.labels).get(constraint.key, NOWHERE)
