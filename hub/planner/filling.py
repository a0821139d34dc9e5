"""How slots get a way to pay and clusters to be on: options in their order, the best clusters first, charged at once.

It fills what it is asked to fill, in the views it is given; who is asked, and who makes way, is decided elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from hub.api.reasons import Reason
from hub.planner.places import Counts, Mask, Option, Places, Wish
from hub.planner.plan import HeldSlice, Snapshot
from hub.planner.progress import Take
from hub.planner.record import choice_of
from hub.planner.refusals import shortage
from hub.planner.split import WAVES
from hub.planner.spreading import spread_slots
from hub.planner.standing import Standing
from hub.planner.views import View, affordable, room
from hub.queueing.assign import choices
from hub.queueing.demand import Demand
from hub.queueing.ledger import QuotaLedger
from hub.queueing.objects import ClusterQueue
from hub.queueing.quotas import Denial


class Filling:
    """Of one cycle: what is left of quota and room, and what never changes within it."""

    def __init__(self, snapshot: Snapshot, standing: Standing | None = None) -> None:
        self.snapshot = snapshot
        self._standing = standing or Standing(snapshot.quotas)
        self.ledger = QuotaLedger(snapshot.quotas, snapshot.usage)
        self.places = Places(snapshot)
        self._options: dict[tuple[str, int], tuple[Option, ...] | Denial] = {}
        self._possible: dict[tuple[str, int, int], tuple[Option, ...]] = {}
        self._numbers: dict[object, int] = {}
        self._seen: dict[int, int] = {}

    def options(self, queue: ClusterQueue, asking: Demand | HeldSlice) -> tuple[Option, ...] | Denial:
        """Every way to pay for a task of the job, in the order in which they are tried."""
        key = (queue.name, self.number(asking.shape))
        found = self._options.get(key)
        if found is None:
            known, same = self._standing.choices, (queue.name, self._standing.numbers.of(asking.shape))
            ways = known.get(same)
            if ways is None:
                ways = known[same] = choices(self.snapshot.quotas, queue, asking.shape)
            if isinstance(ways, Denial):
                found = ways
            else:
                found = tuple(self.places.option(asking.shape, choice) for choice in ways)
            self._options[key] = found
        return found

    def ways(self, wish: Wish, first: Option | None) -> tuple[Option, ...]:
        """Ways to pay that could ever do, in the order in which they are tried."""
        options = self.options(wish.queue, wish.demand)
        if isinstance(options, Denial):
            return ()
        queue = wish.queue.name
        key = (queue, self.number(wish.demand.shape), wish.together)
        possible = self._possible.get(key)
        if possible is None:
            possible = tuple(o for o in options if self.ledger.possible(queue, o.choice.requests, wish.together))
            self._possible[key] = possible
        options = possible
        if len(options) > 1 and not wish.queue.fungibility.borrowing_stops:
            borrows = self.ledger.borrows
            options = tuple(
                sorted(options, key=lambda o: (o.choice.fewer, borrows(queue, o.choice.requests, wish.together)))
            )
        if first is not None and first in options and options[0] is not first:
            options = (first, *(option for option in options if option is not first))
        return options

    def _near(self, wish: Wish, options: tuple[Option, ...]) -> tuple[Option, ...]:
        """Before each way the same within one domain, where the job prefers that: nobody makes way for it."""
        labels = wish.demand.domains
        if not labels or wish.demand.shape.domain:
            return options
        return tuple(
            near for option in options for near in (*(self.places.within(option, label) for label in labels), option)
        )

    def take(
        self,
        wish: Wish,
        wanted: int,
        options: tuple[Option, ...],
        views: Sequence[View],
        waves: int = WAVES,
        later: int = 0,
    ) -> list[Take]:
        """Up to `wanted` slots, charged as they are taken: flavors in their order, the best clusters first.

        `later`: to how many slots it could grow where it is: clusters with room for that, or most room, go first.
        """
        demand, queue = wish.demand, wish.queue.name
        options = self._near(wish, options)
        takes: list[Take] = []
        held = set(wish.held)
        among = self.places.candidates(wish, options) if demand.place else None
        for option in options:
            paid = affordable(views, queue, option.choice.requests, wanted)
            if paid < wish.together:
                continue
            if among is None:
                self._charge(views, queue, Take(-1, paid, option, waves=waves), takes)
                wanted -= paid
            else:
                rooms = room(views, option)
                fits = among & (rooms >= wish.together)
                if later and fits.any():
                    fits &= rooms >= min(later, int(rooms[fits].max()))
                order, ranking = views[0].places.best_first(demand.rule, option, paid, fits)
                parts = self._spread(wish, among, order, rooms, paid, takes, held)
                for index, cluster in enumerate(order):
                    name = self.places.names[cluster]
                    if demand.rule.limit is not None and name not in held and len(held) >= demand.rule.limit:
                        continue
                    if index and self.places.limited:
                        rooms = room(views, option)
                        if rooms[cluster] < wish.together:
                            continue
                    slots = min(paid, int(rooms[cluster]))
                    if parts is not None:
                        slots = min(slots, parts.get(cluster, 0))
                        if not slots:
                            continue
                    decision = choice_of(order, index, ranking, self.places.names).text()
                    bound = views[0].places.bound(option, cluster, slots)
                    self._charge(views, queue, Take(cluster, slots, bound, decision, waves), takes)
                    held.add(name)
                    paid -= slots
                    wanted -= slots
                    if paid <= 0 or demand.gang:
                        break
            if wanted <= 0 or (takes and demand.gang):
                break
        return takes

    def widen(self, queue: str, take: Take, wanted: int, views: Sequence[View]) -> int:
        """Up to `wanted` slots more of what was taken, where it is and paid like it; how many that is."""
        slots = affordable(views, queue, take.option.choice.requests, wanted)
        if take.cluster >= 0:
            slots = min(slots, int(room(views, take.option)[take.cluster]))
        if slots > 0:
            self._charge(views, queue, replace(take, slots=slots), [])
        return max(0, slots)

    def uneven(self, wish: Wish) -> bool:
        """Whether it is the job's own spread that holds it back: nobody is sent away for that."""
        if not wish.demand.rule.spread or not wish.demand.place:
            return False
        options = self.options(wish.queue, wish.demand)
        return shortage(self.places, self.ledger, wish, options).reason is Reason.SPREAD_UNEVEN

    def _spread(
        self,
        wish: Wish,
        among: Mask,
        order: Sequence[int],
        rooms: Counts,
        wanted: int,
        takes: Sequence[Take],
        held: Iterable[str],
    ) -> dict[int, int] | None:
        """Tasks by cluster, as the rule spreads them beside what runs and what was taken with other flavors; None: it
        does not. What has to start together on one cluster cannot be spread."""
        rule, places = wish.demand.rule, self.places
        if not rule.spread or wish.together > 1:
            return None
        placed = [*wish.placed, *((places.names[take.cluster], take.slots) for take in takes)]
        return spread_slots(
            places.fleet, rule.spread, among.nonzero()[0].tolist(), order,
            {cluster: int(rooms[cluster]) for cluster in order}, wanted, placed,
            clusters=rule.limit,
            held=[places.fleet.position(name) for name in held if name in places.fleet],
        )  # fmt: skip

    def _charge(self, views: Iterable[View], queue: str, take: Take, takes: list[Take]) -> None:
        for view in views:
            view.charge(queue, take.option.choice.requests, take.slots, take.cluster, take.option)
        takes.append(take)

    def wish_key(self, wish: Wish) -> tuple[object, ...]:
        demand = wish.demand
        shape, rule = self.number(demand.shape), self.number(demand.rule)
        return (
            wish.queue.name, shape, rule, wish.avoid, wish.together, wish.held, wish.placed, demand.running,
            demand.place,
        )  # fmt: skip

    def number(self, value: object) -> int:
        """Equal values have equal numbers; an object that was seen before costs no hash."""
        number = self._seen.get(id(value))
        if number is None:
            # The snapshot keeps it alive, so its id stays its own.
            number = self._numbers.setdefault(value, len(self._numbers))
            self._seen[id(value)] = number
        return number
