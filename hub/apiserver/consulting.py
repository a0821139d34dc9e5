"""Runs writes that webhooks may have a say in: at once where none is meant, beside the loop where one is.

What is asked, and how often, is consultation.py's business; how a webhook is called, webhook_calls.py's.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from dataclasses import replace
from typing import Any

from hub.api.errors import ApiError, StorageError
from hub.apiserver.auth import User
from hub.apiserver.consultation import Consultation, NeedsReviewError, Question
from hub.apiserver.http import Answer, Exchange
from hub.apiserver.kinds import ServedKind
from hub.apiserver.logical import LogicalCluster
from hub.apiserver.plane import ControlPlane
from hub.apiserver.record import Record
from hub.apiserver.status import dump_status, failure, storage_refused
from hub.apiserver.written import Options, Written

Write = Callable[[Options], Written]


class Consulting:
    """Of one request of `user`, which `exchange` answers."""

    def __init__(self, plane: ControlPlane, cluster: LogicalCluster, user: User, exchange: Exchange) -> None:
        self._plane = plane
        self._cluster = cluster
        self._user = user
        self._exchange = exchange

    def write(self, write: Write, answer: Callable[[Written], None], options: Options, *, dry_run: bool) -> None:
        """Runs `write`, now or later, then `answer`. What `write` raises is raised, or answered if it comes later."""
        index = self._cluster.webhooks
        if index is None or index.empty:
            answer(write(options))
            return
        options = replace(options, consultation=Consultation(index))
        try:
            written = write(options)
        except NeedsReviewError as needed:
            self._later(self._consult(write, answer, options, needed.question, dry_run or options.dry_run))
            return
        answer(written)

    def remove(self, kind: ServedKind, records: Iterable[Record], remove: Callable[[], None], *, dry_run: bool) -> None:
        """Runs `remove` once all agree that each of `records` goes."""
        index = self._cluster.webhooks
        if index is None or index.empty:
            remove()
            return

        async def agreed() -> None:
            for record in records:
                obj = kind.from_storage(record.load())
                try:
                    Consultation(index).validated("DELETE", kind, None, obj, "")
                except NeedsReviewError as needed:
                    await self._ask(needed.question, dry_run, [])
            remove()

        self._later(agreed())

    async def _consult(
        self, write: Write, answer: Callable[[Written], None], options: Options, question: Question, dry_run: bool
    ) -> None:
        warnings: list[str] = []
        consultation = options.consultation
        assert consultation is not None
        while True:
            consultation.answered(question, await self._ask(question, dry_run, warnings))
            try:
                written = write(options)
            except NeedsReviewError as needed:
                question = needed.question
                if consultation.exhausted:
                    why = "the object changes faster than its webhooks answer; please try again"
                    raise failure(409, "Conflict", why) from None
                continue
            written.warnings += warnings
            answer(written)
            return

    async def _ask(self, question: Question, dry_run: bool, warnings: list[str]) -> dict[str, Any] | None:
        calls = self._plane.calls
        return await calls.ask(self._cluster, self._user, question, dry_run=dry_run, warnings=warnings)

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        async def run() -> None:
            try:
                await work
            except ApiError as error:
                self._refuse(error)
            except StorageError as error:
                self._refuse(storage_refused(error))
            except Exception:
                self._exchange.connection.failed(self._exchange)

        self._plane.run(run())

    def _refuse(self, error: ApiError) -> None:
        self._plane.metrics.requests[self._exchange.method, error.code] += 1
        self._exchange.answer(Answer(error.code, dump_status(error.status)))
