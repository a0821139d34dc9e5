"""The clusters as they would be if nothing of this hub's ran there: where the entitled find room in their order.

A coarse picture, on purpose: each cluster is one sum of every resource, bounded by how many tasks of a shape its nodes
hold. It may see room where tasks would not quite fit side by side, never the other way round; so nobody loses what he
is entitled to because of it. It reads nothing of who runs now.

Room only becomes less while it is handed out, so each kind of claim remembers up to where its clusters are full.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hub.api import names
from hub.fleet.fleet import Fleet
from hub.fleet.shape import TaskShape
from hub.planner.places import Mask, Option
from hub.queueing.fleet.claim import Claim

Counts = NDArray[np.int64]
# Of GPUs thousandths are counted, so that parts of one add up.
_SHARES = 1000


@dataclass(frozen=True, slots=True, eq=False)
class Way:
    """How a claim's slots may be paid and where: `allowed` None: no place is asked for."""

    option: Option
    allowed: Mask | None

    @property
    def room(self) -> Counts:
        """Tasks that each cluster it may use could hold alone."""
        if self.allowed is None:
            return self.option.capacity
        return np.where(self.allowed, self.option.capacity, 0)


@dataclass(frozen=True, slots=True, eq=False)
class _Shelf:
    """Where one way of one kind of claim may go: `clusters`, the smallest that do first, so that large ones are left
    for what is large, and of equals the first by name; with how many tasks each could hold alone."""

    clusters: tuple[int, ...]
    alone: tuple[int, ...]
    needs: tuple[tuple[str, int], ...]

    @classmethod
    def of(cls, way: Way) -> _Shelf:
        room = way.room
        order = np.argsort(np.where(room > 0, way.option.capacity, np.iinfo(np.int64).max), kind="stable")
        order = order[room[order] > 0]
        return cls(tuple(order.tolist()), tuple(room[order].tolist()), _needs(way.option.shape))


class Empty:
    """`ways`: of a kind of claim, for each of its options."""

    def __init__(self, fleet: Fleet, ways: Callable[[int], tuple[Way, ...]]) -> None:
        self._fleet, self._ways = fleet, ways
        self._shelves: dict[tuple[int, int], _Shelf | None] = {}
        self._full: dict[tuple[int, int], int] = {}
        self._free: dict[str, list[int]] = {}

    def empty(self) -> Empty:
        other = Empty(self._fleet, self._ways)
        other._shelves = self._shelves
        return other

    def slots(self, claim: Claim, option: int, wanted: int) -> int:
        shelf = self._shelf(claim, option)
        if shelf is None:
            return wanted
        found = 0
        for _, room in self._open(shelf, (claim.kind, option), wanted if claim.gang else 1):
            if claim.gang:
                return wanted
            found += room
            if found >= wanted:
                return wanted
        return found

    def take(self, claim: Claim, option: int, slots: int) -> None:
        shelf = self._shelf(claim, option)
        if shelf is None or slots <= 0:
            return
        for cluster, room in self._open(shelf, (claim.kind, option), slots if claim.gang else 1):
            here = min(slots, room)
            for resource, each in shelf.needs:
                self._of(resource)[cluster] -= each * here
            slots -= here
            if slots <= 0:
                return

    def _open(self, shelf: _Shelf, key: tuple[int, int], least: int) -> Iterator[tuple[int, int]]:
        """Clusters with room for that many, and for how many. Gangs of one kind are all of one size."""
        free = [(self._of(resource), each) for resource, each in shelf.needs]
        at = self._full.get(key, 0)
        first = True
        for number in range(at, len(shelf.clusters)):
            cluster = shelf.clusters[number]
            room = shelf.alone[number]
            for column, each in free:
                room = min(room, column[cluster] // each)
            if room >= least:
                first = False
                yield cluster, room
            elif first:
                self._full[key] = number + 1

    def _shelf(self, claim: Claim, option: int) -> _Shelf | None:
        """None: it needs no room that could be short."""
        key = claim.kind, option
        if key not in self._shelves:
            ways = self._ways(claim.kind)
            way = ways[option] if option < len(ways) else None
            self._shelves[key] = _Shelf.of(way) if way is not None and way.allowed is not None else None
        return self._shelves[key]

    def _of(self, resource: str) -> list[int]:
        """What is free of it where nothing of this hub's runs."""
        found = self._free.get(resource)
        if found is None:
            scale = _SHARES if resource == names.GPU else 1
            free = np.nan_to_num(self._fleet.unheld(resource), nan=0.0) * scale
            found = self._free[resource] = np.rint(free).astype(np.int64).tolist()
        return found


def _needs(shape: TaskShape) -> tuple[tuple[str, int], ...]:
    gpus = shape.gpu_milli
    rest = tuple((resource, each) for resource, each in shape.requests if resource != names.GPU and each > 0)
    return (*rest, (names.GPU, gpus)) if gpus else rest
