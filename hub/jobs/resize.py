"""The record that a slice was made larger or smaller while it runs: written with the change itself, by one patch.

Like an eviction (hub/jobs/eviction.py) it is the decision, not news of it: the ManifestWork says from then on how many
slots the slice has, and its Job as many of its tasks as may run at once. Who decides is elsewhere.
"""

from __future__ import annotations

import json
from typing import Any, Final

from hub.api import names
from hub.api.errors import InvalidObjectError
from hub.api.timestamps import format_micro_time, from_timestamp, parse_time
from hub.jobs.attempt import Attempt, Resize

Json = dict[str, Any]
_MESSAGE_BYTES: Final = 300
_NOTES: Final = "/metadata/annotations/"
_JOB: Final = "/spec/workload/manifests/0"


def resize_note(resize: Resize) -> str:
    """Equal ones give equal text."""
    note = {
        "from": resize.before,
        "to": resize.slots,
        "by": resize.by,
        "message": resize.message[:_MESSAGE_BYTES],
        "at": format_micro_time(from_timestamp(resize.at)),
        "stops": format_micro_time(from_timestamp(resize.stops)),
    }
    kept = {name: value for name, value in note.items() if value != ""}
    return json.dumps(kept, separators=(",", ":"), sort_keys=True, ensure_ascii=False)


def read_resize(text: str) -> Resize | None:
    """None without one, and where somebody has made it unreadable: then nothing is known to be on its way."""
    if not text:
        return None
    try:
        note: Any = json.loads(text)
        at, stops = (parse_time(str(note[name])).timestamp() for name in ("at", "stops"))
        return Resize(
            before=int(note["from"]),
            slots=int(note["to"]),
            at=at,
            stops=max(at, stops),
            message=str(note.get("message") or ""),
            by=str(note.get("by") or ""),
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError, InvalidObjectError):
        return None


def resize_patch(uid: str, attempt: Attempt, resize: Resize) -> tuple[Json, ...]:
    """RFC 6902, for the slice's ManifestWork: it fails where the slice has another size than `attempt` says.

    The Job is told, too, by when what runs on slots that are given back has to have stopped.
    """
    note, slots = resize_note(resize), _NOTES + escaped(names.SLOTS)
    return (
        {"op": "test", "path": "/metadata/uid", "value": uid},
        {"op": "test", "path": slots, "value": str(attempt.slots)},
        {"op": "replace", "path": slots, "value": str(resize.slots)},
        {"op": "add", "path": _NOTES + escaped(names.RESIZE), "value": note},
        {"op": "add", "path": _JOB + _NOTES + escaped(names.RESIZE), "value": note},
        {"op": "replace", "path": f"{_JOB}/spec/parallelism", "value": resize.slots},
    )


def escaped(key: str) -> str:
    """A map's key as a part of a JSON pointer."""
    return key.replace("~", "~0").replace("/", "~1")
