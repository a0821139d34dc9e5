"""Everything about one job, in the order in which a person asks: how is it, where did it run, why did it fail."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from hub.api import names
from hub.api.errors import InvalidObjectError
from hub.api.indexset import IndexSet
from hub.api.reasons import Reason
from hub.api.timestamps import format_duration
from hub.jobs.attempt import Attempt
from hub.jobs.memory import known_attempts, memory_of
from hub.jobs.works import attempt_from_work
from hub.server.jobs import ENDED, JobRow, job_row
from hub.server.view import Cell, Column, Section, Table, age, moment, span

Json = Mapping[str, Any]
MAX_FAILED: Final = 10
LAST_LINES: Final = 8


def job_sections(
    job: Json, works: Iterable[Json], logs: Iterable[Json], events: Iterable[Json], now: float
) -> list[Section]:
    """`works` and `logs` are the ManifestWorks and TaskLogs that carry the job's uid, `events` the Events about it."""
    attempts = all_attempts(job, works)
    found = [_overview(job, attempts, now), _attempts(attempts, now)]
    if (failures := failed_tasks(job, logs, attempts)) is not None:
        found.append(failures)
    found.append(_conditions(job, now))
    found.append(_events(events, now))
    return found


def all_attempts(job: Json, works: Iterable[Json]) -> list[Attempt]:
    """Every slice that is known, by epoch: a long history is not all in the status, and a plain Job's has none."""
    found = []
    for work in works:
        try:
            found.append(attempt_from_work(work))
        except (InvalidObjectError, LookupError, TypeError, ValueError, AttributeError):
            # Somebody edited what makes it a slice.
            continue
    return known_attempts(found, memory_of(job))


def results(job: Json, attempts: Iterable[Attempt]) -> tuple[IndexSet, IndexSet]:
    """Which tasks succeeded, and which failed in the end. A plain Job's status may not name them: its slices do."""
    memory = memory_of(job)
    if job.get("kind") != "Job" or not memory.ended:
        return memory.succeeded, memory.failed
    succeeded, failed = memory.succeeded, memory.failed
    for attempt in attempts:
        succeeded, failed = succeeded | attempt.succeeded, failed | attempt.failed
    return succeeded, failed - succeeded


def failed_tasks(job: Json, logs: Iterable[Json], attempts: Iterable[Attempt]) -> Section | None:
    """The last lines of the first tasks that failed, from their newest attempt; None when no task has failed."""
    _, failed = results(job, attempts)
    if not failed:
        return None
    last: dict[int, tuple[tuple[int, str], Json]] = {}
    for log in logs:
        meta = log.get("metadata") or {}
        if names.LOG_REQUEST in (meta.get("labels") or {}):
            # An answer to somebody's question, not what is shipped of every failure.
            continue
        for entry in log.get("entries") or ():
            if not isinstance(entry, Mapping) or not isinstance(entry.get("task"), int):
                continue
            order = (int(entry.get("attempt") or 0), str(meta.get("name") or ""))
            known = last.get(entry["task"])
            if entry["task"] in failed and (known is None or known[0] <= order):
                last[entry["task"]] = (order, {**entry, "cluster": meta.get("namespace")})
    lines: list[str] = []
    for task in failed.take(MAX_FAILED):
        if task not in last:
            lines.append(f"task {task}: its site has sent nothing of it")
            continue
        entry = last[task][1]
        ending = f"exit code {entry['exitCode']}" if entry.get("exitCode") is not None else "no exit code"
        ending += f", {entry['reason']}" if entry.get("reason") else ""
        lines.append(f"task {task} on {entry['cluster']}, attempt {entry.get('attempt') or 1}: {ending}")
        text = str(entry.get("text") or "").splitlines()[-LAST_LINES:]
        lines += [f"  {line}" for line in text]
    if len(failed) > MAX_FAILED:
        rest = failed - failed.take(MAX_FAILED)
        lines.append(f"and {len(rest)} more: {rest}; `quarterdeck logs {job['metadata']['name']} --failed`")
    return Section("Failed tasks", lines=tuple(lines))


def _overview(job: Json, attempts: Sequence[Attempt], now: float) -> Section:
    row, memory = job_row(job), memory_of(job)
    clusters = row.clusters or tuple(sorted({attempt.cluster for attempt in attempts}))
    spec = job.get("spec") or {}
    retry = spec.get("retry") or {}
    facts: list[tuple[str, Cell]] = [
        ("Name", row.name),
        ("Namespace", row.namespace),
        ("Kind", row.kind),
        ("Queue", row.queue),
        ("Priority class", row.priority),
        ("Phase", row.phase),
        ("Reason", row.reason),
        ("", row.message),
        ("Tasks", _tasks(row, *results(job, attempts))),
        ("At once", spec.get("parallelism") or _elastic(job)),
        ("GPU a task", row.gpu),
        ("Attempts a task", _attempts_allowed(row.kind, spec, retry)),
        ("Expected a task", spec.get("expectedDuration")),
        ("Clusters", ", ".join(clusters)),
        ("Submitted", _when(row.created, now)),
        ("Started", _when(row.started, now)),
        ("Ended", _when(row.finished, now)),
        ("Took", span(row.started, row.finished, now)),
        ("Used", _usage(memory.usage.cpu, memory.usage.gpu, memory.usage.wall)),
        ("Had to go", _evictions(memory.evictions)),
        ("Command", _command(spec)),
    ]
    return Section("", facts=tuple((label, value) for label, value in facts if value not in (None, "")))


def _elastic(job: Json) -> str:
    """``6 (elastic: 2 to 16); from 8 to 6 slots on ash at …``; empty for a job that is not elastic."""
    found = (job.get("status") or {}).get("elastic") or {}
    if not found:
        return ""
    giving = f", and {found['giving']} that are being given back" if found.get("giving") else ""
    message = f"; {found['message']}" if found.get("message") else ""
    return f"{found.get('current')}{giving} (elastic: {found.get('min')} to {found.get('max')}){message}"


def _tasks(row: JobRow, succeeded: IndexSet, failed: IndexSet) -> str:
    done = len(succeeded) or row.succeeded
    named = f" ({succeeded})" if succeeded and len(succeeded) < row.total else ""
    parts = [f"{done} of {row.total} succeeded{named}"]
    if failed:
        parts.append(f"{len(failed)} failed ({failed})")
    left = row.total - done - len(failed) - row.active
    parts += [f"{row.active} running"] if row.active else []
    parts += [f"{left} {'not run to their end' if row.phase in ENDED else 'waiting'}"] if left > 0 else []
    return ", ".join(parts)


def _attempts_allowed(kind: str, spec: Json, retry: Json) -> str:
    if kind == "Job":
        return ""
    text = str(retry.get("limitPerTask") or 1)
    codes = retry.get("onExitCodes") or {}
    for name, words in (("in", "after exit codes"), ("notIn", "not after exit codes")):
        if codes.get(name):
            text += f", {words} {', '.join(str(code) for code in codes[name])}"
    return text + (", on the same cluster too" if retry.get("elsewhere") is False else "")


def _attempts(attempts: Sequence[Attempt], now: float) -> Section:
    columns = (
        Column("EPOCH", right=True),
        Column("ATTEMPT", right=True, spare=2),
        Column("CLUSTER"),
        Column("TASKS", elastic=True),
        Column("STATE"),
        Column("SUCCEEDED", elastic=True, spare=1),
        Column("FAILED", elastic=True),
        Column("EXIT CODES", elastic=True),
        Column("STARTED", right=True, spare=4),
        Column("TOOK", right=True, spare=3),
        Column("NOTE", prose=True),
    )
    rows: list[tuple[Cell, ...]] = []
    for attempt in attempts:
        note = attempt.message
        if attempt.live and attempt.eviction is not None:
            left = max(0.0, attempt.eviction.stops - now)
            note = f"has to go, in {format_duration(left)} at the latest: {attempt.eviction.message}"
        if attempt.stale:
            stale = Reason.STALE_RESULT.message(cluster=attempt.cluster, tasks=attempt.stale)
            note = f"{note}; {stale}" if note else stale
        rows.append(
            (
                attempt.epoch,
                attempt.attempt,
                attempt.cluster,
                str(attempt.tasks),
                attempt.state,
                str(attempt.succeeded),
                str(attempt.failed),
                ", ".join(f"{code}: {tasks}" for code, tasks in attempt.exit_codes),
                age(attempt.started_at, now),
                span(attempt.started_at, attempt.finished_at, now) if attempt.finished_at or attempt.live else None,
                note,
            )
        )
    table = Table(columns, tuple(rows)) if rows else None
    return Section("Slices", table=table, empty="none of it has been sent to a cluster yet")


def _conditions(job: Json, now: float) -> Section:
    return condition_section((job.get("status") or {}).get("conditions"), now)


def condition_section(conditions: Any, now: float) -> Section:
    columns = (
        Column("TYPE"),
        Column("STATUS"),
        Column("SINCE", right=True),
        Column("REASON"),
        Column("MESSAGE", prose=True),
    )
    rows = tuple(
        (
            str(entry.get("type")),
            str(entry.get("status")),
            age(moment(entry.get("lastTransitionTime")), now),
            str(entry.get("reason") or ""),
            str(entry.get("message") or ""),
        )
        for entry in (conditions if isinstance(conditions, list) else ())
        if isinstance(entry, Mapping)
    )
    return Section("Conditions", table=Table(columns, rows) if rows else None, empty="none yet")


def _events(events: Iterable[Json], now: float) -> Section:
    columns = (
        Column("LAST", right=True),
        Column("TYPE"),
        Column("REASON"),
        Column("COUNT", right=True, spare=1),
        Column("NOTE", prose=True),
    )
    rows = []
    for event in events:
        series = event.get("series") or {}
        first = moment(event.get("eventTime")) or moment((event.get("metadata") or {}).get("creationTimestamp"))
        last = moment(series.get("lastObservedTime")) or moment(event.get("deprecatedLastTimestamp")) or first
        count = int(series.get("count") or event.get("deprecatedCount") or 1)
        row = (age(last, now), str(event.get("type") or ""), str(event.get("reason") or ""), count,
               str(event.get("note") or ""))  # fmt: skip
        rows.append((last or 0.0, str((event.get("metadata") or {}).get("name")), row))
    rows.sort()
    table = Table(columns, tuple(row for _, _, row in rows)) if rows else None
    return Section("Events", table=table, empty="none")


def _when(at: float | None, now: float) -> str:
    from hub.api.timestamps import format_time, from_timestamp

    return "" if at is None else f"{format_time(from_timestamp(at))} ({age(at, now)} ago)"


def _usage(cpu: float, gpu: float, wall: float) -> str:
    amounts = ((cpu, "of CPU"), (gpu, "of GPU"), (wall, "of running"))
    return ", ".join(f"{format_duration(amount)} {what}" for amount, what in amounts if amount)


def _evictions(evictions: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"{count} × {reason}" for reason, count in evictions)


def _command(spec: Json) -> str:
    """What the program gets: Kubernetes makes one dollar of two."""
    try:
        containers = spec["template"]["spec"]["containers"]
        first = containers[0]
        words = [str(word) for word in (*(first.get("command") or ()), *(first.get("args") or ()))]
    except (InvalidObjectError, LookupError, TypeError, AttributeError):
        return ""
    image = str(first.get("image") or "")
    text = " ".join(_quoted(word.replace("$$", "$")) for word in words)
    return "  ".join(part for part in (text, f"(image {image})" if image else "") if part)


def _quoted(word: str) -> str:
    """As a shell reads it, with the quotes that are easier to read."""
    import shlex

    if "'" in word and not set(word) & set('"$`\\!'):
        return f'"{word}"'
    return shlex.quote(word)
