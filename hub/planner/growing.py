"""Running slices of elastic jobs get more slots where they are: quota and room that nobody else takes.

What an elastic job is entitled to beyond its minimum comes in its turn, and may be had from other elastic jobs that
have more than theirs; the rest comes after everybody who waits. It pays with the flavors, and stays on the nodes, that
the slice has already. A slice is made larger or smaller in a cycle, never both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np

from hub.fleet.shape import on_domain
from hub.placement.rule import ClusterRule
from hub.planner.claims import Holder
from hub.planner.filling import Filling
from hub.planner.places import Option
from hub.planner.plan import Growth, HeldSlice, Preemption, Snapshot
from hub.planner.preempting import shrunk_for, too_large
from hub.planner.promises import Promises
from hub.planner.shrinking import Need
from hub.planner.turns import Grow
from hub.planner.victims import Victim
from hub.planner.views import View, Views, affordable, part, room
from hub.queueing.objects import ClusterQueue
from hub.queueing.quotas import Denial


class Growing:
    """Of one cycle. `route(namespace, local queue)` says which queue pays, if one does now."""

    def __init__(
        self,
        snapshot: Snapshot,
        filling: Filling,
        views: Views,
        promises: Promises,
        route: Callable[[str, str], ClusterQueue | Denial],
    ) -> None:
        self._snapshot, self._filling, self._views = snapshot, filling, views
        self._promises, self._route = promises, route
        self._grown: dict[str, int] = {}
        self._slices: dict[str, HeldSlice] = {}
        self._promised: dict[str, int] = {}

    @property
    def growths(self) -> tuple[Growth, ...]:
        """In order of decision."""
        return tuple(
            Growth(held.key, held.uid, work, held.epoch, held.cluster, held.queue, held.slots + self._grown[work])
            for work, held in self._slices.items()
        )

    def got(self, key: str) -> int:
        """Slots that the job's slices were given, or promised."""
        grown = sum(self._grown[work] for work, held in self._slices.items() if held.key == key)
        return grown + self._promised.get(key, 0)

    def grow(self, turn: Grow, most: int) -> None:
        """`most`: how many slots the job may still get in all."""
        wanted = min(turn.slots, most)
        for held in list(turn.holder.staying):
            spare = held.spare - self._grown.get(held.work, 0)
            option = self._option(held) if wanted > 0 and spare > 0 and held.kept is None else None
            if option is None:
                continue
            slots = self._take(held, option, min(wanted, spare))
            wanted -= slots
            if turn.entitled:
                wanted -= self._promise(held, option, min(wanted, spare - slots))

    def within_bounds(self, holders: Iterable[Holder]) -> None:
        """What elastic jobs have beyond a maximum that was lowered since goes back, their newest slices first."""
        for holder in holders:
            most = next((held.bounds[1] for held in holder.staying if held.bounds is not None), holder.slots)
            beyond = holder.slots - most
            for held in sorted(holder.staying, key=lambda held: -held.epoch):
                given = min(beyond, held.slots)
                if given > 0 and held.kept is None:
                    beyond -= given
                    victim = Victim(held, None, held.slots - given, shrinks=True)
                    self._promises.send([victim], [too_large(victim, most)])

    def _take(self, held: HeldSlice, option: Option, wanted: int) -> int:
        views, _ = self._views.for_run(self._snapshot.now, held.expected)
        position = self._position(held)
        slots = _possible(views, held, option, position, wanted)
        if slots <= 0:
            return 0
        for view in views:
            view.charge(held.queue, option.choice.requests, slots, position, option)
        self._slices.setdefault(held.work, held)
        self._grown[held.work] = self._grown.get(held.work, 0) + slots
        return slots

    def _promise(self, held: HeldSlice, option: Option, wanted: int) -> int:
        """Slots that it gets when others that are, or are now made, smaller have become so."""
        position = self._position(held)
        got, tried = 0, False
        while got < wanted:
            views = self._views.then()
            if self._views.waits:
                slots = _possible(views, held, option, position, wanted - got)
                if slots > 0:
                    for view in views:
                        view.charge(held.queue, option.choice.requests, slots, position, option)
                    got += slots
                    tried = False
                    continue
            if tried or not self._make_way(held, option, position, wanted - got):
                break
            tried = True
        if got:
            self._promised[held.key] = self._promised.get(held.key, 0) + got
        return got

    def _make_way(self, held: HeldSlice, option: Option, position: int, wanted: int) -> bool:
        """Whether others give back some of what it wants, as much as they can but for rounding."""
        among = None
        if position >= 0:
            among = np.zeros(len(self._snapshot.fleet.names), dtype=np.bool_)
            among[position] = True
        found = self._promises.shrink(Need(held.queue, wanted, among), (option,))
        while not found and wanted > 1:
            wanted //= 2
            found = self._promises.shrink(Need(held.queue, wanted, among), (option,))
        decided: Iterable[Preemption] = (shrunk_for(victim, held.key) for victim in found)
        self._promises.send(found, decided)
        return bool(found)

    def _option(self, held: HeldSlice) -> Option | None:
        """How the slice is paid, on nodes that it may use; None: not now."""
        queue = self._route(held.key.partition("/")[0], held.local)
        if isinstance(queue, Denial) or queue.name != held.queue or not self._may_stay(held, queue):
            return None
        options = self._filling.options(queue, held)
        if isinstance(options, Denial):
            return None
        each = sorted(part(held, 1))
        option = next((option for option in options if sorted(option.choice.requests) == each), None)
        if option is None or held.domain is None:
            return option
        variants = tuple(replace(variant, shape=on_domain(variant.shape, held.domain)) for variant in option.variants)
        return replace(option, shape=on_domain(option.shape, held.domain), variants=variants, domain=held.domain)

    def _may_stay(self, held: HeldSlice, queue: ClusterQueue) -> bool:
        """Whether it could be sent where it is now, too."""
        if not held.place:
            return True
        if held.cluster not in self._snapshot.fleet:
            return False
        places, position = self._filling.places, self._position(held)
        workers = places.workers(queue.name)
        if workers is not None and not workers[position]:
            return False
        return bool(places.allowed(held.rule or ClusterRule(), (held.cluster,))[position])

    def _position(self, held: HeldSlice) -> int:
        """Of its cluster; −1: no place is asked for."""
        return self._snapshot.fleet.position(held.cluster) if held.place else -1


def _possible(views: Sequence[View], held: HeldSlice, option: Option, position: int, wanted: int) -> int:
    slots = affordable(views, held.queue, option.choice.requests, wanted)
    return slots if position < 0 else min(slots, int(room(views, option)[position]))
