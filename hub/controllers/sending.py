"""One work on its way to the API: what is sent, what is done with the answer, and what a refusal costs its job."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import orjson

from hub.api.errors import AlreadyExistsError
from hub.api.reasons import Reason
from hub.api.resource import MANIFEST_WORKS
from hub.client.interface import Object
from hub.controllers.logs import logger
from hub.controllers.seen import kept, read_work
from hub.controllers.table import JobEntry, JobTable
from hub.controllers.writes import Create, Write, WriteKey, Writes
from hub.planner.plan import Refusal

Json = dict[str, Any]
_log = logger(__name__)
_PAUSE: Final = (1.0, 2.0, 5.0, 15.0, 60.0)
"""Seconds before a job whose work was refused is placed again, by how often that happened."""
_LOOK_AGAIN: Final = 1.0
_NAME_TAKEN: Final = 10.0


class Sending:
    """`job` is the planner's key of its job, `clock` the loop's.

    A class, not closures that know one another: what knows itself is freed only when somebody collects garbage, and it
    holds the work.
    """

    __slots__ = ("_clock", "_entry", "_epoch", "_give_up", "_job", "_key", "_table", "_text", "_writes")

    def __init__(
        self,
        table: JobTable,
        writes: Writes,
        clock: Callable[[], float],
        entry: JobEntry,
        epoch: int,
        work: Json,
        job: str,
    ) -> None:
        self._table, self._writes, self._clock = table, writes, clock
        self._entry, self._epoch, self._job = entry, epoch, job
        self._key = WriteKey(MANIFEST_WORKS, work["metadata"]["namespace"], work["metadata"]["name"])
        # Thousands may be on their way at once, and as objects each is as large as ten as text.
        self._text = kept(work)
        self._give_up = clock() + _NAME_TAKEN

    def submit(self, delay: float = 0.0) -> None:
        self._writes.submit(self._key, self._desired, delay=delay, on_done=self._done, on_error=self._failed)

    def _desired(self) -> Write | None:
        # Cancelled, deleted or placed elsewhere meanwhile.
        entry, wanted = self._entry, self._epoch in self._entry.assumed and self._entry.seen is not None
        if not wanted:
            entry.assumed.pop(self._epoch, None)
        return Create(orjson.loads(self._text)) if wanted else None

    def _done(self, answer: Object | None) -> None:
        self._entry.pauses = 0
        self._entry.trouble = None
        take(self._table, answer)

    def _failed(self, key: WriteKey, error: Exception) -> None:
        if isinstance(error, AlreadyExistsError) and self._clock() < self._give_up:
            # Our own, from an answer that got lost: the watch brings it. If not, somebody else has the name.
            self.submit(_LOOK_AGAIN)
            return
        entry, cluster = self._entry, key.namespace or ""
        entry.assumed.pop(self._epoch, None)
        pause = _PAUSE[min(entry.pauses, len(_PAUSE) - 1)]
        entry.pauses += 1
        entry.pause_until = self._clock() + pause
        entry.trouble = Refusal(self._job, Reason.WORK_REFUSED, (("cluster", cluster), ("detail", str(error))))
        _log.warning(
            "the hub's API refuses a work; the job is placed again later",
            job=str(entry.ref), cluster=cluster, epoch=self._epoch, why=str(error), pause=f"{pause:g}s",
        )  # fmt: skip
        self._table.mark(entry.uid)


def take(table: JobTable, answer: Object | None) -> None:
    """What the API answered to a write of a work is known from then on."""
    if answer is None:
        return
    metadata = answer["metadata"]
    if metadata.get("deletionTimestamp") and not metadata.get("finalizers"):
        table.work_gone(metadata["namespace"], metadata["name"], metadata["uid"])
        return
    work = read_work(answer)
    if work is not None:
        table.work_seen(work)
