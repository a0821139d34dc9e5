"""How score sources are asked: Prometheus by its known client, JSON documents by requests. Blocking, from any thread.

The hub asks only hosts that its configuration allows, follows no redirect (which could lead elsewhere), reads no more
than `_LARGEST` bytes and no longer than a source's timeout. Tokens are read from their files at every request, so
rotating one needs no restart; they are sent to the hosts they are for, and never shown.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote, urlsplit

from hub.asking.access import Access, SourceError
from hub.asking.question import CLUSTER
from hub.controllers.asking import cause
from hub.scoring.answer import Answer, read_document, read_single, read_vector, together
from hub.scoring.forecast import ForecastSpec, read_matrix
from hub.scoring.source import SourceQuery

_LARGEST: Final = 32 << 20
_AT_ONCE: Final = 8
_ENOUGH_FAILURES: Final = 5
"""A source with one address that failed so often in a row is not asked about the rest of its clusters this time."""


class SourceClients:
    """Called with a source's name and question. `clusters(name)`: which clusters that source is about."""

    def __init__(
        self,
        prometheus: str,
        access: Access,
        *,
        clusters: Callable[[str], Sequence[str]],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._prometheus, self._access = prometheus.rstrip("/"), access
        self._clusters, self._clock = clusters, clock
        self._local = threading.local()

    def __call__(self, name: str, query: SourceQuery) -> Answer:
        if not query.per_cluster:
            return self._one(query, "")
        if query.promql and not query.url and not self._prometheus:
            raise SourceError(_NO_PROMETHEUS)
        return self._each(query, self._clusters(name))

    def vector(self, promql: str, timeout: float) -> object:
        """What the hub's own Prometheus answers. Raises `SourceError`, and what its client raises."""
        if not self._prometheus:
            raise SourceError(_NO_PROMETHEUS)
        return self._query(self._prometheus, promql, timeout)

    def _each(self, query: SourceQuery, clusters: Sequence[str]) -> Answer:
        """One request a cluster, some at once; a cluster whose request fails is a complaint, not the end."""
        answers: list[Answer] = []
        left = iter(clusters)
        lock = threading.Lock()
        failed = 0

        def work() -> None:
            nonlocal failed
            while True:
                with lock:
                    cluster = next(left, None)
                    if cluster is None or (failed >= _ENOUGH_FAILURES and CLUSTER not in query.url):
                        return
                try:
                    answer = self._one(query, cluster)
                except Exception as error:
                    answer = Answer({}, (f"{cluster}: {cause(error)}",))
                with lock:
                    failed = 0 if answer.values else failed + 1
                    answers.append(answer)

        threads = [threading.Thread(target=work, daemon=True) for _ in range(min(_AT_ONCE, len(clusters)))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return together(answers)

    def _one(self, query: SourceQuery, cluster: str) -> Answer:
        url = query.url.replace(CLUSTER, quote(cluster, safe="")) if cluster else query.url
        if query.promql:
            url = url or self._prometheus
            if not url:
                raise SourceError(_NO_PROMETHEUS)
            # A cluster's name is a DNS label: nothing in it needs quoting in PromQL.
            promql = query.promql.replace(CLUSTER, cluster)
            if query.forecast is not None:
                return self._forecast(url, promql, query, query.forecast, cluster)
            result = self._query(url, promql, query.timeout)
            if cluster:
                return read_single(result, cluster, query.aggregation, self._clock())
            return read_vector(result, query.cluster_label, query.aggregation, self._clock())
        assert query.fields is not None
        document = self._get(url, query.timeout)
        return read_document(document, query.fields, query.aggregation, self._clock(), query.valid_for, only=cluster)

    def _forecast(self, url: str, promql: str, query: SourceQuery, spec: ForecastSpec, cluster: str) -> Answer:
        """Asked for times that are steps of the clock, so that a Prometheus with a cache can use it."""
        now = self._clock() // spec.step * spec.step
        connect = self._connection(url)
        connect.headers = self._headers(url)
        result = connect.custom_query_range(
            promql,
            start_time=datetime.fromtimestamp(now - (spec.points - 1) * spec.step, UTC),
            end_time=datetime.fromtimestamp(now, UTC),
            step=f"{spec.step:g}",
            timeout=query.timeout,
        )
        answer, quality = read_matrix(result, query.cluster_label, spec, now, only=cluster)
        return replace(answer, quality=quality)

    def _query(self, url: str, promql: str, timeout: float) -> object:
        connect = self._connection(url)
        connect.headers = self._headers(url)
        return connect.custom_query(promql, timeout=timeout)

    def _get(self, url: str, timeout: float) -> object:
        import orjson

        deadline = time.monotonic() + timeout
        headers = {"Accept": "application/json", **(self._headers(url) or {})}
        with self._session().get(url, timeout=timeout, stream=True, headers=headers) as response:
            if response.status_code != 200:
                raise SourceError(f"{urlsplit(url).hostname} answers {response.status_code}{_elsewhere(response)}")
            body = bytearray()
            for part in response.iter_content(1 << 16):
                body += part
                if len(body) > _LARGEST:
                    raise SourceError(f"the answer has more than {_LARGEST >> 20} MiB")
                if time.monotonic() > deadline:
                    raise SourceError("no answer in time")
        return orjson.loads(bytes(body))

    def _headers(self, url: str) -> dict[str, str] | None:
        if url != self._prometheus:
            self._access.check(url)
        token = self._access.token(url)
        return {"Authorization": f"Bearer {token}"} if token else None

    def _session(self) -> Any:
        """One a thread: requests' sessions are not made to be shared."""
        session = getattr(self._local, "session", None)
        if session is None:
            # Imported in the thread: half a second that nobody waits for.
            import requests

            class Direct(requests.Session):
                def get_redirect_target(self, resp: Any) -> None:
                    return None

            session = self._local.session = Direct()
            session.trust_env = False
            self._local.connections = {}
        return session

    def _connection(self, url: str) -> Any:
        session = self._session()
        connections: dict[str, Any] = self._local.connections
        found = connections.get(url)
        if found is None:
            from prometheus_api_client import PrometheusConnect
            from urllib3.util.retry import Retry

            if len(connections) > 1024:
                connections.clear()
            found = PrometheusConnect(url, session=session, retry=Retry(total=0), method="POST")
            connections[url] = found
        return found


_NO_PROMETHEUS: Final = "the hub knows no Prometheus: set prometheus.url in its configuration, or spec.prometheusURL"


def _elsewhere(response: Any) -> str:
    target = response.headers.get("Location")
    return f" and leads to {target[:100]}, which is not followed: write the address that answers" if target else ""
