"""What follows from scorers' answers, once for many of them: columns of the fleet, what is published, statuses, plans.

It also wakes when a value ends, because that changes the order of clusters as much as a new one does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

from hub.controllers.scorer_publishing import ScorerPublishing
from hub.controllers.scorer_state import Key, ScorerState
from hub.controllers.scorer_telling import ScorerTelling
from hub.controllers.world import World
from hub.fleet.changes import ScoresSeen
from hub.placement.scorer_targets import column_name

TOGETHER: Final = 0.05
"""Seconds for which news are gathered."""
_FOR_EVER: Final = float("inf")


class ScorerFeeding:
    """`start` and `stop` with the lead. `on_change`: a plan could differ. `now`: epoch seconds."""

    def __init__(
        self,
        states: Mapping[Key, ScorerState],
        world: World,
        publishing: ScorerPublishing,
        telling: ScorerTelling,
        now: Callable[[], float],
        on_change: Callable[[], None],
    ) -> None:
        self._states, self._world, self._publishing, self._telling = states, world, publishing, telling
        self._now, self._on_change = now, on_change
        self._changed: set[Key] = set()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._running = False

    def start(self) -> None:
        self._running = True

    def stop(self) -> None:
        self._running = False
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def changed(self, key: Key) -> None:
        """What is known of a scorer is another: `feed` it."""
        self._changed.add(key)

    def forget(self, key: Key) -> None:
        self._changed.discard(key)

    @property
    def anything(self) -> bool:
        return bool(self._changed)

    def feed_soon(self) -> None:
        self.later("feed", TOGETHER, self.feed)

    def plan_soon(self) -> None:
        """The order of clusters is another."""
        self.later("changed", TOGETHER, self._on_change)

    def feed(self) -> None:
        changed, self._changed = self._changed, set()
        for key in sorted(changed):
            state = self._states.get(key)
            if state is None:
                continue
            if state.plan is not None and state.problem is None:
                values, ends = state.values.column()
                self._world.note(ScoresSeen(column_name(state.plan.score), values, _FOR_EVER, ends))
            self._telling.scorer(key, state)
        self._publishing.wake(changed)
        self._wake_at_end()

    def later(self, what: str, seconds: float, do: Callable[[], None]) -> None:
        """Once, however often it is asked for until then."""
        if what in self._timers or not self._running:
            return

        def now() -> None:
            self._timers.pop(what, None)
            do()

        self._timers[what] = asyncio.get_running_loop().call_later(max(0.0, seconds), now)

    def _wake_at_end(self) -> None:
        now = self._now()
        end = min((state.values.next_end(now) for state in self._states.values()), default=_FOR_EVER)
        if end == _FOR_EVER:
            return
        seconds = max(end - now + 0.01, TOGETHER)
        timer = self._timers.get("end")
        if timer is not None and timer.when() > asyncio.get_running_loop().time() + seconds:
            timer.cancel()
            del self._timers["end"]
        self.later("end", seconds, self._ended)

    def _ended(self) -> None:
        for key, state in self._states.items():
            self._telling.scorer(key, state)
        self._wake_at_end()
        self._on_change()
