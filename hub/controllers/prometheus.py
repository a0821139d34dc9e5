"""PromQL scores: one thread that asks Prometheus, one aggregated query a source for the whole fleet.

A thread, because the known client is synchronous, and a slow Prometheus must cost nobody but its own scores. Every
query has a timeout; a failure is said once and leaves the last values until they expire. What it does not do: decide
what a value is worth (hub/scoring), or keep values (the fleet does, with the time until which they count).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from hub.api.errors import InvalidObjectError
from hub.api.reasons import Reason
from hub.api.timestamps import format_duration, parse_duration
from hub.fleet.changes import FleetChange, ScoresGone, ScoresSeen
from hub.scoring.promql import Answer, read_vector

_log = logging.getLogger(__name__)
_STOP_PATIENCE: Final = 0.5


@dataclass(frozen=True, slots=True)
class SourceQuery:
    """A ScoreSource's spec as the thread needs it; durations in seconds."""

    promql: str
    cluster_label: str = "cluster"
    valid_for: float = 300.0
    timeout: float = 5.0

    @classmethod
    def parse(cls, spec: Mapping[str, Any]) -> SourceQuery:
        """Raises `InvalidObjectError` by field."""
        promql = spec.get("promQL")
        if not isinstance(promql, str) or not promql.strip():
            raise InvalidObjectError("a query is needed, such as avg by (cluster) (x)", field="spec.promQL")
        return cls(
            promql,
            str(spec.get("clusterLabel") or "cluster"),
            parse_duration(str(spec.get("validFor") or "5m")).total_seconds(),
            parse_duration(str(spec.get("timeout") or "5s")).total_seconds(),
        )


@dataclass(frozen=True, slots=True)
class SourceReport:
    """How a source's last query went. `at` is epoch seconds of the last answer (None: never), kept over failures."""

    clusters: int
    at: float | None
    reason: str = ""
    message: str = ""


Ask = Callable[[SourceQuery], object]


class PromQLScores:
    """`start` and `stop` from the loop's thread. `feed` and `report` are called in the asking thread: hand them over
    with `loop.call_soon_threadsafe`. `ask` is replaced in tests; by default it is prometheus-api-client on `url`.
    """

    def __init__(
        self,
        url: str,
        *,
        feed: Callable[[FleetChange], None],
        report: Callable[[str, SourceReport], None],
        interval: float = 15.0,
        clock: Callable[[], float] = time.time,
        ask: Ask | None = None,
    ) -> None:
        self._url = url
        self._feed, self._report = feed, report
        self._interval, self._clock = interval, clock
        self._ask = ask or _Client(url)
        self._sources: dict[str, SourceQuery] = {}
        self._reports: dict[str, SourceReport] = {}
        self._changed = threading.Event()
        self._stopping = False
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def set_source(self, name: str, query: SourceQuery) -> None:
        with self._lock:
            if self._sources.get(name) == query:
                return
            self._sources[name] = query
        self._changed.set()

    def remove_source(self, name: str) -> None:
        with self._lock:
            if self._sources.pop(name, None) is None:
                return
            self._reports.pop(name, None)
        self._feed(ScoresGone(name))

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="prometheus", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Returns soon even while a query hangs: the thread dies with the process."""
        self._stopping = True
        self._changed.set()
        if self._thread is not None:
            self._thread.join(_STOP_PATIENCE)

    def _run(self) -> None:
        while not self._stopping:
            self._changed.clear()
            started = time.monotonic()
            self.refresh()
            self._changed.wait(max(0.0, self._interval - (time.monotonic() - started)))

    def refresh(self) -> None:
        """Asks every source once, in name order."""
        with self._lock:
            sources = sorted(self._sources.items())
        for name, query in sources:
            if self._stopping:
                return
            self._refresh_one(name, query)

    def _refresh_one(self, name: str, query: SourceQuery) -> None:
        try:
            answer = read_vector(self._ask(query), query.cluster_label)
        except Exception as error:
            self._say(name, query, None, f"{self._url}: {_cause(error)}")
            return
        now = self._clock()
        with self._lock:
            # Removed or changed while it was asked: the answer is to a question nobody asks any more.
            if self._sources.get(name) != query:
                return
        if answer.values:
            self._feed(ScoresSeen(name, answer.values, now + query.valid_for))
        self._say(name, query, answer, "; ".join(answer.complaints[:3]))

    def _say(self, name: str, query: SourceQuery, answer: Answer | None, problem: str) -> None:
        before = self._reports.get(name)
        now = self._clock()
        at = now if answer is not None and answer.values else before.at if before else None
        clusters = len(answer.values) if answer is not None else before.clusters if before else 0
        if answer is not None and not answer.values:
            problem = problem or "the query has no result: no series matches"
        reason = message = ""
        if problem and at is not None and now > at + query.valid_for:
            age = format_duration(now - at)
            reason = Reason.SCORE_STALE.code
            message = Reason.SCORE_STALE.message(source=name, age=age) + f" ({problem})"
            clusters = 0
        elif problem:
            reason = Reason.SCORE_SOURCE_FAILED.code
            message = Reason.SCORE_SOURCE_FAILED.message(source=name, detail=problem)
        report = SourceReport(clusters, at, reason, message)
        if problem and (before is None or before.reason != reason):
            _log.warning("%s", message)
        self._reports[name] = report
        self._report(name, report)


class _Client:
    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._connect: Any = None

    def __call__(self, query: SourceQuery) -> object:
        if self._connect is None:
            # Imported in the thread: half a second that nobody waits for.
            import requests
            from prometheus_api_client import PrometheusConnect
            from urllib3.util.retry import Retry

            session = requests.Session()
            session.trust_env = False
            self._connect = PrometheusConnect(
                self._url, session=session, retry=Retry(total=0), method="POST", timeout=query.timeout
            )
        return self._connect.custom_query(query.promql, timeout=query.timeout)


def _cause(error: Exception) -> str:
    name = type(error).__name__
    if name == "PrometheusApiClientException":
        return " ".join(str(error).split())[:200]
    if "Timeout" in name:
        return "no answer in time"
    if "Connection" in name:
        return "nobody answers"
    return f"{name}: {' '.join(str(error).split())[:160]}"
