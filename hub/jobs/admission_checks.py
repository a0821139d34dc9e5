"""What admission checks have answered about a Workload: `status.admissionChecks`, read, brought up to date, set back.

A check's own controller writes its state; the hub only lists the checks, Pending, and sets them back when the quota
that they were asked about is gone. Nothing of what was answered before counts for what is reserved after. Pure; the
states are Kueue's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from hub.api.errors import InvalidObjectError
from hub.api.timestamps import parse_time

Json = dict[str, Any]
PENDING: Final = "Pending"
READY: Final = "Ready"
RETRY: Final = "Retry"
REJECTED: Final = "Rejected"
_MESSAGE: Final = 200
_LONGEST: Final = 3600.0
MOST_CHECKS: Final = 8
"""Kueue's bound on the list of a Workload."""


@dataclass(frozen=True, slots=True)
class CheckState:
    """`since`: epoch seconds of its last change. `after`: seconds that it wants to be left alone; None: nothing said.

    `retries`: how often it said Retry before. `updates`: its podSetUpdates, as they are written.
    """

    name: str
    state: str
    message: str = ""
    since: float = 0.0
    after: float | None = None
    retries: int = 0
    updates: tuple[Mapping[str, Any], ...] = field(default=(), hash=False)


def read_checks(status: Mapping[str, Any]) -> tuple[CheckState, ...]:
    """Those of a Workload's status; what cannot be read of one is as if it were not there."""
    entries = status.get("admissionChecks")
    return tuple(_read(entry) for entry in entries or () if isinstance(entry, Mapping) and entry.get("name"))


def _read(entry: Mapping[str, Any]) -> CheckState:
    try:
        since = parse_time(str(entry["lastTransitionTime"])).timestamp() if entry.get("lastTransitionTime") else 0.0
    except (InvalidObjectError, OverflowError):
        since = 0.0
    after, retries = entry.get("requeueAfterSeconds"), entry.get("retryCount")
    return CheckState(
        name=str(entry["name"]),
        state=str(entry.get("state") or PENDING),
        message=str(entry.get("message") or ""),
        since=since,
        after=float(after) if isinstance(after, int) else None,
        retries=retries if isinstance(retries, int) else 0,
        updates=tuple(part for part in entry.get("podSetUpdates") or () if isinstance(part, Mapping)),
    )


def requeue_time(status: Mapping[str, Any]) -> float | None:
    """`requeueState.requeueAt` in epoch seconds; None where there is none, or none that can be read."""
    at = (status.get("requeueState") or {}).get("requeueAt")
    try:
        return parse_time(str(at)).timestamp() if at else None
    except (InvalidObjectError, OverflowError):
        return None


def saying(states: Iterable[CheckState], state: str) -> tuple[CheckState, ...]:
    return tuple(one for one in states if one.state == state)


def all_ready(states: Iterable[CheckState], asked: Iterable[str]) -> bool:
    """Whether every check that is `asked` has answered, and said yes."""
    found = {one.name: one.state for one in states}
    return all(found.get(name) == READY for name in asked)


def stale(states: Iterable[CheckState]) -> bool:
    """Whether there are answers about quota that is not held any more."""
    return any(one.state != PENDING for one in states)


def again_at(states: Iterable[CheckState]) -> float | None:
    """When (epoch seconds) it may be queued again after those that said Retry; None: none did.

    As long as each asked to be left alone. One that says nothing of that is asked again at once, as with Kueue; if it
    goes on like that, after 1, 2, 4, … seconds, so that two programs do not run after each other.
    """
    moments = []
    for one in saying(states, RETRY):
        after = one.after
        if after is None:
            after = 0.0 if not one.retries else min(2.0 ** min(one.retries - 1, 30), _LONGEST)
        moments.append(one.since + after)
    return max(moments, default=None)


def said(states: Iterable[CheckState]) -> str:
    """Their words, for a sentence: ``provision (no nodes left)``."""
    return ", ".join(f"{one.name} ({one.message[:_MESSAGE]})" if one.message else one.name for one in states)


def awaited(states: Iterable[CheckState], asked: Iterable[str]) -> str:
    """The same of those that have not said yes, whether they were listed yet or not."""
    found = {one.name: one for one in states}
    return said(one for name in asked if (one := found.get(name, CheckState(name, PENDING))).state != READY)


def listed(entries: Sequence[Mapping[str, Any]], asked: Iterable[str], at: str) -> list[Json]:
    """The status's list with every check that is `asked`, and no other: new ones are Pending. `at`: RFC 3339."""
    known = {str(entry.get("name")): entry for entry in entries}
    return [dict(known.get(name) or _pending(name, at)) for name in list(asked)[:MOST_CHECKS]]


def answered(entries: Sequence[Mapping[str, Any]], name: str, message: str, at: str) -> list[Json]:
    """With the check `name`, which the hub answers itself, Ready."""
    return [
        {**entry, "state": READY, "message": message, "lastTransitionTime": at}
        if entry.get("name") == name and (entry.get("state") != READY or entry.get("message") != message)
        else dict(entry)
        for entry in entries
    ]


def set_back(entries: Sequence[Mapping[str, Any]], at: str) -> list[Json]:
    """All Pending again, because what they were asked about is given back. A Retry is counted."""
    kept: list[Json] = []
    for entry in entries:
        before = str(entry.get("state") or PENDING)
        if before == PENDING:
            kept.append(dict(entry))
            continue
        count = entry.get("retryCount")
        retries = (count if isinstance(count, int) else 0) + (before == RETRY)
        again = _pending(
            str(entry.get("name")), at, f"asked again, for the quota it was about is given back; said {before}"
        )
        kept.append(again | ({"retryCount": retries} if retries else {}))
    return kept


def _pending(name: str, at: str, message: str = "") -> Json:
    return {"name": name, "state": PENDING, "lastTransitionTime": at, "message": message}
