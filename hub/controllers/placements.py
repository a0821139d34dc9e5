"""Decides Placements while the hub leads, at once when something that a decision reads has changed, and when time says
so: a toleration or a score that ends, a dwell that is over.

Placements with equal rules are one class, evaluated once when the fleet changes; only members of a class whose
candidates differ are looked at (hub/placement/classes.py). What only scores cause is done at most once in a Placement's
scoreRateLimit. What comes of a decision is hub/controllers/placement_choice.py; hub/controllers/placement_writer.py
writes it.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, Final

from hub.api import names
from hub.controllers.events import Events
from hub.controllers.logs import logger
from hub.controllers.placement_agenda import Agenda
from hub.controllers.placement_choice import Choices
from hub.controllers.placement_classes import Class, Classes
from hub.controllers.placement_entry import Entry, is_older, read_decision
from hub.controllers.placement_writer import PlacementWriter
from hub.controllers.tally import Tally
from hub.controllers.world import World
from hub.controllers.writes import Writes
from hub.fleet.fleet import Fleet
from hub.placement.candidates import Ints
from hub.placement.classes import PlacementClass
from hub.placement.sets import ClusterSets

Json = dict[str, Any]
_log = logger(__name__)
_DEBOUNCE: Final = 0.01
_SHARE: Final = 4.0
"""A pass that took long is followed by a pause so many times as long: nothing else starves for it."""
_REST: Final = 1.0
"""Seconds at least between two looks of a Placement that balances at what the others do."""


class PlacementKeeper:
    """`run()` until cancelled. `now` is epoch seconds. `on_decided` hears of a Placement's clusters when they change,
    `observe` how long (seconds) each pass took that decided something."""

    def __init__(
        self,
        world: World,
        writes: Writes,
        events: Events,
        *,
        now: Callable[[], float],
        leads: Callable[[], bool],
        on_decided: Callable[[str, str, tuple[str, ...]], None],
        observe: Callable[[float], None],
        writer: PlacementWriter | None = None,
    ) -> None:
        self.entries: dict[str, Entry] = {}
        self.decided = 0
        self._world, self._now, self._leads = world, now, leads
        self._observe = observe
        self._tally = Tally()
        self._choices = Choices(self._tally, on_decided)
        self._writer = writer or PlacementWriter(writes, events, now, leads)
        self._classes = Classes()
        self._agenda = Agenda()
        self._fleet: Fleet = world.fleet
        self._sets: ClusterSets | None = None
        self._news = asyncio.Event()

    @property
    def backlog(self) -> int:
        """Placements that wait for a decision or for their writes."""
        return len(self._agenda.dirty) + self._writer.busy

    def object(self, namespace: str, name: str) -> Json | None:
        """The Placement as it was seen last."""
        entry = self.entries.get(f"{namespace}/{name}")
        return None if entry is None else entry.obj

    def standing(self, key: str, fleet: Fleet) -> tuple[tuple[str, ...], Ints]:
        """What the Placement has chosen, and how often all others chose each cluster of `fleet`."""
        entry = self.entries.get(key)
        current = () if entry is None else entry.current
        counts = self._tally.along(fleet.names).copy()
        counts[[fleet.position(name) for name in current if name in fleet]] -= 1
        return current, counts

    def wake(self) -> None:
        self._news.set()

    def take_over(self) -> None:
        """Everything is looked at once: another hub may have decided meanwhile."""
        for entry in self.entries.values():
            entry.sheets, entry.outcome, entry.since = None, None, {}
            self._choices.settle(entry)
        self._agenda.now(self.entries)
        self.wake()

    def stand_by(self) -> None:
        self._writer.stop()

    # What is seen.

    def placement_seen(self, obj: Json) -> bool:
        """True when jobs that name it could go elsewhere."""
        entry = self._entry(obj["metadata"]["namespace"], obj["metadata"]["name"])
        if is_older(obj, entry.obj):
            return False
        if not entry.read(obj):
            self._writer.settle(entry)
            return False
        if not entry.ours:
            entry.sheets = entry.outcome = None
        if entry.request is not None:
            shared = replace(entry.request.rule, namespace="", reference="")
            entry.rule = self._classes.number(shared)
        self._choices.settle(entry)
        self._classify(entry)
        self._agenda.now((entry.key,))
        self.wake()
        return True

    def placement_gone(self, obj: Json) -> None:
        entry = self.entries.get(f"{obj['metadata']['namespace']}/{obj['metadata']['name']}")
        if entry is None or entry.uid != obj["metadata"]["uid"]:
            return
        entry.obj = entry.request = entry.sheets = entry.outcome = None
        entry.problem, entry.since = "", {}
        self._leave(entry)
        self._choices.settle(entry)
        self._forget(entry)

    def decision_seen(self, obj: Json) -> None:
        entry = self._entry_of(obj)
        if entry is None:
            return
        seen, known = read_decision(obj), entry.seen.get(obj["metadata"]["name"])
        if known is not None and known.uid == seen.uid and known.version >= seen.version:
            return
        entry.seen[seen.sheet.name] = seen
        self._drifted(entry)

    def decision_gone(self, obj: Json) -> None:
        entry = self._entry_of(obj)
        if entry is None:
            return
        known = entry.seen.get(obj["metadata"]["name"])
        if known is None or known.uid != obj["metadata"]["uid"]:
            return
        del entry.seen[known.sheet.name]
        self._drifted(entry)

    def _drifted(self, entry: Entry) -> None:
        """The API holds something else than before: news only if it is not what was decided."""
        self._choices.settle(entry)
        if not self._forget(entry):
            self._writer.settle(entry)

    def _forget(self, entry: Entry) -> bool:
        """Nothing is kept of what has neither a Placement nor decisions."""
        if entry.obj is not None or entry.seen:
            return False
        self.entries.pop(entry.key, None)
        self._agenda.drop(entry.key)
        return True

    def _entry(self, namespace: str, name: str) -> Entry:
        key = f"{namespace}/{name}"
        entry = self.entries.get(key)
        if entry is None:
            entry = self.entries[key] = Entry(namespace, name)
        return entry

    def _entry_of(self, decision: Json) -> Entry | None:
        meta = decision["metadata"]
        placement = (meta.get("labels") or {}).get(names.PLACEMENT)
        return self._entry(meta["namespace"], placement) if placement else None

    # Deciding.

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            with contextlib.suppress(TimeoutError):
                # Not wait_for: up to Python 3.11 it may lose a cancellation.
                async with asyncio.timeout(self._agenda.nap(self._now())):
                    await self._news.wait()
            await asyncio.sleep(_DEBOUNCE)
            self._news.clear()
            if not self._leads():
                continue
            started = loop.time()
            try:
                self.look()
            except Exception:
                _log.exception("Placements could not be decided; again soon")
                self._news.set()
                await asyncio.sleep(1.0)
            await asyncio.sleep((loop.time() - started) * _SHARE)

    def look(self) -> None:
        """Decides whatever could be decided differently now."""
        self._world.refresh()
        now, fleet = self._now(), self._world.fleet
        moved = not fleet.same_ground(self._fleet)
        if moved or self._sets is not self._world.sets:
            if self._sets is not self._world.sets:
                self._sets = self._world.sets
                for entry in self.entries.values():
                    self._classify(entry)
            if not fleet.same_facts(self._fleet):
                # The group of a cluster may be another one.
                self._agenda.now(
                    entry.key for entry in self.entries.values() if entry.request is not None and entry.request.groups
                )
            self._fleet = fleet
            self._review(self._classes, now)
        late = self._agenda.late(now)
        if late:
            self._agenda.now(key for key in late if key in self.entries)
            self._review([cls for cls in self._classes if cls.view is not None and cls.view.found.until <= now], now)
        dirty = self._agenda.take(now)
        if not dirty:
            return
        started, before = time.perf_counter(), self._tally.version
        for key in dirty:
            if key in self.entries:
                self._decide(self.entries[key], now)
        self._observe(time.perf_counter() - started)
        if self._tally.version != before:
            self._rebalance(now, set(dirty))

    def _review(self, classes: Iterable[Class], now: float) -> None:
        """Evaluates classes anew, and notes the members of those that differ."""
        assert self._sets is not None
        tally = self._tally.along(self._fleet.names)
        for cls in classes:
            if not cls.members:
                continue
            old = cls.view
            cls.view = PlacementClass(self._fleet, self._sets, cls.rule, now, tally)
            cls.counted = self._tally.version
            self._schedule_class(cls)
            if old is None or not cls.view.same_candidates(old):
                self._agenda.now(cls.members)
            elif not cls.view.same_scores(old):
                self._score(cls.members, now)

    def _rebalance(self, now: float, apart: set[str]) -> None:
        """Decisions have changed: whoever balances looks again, no more often than scores may change it."""
        for cls in self._classes:
            if cls.view is not None and cls.view.balances and not cls.view.takes_all:
                self._score(cls.members - apart, now)
                # They have just been looked at, so once more is enough when everything has come to rest.
                for key in cls.members & apart:
                    self._agenda.scored(key, now + max(_REST, self._rate(key)))

    def _score(self, members: Iterable[str], now: float) -> None:
        """Scores have changed for these."""
        for key in members:
            moment = self.entries[key].scored_at + self._rate(key)
            if moment <= now:
                self._agenda.now((key,))
                self.wake()
            else:
                self._agenda.scored(key, moment)

    def _rate(self, key: str) -> float:
        request = self.entries[key].request
        return request.rate_limit if request is not None else 0.0

    def _decide(self, entry: Entry, now: float) -> None:
        request = entry.request
        if not entry.ours:
            return
        if entry.problem or request is None:
            # The last good decision stays as it is.
            self._writer.settle(entry)
            return
        view = self._view(entry, now)
        changed = entry.generation != entry.wanted_generation and entry.outcome is not None
        if not entry.since and entry.current:
            entry.since = entry.remember()
        stability = request.stability
        if changed:
            # What its author asks for anew need not wait for anything but the budget.
            stability = replace(stability, hysteresis=0, dwell=0.0)
        outcome = view.decide(entry.current, now=now, stability=stability, since=entry.since, scores=request.by_score)
        self.decided += 1
        self._agenda.decided(entry.key)
        self._agenda.due(entry.key, outcome.until)
        before = entry.current
        self._choices.take(entry, request, outcome, self._fleet, now)
        if request.by_score and entry.current != before:
            # Steady counts from now on: what is written is what stays, not what was on the way there.
            settled = self._view(entry, now).decide(entry.current, now=now, stability=stability, since=entry.since)
            if {decision.cluster for decision in settled.decisions} == set(entry.current):
                self._choices.take(entry, request, settled, self._fleet, now)
                self._agenda.due(entry.key, settled.until)
        self._writer.settle(entry)

    def _view(self, entry: Entry, now: float) -> PlacementClass:
        assert self._sets is not None
        cls = self._classes.of(entry.key)
        if cls.view is None:
            cls.view = PlacementClass(self._fleet, self._sets, cls.rule, now, self._tally.along(self._fleet.names))
            cls.counted = self._tally.version
            self._schedule_class(cls)
        elif cls.counted != self._tally.version:
            if cls.view.balances and not cls.view.takes_all:
                cls.view.retally(self._tally.along(self._fleet.names))
            cls.counted = self._tally.version
        return cls.view

    # Classes.

    def _classify(self, entry: Entry) -> None:
        if entry.request is None or not entry.ours or self._sets is None:
            if self._sets is not None or entry.request is None:
                self._leave(entry)
            return
        rule = entry.request.rule
        if self._classes.join(entry.key, rule, self._sets.bound(rule.namespace), entry.rule):
            self._agenda.decided(entry.key)
            self._agenda.now((entry.key,))

    def _leave(self, entry: Entry) -> None:
        self._agenda.decided(entry.key)
        self._classes.leave(entry.key)

    def _schedule_class(self, cls: Class) -> None:
        """A moment at which a class alone changes is a moment at which each of its members is looked at."""
        assert cls.view is not None
        for key in cls.members if math.isfinite(cls.view.found.until) else ():
            self._agenda.due(key, cls.view.found.until)
