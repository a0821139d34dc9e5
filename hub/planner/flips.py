"""What would have sent a job elsewhere: the next best cluster, and the least change found with which it gets tasks.

As with everything that is said of changes, each is made and decided again, so what is named here has been seen to work.
One change at a time: a weight, by so much that the totals turn; what keeps a cluster out lifted; room made there; less
asked for. What is not tried: two changes together.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from hub.fleet.changes import Release
from hub.placement.profiles import PROFILES
from hub.placement.rule import ScoreWeight
from hub.placement.what_if import lifts
from hub.planner.cycle import Cycle
from hub.planner.edits import as_if_back, smaller_at
from hub.planner.plan import Snapshot
from hub.queueing.demand import Demand
from hub.scoring.combine import Ranking
from hub.scoring.interface import WeightedScorer

# Decisions about single jobs that one answer may cost, and clusters that are looked at.
_BUDGET: Final = 20_000
_LEAST_TRIES: Final = 12
_MOST_TRIES: Final = 60
_CLUSTERS: Final = 5
_HOLDERS: Final = 5
_HEAVIEST: Final = 10
"""What a Placement or a job may weigh a score with."""


@dataclass(frozen=True, slots=True)
class Flip:
    """`cluster` gets tasks of the job once `words` is so, a phrase; the other two are what is decided with then."""

    cluster: str
    words: str
    snapshot: Snapshot
    demand: Demand


def nearest_flip(
    snapshot: Snapshot, demand: Demand, chosen: Collection[str], ranking: Ranking | None, others: Sequence[str]
) -> Flip | None:
    """For a job that was given `chosen`. `ranking`: of the clusters with room when it was its turn. `others`: which to
    look at, the most likely first."""
    jobs = len(snapshot.demands) + len(snapshot.held)
    tries = max(_LEAST_TRIES, min(_MOST_TRIES, _BUDGET // (jobs + 1)))
    for cluster in others[:_CLUSTERS]:
        for flip in _flips(snapshot, demand, chosen, ranking, cluster):
            if tries <= 0:
                return None
            tries -= 1
            if cluster in given(flip.snapshot, flip.demand):
                return flip
    return None


def given(snapshot: Snapshot, demand: Demand) -> set[str]:
    """The clusters that the job gets when it is decided with `demand` in its place."""
    demands = tuple(demand if known.key == demand.key else known for known in snapshot.demands)
    cycle = Cycle(replace(snapshot, demands=demands))
    cycle.run(through=demand.key)
    found = next((entry for entry in cycle.plan().admissions if entry.key == demand.key), None)
    return set() if found is None else {part.cluster for part in found.slices}


def _flips(
    snapshot: Snapshot, demand: Demand, chosen: Collection[str], ranking: Ranking | None, cluster: str
) -> Iterator[Flip]:
    if ranking is not None and cluster in ranking.ordered:
        yield from _weights(snapshot, demand, chosen, ranking, cluster)
    fleet = snapshot.fleet
    if cluster not in fleet:
        return
    facts = fleet.facts(cluster)
    if not facts.available and facts.accepted:
        yield Flip(cluster, f"{cluster} back", as_if_back(snapshot, cluster), demand)
    for lift in lifts(fleet, snapshot.sets, demand.rule, snapshot.now, cluster, demand.running):
        changed = replace(snapshot, fleet=lift.fleet, sets=lift.sets)
        yield Flip(cluster, lift.what, changed, replace(demand, rule=lift.rule))
    for number, key in enumerate(sorted(fleet.held(cluster), key=lambda key: (fleet.held(cluster)[key].count, key))):
        if number < _HOLDERS:
            freed = replace(snapshot, fleet=fleet.apply([Release(key)]))
            yield Flip(cluster, f"{key} there ended", freed, demand)
    for edit in smaller_at(snapshot, demand, cluster):
        yield Flip(cluster, edit.words, edit.snapshot, edit.demand)


def _weights(
    snapshot: Snapshot, demand: Demand, chosen: Collection[str], ranking: Ranking, cluster: str
) -> Iterator[Flip]:
    """The least weight of one scorer with which the cluster overtakes the last of the chosen ones, nearest first."""
    order = ranking.ordered
    last = next((name for name in reversed(order) if name in chosen), None)
    if last is None:
        return
    at, to = ranking.names.index(cluster), ranking.names.index(last)
    behind = float(ranking.total[to] - ranking.total[at])
    found: list[tuple[float, str, float, float]] = []
    for column in ranking.columns:
        gain = float(column.weighted[at] - column.weighted[to]) / abs(column.weight)
        if not math.isfinite(gain) or gain == 0:
            continue
        # Equal is enough for the first by name.
        more = behind / gain
        size = abs(column.weight) + more
        whole = _is_whole(demand, column.name)
        size = _beyond(size, grows=more >= 0, whole=whole, strict=cluster > last)
        if size < 0 or (whole and size > _HEAVIEST):
            continue
        weight = math.copysign(size, column.weight)
        found.append((abs(size - abs(column.weight)), column.name, column.weight, weight))
    for _, name, before, after in sorted(found):
        flip = _weighing(snapshot, demand, cluster, name, before, after)
        if flip is not None:
            yield flip


def _beyond(size: float, *, grows: bool, whole: bool, strict: bool) -> float:
    """The next weight that people would write, a hair beyond `size`."""
    step = 1.0 if whole else 0.01
    steps = size / step
    rounded = math.ceil(steps - 1e-9) if grows else math.floor(steps + 1e-9)
    if strict and math.isclose(rounded, steps, abs_tol=1e-6):
        rounded += 1 if grows else -1
    return round(rounded * step, 2)


def _is_whole(demand: Demand, name: str) -> bool:
    """Whether it is the rule that weighs this scorer: in whole numbers."""
    return demand.rule.exact or any(entry.name == name for entry in demand.rule.weights)


def _weighing(snapshot: Snapshot, demand: Demand, cluster: str, name: str, before: float, after: float) -> Flip | None:
    rule = demand.rule
    said = f"weight {after:g} instead of {before:g} for {name}"
    if _is_whole(demand, name):
        others = tuple(entry for entry in rule.weights if entry.name != name)
        weights = tuple(sorted((*others, ScoreWeight(name, int(after))), key=lambda entry: entry.name))
        return Flip(
            cluster, f"{said} in prioritizerPolicy", snapshot, replace(demand, rule=replace(rule, weights=weights))
        )
    if rule.profile and name in PROFILES.get(rule.profile, {}):
        # The profile weighs it, whatever the hub is configured to.
        return None
    scorers = tuple(
        WeightedScorer(entry.scorer, after) if entry.scorer.name == name else entry for entry in snapshot.scorers
    )
    return Flip(cluster, f"{said} in the hub's scorers.weights", replace(snapshot, scorers=scorers), demand)
