"""Everything that one decision looked at, as plain values: what `quarterdeck explain` prints.

How it is found out is hub/planner/explain.py; how it looks is the command line's.
"""

from __future__ import annotations

from dataclasses import dataclass

from hub.planner.flips import Flip
from hub.planner.plan import Admission, Refusal


@dataclass(frozen=True, slots=True)
class QuotaLine:
    """One resource of one flavor at one node of the quota tree. Amounts are integers in the resource's unit.

    `subtree`: what the node and all below own or are lent; `lendable`: the part that others may use (None: a root).
    `borrowing_limit` None: no limit. `available`: what the job's queue could still take, seen from here upward.
    """

    node: str
    kind: str
    flavor: str
    resource: str
    nominal: int
    subtree: int
    lendable: int | None
    borrowing_limit: int | None
    used: int
    borrowed: int
    available: int


@dataclass(frozen=True, slots=True)
class FlavorLine:
    """One way to pay: `flavors` (resource, flavor), `needed` of one task; `affordable` tasks now, `possible` ever.

    `room`: tasks that fit now on the clusters that may be asked; `capacity`: were they empty of our own work.
    """

    flavors: tuple[tuple[str, str], ...]
    needed: tuple[tuple[str, int], ...]
    affordable: int
    possible: bool
    room: int | None
    capacity: int | None


@dataclass(frozen=True, slots=True)
class ScoreLine:
    """What one scorer says of one cluster; `raw` and `normalised` None: unknown. `weighted` adds to the total."""

    scorer: str
    weight: float
    raw: float | None
    normalised: float | None
    weighted: float


@dataclass(frozen=True, slots=True)
class ClusterLine:
    """`code` and `message`: why not, empty where the cluster may be asked and has room. `rank` from 1, 0: not ranked.

    `room` and `capacity` in tasks of the flavors it would be paid from; None where the rule leaves the cluster out.
    """

    cluster: str
    code: str
    message: str
    room: int | None
    capacity: int | None
    rank: int
    total: float | None
    scores: tuple[ScoreLine, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """`position` of `waiting` jobs in the order of decision, from 1; `ahead`: jobs of the same ClusterQueue before it.

    `change`: the smallest change found that would have admitted it (more of it), tried by deciding again; empty when
    nothing is refused or none was found. `next_best`: the best cluster with room that got nothing of it, and by how
    many points it is behind the last that did. `flip`: a cluster that got nothing, and the smallest change found with
    which it would have. Both None: there is no such cluster, or none was found. `problems`: what could not be read of
    clusters, queues and scorers.
    """

    key: str
    local_queue: str
    queue: str
    priority: int
    position: int
    waiting: int
    ahead: int
    admission: Admission | None
    refusal: Refusal | None
    change: str
    quota: tuple[QuotaLine, ...]
    flavors: tuple[FlavorLine, ...]
    clusters: tuple[ClusterLine, ...]
    problems: tuple[tuple[str, str], ...]
    next_best: tuple[str, float] | None = None
    flip: Flip | None = None
