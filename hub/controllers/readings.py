"""Levels are read when somebody asks for them, from what the hub knows anyway; in between they cost nothing."""

from __future__ import annotations

from typing import Final

from hub.controllers.hub import Hub

_SILENCE: Final = 150.0
"""A healthy watch says something every minute."""


def refresh(hub: Hub) -> None:
    """Everything that is a level. Counters count by themselves, except those of the patcher."""
    metrics, quotas, usage, demands = hub.metrics, hub.world.quotas, hub.holdings.usage, hub.cycle.demands
    metrics.process.read(hub.watching.informers)
    metrics.jobs.read(hub.table, demands.values(), hub.holdings)
    metrics.writes.read(hub.patcher)
    metrics.queues.read(quotas, usage, hub.past(), hub.idle.slices if hub.idle is not None else 0, hub.world.drift)
    metrics.queues.read_fairness(quotas, usage, demands, hub.table, hub.config.queue.starvation, hub.now())
    metrics.clusters.read(hub.world.clusters.values(), hub.world.fleet.problems, hub.registrar.silence)
    metrics.scores.read(hub.scores, hub.publishing)


def health(hub: Hub) -> str:
    """ "" or what is wrong."""
    if not hub.ready.is_set():
        return "not everything is known yet"
    silent = [i.resource.plural for i in hub.watching.informers if i.silence() > _SILENCE]
    return f"the API has said nothing for too long about {', '.join(silent)}" if silent else ""
