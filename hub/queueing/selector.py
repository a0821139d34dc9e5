"""A label selector, read once and asked often. Used for the namespaces that a queue takes jobs from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hub.api.errors import InvalidObjectError
from hub.api.meta import LabelSelector
from hub.placement.rule import Requirement

_OPERATORS = ("In", "NotIn", "Exists", "DoesNotExist")


@dataclass(frozen=True, slots=True)
class Selector:
    """All of `requirements` must hold; none: everything matches."""

    requirements: tuple[Requirement, ...] = ()

    @classmethod
    def parse(cls, selector: LabelSelector, field: str) -> Selector:
        """Raises `InvalidObjectError` for an operator that Kubernetes does not have, or values that it cannot use."""
        found = [Requirement(key, "In", (value,)) for key, value in sorted(selector.matchLabels.items())]
        for index, expression in enumerate(selector.matchExpressions):
            place = f"{field}.matchExpressions[{index}]"
            if expression.operator not in _OPERATORS:
                raise InvalidObjectError(
                    f"found {expression.operator!r}; allowed: {', '.join(_OPERATORS)}", field=f"{place}.operator"
                )
            if (expression.operator in ("In", "NotIn")) != bool(expression.values):
                wanted = "at least one value" if expression.operator in ("In", "NotIn") else "no values"
                raise InvalidObjectError(f"{expression.operator} takes {wanted}", field=f"{place}.values")
            found.append(Requirement(expression.key, expression.operator, tuple(expression.values)))
        return cls(tuple(found))

    def matches(self, labels: Mapping[str, str]) -> bool:
        return all(_holds(requirement, labels) for requirement in self.requirements)


def _holds(requirement: Requirement, labels: Mapping[str, str]) -> bool:
    present = requirement.key in labels
    if requirement.operator == "Exists":
        return present
    if requirement.operator == "DoesNotExist":
        return not present
    chosen = present and labels[requirement.key] in requirement.values
    return chosen if requirement.operator == "In" else not chosen
