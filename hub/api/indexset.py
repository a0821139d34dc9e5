"""Sets of task indexes, spelled as Kubernetes spells completed indexes: ``1,3-57``.

An array of 5,000 tasks must not become 5,000 lines of status, so every place that names tasks holds an `IndexSet`:
immutable, sorted, disjoint ranges. What it does not do: negative indexes, steps.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from hub.api.errors import InvalidIndexSetError

# batch/v1 allows 100,000 completions with backoffLimitPerIndex; ten times that bounds what a hostile string costs.
MAX_INDEX = 1_000_000


@dataclass(frozen=True, slots=True)
class IndexSet:
    """Sorted, disjoint, non-adjacent inclusive ranges of non-negative integers."""

    ranges: tuple[tuple[int, int], ...] = ()

    @classmethod
    def parse(cls, text: str) -> IndexSet:
        """``""`` is the empty set. Raises `InvalidIndexSetError` for anything but ``a``, ``a-b`` joined by commas."""
        ranges = []
        for part in filter(None, (piece.strip() for piece in text.split(","))):
            first, dash, last = part.partition("-")
            if not (first.isdecimal() and (last.isdecimal() or not dash)):
                raise InvalidIndexSetError(f"{part!r} is not a task index or range: write 7 or 3-57, joined by commas")
            low, high = int(first), int(last or first)
            if high < low or high > MAX_INDEX:
                raise InvalidIndexSetError(f"{part!r} runs backwards or past {MAX_INDEX:,}")
            ranges.append((low, high))
        return _made(_merge(ranges))

    @classmethod
    def of(cls, indexes: Iterable[int]) -> IndexSet:
        return _made(_merge([(i, i) for i in indexes]))

    @classmethod
    def of_ranges(cls, ranges: Iterable[tuple[int, int]]) -> IndexSet:
        """From inclusive ranges in any order, which may touch or overlap."""
        return _made(_merge(list(ranges)))

    @classmethod
    def span(cls, count: int) -> IndexSet:
        """``0 … count-1``."""
        return _made(((0, count - 1),)) if count > 0 else _made(())

    def __str__(self) -> str:
        return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in self.ranges)

    def __iter__(self) -> Iterator[int]:
        for low, high in self.ranges:
            yield from range(low, high + 1)

    def __len__(self) -> int:
        if len(self.ranges) == 1:
            ((low, high),) = self.ranges
            return high - low + 1
        return sum(high - low + 1 for low, high in self.ranges)

    def __bool__(self) -> bool:
        return bool(self.ranges)

    def __contains__(self, index: int) -> bool:
        at = bisect_right(self.ranges, (index, MAX_INDEX + 1)) - 1
        return at >= 0 and index <= self.ranges[at][1]

    def __or__(self, other: IndexSet) -> IndexSet:
        if not other.ranges:
            return self
        return _made(_merge([*self.ranges, *other.ranges])) if self.ranges else other

    def __sub__(self, other: IndexSet) -> IndexSet:
        if not (self.ranges and other.ranges):
            return self
        left: list[tuple[int, int]] = []
        for low, high in self.ranges:
            for cut_low, cut_high in other.ranges:
                if cut_high < low or cut_low > high:
                    continue
                if cut_low > low:
                    left.append((low, cut_low - 1))
                low = cut_high + 1
                if low > high:
                    break
            if low <= high:
                left.append((low, high))
        return _made(tuple(left))

    def __and__(self, other: IndexSet) -> IndexSet:
        return self - (self - other)

    def take(self, count: int) -> IndexSet:
        """The `count` smallest members (all of them if there are fewer)."""
        taken: list[tuple[int, int]] = []
        for low, high in self.ranges:
            if count <= 0:
                break
            taken.append((low, min(high, low + count - 1)))
            count -= high - low + 1
        return _made(tuple(taken))

    def at(self, positions: IndexSet) -> IndexSet:
        """Members by position: a Job's completion indexes (0…n-1) translated back to the tasks they stand for.

        Positions past the end are ignored; a site's report may be of another shape than what was asked.
        """
        members = list(self)
        return IndexSet.of(members[i] for i in positions if i < len(members))


def _made(ranges: tuple[tuple[int, int], ...]) -> IndexSet:
    # Of ten thousand jobs each keeps several, and most are nothing or task 0: those are one object each.
    return IndexSet(ranges) if len(ranges) > 1 else _single(ranges)


@lru_cache(maxsize=4096)
def _single(ranges: tuple[tuple[int, int], ...]) -> IndexSet:
    return IndexSet(ranges)


def _merge(ranges: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    merged: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if merged and low <= merged[-1][1] + 1:
            if high > merged[-1][1]:
                merged[-1] = (merged[-1][0], high)
        else:
            merged.append((low, high))
    return tuple(merged)
