"""Why one job waits: one reason with numbers, who has what it needs, its place in line, a likely start.

Everything is decided again on this state by the production code; nothing is remembered.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hub.api.reasons import Reason
from hub.jobs.state import JobState
from hub.planner.explanation import Explanation, QuotaLine
from hub.queueing.amount import readable
from hub.queueing.objects import FlavorResource
from hub.server.explanation_document import find_job
from hub.server.pending import PendingRow, pending_rows, start_text, with_starts
from hub.server.snapshot import Job, State
from hub.server.view import Cell, Column, Section, Table, age, span

_MOST_HOLDERS = 8


@dataclass(frozen=True, slots=True)
class Holder:
    """A job that has some of what another waits for. `ends`: epoch seconds, where it says how long it takes."""

    key: str
    queue: str
    amount: int
    since: float | None
    ends: float | None


def why_sections(state: State, key: str) -> list[Section] | None:
    """Of a job that waits, by its own or its Workload's name; None when nothing of that name waits."""
    job = find_job(state, key)
    wanted = job.key if job is not None else key
    rows = pending_rows(state)
    row = next((row for row in rows if row.key == wanted), None)
    if row is None:
        return None
    snapshot = state.snapshot()
    found = state.way.explain(snapshot, wanted)
    (row,) = with_starts(state, [row], 1)
    sections = [Section("", facts=_facts(state, row, rows, found))]
    short = _short_of(found)
    if short is not None:
        sections.append(_holders(state, short, found))
    return sections


def standing_facts(state: State, key: str) -> list[Section] | None:
    """Of a job that does not wait: where it stands; None when there is none."""
    job = find_job(state, key)
    if job is None:
        return None
    now = job.entry.state
    if now is None:
        return [Section("", facts=(("Job", key), ("Phase", "Pending"), ("Why", job.trouble)))]
    facts: list[tuple[str, Cell]] = [("Job", key), ("Phase", now.phase), ("Why", now.message)]
    if now.live:
        where = ", ".join(sorted({attempt.cluster for attempt in now.live}))
        place = "Reserved on" if now.reserved else "Runs on"
        facts.append((place, f"{where}: `quarterdeck explain {job.seen.ref.name}` says why there"))
        facts += _few_slots(state, job, now)
    return [Section("", facts=tuple(facts))]


def _few_slots(state: State, job: Job, now: JobState) -> list[tuple[str, Cell]]:
    """Of a job that runs with fewer slots than it may use, and asks for no more: in mode kueue it does not grow."""
    spec, slots = job.seen.spec, sum(attempt.slots for attempt in now.live)
    if spec is None or not state.rules.kueue or now.waiting or slots >= min(spec.parallelism, now.tasks):
        return []
    most = min(spec.parallelism, now.tasks)
    why = "there was quota for no more when it started, and in mode kueue it does not grow"
    return [("Slots", f"{slots} of the {most} that it may use: {why}")]


def holders(state: State, flavor: FlavorResource, queues: Iterable[str]) -> list[Holder]:
    """Jobs that hold any of a flavor's resource from one of `queues`, those with the most first."""
    names = set(queues)
    found = []
    for job in state.jobs.values():
        now, spec = job.entry.state, job.seen.spec
        if now is None or spec is None or not now.live:
            continue
        amount = state.held_by(job).get(flavor, 0)
        queue = next((attempt.queue for attempt in now.live if attempt.queue), "")
        if not amount or queue not in names:
            continue
        starts = [attempt.started_at for attempt in now.live if attempt.started_at is not None]
        since = min(starts, default=None)
        ends = None
        if spec.expected_duration is not None and starts:
            ends = max(starts) + spec.expected_duration
        found.append(Holder(str(job.seen.ref), queue, amount, since, ends))
    return sorted(found, key=lambda holder: (-holder.amount, holder.key))


def _facts(
    state: State, row: PendingRow, rows: Sequence[PendingRow], found: Explanation
) -> tuple[tuple[str, Cell], ...]:
    same = sum(other.cluster_queue == row.cluster_queue for other in rows)
    ahead = [
        other.key
        for other in rows
        if other.cluster_queue == row.cluster_queue and other.in_cluster_queue < row.in_cluster_queue
    ]
    facts: list[tuple[str, Cell]] = [
        ("Job", row.key),
        ("Waits", f"{age(row.created, state.now)}, {row.tasks} {'task' if row.tasks == 1 else 'tasks'}"),
        ("Why", row.why(state.now) if row.message else "it starts in the next cycle"),
        ("Reason", row.reason),
    ]
    if row.reason == Reason.WAITING_FOR_QUOTA.code:
        facts += [("Quota", text) for text in _path(found)]
    line = f"{_ordinal(row.in_cluster_queue)} of {same} in ClusterQueue {row.cluster_queue}"
    if ahead:
        line += f", behind {', '.join(ahead[-3:])}" + (f" and {len(ahead) - 3} more" if len(ahead) > 3 else "")
    if row.cluster_queue:
        facts.append(("In line", line))
    if row.start is not None:
        likely = start_text(row.start, state.now)
        facts.append(("Likely start", f"{likely}: {row.start.why}" if row.start.why else likely))
    if found.change:
        facts.append(("Would start with", found.change))
    if row.advice and "{" not in row.advice:
        facts.append(("What to do", row.advice))
    return tuple(facts)


def _short_of(found: Explanation) -> FlavorResource | None:
    if found.refusal is None or found.refusal.reason is not Reason.WAITING_FOR_QUOTA:
        return None
    facts = dict(found.refusal.facts)
    return str(facts["flavor"]), str(facts["resource"])


def _path(found: Explanation) -> Iterable[str]:
    """What is used of what, from the queue up its cohorts, of the flavor that is short."""
    short = _short_of(found)
    for line in found.quota:
        if (line.flavor, line.resource) == short:
            yield _line(line)


def _line(line: QuotaLine) -> str:
    owned = line.nominal if line.kind == "ClusterQueue" else line.subtree
    text = f"{line.kind} {line.node}: {readable(line.resource, line.used)} of {readable(line.resource, owned)} used"
    if line.borrowed:
        text += f", {readable(line.resource, line.borrowed)} of it borrowed"
    if line.borrowing_limit is not None:
        text += f", may borrow {readable(line.resource, line.borrowing_limit)}"
    return text


def _holders(state: State, short: FlavorResource, found: Explanation) -> Section:
    tree = state.world.quotas.trees.get(found.queue)
    queues = list(tree.position) if tree is not None else [found.queue]
    having = holders(state, short, queues)
    columns = (
        Column("JOB", elastic=True),
        Column("CLUSTERQUEUE", elastic=True),
        Column("HAS", right=True),
        Column("SINCE", right=True, spare=1),
        Column("LIKELY UNTIL", right=True),
    )
    rows: list[tuple[Cell, ...]] = [
        (
            holder.key,
            holder.queue,
            readable(short[1], holder.amount),
            age(holder.since, state.now),
            "unknown" if holder.ends is None else _until(state.now, holder.ends),
        )
        for holder in having[:_MOST_HOLDERS]
    ]
    if len(having) > _MOST_HOLDERS:
        rest = sum(holder.amount for holder in having[_MOST_HOLDERS:])
        rows.append((f"{len(having) - _MOST_HOLDERS} more", "", readable(short[1], rest), None, None))
    title = f"Who has {short[1]} of flavor {short[0]}"
    return Section(title, table=Table(columns, tuple(rows)) if rows else None, empty="nobody: it is not lent")


def _until(now: float, ends: float) -> str:
    return "any moment" if ends <= now else f"in {span(now, ends, now)}"


def _ordinal(number: int) -> str:
    tail = "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{tail}"
