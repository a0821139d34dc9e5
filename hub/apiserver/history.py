"""What happened to one collection lately, so that a watch can go on from where it was.

Bounded in number and bytes: who comes back later than that lists anew (410). Nothing here knows who watches.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import Final, Literal

from hub.apiserver.record import Record

Change = Literal["ADDED", "MODIFIED", "DELETED"]

MAX_EVENTS: Final = 10_000
MAX_BYTES: Final = 16 * 2**20
# Of an event besides the bytes of its object.
_EVENT_BYTES: Final = 400


@dataclass(frozen=True, slots=True)
class Event:
    """`record` is the new state, or the last one of a deleted object (with the resourceVersion of the deletion)."""

    type: Change
    record: Record
    previous: Record | None

    @property
    def version(self) -> int:
        return self.record.version


class History:
    """`compacted` is the last resourceVersion that may be missing here: a watch from an earlier one has a gap."""

    __slots__ = ("_bytes", "_versions", "compacted", "events", "max_bytes", "max_events")

    def __init__(self, compacted: int, *, max_events: int = MAX_EVENTS, max_bytes: int = MAX_BYTES) -> None:
        self.compacted = compacted
        self.max_events = max_events
        self.max_bytes = max_bytes
        self.events: list[Event] = []
        self._versions: list[int] = []
        self._bytes = 0

    @property
    def bytes(self) -> int:
        return self._bytes

    def append(self, event: Event) -> None:
        self.events.append(event)
        self._versions.append(event.version)
        self._bytes += _EVENT_BYTES + len(event.record.raw)
        # Dropped by halves, so that the cost is shared out over many events.
        while self.events and (len(self.events) > self.max_events or self._bytes > self.max_bytes):
            self.drop(max(1, len(self.events) // 2))

    def drop(self, count: int) -> None:
        """Forgets the `count` oldest events."""
        if count <= 0 or not self.events:
            return
        gone = self.events[:count]
        self.compacted = gone[-1].version
        self._bytes -= sum(_EVENT_BYTES + len(event.record.raw) for event in gone)
        del self.events[:count], self._versions[:count]

    def after(self, version: int, limit: int | None = None) -> list[Event] | None:
        """The events after `version`, oldest first, at most `limit`; None when some are gone already."""
        if version < self.compacted:
            return None
        start = bisect_right(self._versions, version)
        return self.events[start : None if limit is None else start + limit]
