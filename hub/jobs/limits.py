"""Limits on time: how long a job may hold quota, and how long its tasks may take to be up. Pure.

Everything is counted from the job's slices as they are recorded, so a hub that takes over counts the same. What a
person set back (by activating a deactivated job again) begins anew: slices before `since` do not count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hub.api.reasons import Reason
from hub.jobs.attempt import Attempt


@dataclass(frozen=True, slots=True)
class PodsReady:
    """Kueue's waitForPodsReady, in seconds. `recovery` None: what was up once may stay down. `limit` None: no end.

    `block`: nothing is admitted while something admitted is not up. `to_the_end`: who was stopped for it is queued
    from then on, not from its creation.
    """

    timeout: float = 300.0
    recovery: float | None = None
    backoff_base: float = 60.0
    backoff_max: float = 3600.0
    limit: int | None = None
    block: bool = False
    to_the_end: bool = True


def is_up(attempt: Attempt) -> bool:
    """Whether as many of its tasks run, or have ended, as may run at once; slots that it got later do not count."""
    ended = len(attempt.tasks) - len(attempt.open_tasks)
    wanted = attempt.slots if attempt.resize is None else min(attempt.slots, attempt.resize.before)
    return ended + attempt.active >= wanted


def overdue(attempt: Attempt, ready: PodsReady, down_since: float | None) -> float | None:
    """When the slice has had time enough to be up; None while there is nothing to wait for.

    `down_since`: since when it is not up any more, or None when it never was.
    """
    if not attempt.live or attempt.reserved or attempt.eviction is not None or attempt.admitted_at is None:
        return None
    if is_up(attempt):
        return None
    if down_since is None:
        return attempt.admitted_at + ready.timeout
    return None if ready.recovery is None else down_since + ready.recovery


def requeues(attempts: Sequence[Attempt], since: int) -> tuple[int, float]:
    """How often in a row the job was not up in time, and when (epoch seconds) it was stopped for that last.

    Slices that were stopped together are one time.
    """
    moments: set[int] = set()
    last = 0.0
    for attempt in reversed(attempts):
        if attempt.epoch < since:
            break
        if attempt.state == "Evicted" and attempt.reason == Reason.PODS_READY_TIMEOUT.code:
            stopped = attempt.finished_at or 0.0
            moments.add(int(stopped))
            last = max(last, stopped)
        elif attempt.state in ("Succeeded", "Failed") or (attempt.live and is_up(attempt)):
            break
    return len(moments), last


def requeue_at(count: int, stopped: float, ready: PodsReady) -> float:
    """When it may try again after it was stopped for the n-th time."""
    return stopped + backoff(count, ready)


def backoff(count: int, ready: PodsReady) -> float:
    """Seconds after the n-th time in a row: Kueue's min(base·2^(n−1), max)."""
    return min(ready.backoff_base * 2.0 ** min(count - 1, 60), ready.backoff_max)


def held_time(attempts: Sequence[Attempt], since: int, now: float) -> float:
    """Seconds in which at least one slice was admitted: time that it waits for admission checks does not count."""
    spans: list[tuple[float, float]] = []
    for attempt in attempts:
        begin = attempt.admitted_at
        end = now if attempt.live else attempt.finished_at
        if attempt.reserved:
            continue
        if attempt.epoch >= since and begin is not None and end is not None and end > begin:
            spans.append((begin, end))
    total, reached = 0.0, float("-inf")
    for begin, end in sorted(spans):
        total += max(0.0, end - max(begin, reached))
        reached = max(reached, end)
    return total


def down(attempts: Sequence[Attempt], before: Mapping[int, float | None], now: float) -> dict[int, float | None]:
    """By epoch of slices that are or were up: None while they are, else since when they are not."""
    found: dict[int, float | None] = {}
    for attempt in attempts:
        if not attempt.live:
            continue
        if is_up(attempt):
            found[attempt.epoch] = None
        elif attempt.epoch in before:
            known = before[attempt.epoch]
            found[attempt.epoch] = now if known is None else known
    return found
