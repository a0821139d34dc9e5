"""What goes into one decision and what comes out of it. Plain values; deciding is hub/planner/cycle.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hub.api.indexset import IndexSet
from hub.api.reasons import Reason
from hub.fleet.fleet import Fleet
from hub.placement.sets import ClusterSets
from hub.queueing.demand import Demand
from hub.queueing.quotas import FlavorResource, Quotas
from hub.scoring.interface import WeightedScorer


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything a decision reads.

    `now` is epoch seconds. `fleet` has every live slice charged. `usage` is what live slices hold, by ClusterQueue.
    `demands` may be in any order.
    """

    now: float
    fleet: Fleet
    quotas: Quotas
    usage: Mapping[str, Mapping[FlavorResource, int]]
    demands: tuple[Demand, ...]
    sets: ClusterSets = field(default_factory=ClusterSets)
    scorers: tuple[WeightedScorer, ...] = ()


@dataclass(frozen=True, slots=True)
class Slice:
    """Some tasks of one job for one cluster: becomes one ManifestWork. `flavors`: (resource, flavor), sorted.

    `decision`: how the cluster was chosen, as hub/planner/record.py writes it.
    """

    cluster: str
    tasks: IndexSet
    attempt: int
    slots: int
    flavors: tuple[tuple[str, str], ...]
    decision: str = ""


@dataclass(frozen=True, slots=True)
class Admission:
    """`queue` is the ClusterQueue that pays."""

    key: str
    queue: str
    slices: tuple[Slice, ...]


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a job (or what is left of it) was not placed in this cycle: exactly one reason, with its numbers."""

    key: str
    reason: Reason
    facts: tuple[tuple[str, Any], ...] = ()

    @property
    def message(self) -> str:
        return self.reason.message(**dict(self.facts))


@dataclass(frozen=True, slots=True)
class Plan:
    """In order of decision. A job is in `admissions`, in `refusals`, or in both when only part of it was placed."""

    admissions: tuple[Admission, ...] = ()
    refusals: tuple[Refusal, ...] = ()
