"""Columns over a fleet that cost only what changed since they were last asked for.

A column is one value a cluster (a fit, a mask, a total). Every part of a cluster carries a version that no other part
ever had, so two snapshots are compared by one vector operation and only the clusters that differ are computed again.
The cache is shared by all snapshots that came from one another; it holds results, never facts, and may be dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from operator import is_
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

# Columns kept: fits of some hundred shapes, masks of some hundred rules. The oldest go first.
_KEPT = 2048


@dataclass(frozen=True, slots=True)
class _Column:
    names: tuple[str, ...]
    versions: NDArray[np.int64]
    values: NDArray[Any]


class ColumnCache:
    """`get` returns read-only vectors in the order of `names`."""

    __slots__ = ("_columns", "_derived")

    def __init__(self) -> None:
        self._columns: dict[Hashable, _Column] = {}
        self._derived: dict[Hashable, tuple[tuple[NDArray[Any], ...], NDArray[Any]]] = {}

    def derived(
        self, key: Hashable, columns: tuple[NDArray[Any], ...], compute: Callable[[], NDArray[Any]]
    ) -> NDArray[Any]:
        """What `compute` makes of `columns`, again only when one of them is another one."""
        last = self._derived.get(key)
        if last is not None and all(map(is_, last[0], columns)):
            return last[1]
        values = compute()
        values.flags.writeable = False
        if last is None:
            while len(self._derived) >= _KEPT:
                self._derived.pop(next(iter(self._derived)), None)
        self._derived[key] = columns, values
        return values

    def get(
        self,
        key: Hashable,
        names: tuple[str, ...],
        versions: NDArray[np.int64],
        compute: Callable[[int], Any],
        dtype: DTypeLike,
        many: Callable[[list[int]], Sequence[Any]] | None = None,
    ) -> NDArray[Any]:
        """The column `key` for these `versions`; `compute` is called with the positions that changed only.

        `many` answers for several positions at once, where that is cheaper than one by one.
        """
        last = self._columns.get(key)
        if last is not None and last.names is names:
            if last.versions is versions:
                return last.values
            changed = np.flatnonzero(last.versions != versions)
            if not changed.size:
                values = last.values
            else:
                values = last.values.copy()
                positions = changed.tolist()
                if many is not None and len(positions) > 1:
                    values[changed] = many(positions)
                else:
                    for position in positions:
                        values[position] = compute(position)
        elif last is not None:
            known = dict(zip(last.versions.tolist(), last.values.tolist(), strict=True))
            values = np.empty(len(names), dtype)
            for position, version in enumerate(versions.tolist()):
                value = known.get(version)
                values[position] = compute(position) if value is None else value
        else:
            values = np.empty(len(names), dtype)
            if many is not None and len(names) > 1:
                values[:] = many(list(range(len(names))))
            else:
                for position in range(len(names)):
                    values[position] = compute(position)
            while len(self._columns) >= _KEPT:
                self._columns.pop(next(iter(self._columns)), None)
        values.flags.writeable = False
        self._columns[key] = _Column(names, versions, values)
        return values
