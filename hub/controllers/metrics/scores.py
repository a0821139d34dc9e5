"""What is measured of scores: how old and how complete they are, how long sources and plugins take, what is published.

The metrics of DynamicScorers, whose names are those of the framework's own, are hub/controllers/scorer_metrics.py.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from hub.controllers.metrics.buckets import CYCLE
from hub.controllers.publishing import Publishing
from hub.controllers.scores import Scores


class ScoreMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self._age = Gauge(
            "quarterdeck_score_age_seconds",
            "Since a score source or plugin last answered.",
            ["source"],
            registry=registry,
        )
        self._coverage = Gauge(
            "quarterdeck_score_coverage",
            "The part of the clusters for which a source, a plugin or a column of AddOnPlacementScores has a value.",
            ["source"],
            registry=registry,
        )
        self._scorer_seconds = Histogram(
            "quarterdeck_scorer_seconds",
            "Time of one call of a scorer plugin, or of one question to a score source.",
            ["scorer"],
            buckets=CYCLE,
            registry=registry,
        )
        self._scorer_failures = Counter(
            "quarterdeck_scorer_failures_total",
            "Calls of a scorer plugin and questions to a score source that failed or were answered with nonsense.",
            ["scorer"],
            registry=registry,
        )
        self._scorer_ready = Gauge(
            "quarterdeck_scorer_ready",
            "1 while a scorer plugin or score source answers; 0: its last values count until they are too old.",
            ["scorer"],
            registry=registry,
        )
        self.publish_seconds = Histogram(
            "quarterdeck_publish_seconds",
            "Time of one look at what scores are to be published; refused writes are among the write failures.",
            buckets=CYCLE,
            registry=registry,
        )
        self._published_coverage = Gauge(
            "quarterdeck_published_score_coverage",
            "The part of the accepted clusters whose AddOnPlacementScore of the hub has this score.",
            ["score"],
            registry=registry,
        )
        self._published_age = Gauge(
            "quarterdeck_published_score_age_seconds",
            "Since the oldest AddOnPlacementScore of the hub with this score was written.",
            ["score"],
            registry=registry,
        )

    def called(self, scorer: str, seconds: float, problem: str) -> None:
        """One call of `scorer`; `problem` is empty when it went well."""
        self._scorer_seconds.labels(scorer).observe(seconds)
        if problem:
            self._scorer_failures.labels(scorer).inc()

    def read(self, scores: Scores, publishing: Publishing) -> None:
        self._age.clear()
        for source, age in scores.ages().items():
            self._age.labels(source).set(age)
        self._coverage.clear()
        for source, part in scores.coverage().items():
            self._coverage.labels(source).set(part)
        self._scorer_ready.clear()
        for scorer, is_ready in scores.ready().items():
            self._scorer_ready.labels(scorer).set(is_ready)
        self._published_coverage.clear()
        self._published_age.clear()
        for score, standing in publishing.standing().items():
            self._published_coverage.labels(score).set(standing.coverage)
            self._published_age.labels(score).set(standing.age)
