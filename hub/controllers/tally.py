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
        self._shared = False

    def change(self, before: Iterable[str], after: Iterable[str]) -> None:
        """A Placement that had chosen `before` has chosen `after`."""
        old, new = set(before), set(after)
        for clusters, step in ((old - new, -1), (new - old, 1)):
            for cluster in clusters:
                self._counts[cluster] += step
                if not self._counts[cluster]:
                    del self._counts[cluster]
                at = self._index.get(cluster)
                if at is not None:
                    if self._shared:
                        self._vector, self._shared = self._vector.copy(), False
                    self._vector[at] += step
        if old != new:
            self.version += 1

    def along(self, names: tuple[str, ...]) -> Ints:
        if names is not self._names:
            self._names = names
            self._index = {name: at for at, name in enumerate(names)}
            self._vector = np.fromiter((self._counts[name] for name in names), np.int64, len(names))
        self._shared = True
        return self._vector
