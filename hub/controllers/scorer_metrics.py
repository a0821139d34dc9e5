"""Metrics of DynamicScorers: ours beside those of score sources, and the framework's own by their own names.

Dashboards that were made for the framework's agents go on working: dynamic_score and dynamic_scoring_* are as they have
them, with every cluster's numbers on the one hub. Scores themselves are read when somebody asks for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from hub.asking.answer import LABELS
from hub.asking.ask import Observer
from hub.asking.trouble import ScorerTrouble
from hub.controllers.scorer_state import Key, ScorerState
from hub.scoring.dynamic.values import ClusterScores

_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_GAUGE_LABELS = ["ds_cluster", *(f"ds_{label}" for label in LABELS), "ds_score_name"]


class ScorerMetrics:
    """`watch` says whose scores are shown; until then there are none."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._scores = _Scores()
        registry.register(self._scores)
        self._seconds = Histogram(
            "quarterdeck_dynamic_scorer_seconds",
            "Time of one request for a DynamicScorer: its config, its source (Prometheus), its scoring.",
            ["scorer", "step"],
            buckets=_BUCKETS,
            registry=registry,
        )
        self._failures = Counter(
            "quarterdeck_dynamic_scorer_failures_total",
            "Requests for a DynamicScorer that failed, and clusters it gave no score, by reason.",
            ["scorer", "reason"],
            registry=registry,
        )
        self._clamped = Counter(
            "quarterdeck_dynamic_scorer_clamped_total",
            "Scores that were outside of -100 to 100 and cut when they were published.",
            ["scorer"],
            registry=registry,
        )
        self._dropped = Counter(
            "quarterdeck_dynamic_scorer_dropped_total",
            "Results that were no finite number; the others of the answer count.",
            ["scorer"],
            registry=registry,
        )
        self._requests = Counter(
            "dynamic_scoring_requests_total",
            "Scoring attempts, as the Dynamic Scoring Framework counts them.",
            ["score_name", "status"],
            registry=registry,
        )
        self._fetch, self._perform, self._send = (
            Counter(
                f"dynamic_scoring_{step}_seconds_total", f"Seconds spent {what}.", ["score_name"], registry=registry
            )
            for step, what in (
                ("fetch", "fetching data to be scored"),
                ("perform", "waiting for scorers"),
                ("send", "publishing scores"),
            )
        )

    def watch(self, states: Mapping[Key, ScorerState], now: Callable[[], float]) -> None:
        self._scores.states, self._scores.now = states, now

    def observer(self, key: Key, score: Callable[[], str]) -> Observer:
        """`score()`: its score's name now, empty while nobody knows it."""
        scorer = scorer_name(key)

        def observe(step: str, seconds: float, trouble: ScorerTrouble | None) -> None:
            self._seconds.labels(scorer, step).observe(seconds)
            if trouble is not None and step == "config":
                self._failures.labels(scorer, trouble.reason.code).inc()
            total = {"source": self._fetch, "scoring": self._perform}.get(step)
            if total is not None and score():
                total.labels(score()).inc(seconds)

        return observe

    def asked(self, key: Key, score: str, trouble: ScorerTrouble | None) -> None:
        """One cluster's asking ended."""
        self._requests.labels(score, "success" if trouble is None else "failure").inc()
        if trouble is not None:
            self._failures.labels(scorer_name(key), trouble.reason.code).inc()

    def cut(self, key: Key, clamped: int, dropped: int) -> None:
        if clamped:
            self._clamped.labels(scorer_name(key)).inc(clamped)
        if dropped:
            self._dropped.labels(scorer_name(key)).inc(dropped)

    def sent(self, score: str, seconds: float) -> None:
        self._send.labels(score).inc(seconds)

    def forget(self, key: Key) -> None:
        """Of a scorer that is gone nothing is shown any more."""
        scorer = scorer_name(key)
        for metric in (self._seconds, self._failures, self._clamped, self._dropped):
            for labels in [labels for labels in metric._metrics if labels[0] == scorer]:
                metric.remove(*labels)


def scorer_name(key: Key) -> str:
    return f"{key[0]}/{key[1]}"


class _Scores(Collector):
    """What counts now, of every scorer."""

    def __init__(self) -> None:
        self.states: Mapping[Key, ScorerState] = {}
        self.now: Callable[[], float] = lambda: 0.0

    def collect(self) -> Iterable[GaugeMetricFamily]:
        theirs = GaugeMetricFamily(
            "dynamic_score", "Results of DynamicScorers, as the framework's agents export them.", labels=_GAUGE_LABELS
        )
        ours = GaugeMetricFamily(
            "fleet_score",
            "Scores of clusters as they count; dimension is empty for that of the whole cluster.",
            labels=["cluster", "score", "dimension"],
        )
        ages = GaugeMetricFamily(
            "fleet_score_age_seconds", "Since a cluster was last given a score.", labels=["cluster", "score"]
        )
        now = self.now()
        for score, cluster, kept in self._kept():
            ages.add_metric([cluster, score], now - kept.at)
            if kept.until <= now:
                continue
            if kept.value == kept.value:
                ours.add_metric([cluster, score, ""], kept.value)
            for dimension, value in kept.named.items():
                ours.add_metric([cluster, score, dimension], value)
            for labels, value in kept.gauges.items():
                theirs.add_metric(list(labels), value)
        return theirs, ours, ages

    def _kept(self) -> Iterator[tuple[str, str, ClusterScores]]:
        for key in sorted(self.states):
            state = self.states[key]
            if state.plan is None or state.problem is not None:
                continue
            for cluster in state.values:
                kept = state.values.get(cluster)
                if kept is not None:
                    yield state.plan.score, cluster, kept
