"""Who is to be asked when. Pure: clocks are passed in.

A cluster is asked when it never was, and then once an interval, counted from when its last asking began, so that slow
answers do not stretch the pace. A scorer that fails is asked less often.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

SLOWEST: Final = 60.0
"""Seconds between two attempts at a scorer that keeps failing, unless its own interval is longer."""
_FIRST_AGAIN: Final = 1.0


def due(
    clusters: Iterable[str], asked: Mapping[str, float], interval: float, now: float, not_before: float = 0.0
) -> tuple[list[str], float | None]:
    """Who is to be asked now, by name, and in how many seconds somebody will be (None: there is nobody).

    `asked`: when each was last asked, by the clock of `now`. `not_before`: the scorer is left alone until then.
    """
    batch: list[str] = []
    wait: float | None = None
    if now < not_before:
        return batch, not_before - now
    for cluster in sorted(clusters):
        last = asked.get(cluster)
        left = 0.0 if last is None else last + interval - now
        if left <= 0:
            batch.append(cluster)
        elif wait is None or left < wait:
            wait = left
    return batch, 0.0 if batch else wait


def pause(failures: int, interval: float) -> float:
    """Seconds from one failed asking to the next, after `failures` (1 or more) in a row."""
    slower = interval * 2.0 ** min(failures - 1, 8)
    return max(interval, min(slower, SLOWEST))


def sync_pause(failures: int, every: float) -> float:
    """Seconds to the next look at a scorer's configuration: soon after it failed, then ever later, at most `every`."""
    if failures == 0:
        return every
    return min(every, _FIRST_AGAIN * 2.0 ** min(failures - 1, 16))
