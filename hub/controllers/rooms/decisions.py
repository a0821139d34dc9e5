"""The room of decisions: what changed is looked at again, and what waits is decided, turn by turn."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from hub.controllers.checking import Checking
from hub.controllers.cycle import Cycle
from hub.controllers.deciding import Deciding
from hub.controllers.looking import Looking
from hub.controllers.mirror import Mirror
from hub.controllers.rooms.ground import Ground, Room, Run
from hub.controllers.rooms.jobs import JobRoom
from hub.controllers.rooms.queues import QueueRoom
from hub.controllers.rooms.scores import ScoreRoom
from hub.controllers.workload_mirror import WorkloadMirror
from hub.queueing.demand import Demand


class DecisionRoom(Room):
    """`on_turn` is called at the start of each turn, `on_looked` when nothing in it is left to look at."""

    def __init__(
        self,
        ground: Ground,
        jobs: JobRoom,
        scores: ScoreRoom,
        queues: QueueRoom,
        *,
        on_turn: Callable[[], None],
        on_looked: Callable[[], None],
    ) -> None:
        table, world, metrics, clocks = ground.table, ground.world, ground.metrics.decisions, ground.clocks
        ready = queues.ready
        self._scores = scores.scores
        checking = Checking(world, jobs.delivery, clocks.now)
        self.looking = Looking(
            table,
            world,
            ground.holdings,
            jobs.delivery,
            jobs.evicting,
            queues.limits,
            Mirror(table, ground.writes, ground.tempo, clocks.loop, clocks.now),
            WorkloadMirror(
                table,
                world,
                ground.writes,
                ground.tempo,
                clocks.loop,
                clocks.now,
                checking=checking,
                waits=ready is not None,
            ),
            checking,
            ground.tempo,
            metrics,
            now=clocks.now,
            on_change=lambda: self.cycle.changed(),
            on_orphan=jobs.orphaned,
            on_state=jobs.state,
            on_demand=self._asked,
            on_arrival=lambda demand: self.deciding.arrived(demand),
        )
        self.deciding = Deciding(
            table,
            world,
            ground.holdings,
            jobs.delivery,
            jobs.evicting,
            jobs.resizing,
            queues.limits,
            self.looking,
            queues.foreign,
            ground.tempo,
            metrics,
            planner=queues.planner,
            heads=queues.heads,
            policy=queues.policy,
            block=ready is not None and ready.block,
            now=clocks.now,
        )
        self.cycle = Cycle(
            table,
            world,
            self.looking,
            self.deciding,
            metrics,
            may_decide=ground.may_decide,
            config=ground.config.cycle,
            now=clocks.now,
            on_turn=on_turn,
            on_looked=on_looked,
        )
        table.on_mark = self.cycle.wake
        if queues.heads is not None:
            ground.holdings.concerns = queues.heads.concerns

    def scores_changed(self) -> None:
        """What orders clusters is another: for the decisions that follow."""
        self.deciding.scorers = self._scores.scorers()

    @property
    def parts(self) -> Mapping[str, Run]:
        return {"cycle": self.cycle.run}

    def take_over(self) -> None:
        self.cycle.decide_again()

    def stop(self) -> None:
        self.cycle.closing = True

    def _asked(self, demand: Demand) -> None:
        if self._scores.asked(demand.shape, demand.waiting):
            # For the decision that follows; what is placed already stays where it is.
            self.scores_changed()
