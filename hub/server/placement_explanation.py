"""Why a Placement chose what it chose: every cluster with what is against it, or with its scores; what would change it.

Made by the code that decides, never a copy of it. The smallest change is found by trying changes one after the other on
the same snapshot, so what is said here has been seen to work.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from hub.api.timestamps import format_duration
from hub.placement.candidates import Candidates, find_candidates, weighted, weights_of
from hub.placement.decide import Decision, score_columns
from hub.placement.filters import ADDON, placement_verdicts
from hub.placement.request import parse_request
from hub.placement.rule import ClusterRule
from hub.placement.rules import ALLOCATABLE_CPU, ALLOCATABLE_MEMORY, BALANCE, STEADY
from hub.placement.what_if import smallest_change
from hub.planner.plan import Snapshot
from hub.server.placements import chosen_by_placement, decided, since_when

Json = Mapping[str, Any]
_BUILT_IN = {
    BALANCE: "how often other Placements chose the cluster",
    STEADY: "whether the Placement has chosen it already",
    ALLOCATABLE_CPU: "ManagedCluster status.allocatable.cpu, compared with the other candidates",
    ALLOCATABLE_MEMORY: "ManagedCluster status.allocatable.memory, compared with the other candidates",
}


def placement_explanation(snapshot: Snapshot, placement: Json, decisions: Iterable[Json]) -> dict[str, Any]:
    """Raises `InvalidObjectError`."""
    request = parse_request(placement)
    fleet, rule, now = snapshot.fleet, request.rule, snapshot.now
    listed = list(decisions)
    since = since_when(listed, request)
    outcome, current, counts = decided(snapshot, request, chosen_by_placement(listed), since)
    found = find_candidates(fleet, snapshot.sets, rule, now, current)
    ranks = {decision.cluster: number for number, decision in enumerate(outcome.decisions, 1)}
    passing = found.passing if isinstance(found, Candidates) else np.zeros(0, np.intp)
    columns = score_columns(fleet, rule, now, passing, current, counts)
    place = {position: at for at, position in enumerate(passing.tolist())}
    excluded = set(found.excluded.tolist()) if isinstance(found, Candidates) else set[int]()
    totals = np.zeros(len(passing), np.int64)
    for _, weight, column in columns:
        totals += weighted(rule, weight, column)
    against = placement_verdicts(fleet, snapshot.sets, rule, now, current)
    lines = []
    for position, cluster in enumerate(fleet.names):
        line: dict[str, Any] = {"cluster": cluster, "reason": "", "message": "", "rank": ranks.get(cluster, 0)}
        at = place.get(position)
        if at is not None:
            line["scores"] = [
                {
                    "scorer": name,
                    "weight": weight,
                    "raw": None if math.isnan(column[at]) else int(column[at]),
                    "weighted": int(weighted(rule, weight, column[at : at + 1])[0]),
                    "source": _source(name),
                }
                for name, weight, column in columns
            ]
            line["total"] = int(totals[at])
            if cluster in outcome.held:
                line["message"] = f"a better cluster waits: kept by its {outcome.held[cluster]}"
            elif cluster in outcome.displaced:
                line["message"] = "displaced by better ones"
            elif not line["rank"]:
                line["message"] = _behind(outcome.decisions, int(totals[at]), rule)
        elif position in excluded:
            unknown = [
                n for n in weights_of(rule) if n.startswith(ADDON) and math.isnan(fleet.scores(n, now)[position])
            ]
            line |= {
                "reason": "ScoreUnknown",
                "message": f"no score {', '.join(unknown)}, and missing-score is Exclude",
            }
        else:
            verdict = against[cluster]
            assert verdict is not None, "what passes is a candidate or excluded"
            line |= {"reason": verdict[0].code, "message": verdict[0].message(**verdict[1])}
        lines.append(line)

    def suggest(into: dict[str, Any], cluster: str) -> None:
        change = smallest_change(
            fleet, snapshot.sets, rule, now, cluster, current=current, counts=counts, stability=request.stability
        )
        if change is not None:
            into["wouldBeChosenWith"] = change.what

    document: dict[str, Any] = {
        "placement": request.key,
        "reason": outcome.reason,
        "message": outcome.message,
        "considered": {
            "clusters": len(lines),
            "passing": len(passing),
            "chosen": len(outcome.decisions),
            "wanted": rule.limit,
        },
        "clusters": lines,
    }
    if math.isfinite(outcome.until):
        document["changesIn"] = format_duration(outcome.until - now)
    if outcome.decisions and rule.limit is not None:
        last = min(decision.score for decision in outcome.decisions)
        waiting = [line for line in lines if "total" in line and not line["rank"]]
        if waiting:
            best = min(waiting, key=lambda line: (-line["total"], line["cluster"]))
            margin = last - best["total"]
            document["nextBest"] = {"cluster": best["cluster"], "total": best["total"], "margin": margin}
            suggest(document["nextBest"], best["cluster"])
    if not outcome.satisfied:
        for line in lines:
            if not line["rank"] and line["cluster"] not in outcome.clusters:
                suggest(line, line["cluster"])
    return document


def _source(scorer: str) -> str:
    """Where a score comes from, for people."""
    if scorer.startswith(ADDON):
        resource, _, score = scorer[len(ADDON) :].partition("/")
        return f"AddOnPlacementScore {resource}, score {score}"
    return _BUILT_IN[scorer]


def _behind(decisions: tuple[Decision, ...], total: int, rule: ClusterRule) -> str:
    if rule.spread and (not decisions or total >= min(decision.score for decision in decisions)):
        return "left out to keep the spread"
    if rule.limit == 0 or not decisions:
        return "no cluster is asked for"
    least = min(decision.score for decision in decisions)
    return f"{least - total} points behind the last that is chosen" if least > total else "equal, but later by name"
