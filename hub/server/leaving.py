"""Who has to give its quota back whoever else waits: drained queues, admission checks that say no, limits on time.

The running hub's own rules for Workloads of others (hub/controllers/foreign_limits.py), asked about objects; what it
does in several writes is one answer here. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hub.api.conditions import condition_is, find_condition
from hub.api.errors import InvalidObjectError
from hub.api.reasons import Reason
from hub.controllers.foreign_limits import ForeignLimits
from hub.controllers.foreign_status import TARGET
from hub.controllers.foreign_workload import Holding, read_workload
from hub.jobs.admission_checks import again_at, read_checks
from hub.jobs.limits import PodsReady
from hub.queueing.objects import LocalQueue
from hub.queueing.quotas import Quotas

Json = Mapping[str, Any]


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
    """Of a Workload (v1beta2) that holds quota of ClusterQueue `queue`; None: it may keep it, or is on its way out."""
    try:
        held = read_workload(obj, quotas, place=False)
    except InvalidObjectError:
        # It is said of the object itself.
        return None
    conditions = (obj.get("status") or {}).get("conditions")
    if not isinstance(held, Holding) or held.leaving:
        return None
    if not condition_is(conditions, "Admitted") and (obj.get("spec") or {}).get("active") is not False:
        given_back = _given_back(obj, queue, quotas)
        if given_back is not None:
            return given_back
    step = ForeignLimits(ready).step(obj, held, quotas, now)
    if step.deactivate:
        why = find_condition(conditions, TARGET) or {}
        return _deactivated(str(why.get("reason") or ""), str(why.get("message") or ""))
    verdict = step.verdict
    if verdict is None or verdict.kind not in ("evict", "target"):
        return None
    if verdict.kind == "target":
        return _deactivated(verdict.cause, verdict.message)
    if verdict.cause.startswith(Reason.DEACTIVATED.code):
        return Leaving(verdict.cause, verdict.message, math.inf)
    if verdict.cause == Reason.ADMISSION_CHECK.code:
        again = again_at(read_checks(obj.get("status") or {})) or now
        return Leaving(verdict.cause, verdict.message, max(again, now), to_the_end=True)
    late = verdict.cause == Reason.PODS_READY_TIMEOUT.code
    return Leaving(
        verdict.cause, verdict.message, verdict.again_at or 0.0, late and ready is not None and ready.to_the_end
    )


def _given_back(obj: Json, queue: str, quotas: Quotas) -> Leaving | None:
    """What waits for admission checks only is not kept by a queue that is stopped in either way, as in Kueue."""
    found, local = quotas.queues.get(queue), _local(obj, quotas)
    if found is not None and found.stop != "None":
        return Leaving(Reason.QUEUE_SUSPENDED.code, f"ClusterQueue {queue} is stopped")
    if local is not None and local.stop != "None":
        return Leaving(Reason.ON_HOLD.code, f"LocalQueue {local.name} is stopped")
    return None


def _local(obj: Json, quotas: Quotas) -> LocalQueue | None:
    namespace = str(obj["metadata"].get("namespace") or "default")
    return quotas.local_queues.get((namespace, str((obj.get("spec") or {}).get("queueName") or "")))


def _deactivated(cause: str, detail: str) -> Leaving:
    return Leaving(f"{Reason.DEACTIVATED.code}DueTo{cause}", f"The workload is deactivated: {detail}", math.inf)
