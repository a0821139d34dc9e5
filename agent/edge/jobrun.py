"""One Job of a site as it goes: which of its indexes have ended how, which run, which are next.

Counts and decides; starts nothing and writes nothing. Its whole state can be made again from the Job's status (what the
API has made durable) and the records on disk (what ended since). Usage is counted once an index has come to its end for
good, together with the indexes in the status, so that nothing counts twice after a restart.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from agent.edge.jobplan import JobDials, JobPlan
from agent.edge.task import Task, TaskEnd
from hub.api.conditions import find_condition, with_condition
from hub.api.indexset import IndexSet
from hub.api.reasons import Reason
from hub.api.timestamps import format_time, from_timestamp, parse_time

Json = dict[str, Any]
# Kubernetes' delay before a failed index is tried again: 10 s, doubled each time, at most 6 min.
_RETRY_FIRST: Final = 10.0
_RETRY_CAP: Final = 360.0
BLOCKED: Final = "Blocked"


@dataclass(slots=True)
class Usage:
    cpu: float = 0.0
    gpu: float = 0.0
    wall: float = 0.0

    def add(self, other: Usage) -> None:
        self.cpu += other.cpu
        self.gpu += other.gpu
        self.wall += other.wall

    def __str__(self) -> str:
        return f"cpu={self.cpu:.3f};gpu={self.gpu:.3f};wall={self.wall:.3f}"

    @classmethod
    def parse(cls, text: str) -> Usage:
        """What cannot be read is 0."""
        usage = cls()
        for part in text.split(";"):
            name, _, value = part.partition("=")
            if name in ("cpu", "gpu", "wall"):
                try:
                    setattr(usage, name, float(value))
                except ValueError:
                    continue
        return usage


@dataclass(slots=True)
class Progress:
    """Of one Job. `attempts[index]`: failures of an index that is not over yet."""

    started: float | None = None
    finished: float | None = None
    active: dict[int, Task] = field(default_factory=dict)
    completed: IndexSet = IndexSet()
    failed: IndexSet = IndexSet()
    failures: int = 0
    attempts: dict[int, int] = field(default_factory=dict)
    exit_codes: dict[int, IndexSet] = field(default_factory=dict)
    # Why indexes failed, where a code does not say. Not in the status: after a restart their records tell.
    reasons: dict[int, str] = field(default_factory=dict)
    usage: Usage = field(default_factory=Usage)
    # Why the Job as a whole has failed, from the moment that is certain: its other tasks are still to be stopped.
    verdict: tuple[Reason, str] | None = None
    blocked: tuple[Reason, str] | None = None
    suspended: bool = False
    over: bool = False
    _fresh: tuple[list[int], list[int], list[tuple[int, int]]] = field(default_factory=lambda: ([], [], []))
    _ended: set[int] = field(default_factory=set)
    _spent: dict[int, Usage] = field(default_factory=dict)
    _cursor: int = 0
    _again: list[tuple[float, int]] = field(default_factory=list)
    _next_attempt: dict[int, int] = field(default_factory=dict)

    # What is next.

    def next_index(self, plan: JobPlan, now: float) -> int | None:
        """The next index to start, None when there is none now. Asking takes nothing."""
        while self._again and (self._again[0][1] in self._ended or self._again[0][1] in self.active):
            heapq.heappop(self._again)
        if self._again and self._again[0][0] <= now:
            return self._again[0][1]
        while self._cursor < plan.completions and not self._is_new(self._cursor):
            self._cursor += 1
        return self._cursor if self._cursor < plan.completions else None

    def _is_new(self, index: int) -> bool:
        return index not in self._ended and index not in self.active and index not in self._next_attempt

    def next_retry(self) -> float | None:
        """When an index that failed may be tried again; None when none waits for that."""
        return self._again[0][0] if self._again else None

    def attempt_of(self, index: int) -> int:
        return self._next_attempt.get(index, 0)

    def begin(self, index: int, task: Task) -> None:
        self.active[index] = task
        if self._again and self._again[0][1] == index:
            heapq.heappop(self._again)
        if self.started is None:
            self.started = task.started

    # What has ended.

    def record_end(self, plan: JobPlan, dials: JobDials, index: int, attempt: int, end: TaskEnd, now: float) -> None:
        """Task `attempt` of `index` has ended; `active` is told, and the verdict, where there is one now."""
        self.active.pop(index, None)
        gpus = plan.pod.need.gpu_milli / 1000
        spent = self._spent.setdefault(index, Usage())
        spent.add(Usage(end.cpu, gpus * end.wall, end.wall))
        self._next_attempt[index] = attempt + 1
        if end.code == 0:
            self._fresh[0].append(index)
            self._conclude(index)
        elif end.reason == Reason.STOPPED.code:
            heapq.heappush(self._again, (0.0, index))
        else:
            self._record_failure(plan, dials, index, end, now)
        self._judge(plan)

    def _record_failure(self, plan: JobPlan, dials: JobDials, index: int, end: TaskEnd, now: float) -> None:
        self.failures += 1
        failed = self.attempts[index] = self.attempts.get(index, 0) + 1
        over = self.verdict is not None
        if plan.per_index is not None:
            over = over or failed > plan.per_index
        if self.failures > dials.backoff_limit:
            over = True
            self.condemn(Reason.BACKOFF_LIMIT_EXCEEDED, Reason.BACKOFF_LIMIT_EXCEEDED.message())
        if over:
            self._fresh[1].append(index)
            self._fresh[2].append((end.code, index))
            if end.reason is not None:
                self.reasons[index] = end.reason
            self._conclude(index)
        else:
            heapq.heappush(self._again, (now + min(_RETRY_FIRST * 2 ** (failed - 1), _RETRY_CAP), index))

    def _conclude(self, index: int) -> None:
        self._ended.add(index)
        self.attempts.pop(index, None)
        self._next_attempt.pop(index, None)
        self.usage.add(self._spent.pop(index))

    def _judge(self, plan: JobPlan) -> None:
        failed = len(self.failed) + len(self._fresh[1])
        if plan.max_failed is not None and failed > plan.max_failed:
            self.condemn(Reason.MAX_FAILED_INDEXES, Reason.MAX_FAILED_INDEXES.message())
        if len(self._ended) >= plan.completions and failed:
            self.condemn(Reason.FAILED_INDEXES, Reason.FAILED_INDEXES.message())

    def condemn(self, reason: Reason, message: str) -> None:
        """The first verdict stands."""
        if self.verdict is None:
            self.verdict = (reason, message)

    def all_ended(self, plan: JobPlan) -> bool:
        return not self.active and (self.verdict is not None or len(self._ended) >= plan.completions)

    def fail_rest(self, completions: int) -> None:
        """It was refused as a whole: what has not ended will not run."""
        self._fold()
        before = len(self.failed)
        self.failed = IndexSet.span(completions) - self.completed
        self.failures += len(self.failed) - before
        self._ended = set(range(completions))

    # The status.

    def _fold(self) -> None:
        completed, failed, codes = self._fresh
        if completed:
            self.completed |= IndexSet.of(completed)
        if failed:
            self.failed |= IndexSet.of(failed)
        for code in {code for code, _ in codes}:
            indexes = IndexSet.of(index for found, index in codes if found == code)
            self.exit_codes[code] = self.exit_codes.get(code, IndexSet()) | indexes
        self._fresh = ([], [], [])

    def status(self, previous: Mapping[str, Any], now: str) -> Json:
        """The whole Job status. Which indexes have ended is in it for every Job: it is what a restart reads."""
        self._fold()
        active = len(self.active)
        status: Json = {
            "active": active,
            "ready": active,
            "succeeded": len(self.completed),
            "failed": self.failures,
            "conditions": self._conditions(previous.get("conditions") or [], now),
        }
        if self.started is not None:
            status["startTime"] = format_time(from_timestamp(self.started))
        if self.over and self.finished is not None:
            status["completionTime"] = format_time(from_timestamp(self.finished))
        if self.completed:
            status["completedIndexes"] = str(self.completed)
        if self.failed:
            status["failedIndexes"] = str(self.failed)
        if self.exit_codes:
            status["exitCodes"] = ";".join(f"{code}={self.exit_codes[code]}" for code in sorted(self.exit_codes))
        if self.usage.wall or self.usage.cpu:
            status["usage"] = str(self.usage)
        return status

    def _conditions(self, previous: list[Json], now: str) -> list[Json]:
        conditions: list[Json] = [dict(c) for c in previous]
        if self.over:
            if self.verdict is None:
                reason, message = Reason.JOB_COMPLETE, Reason.JOB_COMPLETE.message()
            else:
                reason, message = self.verdict
            kind = "Complete" if self.verdict is None else "Failed"
            conditions = with_condition(conditions, kind, "True", reason.code, message, now=now)
        if self.suspended:
            conditions = with_condition(conditions, "Suspended", "True", "JobSuspended", "Job suspended", now=now)
        elif find_condition(conditions, "Suspended") is not None:
            conditions = with_condition(conditions, "Suspended", "False", "JobResumed", "Job resumed", now=now)
        if self.blocked is not None and not self.over:
            reason, message = self.blocked
            return with_condition(conditions, BLOCKED, "True", reason.code, message, now=now)
        return [c for c in conditions if c.get("type") != BLOCKED]

    def restore(self, status: Mapping[str, Any]) -> None:
        """From a Job's status as this site once wrote it; raises `InvalidIndexSetError` for one that is not."""
        self.completed = IndexSet.parse(str(status.get("completedIndexes") or ""))
        self.failed = IndexSet.parse(str(status.get("failedIndexes") or ""))
        self._ended = {*self.completed, *self.failed}
        self.usage = Usage.parse(str(status.get("usage") or ""))
        self.failures = len(self.failed)
        for part in filter(None, str(status.get("exitCodes") or "").split(";")):
            code, _, indexes = part.partition("=")
            if code.isdecimal():
                self.exit_codes[int(code)] = IndexSet.parse(indexes)
        if status.get("startTime"):
            self.started = parse_time(str(status["startTime"])).timestamp()

    def restore_count(self, attempts: int) -> None:
        """How many times an index that is over was tried; of the others their ends will be told again."""
        self.failures += attempts - 1

    def restore_failure(self, plan: JobPlan, index: int, cpu: float, wall: float) -> None:
        """An earlier attempt of an index that is not over: it failed, or there would be no later one."""
        self.failures += 1
        self.attempts[index] = self.attempts.get(index, 0) + 1
        gpus = plan.pod.need.gpu_milli / 1000
        self._spent.setdefault(index, Usage()).add(Usage(cpu, gpus * wall, wall))

    def is_over(self, index: int) -> bool:
        return index in self._ended

    def code_of(self, index: int) -> int | None:
        """The exit code of an index that is over; None when it has none."""
        self._fold()
        if index in self.completed:
            return 0
        return next((code for code, indexes in self.exit_codes.items() if index in indexes), None)

    def skip_to_attempt(self, index: int, attempt: int) -> None:
        """`index` was tried before: its next attempt has this number."""
        self._next_attempt[index] = max(attempt, self._next_attempt.get(index, 0))
        heapq.heappush(self._again, (0.0, index))
