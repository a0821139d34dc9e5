"""A fleet's clusters by position: a fleet in which one is another costs some dozen references, not one a cluster."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Final

from hub.fleet.cluster import Cluster

_BITS: Final = 6
_SIZE: Final = 1 << _BITS
_MASK: Final = _SIZE - 1


class Roster:
    """Immutable: `with_changed` gives the next one and shares with this one all runs of positions that stayed."""

    __slots__ = ("_length", "_runs")

    def __init__(self, clusters: Iterable[Cluster] = ()) -> None:
        found = list(clusters)
        self._length = len(found)
        self._runs = [found[at : at + _SIZE] for at in range(0, len(found), _SIZE)]

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Cluster]:
        return chain.from_iterable(self._runs)

    def __getitem__(self, position: int) -> Cluster:
        return self._runs[position >> _BITS][position & _MASK]

    def with_changed(self, changed: Mapping[int, Cluster]) -> Roster:
        new = Roster.__new__(Roster)
        new._length = self._length
        runs = new._runs = self._runs.copy()
        own = -1
        for position in sorted(changed) if len(changed) > 1 else changed:
            run = position >> _BITS
            if run != own:
                runs[run] = runs[run].copy()
                own = run
            runs[run][position & _MASK] = changed[position]
        return new
