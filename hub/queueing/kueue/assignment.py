"""What flavors a workload would take: the outcome of one assignment, with why it is not better. Plain values."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from hub.api.reasons import Reason
from hub.queueing.amount import readable
from hub.queueing.kueue.workload import PodSet
from hub.queueing.objects import FlavorResource, pool


class Mode(IntEnum):
    """What a flavor needs to be taken, worst first. Preempting from one's own queue is worse than from others."""

    NO_FIT = 0
    NO_CANDIDATES = 1
    PREEMPT = 2
    RECLAIM = 3
    FIT = 4

    @property
    def preempts(self) -> bool:
        return self in (Mode.NO_CANDIDATES, Mode.PREEMPT, Mode.RECLAIM)


# Of two reasons the graver counts where all must be met, the lighter where one of several flavors would do.
_GRAVITY: Final = (Reason.WAITING_FOR_QUOTA, Reason.EXCEEDS_MAX_QUOTA, Reason.NO_MATCHING_FLAVOR)


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why one flavor does not do as it is: a reason, and its numbers. `needed`, `limit`: in the resource's unit.
    `cohort`: the queue's."""

    reason: Reason
    flavor: str
    resource: str
    needed: int = 0
    limit: int = 0
    detail: str = ""
    cohort: str = ""

    def message(self, queue: str) -> str:
        """Nothing is spelled out before somebody asks: most are never read."""
        return self.reason.message(**dict(self.facts(queue)))

    def facts(self, queue: str) -> tuple[tuple[str, str], ...]:
        """What the sentence of its reason needs."""
        if self.reason is Reason.NO_MATCHING_FLAVOR:
            return (("queue", queue), ("resource", self.resource), ("detail", self.detail))
        limit = "limit" if self.reason is Reason.EXCEEDS_MAX_QUOTA else "available"
        return (
            ("needed", readable(self.resource, self.needed)),
            ("resource", self.resource),
            ("flavor", self.flavor),
            (limit, readable(self.resource, self.limit)),
            ("queue", queue),
            ("where", pool(queue, self.cohort)),
        )


def gravest(reasons: list[Reason]) -> Reason | None:
    return max(reasons, key=_GRAVITY.index) if reasons else None


def lightest(reasons: list[Reason]) -> Reason | None:
    return min(reasons, key=_GRAVITY.index) if reasons else None


@dataclass(slots=True)
class Choice:
    """A flavor for one resource.

    `reach`: how high up the tree it borrows. `tried`: the last flavor looked at, −1 when all were.
    """

    flavor: str
    mode: Mode
    reach: int
    tried: int = -1


@dataclass(frozen=True, slots=True)
class Considered:
    """One flavor as it was looked at for some pod sets.

    `needs`: what it would have to hold of each resource, with what pod sets before took of it. `refused`: why it is
    not for these pods at all; quota was not asked about then.
    """

    pod_sets: tuple[str, ...]
    flavor: str
    needs: tuple[tuple[str, int], ...]
    mode: Mode
    reach: int = 0
    refused: Obstacle | None = None


@dataclass(slots=True)
class PodSetAssignment:
    pod_set: PodSet
    count: int
    requests: dict[str, int]
    flavors: dict[str, Choice]
    mode: Mode


Cursor = tuple[dict[str, int], ...]
"""For each pod set, the last flavor tried by resource."""


@dataclass(slots=True)
class Assignment:
    """`mode` is the worst of its pod sets, `reach` the largest; `usage` what it would take.

    `request`: what victims have to make room for; all of `usage` but for who grows an elastic job. `total`: what it
    would hold in the end.
    """

    pod_sets: list[PodSetAssignment] = field(default_factory=list)
    usage: dict[FlavorResource, int] = field(default_factory=dict)
    reach: int = 0
    mode: Mode = Mode.FIT
    obstacles: list[Obstacle] = field(default_factory=list)
    no_fit: Reason | None = None
    growth: dict[FlavorResource, int] | None = None

    @property
    def request(self) -> dict[FlavorResource, int]:
        return {key: value for key, value in (self.usage if self.growth is None else self.growth).items() if value}

    @property
    def total(self) -> dict[FlavorResource, int]:
        held: dict[FlavorResource, int] = {}
        for part in self.pod_sets:
            for resource, choice in part.flavors.items():
                key = (choice.flavor, resource)
                held[key] = held.get(key, 0) + part.requests[resource]
        return held

    @property
    def needed(self) -> frozenset[FlavorResource]:
        """What has to be preempted."""
        return frozenset(
            (choice.flavor, resource)
            for part in self.pod_sets
            for resource, choice in part.flavors.items()
            if choice.mode.preempts
        )

    @property
    def cursor(self) -> Cursor:
        return tuple({resource: c.tried for resource, c in part.flavors.items()} for part in self.pod_sets)

    def pinned(self) -> dict[str, dict[str, str]]:
        """The flavors by pod set and resource, for another assignment that must stay with them."""
        return {
            part.pod_set.name: {resource: choice.flavor for resource, choice in part.flavors.items()}
            for part in self.pod_sets
        }


def pending_flavors(cursor: Cursor | None) -> bool:
    """Whether some flavor has not been looked at yet."""
    return cursor is not None and any(tried != -1 for part in cursor for tried in part.values())
