"""Gauges of fairness, filled in when somebody asks: who waits too long, whose guarantee is not kept, how even it is."""

from __future__ import annotations

from collections import Counter
from typing import Final

from hub.api.reasons import Reason
from hub.controllers.hub import Hub
from hub.queueing.amount import UNLIMITED
from hub.queueing.fairness import evenness, owed
from hub.queueing.ledger import QuotaLedger
from hub.queueing.quotas import Denial
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


def refresh(hub: Hub) -> None:
    metrics, quotas, usage = hub.metrics, hub.world.quotas, hub.holdings.usage
    ledger = QuotaLedger(quotas, usage)
    late = hub.config.queue.starvation
    now = hub.now()
    oldest: dict[str, float] = {}
    starved: Counter[str] = Counter()
    violated: Counter[str] = Counter()
    wanting: set[str] = set()
    for uid, demand in hub.cycle.demands.items():
        queue = quotas.route(demand.namespace, demand.queue)
        entry = hub.table.entries.get(uid)
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
    for gauge in (metrics.oldest, metrics.starved, metrics.owed, metrics.evenness, metrics.weighted_share):
        gauge.clear()
    for name in quotas.queues:
        metrics.oldest.labels(name).set(oldest.get(name, 0.0))
        metrics.starved.labels(name).set(starved[name])
        metrics.owed.labels(name).set(violated[name])
    for cohort, index in evenness(quotas, usage, wanting).items():
        metrics.evenness.labels(cohort).set(index)
    for name, tree in quotas.trees.items():
        weighted = share(ledger, tree, tree.position[name]).weighted
        metrics.weighted_share.labels(name).set(float("inf") if weighted >= UNLIMITED else weighted)
    metrics.idle.set(hub.idle.slices if hub.idle is not None else 0)
    metrics.queue_decayed.clear()
    for (namespace, name), past in hub.past().items():
        for resource, value in past.consumed.items():
            metrics.queue_decayed.labels(namespace, name, resource).set(value)
