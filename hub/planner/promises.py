"""What is promised in a cycle to jobs that are entitled and cannot start: by sending others away, or by keeping room.

A promise is a charge in the views that later decisions must fit in (hub/planner/views.py). Who may be sent away is
hub/planner/victims.py, what is kept without that hub/planner/reservations.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from hub.planner.claims import Claims
from hub.planner.filling import Filling
from hub.planner.places import Mask, Option, Wish
from hub.planner.plan import Preemption, Snapshot
from hub.planner.preempting import kept_for, preemption, waits_for
from hub.planner.progress import Part, Progress
from hub.planner.reservations import Reservations
from hub.planner.shrinking import Need, Shrinking
from hub.planner.turns import Return, Turn
from hub.planner.victims import Victim, Victims
from hub.planner.views import Views, affordable, part, room
from hub.queueing.quotas import Denial


class Promises:
    """`preemptions`: who is sent away in this cycle, in order of decision."""

    def __init__(self, snapshot: Snapshot, filling: Filling, views: Views, claims: Claims) -> None:
        self._filling, self._views = filling, views
        self._victims = Victims(snapshot, claims)
        self._shrinking = Shrinking(snapshot, claims, self._victims)
        self._reservations = Reservations(snapshot, views)
        self._promised: dict[str, None] = {}
        self._leaving = [held.key for held in claims.leaving]
        self.preemptions: list[Preemption] = []

    @property
    def wake_at(self) -> float:
        """When the same would be decided otherwise; infinity: not without news."""
        return min(self._victims.wake_at, self._reservations.wake_at)

    def promise(self, turn: Turn, progress: Progress, wish: Wish, wanted: int, into: Part) -> int:
        """How many slots the job gets once those who are on their way out, or are sent away now, are gone."""
        got, tried = 0, False
        while got < wanted:
            if self._views.waits:
                spread = replace(wish, placed=progress.placed)
                ways = self._filling.ways(wish, turn.option)
                takes = self._filling.take(spread, wanted - got, ways, self._views.then())
                got += sum(take.slots for take in takes)
                tried = tried and not takes
                progress.note(takes, self._filling.places.names)
                if got >= wanted:
                    break
            if tried or not self._send_away(turn, wish):
                break
            tried = True
        if got:
            into.promised += got
            self._promised.setdefault(turn.demand.key)
            progress.denial = waits_for(sorted({*self._leaving}))
        return got

    def _send_away(self, turn: Turn, wish: Wish) -> bool:
        options = self._filling.ways(wish, turn.option)
        among = self._filling.places.candidates(wish, options) if wish.demand.place else None
        view = self._views.later() if self._views.waits else self._views.now
        found = self._shrinking.find(wish, options, view, among)
        if found and self._views.shadows and not self._would_do(found, wish, options, among):
            return False
        self.send(found, (preemption(victim, wish) for victim in found))
        return bool(found)

    def shrink(self, need: Need, options: Sequence[Option]) -> list[Victim]:
        """Which slots elastic jobs could give back so that it fits, beside what is promised to others."""
        view = self._views.later() if self._views.waits else self._views.now
        found = self._shrinking.alone(need, options, view)
        if found and self._views.shadows and not self._fits_then(found, need, options):
            return []
        return found

    def send(self, found: Sequence[Victim], decided: Iterable[Preemption]) -> None:
        """They are told to go, or to give back, in these words."""
        for victim, one in zip(found, decided, strict=True):
            # Who gives back for a second time in a cycle is told the whole of it once.
            self.preemptions = [known for known in self.preemptions if known.work != one.work] + [one]
            self._views.release(victim.held, victim.kept)
            self._leaving.append(victim.held.key)
        self._victims.take(found)

    def _would_do(self, found: Sequence[Victim], wish: Wish, options: Iterable[Option], among: Mask | None) -> bool:
        """Whether the job would start without the victims, promises to others kept."""
        return self._fits_then(found, Need(wish.queue.name, wish.together, among), options)

    def _fits_then(self, found: Sequence[Victim], need: Need, options: Iterable[Option]) -> bool:
        views = [view.apart() for view in self._views.then()]
        for view in views:
            for victim in found:
                view.release(victim.held, victim.kept)
        return any(
            affordable(views, need.queue, option.choice.requests, need.together) >= need.together
            and (need.among is None or (need.among & (room(views, option) >= need.together)).any())
            for option in options
        )

    def keep(self, turn: Return) -> None:
        """What a job is entitled to of a slice that is on its way out is not for others."""
        slots = turn.slots
        for held in turn.leaving:
            kept = min(slots, held.slots)
            if kept > 0:
                slots -= kept
                for view in self._views.then():
                    view.ledger.add(held.queue, part(held, kept))
                    if held.place and held.cluster in view.places.fleet:
                        view.places.keep(held.work, held.cluster, held.shape, kept)

    def reserve(self, turn: Turn, wish: Wish) -> None:
        options = self._filling.ways(wish, turn.option)
        among = self._filling.places.candidates(wish, options) if wish.demand.place else None
        kind = self._filling.wish_key(wish)
        self._reservations.keep(
            wish, kind, options, among, lambda view: bool(self._filling.take(wish, wish.together, options, [view]))
        )

    def kept_for_others(self, wish: Wish, views: int) -> Denial | None:
        """Where quota and room are there, but promised to others."""
        if views < 2:
            return None
        jobs = [job for job in (*self._promised, *self._reservations.kept_for) if job != wish.demand.key]
        now = [self._views.now]
        options = self._filling.ways(wish, None)
        among = self._filling.places.candidates(wish, options) if wish.demand.place else None
        for option in options:
            if affordable(now, wish.queue.name, option.choice.requests, wish.together) >= wish.together and (
                among is None or (among & (room(now, option) >= wish.together)).any()
            ):
                return kept_for(jobs or self._leaving)
        return None
