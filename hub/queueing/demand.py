"""What a job asks of the queue now: the unit that is ordered, given quota and placed. Plain values.

A job with nothing left to start has no demand. Tasks that wait are grouped by what distinguishes them: how often they
were tried, and which clusters they should not meet again.
"""

from __future__ import annotations

from dataclasses import dataclass

from hub.api.indexset import IndexSet
from hub.fleet.shape import TaskShape
from hub.placement.rule import ClusterRule


@dataclass(frozen=True, slots=True)
class TaskGroup:
    """Tasks that wait for the same attempt. `avoid`: clusters where they failed, left out while another could do."""

    tasks: IndexSet
    attempt: int
    avoid: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Demand:
    """`key` is ``namespace/name`` of the job and of its Workload; `created` epoch seconds of its creation.

    `slots`: how many more tasks may run at once. `gang`: all tasks at once on one cluster, or none. `problem`: why the
    job can never be placed as written (its reason is InvalidSpec), found while reading it.

    `active` tasks of it run or are about to, on the clusters `running`: what a limit on its clusters counts. `place`
    False asks for quota only, for what somebody else runs. `expected`: seconds that a task takes; None: nobody said.
    `placed`: how many of them each of these clusters holds, where the rule spreads them; else empty. `domains`: node
    labels, of which a gang prefers all its nodes to have one value, the first most; what it needs is in its shape.

    `bounds`: fewest and most slots of an elastic job: it starts with as many as the first together on one cluster, and
    what it has beyond them is for whoever is entitled. None: it is not elastic.

    Kueue's rules ask besides how few slots it starts with (`minimum`; None: all that it may have), and since when it is
    `queued`, where that is not its creation.
    """

    key: str
    uid: str
    namespace: str
    queue: str
    priority: int
    created: float
    shape: TaskShape
    groups: tuple[TaskGroup, ...]
    slots: int
    rule: ClusterRule = ClusterRule()
    gang: bool = False
    problem: str = ""
    active: int = 0
    running: tuple[str, ...] = ()
    place: bool = True
    expected: float | None = None
    placed: tuple[tuple[str, int], ...] = ()
    minimum: int | None = 1
    queued: float | None = None
    domains: tuple[str, ...] = ()
    bounds: tuple[int, int] | None = None

    @property
    def order(self) -> tuple[int, float, str, str]:
        """Priority, then age, then name: total, so that the same jobs are always in the same order."""
        return (-self.priority, self.created, self.key, self.uid)

    @property
    def waiting(self) -> int:
        groups = self.groups
        return len(groups[0].tasks) if len(groups) == 1 else sum(len(group.tasks) for group in groups)

    @property
    def least(self) -> int:
        """How many slots it must get together to start; 1 where each may start alone, or something of it runs."""
        if self.bounds is None or self.active:
            return 1
        return max(1, min(self.bounds[0], self.slots, self.waiting))
