"""A write that webhooks have a say in: it is tried, stops where somebody has to be asked, and is tried again.

What decides about a write never waits, so that nothing can change under it. So a write that has to ask raises
`NeedsReviewError`; whoever runs it asks, tells the `Consultation` the answer, and runs it anew. An answer is good for
the object that it was given about: where that has changed meanwhile, it is asked again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

from hub.apiserver.kinds import ServedKind
from hub.apiserver.webhook_index import MUTATING, VALIDATING, Hook, WebhookIndex

Object = dict[str, Any]
Operation = Literal["CREATE", "UPDATE", "DELETE"]
_ROUNDS: Final = 8


@dataclass(slots=True)
class Question:
    """One write as webhooks see it. `obj` None: it is deleted. `complete` prunes and defaults what a webhook made."""

    plural: str
    hooks: list[tuple[Hook, ServedKind]]
    operation: Operation
    kind: ServedKind
    obj: Object | None
    old: Object | None
    subresource: str
    complete: Callable[[Object], Object]


class NeedsReviewError(Exception):
    def __init__(self, question: Question) -> None:
        super().__init__(question.operation)
        self.question = question


class Consultation:
    """Of one request."""

    def __init__(self, index: WebhookIndex) -> None:
        self._index = index
        # By what was asked: the version that it was asked about, and the answer.
        self._answers: dict[str, tuple[str, Object | None]] = {}
        self.rounds = 0

    @property
    def exhausted(self) -> bool:
        return self.rounds >= _ROUNDS

    def answered(self, question: Question, obj: Object | None) -> None:
        self._answers[question.plural] = (_version(question.old), obj)
        self.rounds += 1

    def mutated(
        self,
        operation: Operation,
        kind: ServedKind,
        obj: Object,
        old: Object | None,
        subresource: str,
        complete: Callable[[Object], Object],
    ) -> Object:
        """What mutating webhooks make of `obj`. Raises `NeedsReviewError`."""
        found = self._answer(MUTATING, operation, kind, obj, old, subresource, complete)
        return obj if found is None else found

    def validated(
        self, operation: Operation, kind: ServedKind, obj: Object | None, old: Object | None, subresource: str
    ) -> None:
        """Returns once every validating webhook has agreed. Raises `NeedsReviewError`."""
        self._answer(VALIDATING, operation, kind, obj, old, subresource, lambda made: made)

    def _answer(
        self,
        plural: str,
        operation: Operation,
        kind: ServedKind,
        obj: Object | None,
        old: Object | None,
        subresource: str,
        complete: Callable[[Object], Object],
    ) -> Object | None:
        known = self._answers.get(plural)
        if known is not None and known[0] == _version(old):
            return known[1]
        hooks = self._index.of(plural, operation, kind, subresource, obj, old)
        if not hooks:
            return None
        raise NeedsReviewError(Question(plural, hooks, operation, kind, obj, old, subresource, complete))


def _version(old: Object | None) -> str:
    return "" if old is None else str(old["metadata"].get("resourceVersion") or "")
