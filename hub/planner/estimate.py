"""When a waiting job is likely to start: the planner itself, run forward over the ends that are to be expected.

What runs is taken to end when its job said it would (`expectedDuration`), what starts in between likewise, and at every
end is decided as it would be then. The range goes from "all take as long as they say" to "all take `SLOWER` times as
long". What does not say how long it takes never ends here: if the job does not start without such an end, there is no
estimate, and the reason says so. Nothing is known here of jobs that nobody has submitted yet.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from hub.api.reasons import Reason
from hub.api.timestamps import format_time, from_timestamp
from hub.planner.course import Course, Decide, is_idle
from hub.planner.plan import Plan, Snapshot

SLOWER: Final = 2.0
# Reasons that no end of what runs takes away.
_FOR_GOOD: Final = frozenset(
    {
        Reason.QUEUE_NOT_FOUND, Reason.QUEUE_INACTIVE, Reason.NAMESPACE_MISMATCH, Reason.NO_MATCHING_FLAVOR,
        Reason.EXCEEDS_MAX_QUOTA, Reason.INVALID_SPEC, Reason.NO_CLUSTERS, Reason.NO_CLUSTER_FITS,
        Reason.MISCONFIGURED, Reason.QUEUE_SUSPENDED, Reason.ON_HOLD, Reason.ADMISSION_GATED,
    }
)  # fmt: skip
MOST_STEPS: Final = 64
"""Ends that are looked at: farther ahead an estimate would be a guess."""
_MOST_ASKED: Final = 2_000_000
"""Times that a job is asked in all decisions of one course: of a long line less of the future can be looked at."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """`earliest` and `latest` are epoch seconds of the job's first task's start; None: unknown, and `why` says it."""

    earliest: float | None
    latest: float | None
    why: str = ""


def estimate_document(found: Estimate) -> dict[str, str]:
    """For programs; times as on the wire. What is not known is not there, and `unknownBecause` says why."""
    document: dict[str, str] = {}
    if found.earliest is not None:
        document["earliest"] = format_time(from_timestamp(found.earliest))
    if found.latest is not None:
        document["latest"] = format_time(from_timestamp(found.latest))
    if found.why:
        document["unknownBecause"] = found.why
    return document


def estimate(snapshot: Snapshot, key: str, begin: Callable[[], Decide]) -> Estimate:
    """Of the waiting job `key`; `begin` makes a planner that has decided nothing yet."""
    if not any(demand.key == key for demand in snapshot.demands):
        return Estimate(None, None, "it does not wait")
    first = _start_of(Course(snapshot, begin()), key)
    if first.at is None:
        return Estimate(None, None, first.why)
    last = first if first.at <= snapshot.now else _start_of(Course(snapshot, begin(), SLOWER), key)
    return Estimate(first.at, last.at, last.why if last.at is None else "")


@dataclass(frozen=True, slots=True)
class _Start:
    at: float | None
    why: str = ""


def _start_of(course: Course, key: str) -> _Start:
    asked = 0
    for _ in range(MOST_STEPS):
        again, plan = True, Plan()
        while again:
            before = plan
            plan, again = course.decide()
            again = again and not is_idle(plan, before)
            asked += len(course.snapshot.demands)
            if key in course.given or any(preemption.preemptor == key for preemption in plan.preemptions):
                # Those who make way are told now; how long they take is theirs.
                return _Start(course.snapshot.now)
            why = _hopeless(plan, key)
            if why:
                return _Start(None, why)
            if asked > _MOST_ASKED:
                return _Start(None, "too many wait to look so far ahead")
        if math.isinf(course.next_at):
            return _Start(None, _nothing_ends(course.endless))
        course.advance()
    return _Start(None, f"more than {MOST_STEPS} others end before it")


def _hopeless(plan: Plan, key: str) -> str:
    """Why the end of others changes nothing for the job; empty: it may."""
    refusal = next((refusal for refusal in plan.refusals if refusal.key == key), None)
    if refusal is None:
        return ""
    if refusal.reason is Reason.WAITING_FOR_PODS_READY:
        return "nothing starts before all that is admitted is up"
    return "waiting alone does not help" if refusal.reason in _FOR_GOOD else ""


def _nothing_ends(endless: int) -> str:
    if endless == 1:
        return "one running slice ahead of it does not say how long it takes (expectedDuration)"
    if endless:
        return f"{endless} running slices ahead of it do not say how long they take (expectedDuration)"
    return "nothing that runs would make room for it"
