"""Which resources of a pod count towards quota, and as what: `resources` of Kueue's Configuration. Values, pure.

Only what waits is counted anew; who holds quota holds what was written down then.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hub.api.errors import InvalidObjectError
from hub.api.quantity import Quantity
from hub.queueing.amount import UNLIMITED, amount, quantity


@dataclass(frozen=True, slots=True)
class Transformation:
    """One unit of a resource counts as `outputs` (by resource, in billionths), besides itself unless it is `replaced`.

    `times`: a resource whose amount in the same pod multiplies it first; empty: none.
    """

    outputs: tuple[tuple[str, int], ...] = ()
    replaced: bool = False
    times: str = ""


@dataclass(frozen=True, slots=True)
class Counted:
    """`excluded`: prefixes of names of resources that do not count. `transformations`: by what they begin with.
    `declared_only`: nor does what a queue does not cover; else that is an obstacle."""

    excluded: tuple[str, ...] = ()
    transformations: Mapping[str, Transformation] = field(default_factory=dict)
    declared_only: bool = False

    def of(self, requests: Mapping[str, int]) -> dict[str, int]:
        """What one pod's requests (in the unit of hub/queueing/amount.py) count as."""
        kept = {name: value for name, value in requests.items() if not name.startswith(self.excluded)}
        if not any(name in self.transformations for name in kept):
            return kept
        nano: dict[str, int] = {}
        for name, value in kept.items():
            rule, units = self.transformations.get(name), quantity(name, value)
            if rule is not None and rule.times in kept:
                units = Quantity.from_nano(units.nano * quantity(rule.times, kept[rule.times]).ceil())
            if rule is None or not rule.replaced:
                nano[name] = nano.get(name, 0) + units.nano
            for output, each in rule.outputs if rule is not None else ():
                nano[output] = nano.get(output, 0) + each * units.ceil()
        return {name: min(amount(name, Quantity.from_nano(value)), UNLIMITED) for name, value in nano.items()}


ALL = Counted()


def read_counted(resources: Mapping[str, Any]) -> Counted:
    """Raises `InvalidObjectError` by field."""
    transformations: dict[str, Transformation] = {}
    for number, entry in enumerate(resources.get("transformations") or ()):
        place = f"resources.transformations[{number}]"
        strategy = entry.get("strategy") or "Retain"
        if strategy not in ("Retain", "Replace"):
            raise InvalidObjectError(f"found {strategy!r}; allowed: Retain, Replace", field=f"{place}.strategy")
        if not entry.get("input"):
            raise InvalidObjectError("the resource that is transformed is missing", field=f"{place}.input")
        outputs = []
        for name, value in sorted((entry.get("outputs") or {}).items()):
            try:
                outputs.append((str(name), Quantity(value).nano))
            except (InvalidObjectError, TypeError) as error:
                raise InvalidObjectError(str(error), field=f"{place}.outputs.{name}") from error
        transformations[str(entry["input"])] = Transformation(
            tuple(outputs), strategy == "Replace", str(entry.get("multiplyBy") or "")
        )
    excluded = tuple(str(prefix) for prefix in resources.get("excludeResourcePrefixes") or ())
    check = resources.get("quotaCheckStrategy") or "BlockUndeclared"
    if check not in ("BlockUndeclared", "IgnoreUndeclared"):
        said = f"found {check!r}; allowed: BlockUndeclared, IgnoreUndeclared"
        raise InvalidObjectError(said, field="resources.quotaCheckStrategy")
    return Counted(excluded, transformations, check == "IgnoreUndeclared")
