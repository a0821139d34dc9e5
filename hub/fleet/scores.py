"""The values that one score source last gave, laid out along a fleet when first asked for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray


class ScoreColumn:
    """Immutable. A value that is not a finite number is no value: unknown, never zero."""

    __slots__ = ("_aligned", "valid_until", "values")

    def __init__(self, values: Mapping[str, Any], valid_until: float) -> None:
        self.values = {str(cluster): float(value) for cluster, value in values.items() if _finite(value)}
        self.valid_until = valid_until
        self._aligned: tuple[tuple[str, ...], NDArray[np.float64]] | None = None

    def aligned(self, names: tuple[str, ...]) -> NDArray[np.float64]:
        last = self._aligned
        if last is not None and last[0] is names:
            return last[1]
        vector = np.fromiter((self.values.get(name, math.nan) for name in names), np.float64, len(names))
        vector.flags.writeable = False
        self._aligned = (names, vector)
        return vector


def _finite(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False
