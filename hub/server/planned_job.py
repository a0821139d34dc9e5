"""One of the hub's own jobs while something is decided about objects: what is known of it, and how its slices end.

The entry and the fold are the running hub's; carrying out a plan only moves attempts in it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from hub.api.reasons import Reason
from hub.controllers.limits import Evictions, Limits
from hub.controllers.seen import SeenJob
from hub.controllers.table import JobEntry
from hub.jobs.attempt import Attempt
from hub.planner.plan import Preemption, Refusal
from hub.server.leaving import Leaving


@dataclass(slots=True)
class Job:
    """`trouble`: why it cannot be read; `refusal`: what the last cycle said of it. `evictions`: slices that have to go
    whoever else waits, for its queue is drained or its time is over."""

    entry: JobEntry
    seen: SeenJob
    trouble: str = ""
    refusal: Refusal | None = None
    evictions: Evictions = ()

    @property
    def key(self) -> str:
        """The planner's; of a job that cannot be read, its own name."""
        return self.seen.spec.key if self.seen.spec is not None else str(self.seen.ref)


def preempted(job: Job, preemption: Preemption) -> None:
    """As if its site had stopped it at once: its tasks wait again."""
    entry = job.entry
    attempt = next((known for known in entry.attempts() if known.epoch == preemption.epoch), None)
    if attempt is not None:
        cause = Reason.ELASTIC_SHRINK if preemption.shrinks else Reason.PREEMPTED
        ended(job, attempt, cause.code, preemption.message, attempt.finished_at)


def resized(job: Job, epoch: int, slots: int) -> None:
    """As if its site had stopped at once what runs on slots that it gives back."""
    entry = job.entry
    if epoch in entry.assumed:
        entry.assumed[epoch] = replace(entry.assumed[epoch], slots=slots)
    for key, work in entry.works.items():
        if work.epoch == epoch and work.attempt is not None:
            entry.works[key] = replace(work, attempt=replace(work.attempt, slots=slots, occupied=0))


def ended(job: Job, attempt: Attempt, reason: str, message: str, at: float | None) -> None:
    """As if the slice had been evicted and were gone."""
    entry = job.entry
    entry.assumed.pop(attempt.epoch, None)
    for key in [key for key, work in entry.works.items() if work.epoch == attempt.epoch]:
        del entry.works[key]
    entry.departed[attempt.epoch] = replace(
        attempt, state="Evicted", active=0, gone=True, reason=reason, message=message, finished_at=at
    )


def unready(job: Job, limits: Limits) -> bool:
    """Whether something of it is admitted and not up."""
    state = job.entry.state
    return state is not None and not state.ended and limits.unready(state)


def told(evictions: Evictions) -> tuple[str, Leaving]:
    """What is said of a job whose slices have to go: their queue, and the first of their reasons."""
    attempt, cause = evictions[0]
    return attempt.queue, Leaving(cause.reason.code, cause.message)
