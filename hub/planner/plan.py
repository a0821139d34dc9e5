"""What goes into one decision and what comes out of it. Plain values; deciding is hub/planner/cycle.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hub.api.indexset import IndexSet
from hub.api.reasons import Reason
from hub.fleet.fleet import Fleet
from hub.fleet.shape import TaskShape
from hub.placement.rule import ClusterRule
from hub.placement.sets import ClusterSets
from hub.queueing.demand import Demand
from hub.queueing.fleet.policy import FleetPolicy
from hub.queueing.kueue.workload import Part
from hub.queueing.quotas import FlavorResource, Quotas
from hub.scoring.interface import WeightedScorer


@dataclass(frozen=True, slots=True)
class HeldSlice:
    """One slice that holds quota and room now: whom a preemption may ask to go.

    `key` and `uid` are its job's, `work` its ManifestWork's name: what `fleet` has it charged by. `queue` is the
    ClusterQueue that pays, `amounts` what all of it takes there. `created` is the job's, `admitted` when the slice was
    decided, `started` when its first task ran; epoch seconds. `checkpoint`: seconds between the states that the job
    can go on from (None: all is lost), `restart`: seconds that starting again costs it, `expected`: how long a task
    takes (None: unknown). `preempted`: how often the job was already. `leaving`: asked to go, and still there; no
    Demand asks for its tasks before it is gone.

    `shape`, `rule` and `place` are what the job's Demand says (the shape without what flavors add): to what a job is
    entitled must not depend on whether it runs. `rule` None: not known. `local` is the name of its LocalQueue.

    `bounds`: fewest and most slots of an elastic job (None: it is not). Of such a job's slice `spare` tasks wait for a
    slot in it, and `kept` is to how many slots it was told to go down (None: it was not): it has the others until what
    runs on them has stopped. `domain`: the node label and its value that its tasks find.
    """

    key: str
    uid: str
    work: str
    epoch: int
    cluster: str
    queue: str
    priority: int
    created: float
    admitted: float
    shape: TaskShape
    slots: int
    amounts: tuple[tuple[FlavorResource, int], ...]
    started: float | None = None
    checkpoint: float | None = None
    restart: float = 0.0
    expected: float | None = None
    preempted: int = 0
    gang: bool = False
    leaving: bool = False
    rule: ClusterRule | None = None
    place: bool = True
    local: str = ""
    bounds: tuple[int, int] | None = None
    spare: int = 0
    kept: int | None = None
    domain: tuple[str, str] | None = None

    @property
    def stays(self) -> int:
        """Slots that it will still have when what was told to stop has stopped."""
        if self.leaving:
            return 0
        return self.slots if self.kept is None else min(self.kept, self.slots)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything a decision reads.

    `now` is epoch seconds. `fleet` has every live slice charged. `usage` is what live slices hold, by ClusterQueue;
    `held` are those slices, one by one. `demands` and `held` may be in any order.
    """

    now: float
    fleet: Fleet
    quotas: Quotas
    usage: Mapping[str, Mapping[FlavorResource, int]]
    demands: tuple[Demand, ...]
    sets: ClusterSets = field(default_factory=ClusterSets)
    scorers: tuple[WeightedScorer, ...] = ()
    held: tuple[HeldSlice, ...] = ()
    policy: FleetPolicy = field(default_factory=FleetPolicy)


@dataclass(frozen=True, slots=True)
class Slice:
    """Some tasks of one job for one cluster: becomes one ManifestWork. `flavors`: (resource, flavor), sorted.

    `decision`: how the cluster was chosen, as hub/planner/record.py writes it. `domain`: the node label and its value
    that its tasks must find. `parts`: of what is no task but several kinds of pods, what each kind has.
    """

    cluster: str
    tasks: IndexSet
    attempt: int
    slots: int
    flavors: tuple[tuple[str, str], ...]
    decision: str = ""
    domain: tuple[str, str] | None = None
    parts: tuple[Part, ...] = ()


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
class Preemption:
    """A slice that has to make way. `reason` is Kueue's word for why (InClusterQueue, InCohortReclamation, …).

    `preemptor` is the job (``namespace/name``) that waits for it, `message` the sentence for people. `shrinks`: it is
    of an elastic job, which only gives slots back that are above its minimum: no preemption, and `kept` slots of it
    stay (0: all of the slice is above the minimum, and it goes).
    """

    key: str
    uid: str
    work: str
    epoch: int
    cluster: str
    queue: str
    preemptor: str
    reason: str
    message: str
    shrinks: bool = False
    kept: int = 0


@dataclass(frozen=True, slots=True)
class Growth:
    """A slice of an elastic job that gets more slots where it is: `slots` in all."""

    key: str
    uid: str
    work: str
    epoch: int
    cluster: str
    queue: str
    slots: int


@dataclass(frozen=True, slots=True)
class Plan:
    """In order of decision. A job is in `admissions`, in `refusals`, or in both when only part of it was placed.

    `wake_at` (epoch seconds): when the same snapshot would be decided otherwise; None: not without news.
    """

    admissions: tuple[Admission, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    preemptions: tuple[Preemption, ...] = ()
    wake_at: float | None = None
    growths: tuple[Growth, ...] = ()
