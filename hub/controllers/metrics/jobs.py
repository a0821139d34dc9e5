"""What is measured of jobs: how many there are in each phase, how many wait, what they hold, what was told to go."""

from __future__ import annotations

from collections import Counter as Count
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge

from hub.controllers.holdings import Holdings
from hub.controllers.table import JobTable
from hub.queueing.demand import Demand


class JobMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self._jobs = Gauge("quarterdeck_jobs", "Jobs by phase.", ["phase"], registry=registry)
        self._pending = Gauge(
            "quarterdeck_pending_jobs",
            "Jobs with tasks that wait for quota or room, by LocalQueue.",
            ["namespace", "queue"],
            registry=registry,
        )
        self._tasks_held = Gauge(
            "quarterdeck_tasks_held", "Tasks that hold quota and room on clusters now.", registry=registry
        )

    def read(self, table: JobTable, demands: Iterable[Demand], holdings: Holdings) -> None:
        """The levels, as they are now."""
        phases: Count[str] = Count()
        for entry in table:
            if entry.seen is not None:
                phases[entry.state.phase if entry.state is not None else "Pending"] += 1
        self._jobs.clear()
        for phase, count in phases.items():
            self._jobs.labels(phase).set(count)
        self._pending.clear()
        for (namespace, queue), count in Count((demand.namespace, demand.queue) for demand in demands).items():
            self._pending.labels(namespace, queue).set(count)
        self._tasks_held.set(holdings.tasks)


class EvictionMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self.preemptions = Counter(
            "quarterdeck_preemptions_total",
            "Slices that were told to make way for another job, by the ClusterQueue that they were of and by why.",
            ["queue", "reason"],
            registry=registry,
        )
        self.evictions = Counter(
            "quarterdeck_evictions_total",
            "Slices that were told to go, by the ClusterQueue that they were of and by why.",
            ["queue", "reason"],
            registry=registry,
        )
        self.resizes = Counter(
            "quarterdeck_resizes_total",
            "Slices of elastic jobs that were made larger or smaller, by their ClusterQueue; direction: grow, shrink.",
            ["queue", "direction"],
            registry=registry,
        )
