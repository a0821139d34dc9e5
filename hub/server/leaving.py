"""Who has to give its quota back whoever else waits: drained queues, admission checks that say no, limits on time.

What Kueue's controllers do to Workloads with quota beside its scheduler, as far as it follows from the objects and the
clock. Reasons and messages are those of the Evicted condition. Pure; a hub that runs does the same to what runs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from hub.api.conditions import condition_is, find_condition
from hub.api.errors import InvalidObjectError
from hub.api.reasons import Reason
from hub.api.timestamps import parse_time
from hub.jobs.admission_checks import REJECTED, RETRY, again_at, read_checks, said, saying
from hub.jobs.limits import PodsReady
from hub.queueing.objects import LocalQueue
from hub.queueing.quotas import Quotas

Json = Mapping[str, Any]
_DRAIN: Final = "HoldAndDrain"
_WAITS_FOR_START: Final = ("", "WaitForStart", "PodsReady")


@dataclass(frozen=True, slots=True)
class Leaving:
    """`reason` and `message` as the Evicted condition says them. `back_at`: when (epoch seconds) it may be admitted
    again; infinite: not before somebody activates it. `to_the_end`: it is queued from now on, not from its creation."""

    reason: str
    message: str
    back_at: float = 0.0
    to_the_end: bool = False

    @property
    def deactivated(self) -> bool:
        return math.isinf(self.back_at)


def leaving(obj: Json, queue: str, quotas: Quotas, ready: PodsReady | None, now: float) -> Leaving | None:
    """Of a Workload (v1beta2) that holds quota of ClusterQueue `queue`; None: it may keep it, or is on its way out.

    The first that applies, in the order in which Kueue's controller asks.
    """
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    conditions = status.get("conditions")
    if condition_is(conditions, "Evicted"):
        return None
    if spec.get("active") is False:
        return Leaving("Deactivated", "The workload is deactivated", math.inf)
    checks = read_checks(status)
    if rejected := saying(checks, REJECTED):
        return _deactivated("AdmissionCheck", f"admission checks said no: {said(rejected)}")
    if saying(checks, RETRY):
        again = again_at(checks) or 0.0
        return Leaving("AdmissionCheck", "At least one admission check is false", max(again, now), to_the_end=True)
    if not condition_is(conditions, "Admitted"):
        return _given_back(obj, queue, quotas)
    if why := _drained(obj, queue, quotas):
        return Leaving(why[0].code, why[0].message(queue=why[1]))
    admitted = _since(conditions, "Admitted", now)
    limit, before = spec.get("maximumExecutionTimeSeconds"), status.get("accumulatedPastExecutionTimeSeconds")
    if isinstance(limit, int) and now - admitted + (before if isinstance(before, int) else 0) >= limit:
        return _deactivated("MaximumExecutionTimeExceeded", f"it ran longer than its {limit} s")
    return _not_ready(status, conditions, ready, admitted, now) if ready is not None else None


def _drained(obj: Json, queue: str, quotas: Quotas) -> tuple[Reason, str] | None:
    """Which queue is being emptied, and as what it is said."""
    found = quotas.queues.get(queue)
    if found is not None and found.stop == _DRAIN:
        return Reason.CLUSTER_QUEUE_STOPPED, queue
    local = _local(obj, quotas)
    if local is not None and local.stop == _DRAIN:
        return Reason.LOCAL_QUEUE_STOPPED, local.name
    return None


def _given_back(obj: Json, queue: str, quotas: Quotas) -> Leaving | None:
    """What waits for admission checks only is not kept by a queue that is stopped in either way."""
    found, local = quotas.queues.get(queue), _local(obj, quotas)
    if found is not None and found.stop != "None":
        return Leaving(Reason.QUEUE_SUSPENDED.code, f"ClusterQueue {queue} is stopped")
    if local is not None and local.stop != "None":
        return Leaving(Reason.ON_HOLD.code, f"LocalQueue {local.name} is stopped")
    return None


def _local(obj: Json, quotas: Quotas) -> LocalQueue | None:
    namespace = str(obj["metadata"].get("namespace") or "default")
    return quotas.local_queues.get((namespace, str((obj.get("spec") or {}).get("queueName") or "")))


def _not_ready(status: Json, conditions: Any, ready: PodsReady, admitted: float, now: float) -> Leaving | None:
    found = find_condition(conditions, "PodsReady") or {}
    if found.get("status") == "True":
        return None
    if found.get("reason", "") in _WAITS_FOR_START:
        late = now - admitted >= ready.timeout
    else:
        late = ready.recovery is not None and now - _since(conditions, "PodsReady", now) >= ready.recovery
    if not late:
        return None
    count = (status.get("requeueState") or {}).get("count")
    times = (count if isinstance(count, int) else 0) + 1
    if ready.limit is not None and times > ready.limit:
        return _deactivated("RequeuingLimitExceeded", f"its pods did not all start in time, {times} times")
    pause = min(ready.backoff_base * 2.0 ** min(times - 1, 60), ready.backoff_max)
    message = f"Exceeded the PodsReady timeout of {ready.timeout:.0f} s"
    return Leaving("PodsReadyTimeout", message, now + pause, ready.to_the_end)


def _deactivated(cause: str, detail: str) -> Leaving:
    return Leaving(f"DeactivatedDueTo{cause}", f"The workload is deactivated: {detail}", math.inf)


def _since(conditions: Any, kind: str, otherwise: float) -> float:
    found = find_condition(conditions, kind) or {}
    try:
        return parse_time(str(found.get("lastTransitionTime") or "")).timestamp()
    except (InvalidObjectError, OverflowError, ValueError):
        return otherwise
