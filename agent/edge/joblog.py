"""Where the log of one task of a Job is, and how that task ended: from the Job's progress, its status, its records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agent.edge.jobrun import Progress
from agent.edge.logs import LogPlace
from agent.edge.records import Records
from hub.api.conditions import find_condition
from hub.api.indexset import MAX_INDEX


def log_place(job: Mapping[str, Any], progress: Progress, records: Records, index: int) -> LogPlace | None:
    """None: there is no such task."""
    uid = str(job["metadata"]["uid"])
    path = records.log(uid, index)
    if index in progress.active:
        return LogPlace(path, False)
    if not 0 <= index < completions_asked(job):
        return None
    if not progress.is_over(index) and not progress.over:
        return LogPlace(path, False)
    code = progress.code_of(index)
    if code == 0:
        return LogPlace(path, True, 0)
    if code is not None:
        return LogPlace(path, True, code, _reason_of(progress, records, uid, index))
    # It never ran: what is said of the whole Job is what there is to say.
    condition = find_condition((job.get("status") or {}).get("conditions"), "Failed") or {}
    reason, message = str(condition.get("reason") or ""), str(condition.get("message") or "")
    if progress.verdict is not None:
        reason, message = progress.verdict[0].code, progress.verdict[1]
    return LogPlace(path, True, None, reason or None, message)


def completions_asked(job: Mapping[str, Any]) -> int:
    """How many completions it asks for, as far as that can be read."""
    asked = (job.get("spec") or {}).get("completions")
    return asked if isinstance(asked, int) and not isinstance(asked, bool) and 0 <= asked <= MAX_INDEX else 1


def _reason_of(progress: Progress, records: Records, uid: str, index: int) -> str | None:
    if index not in progress.reasons:
        found = [record for record in map(records.read, records.runs_of(uid, index)) if record is not None]
        progress.reasons[index] = (found[-1].reason or "") if found else ""
    return progress.reasons[index] or None
