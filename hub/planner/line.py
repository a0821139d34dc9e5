"""Where everything that waits stands in line: over the fleet, in its ClusterQueue, in its LocalQueue; and why it waits.

The order is the one in which a cycle decides. Pure; what is shown of it is hub/server's and hub/controllers' business.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from hub.planner.cycle import Cycle, in_order
from hub.planner.plan import Refusal, Snapshot
from hub.planner.turns import Turn
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


def in_line(snapshot: Snapshot, refusals: Mapping[str, Refusal]) -> list[InLine]:
    """All that waits, first come first; `refusals` by the job's key: what the last cycle said."""
    cluster: Counter[str] = Counter()
    local: Counter[tuple[str, str]] = Counter()
    owners: dict[tuple[str, str], str] = {}
    found = []
    for position, demand in enumerate(_first_come(snapshot), 1):
        key = (demand.namespace, demand.queue)
        owner = owners.get(key)
        if owner is None:
            owner = owners[key] = _owner(snapshot, *key)
        cluster[owner] += 1
        local[key] += 1
        found.append(InLine(demand, owner, position, cluster[owner], local[key], refusals.get(demand.key)))
    return found


def _owner(snapshot: Snapshot, namespace: str, queue: str) -> str:
    route = snapshot.quotas.route(namespace, queue)
    if not isinstance(route, Denial):
        return route.name
    known = snapshot.quotas.local_queues.get((namespace, queue))
    return known.cluster_queue if known is not None else ""


def _first_come(snapshot: Snapshot) -> list[Demand]:
    """Each where it is asked first; who is never asked (nobody pays for it) is last."""
    asked = {turn.demand.key: turn.demand for turn in Cycle(snapshot).turns if isinstance(turn, Turn)}
    return [*asked.values(), *(demand for demand in in_order(snapshot.demands) if demand.key not in asked)]
