"""The annotation by which a ClusterQueue or Cohort takes its nominal quota from a set of clusters, as a value.

    fleet.quarterdeck.dev/nominal-from: {"clusterSet": "gpu", "factor": 0.9, "flavors": ["h100"]}

What follows from it is hub/queueing/derived.py.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

from hub.api import names
from hub.api.errors import InvalidObjectError
from hub.api.quantity import Quantity

ANNOTATION: Final = names.NOMINAL_FROM
_FIELD: Final = f"metadata.annotations[{ANNOTATION}]"
_KNOWN: Final = ("clusterSet", "factor", "flavors")


@dataclass(frozen=True, slots=True)
class NominalFrom:
    """`factor`: how much of what there is. `flavors`: only these; empty: all."""

    cluster_set: str
    factor: Fraction = Fraction(1)
    flavors: tuple[str, ...] = ()

    def covers(self, flavor: str) -> bool:
        return not self.flavors or flavor in self.flavors


def read_nominal_from(obj: Mapping[str, Any]) -> NominalFrom | None:
    """None without the annotation. Raises `InvalidObjectError` that names it."""
    text = ((obj.get("metadata") or {}).get("annotations") or {}).get(ANNOTATION)
    if text is None:
        return None
    try:
        found = json.loads(text)
    except (TypeError, ValueError) as error:
        raise InvalidObjectError(
            f'found {text!r}; expected JSON such as {{"clusterSet": "gpu"}}', field=_FIELD
        ) from error
    if not isinstance(found, Mapping) or not isinstance(found.get("clusterSet"), str) or not found["clusterSet"]:
        raise InvalidObjectError(f'found {text}; expected JSON such as {{"clusterSet": "gpu"}}', field=_FIELD)
    unknown = sorted(set(found) - set(_KNOWN))
    if unknown:
        raise InvalidObjectError(f"there is no {unknown[0]}; known: {', '.join(_KNOWN)}", field=_FIELD)
    flavors = found.get("flavors") or []
    if not isinstance(flavors, list) or not all(isinstance(flavor, str) for flavor in flavors):
        raise InvalidObjectError(f"flavors: found {flavors!r}; expected names", field=_FIELD)
    return NominalFrom(found["clusterSet"], _factor(found.get("factor", 1)), tuple(sorted(set(flavors))))


def _factor(value: Any) -> Fraction:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise InvalidObjectError(f"factor: found {value!r}; expected a number", field=_FIELD)
    try:
        # As it is written: 0.9 is nine tenths, not the nearest float.
        factor = Fraction(Quantity(str(value)).nano, 10**9)
    except (InvalidObjectError, ValueError) as error:
        raise InvalidObjectError(f"factor: found {value!r}; expected a number", field=_FIELD) from error
    if not 0 <= factor <= 1000:
        raise InvalidObjectError(f"factor: found {value!r}; expected 0 to 1000", field=_FIELD)
    return factor
