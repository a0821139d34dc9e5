"""What is typically asked for: the shapes of recent tasks and how common each is. What packing for the future needs.

Immutable; made anew when it has moved. A live hub counts what arrives and forgets slowly, so that the mix follows what
people run now.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from hub.fleet.shape import TaskShape

COVERED: Final = 0.95
MOST: Final = 64
"""So many of the commonest shapes are typical, or as many as cover 95 % of the tasks."""


@dataclass(frozen=True, slots=True)
class Typical:
    """One shape and which part of the GPU tasks has it (they sum to 1)."""

    shape: TaskShape
    part: float


@dataclass(frozen=True, slots=True, eq=False)
class ShapeMix:
    """`typical`: GPU shapes, the commonest first. `version` tells it from every other mix of one counter."""

    typical: tuple[Typical, ...] = ()
    version: int = 0
    # A key of columns: hashed once, not at each look.
    _hash: int = field(init=False, repr=False, default=0)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_hash", hash(self.typical))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ShapeMix) and self.typical == other.typical

    def __hash__(self) -> int:
        return self._hash


NOTHING_SEEN: Final = ShapeMix()


def typical_of(counts: Mapping[TaskShape, float]) -> tuple[Typical, ...]:
    """The commonest GPU shapes of `counts`, ties by what they are. What images they run does not matter."""
    merged: dict[TaskShape, float] = {}
    for shape, count in counts.items():
        if shape.gpu_milli and count > 0:
            plain = replace(shape, images=())
            merged[plain] = merged.get(plain, 0.0) + count
    ordered = sorted(merged.items(), key=lambda entry: (-entry[1], str(entry[0]), repr(entry[0])))
    total = sum(merged.values())
    chosen: list[tuple[TaskShape, float]] = []
    covered = 0.0
    for shape, count in ordered[:MOST]:
        if chosen and covered >= COVERED * total:
            break
        chosen.append((shape, count))
        covered += count
    return tuple(Typical(shape, count / covered) for shape, count in chosen)


class MixCounter:
    """Counts arrivals; each counts half after `half_life` more tasks have come. `mix` moves in steps, so that what was
    computed with it can be kept for a while."""

    def __init__(self, half_life: float = 20_000.0, step: float = 0.1) -> None:
        self._counts: dict[TaskShape, float] = {}
        self._unit = 1.0
        self._growth = 2.0 ** (1.0 / half_life)
        self._step = step
        self._seen = 0.0
        self._at = 0.0
        self._mix = NOTHING_SEEN

    def add(self, shapes: Iterable[tuple[TaskShape, int]]) -> None:
        for shape, count in shapes:
            if not shape.gpu_milli:
                continue
            # Newer ones count more, instead of older ones less: one multiplication an arrival.
            self._unit *= self._growth ** min(count, 10_000)
            self._counts[shape] = self._counts.get(shape, 0.0) + self._unit * count
            self._seen += count
        if self._unit > 1e100:
            self._counts = {shape: n / self._unit for shape, n in self._counts.items() if n / self._unit > 1e-6}
            self._unit = 1.0

    def mix(self) -> ShapeMix:
        """The mix as of the last step: made anew once a tenth more has been seen than then."""
        if self._seen > self._at * (1 + self._step):
            self._at = min(self._seen, 20_000.0)
            self._seen = self._at
            typical = typical_of(self._counts)
            if typical != self._mix.typical:
                self._mix = ShapeMix(typical, self._mix.version + 1)
        return self._mix
