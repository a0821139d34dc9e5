"""Gauges are filled in when somebody asks for them, from what the hub knows anyway; in between they cost nothing."""

from __future__ import annotations

from collections import Counter
from typing import Final

from hub.controllers import fairness_readings
from hub.controllers.hub import Hub
from hub.registration.acceptance import is_accepted, is_leaving
from hub.registration.availability import available

_SILENCE: Final = 150.0
"""A healthy watch says something every minute."""


def refresh(hub: Hub) -> None:
    """Everything that is a level. Counters count by themselves, except those of the patcher."""
    metrics = hub.metrics
    phases: Counter[str] = Counter()
    for entry in hub.table:
        if entry.seen is not None:
            phases[entry.state.phase if entry.state is not None else "Pending"] += 1
    metrics.jobs.clear()
    for phase, count in phases.items():
        metrics.jobs.labels(phase).set(count)
    metrics.pending.clear()
    waiting = Counter((demand.namespace, demand.queue) for demand in hub.cycle.demands.values())
    for (namespace, queue), count in waiting.items():
        metrics.pending.labels(namespace, queue).set(count)
    metrics.tasks_held.set(hub.holdings.tasks)
    metrics.write_backlog.set(hub.writes.backlog)
    _queues(hub)
    fairness_readings.refresh(hub)
    _clusters(hub)
    metrics.score_age.clear()
    for source, age in hub.scores.ages().items():
        metrics.score_age.labels(source).set(age)
    metrics.score_coverage.clear()
    for source, part in hub.scores.coverage().items():
        metrics.score_coverage.labels(source).set(part)
    metrics.scorer_ready.clear()
    for scorer, is_ready in hub.scores.ready().items():
        metrics.scorer_ready.labels(scorer).set(is_ready)
    metrics.published_coverage.clear()
    metrics.published_age.clear()
    for score, standing in hub.publishing.standing().items():
        metrics.published_coverage.labels(score).set(standing.coverage)
        metrics.published_age.labels(score).set(standing.age)
    for informer in hub.watching.informers:
        metrics.informer_silence.labels(informer.resource.plural).set(informer.silence())
        metrics.informer_objects.labels(informer.resource.plural).set(len(informer.store))
    _writes(hub)


def health(hub: Hub) -> str:
    """ "" or what is wrong."""
    if not hub.ready.is_set():
        return "not everything is known yet"
    silent = [i.resource.plural for i in hub.watching.informers if i.silence() > _SILENCE]
    return f"the API has said nothing for too long about {', '.join(silent)}" if silent else ""


def _queues(hub: Hub) -> None:
    metrics = hub.metrics
    metrics.queue_usage.clear()
    metrics.queue_nominal.clear()
    for queue, used in hub.holdings.usage.items():
        for (flavor, resource), amount in used.items():
            metrics.queue_usage.labels(queue, flavor, resource).set(_in_units(resource, amount))
    for name, found in hub.world.quotas.queues.items():
        for (flavor, resource), quota in found.quotas.items():
            metrics.queue_nominal.labels(name, flavor, resource).set(_in_units(resource, quota.nominal))


def _clusters(hub: Hub) -> None:
    states: Counter[str] = Counter()
    for cluster in hub.world.clusters.values():
        said = available(cluster)
        if is_leaving(cluster):
            states["leaving"] += 1
        elif not is_accepted(cluster) or not said:
            states["waiting"] += 1
        else:
            states[{"True": "available", "False": "unavailable"}.get(said, "unreachable")] += 1
    for state in ("available", "unavailable", "unreachable", "waiting", "leaving"):
        hub.metrics.clusters.labels(state).set(states[state])
    hub.metrics.cluster_unreadable.clear()
    for name in hub.world.fleet.problems:
        hub.metrics.cluster_unreadable.labels(name).set(1)
    hub.metrics.lease_age.clear()
    for name, seconds in hub.registrar.silence.items():
        hub.metrics.lease_age.labels(name).set(seconds)


def _writes(hub: Hub) -> None:
    patcher, metrics = hub.patcher, hub.metrics
    for (verb, resource), count in patcher.counts.items():
        _raise(metrics.writes.labels(verb, resource), count)
    _raise(metrics.writes_avoided.labels("coalesced"), patcher.coalesced)
    _raise(metrics.writes_avoided.labels("unchanged"), patcher.skipped)


def _raise(counter: object, to: float) -> None:
    """A counter that somebody else keeps, brought up to what that says."""
    value = counter._value  # type: ignore[attr-defined]  # the library offers no other way to set one
    value.set(max(value.get(), to))


def _in_units(resource: str, amount: int) -> float:
    return amount / 1000 if resource == "cpu" else float(amount)
