"""What one cycle says: who is admitted and how, who is preempted for whom, and why others wait. Plain values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hub.api.reasons import Reason
from hub.queueing.kueue.assignment import Obstacle, PodSetAssignment
from hub.queueing.kueue.preemption import Why
from hub.queueing.kueue.workload import Held, Part, Workload
from hub.queueing.objects import FlavorResource


@dataclass(frozen=True, slots=True)
class Admitted:
    """`checks`: admission checks of the flavors that it was given, which somebody else has yet to answer. `replaces`:
    the slice that ends with it, by key."""

    workload: Workload
    queue: str
    pod_sets: tuple[PodSetAssignment, ...]
    amounts: tuple[tuple[FlavorResource, int], ...]
    checks: tuple[str, ...] = ()
    replaces: str = ""

    @property
    def parts(self) -> tuple[Part, ...]:
        return tuple(
            Part(
                part.pod_set.name,
                part.count,
                tuple((resource, choice.flavor, part.requests[resource]) for resource, choice in part.flavors.items()),
            )
            for part in self.pod_sets
        )


@dataclass(frozen=True, slots=True)
class Preempted:
    held: Held
    why: Why
    preemptor: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why a workload waits. `queue` is the ClusterQueue, empty when there is none. Either obstacles or facts.

    `unasked`: it is in the line of its queue, and its turn has not come yet.
    """

    queue: str
    reason: Reason
    facts: tuple[tuple[str, Any], ...] = ()
    obstacles: tuple[Obstacle, ...] = ()
    unasked: bool = False

    @property
    def message(self) -> str:
        """Spelled out only now, because of thousands of verdicts few are read."""
        if self.obstacles:
            return "; ".join(sorted({obstacle.message(self.queue) for obstacle in self.obstacles}))
        return self.reason.message(**dict(self.facts))


@dataclass(frozen=True, slots=True)
class Outcome:
    """In order of decision. `moved`: whether the next cycle could decide anything else."""

    admitted: tuple[Admitted, ...]
    preempted: tuple[Preempted, ...]
    moved: bool
