"""The room of jobs' slices: they are delivered, told to go, recorded and taken away, and people are told."""

from __future__ import annotations

from collections.abc import Mapping

from hub.controllers.delivery import Delivery
from hub.controllers.evicting import Evicting
from hub.controllers.experience import SliceRecord
from hub.controllers.garbage import Garbage
from hub.controllers.resizing import Resizing
from hub.controllers.rooms.ground import Ground, Room, Run
from hub.controllers.table import JobEntry
from hub.controllers.telling import Telling


class JobRoom(Room):
    """`request_kept`: seconds that a log request is kept after it is done."""

    def __init__(self, ground: Ground, *, request_kept: float) -> None:
        table, writes, clocks = ground.table, ground.writes, ground.clocks
        notice = ground.config.queue.policy.notice
        self.delivery = Delivery(table, ground.world, writes, clocks.loop, notice)
        self.telling = Telling(ground.events, table.entries.get)
        self.evicting = Evicting(table, writes, ground.metrics.evictions, clocks.now, self.telling.told_to_go)
        self.resizing = Resizing(table, writes, ground.metrics.evictions, clocks.now, self.telling.resized)
        self.slices = SliceRecord(ground.world.note, clocks.now)
        self.garbage = Garbage(
            ground.api, table, self.delivery, writes, clocks.loop, clocks.now, request_kept=request_kept
        )

    def state(self, entry: JobEntry) -> None:
        """What is known of a job was folded anew."""
        self.slices.job_state(entry)
        self.telling.job_state(entry)
        self.garbage.job_state(entry)

    def orphaned(self, entry: JobEntry) -> None:
        """A job is gone, or was never seen though works of it are there."""
        self.slices.job_gone(entry.uid)
        self.telling.forget(entry.uid)
        self.garbage.orphan(entry)

    @property
    def parts(self) -> Mapping[str, Run]:
        return {"garbage": self.garbage.run}

    def take_over(self) -> None:
        self.garbage.take_over()

    def stop(self) -> None:
        self.slices.stop()
