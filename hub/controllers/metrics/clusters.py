"""What is measured of clusters: how many are in which state, which cannot be read, since when none is heard; how long
choosing among them takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Gauge, Histogram

from hub.controllers.metrics.buckets import CYCLE
from hub.registration.acceptance import is_accepted, is_leaving
from hub.registration.availability import available


class ClusterMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self.placement_seconds = Histogram(
            "quarterdeck_placement_seconds",
            "Time of one look at the Placements that something has changed for.",
            buckets=CYCLE,
            registry=registry,
        )
        self._clusters = Gauge(
            "quarterdeck_clusters",
            "Clusters by state: available, unavailable, unreachable, waiting, leaving.",
            ["state"],
            registry=registry,
        )
        self._unreadable = Gauge(
            "quarterdeck_cluster_unreadable",
            "1 for a cluster whose ManagedCluster or ClusterCapacity cannot be read: what it said before counts.",
            ["cluster"],
            registry=registry,
        )
        self._silence = Gauge(
            "quarterdeck_cluster_silence_seconds", "Since a cluster was last heard.", ["cluster"], registry=registry
        )

    def read(
        self, clusters: Iterable[Mapping[str, Any]], problems: Iterable[str], silence: Mapping[str, float]
    ) -> None:
        """`clusters` are ManagedClusters; `problems` names those that cannot be read; `silence` is in seconds."""
        states: Counter[str] = Counter()
        for cluster in clusters:
            said = available(cluster)
            if is_leaving(cluster):
                states["leaving"] += 1
            elif not is_accepted(cluster) or not said:
                states["waiting"] += 1
            else:
                states[{"True": "available", "False": "unavailable"}.get(said, "unreachable")] += 1
        for state in ("available", "unavailable", "unreachable", "waiting", "leaving"):
            self._clusters.labels(state).set(states[state])
        self._unreadable.clear()
        for name in problems:
            self._unreadable.labels(name).set(1)
        self._silence.clear()
        for name, seconds in silence.items():
            self._silence.labels(name).set(seconds)
