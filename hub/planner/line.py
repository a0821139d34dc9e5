"""Where everything that waits stands in line: over the fleet, in its ClusterQueue, in its LocalQueue; and why it waits.

The order is the one in which the hub's mode decides (hub/planner/ways.py). Pure; what is shown of it is hub/server's
and hub/controllers' business.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from hub.planner.plan import Refusal, Snapshot
from hub.queueing.demand import Demand
from hub.queueing.quotas import Denial


@dataclass(frozen=True, slots=True)
class InLine:
    """Positions count from 1. `cluster_queue` is the one that would pay, also where it takes no jobs; "" if none."""

    demand: Demand
    cluster_queue: str
    position: int
    in_cluster_queue: int
    in_local_queue: int
    refusal: Refusal | None


def in_line(snapshot: Snapshot, first_come: Iterable[Demand], refusals: Mapping[str, Refusal]) -> list[InLine]:
    """All of `first_come` with their places; `refusals` by the job's key: what was said of them last."""
    cluster: Counter[str] = Counter()
    local: Counter[tuple[str, str]] = Counter()
    owners: dict[tuple[str, str], str] = {}
    found = []
    for position, demand in enumerate(first_come, 1):
        key = (demand.namespace, demand.queue)
        owner = owners.get(key)
        if owner is None:
            owner = owners[key] = cluster_queue_of(snapshot, *key)
        cluster[owner] += 1
        local[key] += 1
        found.append(InLine(demand, owner, position, cluster[owner], local[key], refusals.get(demand.key)))
    return found


def cluster_queue_of(snapshot: Snapshot, namespace: str, queue: str) -> str:
    """Which ClusterQueue pays for a LocalQueue, also where it takes no jobs; "" where there is none."""
    route = snapshot.quotas.route(namespace, queue)
    if not isinstance(route, Denial):
        return route.name
    known = snapshot.quotas.local_queues.get((namespace, queue))
    return known.cluster_queue if known is not None else ""
