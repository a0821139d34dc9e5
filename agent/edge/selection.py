"""Which nodes a pod may go to by their labels and taints: nodeSelector, required node affinity, tolerations. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from agent.edge.sitefile import Taint
from hub.api.errors import InvalidObjectError
from hub.api.nodeaffinity import HOSTNAME, NodeTerm, required_terms, term_holds

_FORBIDS: Final = ("NoSchedule", "NoExecute")
# key, operator, value, effect
Toleration = tuple[str, str, str, str]


@dataclass(frozen=True, slots=True)
class NodeRule:
    """Hashable, so that what it allows is computed once for all tasks that carry it.

    `terms` are alternatives; an empty one allows nothing, as Kubernetes has it.
    """

    selector: tuple[tuple[str, str], ...] = ()
    terms: tuple[NodeTerm, ...] = ()
    tolerations: tuple[Toleration, ...] = ()

    def allows(self, labels: Mapping[str, str], taints: Iterable[Taint]) -> bool:
        if any(labels.get(key) != value for key, value in self.selector):
            return False
        if self.terms and not any(term_holds(term, labels, labels.get(HOSTNAME)) for term in self.terms):
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
        selector += ((HOSTNAME, str(spec["nodeName"])),)
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


def _terms(affinity: Mapping[str, Any]) -> tuple[NodeTerm, ...]:
    for kind in ("podAffinity", "podAntiAffinity"):
        if (affinity.get(kind) or {}).get("requiredDuringSchedulingIgnoredDuringExecution"):
            raise InvalidObjectError("a site places by node only: use nodeAffinity", field=f"spec.affinity.{kind}")
    return required_terms(affinity, "spec.affinity")
