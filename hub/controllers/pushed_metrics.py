"""Metrics that were pushed to the hub, as long as a scorer may still be sent them; in memory, and bounded.

Only what some ScorerPolicy names is kept. A hub that starts has nothing until the next push, which is then what a
scorer is sent: an empty list, as from a Prometheus without data.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from hub.asking.otlp import Labels, Sample
from hub.asking.request import Series

MOST_SERIES: Final = 100_000
MOST_OF_ONE: Final = 3_600
"""Samples of one series: one a second for an hour."""
_AHEAD: Final = 60.0
"""Seconds by which a sender's clock may be ahead."""


class PushedMetrics:
    """`wanted()`: which metrics are kept, and for how many seconds. `now`: epoch seconds."""

    def __init__(self, wanted: Callable[[], Mapping[str, int]], now: Callable[[], float]) -> None:
        self._wanted, self._now = wanted, now
        self._series: dict[tuple[str, str], dict[Labels, deque[tuple[float, str]]]] = {}
        self._count = 0

    def take(self, samples: Iterable[Sample]) -> tuple[int, str]:
        """How many could not be kept though they are wanted, and why the first of them could not."""
        wanted, now = self._wanted(), self._now()
        rejected, why = 0, ""
        for sample in samples:
            seconds = wanted.get(sample.metric)
            if seconds is None:
                continue
            at = sample.at or now
            said = ""
            if at > now + _AHEAD:
                said = f"{sample.metric} of {sample.cluster} is {at - now:.0f} s ahead: set the clocks by NTP"
            elif at < now - seconds:
                said = f"{sample.metric} of {sample.cluster} is {now - at:.0f} s old, and only {seconds} s are kept"
            elif not self._put(sample, at):
                said = f"more than {MOST_SERIES:,} series are not kept"
            if said:
                rejected, why = rejected + 1, why or said
        self._trim(wanted, now)
        return rejected, why

    def series(self, cluster: str, metrics: Sequence[str], seconds: int) -> list[Series]:
        """A list of series a metric, as Prometheus would give them, newest samples last."""
        since = self._now() - seconds
        return [self._of(cluster, metric, since) for metric in metrics]

    def _of(self, cluster: str, metric: str, since: float) -> Series:
        found: list[Any] = []
        for labels, samples in sorted(self._series.get((cluster, metric), {}).items()):
            values = [[at, value] for at, value in samples if at >= since]
            if values:
                found.append({"metric": {"__name__": metric, "cluster": cluster, **dict(labels)}, "values": values})
        return found

    def _put(self, sample: Sample, at: float) -> bool:
        kept = self._series.setdefault((sample.cluster, sample.metric), {})
        samples = kept.get(sample.labels)
        if samples is None:
            if self._count >= MOST_SERIES:
                return False
            samples = kept[sample.labels] = deque(maxlen=MOST_OF_ONE)
            self._count += 1
        entry = (at, repr(sample.value))
        if not samples or samples[-1][0] < at:
            samples.append(entry)
            return True
        # Late, or sent twice: in its place, and once.
        ordered = dict(samples) | {at: entry[1]}
        samples.clear()
        samples.extend(sorted(ordered.items()))
        return True

    def _trim(self, wanted: Mapping[str, int], now: float) -> None:
        for key in list(self._series):
            since = now - wanted.get(key[1], -1)
            kept = self._series[key]
            for labels in [labels for labels, samples in kept.items() if not samples or samples[-1][0] < since]:
                del kept[labels]
                self._count -= 1
            for samples in kept.values():
                while samples and samples[0][0] < since:
                    samples.popleft()
            if not kept:
                del self._series[key]
