"""What Workloads that somebody else runs hold: quota by ClusterQueue, each as a slice that a preemption may ask for.

They hold no room: on which cluster they run is not known here.
"""

from __future__ import annotations

from hub.controllers.foreign_workload import Holding
from hub.fleet.shape import TaskShape
from hub.planner.plan import HeldSlice
from hub.queueing.ledger import change
from hub.queueing.objects import FlavorResource


class ForeignHolders:
    """`usage` is by ClusterQueue, in the planner's units."""

    def __init__(self) -> None:
        self.usage: dict[str, dict[FlavorResource, int]] = {}
        self._slices: dict[str, HeldSlice] = {}
        self._listed: tuple[HeldSlice, ...] | None = ()

    @property
    def slices(self) -> tuple[HeldSlice, ...]:
        """The same tuple while nothing changes."""
        if self._listed is None:
            self._listed = tuple(self._slices.values())
        return self._listed

    def hold(self, uid: str, held: Holding | None, preempted: int) -> bool:
        """What the Workload `uid` holds now; whether that is another thing than before. `preempted`: how often it made
        way for others."""
        before = self._slices.get(uid)
        now = _slice(uid, held, preempted) if held is not None else None
        if before == now:
            return False
        if before is not None:
            change(self.usage, before.queue, before.amounts, -1)
            del self._slices[uid]
        if now is not None:
            change(self.usage, now.queue, now.amounts, 1)
            self._slices[uid] = now
        self._listed = None
        return True


def _slice(uid: str, held: Holding, preempted: int) -> HeldSlice:
    demand = held.waiting.demand
    return HeldSlice(
        key=held.key,
        uid=uid,
        # No ManifestWork's name has a slash, so this is nobody's.
        work=f"workload/{uid}",
        epoch=1,
        cluster="",
        queue=held.queue,
        priority=demand.priority if demand is not None else 0,
        created=demand.created if demand is not None else 0.0,
        admitted=held.since,
        started=held.since,
        shape=demand.shape if demand is not None else TaskShape(),
        slots=max(1, held.slots),
        amounts=held.amounts,
        expected=demand.expected if demand is not None else None,
        preempted=preempted,
        gang=True,
        leaving=held.leaving,
        place=False,
        local=demand.queue if demand is not None else "",
    )
