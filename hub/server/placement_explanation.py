"""Why a Placement chose what it chose: every filter with what it removed, every score, and what would change it.

Made by the code that decides, never a copy of it. The smallest change is found by trying changes one after the other on
the same snapshot, so what is said here has been seen to work.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from hub.api.errors import InvalidObjectError
from hub.api.reasons import Reason
from hub.api.timestamps import format_duration
from hub.fleet.fleet import Fleet
from hub.placement.candidates import Candidates, Floats, Ints, Nobody, find_candidates, raw_column, weighted, weights_of
from hub.placement.decide import Decision, PlacementOutcome, score_columns
from hub.placement.expired import expired
from hub.placement.filters import avoided, avoids, placement_verdicts
from hub.placement.request import parse_request
from hub.placement.rule import ClusterRule
from hub.placement.rules import ALLOCATABLE_CPU, BALANCE, STEADY
from hub.placement.what_if import smallest_change
from hub.planner.plan import Snapshot
from hub.server.explained_filters import FOR_PLACEMENTS, filters
from hub.server.placements import chosen_by_placement, decided, since_when
from hub.server.score_origins import Origins

Json = Mapping[str, Any]
Line = dict[str, Any]
_SUGGESTED: Final = 20
"""For so many clusters that are not chosen it is tried out what would change that."""


def placement_explanation(
    snapshot: Snapshot, placement: Json, decisions: Iterable[Json], origins: Origins
) -> dict[str, Any]:
    """One that cannot be read is explained by what is wrong with it."""
    listed = list(decisions)
    try:
        request = parse_request(placement)
    except InvalidObjectError as error:
        return _unreadable(placement, str(error), chosen_by_placement(listed))
    fleet, rule, now = snapshot.fleet, request.rule, snapshot.now
    since = since_when(listed, request)
    outcome, current, counts = decided(snapshot, request, chosen_by_placement(listed), since)
    found = find_candidates(fleet, snapshot.sets, rule, now, current)
    against = placement_verdicts(fleet, snapshot.sets, rule, now, current)
    scores = _Scores(fleet, rule, now, found, current, counts)
    ranks = {decision.cluster: number for number, decision in enumerate(outcome.decisions, 1)}
    lines: list[Line] = []
    for position, cluster in enumerate(fleet.names):
        line: Line = {"cluster": cluster, "reason": "", "message": "", "rank": ranks.get(cluster, 0)}
        if position in scores.place:
            line |= scores.of(position)
            line |= _standing(fleet, rule, outcome, cluster, line, now)
        elif position in scores.excluded:
            unknown = ", ".join(scores.unknown(position))
            line |= {"reason": Reason.SCORE_UNKNOWN.code, "message": Reason.SCORE_UNKNOWN.message(scores=unknown)}
        else:
            verdict = against[cluster]
            assert verdict is not None, "what passes is a candidate or excluded"
            line |= {"reason": verdict[0].code, "message": verdict[0].message(**verdict[1])}
        lines.append(line)
    document: dict[str, Any] = {
        "placement": request.key,
        "reason": outcome.reason,
        "message": outcome.message,
        "considered": {
            "clusters": len(lines),
            "passing": len(scores.place),
            "chosen": len(outcome.decisions),
            "wanted": rule.limit,
        },
        "filters": filters(
            FOR_PLACEMENTS, ((line["cluster"], line["reason"], line["message"]) for line in lines if not line["rank"])
        ),
        "scorers": [origins.of(name, weight) for name, weight in weights_of(rule).items()],
        "clusters": lines,
    }
    if math.isfinite(outcome.until):
        document["changesIn"] = format_duration(outcome.until - now)

    def change(cluster: str) -> str | None:
        found = smallest_change(
            fleet, snapshot.sets, rule, now, cluster, current=current, counts=counts, stability=request.stability
        )
        return None if found is None else found.what

    document |= _changes(rule, outcome, lines, change)
    return document


def _unreadable(placement: Json, problem: str, chosen: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    meta = placement["metadata"]
    key = f"{meta.get('namespace') or 'default'}/{meta['name']}"
    kept = sorted(set(chosen.get(key, ())))
    return {
        "placement": key,
        "reason": "Misconfigured",
        "message": f"{problem}; the last good decision stays",
        "considered": {"clusters": len(kept), "passing": len(kept), "chosen": len(kept), "wanted": None},
        "filters": [],
        "scorers": [],
        "clusters": [
            {"cluster": cluster, "reason": "", "message": "chosen before", "rank": number}
            for number, cluster in enumerate(kept, 1)
        ],
    }


def _changes(
    rule: ClusterRule, outcome: PlacementOutcome, lines: list[Line], change: Callable[[str], str | None]
) -> dict[str, Any]:
    """The next best cluster, its margin, and what would do; the others get what would do for them."""
    found: dict[str, Any] = {}
    left = [line for line in lines if not line["rank"]]
    waiting = sorted((line for line in left if "total" in line), key=lambda line: (-line["total"], line["cluster"]))
    order = [*waiting, *(line for line in left if "total" not in line)]
    for line in order[:_SUGGESTED]:
        what = change(line["cluster"])
        if what is not None:
            line["wouldBeChosenWith"] = what
    if waiting and outcome.decisions and rule.limit is not None:
        best, last = waiting[0], min(decision.score for decision in outcome.decisions)
        found["nextBest"] = {"cluster": best["cluster"], "total": best["total"], "margin": last - best["total"]}
        if "wouldBeChosenWith" in best:
            found["nextBest"]["wouldBeChosenWith"] = best["wouldBeChosenWith"]
    flip = next((line for line in order if "wouldBeChosenWith" in line), None)
    if flip is not None:
        found["smallestChange"] = {"cluster": flip["cluster"], "change": flip["wouldBeChosenWith"]}
    return found


class _Scores:
    """What each prioritizer says of each candidate: as it is read, as it counts, and what that adds."""

    def __init__(
        self,
        fleet: Fleet,
        rule: ClusterRule,
        now: float,
        found: Candidates | Nobody,
        current: tuple[str, ...],
        counts: Ints,
    ) -> None:
        self._fleet, self._rule, self._now = fleet, rule, now
        candidates = isinstance(found, Candidates)
        passing = found.passing if isinstance(found, Candidates) else np.zeros(0, np.intp)
        self.place = {position: at for at, position in enumerate(passing.tolist())}
        self.excluded = set(found.excluded.tolist()) if isinstance(found, Candidates) else set[int]()
        self._columns = score_columns(fleet, rule, now, passing, current, counts) if candidates else []
        self._weighted = [weighted(rule, weight, column) for _, weight, column in self._columns]
        self._raw = {name: self._read(name, current, counts)[passing] for name, _, _ in self._columns}

    def _read(self, name: str, current: tuple[str, ...], counts: Ints) -> Floats:
        if name == BALANCE:
            return counts.astype(np.float64)
        if name == STEADY:
            return np.array([float(cluster in current) for cluster in self._fleet.names])
        found = raw_column(self._fleet, self._rule, name, self._now)
        return found / 1000.0 if name == ALLOCATABLE_CPU else found

    def of(self, position: int) -> Line:
        at = self.place[position]
        scores = [
            {
                "scorer": name,
                "weight": weight,
                "raw": _known(self._raw[name][at]),
                "normalised": None if math.isnan(column[at]) else int(column[at]),
                "weighted": int(counted[at]),
            }
            for (name, weight, column), counted in zip(self._columns, self._weighted, strict=True)
        ]
        return {"scores": scores, "total": int(sum(counted[at] for counted in self._weighted))}

    def unknown(self, position: int) -> list[str]:
        names = (name for name in weights_of(self._rule) if name not in (BALANCE, STEADY))
        columns = {name: raw_column(self._fleet, self._rule, name, self._now) for name in names}
        return [self._named(name, position) for name, column in columns.items() if math.isnan(column[position])]

    def _named(self, name: str, position: int) -> str:
        age = expired(self._fleet, name, self._now).get(self._fleet.names[position])
        return name if age is None else f"{name} (expired {format_duration(age)} ago)"


def _standing(fleet: Fleet, rule: ClusterRule, outcome: PlacementOutcome, cluster: str, line: Line, now: float) -> Line:
    """What is to be said of a candidate, chosen or not."""
    if cluster in outcome.held:
        return {"message": f"a better cluster waits: kept by its {outcome.held[cluster]}"}
    if cluster in outcome.displaced:
        return {"message": "displaced by better ones"}
    if line["rank"]:
        return {}
    gone = [
        f"{score['scorer']}: score expired {format_duration(ended[cluster])} ago"
        for score in line["scores"]
        if score["raw"] is None and cluster in (ended := expired(fleet, score["scorer"], now))
    ]
    if gone:
        return {"reason": Reason.SCORE_EXPIRED.code, "message": Reason.SCORE_EXPIRED.message(detail="; ".join(gone))}
    if avoided(fleet, rule)[fleet.position(cluster)]:
        taint = next(taint for taint in fleet.facts(cluster).taints if avoids(taint, rule.tolerations))
        return {"reason": Reason.CLUSTER_AVOIDED.code, "message": Reason.CLUSTER_AVOIDED.message(taint=taint)}
    return _behind(outcome.decisions, line["total"], rule, cluster)


def _behind(decisions: tuple[Decision, ...], total: int, rule: ClusterRule, cluster: str) -> Line:
    least = min((decision.score for decision in decisions), default=None)
    if rule.limit == 0:
        return {"message": "no cluster is asked for"}
    if rule.spread and (least is None or total >= least or len(decisions) < (rule.limit or len(decisions) + 1)):
        keys = ", ".join(f"{'claim' if c.claim else 'label'} {c.key}" for c in rule.spread)
        skew = min(constraint.skew for constraint in rule.spread)
        message = Reason.SPREAD_UNEVEN.message(clusters=cluster, key=keys, skew=skew)
        return {"reason": Reason.SPREAD_UNEVEN.code, "message": message}
    assert least is not None, "what passes is chosen while there is nothing else"
    return {
        "message": f"{least - total} points behind the last that is chosen"
        if least > total
        else "equal, but later by name"
    }


def _known(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
