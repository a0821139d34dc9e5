"""What is measured of the process itself: who leads, whether the API is heard, whether a part fails, the loop's lag."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge

from hub.client.informer import Informer


class ProcessMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self.leader = Gauge(
            "quarterdeck_hub_leader", "1 while this hub leads, 0 while it stands by.", registry=registry
        )
        self.informer_silence = Gauge(
            "quarterdeck_informer_silence_seconds",
            "Since the API last said anything about a resource.",
            ["resource"],
            registry=registry,
        )
        self.informer_objects = Gauge(
            "quarterdeck_informer_objects", "Objects known of a resource.", ["resource"], registry=registry
        )
        self.room_failures = Counter(
            "quarterdeck_part_failures_total",
            "Times a part of the hub failed and was started again.",
            ["part"],
            registry=registry,
        )
        self.loop_lag = Gauge(
            "quarterdeck_loop_lag_seconds", "How late the hub's event loop runs its timers.", registry=registry
        )

    def read(self, informers: Iterable[Informer[Any]]) -> None:
        for informer in informers:
            self.informer_silence.labels(informer.resource.plural).set(informer.silence())
            self.informer_objects.labels(informer.resource.plural).set(len(informer.store))
