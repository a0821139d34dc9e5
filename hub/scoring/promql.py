"""What a Prometheus answer says about each cluster. Pure: the decoded result in, values and complaints out.

An answer may be 200 and still nonsense: a series without the cluster's label, a cluster twice, NaN, text. Each costs
only the cluster it is about; what cannot be used is unknown, never zero. Asking is hub/controllers/prometheus.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Answer:
    """`values` by cluster; `complaints` in words, in a stable order, each naming what it is about."""

    values: Mapping[str, float]
    complaints: tuple[str, ...] = ()


def read_vector(result: object, cluster_label: str) -> Answer:
    """An instant vector (`data.result` of /api/v1/query, or what prometheus-api-client returns of it)."""
    if not isinstance(result, Sequence) or isinstance(result, str | bytes):
        return Answer({}, (f"the answer is no vector but {type(result).__name__}: write an instant query",))
    values: dict[str, float] = {}
    doubled: set[str] = set()
    unlabelled = 0
    complaints: list[str] = []
    for series in result:
        labels = series.get("metric") if isinstance(series, Mapping) else None
        cluster = labels.get(cluster_label) if isinstance(labels, Mapping) else None
        if not isinstance(cluster, str) or not cluster:
            unlabelled += 1
            continue
        value = _number(series)
        if cluster in values or cluster in doubled:
            # Which of the two is meant cannot be known; taking one would change with the order of the answer.
            values.pop(cluster, None)
            doubled.add(cluster)
        elif value is None:
            complaints.append(f"{cluster}: {_shown(series)} is not a number")
        else:
            values[cluster] = value
    complaints += [f"{cluster} has several series: aggregate by ({cluster_label})" for cluster in doubled]
    if unlabelled:
        complaints.append(f"{unlabelled} series without label {cluster_label}: aggregate by ({cluster_label})")
    return Answer(dict(sorted(values.items())), tuple(sorted(complaints)))


def _number(series: Mapping[str, Any]) -> float | None:
    sample = series.get("value")
    try:
        value = float(sample[1])  # type: ignore[index]  # whatever it is, it is tried
    except (TypeError, ValueError, IndexError, KeyError):
        return None
    return value if math.isfinite(value) else None


def _shown(series: Mapping[str, Any]) -> str:
    sample = series.get("value")
    return repr(sample[1] if isinstance(sample, list | tuple) and len(sample) > 1 else sample)[:60]
