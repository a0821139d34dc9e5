"""What is measured of writing to the API: how much, what was spared, what waits, what was refused."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge

from hub.client.patcher import Patcher


class WriteMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self._writes = Counter(
            "quarterdeck_writes_total",
            "Writes to the API by verb and resource.",
            ["verb", "resource"],
            registry=registry,
        )
        self._avoided = Counter(
            "quarterdeck_writes_avoided_total",
            "Writes that were merged into a later one, or would have changed nothing.",
            ["how"],
            registry=registry,
        )
        self._backlog = Gauge(
            "quarterdeck_write_backlog", "Objects that something is to be written to.", registry=registry
        )
        self.failures = Counter(
            "quarterdeck_write_failures_total",
            "Writes that the API refused, by resource.",
            ["resource"],
            registry=registry,
        )

    def read(self, patcher: Patcher) -> None:
        """What the patcher has counted, and what waits in it."""
        self._backlog.set(patcher.backlog)
        for (verb, resource), count in patcher.counts.items():
            _raise(self._writes.labels(verb, resource), count)
        _raise(self._avoided.labels("coalesced"), patcher.coalesced)
        _raise(self._avoided.labels("unchanged"), patcher.skipped)


def _raise(counter: Counter, to: float) -> None:
    """A counter that somebody else keeps, brought up to what that says."""
    value = counter._value  # the library offers no other way to set one
    value.set(max(value.get(), to))
