"""Whom a workload may preempt, and what every search for victims has in common. Works on a Standing, and leaves it.

The orders of search are hub/queueing/kueue/classical.py and fair.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from hub.queueing.kueue.standing import Candidate, Needed, Standing
from hub.queueing.kueue.workload import Held, Workload
from hub.queueing.objects import ClusterQueue, FlavorResource
from hub.queueing.usage import fits

Why = Literal["InClusterQueue", "InCohortReclamation", "InCohortFairSharing", "InCohortReclaimWhileBorrowing"]


@dataclass(frozen=True, slots=True)
class Victim:
    """`position`: of its queue in the tree."""

    held: Held
    position: int
    why: Why


class Search(Protocol):
    """Finds victims so that `request` fits at a queue; none when it cannot be. `needed`: what it lacks."""

    def __call__(
        self,
        standing: Standing,
        position: int,
        workload: Workload,
        needed: Needed,
        request: Mapping[FlavorResource, int],
    ) -> list[Victim]: ...


def candidates(
    standing: Standing, position: int, workload: Workload, needed: Needed, policy: str
) -> Iterator[Candidate]:
    """Holders at a queue whom `policy` lets the workload preempt, in the order in which they would have to go."""
    priority = workload.priority
    by_rank = standing.sorted_by_rank(position)
    for candidate in standing.present(position, needed):
        other = candidate[1].workload
        if policy != "Any" and other.priority >= priority:
            newer = policy == "LowerOrNewerEqualPriority" and other.queued > workload.queued
            if other.priority > priority or not newer:
                if by_rank and candidate[0][0] and (other.priority > priority or policy == "LowerPriority"):
                    # Those that are not on their way out follow by priority: the rest is no lower.
                    return
                continue
        yield candidate


def queue_at(standing: Standing, position: int) -> ClusterQueue:
    queue = standing.queues[position]
    assert queue is not None, "preemptors and victims are in queues, never in cohorts"
    return queue


def take_out(standing: Standing, victim: Victim) -> None:
    standing.usage.remove(victim.position, victim.held.amounts)


def put_back(standing: Standing, victim: Victim) -> None:
    standing.usage.add(victim.position, victim.held.amounts)


def room(standing: Standing, position: int, request: Mapping[FlavorResource, int], *, borrowing: bool) -> bool:
    """Whether the request fits now; without `borrowing`, within the queue's own quota."""
    usage = standing.usage
    if not borrowing and any(usage.borrows(position, key, value) for key, value in request.items()):
        return False
    return fits(usage, position, request.items())


def fill_back(
    standing: Standing, position: int, request: Mapping[FlavorResource, int], victims: list[Victim], *, borrowing: bool
) -> list[Victim]:
    """Spares whom it can, from the last to the first but for the last one; then puts all back.

    The last victim takes the place of one who is spared: the order of who is tried next depends on it.
    """
    for number in range(len(victims) - 2, -1, -1):
        put_back(standing, victims[number])
        if room(standing, position, request, borrowing=borrowing):
            victims[number] = victims[-1]
            victims.pop()
        else:
            take_out(standing, victims[number])
    restore(standing, victims)
    return victims


def restore(standing: Standing, victims: list[Victim]) -> None:
    for victim in victims:
        put_back(standing, victim)
