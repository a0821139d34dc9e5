"""When a manifest has run to its end, and what its condition rules say. Pure.

WellKnownConditions know Jobs and Pods. Completion does not tell success from failure: feedback does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hub.api.conditions import condition_is
from hub.api.resource import Resource

EVALUATED = "ConditionRuleEvaluated"
INVALID = "ConditionRuleInvalid"
PREFIX = "ConditionRule"


def finished(resource: Resource, obj: Mapping[str, Any]) -> bool:
    """A Job with Complete or Failed, a Pod that Succeeded or Failed: what must not be made again once it vanished."""
    status = obj.get("status") or {}
    if (resource.group, resource.kind) == ("batch", "Job"):
        conditions = status.get("conditions")
        return condition_is(conditions, "Complete") or condition_is(conditions, "Failed")
    if (resource.group, resource.kind) == ("", "Pod"):
        return status.get("phase") in ("Succeeded", "Failed")
    return False


def evaluate(rule: Mapping[str, Any], resource: Resource, obj: Mapping[str, Any]) -> tuple[str, str, str, str] | None:
    """(type, status, reason, message) of one condition rule, or None when the rule yields nothing for this kind."""
    kind, condition = rule.get("type"), str(rule.get("condition") or "")
    if kind == "WellKnownConditions":
        if condition != "Complete" or resource.version != "v1":
            return None
        if (resource.group, resource.kind) == ("batch", "Job"):
            done = finished(resource, obj)
            return condition, str(done), EVALUATED, "Job is finished" if done else "Job is not finished"
        if (resource.group, resource.kind) == ("", "Pod"):
            phase = (obj.get("status") or {}).get("phase", "")
            return condition, str(finished(resource, obj)), EVALUATED, f"Pod is in phase {phase}"
        return None
    if not condition:
        return None
    if kind == "CEL":
        return condition, "Unknown", INVALID, "this agent does not evaluate CEL rules; use WellKnownConditions"
    return condition, "Unknown", INVALID, f"{kind!r} is not a condition rule: write WellKnownConditions or CEL"
