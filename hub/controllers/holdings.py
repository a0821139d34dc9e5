"""What each live slice holds: room on its cluster, and quota of its ClusterQueue. Kept exactly, slice by slice.

A slice holds room until its ManifestWork is gone, because its processes may run until then. It gives quota back with
each task that ends, and at once when its cluster is cut off: who waits for a dead cluster must not wait for its quota.
One that was told to go keeps both until it is gone, and says that it is leaving.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace

from hub.api import names
from hub.controllers.world import World
from hub.fleet.changes import Charge, FleetChange, Release
from hub.fleet.shape import TaskShape, on_domain
from hub.jobs.attempt import Attempt
from hub.jobs.spec import JobSpec
from hub.placement.rule import ClusterRule
from hub.planner.plan import HeldSlice
from hub.queueing.assign import counted
from hub.queueing.kueue.transforms import ALL
from hub.queueing.ledger import change
from hub.queueing.objects import FlavorResource

Amounts = tuple[tuple[FlavorResource, int], ...]


@dataclass(frozen=True, slots=True)
class Holder:
    """Of whom slices are: what a preemption asks of a job. Times as in HeldSlice."""

    key: str
    uid: str
    priority: int
    created: float
    shape: TaskShape
    checkpoint: float | None = None
    restart: float = 0.0
    expected: float | None = None
    preempted: int = 0
    gang: bool = False
    rule: ClusterRule | None = None
    local: str = ""
    bounds: tuple[int, int] | None = None


def holder_of(spec: JobSpec, priority: int, preempted: int, rule: ClusterRule | None) -> Holder:
    """`rule` None: which clusters it may run on is not known."""
    return Holder(
        key=spec.key,
        uid=spec.uid,
        priority=priority,
        created=spec.created,
        shape=spec.shape,
        checkpoint=spec.checkpoint,
        restart=spec.restart_cost,
        expected=spec.expected_duration,
        preempted=preempted,
        gang=spec.gang,
        rule=rule,
        local=spec.queue,
        bounds=spec.bounds,
    )


@dataclass(slots=True)
class _Held:
    amounts: Amounts
    count: int
    paid: int
    slice: HeldSlice


class Holdings:
    """`usage` is by ClusterQueue, in the planner's units. `update` says whether something was given back that somebody
    may have use for."""

    def __init__(self, world: World) -> None:
        self.usage: dict[str, dict[FlavorResource, int]] = {}
        self.tasks = 0
        self._world = world
        self._held: dict[str, dict[str, _Held]] = {}
        self._slices: dict[str, HeldSlice] = {}
        self._listed: tuple[HeldSlice, ...] | None = ()
        self._growing: frozenset[str] = frozenset()
        # Whether who waits could use what a slice gives back to a queue, and on a cluster.
        self.concerns: Callable[[str, Iterable[FlavorResource], str], bool] = lambda queue, keys, cluster: True

    @property
    def growing(self) -> bool:
        """Whether any slice of an elastic job could use more slots, or has more than it may."""
        return bool(self._growing)

    @property
    def slices(self) -> tuple[HeldSlice, ...]:
        """Every slice that holds something, but for those of clusters that are cut off."""
        if self._listed is None:
            self._listed = tuple(self._slices.values())
        return self._listed

    def update(
        self, holder: Holder, attempts: Iterable[Attempt], told: Collection[int] = (), *, leaving: bool = False
    ) -> bool:
        """`attempts` are all of the job that are known; what it held before and is not among them is free.

        `told`: epochs that are on their way to be told to go; `leaving`: all are.
        """
        job, shape = holder.uid, holder.shape
        before = self._held.get(job, {})
        after: dict[str, _Held] = {}
        changes: list[FleetChange] = []
        freed = False
        growing: set[str] = set()
        for attempt in attempts:
            count = attempt.holds
            if not count:
                continue
            paid = count if _pays(attempt, self._world) else 0
            known = before.get(attempt.work)
            if known is not None and (known.count, known.paid) == (count, paid):
                amounts = known.amounts
            else:
                amounts = _amounts(shape, attempt, paid, self._world)
                charged = on_domain(self._world.charged_shape(shape, attempt.cluster, attempt.flavors), attempt.domain)
                changes.append(Charge(attempt.work, attempt.cluster, charged, count))
            goes = leaving or not attempt.live or attempt.eviction is not None or attempt.epoch in told
            held = _slice(holder, attempt, count, amounts, leaving=goes)
            after[attempt.work] = _Held(amounts, count, paid, held)
            self._list(attempt, held)
            if held.bounds is not None and held.spare:
                growing.add(attempt.work)
                freed = freed or known is None or _grows_anew(known.slice, held)
            # Somebody waits for it to go, or to give back, and it does not.
            freed = freed or (known is not None and known.slice.leaving and not goes)
            freed = freed or (known is not None and known.slice.kept is not None and held.kept is None)
        for work, one in before.items():
            now = after.get(work)
            if now is None:
                changes.append(Release(work))
                self._unlist(work)
            if now is None or now.count < one.count or now.paid < one.paid:
                freed = freed or self._matters(one)
            if now is None or (now.count, now.paid) != (one.count, one.paid):
                change(self.usage, one.slice.queue, one.amounts, -1)
                self.tasks -= one.count
        for work, one in after.items():
            known = before.get(work)
            if known is None or (known.count, known.paid) != (one.count, one.paid):
                change(self.usage, one.slice.queue, one.amounts, 1)
                self.tasks += one.count
        if holder.bounds is not None and sum(one.slice.stays for one in after.values()) > holder.bounds[1]:
            # Its maximum was lowered: what is beyond goes back.
            growing |= after.keys()
            freed = freed or any(one.slice.bounds != holder.bounds for one in before.values())
        self._growing = (self._growing - before.keys()) | growing if before or growing else self._growing
        if after:
            self._held[job] = after
        else:
            self._held.pop(job, None)
        self._world.charge(changes)
        return freed

    def _matters(self, one: _Held) -> bool:
        """Whether somebody could have what it gives back."""
        return self.growing or self.concerns(one.slice.queue, [key for key, _ in one.amounts], one.slice.cluster)

    def leave(self, uid: str, shape: TaskShape | None, attempts: Iterable[Attempt]) -> bool:
        """The job `uid` is gone: what is left of it is being stopped."""
        stopping = [replace(attempt, state="Cancelled") for attempt in attempts if attempt.live and shape is not None]
        known = next(iter(self._held.get(uid, {}).values()), None)
        holder = Holder("", uid, 0, 0.0, shape or TaskShape())
        if known is not None:
            holder = replace(holder, key=known.slice.key, priority=known.slice.priority, created=known.slice.created)
        return self.update(holder, stopping, leaving=True)

    def of(self, job: str) -> dict[FlavorResource, int]:
        """What quota one job (its uid) holds."""
        held: dict[FlavorResource, int] = {}
        for one in self._held.get(job, {}).values():
            for resource, amount in one.amounts:
                held[resource] = held.get(resource, 0) + amount
        return held

    def reserved(self, job: str, attempts: Iterable[Attempt]) -> dict[FlavorResource, int]:
        """Of that, what those of its `attempts` hold that were not sent yet."""
        held, slices = dict[FlavorResource, int](), self._held.get(job, {})
        for attempt in attempts:
            one = slices.get(attempt.work) if attempt.reserved else None
            for resource, amount in one.amounts if one is not None else ():
                held[resource] = held.get(resource, 0) + amount
        return held

    def _list(self, attempt: Attempt, held: HeldSlice) -> None:
        if attempt.cluster in self._world.lost:
            # Nobody there can be asked to go, and nobody knows when it will.
            self._unlist(attempt.work)
        elif self._slices.get(attempt.work) != held:
            self._slices[attempt.work] = held
            self._listed = None

    def _unlist(self, work: str) -> None:
        if self._slices.pop(work, None) is not None:
            self._listed = None


def _slice(holder: Holder, attempt: Attempt, count: int, amounts: Amounts, *, leaving: bool) -> HeldSlice:
    admitted = attempt.admitted_at if attempt.admitted_at is not None else attempt.started_at
    return HeldSlice(
        key=holder.key,
        uid=holder.uid,
        work=attempt.work,
        epoch=attempt.epoch,
        cluster=attempt.cluster,
        queue=attempt.queue,
        priority=holder.priority,
        created=holder.created,
        admitted=admitted if admitted is not None else holder.created,
        shape=holder.shape,
        slots=count,
        amounts=amounts,
        started=attempt.started_at,
        checkpoint=holder.checkpoint,
        restart=holder.restart,
        expected=holder.expected,
        preempted=holder.preempted,
        gang=holder.gang,
        leaving=leaving,
        rule=holder.rule,
        local=holder.local,
        bounds=holder.bounds,
        spare=attempt.spare if holder.bounds is not None else 0,
        kept=attempt.slots if attempt.shrinking else None,
        domain=attempt.domain,
    )


def _grows_anew(before: HeldSlice, now: HeldSlice) -> bool:
    """Whether it could have more for another reason than that one of its tasks has ended."""
    return (before.slots, before.kept, before.started, before.bounds) != (now.slots, now.kept, now.started, now.bounds)


def _pays(attempt: Attempt, world: World) -> bool:
    if attempt.live:
        return True
    return attempt.state in ("Cancelled", "Evicted") and attempt.cluster not in world.lost


def _amounts(shape: TaskShape, attempt: Attempt, count: int, world: World) -> Amounts:
    if not count or not attempt.queue:
        return ()
    found = []
    queue = world.quotas.queues.get(attempt.queue)
    if queue is not None and queue.counts is not ALL:
        amounts = counted(queue, shape)
        return tuple(((flavor, r), amounts[r] * count) for r, flavor in attempt.flavors if amounts.get(r))
    for resource, flavor in attempt.flavors:
        each = {"pods": 1, names.GPU_MILLI: shape.gpu_milli}.get(resource) or shape.request(resource)
        if each:
            found.append(((flavor, resource), each * count))
    return tuple(found)
