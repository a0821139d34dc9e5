"""The clusters as they would be if nothing of this hub's ran there: where the entitled find room in their order.

A coarse picture, on purpose: each cluster is one sum of every resource, bounded by how many tasks of a shape its nodes
hold. It may see room where tasks would not quite fit side by side, never the other way round; so nobody loses what he
is entitled to because of it. It reads nothing of who runs now.
"""

from __future__ import annotations

from collections.abc import Callable
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


class Empty:
    """`ways`: of a kind of claim, for each of its options."""

    def __init__(self, fleet: Fleet, ways: Callable[[int], tuple[Way, ...]]) -> None:
        self._fleet, self._ways = fleet, ways
        self._free: dict[str, Counts] = {}
        self._held: dict[str, Counts] | None = None

    def empty(self) -> Empty:
        other = Empty(self._fleet, self._ways)
        other._held = self._ours()
        return other

    def slots(self, claim: Claim, option: int, wanted: int) -> int:
        way = self._way(claim, option)
        if way is None:
            return wanted
        room = self._room(way)
        if claim.gang:
            return wanted if bool((room >= wanted).any()) else 0
        return min(wanted, int(room.sum()))

    def take(self, claim: Claim, option: int, slots: int) -> None:
        way = self._way(claim, option)
        if way is None or slots <= 0:
            return
        room = self._room(way)
        capacity = way.option.capacity
        needs = _needs(way.option.shape)
        # The smallest clusters that do, so that large ones are left for what is large; of equals the first by name.
        if claim.gang:
            fitting = (room >= slots).nonzero()[0]
            self._charge(needs, int(fitting[capacity[fitting].argmin()]), slots)
            return
        for cluster in np.argsort(np.where(room > 0, capacity, np.iinfo(np.int64).max), kind="stable"):
            here = min(slots, int(room[cluster]))
            if here <= 0:
                return
            self._charge(needs, int(cluster), here)
            slots -= here

    def _way(self, claim: Claim, option: int) -> Way | None:
        """None: it needs no room that could be short."""
        ways = self._ways(claim.kind)
        way = ways[option] if option < len(ways) else None
        return way if way is not None and way.allowed is not None else None

    def _room(self, way: Way) -> Counts:
        room = way.room
        for resource, each in _needs(way.option.shape):
            room = np.minimum(room, self._of(resource) // each)
        return np.maximum(room, 0)

    def _charge(self, needs: tuple[tuple[str, int], ...], cluster: int, slots: int) -> None:
        for resource, each in needs:
            self._of(resource)[cluster] -= each * slots

    def _of(self, resource: str) -> Counts:
        """What is free of it once all that this hub runs is gone."""
        found = self._free.get(resource)
        if found is None:
            scale = _SHARES if resource == names.GPU else 1
            free = np.nan_to_num(self._fleet.free(resource), nan=0.0) * scale
            found = np.rint(free).astype(np.int64)
            ours = self._ours().get(resource)
            if ours is not None:
                found = found + ours
            self._free[resource] = found
        return found

    def _ours(self) -> dict[str, Counts]:
        if self._held is None:
            self._held = {}
            for position, name in enumerate(self._fleet.names):
                for holding in self._fleet.held(name).values():
                    running = holding.count - holding.waiting
                    for resource, each in _needs(holding.shape):
                        if resource not in self._held:
                            self._held[resource] = np.zeros(len(self._fleet.names), np.int64)
                        self._held[resource][position] += each * running
        return self._held


def _needs(shape: TaskShape) -> tuple[tuple[str, int], ...]:
    gpus = shape.gpu_milli
    rest = tuple((resource, each) for resource, each in shape.requests if resource != names.GPU and each > 0)
    return (*rest, (names.GPU, gpus)) if gpus else rest
