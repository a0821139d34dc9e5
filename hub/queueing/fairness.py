"""How even a cohort is, and whose guarantee is not kept: numbers for people who watch, never for a decision. Pure.

Jain's index is (Σx)² / (n·Σx²): 1 when all x are equal, 1/n when one has everything (Jain, Chiu, Hawe 1984). Here x is
what a ClusterQueue uses in proportion to its own quota, of the resource of which that is most; counted are the queues
that use something or in which somebody waits.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from hub.queueing.amount import UNLIMITED, plus
from hub.queueing.assign import choices
from hub.queueing.demand import Demand
from hub.queueing.ledger import QuotaLedger
from hub.queueing.objects import ClusterQueue, FlavorResource
from hub.queueing.quotas import Denial, Quotas

Usage = Mapping[str, Mapping[FlavorResource, int]]


def jain(values: Iterable[float]) -> float:
    """1 for nobody, and for nobody who has anything."""
    found = list(values)
    squares = sum(value * value for value in found)
    return sum(found) ** 2 / (len(found) * squares) if squares > 0 else 1.0


def evenness(quotas: Quotas, usage: Usage, waiting: Collection[str]) -> dict[str, float]:
    """Jain's index by root cohort, where at least two queues count; `waiting` are ClusterQueues."""
    shares: dict[str, list[float]] = {}
    for name, tree in sorted(quotas.trees.items()):
        queue, used = quotas.queues.get(name), usage.get(name, {})
        if queue is not None and not tree.root.is_queue and (used or name in waiting):
            part = _part(queue, used)
            if part is not None:
                shares.setdefault(tree.root.name, []).append(part)
    return {cohort: jain(values) for cohort, values in shares.items() if len(values) > 1}


def owed(quotas: Quotas, ledger: QuotaLedger, demand: Demand) -> bool:
    """Whether what a job needs to start is its queue's own, and its queue does not use it."""
    queue = quotas.route(demand.namespace, demand.queue)
    if isinstance(queue, Denial) or demand.problem or queue.name not in quotas.trees:
        return False
    ways = choices(quotas, queue, demand.shape)
    if isinstance(ways, Denial):
        return False
    least = min(demand.slots, demand.waiting) if demand.gang else 1
    return any(_owns(queue, ledger, way.requests, least) for way in ways)


def _owns(queue: ClusterQueue, ledger: QuotaLedger, requests: Iterable[tuple[FlavorResource, int]], count: int) -> bool:
    return all(
        ledger.used(queue.name, key) + each * count <= queue.quotas[key].nominal
        for key, each in requests
        if key in queue.quotas
    )


def _part(queue: ClusterQueue, used: Mapping[FlavorResource, int]) -> float | None:
    """The largest part of its own that it uses of any resource, over all flavors; None: it owns nothing countable."""
    own: dict[str, int] = {}
    mine: dict[str, int] = {}
    for (flavor, resource), quota in queue.quotas.items():
        own[resource] = plus(own.get(resource, 0), quota.nominal)
        mine[resource] = mine.get(resource, 0) + used.get((flavor, resource), 0)
    return max((mine[r] / total for r, total in own.items() if 0 < total < UNLIMITED), default=None)
