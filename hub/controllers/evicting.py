"""Slices that have to go are told so: one annotation of the ManifestWork, which is the decision (hub/jobs/eviction.py).

From the moment it is decided here until the API has answered, the slice counts as leaving, so that nobody is told
twice; but nothing is stopped before the record is there. What happens at the end of the notice is the fold's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hub.api.reasons import Reason
from hub.api.resource import MANIFEST_WORKS
from hub.client.interface import Object
from hub.controllers.logs import logger
from hub.controllers.metrics.jobs import EvictionMetrics
from hub.controllers.seen import SeenWork, read_work
from hub.controllers.table import JobEntry, JobTable
from hub.controllers.writes import JsonPatch, Write, WriteKey, Writes
from hub.jobs.attempt import Attempt, Eviction
from hub.jobs.eviction import eviction_patch
from hub.planner.plan import Preemption

_log = logger(__name__)


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a slice has to go: `reason` is of the table of reasons; `kind` and `by` are a preemption's. `notice`: seconds
    until it is stopped."""

    reason: Reason
    message: str
    notice: float = 0.0
    kind: str = ""
    by: str = ""


class Evicting:
    """`now` is epoch seconds; `on_told` hears of every decision once, before it is written."""

    def __init__(
        self,
        table: JobTable,
        writes: Writes,
        metrics: EvictionMetrics,
        now: Callable[[], float],
        on_told: Callable[[JobEntry, Attempt, Eviction], None] = lambda entry, attempt, eviction: None,
    ) -> None:
        self._table, self._writes, self._metrics, self._now = table, writes, metrics, now
        self._on_told = on_told

    def preempt(self, entry: JobEntry, preemption: Preemption, notice: float) -> bool:
        """False when the slice is not to be had any more."""
        attempts = entry.state.attempts if entry.state is not None else ()
        attempt = next((a for a in attempts if a.epoch == preemption.epoch), None)
        if attempt is None:
            return False
        if preemption.shrinks:
            # All of it is above the minimum of an elastic job: that is no preemption.
            message = Reason.ELASTIC_SHRINK.message(detail=preemption.message)
            return self.tell(entry, attempt, Cause(Reason.ELASTIC_SHRINK, message, notice, by=preemption.preemptor))
        message = Reason.PREEMPTED.message(detail=preemption.message)
        cause = Cause(Reason.PREEMPTED, message, notice, preemption.reason, preemption.preemptor)
        if not self.tell(entry, attempt, cause):
            return False
        self._metrics.preemptions.labels(attempt.queue, preemption.reason).inc()
        return True

    def tell(self, entry: JobEntry, attempt: Attempt, cause: Cause) -> bool:
        """Decides that it goes; False when it goes already or has ended."""
        if not attempt.live or attempt.eviction is not None or attempt.epoch in entry.evicting:
            return False
        now = self._now()
        # Where nothing runs yet, nobody needs time to end.
        notice = 0.0 if attempt.reserved else cause.notice
        eviction = Eviction(cause.reason.code, cause.message, now, now + notice, cause.kind, cause.by)
        entry.evicting[attempt.epoch] = eviction
        self._metrics.evictions.labels(attempt.queue, cause.reason.code).inc()
        _log.info(
            "a slice has to go", job=str(entry.ref), cluster=attempt.cluster, epoch=attempt.epoch,
            cause=cause.reason.code, kind=cause.kind, for_=cause.by, notice=f"{cause.notice:g}s", why=cause.message,
        )  # fmt: skip
        self._on_told(entry, attempt, eviction)
        self.carry_out(entry)
        return True

    def carry_out(self, entry: JobEntry) -> None:
        """Writes what is decided and not written. A work that is still being made is told once it is there."""
        for epoch in list(entry.evicting):
            if epoch in entry.assumed:
                continue
            work = next((w for w in entry.works.values() if w.epoch == epoch and w.attempt is not None), None)
            if work is None or not _open(work):
                del entry.evicting[epoch]
            else:
                self._submit(entry, work, entry.evicting[epoch])

    def _submit(self, entry: JobEntry, work: SeenWork, eviction: Eviction) -> None:
        def desired() -> Write | None:
            current = entry.works.get(work.key)
            if current is None or not _open(current) or entry.evicting.get(work.epoch) is not eviction:
                return None
            return JsonPatch(eviction_patch(work.uid, eviction))

        def done(answer: Object | None) -> None:
            entry.evicting.pop(work.epoch, None)
            seen = read_work(answer) if answer is not None else None
            if seen is not None:
                self._table.work_seen(seen)
            self._table.mark(entry.uid)

        def failed(_key: WriteKey, error: Exception) -> None:
            # Nothing was decided, then: whoever needs it decides again.
            entry.evicting.pop(work.epoch, None)
            _log.warning("a slice could not be told to go", job=str(entry.ref), work=work.name, why=str(error))
            self._table.mark(entry.uid)

        self._writes.submit(WriteKey(MANIFEST_WORKS, work.cluster, work.name), desired, on_done=done, on_error=failed)


def _open(work: SeenWork) -> bool:
    return not work.deleting and work.attempt is not None and work.attempt.live and work.attempt.eviction is None
