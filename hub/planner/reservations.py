"""What is kept for a job that is entitled to start and cannot: so that a large one neither starves nor stops the rest.

From how long tasks are expected to take follows when enough will be free for it. Others may start meanwhile if they are
sure to be gone by then, or do not touch what it needs. Where nobody said how long the rest takes, it waits its share
first; then all that becomes free where it is nearest to starting is kept for it. Such a promise is a View that others
must fit in (hub/planner/views.py); it is made anew in every cycle and binds nobody but that cycle.

The bound on its delay: who starts before it fits beside it or ends before, so it starts when those who run now have
ended as they said they would.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from hub.planner.places import Mask, Option, Wish
from hub.planner.plan import HeldSlice, Snapshot
from hub.planner.views import NOW, View, Views, affordable, room

# Promises of one cycle: each costs every later decision a look.
MOST: Final = 4


class Reservations:
    """`wake_at`: when the next job has waited long enough for what it needs to be kept."""

    def __init__(self, snapshot: Snapshot, views: Views) -> None:
        self._snapshot, self._views = snapshot, views
        self._policy = snapshot.policy
        self._ends: list[tuple[float, HeldSlice]] | None = None
        self.wake_at = math.inf
        self.kept_for: list[str] = []
        self._asked: set[object] = set()

    def keep(
        self, wish: Wish, kind: object, options: Sequence[Option], among: Mask | None, charge: Callable[[View], bool]
    ) -> None:
        """For a job that nothing can be taken from others for, once for each `kind`: who is alike comes after it.

        `charge` puts it where it would start in a view.
        """
        if kind in self._asked:
            return
        self._asked.add(kind)
        able = [o for o in options if among is None or (among & (o.capacity >= wish.together)).any()]
        if not able or len(self._views.shadows) >= MOST:
            return
        patience = 0.0 if not self._policy.backfill else self._policy.protect_after
        protected_at = math.inf if patience is None else wish.demand.created + patience
        waited = self._snapshot.now >= protected_at
        if wish.together <= 1 and not waited:
            self._remember(protected_at)
            return
        released = self._known(wish, able, among)
        due = NOW
        if released is not None and self._policy.backfill:
            due = max((end for end, _ in released), default=self._snapshot.now)
        elif released is None:
            if not waited:
                self._remember(protected_at)
                return
            released = self._unknown(wish, able, among)
        view = self._views.promise(due)
        for _, held in released:
            view.release(held)
        if charge(view):
            self.kept_for.append(wish.demand.key)
        else:
            self._views.shadows.remove(view)

    def _remember(self, at: float) -> None:
        if at > self._snapshot.now:
            self.wake_at = min(self.wake_at, at)

    def _known(self, wish: Wish, options: Sequence[Option], among: Mask | None) -> list[tuple[float, HeldSlice]] | None:
        """The slices that end first, as few as let the job start; None: those whose end is known are not enough."""
        ends = [entry for entry in self._ending() if entry[0] < math.inf and self._matters(wish, entry[1], among)]
        if not self._starts(wish, options, among, ends):
            return None
        low, high = 0, len(ends)
        while low < high:
            middle = (low + high) // 2
            if self._starts(wish, options, among, ends[:middle]):
                high = middle
            else:
                low = middle + 1
        return ends[:low]

    def _unknown(self, wish: Wish, options: Sequence[Option], among: Mask | None) -> list[tuple[float, HeldSlice]]:
        """Slices that would have to end: those of the cluster where most room is already, then those that have quota
        it lacks. The ones that end first, or run longest."""
        base = self._base()
        ending = self._ending()
        released: list[tuple[float, HeldSlice]] = []
        view = base.apart()
        if among is not None:
            option = options[0]
            able = among & (option.capacity >= wish.together)
            rooms = np.where(able, room([base], option), -1)
            target = int(rooms.argmax())
            name = base.places.names[target]
            for entry in ending:
                if int(room([view], option)[target]) >= wish.together:
                    break
                if entry[1].cluster == name:
                    released.append(entry)
                    view.release(entry[1])
        requests = options[0].choice.requests
        position = self._snapshot.quotas.trees[wish.queue.name].position
        for entry in ending:
            if affordable([view], wish.queue.name, requests, wish.together) >= wish.together:
                break
            held = entry[1]
            if held.queue in position and held.work not in view.released and _uses(held, options[0]):
                released.append(entry)
                view.release(held)
        return released

    def _starts(
        self, wish: Wish, options: Sequence[Option], among: Mask | None, gone: Sequence[tuple[float, HeldSlice]]
    ) -> bool:
        view = self._base().apart()
        for _, held in gone:
            view.release(held)
        return any(
            affordable([view], wish.queue.name, option.choice.requests, wish.together) >= wish.together
            and (among is None or bool((among & (room([view], option) >= wish.together)).any()))
            for option in options
        )

    def _base(self) -> View:
        return self._views.later() if self._views.waits else self._views.now

    def _matters(self, wish: Wish, held: HeldSlice, among: Mask | None) -> bool:
        tree = self._snapshot.quotas.trees[wish.queue.name]
        if held.queue in tree.position:
            return True
        fleet = self._views.now.places.fleet
        return among is not None and held.cluster in fleet and bool(among[fleet.position(held.cluster)])

    def _ending(self) -> list[tuple[float, HeldSlice]]:
        """Who runs, by when they end; of those nobody knows it of, who runs longest first."""
        if self._ends is None:
            now = self._snapshot.now
            self._ends = [(_end(held, now), held) for held in self._snapshot.held if not held.leaving]
            self._ends.sort(key=lambda entry: (entry[0], _since(entry[1]), entry[1].key, entry[1].epoch, entry[1].work))
        return self._ends


def _since(held: HeldSlice) -> float:
    return held.started if held.started is not None else held.admitted


def _end(held: HeldSlice, now: float) -> float:
    """The first moment at which it may end; who takes longer than expected may end any moment."""
    return math.inf if held.expected is None else max(now, _since(held) + held.expected)


def _uses(held: HeldSlice, option: Option) -> bool:
    wanted = {key for key, _ in option.choice.requests}
    return any(key in wanted for key, _ in held.amounts)
