"""The room of scores: they are asked for, computed, published, and what is wrong with them is said."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from hub.controllers.dynamic_scoring import DynamicScoring
from hub.controllers.plugin_status import PluginStatus
from hub.controllers.publishing import Publishing
from hub.controllers.rooms.ground import Ground, Room, Run
from hub.controllers.scores import Scores


class ScoreRoom(Room):
    """`on_change` is called when what orders clusters is another."""

    def __init__(self, ground: Ground, *, on_change: Callable[[], None]) -> None:
        config, world, writes, now = ground.config, ground.world, ground.writes, ground.clocks.now
        self._config = config
        self._access = config.sources.access
        self.scores = Scores(
            world, writes, config.scorers, now=now, on_change=on_change, watcher=ground.metrics.scores.called
        )
        self.dynamic = DynamicScoring(
            ground.api,
            world,
            writes,
            ground.metrics.dynamic,
            self._access,
            now=now,
            on_change=on_change,
            sync_every=config.scorers.dynamic.sync,
            at_once=config.scorers.dynamic.atOnce,
        )
        self.scores.others = self.dynamic
        self.plugin_status = PluginStatus(ground.api, writes, self.scores.installed, leads=ground.may_decide, now=now)
        self.publishing = Publishing(
            self.scores, world, writes, config.scorers.publish, now, ground.metrics.scores.publish_seconds.observe
        )

    def start(self) -> None:
        """Everything is known: sources are asked from now on, whoever leads."""
        prometheus = self._config.prometheus
        self.scores.start(
            prometheus.url if prometheus else "", prometheus.interval if prometheus else 15.0, self._access
        )

    @property
    def parts(self) -> Mapping[str, Run]:
        return {
            "publishing": self.publishing.run,
            "plugin status": self.plugin_status.run,
            "dynamic scorers": self.dynamic.run,
        }

    def take_over(self) -> None:
        self.dynamic.start()

    def stand_by(self) -> None:
        self.dynamic.stop()

    def stop(self) -> None:
        self.scores.stop()
        self.dynamic.stop()

    async def closed(self) -> None:
        """Waits until all that `stop` gave up has ended."""
        await self.dynamic.closed()
