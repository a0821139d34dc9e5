"""OpenTelemetry's metrics as they are pushed (OTLP, ExportMetricsServiceRequest in its JSON form): samples out. Pure.

Gauges and sums are one sample a data point; of histograms and summaries their sum and their count are, as Prometheus
names them. Which cluster a sample is of is its resource's ``k8s.cluster.name``. Attributes become labels as
OpenTelemetry's own exporter for Prometheus makes them (dots become underscores); those that scorers know by another
name are there by that, too. Field names and types: opentelemetry-proto, metrics/v1/metrics.proto.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from hub.api.errors import InvalidObjectError

CLUSTER_ATTRIBUTE: Final = "k8s.cluster.name"
MOST_POINTS: Final = 50_000
LONGEST_NAME: Final = 255
_SCORERS_NAMES: Final = {
    "k8s_node_name": "node",
    "k8s_namespace_name": "namespace",
    "k8s_pod_name": "pod",
    "k8s_container_name": "container",
}
_NO_LABEL = re.compile(r"[^a-zA-Z0-9_]")
Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Sample:
    """`at`: epoch seconds; 0: the sender did not say."""

    cluster: str
    metric: str
    labels: Labels
    at: float
    value: float


@dataclass(slots=True)
class Samples:
    """`rejected`: how many data points were none that could be used; `complaint`: why the first of them was not."""

    samples: list[Sample] = field(default_factory=list)
    rejected: int = 0
    complaint: str = ""

    def reject(self, complaint: str, points: int = 1) -> None:
        self.rejected += points
        self.complaint = self.complaint or complaint


def read_metrics(document: object, cluster: str = "") -> Samples:
    """`cluster`: of samples whose resource names none. Raises `InvalidObjectError` for what is no such request."""
    if not isinstance(document, Mapping):
        raise InvalidObjectError(f"is no object but {type(document).__name__}", field="the request")
    found = Samples()
    for entry in _list(document, "resourceMetrics"):
        resource = _attributes(_map(entry, "resource"))
        whose = resource.get(CLUSTER_ATTRIBUTE, "") or cluster
        for scope in _list(entry, "scopeMetrics"):
            for metric in _list(scope, "metrics"):
                _read_metric(metric, whose, resource, found)
    return found


def _read_metric(metric: Mapping[str, Any], cluster: str, resource: Mapping[str, str], found: Samples) -> None:
    name = metric.get("name")
    points = list(_points(metric))
    if not isinstance(name, str) or not 0 < len(name) <= LONGEST_NAME:
        found.reject(f"a metric is called {str(name)[:40]!r}", len(points))
        return
    if not cluster:
        found.reject(f"{name}: its resource has no {CLUSTER_ATTRIBUTE}", len(points))
        return
    for suffix, point, raw in points:
        if len(found.samples) >= MOST_POINTS:
            found.reject(f"more than {MOST_POINTS:,} data points")
            continue
        value = _number(raw)
        if value is None:
            found.reject(f"{name}: {str(raw)[:40]!r} is not a number")
            continue
        at = _number(point.get("timeUnixNano")) or 0.0
        labels = _labels({**resource, **_attributes(point)})
        found.samples.append(Sample(cluster, name + suffix, labels, at / 1e9, value))


def _points(metric: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any], Any]]:
    """What each is called beside the metric's name, the data point, and its value as it was sent."""
    for kind in ("gauge", "sum"):
        for point in _list(_map(metric, kind), "dataPoints"):
            yield "", point, point.get("asDouble", point.get("asInt"))
    for kind in ("histogram", "exponentialHistogram", "summary"):
        for point in _list(_map(metric, kind), "dataPoints"):
            yield "_count", point, point.get("count", 0)
            # A histogram of what may be negative has no sum.
            if point.get("sum") is not None or kind == "summary":
                yield "_sum", point, point.get("sum", 0)


def _attributes(holder: Mapping[str, Any]) -> dict[str, str]:
    found = {}
    for attribute in _list(holder, "attributes"):
        key, value = attribute.get("key"), attribute.get("value")
        if isinstance(key, str) and key and isinstance(value, Mapping):
            text = next((value[kind] for kind in ("stringValue", "intValue", "doubleValue") if kind in value), None)
            if "boolValue" in value:
                text = "true" if value["boolValue"] else "false"
            if text is not None:
                found[key] = str(text)
    return found


def _labels(attributes: Mapping[str, str]) -> Labels:
    found: dict[str, str] = {}
    for key in sorted(attributes):
        name = _NO_LABEL.sub("_", key)
        found[f"_{name}" if name[0].isdigit() else name] = attributes[key]
    for theirs, ours in _SCORERS_NAMES.items():
        if theirs in found:
            found.setdefault(ours, found[theirs])
    return tuple(sorted(found.items()))


def _number(value: object) -> float | None:
    """JSON has 64-bit integers as text, and NaN as a word."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def _map(holder: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = holder.get(name)
    return found if isinstance(found, Mapping) else {}


def _list(holder: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    found = holder.get(name)
    return [entry for entry in found if isinstance(entry, Mapping)] if isinstance(found, list) else []
