"""What an agent reports about a slice, read with care: feedback values by name, and what was wrong with them, in words.

A site may be of another version, or broken: whatever a status holds, reading it raises nothing, costs only the value
that cannot be read, and says so. What the values mean for a slice is hub/jobs/works.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from hub.api.conditions import condition_is, find_condition
from hub.api.errors import InvalidObjectError
from hub.api.indexset import IndexSet
from hub.api.timestamps import parse_time
from hub.jobs.attempt import Usage

_SHOWN: Final = 60


def parse_exit_codes(text: str) -> tuple[tuple[int, IndexSet], ...]:
    """``1=3,17;137=4``, sorted by code. Raises `InvalidObjectError`."""
    found: dict[int, IndexSet] = {}
    for entry in filter(None, text.split(";")):
        code, equals, indexes = entry.partition("=")
        if not equals or not code.strip().lstrip("-").isdecimal():
            raise InvalidObjectError(f"{entry[:_SHOWN]!r} is not CODE=INDEXES")
        found[int(code)] = found.get(int(code), IndexSet()) | IndexSet.parse(indexes)
    return tuple(sorted(found.items(), key=lambda item: item[0]))


class Report:
    """The values of a slice of `size` `tasks`; `message` collects what was wrong with those that were asked for."""

    __slots__ = ("_all", "_size", "_tasks", "message", "values")

    def __init__(self, tasks: IndexSet, size: int, values: Mapping[str, Any]) -> None:
        self.values = values
        self.message = ""
        self._tasks = tasks
        self._size = size
        self._all = f"0-{size - 1}" if size > 1 else "0"

    def has(self, name: str) -> bool:
        return name in self.values

    def note(self, text: str) -> None:
        if text:
            self.message = f"{self.message}; {text}" if self.message else text

    def text(self, name: str) -> str:
        value = self.values.get(name, "")
        return value if isinstance(value, str) else str(value)

    def number(self, name: str) -> int:
        value = self.values.get(name, 0)
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return value
        self._unreadable(name, value)
        return 0

    def flag(self, name: str) -> bool:
        return self.values.get(name) in ("True", True)

    def tasks_of(self, name: str) -> IndexSet:
        """Completion indexes, translated to the job's tasks; positions past the slice's end are not its own."""
        text = self.text(name)
        if not text:
            return IndexSet()
        if text == self._all:
            return self._tasks
        try:
            return self._translate(text, name)
        except InvalidObjectError as error:
            self._unreadable(name, text, error)
            return IndexSet()

    def time(self, name: str) -> float | None:
        text = self.text(name)
        if not text:
            return None
        try:
            return parse_time(text).timestamp()
        except InvalidObjectError:
            self._unreadable(name, text)
            return None

    def exit_codes(self, failed: IndexSet) -> tuple[tuple[int, IndexSet], ...]:
        text = self.text("exitCodes")
        if not text:
            return ()
        try:
            codes = parse_exit_codes(text)
        except InvalidObjectError as error:
            self._unreadable("exitCodes", text, error)
            return ()
        translated = ((code, self._tasks.at(indexes) & failed) for code, indexes in codes)
        return tuple((code, tasks) for code, tasks in translated if tasks)

    def usage(self) -> Usage:
        text = self.text("usage")
        amounts = {}
        for part in filter(None, text.split(";")):
            name, _, value = part.partition("=")
            try:
                amounts[name.strip()] = max(0.0, min(float(value), 1e15))
            except ValueError:
                self._unreadable("usage", text)
                return Usage()
        # A NaN compares false with everything and ends as the bound above: it is no amount.
        clean = {name: amount for name, amount in amounts.items() if amount < 1e15}
        return Usage(clean.get("cpu", 0.0), clean.get("gpu", 0.0), clean.get("wall", 0.0))

    def _translate(self, text: str, name: str) -> IndexSet:
        indexes = IndexSet.parse(text)
        if indexes and indexes.ranges[-1][1] >= self._size:
            self.note(f"{name} {_short(text)} names tasks that are not in the slice of {self._size}; they are left out")
        return self._tasks.at(indexes)

    def _unreadable(self, name: str, value: object, error: Exception | None = None) -> None:
        self.note(
            f"its agent reported {name} as {_short(str(value))!r}, which cannot be read"
            + (f": {error}" if error else "")
        )


def feedback_values(work: Mapping[str, Any]) -> dict[str, Any]:
    """Every value that the work's manifests report, by name, untyped; the first of a name counts."""
    values: dict[str, Any] = {}
    manifests = _part(_part(work, "status"), "resourceStatus").get("manifests")
    for manifest in manifests if isinstance(manifests, list) else ():
        reported = _part(_part(manifest, "statusFeedback"), "values", list)
        for entry in reported:
            if not isinstance(entry, Mapping) or not isinstance(entry.get("fieldValue"), Mapping):
                continue
            typed = entry["fieldValue"]
            kind = str(typed.get("type", ""))
            value = typed.get({"Integer": "integer", "Boolean": "boolean", "JsonRaw": "jsonRaw"}.get(kind, "string"))
            if value is not None:
                values.setdefault(str(entry.get("name", "")), value)
    return values


def _part(value: Any, name: str, kind: type = dict) -> Any:
    found = value.get(name) if isinstance(value, Mapping) else None
    return found if isinstance(found, kind) else kind()


def refusal_of(work: Mapping[str, Any]) -> tuple[str, float] | None:
    """Why the cluster cannot apply it, and since when (epoch seconds; 0 when it does not say)."""
    status = _part(work, "status")
    verdict = find_condition(_part(status, "conditions", list), "Applied")
    if verdict is None or verdict.get("status") != "False":
        return None
    detail = str(verdict.get("message") or verdict.get("reason") or "it does not say why")
    for manifest in _part(_part(status, "resourceStatus"), "manifests", list):
        applied = find_condition(_part(manifest, "conditions", list), "Applied")
        if applied is not None and applied.get("status") == "False" and applied.get("message"):
            detail = str(applied["message"])
            break
    return detail.removeprefix("Failed to apply manifest: "), _moment(verdict.get("lastTransitionTime")) or 0.0


def is_finished(work: Mapping[str, Any]) -> bool:
    """Whether its agent says that its Job has ended, well or not."""
    return condition_is(_part(_part(work, "status"), "conditions", list), "Complete")


def last_change(work: Mapping[str, Any]) -> float | None:
    """When its Job was reported complete: a Job that failed has no completionTime."""
    verdict = find_condition(_part(_part(work, "status"), "conditions", list), "Complete")
    return (
        _moment(verdict.get("lastTransitionTime")) if verdict is not None and verdict.get("status") == "True" else None
    )


def _moment(text: Any) -> float | None:
    try:
        return parse_time(text).timestamp()
    except (InvalidObjectError, OverflowError):
        return None


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
