"""All of the hub's own metrics. One registry an instance, made without side effects, so that tests and the reference
page can. Each is declared beside what fills it in. Serving them is hub/controllers/metrics_server.py.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from hub.controllers.metrics.clusters import ClusterMetrics
from hub.controllers.metrics.decisions import DecisionMetrics
from hub.controllers.metrics.jobs import EvictionMetrics, JobMetrics
from hub.controllers.metrics.process import ProcessMetrics
from hub.controllers.metrics.queues import QueueMetrics
from hub.controllers.metrics.scores import ScoreMetrics
from hub.controllers.metrics.writes import WriteMetrics
from hub.controllers.scorer_metrics import ScorerMetrics


class HubMetrics:
    """`registry` holds them all; names, types and sentences are read from it by docs/generate.py."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.process = ProcessMetrics(registry)
        self.jobs = JobMetrics(registry)
        self.decisions = DecisionMetrics(registry)
        self.evictions = EvictionMetrics(registry)
        self.writes = WriteMetrics(registry)
        self.queues = QueueMetrics(registry)
        self.clusters = ClusterMetrics(registry)
        self.scores = ScoreMetrics(registry)
        self.dynamic = ScorerMetrics(registry)
