"""The room of how things stand: quotas' statuses, what is in use, past usage, the loop's lag."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from hub.api.resource import CLUSTER_QUEUES, LOCAL_QUEUES
from hub.controllers.in_use import InUse
from hub.controllers.past_usage import read_past
from hub.controllers.queue_status import QueueStatus
from hub.controllers.rooms.ground import Ground, Room, Run
from hub.controllers.rooms.queues import QueueRoom
from hub.controllers.watching import Watching
from hub.controllers.worker_status import WorkerStatus
from hub.queueing.kueue.history import LocalKey, Past


class StandingRoom(Room):
    def __init__(self, ground: Ground, queues: QueueRoom, watching: Watching) -> None:
        self._ground, self._queues, self._watching = ground, queues, watching
        self.queue_status = QueueStatus(
            ground.table, queues.foreign, ground.world, ground.holdings, ground.writes, watching.store,
            ground.clocks.now, fair=queues.policy.fair, past=self.past if queues.sampling is not None else None,
        )  # fmt: skip
        self.workers = WorkerStatus(
            ground.world, ground.writes, watching.store, leads=ground.may_decide, now=ground.clocks.now
        )
        self.in_use = InUse(ground.world, ground.holdings, queues.foreign, ground.writes, watching.store)

    def past(self) -> Mapping[LocalKey, Past]:
        """What LocalQueues used before, as of now."""
        usage = self._queues.past_usage
        usage.restore(read_past(self._watching.store(LOCAL_QUEUES).values()))
        if self._ground.may_decide():
            usage.look(self._ground.holdings.slices)
        return usage.past

    @property
    def parts(self) -> Mapping[str, Run]:
        return {
            "queue status": self.queue_status.run,
            "worker status": self.workers.run,
            "lag": self._measure_lag,
            "past usage": self._measure_usage,
        }

    def take_over(self) -> None:
        self._ground.world.recall(self._watching.store(CLUSTER_QUEUES))
        self.in_use.take_over()

    async def _measure_usage(self) -> None:
        """Past usage fades also when nothing happens."""
        while sampling := self._queues.sampling:
            await asyncio.sleep(max(sampling, 1.0))
            self.past()
            if self._ground.may_decide():
                self.queue_status.write()

    async def _measure_lag(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            before = loop.time()
            await asyncio.sleep(1.0)
            self._ground.metrics.process.loop_lag.set(max(0.0, loop.time() - before - 1.0))
