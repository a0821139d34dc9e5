"""All that is decided about an object that is being written, for the embedded API and for webhooks alike.

`admit` runs the rule about the object itself, then what other objects have to do with it. Nothing here does I/O. What
an object's schema says (types, bounds, CEL) has been checked before, or will be by the API server.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from hub.admission import cluster_rules, fencing, queue_rules, references
from hub.admission.findings import FieldError
from hub.admission.references import Look
from hub.admission.rule import Object, Review

RULES: Final[Mapping[tuple[str, str], Review]] = {**cluster_rules.RULES, **queue_rules.RULES}
DEFAULTED: Final = (("cluster.open-cluster-management.io", "managedclusters"),)
"""Kinds whose rule may change the object; the others' only judge."""
ADMITTED: Final = tuple(sorted({*RULES, *references.REVIEWED}))
"""(group, plural) of every kind that something is decided about."""


@dataclass(frozen=True, slots=True)
class Decision:
    """`obj` is to be kept unless there are `errors`; `warnings` go to whoever writes."""

    obj: dict[str, Any]
    errors: tuple[FieldError, ...] = ()
    warnings: tuple[str, ...] = ()


def admit(group: str, plural: str, obj: Object, old: Object | None, *, now: str, look: Look | None = None) -> Decision:
    """`old` None: it is created. `now` is RFC 3339; without `look` other objects are not asked about."""
    result: dict[str, Any] = dict(obj)
    errors: tuple[FieldError, ...] = ()
    rule = RULES.get((group, plural))
    if rule is not None:
        result, found = rule(obj, old, now)
        errors = tuple(found)
    if errors or look is None:
        return Decision(result, errors)
    if fencing.decides(group, plural, result, old) and (late := fencing.fenced(result, look.find(*fencing.LEASE))):
        return Decision(result, (late,))
    refused, warnings = references.review(group, plural, result, old, look)
    return Decision(result, tuple(refused), tuple(warnings))
