"""The only way in which this hub writes: through the patcher, and only while it leads.

Whether it leads is asked at the moment of sending, not when something was decided: a hub that was replaced while its
writes waited must not send them any more. What it would have written, its successor finds out for itself. What is on
its way already when another takes over carries its term, and is refused where it arrives.
"""

from __future__ import annotations

from collections.abc import Callable

from hub.api.errors import ApiError, NotFoundError
from hub.client.patcher import Create, Delete, JsonPatch, MergePatch, OnDone, OnError, Patcher, Write, WriteKey
from hub.controllers.fencing import in_term
from hub.controllers.metrics.writes import WriteMetrics

__all__ = ["Create", "Delete", "JsonPatch", "MergePatch", "Write", "WriteKey", "Writes"]

Desired = Callable[[], Write | None]


class Writes:
    """`submit` as the patcher's. Refusals are counted; "not found" is none: what was to be changed is gone.

    `term` is the hub's present one; it goes with every decision.
    """

    def __init__(
        self,
        patcher: Patcher,
        may_write: Callable[[], bool],
        metrics: WriteMetrics,
        term: Callable[[], int] = lambda: 0,
    ) -> None:
        self.patcher = patcher
        patcher.gate = self
        # Set at an orderly end: what waits for its time is written now.
        self.closing = False
        self._may_write = may_write
        self._metrics = metrics
        self._term = term

    @property
    def backlog(self) -> int:
        return self.patcher.backlog

    def submit(
        self,
        key: WriteKey,
        desired: Desired,
        *,
        delay: float = 0.0,
        on_done: OnDone | None = None,
        on_error: OnError | None = None,
    ) -> None:
        self.patcher.submit(key, desired, delay=delay, on_done=on_done, on_error=on_error)

    # The gate of the patcher.

    def ask(self, key: WriteKey, desired: Desired) -> Write | None:
        return in_term(key, desired(), self._term()) if self._may_write() else None

    def hears(self) -> bool:
        return self._may_write()

    def refused(self, key: WriteKey, error: Exception) -> None:
        if not isinstance(error, NotFoundError):
            self._metrics.failures.labels(key.resource.plural).inc()


def is_refusal(error: Exception) -> bool:
    """Whether the API answered, and said no."""
    return isinstance(error, ApiError)
