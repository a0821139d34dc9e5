"""Placements as the plan shows them: decided by the production code, with OCM's groups and conditions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hub.api import names
from hub.api.errors import InvalidObjectError
from hub.controllers.placement_entry import read_chosen
from hub.placement.decide import PlacementOutcome, decide_placement
from hub.placement.groups import cut
from hub.placement.request import PlacementRequest, is_left_alone, parse_request
from hub.placement.sheets import groups_of, lay_out, status_groups
from hub.placement.stability import Held
from hub.placement.verdict import MISCONFIGURED, WELL_CONFIGURED, satisfied
from hub.planner.plan import Snapshot

Json = Mapping[str, Any]


def placement_documents(
    snapshot: Snapshot, placements: Iterable[Json], decisions: Iterable[Json]
) -> list[dict[str, Any]]:
    """Each Placement on its own, with the decisions of all others as they are now; in the order given."""
    listed = list(decisions)
    now_chosen = chosen_by_placement(listed)
    return [_document(snapshot, placement, now_chosen, listed) for placement in placements]


def chosen_by_placement(decisions: Iterable[Json]) -> dict[str, list[str]]:
    """By Placement (``namespace/name``), the clusters in its PlacementDecisions."""
    found: dict[str, list[str]] = {}
    for obj in decisions:
        meta, status = obj["metadata"], obj.get("status") or {}
        owner = (meta.get("labels") or {}).get(names.PLACEMENT)
        clusters = [str(d.get("clusterName")) for d in status.get("decisions") or () if isinstance(d, Mapping)]
        found.setdefault(f"{meta.get('namespace') or 'default'}/{owner}", []).extend(clusters)
    return found


def standing(
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


def since_when(decisions: Iterable[Json], request: PlacementRequest) -> dict[str, Held]:
    """What is written down of when the Placement's clusters were chosen."""
    found: dict[str, Held] = {}
    for obj in decisions:
        meta = obj["metadata"]
        owner = (meta.get("labels") or {}).get(names.PLACEMENT)
        if f"{meta.get('namespace') or 'default'}/{owner}" == request.key:
            found.update(read_chosen(str((meta.get("annotations") or {}).get(names.CHOSEN) or "")))
    return found


def decided(
    snapshot: Snapshot,
    request: PlacementRequest,
    chosen: Mapping[str, Sequence[str]],
    since: Mapping[str, Held],
) -> tuple[PlacementOutcome, tuple[str, ...], NDArray[np.int64]]:
    """The outcome, and what it was decided with: its own clusters, and how often others have each."""
    current, counts = standing(snapshot, request.key, chosen)
    outcome = decide_placement(
        snapshot.fleet, snapshot.sets, request.rule, snapshot.now,
        current=current, counts=counts, stability=request.stability, since=since,
    )  # fmt: skip
    return outcome, current, counts


def _document(
    snapshot: Snapshot, placement: Json, chosen: Mapping[str, Sequence[str]], decisions: Sequence[Json]
) -> dict[str, Any]:
    meta = placement["metadata"]
    key = f"{meta.get('namespace') or 'default'}/{meta['name']}"
    try:
        request = parse_request(placement)
    except InvalidObjectError as error:
        # The last good decision stays: a typo must not take a fleet's workloads away.
        return _as_it_is(key, chosen, [_condition(MISCONFIGURED, True, "Misconfigured", str(error))])
    if is_left_alone(placement):
        return _as_it_is(key, chosen, list((placement.get("status") or {}).get("conditions") or ()))
    outcome, _, _ = decided(snapshot, request, chosen, since_when(decisions, request))
    sheets = lay_out(request.name, cut(snapshot.fleet, request, (d.cluster for d in outcome.decisions)), None)
    group_of = groups_of(sheets)
    return {
        "placement": key,
        "decisions": [
            {"clusterName": d.cluster, "score": d.score, "group": group_of[d.cluster][0]} for d in outcome.decisions
        ],
        "conditions": [_condition(MISCONFIGURED, *WELL_CONFIGURED), _condition(*satisfied(outcome))],
        "groups": status_groups(sheets),
    }


def _as_it_is(key: str, chosen: Mapping[str, Sequence[str]], conditions: list[Json]) -> dict[str, Any]:
    kept = sorted(set(chosen.get(key, ())))
    return {
        "placement": key,
        "decisions": [{"clusterName": cluster, "score": None, "group": ""} for cluster in kept],
        "conditions": conditions,
        "groups": [],
    }


def _condition(kind: str, holds: bool, reason: str, message: str) -> dict[str, Any]:
    return {"type": kind, "status": str(holds), "reason": reason, "message": message}
