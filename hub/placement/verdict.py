"""What a Placement's status says: OCM's conditions and messages, each with the generation that it is about.

A Placement that cannot be read says so in PlacementMisconfigured, and keeps what it said of its decisions before: they
stay as they are, and PlacementSatisfied goes on naming the generation that they were made for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from hub.api.conditions import find_condition, with_condition
from hub.placement.decide import PlacementOutcome
from hub.placement.sheets import Sheet, status_groups

Json = dict[str, Any]
SATISFIED: Final = "PlacementSatisfied"
MISCONFIGURED: Final = "PlacementMisconfigured"
WELL_CONFIGURED: Final = (False, "Succeedconfigured", "Placement configurations check pass")
_NOBODY: Final = ("NoManagedClusterMatched", "No ManagedCluster matches any of the cluster predicate")
_LONGEST: Final = 32_768


def satisfied(outcome: PlacementOutcome) -> tuple[str, bool, str, str]:
    """(type, status, reason, message)"""
    return SATISFIED, outcome.satisfied, outcome.reason, outcome.message


def decided_status(
    status: Mapping[str, Any],
    outcome: PlacementOutcome,
    sheets: Sequence[Sheet],
    *,
    generation: int,
    now: str,
    scored: str | None,
) -> Json:
    """The status of a Placement that was decided. `now`, and `scored` (when its scores were written last; None: they
    are not), are RFC 3339."""
    conditions = _with(status.get("conditions"), MISCONFIGURED, *WELL_CONFIGURED, generation, now)
    found = {
        **status,
        "numberOfSelectedClusters": sum(len(sheet.entries) for sheet in sheets),
        "decisionGroups": status_groups(sheets),
        "conditions": _with(conditions, *satisfied(outcome), generation, now),
    }
    if scored is None:
        found.pop("lastScoreUpdateTime", None)
    else:
        found["lastScoreUpdateTime"] = scored
    return found


def misconfigured_status(status: Mapping[str, Any], problem: str, *, generation: int, now: str) -> Json:
    """The status of a Placement that cannot be read."""
    before = status.get("conditions")
    conditions = _with(before, MISCONFIGURED, True, "Misconfigured", problem, generation, now)
    if find_condition(before, SATISFIED) is None:
        conditions = _with(conditions, SATISFIED, False, *_NOBODY, generation, now)
    return {**status, "conditions": conditions}


def _with(
    conditions: Sequence[Mapping[str, Any]] | None,
    kind: str,
    holds: bool,
    reason: str,
    message: str,
    generation: int,
    now: str,
) -> list[Json]:
    return with_condition(conditions, kind, str(holds), reason, message[:_LONGEST], now=now, generation=generation)
