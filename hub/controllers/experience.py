"""What the hub's own slices have shown of their clusters, as columns that scorers read: `FailureRate`, `StartDelay`.

Told of every look at a job; after a restart the jobs' statuses tell it all again. What it means is
hub/scoring/experience.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

from hub.api.reasons import Reason
from hub.controllers.table import JobEntry
from hub.fleet.changes import FleetChange, ScoresGone, ScoresSeen
from hub.jobs.attempt import Attempt
from hub.scoring.experience import FAILURE_RATE, START_DELAY, Experience, Observation, failed_part, rounded

_EVERY: Final = 30.0
"""Seconds between two looks at what has been told: decisions need not follow every task that ends."""
_LONGEST: Final = 86_400.0
_FOR_EVER: Final = float("inf")
_STEPS: Final[Mapping[str, float]] = {FAILURE_RATE: 0.01, START_DELAY: 1.0}


class SliceRecord:
    """`feed` takes a column that moved; `now` is epoch seconds."""

    def __init__(self, feed: Callable[[FleetChange], None], now: Callable[[], float]) -> None:
        self._feed, self._now = feed, now
        self._seen = {FAILURE_RATE: Experience(), START_DELAY: Experience()}
        # Of each job that is there the epochs that have said all they can, as bits.
        self._told: dict[str, int] = {}
        self._fed: dict[str, Mapping[str, float]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def job_state(self, entry: JobEntry) -> None:
        if entry.state is None:
            return
        told = before = self._told.get(entry.uid, 0)
        for attempt in entry.state.attempts:
            if not told >> attempt.epoch & 1 and self._tell(entry.uid, attempt):
                told |= 1 << attempt.epoch
        if told != before:
            self._told[entry.uid] = told

    def job_gone(self, uid: str) -> None:
        """What its slices have shown stays."""
        self._told.pop(uid, None)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def look(self) -> None:
        """Feeds what has moved by a step or more."""
        self._timer = None
        now = self._now()
        for name, seen in self._seen.items():
            values = rounded(seen.means(now), _STEPS[name])
            if values != self._fed.get(name, {}):
                self._fed[name] = values
                self._feed(ScoresSeen(name, values, _FOR_EVER) if values else ScoresGone(name))

    def _tell(self, uid: str, attempt: Attempt) -> bool:
        """True when it has nothing more to say."""
        key = f"{uid}/{attempt.epoch}"
        if attempt.started_at is not None and attempt.admitted_at is not None:
            waited = min(max(0.0, attempt.started_at - attempt.admitted_at), _LONGEST)
            if self._seen[START_DELAY].tell(key, Observation(attempt.cluster, waited, attempt.started_at)):
                self._soon()
        if attempt.live:
            return False
        lost = attempt.state == "Lost" or attempt.reason == Reason.WORK_REFUSED.code
        # Who ends a job says nothing of its cluster.
        part = failed_part(len(attempt.succeeded), len(attempt.failed), lost=lost)
        if part is not None and (lost or attempt.state != "Cancelled"):
            at = attempt.finished_at if attempt.finished_at is not None else self._now()
            if self._seen[FAILURE_RATE].tell(key, Observation(attempt.cluster, part, at)):
                self._soon()
        return True

    def _soon(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_EVERY, self.look)
