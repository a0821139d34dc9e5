"""Label and claim selectors: parsed with the field in the error, and matched as Kubernetes matches them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from hub.api.errors import InvalidObjectError
from hub.fleet.amounts import entries, mapping
from hub.placement.rule import Requirement

OPERATORS = ("In", "NotIn", "Exists", "DoesNotExist")


def parse_label_selector(selector: Any, field: str) -> tuple[Requirement, ...]:
    """All of its lines, sorted; an empty selector matches everything. Raises `InvalidObjectError` by field."""
    selector = mapping(selector, field)
    labels = mapping(selector.get("matchLabels"), f"{field}.matchLabels")
    lines = [
        Requirement(str(key), "In", (_value(value, f"{field}.matchLabels.{key}"),)) for key, value in labels.items()
    ]
    return tuple(sorted([*lines, *_expressions(selector, field)], key=_order))


def parse_claim_selector(selector: Any, field: str) -> tuple[Requirement, ...]:
    """As a label selector, but OCM's claims have expressions only."""
    return tuple(sorted(_expressions(mapping(selector, field), field), key=_order))


def matches(requirements: Iterable[Requirement], values: Mapping[str, str]) -> bool:
    """Whether all hold. NotIn and DoesNotExist also hold where the key is missing."""
    for line in requirements:
        value = values.get(line.key)
        if line.operator == "In":
            holds = value is not None and value in line.values
        elif line.operator == "NotIn":
            holds = value not in line.values
        elif line.operator == "Exists":
            holds = value is not None
        else:
            holds = value is None
        if not holds:
            return False
    return True


def show(line: Requirement) -> str:
    """As kubectl spells it: ``region in (eu,us)``, ``!spot``."""
    if line.operator == "Exists":
        return line.key
    if line.operator == "DoesNotExist":
        return f"!{line.key}"
    if line.operator == "In" and len(line.values) == 1:
        return f"{line.key}={line.values[0]}"
    return f"{line.key} {line.operator.lower()} ({','.join(line.values)})"


def _expressions(selector: Mapping[str, Any], field: str) -> list[Requirement]:
    lines = []
    for position, entry in enumerate(entries(selector.get("matchExpressions"), f"{field}.matchExpressions")):
        where = f"{field}.matchExpressions[{position}]"
        key, operator = entry.get("key"), entry.get("operator")
        if not isinstance(key, str) or not key:
            raise InvalidObjectError("a requirement needs a key", field=f"{where}.key")
        if operator not in OPERATORS:
            raise InvalidObjectError(
                f"{operator!r} is not an operator: write {', '.join(OPERATORS)}", field=f"{where}.operator"
            )
        values = entry.get("values")
        if values is not None and not isinstance(values, list | tuple):
            raise InvalidObjectError(f"{values!r} is not a list", field=f"{where}.values")
        listed = tuple(sorted({_value(value, f"{where}.values") for value in values or ()}))
        if operator in ("In", "NotIn") and not listed:
            raise InvalidObjectError(f"{operator} needs at least one value", field=f"{where}.values")
        if operator in ("Exists", "DoesNotExist") and listed:
            raise InvalidObjectError(f"{operator} takes no values", field=f"{where}.values")
        lines.append(Requirement(key, operator, listed))
    return lines


def _value(value: Any, field: str) -> str:
    if not isinstance(value, str):
        raise InvalidObjectError(f'{value!r} is not a string: write it in quotes, "{value}"', field=field)
    return value


def _order(line: Requirement) -> tuple[str, str, tuple[str, ...]]:
    return line.key, line.operator, line.values
