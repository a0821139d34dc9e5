"""Whether a flavor is for the pods of a pod set: taints, node selector and required affinity. Pure.

Wishes are held against the labels that this very flavor sets: a pod that wants a zone may take a flavor that says
nothing of zones.
"""

from __future__ import annotations

from hub.queueing.kueue.workload import ANYWHERE, Constraints, NodeRequirement
from hub.queueing.objects import Flavor

_FORBIDS = ("NoSchedule", "NoExecute")


def obstacle(flavor: Flavor, constraints: Constraints) -> str:
    """Why the flavor is not for these pods; empty when it is."""
    for key, value, effect in flavor.taints:
        if effect in _FORBIDS and not any(
            t.tolerates(key, value, effect) for t in (*constraints.tolerations, *flavor.tolerations)
        ):
            return f"{flavor.name} has taint {key}={value}:{effect}, which is not tolerated"
    if constraints is ANYWHERE:
        return ""
    labels = dict(flavor.labels)
    for key, value in constraints.selector:
        if key in labels and labels[key] != value:
            return f"{flavor.name} is {key}={labels[key]}, not {value}"
    narrowed = [[line for line in term if line.key in labels] for term in constraints.terms]
    if narrowed and all(narrowed) and not any(all(_holds(line, labels) for line in term) for term in narrowed):
        return f"{flavor.name} does not match the required node affinity"
    return ""


def _holds(line: NodeRequirement, labels: dict[str, str]) -> bool:
    value = labels[line.key]
    match line.operator:
        case "In":
            return value in line.values
        case "NotIn":
            return value not in line.values
        case "Exists":
            return True
        case "Gt" | "Lt":
            try:
                found, bound = int(value), int(line.values[0])
            except (ValueError, IndexError):
                return False
            return found > bound if line.operator == "Gt" else found < bound
        case _:
            return False
