"""Required node affinity of a pod, read once and judged the same way by the hub and by a site that places tasks itself.

Only what must hold is here: preferences are left to the cluster that schedules the pod. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from hub.api.errors import InvalidObjectError

HOSTNAME: Final = "kubernetes.io/hostname"
NODE_NAME: Final = "metadata.name"
OPERATORS: Final = ("In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt")
# Names of nodes that a capacity report may carry in all: beyond, its groups are reported without them.
NAMED_BYTES: Final = 128 << 10
_WHOLE: Final = re.compile(r"[+-]?[0-9]{1,19}")
_REQUIRED: Final = "requiredDuringSchedulingIgnoredDuringExecution"


@dataclass(frozen=True, slots=True, order=True)
class NodeRequirement:
    """One line of a term. `field`: about the node itself (``metadata.name``), not one of its labels."""

    key: str
    operator: str
    values: tuple[str, ...] = ()
    field: bool = False

    def holds(self, value: str | None) -> bool:
        """For a node whose label (or field) has this value; None: it has no such label."""
        if self.operator == "In":
            return value is not None and value in self.values
        if self.operator == "NotIn":
            return value is None or value not in self.values
        if self.operator == "Exists":
            return value is not None
        if self.operator == "DoesNotExist":
            return value is None
        found, bound = whole_number(value), whole_number(self.values[0])
        if found is None or bound is None:
            return False
        return found > bound if self.operator == "Gt" else found < bound

    def __str__(self) -> str:
        if self.operator in ("Exists", "DoesNotExist"):
            return f"{self.key} {self.operator}"
        shown = ", ".join(self.values[:5]) + (f" and {len(self.values) - 5} more" if len(self.values) > 5 else "")
        return (
            f"{self.key} {self.operator} {shown}" if len(self.values) == 1 else f"{self.key} {self.operator} ({shown})"
        )


# All of its lines must hold; a term without lines holds nowhere.
NodeTerm = tuple[NodeRequirement, ...]


def required_terms(affinity: Any, field: str) -> tuple[NodeTerm, ...]:
    """The alternatives of `affinity`'s required node affinity, in an order of their own; empty: nothing is required.

    Raises `InvalidObjectError` naming the field below `field`, for all that an API server would not accept.
    """
    node = _map(_map(affinity, field).get("nodeAffinity"), f"{field}.nodeAffinity")
    if node.get(_REQUIRED) is None:
        return ()
    where = f"{field}.nodeAffinity.{_REQUIRED}"
    terms = _maps(_map(node[_REQUIRED], where).get("nodeSelectorTerms"), f"{where}.nodeSelectorTerms")
    if not terms:
        raise InvalidObjectError("at least one term is needed", field=f"{where}.nodeSelectorTerms")
    return tuple(sorted({_term(term, f"{where}.nodeSelectorTerms[{n}]") for n, term in enumerate(terms)}))


def term_holds(term: NodeTerm, labels: Mapping[str, str], name: str | None = None) -> bool:
    """Whether all lines of `term` hold for a node of that name; None: not known, so no line that needs it holds."""
    return bool(term) and all(line.holds(name if line.field else labels.get(line.key)) for line in term)


def nameable(nodes: Iterable[str]) -> bool:
    """Whether a capacity report may name these nodes one by one."""
    return sum(len(name) + 3 for name in nodes) <= NAMED_BYTES


def whole_number(text: str | None) -> int | None:
    """As the scheduler reads a label that is compared; None where it is no number of 64 bits."""
    if text is None or not _WHOLE.fullmatch(text):
        return None
    found = int(text)
    return found if -(1 << 63) <= found < 1 << 63 else None


def _term(term: Mapping[str, Any], field: str) -> NodeTerm:
    lines = {
        _line(entry, f"{field}.matchExpressions[{n}]", of_node=False)
        for n, entry in enumerate(_maps(term.get("matchExpressions"), f"{field}.matchExpressions"))
    } | {
        _line(entry, f"{field}.matchFields[{n}]", of_node=True)
        for n, entry in enumerate(_maps(term.get("matchFields"), f"{field}.matchFields"))
    }
    return tuple(sorted(lines))


def _line(entry: Mapping[str, Any], field: str, *, of_node: bool) -> NodeRequirement:
    key, operator, values = entry.get("key"), entry.get("operator"), entry.get("values")
    if not isinstance(key, str) or not key:
        raise InvalidObjectError("required: the label to look at", field=f"{field}.key")
    if operator not in OPERATORS:
        raise InvalidObjectError(
            f"{operator!r} is not an operator: write {', '.join(OPERATORS)}", field=f"{field}.operator"
        )
    if values is not None and not isinstance(values, list | tuple):
        raise InvalidObjectError(f"{values!r} is not a list", field=f"{field}.values")
    found = tuple(sorted({str(value) for value in values or ()}))
    if of_node and (key != NODE_NAME or operator not in ("In", "NotIn") or len(found) != 1):
        raise InvalidObjectError(f"only {NODE_NAME} can be matched, In or NotIn, with one value", field=field)
    if operator in ("In", "NotIn") and not found:
        raise InvalidObjectError(f"{operator} needs at least one value", field=f"{field}.values")
    if operator in ("Exists", "DoesNotExist") and found:
        raise InvalidObjectError(f"{operator} takes no values", field=f"{field}.values")
    if operator in ("Gt", "Lt") and (len(found) != 1 or whole_number(found[0]) is None):
        raise InvalidObjectError(f"{operator} compares with one whole number", field=f"{field}.values")
    return NodeRequirement(key, operator, found, of_node)


def _map(value: Any, field: str) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InvalidObjectError(f"{value!r} is not a map", field=field)
    return value


def _maps(value: Any, field: str) -> Sequence[Mapping[str, Any]]:
    if value is None:
        return ()
    if not isinstance(value, list | tuple):
        raise InvalidObjectError(f"{value!r} is not a list", field=field)
    return [_map(entry, f"{field}[{n}]") for n, entry in enumerate(value)]
