"""The demo's table of sites: what is free on each for this job, what it costs, and how the scorers rank it.

The numbers are the decision's own: the fleet and the ranking are built by the code that decides, from the objects that
the hub itself reads.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hub.api.resource import CLUSTER_CAPACITIES, MANAGED_CLUSTERS, MANIFEST_WORKS
from hub.client.interface import KubeApi
from hub.fleet.changes import CapacitySeen, Charge, ClusterSeen, FleetChange
from hub.fleet.fleet import Fleet
from hub.fleet.shape import TaskShape, task_shape
from hub.jobs.works import attempt_from_work
from hub.scoring.builtin import default_scorers, task_hour
from hub.scoring.combine import rank
from hub.scoring.interface import ScoreRequest


@dataclass(frozen=True, slots=True)
class SiteRow:
    """`slots`: tasks of the job that it could run if nothing of ours ran there (0: not this job's hardware).

    `score` is the scorers' weighted mean, 100 at best, None where the site is no candidate. `price` is of one task for
    an hour, None where unknown.
    """

    name: str
    hardware: str
    simulated: bool
    slots: int
    free: int
    price: float | None
    score: float | None


async def read_sites(api: KubeApi, job: Mapping[str, Any], now: float) -> list[SiteRow]:
    spec = job["spec"]
    shape = task_shape(spec["template"], spec.get("gpu"))
    changes: list[FleetChange] = [ClusterSeen(cluster) for cluster in (await api.list(MANAGED_CLUSTERS)).items]
    changes += [CapacitySeen(capacity) for capacity in (await api.list(CLUSTER_CAPACITIES)).items]
    for work in (await api.list(MANIFEST_WORKS)).items:
        attempt = attempt_from_work(work)
        held = min(attempt.slots, len(attempt.open_tasks))
        if attempt.live and held:
            changes.append(Charge(attempt.work, attempt.cluster, shape, held))
    return site_rows(Fleet.empty().apply(changes), shape, now)


def site_rows(fleet: Fleet, shape: TaskShape, now: float) -> list[SiteRow]:
    """In the order of names."""
    slots, free = fleet.capacity(shape), fleet.fit(shape)
    scorers = default_scorers()
    weights = sum(abs(entry.weight) for entry in scorers)
    ranking = rank(fleet, ScoreRequest(shape, 1, now), scorers, slots > 0)
    rows = []
    for position, name in enumerate(fleet.names):
        site = fleet.site(name)
        price, score = task_hour(site, shape), float(ranking.total[position]) / weights
        rows.append(
            SiteRow(
                name,
                _hardware(fleet, name),
                bool(site is not None and site.simulated),
                int(slots[position]),
                int(free[position]),
                None if math.isnan(price) else price,
                None if math.isnan(score) else score,
            )
        )
    return rows


def _hardware(fleet: Fleet, name: str) -> str:
    site = fleet.site(name)
    parts = []
    for group in site.groups if site is not None else ():
        gpus = f"{group.physical_gpus:g} × {group.gpus.model}" if group.physical_gpus else "no GPU"
        parts.append(f"{group.count} × {{{group.allocatable.get('cpu', 0) / 1000:g} CPU, {gpus}}}")
    return ", ".join(parts)
