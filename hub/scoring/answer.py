"""What a source's answer says about each cluster. Pure: decoded documents in, values and complaints out.

An answer may be 200 and still nonsense: a series without the cluster's label, a cluster twice, NaN, text, a clock that
is an hour off. Each costs only the cluster it is about; what cannot be used is unknown, never zero. Asking is
hub/controllers/asking.py.
"""

from __future__ import annotations

import contextlib
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from hub.api.timestamps import format_duration
from hub.asking.document import SKEW, Fields, apart, members, number, shown, value_of

LAST: Final = "lastValue"
"""The forecast that any other has to beat."""


@dataclass(frozen=True, slots=True)
class Quality:
    """How well a forecast went on the past. `error`, `last_error`: how far off `method` and the last value were on
    average over all clusters and tries, in the value's own unit; None where there was too little past to try it on."""

    method: str
    error: float | None
    last_error: float | None
    tries: int

    def text(self, horizon: float) -> str:
        """For people."""
        said = f"forecast {format_duration(horizon)} ahead by {self.method}"
        if self.error is None or self.last_error is None:
            return f"{said}: too little past to say how well that does"
        off = f"off by {self.error:.3g} on average in {self.tries} tries"
        return f"{said}: {off}" + ("" if self.method == LAST else f", the last value by {self.last_error:.3g}")


@dataclass(frozen=True, slots=True)
class Answer:
    """`values` by cluster; `complaints` in words, in a stable order, each naming what it is about. `quality`: where the
    values are forecasts."""

    values: Mapping[str, float]
    complaints: tuple[str, ...] = ()
    quality: Quality | None = None


def p95(values: Sequence[float]) -> float:
    """Between the two nearest, as numpy and Prometheus have it."""
    ordered = sorted(values)
    at = 0.95 * (len(ordered) - 1)
    low = int(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (at - low)


AGGREGATIONS: Final[Mapping[str, Callable[[Sequence[float]], float]]] = {
    # Each value divided, so that the mean of huge ones is still a number.
    "avg": lambda values: math.fsum(value / len(values) for value in values),
    "max": max,
    "min": min,
    "sum": math.fsum,
    "median": statistics.median,
    "p95": p95,
}


def read_vector(result: object, cluster_label: str, aggregation: str = "", now: float | None = None) -> Answer:
    """An instant vector (`data.result` of /api/v1/query). `now` (epoch seconds): by it the source's clock is judged.

    Values of a Prometheus whose clock is off count all the same: it judges their age by the clock it took them with.
    """
    if not isinstance(result, Sequence) or isinstance(result, str | bytes):
        return Answer({}, (f"the answer is no vector but {type(result).__name__}: write an instant query",))
    found: dict[str, list[float]] = {}
    complaints: list[str] = []
    unlabelled = 0
    for series in result:
        labels = series.get("metric") if isinstance(series, Mapping) else None
        cluster = labels.get(cluster_label) if isinstance(labels, Mapping) else None
        if not isinstance(cluster, str) or not cluster:
            unlabelled += 1
            continue
        sample = series.get("value")
        value = number(sample[1] if isinstance(sample, list | tuple) and len(sample) > 1 else None)
        if value is None:
            complaints.append(f"{cluster}: {shown(sample)} is not a number")
            # A number beside it would be half of the truth.
            found.setdefault(cluster, []).append(math.nan)
        else:
            found.setdefault(cluster, []).append(value)
    values, doubled = _one_each(found, aggregation)
    complaints += [f"{cluster} has several series: aggregate by ({cluster_label})" for cluster in doubled]
    if unlabelled:
        complaints.append(f"{unlabelled} series without label {cluster_label}: aggregate by ({cluster_label})")
    skew = _vector_skew(result, now)
    if skew:
        complaints.append(skew)
    return Answer(values, tuple(sorted(set(complaints))))


def read_single(result: object, cluster: str, aggregation: str = "", now: float | None = None) -> Answer:
    """The answer to a query about one cluster: a scalar, or a vector whose labels say nothing."""
    if (
        isinstance(result, list | tuple)
        and len(result) == 2
        and not any(isinstance(member, Mapping) for member in result)
    ):
        result = [{"metric": {}, "value": result}]
    if not isinstance(result, list | tuple):
        return Answer({}, (f"{cluster}: the answer is no vector but {type(result).__name__}",))
    series = [{**one, "metric": {"cluster": cluster}} if isinstance(one, Mapping) else {} for one in result]
    answer = read_vector(series, "cluster", aggregation, now)
    complaints = tuple(
        f"{cluster} has {len(series)} series: aggregate them" if "several series" in text else text
        for text in answer.complaints
    )
    return Answer(answer.values, complaints)


def together(answers: Iterable[Answer]) -> Answer:
    values: dict[str, float] = {}
    complaints: set[str] = set()
    qualities: list[tuple[Quality, int]] = []
    for answer in answers:
        if answer.quality is not None:
            qualities.append((answer.quality, len(answer.values)))
        values.update(answer.values)
        complaints.update(answer.complaints)
    return Answer(dict(sorted(values.items())), tuple(sorted(complaints)), merged(qualities))


def merged(qualities: Sequence[tuple[Quality, int]]) -> Quality | None:
    """Of forecasts of so many clusters each: that of most, with the errors of all that were made by the same method."""
    if not qualities:
        return None
    largest = max(qualities, key=lambda entry: (entry[1], entry[0].tries))[0]
    tried = [(q, count) for q, count in qualities if q.method == largest.method and q.error is not None]
    if not tried:
        return largest
    total = sum(count for _, count in tried)
    error = math.fsum((q.error or 0.0) * count for q, count in tried) / total
    last = math.fsum((q.last_error or 0.0) * count for q, count in tried) / total
    return Quality(largest.method, error, last, max(q.tries for q, _ in tried))


def read_document(
    document: object, fields: Fields, aggregation: str, now: float, valid_for: float, only: str = ""
) -> Answer:
    """A list of members that name their cluster, or a map by cluster. `only`: the document is about this cluster alone.

    A value whose own time is older than `valid_for`, or ahead of `now`, is unknown: its age cannot be known.
    """
    listed = members(document, fields, only)
    if isinstance(listed, str):
        return Answer({}, (listed,))
    found: dict[str, list[float]] = {}
    complaints: list[str] = []
    nameless = 0
    for cluster, member in listed:
        if not isinstance(cluster, str) or not cluster:
            nameless += 1
            continue
        value = value_of(member, fields, now, valid_for)
        if isinstance(value, str):
            complaints.append(f"{cluster}: {value}")
            value = math.nan
        found.setdefault(cluster, []).append(value)
    values, doubled = _one_each(found, aggregation)
    complaints += [f"{cluster} is there several times: choose an aggregation" for cluster in doubled]
    if nameless:
        complaints.append(f"{nameless} members without {fields.cluster}")
    return Answer(values, tuple(sorted(set(complaints))))


def _one_each(found: Mapping[str, list[float]], aggregation: str) -> tuple[dict[str, float], list[str]]:
    values: dict[str, float] = {}
    doubled: list[str] = []
    combine = AGGREGATIONS.get(aggregation)
    for cluster in sorted(found):
        numbers = found[cluster]
        known = [number for number in numbers if not math.isnan(number)]
        if len(numbers) == 1:
            values.update((cluster, number) for number in known)
        elif combine is None:
            # Which of them is meant cannot be known; taking one would change with the order of the answer.
            doubled.append(cluster)
        elif known:
            # A sum of huge values may be too large for a number.
            with contextlib.suppress(OverflowError):
                values[cluster] = combine(known)
    return values, doubled


def _vector_skew(result: Sequence[Any], now: float | None) -> str:
    if now is None:
        return ""
    for series in result:
        sample = series.get("value") if isinstance(series, Mapping) else None
        at = number(sample[0]) if isinstance(sample, list | tuple) and sample else None
        if at is not None and abs(at - now) > SKEW:
            return f"its clock is {apart(at - now)} the hub's: set both by NTP"
    return ""
