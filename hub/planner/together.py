"""Runs of single tasks that are asked one after the other and concern each other only by the room they take: decided
together.

Who gets a place does not change by that, only where: a run is decided together when all of it has a place, else only
the part of it before the first job that has none, who is then asked as always. So nobody is refused for the sake of
somebody behind. Quota is taken in the order in which jobs are asked, before anything is placed.

Not decided together are gangs, jobs that may run several tasks at once (they belong on few clusters), jobs whose rule
limits or spreads their clusters, and everybody while promises have to be kept or scorers count what decisions take.
Where the run goes is hub/planner/run.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from hub.placement.filters import avoided
from hub.planner.places import Option, Wish
from hub.planner.progress import Take
from hub.planner.run import Group, Run
from hub.planner.turns import Turn
from hub.queueing.demand import Demand
from hub.queueing.objects import ClusterQueue
from hub.queueing.quotas import Denial

if TYPE_CHECKING:
    from hub.planner.cycle import Cycle

LEAST: Final = 16
"""Fewer jobs than this are quicker asked one by one, and each then sees what the one before took."""
EACH: Final = 4
"""So many jobs of each group at least, on average: a run costs as much as its groups do, jobs one by one as they do."""
_DEARER: Final = 4
"""A run of which not all has a place says that room is short; the next one has to be so many times as long."""


class Together:
    """Beside one cycle, whose state it reads, and changes as the cycle itself does."""

    def __init__(self, cycle: Cycle) -> None:
        self._cycle = cycle
        self._groups: dict[tuple[object, ...], tuple[Group, ...]] = {}
        # Turns before this one were looked at and make no run.
        self._apart = 0
        self._factor = 1

    def take(self, start: int, end: int, until: str | None) -> int:
        """How many turns from `start` on are decided now; 0: the next one is to be asked alone.

        Turns from `end` on, and those from the first of job `until` on, are not looked at.
        """
        cycle = self._cycle
        if start < self._apart or end - start < LEAST or cycle.promises or cycle.places.limited:
            return 0
        run = Run(cycle.places, cycle.ledger)
        stop = self._collect(run, start, end, until)
        if len(run.members) < self._factor * max(LEAST, EACH * run.groups):
            run.pay_back(run.members)
            self._apart = stop
            return 0
        placed = run.place()
        first = run.first_waiting(stop)
        if first < stop:
            placed = run.only(placed, first)
            # Nobody is tried twice.
            self._apart = stop
            self._factor *= _DEARER
        run.pay_back([at for at in run.members if at not in placed])
        for at in sorted(placed):
            group, place = run.members[at], placed[at]
            take = Take(place.cluster, 1, group.option, place.decision.told(len(placed)), group.waves)
            cycle.placed(self._turn(at), take)
        return first - start if placed else 0

    def _turn(self, at: int) -> Turn:
        turn = self._cycle.turns[at]
        assert isinstance(turn, Turn), "only turns are collected"
        return turn

    def _collect(self, run: Run, start: int, end: int, until: str | None) -> int:
        """Adds turns to the run, their quota taken; the position of the first that does not belong to it."""
        priority: int | None = None
        for at in range(start, end):
            turn = self._cycle.turns[at]
            if not isinstance(turn, Turn) or turn.demand.key == until:
                return at
            if run.members and self._cycle.known(turn):
                # It takes nothing from anyone, so the run goes on behind it.
                self._cycle.decide(turn)
                continue
            if priority is not None and turn.demand.priority != priority:
                return at
            ways = self._ways(turn)
            if not ways or not run.add(at, ways):
                return at
            priority = turn.demand.priority
        return end

    def _ways(self, turn: Turn) -> Sequence[Group]:
        """The groups the job could belong to, one for each way to pay for it, in the order in which they are tried."""
        demand, cycle = turn.demand, self._cycle
        if turn.slots != 1 or not _single(demand) or demand.key in cycle.progress:
            return ()
        queue = cycle.route(demand)
        if isinstance(queue, Denial) or cycle.blocker(queue) is not None:
            return ()
        wish = Wish(demand, queue, demand.groups[0].avoid, 1, demand.running, demand.placed)
        key = (*cycle.wish_key(wish), id(turn.option), demand.expected)
        found = self._groups.get(key)
        if found is None:
            found = self._groups[key] = tuple(self._made(wish, queue, turn.option))
        return found

    def _made(self, wish: Wish, queue: ClusterQueue, first: Option | None) -> Iterator[Group]:
        places, rule = self._cycle.places, wish.demand.rule
        options = self._cycle.ways(wish, first)
        # Who asks a scorer that says something else each time, or pays by what others borrowed, is asked alone.
        if any(getattr(entry.scorer, "live", False) for entry in places.scorers(rule)):
            return
        if len(options) > 1 and not queue.fungibility.borrowing_stops:
            return
        among = places.candidates(wish, options)
        if (avoided(places.fleet, rule) & among).any():
            return
        for option in options:
            yield Group(wish, option, among, self._cycle.waves(wish))


def _single(demand: Demand) -> bool:
    """Whether it asks for one slot anywhere, and nothing depends on where others of it are."""
    rule = demand.rule
    return (
        len(demand.groups) == 1
        and demand.place
        and not demand.gang
        and demand.bounds is None
        and not demand.problem
        and min(demand.slots, demand.waiting) == 1
        and rule.limit is None
        and not rule.spread
    )
