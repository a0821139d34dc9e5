"""Placements as the plan shows them: decided by the production code, with OCM's groups and conditions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hub.api.errors import InvalidObjectError
from hub.placement.decide import Decision, decide_placement, score_columns, weighted
from hub.placement.filters import allowed_sets, matching, tolerated, verdicts
from hub.placement.rules import parse_rule
from hub.placement.selectors import matches, parse_claim_selector, parse_label_selector
from hub.planner.plan import Snapshot

Json = Mapping[str, Any]
PLACEMENT_LABEL: Final = "cluster.open-cluster-management.io/placement"
_ENTRIES: Final = 100
"""A PlacementDecision holds at most so many clusters."""


def placement_documents(
    snapshot: Snapshot, placements: Iterable[Json], decisions: Iterable[Json]
) -> list[dict[str, Any]]:
    """Each Placement on its own, with the decisions of all others as they are now; in the order given."""
    now_chosen = _chosen(decisions)
    return [_document(snapshot, placement, now_chosen) for placement in placements]


def placement_explanation(snapshot: Snapshot, placement: Json, decisions: Iterable[Json]) -> dict[str, Any]:
    """Every cluster with the first thing against it, or every prioritizer's score. Raises `InvalidObjectError`."""
    meta = placement["metadata"]
    namespace, name = str(meta.get("namespace") or "default"), str(meta["name"])
    rule = parse_rule(namespace, placement.get("spec") or {}, name, jobs=False)
    fleet, sets, now = snapshot.fleet, snapshot.sets, snapshot.now
    chosen = _chosen(decisions)
    current, counts = _present(snapshot, f"{namespace}/{name}", chosen)
    outcome = decide_placement(fleet, sets, rule, now, current=current, counts=counts)
    ranks = {decision.cluster: number for number, decision in enumerate(outcome.decisions, 1)}
    # A Placement may choose clusters that are not available: OCM leaves that to taints.
    allowed = allowed_sets(fleet, sets, rule)
    passing = np.flatnonzero(allowed & matching(fleet, rule) & tolerated(fleet, rule, now, current))
    columns = score_columns(fleet, rule, now, passing, current, counts)
    position = {cluster: number for number, cluster in enumerate(passing.tolist())}
    against = verdicts(fleet, sets, rule, now, current)
    clusters = []
    for cluster, cluster_name in enumerate(fleet.names):
        line: dict[str, Any] = {
            "cluster": cluster_name,
            "reason": "",
            "message": "",
            "rank": ranks.get(cluster_name, 0),
        }
        at = position.get(cluster)
        verdict = against[cluster_name]
        if at is None and verdict is not None:
            line |= {"reason": verdict[0].code, "message": verdict[0].message(**verdict[1])}
        elif at is not None:
            line["scores"] = [
                {
                    "scorer": scorer,
                    "weight": weight,
                    "raw": None if np.isnan(column[at]) else int(column[at]),
                    "weighted": int(weighted(weight, column[at : at + 1])[0]),
                }
                for scorer, weight, column in columns
            ]
            line["total"] = sum(score["weighted"] for score in line["scores"])
        clusters.append(line)
    return {
        "placement": f"{namespace}/{name}",
        "reason": outcome.reason,
        "message": outcome.message,
        "clusters": clusters,
    }


def _chosen(decisions: Iterable[Json]) -> dict[str, list[str]]:
    """By Placement, the clusters in its PlacementDecisions."""
    found: dict[str, list[str]] = {}
    for obj in decisions:
        meta, status = obj["metadata"], obj.get("status") or {}
        owner = (meta.get("labels") or {}).get(PLACEMENT_LABEL)
        clusters = [str(d.get("clusterName")) for d in status.get("decisions") or () if isinstance(d, Mapping)]
        found.setdefault(f"{meta.get('namespace') or 'default'}/{owner}", []).extend(clusters)
    return found


def _present(
    snapshot: Snapshot, key: str, chosen: Mapping[str, Sequence[str]]
) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """What the Placement has chosen before, and how often each cluster is chosen by all others."""
    fleet = snapshot.fleet
    counts = np.zeros(len(fleet.names), np.int64)
    for other, clusters in chosen.items():
        for cluster in clusters if other != key else ():
            if cluster in fleet:
                counts[fleet.position(cluster)] += 1
    return tuple(sorted(set(chosen.get(key, ())))), counts


def _document(snapshot: Snapshot, placement: Json, chosen: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    meta, spec = placement["metadata"], placement.get("spec") or {}
    namespace, name = str(meta.get("namespace") or "default"), str(meta["name"])
    key = f"{namespace}/{name}"
    try:
        rule = parse_rule(namespace, spec, name, jobs=False)
        strategy = _groups(spec)
        per_group = _per_group(spec)
    except InvalidObjectError as error:
        conditions = [_condition("PlacementMisconfigured", True, "Misconfigured", str(error))]
        return {"placement": key, "decisions": [], "conditions": conditions, "groups": []}
    current, counts = _present(snapshot, key, chosen)
    outcome = decide_placement(snapshot.fleet, snapshot.sets, rule, snapshot.now, current=current, counts=counts)
    cut = _cut(snapshot, outcome.decisions, strategy, per_group)
    group_of = {cluster: group for group, clusters in cut for cluster in clusters}
    return {
        "placement": key,
        "decisions": [
            {"clusterName": d.cluster, "score": d.score, "group": group_of[d.cluster]} for d in outcome.decisions
        ],
        "conditions": [
            _condition("PlacementMisconfigured", False, "Succeedconfigured", "Placement configurations check pass"),
            _condition("PlacementSatisfied", outcome.satisfied, outcome.reason, outcome.message),
        ],
        "groups": _status_groups(name, cut),
    }


def _condition(kind: str, holds: bool, reason: str, message: str) -> dict[str, Any]:
    return {"type": kind, "status": str(holds), "reason": reason, "message": message}


_Strategy = Sequence[tuple[str, Any, Any]]


def _groups(spec: Json) -> _Strategy:
    """(name, labels, claims) of each group that the author named."""
    strategy = (spec.get("decisionStrategy") or {}).get("groupStrategy") or {}
    found = []
    for number, entry in enumerate(strategy.get("decisionGroups") or ()):
        field = f"decisionStrategy.groupStrategy.decisionGroups[{number}].groupClusterSelector"
        selector = entry.get("groupClusterSelector") or {}
        labels = parse_label_selector(selector.get("labelSelector"), f"{field}.labelSelector")
        claims = parse_claim_selector(selector.get("claimSelector"), f"{field}.claimSelector")
        found.append((str(entry.get("groupName") or ""), labels, claims))
    return found


def _per_group(spec: Json) -> int | str:
    strategy = (spec.get("decisionStrategy") or {}).get("groupStrategy") or {}
    value = strategy.get("clustersPerDecisionGroup", "100%")
    field = "decisionStrategy.groupStrategy.clustersPerDecisionGroup"
    if isinstance(value, str):
        number = value.removesuffix("%")
        if not value.endswith("%") or not number.isdecimal():
            raise InvalidObjectError(f"{value!r} is neither a number nor a percentage such as 25%", field=field)
        return value
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidObjectError(f"{value!r} is neither a number nor a percentage such as 25%", field=field)
    return value


def _cut(
    snapshot: Snapshot, decisions: Sequence[Decision], strategy: _Strategy, per_group: int | str
) -> list[tuple[str, list[str]]]:
    """Groups in their order; within one, clusters by name, as OCM writes them."""
    left = sorted(decision.cluster for decision in decisions)
    total = len(left)
    size = per_group if isinstance(per_group, int) else -(-int(per_group.removesuffix("%")) * total // 100)
    if size <= 0 or size > total:
        size = total
    cut: list[tuple[str, list[str]]] = []
    for name, labels, claims in [*strategy, ("", (), ())]:
        facts = {cluster: snapshot.fleet.facts(cluster) for cluster in left}
        members = [c for c in left if matches(labels, facts[c].labels) and matches(claims, facts[c].claims)]
        left = [cluster for cluster in left if cluster not in set(members)]
        cut += [(name, members[start : start + size]) for start in range(0, len(members), max(size, 1))]
    return cut or [("", [])]


def _status_groups(name: str, cut: Sequence[tuple[str, Sequence[str]]]) -> list[dict[str, Any]]:
    groups, number = [], 0
    for index, (group, clusters) in enumerate(cut):
        objects = max(1, -(-len(clusters) // _ENTRIES))
        names = [f"{name}-decision-{number + offset}" for offset in range(1, objects + 1)]
        number += objects
        groups.append(
            {
                "decisionGroupIndex": index,
                "decisionGroupName": group,
                "decisions": names,
                "clusterCount": len(clusters),
            }
        )
    return groups
