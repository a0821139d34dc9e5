"""What is sent: the query of Prometheus, and the body that a scorer gets. Byte for byte as the framework has them.

A request carries the series of all queries one after the other, as Prometheus gave them, numbers as text. Where there
are none it carries an empty list: null, which the framework's own agent sends, is refused by scorers that check.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlencode

import orjson

from hub.asking.question import NamedQuery, SourceQuestion

QUERY: Final = "/api/v1/query"
QUERY_RANGE: Final = "/api/v1/query_range"

Series = list[Any]


def query_url(source: SourceQuestion, query: NamedQuery, now: float) -> str:
    """`source.url`: the range endpoint. Start and end are whole seconds, as the framework sends them."""
    url = source.url
    end = int(now)
    if query.instant:
        if url.endswith(QUERY_RANGE):
            url = url.removesuffix(QUERY_RANGE) + QUERY
        params = {"query": query.promql, "time": str(end)}
    else:
        params = {
            "query": query.promql,
            "start": str(end - source.range),
            "end": str(end),
            "step": str(source.step),
        }
    return f"{url}{'&' if '?' in url else '?'}{urlencode(params)}"


def read_series(document: object) -> Series | str:
    """The series of Prometheus's answer, or what is wrong with it. An instant answer becomes series of one sample."""
    if not isinstance(document, Mapping) or document.get("status") != "success":
        error = document.get("error") if isinstance(document, Mapping) else None
        return f"Prometheus refuses: {str(error)[:200]}" if error else "the answer is not Prometheus's"
    data = document.get("data")
    result = data.get("result") if isinstance(data, Mapping) else None
    if result is None:
        # What a Go program makes of no series.
        return [] if isinstance(data, Mapping) and "result" in data else "the answer is not Prometheus's"
    return read_list(result, f"no matrix but {_kind(data)}: the query must give series")


def read_list(result: object, otherwise: str) -> Series | str:
    """Series as they are sent to scorers, each with labels and values; one with a single `value` becomes one of it.

    `otherwise`: what the answer is where it is no list of series.
    """
    if not isinstance(result, list) or not all(isinstance(series, dict) for series in result):
        return f"the answer is {otherwise}"
    if any("value" in series for series in result):
        result = [
            {"metric": series.get("metric") or {}, "values": [series["value"]]} if "value" in series else series
            for series in result
        ]
    if any(
        not isinstance(series.get("metric"), dict) or not isinstance(series.get("values"), list) for series in result
    ):
        return "the answer has series without labels or values"
    return result


def body(series: Sequence[Series], names: Sequence[str], protocol: int, cluster: str) -> bytes:
    """`series`: one list a name, in their order; empty for a scorer that needs no data."""
    sent: dict[str, Any] = {"data": [one for answer in series for one in answer]}
    if protocol >= 2:
        sent["named"] = dict(zip(names, series, strict=True))
        sent["cluster"] = cluster
    return orjson.dumps(sent)


def by_cluster(series: Sequence[Any], label: str) -> tuple[dict[str, Series], int]:
    """Series of one answer for the whole fleet by the cluster that they are about; how many name none."""
    found: dict[str, Series] = {}
    nameless = 0
    for one in series:
        cluster = one["metric"].get(label)
        if isinstance(cluster, str) and cluster:
            found.setdefault(cluster, []).append(one)
        else:
            nameless += 1
    return found, nameless


def _kind(data: Any) -> str:
    return str(data.get("resultType") or "something else")[:40]
