"""How the tasks of an array are shared out over the slots that its clusters got. Pure arithmetic."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from hub.api.indexset import IndexSet

WAVES: Final = 8
"""A slice gets at most so many tasks a slot: more would wait there while other clusters fall idle."""


def shares(tasks: int, slots: Sequence[int], waves: int = WAVES) -> list[int]:
    """How many of `tasks` each gets: in proportion to its slots, at least one a slot, at most `waves` a slot.

    `slots` are positive and not more in all than `tasks`; ties of the rounding go to the earlier.
    """
    total = sum(slots)
    given = min(tasks, waves * total)
    exact = [divmod(given * count, total) for count in slots]
    result = [whole for whole, _ in exact]
    missing = given - sum(result)
    for number in sorted(range(len(slots)), key=lambda n: (-exact[n][1], n))[:missing]:
        result[number] += 1
    return result


def deal(tasks: IndexSet, counts: Sequence[int]) -> Iterator[IndexSet]:
    """Disjoint parts of `tasks` of these sizes, the smallest indexes first; one pass over the ranges."""
    ranges = list(reversed(tasks.ranges))
    for count in counts:
        part: list[tuple[int, int]] = []
        while count > 0 and ranges:
            low, high = ranges.pop()
            last = min(high, low + count - 1)
            part.append((low, last))
            count -= last - low + 1
            if last < high:
                ranges.append((last + 1, high))
        yield IndexSet(tuple(part))
