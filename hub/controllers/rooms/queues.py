"""The room of the queue: by which rules it is decided whose turn it is, and what of the past and of others counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from hub.asking.access import Access
from hub.controllers.foreign import Foreign
from hub.controllers.idle import IdleWatch
from hub.controllers.isolation import Planner
from hub.controllers.limits import Limits
from hub.controllers.past_usage import WATCHED, PastUsage
from hub.controllers.rooms.ground import Ground, Room, Run
from hub.controllers.rooms.jobs import JobRoom
from hub.controllers.source_clients import SourceClients
from hub.planner.backlog import Heads
from hub.planner.kueue import KueuePlanner
from hub.planner.kueue_answers import KueueWay
from hub.planner.ways import Blocked, FleetWay, Way
from hub.queueing.ledger import summed

_IDLE_TIMEOUT: Final = 10.0


class QueueRoom(Room):
    """`planner` decides, in the mode that the configuration asks for; `way()`: how it goes on from here, for who asks.
    `on_change` is called when what waits has a new chance."""

    def __init__(self, ground: Ground, jobs: JobRoom, *, on_change: Callable[[], None]) -> None:
        queue, now = ground.config.queue, ground.clocks.now
        self._ground = ground
        self.policy = queue.policy
        remembers = queue.settings.history
        self.past_usage = PastUsage(remembers or WATCHED, now)
        self.sampling = remembers.sampling if remembers is not None and remembers.half_life > 0 else None
        kueue = KueuePlanner(replace(queue.settings, block=False), self.past_usage.history)
        self.heads = None if queue.mode == "kueue" else Heads()
        self.planner: Planner = kueue.plan if self.heads is None else self.heads.plan
        self._way: Callable[[], Way] = (lambda: KueueWay.of(kueue)) if queue.mode == "kueue" else FleetWay
        self.ready = queue.ready
        self.idle = self._idle_watch(jobs)
        self.limits = Limits(ground.world, queue.ready, self.policy.notice, now, self.idle)
        self.foreign = Foreign(ground.world, ground.writes, now=now, on_change=on_change, ready=queue.ready)
        ground.world.in_force.used = lambda: summed(ground.holdings.usage, self.foreign.usage)

    def way(self) -> Way:
        late = self._late() if self.ready is not None and self.ready.block else ""
        return Blocked(self._way(), late) if late else self._way()

    def _late(self) -> str:
        """Who is admitted and not up, where that keeps others from starting."""
        own = (e for e in self._ground.table if e.state is not None and not e.state.ended)
        late = [str(entry.ref) for entry in own if entry.state is not None and self.limits.unready(entry.state)]
        return ", ".join(sorted([*late, *self.foreign.unready()])[:3])

    @property
    def parts(self) -> Mapping[str, Run]:
        return {"idle": self.idle.run} if self.idle is not None else {}

    def take_over(self) -> None:
        self.foreign.take_over()

    def _idle_watch(self, jobs: JobRoom) -> IdleWatch | None:
        ground, config = self._ground, self._ground.config
        if config.queue.idle is None:
            return None
        url = config.prometheus.url if config.prometheus is not None else ""
        clients = SourceClients(url, Access(config.sources.allow, config.sources.tokens), clusters=lambda name: ())
        return IdleWatch(
            config.queue.idle,
            lambda promql: clients.vector(promql, _IDLE_TIMEOUT),
            lambda: ground.holdings.slices if ground.may_decide() else (),
            self.policy.notice,
            ground.clocks.now,
            on_idle=jobs.telling.idle,
            on_change=ground.table.mark,
        )
