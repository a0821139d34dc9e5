"""Conditions of a Workload as Kueue moves them: evicted, preempted, requeued, and what becomes of them on admission.

Reasons are Kueue's own, because its users' alerts match them. What is true of the job is decided elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from hub.api.conditions import condition_is, find_condition, with_condition
from hub.api.reasons import Reason
from hub.jobs.attempt import Attempt

Json = dict[str, Any]
PODS_UP: Final = frozenset({"Started", "Recovered"})
_PREEMPTED: Final = Reason.PREEMPTED.code
RESTARTED: Final = {
    Reason.ADMISSION_CHECK.code: ("BackoffFinished", "The workload backoff was finished"),
    Reason.PODS_READY_TIMEOUT.code: ("BackoffFinished", "The workload backoff was finished"),
    Reason.CLUSTER_QUEUE_STOPPED.code: ("ClusterQueueRestarted", "The ClusterQueue was restarted after being stopped"),
    Reason.LOCAL_QUEUE_STOPPED.code: ("LocalQueueRestarted", "The LocalQueue was restarted after being stopped"),
}
REACTIVATED: Final = ("Reactivated", "The workload was reactivated")


class Conditions:
    """The list while it is changed. `at` is RFC 3339; a transition time moves only when the status does."""

    def __init__(self, conditions: Sequence[Mapping[str, Any]], at: str, generation: int | None) -> None:
        self._conditions: Sequence[Mapping[str, Any]] = conditions
        self._at, self._generation = at, generation

    @property
    def conditions(self) -> list[Json]:
        return [dict(condition) for condition in self._conditions]

    def true(self, kind: str) -> bool:
        return condition_is(self._conditions, kind)

    def reason(self, kind: str) -> str:
        found = find_condition(self._conditions, kind)
        return str(found.get("reason") or "") if found is not None else ""

    def message(self, kind: str) -> str:
        found = find_condition(self._conditions, kind)
        return str(found.get("message") or "") if found is not None else ""

    def drop(self, kind: str) -> None:
        self._conditions = [condition for condition in self._conditions if condition.get("type") != kind]

    def put(self, kind: str, holds: bool, reason: str, message: str) -> None:
        self._conditions = with_condition(
            self._conditions, kind, str(holds), reason, message, now=self._at, generation=self._generation
        )

    def evicted(self, cause: str, kind: str, message: str) -> None:
        """`kind`: of a preemption, which one it is."""
        self.put("Evicted", True, cause, message)
        if cause == _PREEMPTED and kind:
            self.put("Preempted", True, kind, message)

    def admitted_again(self, last: Attempt | None) -> None:
        """`last`: the slice that had to go before, also when nobody was told meanwhile."""
        if last is not None and find_condition(self._conditions, "Evicted") is None:
            self.put("Evicted", False, Reason.QUOTA_RESERVED.code, f"Previously: {last.message}")
            if last.reason == _PREEMPTED:
                self.put("Preempted", False, Reason.QUOTA_RESERVED.code, f"Previously: {last.message}")
        if last is not None and find_condition(self._conditions, "Requeued") is None:
            self.requeued(last.reason, last.message, held=False)
        for kind in ("Evicted", "Preempted"):
            found = find_condition(self._conditions, kind)
            if found is not None and found.get("status") == "True":
                self.put(kind, False, Reason.QUOTA_RESERVED.code, f"Previously: {found.get('message') or ''}")
        found = find_condition(self._conditions, "Requeued")
        if found is not None and found.get("status") == "False":
            self.requeued(str(found.get("reason") or ""), "", held=False)

    def requeued(self, cause: str, message: str, *, held: bool) -> None:
        """`held`: it waits for something else than its turn."""
        if held:
            self.put("Requeued", False, cause, message)
        elif self.reason("Requeued") == cause and not self.true("Requeued") and cause != _PREEMPTED:
            self.put("Requeued", True, *RESTARTED.get(cause, REACTIVATED))
        elif not self.true("Requeued"):
            self.put("Requeued", True, cause, message)
