"""What each live slice holds: room on its cluster, and quota of its ClusterQueue. Kept exactly, slice by slice.

A slice holds room until its ManifestWork is gone, because its processes may run until then. It gives quota back with
each task that ends, and at once when its cluster is cut off: who waits for a dead cluster must not wait for its quota.
"""

from __future__ import annotations

from collections.abc import Iterable

from hub.api import names
from hub.controllers.world import World
from hub.fleet.changes import Charge, FleetChange, Release
from hub.fleet.shape import TaskShape
from hub.jobs.attempt import Attempt
from hub.queueing.objects import FlavorResource

Amounts = tuple[tuple[FlavorResource, int], ...]


class Holdings:
    """`usage` is by ClusterQueue, in the planner's units. `update` says whether something was given back."""

    def __init__(self, world: World) -> None:
        self.usage: dict[str, dict[FlavorResource, int]] = {}
        self.tasks = 0
        self._world = world
        self._held: dict[str, dict[str, tuple[str, Amounts, int, int]]] = {}

    def update(self, job: str, shape: TaskShape, attempts: Iterable[Attempt]) -> bool:
        """`attempts` are all of `job` (its uid) that are known; what it held before and is not among them is free."""
        before = self._held.get(job, {})
        after: dict[str, tuple[str, Amounts, int, int]] = {}
        changes: list[FleetChange] = []
        for attempt in attempts:
            held = attempt.holds
            if not held:
                continue
            paid = held if _pays(attempt, self._world) else 0
            known = before.get(attempt.work)
            if known is not None and known[2:] == (held, paid):
                after[attempt.work] = known
                continue
            amounts = _amounts(shape, attempt, paid)
            after[attempt.work] = (attempt.queue, amounts, held, paid)
            charged = self._world.charged_shape(shape, attempt.cluster, attempt.flavors)
            changes.append(Charge(attempt.work, attempt.cluster, charged, held))
        freed = False
        for work, (queue, amounts, held, paid) in before.items():
            now = after.get(work)
            if now is None:
                changes.append(Release(work))
            if now is None or now[2] < held or now[3] < paid:
                freed = True
            if now is None or now[1] is not amounts:
                self._add(queue, amounts, -1)
                self.tasks -= held
        for work, (queue, amounts, held, _) in after.items():
            known = before.get(work)
            if known is None or known[1] is not amounts:
                self._add(queue, amounts, 1)
                self.tasks += held
        if after:
            self._held[job] = after
        else:
            self._held.pop(job, None)
        self._world.charge(changes)
        return freed

    def of(self, job: str) -> dict[FlavorResource, int]:
        """What quota one job (its uid) holds."""
        held: dict[FlavorResource, int] = {}
        for _, amounts, _, _ in self._held.get(job, {}).values():
            for resource, amount in amounts:
                held[resource] = held.get(resource, 0) + amount
        return held

    def _add(self, queue: str, amounts: Amounts, sign: int) -> None:
        if not amounts:
            return
        used = self.usage.setdefault(queue, {})
        for resource, amount in amounts:
            left = used.get(resource, 0) + sign * amount
            if left:
                used[resource] = left
            else:
                used.pop(resource, None)


def _pays(attempt: Attempt, world: World) -> bool:
    if attempt.live:
        return True
    return attempt.state == "Cancelled" and attempt.cluster not in world.lost


def _amounts(shape: TaskShape, attempt: Attempt, count: int) -> Amounts:
    if not count or not attempt.queue:
        return ()
    found = []
    for resource, flavor in attempt.flavors:
        each = {"pods": 1, names.GPU_MILLI: shape.gpu_milli}.get(resource) or shape.request(resource)
        if each:
            found.append(((flavor, resource), each * count))
    return tuple(found)
