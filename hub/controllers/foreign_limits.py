"""What must become of a Workload that somebody else runs, whoever else waits: checks, limits on time, drained queues.

As Kueue does it, step by step: each step is one write of its status, and what it says is where the next begins, so a
hub that takes over goes on with it. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from hub.api.conditions import condition_is, find_condition
from hub.api.reasons import Reason
from hub.api.timestamps import format_duration
from hub.controllers.foreign_status import TARGET, Verdict, held_before, since
from hub.controllers.foreign_workload import Holding, Waiting
from hub.jobs.admission_checks import MOST_CHECKS, REJECTED, RETRY, all_ready, read_checks, said, saying, stale
from hub.jobs.kueue_conditions import REACTIVATED, RESTARTED
from hub.jobs.limits import PodsReady, backoff
from hub.queueing.quotas import Quotas

Json = Mapping[str, Any]
_DRAIN: Final = "HoldAndDrain"
_BACKED_OFF: Final = (Reason.PODS_READY_TIMEOUT.code, Reason.ADMISSION_CHECK.code)


@dataclass(frozen=True, slots=True)
class Step:
    """`verdict`: what its status is to say next. `deactivate`: its spec.active is to be false. `wake_at` (epoch
    seconds): when this would differ without news."""

    verdict: Verdict | None = None
    deactivate: bool = False
    wake_at: float | None = None


_NOTHING: Final = Step()


class ForeignLimits:
    """`ready` None: nobody waits for pods to be ready."""

    def __init__(self, ready: PodsReady | None) -> None:
        self.ready = ready

    @property
    def by_eviction(self) -> bool:
        return self.ready is None or self.ready.to_the_end

    @property
    def blocks(self) -> bool:
        return self.ready is not None and self.ready.block

    def step(self, obj: Json, read: Waiting | Holding, quotas: Quotas, now: float) -> Step:
        status, active = obj.get("status") or {}, (obj.get("spec") or {}).get("active") is not False
        if active and condition_is(status.get("conditions"), TARGET):
            return Step(deactivate=True)
        if isinstance(read, Holding):
            return self._holding(obj, read, quotas, now, active=active)
        return self._waiting(obj, read, quotas, now, active=active)

    def unready(self, obj: Json) -> bool:
        """Whether it is admitted, and not all of its pods are up."""
        conditions = (obj.get("status") or {}).get("conditions")
        return condition_is(conditions, "Admitted") and not condition_is(conditions, "PodsReady")

    # With quota.

    def _holding(self, obj: Json, held: Holding, quotas: Quotas, now: float, *, active: bool) -> Step:
        status = obj.get("status") or {}
        admitted = condition_is(status.get("conditions"), "Admitted")
        if held.leaving:
            # Of what never started there is nothing to stop.
            alone = not obj["metadata"].get("ownerReferences") or not admitted
            return Step(Verdict.released()) if alone else _NOTHING
        if not active:
            return Step(_deactivated(status))
        states = read_checks(status)
        if refused := saying(states, REJECTED):
            return Step(
                Verdict("target", cause="AdmissionCheck", message=f"admission checks reject it: {said(refused)}")
            )
        if again := saying(states, RETRY):
            message = Reason.ADMISSION_CHECK.message(checks=said(again))
            return Step(Verdict.evicted(Reason.ADMISSION_CHECK.code, message))
        if (drained := _drained(held, quotas)) is not None:
            return Step(Verdict.evicted(*drained))
        if not admitted:
            return Step(_through(status, held, quotas))
        return self._admitted(obj, now)

    def _admitted(self, obj: Json, now: float) -> Step:
        status, wake = obj.get("status") or {}, []
        began = since(status, "Admitted")
        limit = (obj.get("spec") or {}).get("maximumExecutionTimeSeconds")
        if isinstance(limit, int) and limit > 0 and began is not None:
            end = began + limit - held_before(status)
            if end <= now:
                message = f"it was admitted for longer than {format_duration(float(limit))}"
                return Step(Verdict("target", cause="MaximumExecutionTimeExceeded", message=message))
            wake.append(end)
        if self.ready is None:
            return Step(wake_at=min(wake, default=None))
        if condition_is(status.get("conditions"), "PodsReady"):
            done = Verdict("ready") if status.get("requeueState") else None
            return Step(done, wake_at=min(wake, default=None))
        late = self._late_at(status, self.ready)
        if late is not None and late[0] <= now:
            return Step(self._not_ready(status, self.ready, late[1], now))
        return Step(wake_at=min([*wake, *(late[:1] if late is not None else ())], default=None))

    @staticmethod
    def _late_at(status: Json, ready: PodsReady) -> tuple[float, float] | None:
        """When its pods have had time enough, and how much that is."""
        found = find_condition(status.get("conditions"), "PodsReady") or {}
        if found.get("reason") == "WaitForRecovery":
            down = since(status, "PodsReady")
            return None if ready.recovery is None or down is None else (down + ready.recovery, ready.recovery)
        began = since(status, "Admitted")
        return None if began is None else (began + ready.timeout, ready.timeout)

    @staticmethod
    def _not_ready(status: Json, ready: PodsReady, waited: float, now: float) -> Verdict:
        before = (status.get("requeueState") or {}).get("count")
        count = (before if isinstance(before, int) else 0) + 1
        if ready.limit is not None and count > ready.limit:
            message = f"its pods were not all ready in time, {count} times"
            return Verdict("target", cause="RequeuingLimitExceeded", message=message)
        message = f"its pods were not all ready after {format_duration(waited)}"
        evicted = Verdict.evicted(Reason.PODS_READY_TIMEOUT.code, message)
        return replace(evicted, count=count, again_at=now + backoff(count, ready))

    # Without quota.

    def _waiting(self, obj: Json, read: Waiting, quotas: Quotas, now: float, *, active: bool) -> Step:
        status = obj.get("status") or {}
        conditions = status.get("conditions")
        if not active:
            return _NOTHING if condition_is(conditions, "Evicted") else Step(_deactivated(status))
        if stale(read_checks(status)):
            return Step(Verdict("reset"))
        over = self._over(obj, read, quotas, now)
        if over is not None:
            return Step(Verdict("requeue", cause=over[0], message=over[1]))
        wait = read.again_at if read.again_at is not None and read.again_at > now else None
        return Step(wake_at=wait)

    @staticmethod
    def _over(obj: Json, read: Waiting, quotas: Quotas, now: float) -> tuple[str, str] | None:
        """What has ended that kept it out of the queue: the reason and message of Requeued."""
        found = find_condition((obj.get("status") or {}).get("conditions"), "Requeued")
        if found is None or found.get("status") != "False":
            return None
        cause = str(found.get("reason") or "")
        if cause in _BACKED_OFF:
            ended = read.again_at is None or read.again_at <= now
        elif cause in (Reason.CLUSTER_QUEUE_STOPPED.code, Reason.LOCAL_QUEUE_STOPPED.code):
            demand = read.demand
            local = quotas.local_queues.get((demand.namespace, demand.queue)) if demand is not None else None
            queue = quotas.queues.get(local.cluster_queue) if local is not None else None
            which = queue if cause == Reason.CLUSTER_QUEUE_STOPPED.code else local
            ended = which is not None and which.stop == "None"
        else:
            ended = cause.startswith("Deactivated")
        return RESTARTED.get(cause, REACTIVATED) if ended else None


def _deactivated(status: Json) -> Verdict:
    """With what is behind it, where that is known."""
    why = find_condition(status.get("conditions"), TARGET)
    if why is None or why.get("status") != "True":
        return Verdict.evicted(Reason.DEACTIVATED.code, "The workload is deactivated")
    message = f"The workload is deactivated: {why.get('message') or ''}"
    return Verdict.evicted(f"{Reason.DEACTIVATED.code}DueTo{why.get('reason')}", message)


def _through(status: Json, held: Holding, quotas: Quotas) -> Verdict | None:
    """Of one with quota that is not admitted: whether its checks have let it through."""
    asked = quotas.asks(held.queue, held.flavors)
    states = read_checks(status)
    # Of more than a status can list none is ever let through.
    if sorted(one.name for one in states) != sorted(asked[:MOST_CHECKS]):
        ours = next((name for name in asked if name in quotas.checks and quotas.checks[name].ours), "")
        return Verdict("check", asked=asked, ours=ours)
    return Verdict("start") if all_ready(states, asked) else None


def _drained(held: Holding, quotas: Quotas) -> tuple[str, str] | None:
    demand = held.waiting.demand
    queue = quotas.queues.get(held.queue)
    if queue is not None and queue.stop == _DRAIN:
        why = Reason.CLUSTER_QUEUE_STOPPED
        return why.code, why.message(queue=queue.name)
    local = quotas.local_queues.get((demand.namespace, demand.queue)) if demand is not None else None
    if local is not None and local.stop == _DRAIN:
        why = Reason.LOCAL_QUEUE_STOPPED
        return why.code, why.message(queue=local.name)
    return None
