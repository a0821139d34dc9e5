"""Where jobs go that are decided together, and what is noted of it.

Scores depend on what is there already, so a run is placed in several looks: none fills more than its part of what is
free of a cluster, and the next one asks the scorers again. How many of each group go where in one look is
hub/planner/batch.py; here is which jobs these are, and whether single nodes agree: a task that sums had room for and no
node has is placed by the next look, which knows better. What cannot be placed keeps waiting.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hub.api import names
from hub.fleet.fleet import Fleet
from hub.planner.batch import Problem, assign
from hub.planner.places import Counts, Mask, Option, Places, Wish
from hub.planner.record import Choice, choices_of
from hub.queueing.ledger import QuotaLedger

LOOKS: Final = 4
"""A cluster is filled in so many parts, if it is filled."""
_EXTRA: Final = 3
# Of the last part of what is free, one by one finds out best who can use it.
_NEARLY: Final = 0.9
# More pairs of group and cluster than this are not one problem but several.
_PAIRS: Final = 4_000_000
# Sums of what is free stay whole numbers as floats.
_MOST: Final = 1 << 52


@dataclass(slots=True, eq=False)
class Group:
    """Jobs that differ in nothing that decides where they go: one way to pay, one rule, one shape.

    `waiting`: turns without a place, in their order. `among`: where they may go, `waves`: tasks a slot. `full`: there
    was no room for any of it, and in one cycle room only becomes less.
    """

    wish: Wish
    option: Option
    among: Mask
    waves: int
    waiting: list[int] = field(default_factory=list)
    count: int = 0
    room: int = 0
    full: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """Why a cluster: what every job of the group that goes there is told. Written once for all of them."""

    choice: Choice
    texts: dict[int, str] = field(default_factory=dict, compare=False)

    def told(self, together: int) -> str:
        found = self.texts.get(together)
        if found is None:
            found = self.texts[together] = replace(self.choice, together=together).text()
        return found


@dataclass(frozen=True, slots=True)
class Place:
    cluster: int
    decision: Decision


class Run:
    """`members`: group by turn, in the order in which they were added."""

    def __init__(self, places: Places, ledger: QuotaLedger) -> None:
        self._places, self._ledger = places, ledger
        self._before = places.fleet
        self.members: dict[int, Group] = {}
        self._groups: list[Group] = []
        self._known: set[int] = set()
        self._asked: dict[str, int] = {}
        self._free: dict[str, float] = {}

    def add(self, at: int, ways: Sequence[Group]) -> bool:
        """Whether the job belongs to the run: there is quota and, as far as sums say, room. Its quota is taken."""
        queue = ways[0].wish.queue.name
        for group in ways:
            if group.full or not self._ledger.affordable(queue, group.option.choice.requests, 1):
                continue
            if not self._member(group):
                continue
            if group.count >= group.room or len(self._groups) * len(self._places.names) > _PAIRS:
                return False
            if not self._enough(group):
                return False
            self._ledger.add(queue, group.option.choice.requests)
            group.count += 1
            group.waiting.append(at)
            self.members[at] = group
            return True
        return False

    def _enough(self, group: Group) -> bool:
        """Whether with one more the run still asks for no more than nearly all that is free of everything."""
        needs = _amounts(group.option)
        for name in needs:
            if name not in self._free:
                self._free[name] = _NEARLY * float(np.nan_to_num(_free(self._places.fleet, name)).sum())
        if any(self._asked.get(name, 0) + amount > self._free[name] for name, amount in needs.items()):
            return False
        for name, amount in needs.items():
            self._asked[name] = self._asked.get(name, 0) + amount
        return True

    def _member(self, group: Group) -> bool:
        """Whether there is any room for the group; it is one of the run's from now on."""
        if id(group) not in self._known:
            self._known.add(id(group))
            rooms = np.minimum(self._places.room(group.option)[group.among], _MOST >> 20)
            group.room, group.count, group.waiting = int(rooms.sum()), 0, []
            group.full = not group.room
            if group.room:
                self._groups.append(group)
        return group.room > 0

    @property
    def groups(self) -> int:
        return len(self._groups)

    def pay_back(self, turns: Iterable[int]) -> None:
        for at in turns:
            group = self.members[at]
            self._ledger.remove(group.wish.queue.name, group.option.choice.requests)

    def first_waiting(self, default: int) -> int:
        return min((group.waiting[0] for group in self._groups if group.waiting), default=default)

    def place(self) -> dict[int, Place]:
        """Place by turn of as many as have one; the fleet holds them. The others are still waiting."""
        placed, looks = self._fill(LOOKS)
        if len(placed) < len(self.members):
            # What was given out part by part is missing at the end: all of it at once knows who needs what.
            self._restart()
            placed, looks = self._fill(1)
        if len(placed) < len(self.members) or not looks:
            return placed
        # Nodes must agree in the order, too, in which this is carried out.
        return self.only(placed, max(self.members) + 1)

    def _fill(self, parts: int) -> tuple[dict[int, Place], int]:
        """Places, and how many looks it took: each fills so many parts of what is free then, the last all."""
        placed: dict[int, Place] = {}
        look = 0
        for look in range(parts + _EXTRA):
            groups = [group for group in self._groups if group.waiting]
            if not groups:
                break
            found = self._look(groups, max(parts - look, 1))
            if not found and look >= parts - 1:
                break
            placed |= found
        return placed, look

    def _restart(self) -> None:
        self._places.fleet = self._before
        for group in self._groups:
            group.waiting = []
        for at, group in self.members.items():
            group.waiting.append(at)

    def only(self, placed: Mapping[int, Place], end: int) -> dict[int, Place]:
        """The places of turns before `end`, taken anew in the order of turns; all of the others wait. Where single
        nodes do not agree with that order everybody does."""
        self._restart()
        kept = {at: placed[at] for at in sorted(placed) if at < end}
        wanted = [(place.cluster, self.members[at].option, 1) for at, place in kept.items()]
        if not all(self._places.charge_all(wanted)):
            kept = {}
            self._restart()
        for group in self._groups:
            group.waiting = [at for at in group.waiting if at not in kept]
        return kept

    def _look(self, groups: Sequence[Group], part: int) -> dict[int, Place]:
        """Places for those that wait, which take at most one part in `part` of what a cluster has free."""
        orders = [self._order(group) for group in groups]
        tasks = assign(self._problem(groups, orders, part)).tasks
        wanted: list[tuple[int, Option, int]] = []
        owners: list[tuple[int, int]] = []
        for row, group in enumerate(groups):
            for cluster in np.flatnonzero(tasks[row]).tolist():
                wanted.append((cluster, group.option, int(tasks[row, cluster])))
                owners.append((row, cluster))
        got = dict(zip(owners, self._places.charge_all(wanted), strict=True))
        placed: dict[int, Place] = {}
        for row, group in enumerate(groups):
            order = orders[row]
            at = 0
            # Who is asked first gets the better of them.
            for index, cluster in enumerate(order.clusters):
                count = got.get((row, cluster), 0)
                if count:
                    decision = Decision(order.choice(index))
                    placed |= {turn: Place(cluster, decision) for turn in group.waiting[at : at + count]}
                    at += count
            group.waiting = group.waiting[at:]
        return placed

    def _order(self, group: Group) -> _Order:
        rooms = self._places.room(group.option)
        order, ranking = self._places.best_first(group.wish.demand.rule, group.option, 1, group.among & (rooms > 0))
        total = np.zeros(len(rooms)) if ranking is None else ranking.total
        return _Order(order, rooms, total, choices_of(order, ranking, self._places.names))

    def _problem(self, groups: Sequence[Group], orders: Sequence[_Order], part: int) -> Problem:
        fleet = self._places.fleet
        asked = [_amounts(group.option) for group in groups]
        resources = sorted({name for amounts in asked for name in amounts})
        amounts = np.array([[one.get(name, 0) for name in resources] for one in asked], np.int64)
        free = np.zeros((len(fleet.names), len(resources)), np.int64)
        for column, name in enumerate(resources):
            free[:, column] = np.clip(np.nan_to_num(_free(fleet, name)), 0, _MOST)
        room = np.zeros((len(groups), len(fleet.names)), np.int64)
        scores = np.zeros(room.shape)
        for row, order in enumerate(orders):
            room[row, order.clusters] = -(-order.rooms[order.clusters] // part)
            scores[row, order.clusters] = order.scores[order.clusters]
        if part > 1:
            # One task fits in every part, however small it is.
            free = np.minimum(free, np.maximum(-(-free // part), amounts.max(axis=0)[None, :]))
        counts = np.array([len(group.waiting) for group in groups], np.int64)
        return Problem(scores, room, counts, np.minimum(amounts, _MOST), free)


@dataclass(frozen=True, slots=True)
class _Order:
    """`clusters`, best first, with how many tasks each has room for, its score, and what is noted of each."""

    clusters: list[int]
    rooms: Counts
    scores: NDArray[np.float64]
    choice: Callable[[int], Choice]


def _free(fleet: Fleet, resource: str) -> NDArray[np.float64]:
    """By cluster, in the unit of `_amounts`; NaN where nothing is reported."""
    return fleet.free(resource) * (1000.0 if resource == names.GPU else 1.0)


def _amounts(option: Option) -> dict[str, int]:
    """What one task takes, GPUs in thousandths."""
    shape = option.shape
    amounts = {name: amount for name, amount in shape.requests if name != names.GPU}
    if shape.gpu_milli:
        amounts[names.GPU] = shape.gpu_milli
    return amounts
