"""Workloads of others that have quota, as the planner sees them: one slice each, that may be sent away and comes back.

What they hold is what their admission says; what they are once they lost it is what a Workload without quota would be.
Nothing is written: this is the state that files describe, and what plans make of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from hub.controllers.foreign_workload import Holding, Waiting
from hub.planner.plan import HeldSlice, Preemption, Slice
from hub.queueing.assign import counted
from hub.queueing.demand import Demand
from hub.queueing.ledger import change
from hub.queueing.objects import ClusterQueue, FlavorResource


class Reserved:
    """`usage` is by ClusterQueue."""

    def __init__(self) -> None:
        self.usage: dict[str, dict[FlavorResource, int]] = {}
        self._slices: dict[str, tuple[HeldSlice, Waiting]] = {}
        self._preempted: dict[str, int] = {}
        self._lasting: dict[str, Holding] = {}

    @property
    def slices(self) -> tuple[HeldSlice, ...]:
        return tuple(held for held, _ in self._slices.values())

    def read(self, found: Holding) -> None:
        """One that has its quota already; on which cluster it runs is not known here."""
        demand = found.waiting.demand
        if demand is None:
            # Nobody may start it again, so nothing is known of it but what it holds.
            change(self.usage, found.queue, found.amounts, 1)
            self._lasting[found.key] = found
            return
        slots = max(1, found.slots)
        held = _held(demand, found.queue, found.amounts, slots, found.since)
        self._keep(replace(held, leaving=found.leaving), found.waiting)

    def admit(self, waiting: Waiting, queue: ClusterQueue, parts: Sequence[Slice], now: float) -> None:
        demand = waiting.demand
        assert demand is not None, "only what is in the queue is admitted"
        each = counted(queue, demand.shape)
        for number, part in enumerate(parts):
            found: dict[FlavorResource, int] = {}
            for pods in part.parts:
                for resource, flavor, value in pods.amounts:
                    found[flavor, resource] = found.get((flavor, resource), 0) + value
            for resource, flavor in () if part.parts else part.flavors:
                found[flavor, resource] = each[resource] * part.slots
            amounts = tuple(sorted(found.items()))
            held = _held(demand, queue.name, amounts, part.slots, now)
            work = held.work if not number else f"{held.work}/{number}"
            held = replace(held, work=work, cluster=part.cluster, preempted=self._preempted.get(demand.key, 0))
            self._keep(held, waiting)

    def leave(self, preemptions: Iterable[Preemption]) -> list[tuple[str, Waiting]]:
        """Who lost its quota, by name of the charge, and as what it waits: victims, and those on their way out."""
        works = {entry.work for entry in preemptions}
        gone: list[tuple[str, Waiting]] = []
        for work, (held, waiting) in list(self._slices.items()):
            if work not in works and not held.leaving:
                continue
            del self._slices[work]
            change(self.usage, held.queue, held.amounts, -1)
            self._preempted[held.key] = self._preempted.get(held.key, 0) + 1
            gone.append((work, waiting))
        return gone

    def take(self, key: str) -> list[tuple[str, Waiting]]:
        """What of a Workload had quota, by name of the charge, and as what it waits."""
        gone = [(work, waiting) for work, (held, waiting) in self._slices.items() if held.key == key]
        for work, _ in gone:
            held, _ = self._slices.pop(work)
            change(self.usage, held.queue, held.amounts, -1)
        if (lasting := self._lasting.pop(key, None)) is not None:
            change(self.usage, lasting.queue, lasting.amounts, -1)
            gone.append(("", lasting.waiting))
        return gone

    def _keep(self, held: HeldSlice, waiting: Waiting) -> None:
        self._slices[held.work] = (held, waiting)
        change(self.usage, held.queue, held.amounts, 1)


def _held(
    demand: Demand, queue: str, amounts: tuple[tuple[FlavorResource, int], ...], slots: int, since: float
) -> HeldSlice:
    return HeldSlice(
        key=demand.key,
        uid=demand.uid,
        # Names of ManifestWorks have no slash, so this is nobody's.
        work=f"workload/{demand.key}",
        epoch=0,
        cluster="",
        queue=queue,
        priority=demand.priority,
        created=demand.created,
        admitted=since,
        shape=demand.shape,
        slots=slots,
        amounts=amounts,
        expected=demand.expected,
        gang=True,
        rule=demand.rule,
        place=demand.place,
        local=demand.queue,
    )
