"""Slices of elastic jobs are made larger or smaller: one patch of the ManifestWork, which is the decision.

As with evictions (hub/controllers/evicting.py) what is decided here counts at once: more slots are charged from that
moment, fewer only when what ran on them has stopped. Who gets how many is the plan's; stopping tasks is the agent's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from hub.api.reasons import Reason
from hub.api.resource import MANIFEST_WORKS
from hub.client.interface import Object
from hub.controllers.logs import logger
from hub.controllers.metrics.jobs import EvictionMetrics
from hub.controllers.seen import SeenWork, read_work
from hub.controllers.table import JobEntry, JobTable
from hub.controllers.writes import JsonPatch, Write, WriteKey, Writes
from hub.jobs.attempt import Attempt, Resize
from hub.jobs.resize import resize_patch
from hub.planner.plan import Growth, Preemption

_log = logger(__name__)
_PAUSE: Final = 1.0


class Resizing:
    """`now` is epoch seconds; `on_told` hears of every decision once, before it is written."""

    def __init__(
        self,
        table: JobTable,
        writes: Writes,
        metrics: EvictionMetrics,
        now: Callable[[], float],
        on_told: Callable[[JobEntry, Attempt, Resize], None] = lambda entry, attempt, resize: None,
    ) -> None:
        self._table, self._writes, self._metrics, self._now = table, writes, metrics, now
        self._on_told = on_told

    def grow(self, entry: JobEntry, growth: Growth) -> bool:
        """False when the slice is not to be had any more."""
        message = Reason.ELASTIC_GROW.message()
        return self._decide(entry, growth.epoch, growth.slots, message, notice=0.0, by="")

    def shrink(self, entry: JobEntry, preemption: Preemption, notice: float) -> bool:
        """To what it keeps; what runs on the rest has `notice` seconds. False as with `grow`."""
        message = Reason.ELASTIC_SHRINK.message(detail=preemption.message)
        return self._decide(entry, preemption.epoch, preemption.kept, message, notice=notice, by=preemption.preemptor)

    def _decide(self, entry: JobEntry, epoch: int, slots: int, message: str, *, notice: float, by: str) -> bool:
        attempt = next((a for a in entry.attempts() if a.epoch == epoch), None)
        if attempt is None or not _free(entry, attempt) or slots == attempt.slots:
            return False
        now = self._now()
        resize = Resize(attempt.slots, slots, now, now + notice, message, by)
        entry.resizing[epoch] = resize
        grows = slots > attempt.slots
        self._metrics.resizes.labels(attempt.queue, "grow" if grows else "shrink").inc()
        _log.info(
            "a slice is made larger" if grows else "a slice is made smaller",
            job=str(entry.ref), cluster=attempt.cluster, epoch=epoch, before=attempt.slots, slots=slots, for_=by,
        )  # fmt: skip
        self._on_told(entry, attempt, resize)
        self._submit(entry, attempt, resize)
        return True

    def _submit(self, entry: JobEntry, attempt: Attempt, resize: Resize) -> None:
        epoch, key = attempt.epoch, (attempt.namespace, attempt.work)

        def desired() -> Write | None:
            current = entry.works.get(key)
            if current is None or current.attempt is None or entry.resizing.get(epoch) is not resize:
                return None
            if not _open(current) or current.attempt.slots != resize.before:
                # It ended, or has to go, before anything was written: nothing was decided, then.
                forget()
                return None
            return JsonPatch(resize_patch(current.uid, current.attempt, resize))

        def done(answer: Object | None) -> None:
            seen = read_work(answer) if answer is not None else None
            if seen is not None:
                self._table.work_seen(seen)
            entry.resizing.pop(epoch, None)
            self._table.mark(entry.uid)

        def failed(_key: WriteKey, error: Exception) -> None:
            # Nothing was decided, then. It is forgotten a little later, so that the same is not asked without end.
            _log.warning("a slice could not be resized", job=str(entry.ref), work=attempt.work, why=str(error))
            asyncio.get_running_loop().call_later(_PAUSE, forget)

        def forget() -> None:
            if entry.resizing.get(epoch) is resize:
                del entry.resizing[epoch]
                self._table.mark(entry.uid)

        self._writes.submit(WriteKey(MANIFEST_WORKS, *key), desired, on_done=done, on_error=failed)


def _free(entry: JobEntry, attempt: Attempt) -> bool:
    """Whether nothing else is under way with it, and its work is there."""
    if not attempt.live or attempt.reserved or attempt.eviction is not None or attempt.shrinking:
        return False
    busy = attempt.epoch in entry.evicting or attempt.epoch in entry.resizing or attempt.epoch in entry.assumed
    return not busy and (attempt.namespace, attempt.work) in entry.works


def _open(work: SeenWork) -> bool:
    return not work.deleting and work.attempt is not None and work.attempt.live and work.attempt.eviction is None
