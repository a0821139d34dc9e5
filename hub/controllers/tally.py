"""How often each cluster is in the decisions of all Placements: what Balance reads, kept up to date by the step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np

from hub.placement.candidates import Ints


class Tally:
    """`along` gives a vector that is never changed afterwards; `version` grows with every change."""

    def __init__(self) -> None:
        self.version = 0
        self._counts: Counter[str] = Counter()
        self._names: tuple[str, ...] = ()
        self._index: dict[str, int] = {}
        self._vector: Ints = np.zeros(0, np.int64)
        # Changes that the vector does not know yet: positions that gained one, and that lost one.
        self._more: list[int] = []
        self._less: list[int] = []

    def change(self, before: Iterable[str], after: Iterable[str]) -> None:
        """A Placement that had chosen `before` has chosen `after`."""
        old, new = set(before), set(after)
        if old == new:
            return
        self.version += 1
        for clusters, step, noted in ((new - old, 1, self._more), (old - new, -1, self._less)):
            for cluster in clusters:
                self._counts[cluster] += step
                if not self._counts[cluster]:
                    del self._counts[cluster]
                at = self._index.get(cluster)
                if at is not None:
                    noted.append(at)

    def along(self, names: tuple[str, ...]) -> Ints:
        if names is not self._names:
            self._names = names
            self._index = {name: at for at, name in enumerate(names)}
            self._vector = np.fromiter((self._counts[name] for name in names), np.int64, len(names))
        elif self._more or self._less:
            self._vector = self._vector.copy()
            np.add.at(self._vector, self._more, 1)
            np.subtract.at(self._vector, self._less, 1)
        self._more, self._less = [], []
        return self._vector
