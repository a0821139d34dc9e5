"""Asking one question about one cluster: its data, then its scores. Every failure is a `ScorerTrouble`.

The hub asks so about each cluster of a round (hub/controllers/scorer_round.py), an agent about its own
(agent/scoring). Secrets are those of one asking: made anew, they are read anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from hub.api.reasons import Reason
from hub.asking.access import Access, SourceError
from hub.asking.answer import ScorerAnswer, read_answer
from hub.asking.document import document_series
from hub.asking.http import LARGEST_SERIES, ScorerHttp, place
from hub.asking.program import run_program
from hub.asking.question import NamedQuery, Question
from hub.asking.request import Series, body, query_url, read_series
from hub.asking.secrets import ScorerSecrets
from hub.asking.trouble import ScorerTrouble

_T = TypeVar("_T")


class Observer(Protocol):
    """How long one step (config, source, scoring) took, and what was wrong with it."""

    def __call__(self, step: str, seconds: float, trouble: ScorerTrouble | None) -> None: ...


@dataclass(frozen=True, slots=True)
class Document:
    """A JSON document taken apart: series and complaints by cluster, and what is wrong with all of it."""

    series: dict[str, Series]
    problems: dict[str, str]
    problem: str

    def of(self, cluster: str, url: str) -> Series:
        """Raises `ScorerTrouble` where the document holds nothing that could be used, but should."""
        said = self.problem or ("" if self.series.get(cluster) else self.problems.get(cluster, ""))
        if said:
            raise ScorerTrouble(Reason.SCORE_SOURCE_FAILED, f"{place(url)}: {said}")
        return self.series.get(cluster, [])


@dataclass(frozen=True, slots=True)
class Asker:
    """`now`: epoch seconds, for queries and for values without a time of their own."""

    http: ScorerHttp
    secrets: ScorerSecrets
    access: Access
    observe: Observer
    now: float

    async def data(self, question: Question, cluster: str) -> list[Series]:
        """A list of series a name of the source. Raises `ScorerTrouble`."""
        source = question.source
        if source.kind == "Prometheus":
            return [await self.query(question, query) for query in source.queries]
        if source.kind == "HttpJson":
            return [(await self.document(question, cluster)).of(cluster, source.url)]
        if source.kind == "Static":
            return [[] if source.value is None else [_sample(cluster, self.now, source.value)]]
        if source.kind == "Program":
            return [await self._timed(lambda: self._program(question, cluster))]
        return []

    async def score(self, question: Question, series: list[Series], cluster: str) -> ScorerAnswer:
        """Raises `ScorerTrouble`."""
        token = await self.secrets.token(question.token)
        tls = await self.secrets.certificates(question.tls)
        sent = body(series, question.source.names, question.protocol, cluster)
        loop = asyncio.get_running_loop()
        began, trouble = loop.time(), None
        try:
            reply = await self.http.post(question.url, sent, question.timeout, token=token, tls=tls, cluster=cluster)
            who = place(question.url)
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
            self.observe("scoring", loop.time() - began, trouble)

    async def query(self, question: Question, query: NamedQuery) -> Series:
        """What Prometheus answers to one query. Raises `ScorerTrouble`."""
        url = query_url(question.source, query, self.now)

        async def ask() -> Series:
            reply = await self._get(question, url, (200, 400, 422, 503))
            series = read_series(reply)
            if isinstance(series, str):
                raise ScorerTrouble(Reason.SCORE_SOURCE_FAILED, f"{place(url)}: {series}")
            return series

        return await self._timed(ask)

    async def document(self, question: Question, cluster: str) -> Document:
        """Of all clusters, unless the question is about one alone. Raises `ScorerTrouble`."""
        source = question.source

        async def ask() -> Document:
            found = await self._get(question, source.url, (200,))
            only = cluster if source.single else ""
            return Document(*document_series(found, source.fields, self.now, source.max_age, only))

        return await self._timed(ask)

    async def _get(self, question: Question, url: str, statuses: tuple[int, ...]) -> object:
        token = await self.secrets.token(question.source.token)
        tls = await self.secrets.certificates(question.tls)
        reply = await self.http.get(url, question.timeout, token=token, tls=tls, most=LARGEST_SERIES)
        if reply.status not in statuses:
            raise ScorerTrouble(Reason.SCORE_SOURCE_FAILED, f"{place(url)} answers {reply.status}")
        found: object = reply.json(place(url))
        return found

    async def _program(self, question: Question, cluster: str) -> Series:
        name = question.source.program
        try:
            command = self.access.command(name)
        except SourceError as error:
            raise ScorerTrouble(Reason.SCORER_NOT_ALLOWED, str(error)) from error
        return await run_program(name, command, cluster, question.timeout, self.now)

    async def _timed(self, ask: Callable[[], Awaitable[_T]]) -> _T:
        """What fails is the source's, not the scorer's: of other clusters it may know more."""
        loop = asyncio.get_running_loop()
        began, trouble = loop.time(), None
        try:
            return await ask()
        except ScorerTrouble as error:
            reason = error.reason
            if reason not in (Reason.SCORER_SECRET_MISSING, Reason.SCORER_NOT_ALLOWED):
                reason = Reason.SCORE_SOURCE_FAILED
            trouble = ScorerTrouble(reason, error.detail)
            raise trouble from error
        finally:
            self.observe("source", loop.time() - began, trouble)


def _sample(cluster: str, now: float, value: float) -> dict[str, object]:
    return {"metric": {"cluster": cluster}, "values": [[now, repr(value)]]}


def _first_words(answer: bytes) -> str:
    text = " ".join(answer[:200].decode("utf-8", "replace").split())
    return f": {text}" if text else ""
