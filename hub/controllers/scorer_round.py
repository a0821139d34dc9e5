"""One asking of a scorer about some clusters: their data from Prometheus, then their scores. It never raises.

Secrets, and answers that are for the whole fleet, are fetched once a round. When a round comes, and when it is given
up, is hub/controllers/scorer_runner.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from hub.api.reasons import Reason
from hub.client.interface import KubeApi
from hub.controllers.scorer_http import LARGEST_SERIES, Certificates, ScorerHttp, place
from hub.controllers.scorer_secrets import ScorerSecrets
from hub.placement.scorer_targets import Route
from hub.scoring.dynamic.answer import ScorerAnswer, read_answer
from hub.scoring.dynamic.document import ScorerDocument
from hub.scoring.dynamic.plan import ScorerPlan
from hub.scoring.dynamic.request import Series, body, by_cluster, query_url, read_series
from hub.scoring.dynamic.trouble import ScorerTrouble

_ENOUGH_FAILURES: Final = 5
"""A scorer that failed so often in a row is not asked about the rest of its clusters this time."""


class Observer(Protocol):
    """How long one step (config, source, scoring) took, and what was wrong with it."""

    def __call__(self, step: str, seconds: float, trouble: ScorerTrouble | None) -> None: ...


@dataclass(frozen=True, slots=True)
class Assignment:
    """What to ask whom, and about which clusters. `routes` by cluster; equal assignments ask the same."""

    plan: ScorerPlan
    routes: Mapping[str, Route]


class Reports(Protocol):
    """What a runner says of its scorer, in the loop."""

    def synced(self, document: ScorerDocument | None, trouble: ScorerTrouble | None) -> None:
        """`document` None in mode None. With a `trouble` the scorer is not healthy."""
        ...

    def answered(self, cluster: str, plan: ScorerPlan, outcome: ScorerAnswer | ScorerTrouble) -> None: ...


@dataclass(frozen=True, slots=True)
class Asks:
    """With what a scorer is asked, and who is told. `clock`: epoch seconds, for queries."""

    api: KubeApi
    namespace: str
    http: ScorerHttp
    reports: Reports
    observe: Observer
    clock: Callable[[], float]
    # Instead of Prometheus: what it once said of a cluster, a list of series a query.
    recorded: Callable[[str], list[Series]] | None = None


class ScorerRound:
    """One asking about some clusters. Secrets and answers for the whole fleet are fetched once in it."""

    def __init__(self, asks: Asks, assignment: Assignment, batch: Sequence[str]) -> None:
        self._asks, self._plan, self._routes = asks, assignment.plan, assignment.routes
        self._secrets = ScorerSecrets(asks.api, asks.namespace)
        self._now = asks.clock()
        self._shared: dict[Route, asyncio.Task[list[tuple[dict[str, Series], int]]]] = {}
        self._left = list(batch)
        # Each cluster's scorer is another: one that fails says nothing of the others.
        self._apart = len({route.scoring for route in assignment.routes.values()}) == len(assignment.routes) > 1
        self._in_a_row = 0
        self._last: ScorerTrouble | None = None
        self.answers = 0
        # Clusters that had trouble which was not the scorer's.
        self.troubled: set[str] = set()

    @property
    def broken(self) -> bool:
        """Whether the scorer itself, not a cluster's Prometheus, is what fails."""
        return self._last is not None and self.answers == 0

    async def ask(self, lane: asyncio.Semaphore) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                for cluster in tuple(self._left):
                    await lane.acquire()
                    if self._in_a_row >= _ENOUGH_FAILURES and not self._apart:
                        lane.release()
                        return
                    tasks.create_task(self._one(cluster, lane))
        finally:
            for task in self._shared.values():
                if not task.done():
                    task.cancel()

    def give_up(self) -> None:
        """Says of everybody who was not asked why not."""
        assert self._last is not None
        for cluster in self._left:
            self._asks.reports.answered(cluster, self._plan, self._last)

    async def _one(self, cluster: str, lane: asyncio.Semaphore) -> None:
        outcome: ScorerAnswer | ScorerTrouble
        try:
            outcome = await self._score(cluster)
        except ScorerTrouble as error:
            outcome = error
        finally:
            lane.release()
        self._left.remove(cluster)
        if isinstance(outcome, ScorerTrouble) and outcome.endpoint:
            self._in_a_row += 1
            self._last = outcome
        else:
            self._in_a_row = 0
            self.answers += 1
            if isinstance(outcome, ScorerTrouble):
                self.troubled.add(cluster)
        self._asks.reports.answered(cluster, self._plan, outcome)

    async def _score(self, cluster: str) -> ScorerAnswer:
        plan, route, http = self._plan, self._routes[cluster], self._asks.http
        token = await self._secrets.token(route.token)
        tls = await self._secrets.certificates(plan.policy.tls)
        series = await self._data(cluster, route)
        sent = body(series, plan.source.queries, plan.protocol, cluster)
        loop = asyncio.get_running_loop()
        began, trouble = loop.time(), None
        try:
            reply = await http.post(route.scoring, sent, plan.timeout, token=token, tls=tls, cluster=cluster)
            who = place(route.scoring)
            if reply.status >= 500:
                raise ScorerTrouble(Reason.SCORER_FAILED, f"{who} answers {reply.status}", endpoint=True)
            if reply.status != 200:
                detail = f"{who} answers {reply.status}{_first_words(reply.body)}"
                raise ScorerTrouble(Reason.SCORER_REQUEST_REFUSED, detail)
            return read_answer(reply.json(who))
        except ScorerTrouble as error:
            trouble = error
            raise
        finally:
            self._asks.observe("scoring", loop.time() - began, trouble)

    # Data.

    async def _data(self, cluster: str, route: Route) -> list[Series]:
        """A list of series a query."""
        if not self._plan.source.queries:
            return []
        if self._asks.recorded is not None:
            return self._asks.recorded(cluster)
        if route.own:
            return [await self._query(route, position, cluster) for position in range(len(self._plan.source.queries))]
        key = Route(route.source, route.source_token, "", None, False)
        task = self._shared.get(key)
        if task is None:
            task = self._shared[key] = asyncio.create_task(self._for_everybody(route))
        # Who gives up waiting must not end it for the others.
        answers = await asyncio.shield(task)
        if not any(found for found, _ in answers) and (nameless := sum(count for _, count in answers)):
            label = self._plan.policy.cluster_label
            raise ScorerTrouble(
                Reason.SCORE_SOURCE_FAILED,
                f"{nameless} series of {place(route.source)} without label {label}: aggregate by ({label}), write "
                "${cluster} in the query or the host, or give each cluster a source in a ScorerPolicy",
            )
        return [found.get(cluster, []) for found, _ in answers]

    async def _for_everybody(self, route: Route) -> list[tuple[dict[str, Series], int]]:
        label = self._plan.policy.cluster_label
        return [
            by_cluster(await self._query(route, position, ""), label)
            for position in range(len(self._plan.source.queries))
        ]

    async def _query(self, route: Route, position: int, cluster: str) -> Series:
        plan = self._plan
        url = query_url(plan.source, plan.source.queries[position], route.source, self._now, cluster)
        loop = asyncio.get_running_loop()
        began, trouble = loop.time(), None
        try:
            token = await self._secrets.token(route.source_token)
            tls: Certificates | None = await self._secrets.certificates(plan.policy.tls)
            reply = await self._asks.http.get(url, plan.timeout, token=token, tls=tls, most=LARGEST_SERIES)
            if reply.status not in (200, 400, 422, 503):
                raise ScorerTrouble(Reason.SCORE_SOURCE_FAILED, f"{place(url)} answers {reply.status}")
            series = read_series(reply.json(place(url)))
            if isinstance(series, str):
                raise ScorerTrouble(Reason.SCORE_SOURCE_FAILED, f"{place(url)}: {series}")
            return series
        except ScorerTrouble as error:
            reason = error.reason
            if reason not in (Reason.SCORER_SECRET_MISSING, Reason.SCORER_NOT_ALLOWED):
                reason = Reason.SCORE_SOURCE_FAILED
            # Prometheus is not the scorer: of other clusters it may know more.
            trouble = ScorerTrouble(reason, error.detail)
            raise trouble from error
        finally:
            self._asks.observe("source", loop.time() - began, trouble)


def _first_words(answer: bytes) -> str:
    text = " ".join(answer[:200].decode("utf-8", "replace").split())
    return f": {text}" if text else ""
