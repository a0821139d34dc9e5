"""What a task is told when it has to go: by SIGTERM, and by a file that says until when it may save its work.

The file's name is in the task's environment from its start (``QUARTERDECK_NOTICE_FILE``); before a notice there is no
file. It is one JSON object: ``deadline`` (RFC 3339; then it is killed), ``seconds`` until then, ``reason`` and
``message``.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from hub.api import names
from hub.api.errors import InvalidObjectError
from hub.api.timestamps import format_micro_time, from_timestamp, parse_time

INSIDE: Final = "/run/quarterdeck"
"""Where a container finds its file."""
FILE: Final = "notice"


@dataclass(frozen=True, slots=True)
class Notice:
    """`until`: epoch seconds. `reason` is a word such as Preempted."""

    until: float
    reason: str
    message: str = ""


def notice_of(job: Mapping[str, Any]) -> Notice | None:
    """What the hub says of a Job that has to go, or of which some tasks have to; None: nothing."""
    notes = (job.get("metadata") or {}).get("annotations") or {}
    for name, reason in ((names.EVICTION, ""), (names.RESIZE, "ElasticShrink")):
        text = notes.get(name)
        if not text:
            continue
        try:
            note = orjson.loads(text)
            until = parse_time(str(note["stops"])).timestamp()
            return Notice(until, reason or str(note.get("cause") or ""), str(note.get("message") or ""))
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, InvalidObjectError):
            # Whoever wrote it meant something else: its tasks have the time that their pod says.
            continue
    return None


def give(path: str, notice: Notice, deadline: float, now: float) -> None:
    """All of the file at once. On a full disk there is none: the signal tells the task as well."""
    content = {
        "deadline": format_micro_time(from_timestamp(deadline)),
        "seconds": round(max(0.0, deadline - now), 3),
        "reason": notice.reason,
        "message": notice.message,
    }
    with contextlib.suppress(OSError):
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        with open(f"{path}.new", "wb") as file:
            file.write(orjson.dumps(content) + b"\n")
        os.replace(f"{path}.new", path)


def take_away(path: str) -> None:
    """Of an earlier attempt."""
    with contextlib.suppress(OSError):
        os.unlink(path)
