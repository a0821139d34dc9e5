"""The status of a Workload that somebody else runs, after what was decided about it. Pure; the words are Kueue's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from hub.api.conditions import condition_is
from hub.api.reasons import Reason
from hub.jobs.kueue_conditions import Conditions

Json = dict[str, Any]
_NO_RESERVATION = "The workload has no reservation"


class Refused(Protocol):
    """Why it waits (hub/planner's Refusal)."""

    @property
    def reason(self) -> Reason: ...

    @property
    def message(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was decided: it gets quota, it has to go, or its quota is given back."""

    kind: Literal["admit", "evict", "release"]
    admission: Mapping[str, Any] | None = None
    cause: str = ""
    message: str = ""
    preemption: str = ""

    @staticmethod
    def admitted(admission: Mapping[str, Any]) -> Verdict:
        return Verdict("admit", admission)

    @staticmethod
    def evicted(cause: str, message: str, preemption: str = "") -> Verdict:
        return Verdict("evict", cause=cause, message=message, preemption=preemption)

    @staticmethod
    def released() -> Verdict:
        return Verdict("release")

    def shows(self, status: Mapping[str, Any]) -> bool:
        """Whether the object says it already."""
        conditions = status.get("conditions")
        if self.kind == "admit":
            return condition_is(conditions, "QuotaReserved")
        if self.kind == "evict":
            return condition_is(conditions, "Evicted")
        return not condition_is(conditions, "QuotaReserved")


def status_after(
    before: Mapping[str, Any], verdict: Verdict | None, waits: Refused | None, at: str, generation: int | None
) -> Json:
    """`at`: RFC 3339. Without a verdict only why it `waits` is said, and only of one without quota."""
    said = Conditions(before.get("conditions") or (), at, generation)
    status: Json = {key: value for key, value in before.items() if key != "conditions"}
    if verdict is None:
        if waits is not None and not said.true("QuotaReserved"):
            said.put("QuotaReserved", False, waits.reason.code, waits.message)
    elif verdict.kind == "admit":
        _admit(said, status, verdict)
    elif verdict.kind == "evict":
        said.evicted(verdict.cause, verdict.preemption, verdict.message)
        _count(status, verdict.cause)
    else:
        _release(said, status)
    status["conditions"] = said.conditions
    return status


def preemptions_in(status: Mapping[str, Any]) -> int:
    """How often it made way for others, by its own record: a hub that starts knows it, too."""
    evictions = (status.get("schedulingStats") or {}).get("evictions") or ()
    return sum(int(e.get("count") or 0) for e in evictions if e.get("reason") == Reason.PREEMPTED.code)


def _admit(said: Conditions, status: Json, verdict: Verdict) -> None:
    assert verdict.admission is not None, "an admission says what is given"
    queue = str(verdict.admission["clusterQueue"])
    status["admission"] = dict(verdict.admission)
    said.put("QuotaReserved", True, Reason.QUOTA_RESERVED.code, Reason.QUOTA_RESERVED.message(queue=queue))
    said.put("Admitted", True, "Admitted", f"The workload is admitted by ClusterQueue {queue}")
    said.admitted_again(None)


def _release(said: Conditions, status: Json) -> None:
    """As whoever ran it would: what it had is free, and it waits for its turn again."""
    status.pop("admission", None)
    cause = said.reason("Evicted")
    said.put("QuotaReserved", False, "Pending", "The workload was evicted")
    said.put("Admitted", False, "NoReservation", _NO_RESERVATION)
    said.requeued(cause, "The workload waits for its turn again", held=cause.startswith("Deactivated"))


def _count(status: Json, cause: str) -> None:
    """One more in schedulingStats.evictions."""
    reason, _, behind = cause.partition("DueTo")
    stats = dict(status.get("schedulingStats") or {})
    evictions: Sequence[Mapping[str, Any]] = stats.get("evictions") or ()
    found = {(str(e.get("reason")), str(e.get("underlyingCause") or "")): int(e.get("count") or 0) for e in evictions}
    found[reason, behind] = found.get((reason, behind), 0) + 1
    stats["evictions"] = [
        {"reason": reason, "underlyingCause": behind, "count": count}
        for (reason, behind), count in sorted(found.items())
    ]
    status["schedulingStats"] = stats
