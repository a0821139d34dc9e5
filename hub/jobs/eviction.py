"""The record that a slice has to go: one annotation of its ManifestWork, written once, read by every hub after that.

It is the decision itself, not news of it: a hub that dies right after the write finds it and carries on; one that dies
before it has decided nothing. Who decides is elsewhere; what becomes of the slice is hub/jobs/fold.py.
"""

from __future__ import annotations

import json
from typing import Any, Final

from hub.api import names
from hub.api.errors import InvalidObjectError
from hub.api.timestamps import format_micro_time, from_timestamp, parse_time
from hub.jobs.attempt import Eviction
from hub.jobs.resize import escaped

Json = dict[str, Any]

_MESSAGE_BYTES: Final = 300
SIGNALLED: Final = frozenset({128 + 9, 128 + 15})
"""Exit codes of tasks that were ended by SIGKILL and SIGTERM: in a slice that was told to go, these are no failures."""


def eviction_annotations(eviction: Eviction) -> dict[str, str]:
    """What the work gets. Equal evictions give equal text."""
    note = {
        "cause": eviction.cause,
        "reason": eviction.reason,
        "by": eviction.by,
        "message": eviction.message[:_MESSAGE_BYTES],
        "at": format_micro_time(from_timestamp(eviction.at)),
        "stops": format_micro_time(from_timestamp(eviction.stops)),
    }
    kept = {name: value for name, value in note.items() if value}
    return {names.EVICTION: json.dumps(kept, separators=(",", ":"), sort_keys=True, ensure_ascii=False)}


def eviction_patch(uid: str, eviction: Eviction) -> tuple[Json, ...]:
    """RFC 6902, for the slice's ManifestWork: the record, and its Job suspended, so that nothing more is started there
    and what runs is told at once (hub/jobs/works.py says how long it has)."""
    key, note = next(iter(eviction_annotations(eviction).items()))
    at = "/metadata/annotations/" + escaped(key)
    return (
        {"op": "test", "path": "/metadata/uid", "value": uid},
        {"op": "add", "path": at, "value": note},
        {"op": "add", "path": "/spec/workload/manifests/0" + at, "value": note},
        {"op": "add", "path": "/spec/workload/manifests/0/spec/suspend", "value": True},
    )


def read_eviction(text: str) -> Eviction | None:
    """None without one, and where somebody has made it unreadable: then nobody was told anything."""
    if not text:
        return None
    try:
        note: Any = json.loads(text)
        at, stops = (parse_time(str(note[name])).timestamp() for name in ("at", "stops"))
        return Eviction(
            cause=str(note["cause"]),
            message=str(note.get("message") or ""),
            at=at,
            stops=max(at, stops),
            reason=str(note.get("reason") or ""),
            by=str(note.get("by") or ""),
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError, InvalidObjectError):
        return None
