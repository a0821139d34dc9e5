"""What admission checks say of the hub's own jobs, and what follows: slices that were reserved are sent, or given back.

The checks' controllers write their states into the job's Workload, and only there are they read. An answer counts for
the quota that it was asked about: while answers about quota that was given back are still there, nothing more of the
job is decided. So a hub that takes over knows all of it from the Workload and the ManifestWorks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from hub.api.errors import InvalidObjectError
from hub.api.reasons import Reason
from hub.api.timestamps import format_time, from_timestamp
from hub.controllers.delivery import Delivery
from hub.controllers.evicting import Cause
from hub.controllers.limits import Standing
from hub.controllers.table import JobEntry
from hub.controllers.world import World
from hub.jobs.admission_checks import REJECTED, RETRY, again_at, all_ready, awaited, said, saying, stale
from hub.jobs.attempt import Attempt
from hub.jobs.pod_updates import PodUpdates, updates_of
from hub.jobs.spec import JobSpec
from hub.jobs.state import JobState
from hub.jobs.workload import POD_SET
from hub.planner.plan import Refusal

_FREE = Standing()
_ANEW: Final = "its quota was given back; its admission checks are set back before it is decided about again"


@dataclass(frozen=True, slots=True)
class _Asked:
    """Of slices that are live: the checks that they need, by whoever answers."""

    all: tuple[str, ...]
    strangers: tuple[str, ...]


class Answers:
    """What follows from them, for whoever only looks. `now` is epoch seconds."""

    def __init__(self, world: World, now: Callable[[], float]) -> None:
        self._world, self._now = world, now

    def standing(self, entry: JobEntry, spec: JobSpec, state: JobState) -> Standing:
        """What has to go or wait for it; `entry.awaits` is what its reserved slices wait for."""
        entry.awaits = None
        workload = entry.workload
        states = workload.checks if workload is not None else ()
        again = workload.requeue_at if workload is not None else None
        live = [attempt for attempt in state.attempts if attempt.live]
        reserved = [attempt for attempt in live if attempt.reserved]
        if state.ended or spec.suspend or not (states or reserved or again is not None):
            return _FREE
        if not live:
            return self._between(entry, spec, state)
        going = all(attempt.eviction is not None for attempt in live)
        if going or (workload is not None and not workload.active):
            return _FREE
        if refused := saying(states, REJECTED):
            return _deactivated(live, spec, f"rejected by {said(refused)}")
        if again_wanted := saying(states, RETRY):
            message = Reason.ADMISSION_CHECK.message(checks=said(again_wanted))
            return Standing(evict=tuple((attempt, Cause(Reason.ADMISSION_CHECK, message)) for attempt in live))
        if reserved:
            try:
                self._updates(entry, spec)
            except InvalidObjectError as error:
                return _deactivated(live, spec, str(error))
            asked = self._asked(reserved)
            clusters = ", ".join(sorted({attempt.cluster for attempt in reserved}))
            facts = (
                ("queue", reserved[-1].queue),
                ("clusters", clusters),
                ("checks", awaited(states, asked.strangers) or ", ".join(asked.strangers)),
            )
            entry.awaits = Refusal(spec.key, Reason.UNSATISFIED_CHECKS, facts)
        return _FREE

    def asked(self, state: JobState) -> tuple[str, ...]:
        """Every check that the live slices of a job need, the one of MultiKueue included; sorted."""
        return self._asked(state.live).all

    def ours(self, asked: Iterable[str]) -> str:
        """The one of them that the hub answers itself; empty: none."""
        checks = self._world.quotas.checks
        return next((name for name in asked if name in checks and checks[name].ours), "")

    def _asked(self, attempts: Iterable[Attempt]) -> _Asked:
        quotas = self._world.quotas
        every: set[str] = set()
        strangers: set[str] = set()
        for attempt in attempts:
            queue = quotas.queues.get(attempt.queue)
            if queue is None or not queue.check_rules:
                continue
            flavors = [flavor for _, flavor in attempt.flavors]
            every.update(quotas.asks(attempt.queue, flavors))
            strangers.update(quotas.strangers(attempt.queue, flavors))
        return _Asked(tuple(sorted(every)), tuple(sorted(strangers)))

    @staticmethod
    def _updates(entry: JobEntry, spec: JobSpec) -> PodUpdates:
        states = entry.workload.checks if entry.workload is not None else ()
        return updates_of(states, POD_SET, spec.template)

    def _between(self, entry: JobEntry, spec: JobSpec, state: JobState) -> Standing:
        """It holds nothing: until its checks are set back, and as long as they asked for, it is not in the queue."""
        workload = entry.workload
        assert workload is not None, "asked only about what was answered"
        moments = [moment for moment in (again_at(workload.checks), workload.requeue_at) if moment is not None]
        last = next((attempt for attempt in reversed(state.attempts) if not attempt.live), None)
        backs_off = last is not None and last.reason == Reason.ADMISSION_CHECK.code
        until = max(moments, default=0.0) if backs_off or saying(workload.checks, RETRY) else 0.0
        if until > self._now():
            at = format_time(from_timestamp(until))
            return Standing(Refusal(spec.key, Reason.CHECK_RETRY, (("at", at),)), (), None, until)
        if stale(workload.checks) or (workload.checks and workload.reserved):
            # Whoever answers them has to see that they are asked anew.
            return Standing(Refusal(spec.key, Reason.PENDING_EVALUATION, (("detail", _ANEW),)))
        return _FREE


class Checking(Answers):
    """The same for the hub that carries it out."""

    def __init__(self, world: World, delivery: Delivery, now: Callable[[], float]) -> None:
        super().__init__(world, now)
        self._delivery = delivery

    def send(self, entry: JobEntry, spec: JobSpec) -> None:
        """Whatever of the job is reserved and has been let through goes to its cluster."""
        workload, state = entry.workload, entry.state
        if state is None or workload is None or entry.hold is not None or not workload.active or workload.deleting:
            return
        if entry.pause_until > asyncio.get_running_loop().time():
            return
        for attempt in state.attempts:
            if not attempt.reserved or not attempt.live or attempt.eviction is not None:
                continue
            if attempt.epoch in entry.evicting or attempt.epoch in entry.assumed:
                continue
            strangers = self._asked((attempt,)).strangers
            if strangers and not (workload.reserved and all_ready(workload.checks, strangers)):
                continue
            try:
                updates = self._updates(entry, spec)
            except InvalidObjectError:
                # Said by `standing`.
                return
            self._delivery.send(entry, spec, attempt, updates)


def _deactivated(live: Iterable[Attempt], spec: JobSpec, why: str) -> Standing:
    reason = Reason.CHECK_REJECTED
    cause = Cause(reason, f"{reason.message()}: {why}")
    return Standing(Refusal(spec.key, reason), tuple((attempt, cause) for attempt in live), reason)
