"""What a job may not do for now, and which of its slices have to go for it: drained queues, deactivation, limits.

Everything follows from the job's slices, its queue and its Workload as they are now; the arithmetic is
hub/jobs/limits.py. Telling slices to go is hub/controllers/evicting.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from hub.api.reasons import Reason
from hub.api.timestamps import format_duration, format_time, from_timestamp
from hub.controllers.evicting import Cause
from hub.controllers.idle import DEMOTED, IdleWatch
from hub.controllers.table import JobEntry
from hub.controllers.world import World
from hub.jobs.attempt import Attempt
from hub.jobs.limits import PodsReady, down, held_time, is_up, overdue, requeue_at, requeues
from hub.jobs.spec import JobSpec
from hub.jobs.state import JobState
from hub.planner.plan import Refusal

_DRAIN: Final = "HoldAndDrain"
Evictions = tuple[tuple[Attempt, Cause], ...]


@dataclass(frozen=True, slots=True)
class Standing:
    """`hold`: why nothing of the job may be placed now. `evict`: slices that have to go. `deactivate`: why its Workload
    is to be deactivated. `wake_at` (epoch seconds): when this would differ without news."""

    hold: Refusal | None = None
    evict: Evictions = ()
    deactivate: Reason | None = None
    wake_at: float | None = None

    def __or__(self, other: Standing) -> Standing:
        """Both; where they differ, this one counts."""
        moments = [moment for moment in (self.wake_at, other.wake_at) if moment is not None]
        return Standing(
            self.hold or other.hold,
            self.evict + other.evict,
            self.deactivate or other.deactivate,
            min(moments, default=None),
        )


_FREE: Final = Standing()


class Limits:
    """`ready` None: nobody waits for tasks to be up. `notice`: seconds that drained slices get. `now`: epoch seconds.

    `idle` names slices that hold GPUs and do not use them, with what is to become of them.
    """

    def __init__(
        self,
        world: World,
        ready: PodsReady | None,
        notice: float,
        now: Callable[[], float],
        idle: IdleWatch | None = None,
    ) -> None:
        self._world, self._ready, self._notice, self._now = world, ready, notice, now
        self._idle = idle

    def standing(self, entry: JobEntry, spec: JobSpec, state: JobState) -> Standing:
        if state.ended or spec.suspend:
            entry.up = {}
            return _FREE
        deactivated = self._deactivated(entry)
        since = entry.workload.deactivated[1] if entry.workload is not None else 0
        live = [attempt for attempt in state.attempts if attempt.live]
        if deactivated is not None:
            return self._stopped(spec, deactivated, live)
        found = self._drained(spec, live)
        wake: list[float] = []
        if spec.max_execution is not None:
            left = spec.max_execution - held_time(state.attempts, since, self._now())
            if left <= 0:
                stopped = self._stopped(spec, Reason.MAX_EXECUTION_TIME, live)
                return replace(stopped, deactivate=Reason.MAX_EXECUTION_TIME)
            if live:
                wake.append(self._now() + left)
        if self._idle is not None:
            found += [(attempt, cause) for attempt in live if (cause := self._idle.cause(attempt)) is not None]
        if self._ready is None:
            return Standing(None, tuple(found), None, min(wake, default=None))
        return self._until_up(entry, spec, state, since, found, wake)

    def queued(self, state: JobState) -> float | None:
        """Since when it is in the queue where that is not since its creation: who did not get up, or was sent back by
        an admission check, goes to the end."""
        last = next((attempt for attempt in reversed(state.attempts) if not attempt.live), None)
        if last is not None and last.state == "Evicted" and last.reason == Reason.ADMISSION_CHECK.code:
            return last.finished_at
        if self._ready is None or not self._ready.to_the_end:
            return None
        count, stopped = requeues(state.attempts, 0)
        return stopped if count else None

    def priority(self, uid: str, priority: int) -> int:
        """That of the job's class, unless it has lost it."""
        return DEMOTED if self._idle is not None and self._idle.demoted(uid) else priority

    def unready(self, state: JobState) -> bool:
        """Whether something of it is admitted and not up."""
        return any(a.live and not a.reserved and a.eviction is None and not is_up(a) for a in state.attempts)

    def _until_up(
        self,
        entry: JobEntry,
        spec: JobSpec,
        state: JobState,
        since: int,
        found: list[tuple[Attempt, Cause]],
        wake: list[float],
    ) -> Standing:
        ready, now = self._ready, self._now()
        assert ready is not None, "asked only where somebody waits"
        before = entry.up
        entry.up = down(state.attempts, before, now)
        entry.recovered = entry.recovered or any(
            since is not None and entry.up.get(epoch, since) is None for epoch, since in before.items()
        )
        for attempt in state.attempts:
            moment = overdue(attempt, ready, entry.up.get(attempt.epoch))
            if moment is None:
                continue
            if moment > now:
                wake.append(moment)
                continue
            waited = ready.timeout if entry.up.get(attempt.epoch) is None else ready.recovery or 0.0
            message = Reason.PODS_READY_TIMEOUT.message(
                ready=attempt.active, wanted=attempt.slots, cluster=attempt.cluster, timeout=format_duration(waited)
            )
            found.append((attempt, Cause(Reason.PODS_READY_TIMEOUT, message)))
        count, stopped = requeues(state.attempts, since)
        hold: Refusal | None = None
        if ready.limit is not None and count > ready.limit:
            entry_stopped = self._stopped(spec, Reason.REQUEUING_LIMIT_EXCEEDED, [a for a in state.attempts if a.live])
            return replace(entry_stopped, deactivate=Reason.REQUEUING_LIMIT_EXCEEDED)
        if count and (again := requeue_at(count, stopped, ready)) > now:
            wake.append(again)
            at = format_time(from_timestamp(again))
            hold = Refusal(spec.key, Reason.BACKING_OFF, (("count", count), ("at", at)))
        return Standing(hold, tuple(found), None, min(wake, default=None))

    def _deactivated(self, entry: JobEntry) -> Reason | None:
        workload = entry.workload
        if workload is None or workload.active or workload.suspended_by_job:
            return None
        code, since = workload.deactivated
        # Once it has run again, what is said there is of an earlier time.
        fresh = all(a.epoch < since for a in entry.state.attempts) if entry.state is not None else False
        return next((reason for reason in Reason if fresh and reason.code == code), Reason.DEACTIVATED)

    def _stopped(self, spec: JobSpec, why: Reason, live: list[Attempt]) -> Standing:
        facts: tuple[tuple[str, object], ...] = ()
        if why is Reason.MAX_EXECUTION_TIME:
            facts = (("limit", format_duration(spec.max_execution or 0.0)),)
        elif why is Reason.REQUEUING_LIMIT_EXCEEDED:
            limit = self._ready.limit if self._ready is not None else None
            facts = (("count", (limit or 0) + 1),)
        hold = Refusal(spec.key, why, facts)
        cause = Cause(why, hold.message)
        return Standing(hold, tuple((attempt, cause) for attempt in live))

    def _drained(self, spec: JobSpec, live: list[Attempt]) -> list[tuple[Attempt, Cause]]:
        return list(self._drains(spec, live))

    def _drains(self, spec: JobSpec, live: list[Attempt]) -> Iterator[tuple[Attempt, Cause]]:
        quotas = self._world.quotas
        local = quotas.local_queues.get((spec.namespace, spec.queue))
        for attempt in live:
            queue = quotas.queues.get(attempt.queue)
            if queue is not None and queue.stop == _DRAIN:
                why = Reason.CLUSTER_QUEUE_STOPPED
                yield attempt, Cause(why, why.message(queue=attempt.queue), self._notice)
            elif local is not None and local.stop == _DRAIN:
                why = Reason.LOCAL_QUEUE_STOPPED
                yield attempt, Cause(why, why.message(queue=spec.queue), self._notice)
