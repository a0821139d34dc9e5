"""What ClusterQueues and LocalQueues say of themselves: whether they take jobs, how many wait, what is in use.

For people who look with Kueue's tools; nothing is decided by it. Numbers are written once it has been calm for a
moment, at the latest every minute; that a queue takes no jobs (any more) is written at once.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from hub.api.conditions import find_condition, with_condition
from hub.api.mergepatch import create_merge_patch
from hub.api.reasons import Reason
from hub.api.resource import CLUSTER_QUEUES, COHORTS, LOCAL_QUEUES, Resource
from hub.api.timestamps import format_time, from_timestamp
from hub.controllers.foreign import Foreign
from hub.controllers.holdings import Holdings
from hub.controllers.in_force import CONDITION
from hub.controllers.past_usage import past_status
from hub.controllers.table import JobTable
from hub.controllers.world import World
from hub.controllers.writes import MergePatch, Write, WriteKey, Writes
from hub.queueing.amount import minus, quantity
from hub.queueing.kueue.history import LocalKey, Past
from hub.queueing.ledger import QuotaLedger, summed
from hub.queueing.objects import ClusterQueue, FlavorResource
from hub.queueing.quotas import Quotas
from hub.queueing.shares import share

Json = dict[str, Any]
Objects = Callable[[Resource], Mapping[str, Json]]
CALM: Final = 3.0
LATEST: Final = 60.0
_ACTIVE: Final = 0.05
_LOOK: Final = 0.5
_MOST_NAMED: Final = 12
"""Flavors and resources whose numbers one condition tells."""


@dataclass(slots=True)
class _Counts:
    """`usage` is of all that have quota, `reserved` the part of those that admission checks keep from starting."""

    pending: int = 0
    reserving: int = 0
    admitted: int = 0
    usage: Counter[FlavorResource] = field(default_factory=Counter)
    reserved: Counter[FlavorResource] = field(default_factory=Counter)


class QueueStatus:
    """`run()` until cancelled; `news()` after anything that may change a number. `objects` gives the queues as seen."""

    def __init__(
        self,
        table: JobTable,
        foreign: Foreign,
        world: World,
        holdings: Holdings,
        writes: Writes,
        objects: Objects,
        now: Callable[[], float],
        *,
        calm: float = CALM,
        fair: bool = False,
        past: Callable[[], Mapping[LocalKey, Past]] | None = None,
    ) -> None:
        """`fair`: shares are said, too. `past`: what LocalQueues used before, where that is remembered."""
        self._fair, self._past = fair, past
        self._table, self._foreign, self._world, self._holdings = table, foreign, world, holdings
        self._writes, self._objects, self._now, self._calm = writes, objects, now, calm
        self._news = asyncio.Event()
        self._last_news = 0.0
        self._active: dict[str, str] = {}

    def news(self) -> None:
        self._last_news = asyncio.get_running_loop().time()
        self._news.set()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._news.wait()
            began = loop.time()
            while True:
                if self._activity() != self._active:
                    await asyncio.sleep(_ACTIVE)
                    break
                calm_at = min(self._last_news + self._calm, began + LATEST)
                if calm_at <= loop.time():
                    break
                self._news.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(min(calm_at - loop.time(), _LOOK)):
                        await self._news.wait()
            self._news.clear()
            self.write()

    def _activity(self) -> dict[str, str]:
        quotas = self._world.quotas
        return {name: _active(quotas, name)[1] for name in {*quotas.queues, *quotas.inactive}}

    def write(self) -> None:
        """Submits what differs now."""
        quotas = self._world.quotas
        self._active = self._activity()
        locals_, clusters = self._count(quotas)
        ledger = QuotaLedger(quotas, summed(self._holdings.usage, self._foreign.usage))
        for key in self._objects(CLUSTER_QUEUES):
            name = WriteKey(CLUSTER_QUEUES, None, key, "status")
            sharing = self._share(quotas, ledger, key)
            counts = clusters.get(key) or _Counts()
            self._writes.submit(name, self._desired(CLUSTER_QUEUES, key, counts, quotas, sharing))
        for key in self._objects(LOCAL_QUEUES):
            namespace, _, short = key.partition("/")
            name = WriteKey(LOCAL_QUEUES, namespace, short, "status")
            sharing = self._remembered((namespace, short))
            counts = locals_.get(key) or _Counts()
            self._writes.submit(name, self._desired(LOCAL_QUEUES, key, counts, quotas, sharing))
        derived = {one.name for one in self._world.drift if one.kind == COHORTS.kind}
        for key, obj in self._objects(COHORTS).items():
            known = find_condition((obj.get("status") or {}).get("conditions"), CONDITION)
            if not (self._fair or key in derived or known is not None):
                continue
            self._writes.submit(WriteKey(COHORTS, None, key, "status"), self._cohort(quotas, ledger, key))

    def _share(self, quotas: Quotas, ledger: QuotaLedger, name: str) -> Json:
        tree = quotas.trees.get(name)
        if not self._fair or tree is None:
            return {}
        return {"fairSharing": {"weightedShare": share(ledger, tree, tree.position[name]).weighted}}

    def _remembered(self, key: LocalKey) -> Json:
        past = self._past().get(key) if self._past is not None else None
        if past is None or not past.consumed:
            return {}
        return {"fairSharing": {"admissionFairSharingStatus": past_status(past)}}

    def _cohort(self, quotas: Quotas, ledger: QuotaLedger, name: str) -> Callable[[], Write | None]:
        def desired() -> Write | None:
            obj = self._objects(COHORTS).get(name)
            tree = next((tree for tree in quotas.trees.values() if name in tree.cohorts), None)
            if obj is None or tree is None:
                return None
            previous = obj.get("status") or {}
            conditions = self._derived(COHORTS, name, previous.get("conditions") or ())
            status: Json = {}
            if self._fair:
                status["fairSharing"] = {"weightedShare": share(ledger, tree, tree.cohorts[name]).weighted}
            if conditions or previous.get("conditions"):
                status["conditions"] = conditions
            patch = create_merge_patch({part: previous.get(part) for part in status if part in previous}, status)
            return None if patch is None else MergePatch({"metadata": {"uid": obj["metadata"]["uid"]}, "status": patch})

        return desired

    def _derived(self, resource: Resource, name: str, conditions: Sequence[Json]) -> list[Json]:
        """With what of its quota follows from clusters, and what of that stays in force for what runs."""
        mine = [one for one in self._world.drift if (one.kind, one.name) == (resource.kind, name)]
        if not mine:
            return [condition for condition in conditions if condition.get("type") != CONDITION]
        reason = Reason.QUOTA_KEPT if any(one.kept for one in mine) else Reason.QUOTA_FOLLOWS
        more = f"; and {len(mine) - _MOST_NAMED} more" if len(mine) > _MOST_NAMED else ""
        first = sorted(mine, key=lambda one: not one.kept)[:_MOST_NAMED]
        detail = f"from cluster set {mine[0].cluster_set}: " + "; ".join(one.numbers for one in first) + more
        at = format_time(from_timestamp(self._now()))
        return with_condition(conditions, CONDITION, "True", reason.code, reason.message(detail=detail), now=at)

    def _count(self, quotas: Quotas) -> tuple[dict[str, _Counts], dict[str, _Counts]]:
        local: dict[str, _Counts] = {}
        cluster: dict[str, _Counts] = {}
        for entry in self._table:
            seen, state = entry.seen, entry.state
            if seen is None or seen.spec is None or state is None or state.ended:
                continue
            spec = seen.spec
            route = quotas.local_queues.get((spec.namespace, spec.queue))
            parts = [local.setdefault(f"{spec.namespace}/{spec.queue}", _Counts())]
            if route is not None:
                parts.append(cluster.setdefault(route.cluster_queue, _Counts()))
            waits = self._holdings.reserved(entry.uid, state.live)
            for part in parts:
                part.reserving += bool(state.live)
                part.admitted += bool(state.live) and not state.reserved
                part.pending += not state.live and not spec.suspend
                part.reserved.update(waits)
            parts[0].usage.update(self._holdings.of(entry.uid))
        for namespace, name, holds, amounts, reserved in self._foreign.counts():
            route = quotas.local_queues.get((namespace, name))
            parts = [local.setdefault(f"{namespace}/{name}", _Counts())]
            if route is not None:
                parts.append(cluster.setdefault(route.cluster_queue, _Counts()))
            for part in parts:
                part.reserving += holds
                part.admitted += holds and not reserved
                part.pending += not holds
                part.reserved.update(amounts if reserved else {})
            parts[0].usage.update(amounts)
        for name, used in summed(self._holdings.usage, self._foreign.usage).items():
            cluster.setdefault(name, _Counts()).usage.update(used)
        return local, cluster

    def _desired(
        self, resource: Resource, key: str, counts: _Counts, quotas: Quotas, sharing: Json
    ) -> Callable[[], Write | None]:
        def desired() -> Write | None:
            obj = self._objects(resource).get(key)
            if obj is None:
                return None
            queue = key if resource is CLUSTER_QUEUES else str((obj.get("spec") or {}).get("clusterQueue") or "")
            previous = obj.get("status") or {}
            status = _status(quotas, queue, counts, borrows=resource is CLUSTER_QUEUES) | sharing
            verdict = _active(quotas, queue) if resource is CLUSTER_QUEUES else _local_active(quotas, obj, queue)
            at = format_time(from_timestamp(self._now()))
            conditions = with_condition(previous.get("conditions"), "Active", *verdict, now=at)
            status["conditions"] = (
                self._derived(resource, key, conditions) if resource is CLUSTER_QUEUES else conditions
            )
            patch = create_merge_patch({name: previous.get(name) for name in status if name in previous}, status)
            return None if patch is None else MergePatch({"metadata": {"uid": obj["metadata"]["uid"]}, "status": patch})

        return desired


def _status(quotas: Quotas, queue: str, counts: _Counts, *, borrows: bool) -> Json:
    found = quotas.queues.get(queue)
    reservation = _flavors(found, counts.usage, borrows=borrows) if found is not None else []
    usage = reservation
    if found is not None and counts.reserved:
        started = {key: value - counts.reserved[key] for key, value in counts.usage.items()}
        usage = _flavors(found, started, borrows=borrows)
    return {
        "pendingWorkloads": counts.pending,
        "reservingWorkloads": counts.reserving,
        "admittedWorkloads": counts.admitted,
        "flavorsReservation": reservation,
        "flavorsUsage": usage,
    }


def _flavors(queue: ClusterQueue, usage: Mapping[FlavorResource, int], *, borrows: bool) -> list[Json]:
    found: dict[str, list[Json]] = {}
    for (flavor, resource), quota in queue.quotas.items():
        used = usage.get((flavor, resource), 0)
        entry: Json = {"name": resource, "total": str(quantity(resource, used))}
        if borrows:
            entry["borrowed"] = str(quantity(resource, max(0, minus(used, quota.nominal))))
        found.setdefault(flavor, []).append(entry)
    return [{"name": flavor, "resources": resources} for flavor, resources in found.items()]


def _active(quotas: Quotas, queue: str) -> tuple[str, str, str]:
    """Status, reason and message of a ClusterQueue's Active condition, as Kueue spells them."""
    why = quotas.inactive.get(queue)
    if why is None:
        return "True", "Ready", "Can admit new workloads"
    return "False", why.code, f"Can't admit new workloads: {why.detail}"


def _local_active(quotas: Quotas, obj: Mapping[str, Any], queue: str) -> tuple[str, str, str]:
    if ((obj.get("spec") or {}).get("stopPolicy") or "None") != "None":
        return "False", "Stopped", "LocalQueue is stopped"
    if queue in quotas.inactive:
        return "False", "ClusterQueueIsInactive", "Can't submit new workloads to clusterQueue"
    if queue not in quotas.queues:
        return "False", "ClusterQueueDoesNotExist", "Can't submit new workloads to clusterQueue"
    return "True", "Ready", "Can submit new workloads to localQueue"
