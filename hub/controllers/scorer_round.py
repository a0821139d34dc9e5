"""One asking of a scorer about some clusters: their data from where it is, then their scores. It never raises.

Secrets, and answers that are for the whole fleet, are fetched once a round. When a round comes, and when it is given
up, is hub/controllers/scorer_runner.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from hub.api.reasons import Reason
from hub.asking.access import Access
from hub.asking.answer import ScorerAnswer
from hub.asking.ask import Asker, Observer
from hub.asking.http import ScorerHttp, place
from hub.asking.question import Question
from hub.asking.request import Series, by_cluster
from hub.asking.secrets import ScorerSecrets
from hub.asking.trouble import ScorerTrouble
from hub.client.interface import KubeApi
from hub.placement.scorer_targets import Route, question
from hub.scoring.dynamic.document import ScorerDocument
from hub.scoring.dynamic.plan import ScorerPlan

_ENOUGH_FAILURES: Final = 5
"""A scorer that failed so often in a row is not asked about the rest of its clusters this time."""


OfCluster = Callable[[str], list[Series]]
Pushed = Callable[[str, Sequence[str], int], list[Series]]


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
    access: Access = field(default_factory=Access)
    # What was pushed of a cluster, the named metrics of so many seconds: a list of series a metric.
    pushed: Pushed = lambda cluster, metrics, seconds: [[] for _ in metrics]
    # Instead of a source: what it once said of a cluster, a list of series a query.
    recorded: Callable[[str], list[Series]] | None = None


class ScorerRound:
    """One asking about some clusters. Secrets and answers for the whole fleet are fetched once in it."""

    def __init__(self, asks: Asks, assignment: Assignment, batch: Sequence[str]) -> None:
        self._asks, self._plan, self._routes = asks, assignment.plan, assignment.routes
        secrets = ScorerSecrets(asks.api, asks.namespace)
        self._asker = Asker(asks.http, secrets, asks.access, asks.observe, asks.clock())
        # What one answer for the whole fleet says of each cluster.
        self._shared: dict[Route, asyncio.Task[OfCluster]] = {}
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
        asked = question(self._plan, self._routes[cluster], cluster)
        return await self._asker.score(asked, await self._data(asked, cluster), cluster)

    # Data.

    async def _data(self, asked: Question, cluster: str) -> list[Series]:
        """A list of series a name of the source."""
        source, route = asked.source, self._routes[cluster]
        if self._asks.recorded is not None and source.kind != "None":
            return self._asks.recorded(cluster)
        if source.kind == "Pushed":
            return self._asks.pushed(cluster, source.metrics, source.range)
        if route.own or source.kind not in ("Prometheus", "HttpJson"):
            return await self._asker.data(asked, cluster)
        key = Route(route.source, route.source_token, "", None, False)
        task = self._shared.get(key)
        if task is None:
            everybody = question(self._plan, route, "")
            ask = self._queries(everybody) if source.kind == "Prometheus" else self._documents(everybody)
            task = self._shared[key] = asyncio.create_task(ask)
        # Who gives up waiting must not end it for the others.
        return (await asyncio.shield(task))(cluster)

    async def _queries(self, asked: Question) -> OfCluster:
        label, url = self._plan.policy.cluster_label, asked.source.url
        answers = [by_cluster(await self._asker.query(asked, query), label) for query in asked.source.queries]

        def of(cluster: str) -> list[Series]:
            if not any(found for found, _ in answers) and (nameless := sum(count for _, count in answers)):
                raise ScorerTrouble(
                    Reason.SCORE_SOURCE_FAILED,
                    f"{nameless} series of {place(url)} without label {label}: aggregate by ({label}), write "
                    "${cluster} in the query or the host, or give each cluster a source in a ScorerPolicy",
                )
            return [found.get(cluster, []) for found, _ in answers]

        return of

    async def _documents(self, asked: Question) -> OfCluster:
        document, url = await self._asker.document(asked, ""), asked.source.url
        return lambda cluster: [document.of(cluster, url)]
