"""The demo's log: what changed in the job since it was last looked at, one line a decision or its outcome.

Pure: a job's status in, lines out. A line is said once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from hub.api.indexset import IndexSet


class DecisionLog:
    def __init__(self) -> None:
        self._placed: set[int] = set()
        self._ended: set[int] = set()
        self._failed: dict[int, IndexSet] = {}
        self._waiting = ""

    def lines(self, status: Mapping[str, Any]) -> Iterator[str]:
        """What is new in `status`, in order of epochs."""
        attempts = sorted(status.get("attempts") or (), key=lambda attempt: int(attempt["epoch"]))
        for attempt in attempts:
            epoch, tasks = int(attempt["epoch"]), IndexSet.parse(str(attempt.get("tasks") or ""))
            if epoch not in self._placed:
                self._placed.add(epoch)
                again = int(attempt.get("attempt") or 1)
                how = f", attempt {again}" if again > 1 else ""
                yield f"{_tasks(tasks)} → {attempt['cluster']} (epoch {epoch}{how})"
        for attempt in attempts:
            epoch = int(attempt["epoch"])
            failed = IndexSet.parse(str(attempt.get("failed") or ""))
            if new := failed - self._failed.get(epoch, IndexSet()):
                self._failed[epoch] = failed
                yield f"{_tasks(new)} failed on {attempt['cluster']}: exit code {_codes(attempt, new)}"
            if attempt.get("state") in ("Lost", "Cancelled", "Evicted") and epoch not in self._ended:
                self._ended.add(epoch)
                state = str(attempt["state"]).lower()
                yield f"epoch {epoch} on {attempt['cluster']} {state}: {attempt.get('message', '')}"
        waiting = str(status.get("message") or "") if status.get("phase") in ("Pending", "Queued") else ""
        if waiting and waiting != self._waiting:
            yield f"waits: {waiting}"
        self._waiting = waiting


def _tasks(tasks: IndexSet) -> str:
    return f"task {tasks}" if len(tasks) == 1 else f"tasks {tasks}"


def _codes(attempt: Mapping[str, Any], tasks: IndexSet) -> str:
    codes = []
    for part in filter(None, str(attempt.get("exitCodes") or "").split(";")):
        code, _, indexes = part.partition("=")
        if IndexSet.parse(indexes) & tasks:
            codes.append(code)
    return ", ".join(codes) or "unknown"
