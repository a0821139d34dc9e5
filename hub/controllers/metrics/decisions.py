"""What is measured of decisions: how long they take, what comes out, how long jobs wait for their first slice."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram

from hub.controllers.metrics.buckets import CYCLE

_WAIT: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 120.0, 600.0, 3600.0, 21600.0)


class DecisionMetrics:
    """Counted where it happens; nothing here is a level."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.cycle_seconds = Histogram(
            "quarterdeck_cycle_seconds",
            "Time of one decision over everything that waits.",
            buckets=CYCLE,
            registry=registry,
        )
        self.decisions = Counter(
            "quarterdeck_decisions_total",
            "Decisions by outcome: slices admitted, or the reason of the refusal.",
            ["outcome"],
            registry=registry,
        )
        self.admission_wait = Histogram(
            "quarterdeck_admission_wait_seconds",
            "From a job's creation to its first slice.",
            buckets=_WAIT,
            registry=registry,
        )
        self.job_errors = Counter(
            "quarterdeck_job_errors_total",
            "Times a single job could not be handled; the others went on.",
            registry=registry,
        )
