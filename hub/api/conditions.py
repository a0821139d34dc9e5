"""metav1.Condition lists as plain data: the one place that knows when lastTransitionTime moves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def find_condition(conditions: Iterable[Mapping[str, Any]] | None, kind: str) -> Mapping[str, Any] | None:
    return next((c for c in conditions or () if isinstance(c, Mapping) and c.get("type") == kind), None)


def condition_is(conditions: Iterable[Mapping[str, Any]] | None, kind: str, status: str = "True") -> bool:
    found = find_condition(conditions, kind)
    return found is not None and found.get("status") == status


def with_condition(
    conditions: Sequence[Mapping[str, Any]] | None,
    kind: str,
    status: str,
    reason: str,
    message: str,
    *,
    now: str,
    generation: int | None = None,
) -> list[dict[str, Any]]:
    """A new list where `kind` says this; `now` (RFC 3339) becomes its transition time only if the status changed."""
    entry: dict[str, Any] = {"type": kind, "status": status, "reason": reason, "message": message}
    entry["lastTransitionTime"] = now
    if generation is not None:
        entry["observedGeneration"] = generation
    result: list[dict[str, Any]] = []
    placed = False
    for condition in conditions or ():
        if condition.get("type") != kind:
            result.append(dict(condition))
            continue
        if condition.get("status") == status:
            entry["lastTransitionTime"] = condition.get("lastTransitionTime", now)
        result.append(entry)
        placed = True
    if not placed:
        result.append(entry)
    return result
