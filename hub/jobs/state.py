"""What is true of a job now: what `fold` gives, and what status, demand and the shell read. Plain values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from hub.api.indexset import IndexSet
from hub.api.reasons import Reason
from hub.jobs.attempt import Attempt, Usage
from hub.queueing.demand import TaskGroup

Phase = Literal["Pending", "Queued", "Admitted", "Running", "Succeeded", "Failed", "Cancelled"]
ENDED: frozenset[str] = frozenset({"Succeeded", "Failed", "Cancelled"})


class Refused(Protocol):
    """Why the planner did not place what waits (hub/planner's Refusal)."""

    @property
    def reason(self) -> Reason: ...

    @property
    def message(self) -> str: ...


@dataclass(frozen=True, slots=True)
class JobState:
    """`tasks` in all; `succeeded` and `failed` are settled, `active` run now, `waiting` may be placed.

    `slots`: how many more may run at once (0: nothing is to be placed). `attempts`: all that are known, by epoch,
    as each is to be recorded. `next_epoch` is what the next slice gets. `delete`: attempts whose ManifestWorks may be
    deleted now, because the end of each is in the job's status; `fenced`: those that may be once it is. Times are epoch
    seconds; `wake_at` is when the fold would differ without any news. `failures` counts failed attempts of tasks,
    `evictions` (by cause) slices that had to go.
    """

    phase: Phase
    reason: Reason
    message: str
    tasks: int
    succeeded: IndexSet = IndexSet()
    failed: IndexSet = IndexSet()
    active: int = 0
    waiting: tuple[TaskGroup, ...] = ()
    slots: int = 0
    attempts: tuple[Attempt, ...] = ()
    next_epoch: int = 1
    delete: tuple[Attempt, ...] = ()
    fenced: tuple[Attempt, ...] = ()
    usage: Usage = Usage()
    clusters: tuple[str, ...] = ()
    failures: int = 0
    evictions: tuple[tuple[str, int], ...] = ()
    submitted_at: float | None = None
    started_at: float | None = None
    finished_at: float | None = None
    retries_from: int = 0
    retry_failed: str = ""
    wake_at: float | None = None

    @property
    def ended(self) -> bool:
        return self.phase in ENDED

    @property
    def live(self) -> tuple[Attempt, ...]:
        """Slices that may still run something that counts: they hold quota and room (`Attempt.holds` tasks each)."""
        return tuple(attempt for attempt in self.attempts if attempt.live)

    @property
    def reserved(self) -> bool:
        """Whether it holds quota, and admission checks keep all of it from starting."""
        live = self.live
        return bool(live) and all(attempt.reserved for attempt in live)

    @property
    def preemptions(self) -> int:
        """How often a slice of it made way for another job."""
        return dict(self.evictions).get(Reason.PREEMPTED.code, 0)

    @property
    def pending(self) -> int:
        """Tasks that have not ended and do not run."""
        return self.tasks - len(self.succeeded) - len(self.failed) - self.active
