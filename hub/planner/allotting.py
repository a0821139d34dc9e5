"""Places for what was given quota by somebody else's rules: the flavors are settled, the clusters are chosen here.

As in mode fleet: what the job's rule allows, the best first, charged as it is taken. A job that must have all its slots
at once gets them all or none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from hub.api.reasons import Reason
from hub.planner.filling import Filling
from hub.planner.places import Option, Wish
from hub.planner.plan import Admission, Slice, Snapshot
from hub.planner.progress import Take
from hub.planner.refusals import shortage
from hub.planner.split import WAVES, deal, shares
from hub.planner.views import View
from hub.queueing.demand import Demand, TaskGroup
from hub.queueing.objects import ClusterQueue
from hub.queueing.quotas import Denial

_ALL: Final = 1 << 40


class Allotting:
    """Of one cycle: what is allotted is charged to all that come after."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._filling = Filling(snapshot)

    def allot(
        self, demand: Demand, queue: ClusterQueue, flavors: Mapping[str, str], slots: int
    ) -> tuple[Admission | None, Denial | None]:
        """`flavors`: by resource. What the job gets of its slots, and why not more; whole jobs get all or nothing."""
        filling = self._filling
        option = self._option(demand, queue, flavors)
        if isinstance(option, Denial):
            return None, option
        fleet, usage = filling.places.fleet, filling.ledger.apart()
        whole = demand.gang or demand.minimum is None
        together = slots if demand.gang else 1
        held, placed = demand.running, demand.placed
        found: list[Slice] = []
        left = slots
        for group in sorted(demand.groups, key=_order):
            wanted = min(left, len(group.tasks))
            if wanted <= 0:
                continue
            wish = Wish(demand, queue, group.avoid, wanted if demand.gang else 1, held, placed)
            takes = filling.take(wish, wanted, (option,), [View(filling.ledger, filling.places)])
            names = [filling.places.names[take.cluster] if take.cluster >= 0 else "" for take in takes]
            held += tuple(name for name in dict.fromkeys(names) if name and name not in held)
            if demand.rule.spread:
                placed += tuple((name, take.slots) for name, take in zip(names, takes, strict=True))
            left -= sum(take.slots for take in takes)
            found += _slices(group, takes, names, whole=whole)
        if not left:
            return Admission(demand.key, queue.name, tuple(found)), None
        avoid = tuple(sorted({name for group in demand.groups for name in group.avoid}))
        wish = Wish(demand, queue, avoid, together, held, placed)
        why = shortage(filling.places, filling.ledger, wish, (option,))
        if found and not whole:
            return Admission(demand.key, queue.name, tuple(found)), why
        filling.places.fleet, filling.ledger = fleet, usage
        return None, why

    def short(self, demand: Demand, queue: ClusterQueue, together: int = 1) -> Denial:
        """Why not so many more slots of it can start now."""
        wish = Wish(demand, queue, (), together, demand.running, demand.placed)
        return shortage(self._filling.places, self._filling.ledger, wish, self._filling.options(queue, demand))

    def _option(self, demand: Demand, queue: ClusterQueue, flavors: Mapping[str, str]) -> Option | Denial:
        options = self._filling.options(queue, demand)
        if isinstance(options, Denial):
            return options
        for option in options:
            if all(flavors.get(resource) == flavor for resource, flavor in option.choice.flavors):
                return option
        given = ", ".join(f"{resource} from {flavor}" for resource, flavor in sorted(flavors.items()))
        detail = f"no node can be asked for {given} together"
        return Denial(Reason.NO_MATCHING_FLAVOR, (("queue", queue.name), ("resource", "all"), ("detail", detail)))


def _slices(group: TaskGroup, takes: Sequence[Take], names: Sequence[str], *, whole: bool) -> list[Slice]:
    """A job that is admitted whole asks for no second turn: all its tasks go where its slots are."""
    if not takes:
        return []
    counts = shares(len(group.tasks), [take.slots for take in takes], _ALL if whole else WAVES)
    return [
        Slice(name, tasks, group.attempt, take.slots, take.option.choice.flavors, take.decision, take.option.domain)
        for tasks, take, name in zip(deal(group.tasks, counts), takes, names, strict=True)
    ]


def _order(group: TaskGroup) -> tuple[int, tuple[str, ...], tuple[tuple[int, int], ...]]:
    """Retries first, so that what fails for good is known early."""
    return (-group.attempt, group.avoid, group.tasks.ranges)
