"""What is measured of queues: what they use and own, who waits too long, whose guarantee is broken, how even it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Gauge

from hub.api.reasons import Reason
from hub.controllers.table import JobTable
from hub.queueing.amount import UNLIMITED
from hub.queueing.demand import Demand
from hub.queueing.derived import Drift
from hub.queueing.fairness import evenness, owed
from hub.queueing.kueue.history import LocalKey, Past
from hub.queueing.ledger import QuotaLedger, Usage
from hub.queueing.quotas import Denial, Quotas
from hub.queueing.shares import share

# What waits for these waits for others, not for itself to change.
_TURN: Final = frozenset(
    {
        Reason.WAITING_FOR_QUOTA,
        Reason.WAITING_FOR_PREEMPTED,
        Reason.KEPT_FOR_OTHERS,
        Reason.WAITING_FOR_CAPACITY,
        Reason.BEHIND_OLDER_JOB,
        Reason.PENDING_EVALUATION,
    }
)
_QUOTA: Final = frozenset({Reason.WAITING_FOR_QUOTA, Reason.WAITING_FOR_PREEMPTED, Reason.KEPT_FOR_OTHERS})


class QueueMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self._usage = Gauge(
            "quarterdeck_queue_usage",
            "What a ClusterQueue has in use, in the resource's unit (cpu in cores).",
            ["queue", "flavor", "resource"],
            registry=registry,
        )
        self._nominal = Gauge(
            "quarterdeck_queue_nominal", "What a ClusterQueue owns.", ["queue", "flavor", "resource"], registry=registry
        )
        self._decayed = Gauge(
            "quarterdeck_queue_decayed_usage",
            "What a LocalQueue has used, fading with the half-life of admissionFairSharing (a day if that is not set), "
            "in the resource's unit (cpu in cores).",
            ["namespace", "queue", "resource"],
            registry=registry,
        )
        self._evenness = Gauge(
            "quarterdeck_cohort_jain_index",
            "Jain's index of what the ClusterQueues of a cohort use in proportion to their own quota: 1 is even. "
            "Counted are those that use something or wait.",
            ["cohort"],
            registry=registry,
        )
        self._owed = Gauge(
            "quarterdeck_guarantee_violations",
            "Jobs that wait for quota which their ClusterQueue owns and does not use.",
            ["queue"],
            registry=registry,
        )
        self._starved = Gauge(
            "quarterdeck_starved_jobs",
            "Jobs of which nothing runs, and that have waited longer than queue.starvation for their turn.",
            ["queue"],
            registry=registry,
        )
        self._oldest = Gauge(
            "quarterdeck_oldest_pending_seconds",
            "How long the oldest job waits of which nothing runs.",
            ["queue"],
            registry=registry,
        )
        self._idle = Gauge(
            "quarterdeck_idle_slices", "Slices that use less of their GPUs than queue.idle asks for.", registry=registry
        )
        self._weighted_share = Gauge(
            "quarterdeck_queue_weighted_share",
            "What a ClusterQueue borrows of its dominant resource, in thousandths of what is lent, over its weight.",
            ["queue"],
            registry=registry,
        )

        self._reported = Gauge(
            "quarterdeck_derived_quota_reported",
            "What of a nominal quota follows from what the clusters of its set report, in the resource's unit.",
            ["kind", "name", "flavor", "resource"],
            registry=registry,
        )
        self._in_force = Gauge(
            "quarterdeck_derived_quota_in_force",
            "What counts of it: more than is reported while more than that is in use.",
            ["kind", "name", "flavor", "resource"],
            registry=registry,
        )

    def read(
        self, quotas: Quotas, usage: Usage, past: Mapping[LocalKey, Past], idle: int, drift: Iterable[Drift]
    ) -> None:
        """What is used and owned, what was used before, how many slices are idle, what follows from clusters."""
        self._reported.clear()
        self._in_force.clear()
        for one in drift:
            labels = (one.kind, one.name, one.flavor, one.resource)
            self._reported.labels(*labels).set(_in_units(one.resource, one.derived))
            self._in_force.labels(*labels).set(_in_units(one.resource, one.in_force))
        self._usage.clear()
        self._nominal.clear()
        for queue, used in usage.items():
            for (flavor, resource), amount in used.items():
                self._usage.labels(queue, flavor, resource).set(_in_units(resource, amount))
        for name, found in quotas.queues.items():
            for (flavor, resource), quota in found.quotas.items():
                self._nominal.labels(name, flavor, resource).set(_in_units(resource, quota.nominal))
        self._decayed.clear()
        for (namespace, name), before in past.items():
            for resource, value in before.consumed.items():
                self._decayed.labels(namespace, name, resource).set(value)
        self._idle.set(idle)

    def read_fairness(
        self, quotas: Quotas, usage: Usage, demands: Mapping[str, Demand], table: JobTable, late: float, now: float
    ) -> None:
        """How long those in `demands` wait, by job's uid (`late` seconds are too long), and what they are owed.

        `now` is epoch seconds."""
        ledger = QuotaLedger(quotas, usage)
        oldest: dict[str, float] = {}
        starved: Counter[str] = Counter()
        violated: Counter[str] = Counter()
        wanting: set[str] = set()
        for uid, demand in demands.items():
            queue = quotas.route(demand.namespace, demand.queue)
            entry = table.entries.get(uid)
            if isinstance(queue, Denial) or entry is None or entry.refusal is None:
                continue
            reason = entry.refusal.reason
            if reason not in _TURN:
                continue
            wanting.add(queue.name)
            if reason in _QUOTA and owed(quotas, ledger, demand):
                violated[queue.name] += 1
            if demand.active:
                continue
            waits = max(0.0, now - demand.created)
            oldest[queue.name] = max(oldest.get(queue.name, 0.0), waits)
            starved[queue.name] += waits > late
        for gauge in (self._oldest, self._starved, self._owed, self._evenness, self._weighted_share):
            gauge.clear()
        for name in quotas.queues:
            self._oldest.labels(name).set(oldest.get(name, 0.0))
            self._starved.labels(name).set(starved[name])
            self._owed.labels(name).set(violated[name])
        for cohort, index in evenness(quotas, usage, wanting).items():
            self._evenness.labels(cohort).set(index)
        for name, tree in quotas.trees.items():
            weighted = share(ledger, tree, tree.position[name]).weighted
            self._weighted_share.labels(name).set(float("inf") if weighted >= UNLIMITED else weighted)


def _in_units(resource: str, amount: int) -> float:
    return amount / 1000 if resource == "cpu" else float(amount)
