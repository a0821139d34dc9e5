"""Scores that hold still: what is shown of a value that jitters. Pure.

A value is averaged over time (exponentially: a part of the new one, the rest of what was before), and what is shown
moves only when the average has moved far enough from it, and not too soon after it moved last. A move of many points
shows at the first or second look; noise does not show at all.
"""

from __future__ import annotations

from dataclasses import dataclass

from hub.scoring.dynamic.policy import Settling


@dataclass(frozen=True, slots=True)
class Settled:
    """`shown` counts. `average` is what the next value is averaged with; `moved`: since when `shown` is shown."""

    shown: float
    average: float
    moved: float


def settle(last: Settled | None, value: float, now: float, rule: Settling) -> Settled:
    """`last` None: nothing was shown, or it is too old to be compared with. `now`: seconds of any clock."""
    if last is None:
        return Settled(value, value, now)
    # Halves first, so that the difference of two huge values is still a number.
    average = value * rule.part + last.average * (1.0 - rule.part)
    distance = abs(average / 2 - last.shown / 2) * 2
    if distance == 0 or distance < rule.deadband or now - last.moved < rule.hold:
        return Settled(last.shown, average, last.moved)
    return Settled(average, average, now)
