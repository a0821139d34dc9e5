"""What LocalQueues used before, fading with time: Kueue's admission fair sharing as its status and the metrics show it.

Usage is measured when it changes, so an interval counts what was held in it. In mode kueue the order of admission
follows from the same numbers. They are kept in the LocalQueues' status, for a hub that takes over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from hub.api.errors import InvalidObjectError
from hub.api.quantity import Quantity
from hub.api.timestamps import format_time, from_timestamp, parse_time
from hub.planner.plan import HeldSlice
from hub.queueing.kueue.history import History, LocalKey, Past, units
from hub.queueing.kueue.settings import UsageHistory

Json = dict[str, Any]
WATCHED: Final = UsageHistory(half_life=24 * 3600.0, sampling=60.0)
"""What metrics show where the configuration says nothing."""


class PastUsage:
    """`look()` whenever what is held may have changed; `now` is epoch seconds."""

    def __init__(self, settings: UsageHistory, now: Callable[[], float]) -> None:
        self._now = now
        self.history = self._history = History(settings, {}, now())
        # Of a hub before this one nobody knows better than that it was as it is now.
        self._used: dict[LocalKey, dict[str, float]] | None = None

    @property
    def past(self) -> Mapping[LocalKey, Past]:
        return self._history.past

    def restore(self, past: Mapping[LocalKey, Past]) -> None:
        """What was said of it before."""
        self._history.restore(past)

    def look(self, held: Iterable[HeldSlice]) -> None:
        used: dict[LocalKey, dict[str, float]] = {}
        for part in held:
            into = used.setdefault((part.key.partition("/")[0], part.local), {})
            for (_, resource), value in part.amounts:
                into[resource] = into.get(resource, 0.0) + units(resource, value)
        self._history.advance(self._now(), used if self._used is None else self._used)
        self._used = used


def read_past(queues: Iterable[Mapping[str, Any]]) -> dict[LocalKey, Past]:
    """Of LocalQueues as they are: what their status remembers, and their weights. What cannot be read is forgotten."""
    found: dict[LocalKey, Past] = {}
    for obj in queues:
        meta, spec = obj["metadata"], obj.get("spec") or {}
        sharing = (obj.get("status") or {}).get("fairSharing") or {}
        status = sharing.get("admissionFairSharingStatus") or {}
        weight = (spec.get("fairSharing") or {}).get("weight")
        try:
            consumed = {str(r): Quantity(v).nano / 1e9 for r, v in (status.get("consumedResources") or {}).items()}
            updated = parse_time(str(status["lastUpdate"])).timestamp() if status.get("lastUpdate") else 0.0
            share = 1.0 if weight is None else Quantity(weight).nano / 1e9
        except (InvalidObjectError, TypeError, ValueError):
            continue
        found[str(meta.get("namespace") or "default"), str(meta["name"])] = Past(consumed, updated, share)
    return found


def past_status(past: Past) -> Json:
    """The status' admissionFairSharingStatus."""
    consumed = {
        resource: str(Quantity.from_nano(round(value * 1000) * 10**6))
        for resource, value in sorted(past.consumed.items())
    }
    return {"consumedResources": consumed, "lastUpdate": format_time(from_timestamp(past.updated))}
