"""GPUs that are held and not used: a slice below the threshold for the whole window is warned, then demoted or evicted.

Use is asked of Prometheus, by cluster and work. A slice that no series is about is never idle: unknown is not zero.
What is known here is forgotten by a hub that takes over, which warns again before it does anything.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from hub.api.reasons import Reason
from hub.api.timestamps import format_duration
from hub.controllers.asking import cause as said
from hub.controllers.evicting import Cause
from hub.controllers.logs import logger
from hub.controllers.queue_config import Idle
from hub.jobs.attempt import Attempt
from hub.planner.plan import HeldSlice

_log = logger(__name__)
Place = tuple[str, str]
"""(cluster, name of the ManifestWork)"""
DEMOTED: Final = -(2**31)
"""The priority of a demoted job: whoever may preempt takes it first, and nobody waits behind it."""
QUERY: Final = """avg by (cluster, work) (label_replace(
  100 * avg_over_time(DCGM_FI_PROF_GR_ENGINE_ACTIVE{{pod!=""}}[{window}])
    or on (cluster, UUID) avg_over_time(DCGM_FI_DEV_GPU_UTIL{{pod!=""}}[{window}]),
  "work", "$1", "pod", "(.+)-[0-9]+-[a-z0-9]+"))"""
"""Pods of an Indexed Job are called JOB-INDEX-SUFFIX, and a slice's Job as its ManifestWork."""
_SHORTEST: Final = 0.2
_LONGEST: Final = 60.0


class IdleWatch:
    """`ask(promql)` gives Prometheus's result, in a thread; `on_idle` hears of a slice when it is warned (with the
    sentence), `on_change` of every job (uid) for which something is different. `now` is epoch seconds."""

    def __init__(
        self,
        config: Idle,
        ask: Callable[[str], object],
        held: Callable[[], Iterable[HeldSlice]],
        notice: float,
        now: Callable[[], float],
        *,
        on_idle: Callable[[HeldSlice, str], None],
        on_change: Callable[[str], None],
    ) -> None:
        self._config, self._ask, self._held, self._notice, self._now = config, ask, held, notice, now
        self._on_idle, self._on_change = on_idle, on_change
        self._query = config.query or QUERY.format(window=f"{math.ceil(config.for_)}s")
        self._since: dict[Place, tuple[str, float, float]] = {}

    @property
    def slices(self) -> int:
        """How many are idle now."""
        return len(self._since)

    async def run(self) -> None:
        every = min(max(self._config.for_ / 10, _SHORTEST), _LONGEST)
        failing = False
        while True:
            await asyncio.sleep(every)
            try:
                self.look(read_use(await asyncio.to_thread(self._ask, self._query)))
                failing = False
            except Exception as error:
                # Nobody is idle because Prometheus is away: what was found stays as it is.
                if not failing:
                    _log.warning("how much GPUs are used cannot be asked", why=said(error))
                failing = True

    def look(self, use: Mapping[Place, float]) -> None:
        """`use`: percent, on average over the window."""
        now, found = self._now(), dict[Place, tuple[str, float, float]]()
        for part in self._held():
            place = (part.cluster, part.work)
            value = use.get(place)
            if value is None or part.leaving or part.started is None or not part.shape.gpu_milli:
                continue
            if value >= self._config.below or now - part.started < self._config.for_:
                continue
            known = self._since.get(place)
            found[place] = (part.uid, known[1] if known is not None else now, value)
            if known is None:
                self._on_idle(part, self._sentence(part.cluster, value))
        changed = {
            entry[0] for place, entry in {**self._since, **found}.items() if (place in found) != (place in self._since)
        }
        due = now - self._config.patience
        changed |= {uid for uid, since, _ in found.values() if since <= due}
        self._since = found
        for uid in sorted(changed):
            self._on_change(uid)

    def cause(self, attempt: Attempt) -> Cause | None:
        """Why the slice has to go for it."""
        known = self._since.get((attempt.cluster, attempt.work))
        if self._config.action != "evict" or known is None or not self._late(known[1]):
            return None
        return Cause(Reason.IDLE, self._sentence(attempt.cluster, known[2]), self._notice)

    def demoted(self, uid: str) -> bool:
        """Whether the job has lost its priority for it."""
        if self._config.action != "demote":
            return False
        return any(owner == uid and self._late(since) for owner, since, _ in self._since.values())

    def _late(self, since: float) -> bool:
        return self._now() - since >= self._config.patience

    def _sentence(self, cluster: str, value: float) -> str:
        return Reason.IDLE.message(
            cluster=cluster,
            used=f"{value:.0f}",
            window=format_duration(self._config.for_),
            threshold=f"{self._config.below:g}",
        )


def read_use(result: object) -> dict[Place, float]:
    """Of an instant vector with the labels `cluster` and `work`; what cannot be read says nothing."""
    found: dict[Place, float] = {}
    for entry in result if isinstance(result, list) else ():
        if not isinstance(entry, Mapping):
            continue
        labels: Mapping[str, Any] = entry.get("metric") or {}
        try:
            value = float(entry["value"][1])
        except (KeyError, IndexError, TypeError, ValueError):
            continue
        if labels.get("cluster") and labels.get("work") and math.isfinite(value):
            found[str(labels["cluster"]), str(labels["work"])] = value
    return found
