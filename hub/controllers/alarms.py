"""Deadlines and pauses of jobs pass without any news: one timer a job, for the first of them. It decides nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from hub.controllers.table import JobEntry

# Rather a moment late than just too early to see that it has passed.
_LATE = 0.001


class Alarms:
    """`now` is epoch seconds, as deadlines are; pauses are on the loop's clock."""

    def __init__(self, now: Callable[[], float], ring: Callable[[JobEntry], None]) -> None:
        self._now, self._ring = now, ring

    def set(self, entry: JobEntry, wake_at: float | None) -> None:
        """Rings at `wake_at` or at the end of the entry's pause; what was set before is void."""
        if entry.timer is not None:
            entry.timer.cancel()
            entry.timer = None
        loop = asyncio.get_running_loop()
        delays = [] if wake_at is None else [max(0.0, wake_at - self._now())]
        if entry.pause_until > loop.time():
            delays.append(entry.pause_until - loop.time())
        if delays:
            entry.timer = loop.call_later(min(delays) + _LATE, self._rings, entry)

    def _rings(self, entry: JobEntry) -> None:
        entry.timer = None
        self._ring(entry)
