"""What is sent: the query of Prometheus, and the body that a scorer gets. Byte for byte as the framework has them.

A request carries the series of all queries one after the other, as Prometheus gave them, numbers as text. Where there
are none it carries an empty list: null, which the framework's own agent sends, is refused by scorers that check.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlencode

import orjson

from hub.scoring.dynamic.plan import QUERY_RANGE, SourcePlan
from hub.scoring.dynamic.policy import NamedQuery
from hub.scoring.source import CLUSTER

QUERY: Final = "/api/v1/query"

Series = list[Any]


def query_url(source: SourcePlan, query: NamedQuery, url: str, now: float, cluster: str = "") -> str:
    """`url`: host and path of the range endpoint. Start and end are whole seconds, as the framework sends them."""
    # A cluster's name is a DNS label: nothing in it needs quoting in PromQL.
    promql = query.promql.replace(CLUSTER, cluster) if cluster else query.promql
    end = int(now)
    if query.instant:
        if url.endswith(QUERY_RANGE):
            url = url.removesuffix(QUERY_RANGE) + QUERY
        params = {"query": promql, "time": str(end)}
    else:
        params = {
            "query": promql,
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
    if not isinstance(result, list) or not all(isinstance(series, dict) for series in result):
        return f"the answer is no matrix but {_kind(data)}: the query must give series"
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


def body(series: Sequence[Series], queries: Sequence[NamedQuery], protocol: int, cluster: str) -> bytes:
    """`series`: one list a query, in their order; empty for a scorer that needs no data."""
    sent: dict[str, Any] = {"data": [one for answer in series for one in answer]}
    if protocol >= 2:
        sent["named"] = {
            query.name or str(position): answer
            for position, (query, answer) in enumerate(zip(queries, series, strict=True))
        }
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
