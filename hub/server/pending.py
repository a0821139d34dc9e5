"""What waits, in the order in which it is decided about: places in line, the one reason of each, a likely start.

The order and the reasons are the planner's on this very state; nothing is read back from what was said before.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from hub.api.timestamps import format_duration
from hub.planner.estimate import Estimate, estimate, estimate_document
from hub.planner.lending import Loan, loans_of, said
from hub.planner.line import InLine, in_line
from hub.planner.plan import Refusal
from hub.server.snapshot import State
from hub.server.view import Cell, Column, Table, age


@dataclass(frozen=True, slots=True)
class PendingRow:
    """`position` counts from 1 over the fleet, `in_cluster_queue` and `in_local_queue` within those.

    `reason` and `message` are empty where the next cycle would start all of it. `start` is None where nobody asked;
    `loans`: who has borrowed what it waits for, where somebody did.
    """

    key: str
    local_queue: str
    cluster_queue: str
    priority: int
    created: float
    tasks: int
    position: int
    in_cluster_queue: int
    in_local_queue: int
    reason: str
    message: str
    advice: str
    start: Estimate | None = None
    loans: tuple[Loan, ...] = ()
    refusal: Refusal | None = field(default=None, repr=False)

    @property
    def namespace(self) -> str:
        return self.key.partition("/")[0]

    @property
    def name(self) -> str:
        return self.key.partition("/")[2]

    def document(self) -> dict[str, Any]:
        """For programs; times as on the wire."""
        document: dict[str, Any] = {
            "namespace": self.namespace,
            "name": self.name,
            "localQueueName": self.local_queue,
            "clusterQueueName": self.cluster_queue,
            "priority": self.priority,
            "positionInFleet": self.position,
            "positionInClusterQueue": self.in_cluster_queue,
            "positionInLocalQueue": self.in_local_queue,
            "tasks": self.tasks,
            "reason": self.reason,
            "message": self.message,
        }
        if self.start is not None:
            document["estimatedStart"] = estimate_document(self.start)
        if self.loans:
            document["lent"] = [loan.document() for loan in self.loans]
        return document

    def why(self, now: float) -> str:
        """In one sentence, with who has borrowed what it waits for."""
        if not self.message:
            return "starts in the next cycle"
        lent = said(list(self.loans), now)
        return f"{self.message}, {lent}" if lent else self.message


def pending_rows(state: State) -> list[PendingRow]:
    """Everything that waits, first come first."""
    snapshot = state.snapshot()
    refusals = {refusal.key: refusal for refusal in state.way.outlook(snapshot).refusals}
    return [_row(place) for place in in_line(snapshot, state.way.first_come(snapshot), refusals)]


def with_starts(state: State, rows: Sequence[PendingRow], most: int) -> list[PendingRow]:
    """A start is estimated for the first `most` of `rows`, and loans are looked up: each costs several decisions."""
    snapshot = state.snapshot()
    told = [
        replace(
            row,
            start=estimate(snapshot, row.key, state.way.begin),
            loans=tuple(loans_of(snapshot, row.refusal)),
        )
        for row in rows[:most]
    ]
    return [*told, *rows[most:]]


def _row(place: InLine) -> PendingRow:
    demand, refusal = place.demand, place.refusal
    return PendingRow(
        key=demand.key,
        local_queue=demand.queue,
        cluster_queue=place.cluster_queue,
        priority=demand.priority,
        created=demand.created,
        tasks=demand.waiting,
        position=place.position,
        in_cluster_queue=place.in_cluster_queue,
        in_local_queue=place.in_local_queue,
        reason=refusal.reason.code if refusal is not None else "",
        message=refusal.message if refusal is not None else "",
        advice=refusal.reason.advice if refusal is not None else "",
        refusal=refusal,
    )


def pending_table(rows: Iterable[PendingRow], now: float, *, namespaces: bool = False) -> Table:
    columns = (
        Column("#", right=True),
        Column("JOB", elastic=True),
        Column("QUEUE", elastic=True, spare=2),
        Column("CLUSTERQUEUE", wide=True, elastic=True, spare=6),
        Column("PRIORITY", right=True, spare=3),
        Column("TASKS", right=True, spare=4),
        Column("WAITS", right=True),
        Column("STARTS", elastic=True),
        Column("WHY", prose=True),
    )
    lines: list[tuple[Cell, ...]] = [
        (
            row.in_cluster_queue,
            row.key if namespaces else row.name,
            row.local_queue,
            row.cluster_queue,
            row.priority,
            row.tasks,
            age(row.created, now),
            "" if row.start is None else start_text(row.start, now),
            row.why(now),
        )
        for row in rows
    ]
    return Table(columns, tuple(lines))


def start_text(found: Estimate, now: float) -> str:
    """``now``, ``in 5m to 12m``, ``in 5m or later``, ``unknown``."""
    if found.earliest is None:
        return "unknown"
    if found.earliest <= now:
        return "now"
    soon = format_duration(round(found.earliest - now))
    if found.latest is None:
        return f"in {soon} or later"
    late = format_duration(round(found.latest - now))
    return f"in {soon}" if late == soon else f"in {soon} to {late}"
