"""What every room of the hub stands on, and what a room is. Nothing here decides or writes of itself.

A room is one part of the hub with its own reason to change: it makes its members from the ground and from the rooms
before it, and says what of them runs, what happens when this hub begins or stops to lead, and what ends with it.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

from hub.client.interface import KubeApi
from hub.client.patcher import Patcher
from hub.controllers.config import HubConfig
from hub.controllers.events import Events
from hub.controllers.holdings import Holdings
from hub.controllers.metrics.all import HubMetrics
from hub.controllers.table import JobTable
from hub.controllers.tempo import Tempo
from hub.controllers.world import World
from hub.controllers.writes import Writes

Run = Callable[[], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True)
class Clocks:
    """`now` is epoch seconds, `loop` the event loop's clock, `monotonic` the one that measures clusters' silence."""

    now: Callable[[], float]
    loop: Callable[[], float]
    monotonic: Callable[[], float]


class Ground:
    """What is known and how it is written. `may_decide`: whether this hub leads and knows everything it must.

    `term` is the number of its present lead.
    """

    def __init__(
        self,
        api: KubeApi,
        config: HubConfig,
        metrics: HubMetrics,
        clocks: Clocks,
        table: JobTable,
        identity: str,
        may_decide: Callable[[], bool],
        term: Callable[[], int],
    ) -> None:
        self.api, self.config, self.metrics, self.clocks, self.table = api, config, metrics, clocks, table
        self.may_decide = may_decide
        self.patcher = Patcher(api, concurrency=config.writers)
        self.writes = Writes(self.patcher, may_decide, metrics.writes, term)
        self.world = World()
        self.holdings = Holdings(self.world)
        self.tempo = Tempo(clocks.loop)
        self.events = Events(self.writes, identity, clocks.loop, clocks.now)


class Room:
    """By default nothing of it runs and it does not care who leads."""

    @property
    def parts(self) -> Mapping[str, Run]:
        """What runs from the moment everything is known until the hub ends, by the name that logs and metrics say."""
        return {}

    def take_over(self) -> None:
        """This hub leads from now on."""

    def stand_by(self) -> None:
        """This hub leads no more."""

    def stop(self) -> None:
        """The hub ends: nothing new is begun. Returns at once."""
