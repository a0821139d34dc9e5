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
    """What was decided: it gets quota, its checks are done, it has to go, or its quota is given back."""

    kind: Literal["admit", "begin", "evict", "release"]
    admission: Mapping[str, Any] | None = None
    checks: tuple[str, ...] = ()
    cause: str = ""
    message: str = ""
    preemption: str = ""

    @staticmethod
    def admitted(admission: Mapping[str, Any], checks: tuple[str, ...]) -> Verdict:
        return Verdict("admit", admission, checks)

    @staticmethod
    def evicted(cause: str, message: str, preemption: str = "") -> Verdict:
        return Verdict("evict", cause=cause, message=message, preemption=preemption)

    @staticmethod
    def released() -> Verdict:
        return Verdict("release")

    @staticmethod
    def of_checks(status: Mapping[str, Any]) -> Verdict | None:
        """What the admission checks of one with quota ask for; None: nothing new."""
        states = {str(check.get("state") or ""): check for check in status.get("admissionChecks") or ()}
        for state, cause in (("Rejected", "DeactivatedDueToAdmissionCheck"), ("Retry", "AdmissionCheck")):
            if state in states:
                check = states[state]
                said = str(check.get("message") or f"its state is {state}")
                return Verdict.evicted(cause, f"At least one admission check is false: {check.get('name')}: {said}")
        if condition_is(status.get("conditions"), "Admitted") or any(state != "Ready" for state in states):
            return None
        return Verdict("begin")

    def shows(self, status: Mapping[str, Any]) -> bool:
        """Whether the object says it already."""
        conditions = status.get("conditions")
        if self.kind == "admit":
            return condition_is(conditions, "QuotaReserved")
        if self.kind == "begin":
            return condition_is(conditions, "Admitted")
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
        _admit(said, status, verdict, at)
    elif verdict.kind == "begin":
        _begin(said, str((status.get("admission") or {}).get("clusterQueue") or ""))
    elif verdict.kind == "evict":
        said.evicted(verdict.cause, verdict.preemption, verdict.message)
        _count(status, verdict.cause)
    else:
        _release(said, status)
    status["conditions"] = said.conditions
    return status


def _admit(said: Conditions, status: Json, verdict: Verdict, at: str) -> None:
    assert verdict.admission is not None, "an admission says what is given"
    queue = str(verdict.admission["clusterQueue"])
    status["admission"] = dict(verdict.admission)
    said.put("QuotaReserved", True, Reason.QUOTA_RESERVED.code, Reason.QUOTA_RESERVED.message(queue=queue))
    said.admitted_again(None)
    if not verdict.checks:
        status.pop("admissionChecks", None)
        _begin(said, queue)
        return
    status["admissionChecks"] = [
        {"name": name, "state": "Pending", "message": "", "lastTransitionTime": at} for name in verdict.checks
    ]
    said.put("Admitted", False, "UnsatisfiedAdmissionChecks", "The workload has not all checks ready")


def _begin(said: Conditions, queue: str) -> None:
    said.put("Admitted", True, "Admitted", f"The workload is admitted by ClusterQueue {queue}")


def _release(said: Conditions, status: Json) -> None:
    """As whoever ran it would: what it had is free, and it waits for its turn again."""
    status.pop("admission", None)
    status.pop("admissionChecks", None)
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
