"""The values that one score source last gave, laid out along a fleet when first asked for.

Values stay here when they are too old, so that somebody who prefers an old value to none can have it; whether one
counts is asked with the time.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_versions = itertools.count(1)


class ScoreColumn:
    """Immutable. A value that is not a finite number is no value: unknown, never zero.

    `until`: epoch seconds by cluster, where a value ends earlier than `valid_until`, that of the whole source.
    `version` is no other column's.
    """

    __slots__ = ("_aligned", "until", "valid_until", "values", "version")

    def __init__(self, values: Mapping[str, Any], valid_until: float, until: Mapping[str, float] | None = None) -> None:
        self.values = {str(cluster): float(value) for cluster, value in values.items() if _finite(value)}
        self.valid_until = valid_until
        self.until = dict(until or {})
        self.version = next(_versions)
        self._aligned: tuple[tuple[str, ...], Floats, Floats | None] | None = None

    def aligned(self, names: tuple[str, ...]) -> Floats:
        """The values along `names`, whatever their age; NaN where there is none."""
        return self._along(names)[0]

    def at(self, names: tuple[str, ...], now: float, grace: float = 0.0) -> Floats:
        """What counts at `now`; a value that ended counts `grace` seconds more."""
        values, until = self._along(names)
        at = now - grace
        if until is None:
            return values if at <= self.valid_until else np.full(len(names), np.nan)
        ended = until <= at
        return np.where(ended, np.nan, values) if ended.any() else values

    def next_end(self, names: tuple[str, ...], now: float, grace: float = 0.0) -> float:
        """When after `now` the next of the values stops to count; inf: never."""
        _, until = self._along(names)
        if until is None:
            end = self.valid_until + grace
            return end if end > now else math.inf
        ends = until + grace
        return float(ends[ends > now].min(initial=math.inf))

    def _along(self, names: tuple[str, ...]) -> tuple[Floats, Floats | None]:
        last = self._aligned
        if last is not None and last[0] is names:
            return last[1], last[2]
        vector = np.fromiter((self.values.get(name, math.nan) for name in names), np.float64, len(names))
        vector.flags.writeable = False
        until: Floats | None = None
        if self.until:
            own, least = self.until, self.valid_until
            until = np.fromiter(
                (min(own.get(name, math.inf), least) if name in self.values else math.inf for name in names),
                np.float64,
                len(names),
            )
        self._aligned = (names, vector, until)
        return vector, until


def _finite(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False
