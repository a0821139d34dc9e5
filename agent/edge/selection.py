"""Which nodes a pod may go to by their labels and taints: nodeSelector, required node affinity, tolerations. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from agent.edge.sitefile import Taint
from hub.api.errors import InvalidObjectError

_FORBIDS: Final = ("NoSchedule", "NoExecute")
_OPERATORS: Final = ("In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt")
# key, operator, values
Requirement = tuple[str, str, tuple[str, ...]]
# key, operator, value, effect
Toleration = tuple[str, str, str, str]


@dataclass(frozen=True, slots=True)
class NodeRule:
    """Hashable, so that what it allows is computed once for all tasks that carry it.

    `terms` are alternatives; an empty one allows nothing, as Kubernetes has it.
    """

    selector: tuple[tuple[str, str], ...] = ()
    terms: tuple[tuple[Requirement, ...], ...] = ()
    tolerations: tuple[Toleration, ...] = ()

    def allows(self, labels: Mapping[str, str], taints: Iterable[Taint]) -> bool:
        if any(labels.get(key) != value for key, value in self.selector):
            return False
        if self.terms and not any(term and all(_holds(r, labels) for r in term) for term in self.terms):
            return False
        return all(taint.effect not in _FORBIDS or self._tolerates(taint) for taint in taints)

    def _tolerates(self, taint: Taint) -> bool:
        return any(
            (not effect or effect == taint.effect)
            and (key == taint.key if key else operator == "Exists")
            and (operator == "Exists" or value == taint.value)
            for key, operator, value, effect in self.tolerations
        )


def node_rule(spec: Mapping[str, Any]) -> NodeRule:
    """Of a pod's spec. Raises `InvalidObjectError` for what a site cannot judge."""
    selector = tuple(sorted((str(key), str(value)) for key, value in (spec.get("nodeSelector") or {}).items()))
    if spec.get("nodeName"):
        selector += (("kubernetes.io/hostname", str(spec["nodeName"])),)
    tolerations = tuple(
        (
            str(t.get("key") or ""),
            str(t.get("operator") or "Equal"),
            str(t.get("value") or ""),
            str(t.get("effect") or ""),
        )
        for t in spec.get("tolerations") or ()
    )
    return NodeRule(selector, _terms(spec.get("affinity") or {}), tolerations)


def _terms(affinity: Mapping[str, Any]) -> tuple[tuple[Requirement, ...], ...]:
    for kind in ("podAffinity", "podAntiAffinity"):
        if (affinity.get(kind) or {}).get("requiredDuringSchedulingIgnoredDuringExecution"):
            raise InvalidObjectError("a site places by node only: use nodeAffinity", field=f"spec.affinity.{kind}")
    required = (affinity.get("nodeAffinity") or {}).get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    terms = []
    for term in required.get("nodeSelectorTerms") or ():
        found = [_requirement(entry) for entry in term.get("matchExpressions") or ()]
        for entry in term.get("matchFields") or ():
            key, operator, values = _requirement(entry)
            if key != "metadata.name":
                raise InvalidObjectError(
                    f"{key!r}: only metadata.name can be matched", field="spec.affinity.nodeAffinity"
                )
            found.append(("kubernetes.io/hostname", operator, values))
        terms.append(tuple(found))
    return tuple(terms)


def _requirement(entry: Mapping[str, Any]) -> Requirement:
    operator = str(entry.get("operator") or "")
    values = tuple(str(value) for value in entry.get("values") or ())
    if operator not in _OPERATORS:
        raise InvalidObjectError(
            f"{operator!r} is not an operator: {', '.join(_OPERATORS)}", field="spec.affinity.nodeAffinity"
        )
    if operator in ("Gt", "Lt") and (len(values) != 1 or not values[0].lstrip("-").isdecimal()):
        raise InvalidObjectError(f"{operator} compares with one whole number", field="spec.affinity.nodeAffinity")
    return str(entry.get("key") or ""), operator, values


def _holds(requirement: Requirement, labels: Mapping[str, str]) -> bool:
    key, operator, values = requirement
    value = labels.get(key)
    if operator == "In":
        return value is not None and value in values
    if operator == "NotIn":
        return value is None or value not in values
    if operator == "Exists":
        return value is not None
    if operator == "DoesNotExist":
        return value is None
    if value is None or not value.lstrip("-").isdecimal():
        return False
    return int(value) > int(values[0]) if operator == "Gt" else int(value) < int(values[0])
