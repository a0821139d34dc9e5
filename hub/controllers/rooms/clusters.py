"""The room of clusters: they join and are heard of, and Placements choose among them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

from hub.api import names
from hub.client.session import Session
from hub.controllers.agent_rights import AgentRights
from hub.controllers.lifecycle import Lifecycle
from hub.controllers.placements import PlacementKeeper
from hub.controllers.registrar import Registrar
from hub.controllers.rooms.ground import Ground, Room, Run
from hub.registration.heartbeats import Heartbeats

_LIFECYCLE_AFTER: Final = 2.0
"""kopf takes a second of CPU to load: that is spent when the first jobs are on their way."""


class ClusterRoom(Room):
    """`connect` makes sessions for the lifecycle's thread; None: it does not run. `heard_api` says when, by the
    monotonic clock, the API answered last; `on_decided` is told what a Placement has chosen: namespace, name, clusters.
    """

    def __init__(
        self,
        ground: Ground,
        connect: Callable[[], Session] | None,
        *,
        heard_api: Callable[[], float],
        on_decided: Callable[[str, str, tuple[str, ...]], None],
    ) -> None:
        config, clocks, tempo = ground.config, ground.clocks, ground.tempo
        self.lifecycle = (
            Lifecycle(connect, busy=lambda: tempo.busy) if connect is not None and config.lifecycle else None
        )
        self.registrar = Registrar(
            ground.writes,
            config.autoAccept.rule,
            Heartbeats(config.leases.grace),
            clock=clocks.monotonic,
            now=clocks.now,
            leads=ground.may_decide,
            heard_api=heard_api,
            gap=config.leadership.retry * 2 + 1.0,
            finalizers=(names.HUB_FINALIZER,) if self.lifecycle is not None else (),
        )
        self.rights = AgentRights(ground.api, ground.writes, lambda: self.registrar.clusters, ground.may_decide)
        self.registrar.on_accepted = self.rights.look
        ground.world.on_problems = self.registrar.problems_seen
        self.placements = PlacementKeeper(
            ground.world,
            ground.writes,
            ground.events,
            now=clocks.now,
            leads=ground.may_decide,
            on_decided=on_decided,
            observe=ground.metrics.clusters.placement_seconds.observe,
        )
        self._starts: asyncio.TimerHandle | None = None

    @property
    def parts(self) -> Mapping[str, Run]:
        return {
            "registrar": self.registrar.run,
            "placements": self.placements.run,
            "agents' rights": self.rights.run,
        }

    def take_over(self) -> None:
        self.registrar.take_over()
        self.placements.take_over()
        if self.lifecycle is not None:
            self._starts = asyncio.get_running_loop().call_later(_LIFECYCLE_AFTER, self.lifecycle.start)

    def stand_by(self) -> None:
        self.registrar.stand_by()
        self.placements.stand_by()
        self.stop()

    def stop(self) -> None:
        if self._starts is not None:
            self._starts.cancel()
        if self.lifecycle is not None:
            self.lifecycle.stop()
