"""The status of a Workload that somebody else runs, after what was decided about it. Pure; the words are Kueue's."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

from hub.api import names
from hub.api.conditions import condition_is, find_condition, with_condition
from hub.api.errors import InvalidObjectError
from hub.api.reasons import Reason
from hub.api.timestamps import format_time, from_timestamp, parse_time
from hub.jobs.admission_checks import again_at, all_ready, answered, listed, read_checks, set_back, stale
from hub.jobs.kueue_conditions import Conditions

Json = dict[str, Any]
_NO_RESERVATION: Final = "The workload has no reservation"
_UNSATISFIED: Final = "The workload waits for its admission checks"
_OURS: Final = "The hub has given it quota; where it runs is left to whoever runs it"
TARGET: Final = "DeactivationTarget"


class Refused(Protocol):
    """Why it waits (hub/planner's Refusal)."""

    @property
    def reason(self) -> Reason: ...

    @property
    def message(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was decided of it.

    admit: it gets quota. start: every check has let it through. check: other checks are asked than before. evict: it
    has to go. release: its quota is given back. target: it is to be deactivated, for `cause`. requeue: nothing keeps it
    out of the queue any more. reset: answers about quota that it has no more are taken away. ready: all its pods are
    up. past: so many seconds (`count`) was it admitted in all.
    """

    kind: Literal["admit", "start", "check", "evict", "release", "target", "requeue", "reset", "ready", "past"]
    admission: Mapping[str, Any] | None = None
    cause: str = ""
    message: str = ""
    preemption: str = ""
    # Names of the admission checks that are asked, and which of them the hub answers itself.
    asked: tuple[str, ...] = ()
    ours: str = ""
    # How often in a row it was not ready in time, and when (epoch seconds) it may be queued again.
    count: int | None = None
    again_at: float | None = None

    @staticmethod
    def admitted(admission: Mapping[str, Any], asked: Sequence[str] = (), ours: str = "") -> Verdict:
        return Verdict("admit", admission, asked=tuple(asked), ours=ours)

    @staticmethod
    def evicted(cause: str, message: str, preemption: str = "") -> Verdict:
        return Verdict("evict", cause=cause, message=message, preemption=preemption)

    @staticmethod
    def released() -> Verdict:
        return Verdict("release")

    def shows(self, status: Mapping[str, Any]) -> bool:
        """Whether the object says it already."""
        conditions = status.get("conditions")
        match self.kind:
            case "admit":
                return condition_is(conditions, "QuotaReserved")
            case "start":
                return condition_is(conditions, "Admitted")
            case "check":
                return sorted(one.name for one in read_checks(status)) == sorted(self.asked)
            case "evict":
                return condition_is(conditions, "Evicted")
            case "release":
                return not condition_is(conditions, "QuotaReserved")
            case "target":
                return condition_is(conditions, TARGET)
            case "requeue":
                return condition_is(conditions, "Requeued")
            case "reset":
                return not stale(read_checks(status))
            case "ready":
                return not status.get("requeueState")
            case "past":
                return held_before(status) >= (self.count or 0)


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
    elif verdict.kind == "start":
        _start(said, str((status.get("admission") or {}).get("clusterQueue") or ""))
    elif verdict.kind == "check":
        _ask(status, verdict, at)
    elif verdict.kind == "evict":
        _evict(said, status, verdict, at)
    elif verdict.kind == "target":
        said.put(TARGET, True, verdict.cause, verdict.message)
    elif verdict.kind == "requeue":
        _requeue(said, status, verdict)
    elif verdict.kind == "reset":
        _set_back(status, at)
    elif verdict.kind == "ready":
        status.pop("requeueState", None)
    elif verdict.kind == "past":
        status["accumulatedPastExecutionTimeSeconds"] = verdict.count
    else:
        _release(said, status, at)
    status["conditions"] = said.conditions
    return status


def doubted(status: Json, doubts: Sequence[str], at: str) -> Json:
    """With the condition that amounts in its admission are not counted as they are written, or without it."""
    conditions = status.get("conditions") or ()
    if doubts:
        message = Reason.ADMISSION_DOUBTED.message(detail="; ".join(doubts))
        said = with_condition(conditions, names.AMOUNTS_DOUBTED, "True", Reason.ADMISSION_DOUBTED.code, message, now=at)
        return {**status, "conditions": said}
    kept = [condition for condition in conditions if condition.get("type") != names.AMOUNTS_DOUBTED]
    return status if len(kept) == len(conditions) else {**status, "conditions": kept}


def preemptions_in(status: Mapping[str, Any]) -> int:
    """How often it made way for others, by its own record: a hub that starts knows it, too."""
    evictions = (status.get("schedulingStats") or {}).get("evictions") or ()
    return sum(int(e.get("count") or 0) for e in evictions if e.get("reason") == Reason.PREEMPTED.code)


def held_before(status: Mapping[str, Any]) -> int:
    """Seconds for which it was admitted in earlier times."""
    past = status.get("accumulatedPastExecutionTimeSeconds")
    return past if isinstance(past, int) else 0


def time_over(before: Mapping[str, Any], after: Mapping[str, Any], now: float) -> int | None:
    """Seconds for which a Workload was admitted in all, when the one who ran it has given its quota back and did not
    add the last time; None: there is nothing to add. Both are whole objects."""
    if not (after.get("spec") or {}).get("maximumExecutionTimeSeconds"):
        return None
    then, status = before.get("status") or {}, after.get("status") or {}
    if not condition_is(then.get("conditions"), "Admitted") or condition_is(status.get("conditions"), "QuotaReserved"):
        return None
    began = since(then, "Admitted")
    if began is None or held_before(status) != held_before(then) or now - began < 1:
        return None
    return held_before(then) + int(now - began)


def since(status: Mapping[str, Any], condition: str) -> float | None:
    """When (epoch seconds) the condition changed last; None without one, or where that cannot be read."""
    found = find_condition(status.get("conditions"), condition)
    try:
        return parse_time(str(found["lastTransitionTime"])).timestamp() if found is not None else None
    except (InvalidObjectError, KeyError, OverflowError):
        return None


def _admit(said: Conditions, status: Json, verdict: Verdict, at: str) -> None:
    assert verdict.admission is not None, "an admission says what is given"
    queue = str(verdict.admission["clusterQueue"])
    status["admission"] = dict(verdict.admission)
    said.put("QuotaReserved", True, Reason.QUOTA_RESERVED.code, Reason.QUOTA_RESERVED.message(queue=queue))
    said.admitted_again(None)
    if requeue := status.get("requeueState"):
        status["requeueState"] = {name: value for name, value in requeue.items() if name != "requeueAt"}
    _ask(status, verdict, at)
    if all_ready(read_checks(status), verdict.asked):
        _start(said, queue)
    else:
        said.put("Admitted", False, Reason.UNSATISFIED_CHECKS.code, _UNSATISFIED)


def _start(said: Conditions, queue: str) -> None:
    said.put("Admitted", True, "Admitted", f"The workload is admitted by ClusterQueue {queue}")


def _ask(status: Json, verdict: Verdict, at: str) -> None:
    before = status.get("admissionChecks") or ()
    entries = listed(before, verdict.asked, at)
    if verdict.ours:
        entries = answered(entries, verdict.ours, _OURS, at)
    if entries or before:
        status["admissionChecks"] = entries


def _evict(said: Conditions, status: Json, verdict: Verdict, at: str) -> None:
    said.evicted(verdict.cause, verdict.preemption, verdict.message)
    said.drop(TARGET)
    _count(status, verdict.cause)
    _set_back(status, at)
    deactivated = verdict.cause.startswith("Deactivated")
    if deactivated:
        status.pop("requeueState", None)
    elif verdict.again_at is not None:
        requeue = {"requeueAt": _stamp(verdict.again_at)}
        status["requeueState"] = requeue if verdict.count is None else requeue | {"count": verdict.count}
    if not said.true("QuotaReserved"):
        # It holds nothing that anybody would have to give back.
        said.requeued(verdict.cause, verdict.message, held=True)


def _release(said: Conditions, status: Json, at: str) -> None:
    """As whoever ran it would: what it had is free, and it waits for its turn again."""
    status.pop("admission", None)
    cause, why = said.reason("Evicted"), said.message("Evicted")
    if said.true("Admitted") and (began := since({"conditions": said.conditions}, "Admitted")) is not None:
        past = held_before(status) + max(0, int(parse_time(at).timestamp() - began))
        status["accumulatedPastExecutionTimeSeconds"] = past
    said.put("QuotaReserved", False, "Pending", "The workload was evicted")
    said.put("Admitted", False, "NoReservation", _NO_RESERVATION)
    said.requeued(cause, why, held=cause != Reason.PREEMPTED.code)


def _requeue(said: Conditions, status: Json, verdict: Verdict) -> None:
    said.put("Requeued", True, verdict.cause, verdict.message)
    if verdict.cause == "Reactivated":
        # Who activates it again gives it all its time anew.
        status.pop("accumulatedPastExecutionTimeSeconds", None)
    if requeue := status.get("requeueState"):
        status["requeueState"] = {name: value for name, value in requeue.items() if name != "requeueAt"}


def _set_back(status: Json, at: str) -> None:
    before = status.get("admissionChecks")
    if not before:
        return
    now, again = parse_time(at).timestamp(), again_at(read_checks(status))
    if again is not None and again > now:
        status["requeueState"] = (status.get("requeueState") or {}) | {"requeueAt": _stamp(again)}
    status["admissionChecks"] = set_back(before, at)


def _stamp(moment: float) -> str:
    return format_time(from_timestamp(math.ceil(moment)))


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
