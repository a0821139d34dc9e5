"""Workloads as Kueue's rules see them: pod sets that want quota, and holders of quota. Plain values.

Reading them from objects is hub/server/kueue_workloads.py; the tasks of our own jobs become one pod set.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from hub.fleet.shape import Toleration
from hub.queueing.objects import FlavorResource


@dataclass(frozen=True, slots=True)
class NodeRequirement:
    """One line of a node affinity: `operator` is In, NotIn, Exists, DoesNotExist, Gt or Lt."""

    key: str
    operator: str
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Constraints:
    """What of a pod decides whether a flavor is for it. `terms`: any of them, all lines of it; none: no wish."""

    selector: tuple[tuple[str, str], ...] = ()
    terms: tuple[tuple[NodeRequirement, ...], ...] = ()
    tolerations: tuple[Toleration, ...] = ()


ANYWHERE: Final = Constraints()


@dataclass(frozen=True, slots=True)
class PodSet:
    """`requests`: of one pod, sorted. `minimum`: fewer pods that would do as well, where fewer do.

    Pod sets of one `group` take their flavors together.
    """

    name: str
    count: int
    requests: tuple[tuple[str, int], ...]
    minimum: int | None = None
    constraints: Constraints = ANYWHERE
    group: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Workload:
    """One that waits. `queue` is its LocalQueue; times are epoch seconds.

    `queued` is what orders it among equals: its creation, or when it was evicted for not becoming ready. `not_before`:
    it backs off until then. `failed_checks`: an admission check says Retry or Rejected. `gate`: preempting is not for
    it yet. `gated_by`: who keeps it out of the queue for now. `problem`: why it can never be admitted as
    it is written. `replaces`: the slice of an elastic job that it grows, by key.
    """

    key: str
    uid: str
    namespace: str
    queue: str
    priority: int
    queued: float
    pod_sets: tuple[PodSet, ...]
    not_before: float = 0.0
    failed_checks: bool = False
    gate: bool = False
    gated_by: str = ""
    problem: str = ""
    replaces: str = ""

    @property
    def order(self) -> tuple[int, float, str, str]:
        return (-self.priority, self.queued, self.uid, self.key)

    @property
    def alike(self) -> tuple[int, tuple[PodSet, ...]]:
        """Workloads of one queue that are alike fare alike."""
        return self.priority, self.pod_sets


@dataclass(frozen=True, slots=True)
class Part:
    """Of a pod set with quota: `count` pods, and of each resource the flavor and what they have of it together."""

    name: str
    count: int
    amounts: tuple[tuple[str, str, int], ...]

    def of(self, resource: str) -> tuple[str, int]:
        """Its flavor and amount of a resource; no flavor, nothing of it."""
        return next(((flavor, value) for name, flavor, value in self.amounts if name == resource), ("", 0))


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """A workload with quota: `amounts` of ClusterQueue `cluster_queue`, since `reserved`.

    `evicted`: it is on its way out, and holds its quota until it is gone. `ready`: all its pods have been up. `parts`:
    what each pod set holds, where that is known.
    """

    workload: Workload
    cluster_queue: str
    amounts: tuple[tuple[FlavorResource, int], ...]
    reserved: float
    evicted: bool = False
    ready: bool = True
    parts: tuple[Part, ...] = ()

    @property
    def key(self) -> str:
        return self.workload.key


def together(before: Held, more: Held) -> Held:
    """One holder of what a job had and has got since."""
    amounts = dict(before.amounts)
    for key, value in more.amounts:
        amounts[key] = amounts.get(key, 0) + value
    return replace(
        before,
        amounts=tuple(sorted(amounts.items())),
        evicted=before.evicted and more.evicted,
        ready=before.ready and more.ready,
        parts=before.parts + more.parts,
    )
