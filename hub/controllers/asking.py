"""When score sources are asked, and what becomes of their answers: a slow or broken source costs nobody but itself.

Every source has its own pace. It is never asked while it is still being asked, ever less often while it fails, and its
last values count until they expire. Threads, because the known Prometheus client is synchronous; they die with the
process. How a source is asked is hub/controllers/source_clients.py, what an answer says hub/scoring/answer.py.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from hub.api.reasons import Reason
from hub.api.timestamps import format_duration
from hub.controllers.guard import Watcher
from hub.fleet.changes import FleetChange, ScoresGone, ScoresSeen
from hub.scoring.answer import Answer, Quality
from hub.scoring.source import SourceQuery

_log = logging.getLogger(__name__)
_STOP_PATIENCE: Final = 0.5
_THREADS: Final = 16
_SLOWEST: Final = 60.0
"""Seconds between two attempts at a source that keeps failing, unless its own interval is longer."""


@dataclass(frozen=True, slots=True)
class SourceReport:
    """How a source's last query went. `at` is epoch seconds of the last answer (None: never), kept over failures.

    `clusters`: for how many it has values that count. `quality`: of its forecast, where it is one.
    """

    clusters: int
    at: float | None
    reason: str = ""
    message: str = ""
    quality: Quality | None = None


Ask = Callable[[str, SourceQuery], Answer]
"""Blocks until there is an answer about the source of that name; raises anything when there is none."""


@dataclass(slots=True)
class _Source:
    query: SourceQuery
    failures: int = 0
    asking: bool = False
    # By cluster its last value, and until when (epoch seconds) that counts.
    last: dict[str, tuple[float, float]] = field(default_factory=dict)
    report: SourceReport = field(default_factory=lambda: SourceReport(0, None))


class Asking:
    """`start` and `stop` from the loop's thread. `feed` and `report` are called in threads of this: hand them over with
    `loop.call_soon_threadsafe`. So is `watcher`, of each question: how long it took, and what was wrong with it."""

    def __init__(
        self,
        ask: Ask,
        *,
        feed: Callable[[FleetChange], None],
        report: Callable[[str, SourceReport], None],
        interval: float = 15.0,
        clock: Callable[[], float] = time.time,
        watcher: Watcher | None = None,
    ) -> None:
        self._ask, self._feed, self._report = ask, feed, report
        self._watcher = watcher
        self._interval, self._clock = interval, clock
        self._sources: dict[str, _Source] = {}
        self._due: list[tuple[float, int, str, _Source]] = []
        self._order = itertools.count()
        self._lock = threading.Lock()
        self._changed = threading.Event()
        self._work: queue.SimpleQueue[tuple[str, _Source] | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._busy = 0
        self._stopping = False
        self._pacer: threading.Thread | None = None

    def set_source(self, name: str, query: SourceQuery) -> None:
        """From now on; a changed question is asked at once, and what is on its way to the old one is not heard."""
        with self._lock:
            known = self._sources.get(name)
            if known is not None and known.query == query:
                return
            source = self._sources[name] = _Source(query)
            if known is not None:
                source.report = known.report
            self._schedule(name, source, 0.0)
        self._changed.set()

    def remove_source(self, name: str) -> None:
        with self._lock:
            if self._sources.pop(name, None) is None:
                return
        self._feed(ScoresGone(name))

    def start(self) -> None:
        self._pacer = threading.Thread(target=self._run, name="score sources", daemon=True)
        self._pacer.start()

    def stop(self) -> None:
        """Returns soon even while a query hangs."""
        self._stopping = True
        self._changed.set()
        for _ in self._threads:
            self._work.put(None)
        if self._pacer is not None:
            self._pacer.join(_STOP_PATIENCE)

    def refresh(self) -> None:
        """Asks every source once, in name order, in this thread."""
        with self._lock:
            sources = sorted(self._sources.items())
        for name, source in sources:
            if self._stopping:
                return
            self._ask_one(name, source)

    # Pace.

    def _schedule(self, name: str, source: _Source, delay: float) -> None:
        heapq.heappush(self._due, (time.monotonic() + delay, next(self._order), name, source))

    def _run(self) -> None:
        while not self._stopping:
            self._changed.clear()
            wait = None
            with self._lock:
                now = time.monotonic()
                while self._due and self._due[0][0] <= now:
                    _, _, name, source = heapq.heappop(self._due)
                    if self._sources.get(name) is source and not source.asking:
                        source.asking = True
                        self._busy += 1
                        self._work.put((name, source))
                while len(self._threads) < min(self._busy, _THREADS):
                    thread = threading.Thread(target=self._serve, name="score source", daemon=True)
                    self._threads.append(thread)
                    thread.start()
                if self._due:
                    wait = max(0.0, self._due[0][0] - now)
            self._changed.wait(wait)

    def _serve(self) -> None:
        while not self._stopping:
            entry = self._work.get()
            if entry is None:
                return
            name, source = entry
            try:
                self._ask_one(name, source)
            finally:
                with self._lock:
                    source.asking = False
                    self._busy -= 1
                    interval = source.query.interval or self._interval
                    slower = interval * 2 ** min(max(source.failures - 1, 0), 8)
                    self._schedule(name, source, max(interval, min(slower, _SLOWEST)))
                self._changed.set()

    # Answers.

    def _ask_one(self, name: str, source: _Source) -> None:
        answer, problem = None, ""
        started = time.perf_counter()
        try:
            answer = self._ask(name, source.query)
        except Exception as error:
            problem = cause(error)
        seconds = time.perf_counter() - started
        with self._lock:
            # Removed or changed while it was asked: the answer is to a question nobody asks any more.
            if self._sources.get(name) is not source:
                return
        if self._watcher is not None:
            self._watcher(name, seconds, problem if answer is None else "" if answer.values else "nothing usable")
        if answer is not None and answer.values:
            source.failures = 0
            self._feed(self._column(name, source, answer.values))
        else:
            source.failures += 1
        self._say(name, source, answer, problem)

    def _column(self, name: str, source: _Source, values: Mapping[str, float]) -> ScoresSeen:
        """What was answered, and what was before of clusters that the answer has no usable value of: a value counts
        for as long as it was said to, and nonsense about one cluster is no reason to move anything."""
        now = self._clock()
        end = now + source.query.valid_for
        kept = {c: known for c, known in source.last.items() if c not in values and now < known[1]}
        source.last = {**kept, **{cluster: (value, end) for cluster, value in values.items()}}
        if not kept:
            return ScoresSeen(name, values, end)
        merged = {cluster: value for cluster, (value, _) in source.last.items()}
        return ScoresSeen(name, merged, end, {cluster: until for cluster, (_, until) in kept.items()})

    def _say(self, name: str, source: _Source, answer: Answer | None, problem: str) -> None:
        before, now = source.report, self._clock()
        values: Mapping[str, float] = answer.values if answer is not None else {}
        at = now if values else before.at
        clusters = sum(now < until for _, until in source.last.values())
        if answer is not None:
            problem = "; ".join(answer.complaints[:3])
            if len(answer.complaints) > 3:
                problem += f"; and {len(answer.complaints) - 3} more"
            if not values:
                problem = problem or "the answer is empty: nothing matches"
        reason = message = ""
        if problem and at is not None and now > at + source.query.valid_for:
            reason, clusters = Reason.SCORE_STALE.code, 0
            age = format_duration(now - at)
            message = Reason.SCORE_STALE.message(source=name, age=age) + f" ({problem})"
        elif problem and values:
            reason = Reason.SCORE_INCOMPLETE.code
            message = Reason.SCORE_INCOMPLETE.message(source=name, detail=problem)
        elif problem:
            reason = Reason.SCORE_SOURCE_FAILED.code
            message = Reason.SCORE_SOURCE_FAILED.message(source=name, detail=problem)
        quality = answer.quality if answer is not None and answer.quality is not None else before.quality
        source.report = SourceReport(clusters, at, reason, message, quality)
        if problem and before.reason != reason:
            _log.warning("%s", message)
        self._report(name, source.report)


def cause(error: Exception) -> str:
    """Why nobody answered, in one short line."""
    name, text = type(error).__name__, " ".join(str(error).split())
    if name in ("PrometheusApiClientException", "SourceError"):
        return text[:200]
    if "Timeout" in name:
        return "no answer in time"
    if "Connection" in name:
        return "nobody answers"
    if "JSONDecode" in name:
        return "the answer is not JSON"
    if name in ("KeyError", "TypeError"):
        return "the answer is JSON, but not what was asked for"
    return f"{name}: {text[:160]}"
