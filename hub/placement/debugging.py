"""What OCM's debug endpoint answers of a Placement: which clusters each filter left, what each prioritizer says, sums.

The fields and their names are OCM's, so that what reads its answers reads these. What they hold is what the production
code decides by: a score that is unknown is given as the number that it counts, so that weights times scores are the
sums. Two things are not OCM's: why nothing could be decided is in `error` (there it is dropped), and a Placement that
leaves out clusters without a score shows that as one more step.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

import numpy as np

from hub.fleet.fleet import Fleet
from hub.placement.candidates import Candidates, Floats, Ints, Nobody, find_candidates, leaving, weighted
from hub.placement.decide import score_columns
from hub.placement.filters import allowed_sets, matching
from hub.placement.rule import ClusterRule
from hub.placement.sets import ClusterSets

Json = dict[str, Any]
PREDICATE: Final = "Predicate"
TAINTS: Final = "TaintToleration"
UNKNOWN: Final = "MissingScore"


def debug_result(
    fleet: Fleet,
    sets: ClusterSets,
    rule: ClusterRule,
    now: float,
    *,
    current: Collection[str] = (),
    counts: Ints | None = None,
) -> Json:
    """`filteredPipelineResults`, `prioritizeResults`, `aggregatedScores` and `error`, the last three where there is
    something to say. `current` and `counts` as for `hub.placement.decide.decide_placement`."""
    found = find_candidates(fleet, sets, rule, now, current)
    if isinstance(found, Nobody):
        return {"error": found.message}
    left = allowed_sets(fleet, sets, rule) & ~leaving(fleet) & fleet.accepted & matching(fleet, rule)
    passed = np.zeros(len(fleet.names), np.bool_)
    passed[found.passing] = True
    passed[found.excluded] = True
    steps = [_step(fleet, (PREDICATE,), left), _step(fleet, (PREDICATE, TAINTS), passed)]
    if len(found.excluded):
        passed[found.excluded] = False
        steps.append(_step(fleet, (PREDICATE, TAINTS, UNKNOWN), passed))
    result: Json = {"filteredPipelineResults": steps}
    names = [fleet.names[position] for position in found.passing.tolist()]
    columns = score_columns(fleet, rule, now, found.passing, current, counts)
    if columns:
        result["prioritizeResults"] = [
            {"name": name, "weight": weight, "scores": _scores(names, rule, weight, column)}
            for name, weight, column in columns
        ]
    if names:
        result["aggregatedScores"] = _sums(names, rule, found, columns)
    return result


def _step(fleet: Fleet, filters: tuple[str, ...], left: np.ndarray[Any, np.dtype[np.bool_]]) -> Json:
    clusters = [fleet.names[position] for position in np.flatnonzero(left).tolist()]
    return {"name": ",".join(filters), "filteredClusters": clusters}


def _scores(names: list[str], rule: ClusterRule, weight: int, column: Floats) -> dict[str, int]:
    # `weighted` is a multiple of the weight, known or not.
    counted = weighted(rule, weight, column) // weight
    return dict(zip(names, counted.tolist(), strict=True))


def _sums(names: list[str], rule: ClusterRule, found: Candidates, columns: list[tuple[str, int, Floats]]) -> list[Json]:
    total = np.zeros(len(found.passing), np.int64)
    for _, weight, column in columns:
        total += weighted(rule, weight, column)
    order = np.argsort(-total, kind="stable").tolist()
    return [{"clusterName": names[at], "score": int(total[at])} for at in order]
