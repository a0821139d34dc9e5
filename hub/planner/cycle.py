"""One decision over the whole fleet: who gets quota, where, and who makes way. `plan` is pure; the shell acts on it.

Jobs are asked turn by turn (hub/planner/turns.py): first for what they are entitled to, which follows from all jobs and
quotas whoever runs, then for more. Each takes what quota and room allow, at once, so the next sees what is left. Quota
and room only shrink within a cycle: what was refused stays refused, which is why ten thousand equal jobs that do not
fit cost one look. Only who is entitled may send others away, and only those who are not: why that cannot go on for ever
is in docs/no-livelock.md.

How a "no" is put into words is hub/planner/refusals.py, who is sent away hub/planner/victims.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from operator import attrgetter

from hub.api.reasons import Reason
from hub.planner.claims import Claims
from hub.planner.places import Counts, Mask, Option, Places, Wish
from hub.planner.plan import Admission, HeldSlice, Plan, Preemption, Refusal, Snapshot
from hub.planner.preempting import kept_for, preemption, waits_for
from hub.planner.progress import Part, Progress, Take
from hub.planner.record import choice_of
from hub.planner.refusals import shortage
from hub.planner.reservations import Reservations
from hub.planner.split import WAVES
from hub.planner.spreading import spread_slots
from hub.planner.together import Together
from hub.planner.turns import Return, Turn, turns
from hub.planner.victims import Victim, Victims
from hub.planner.views import View, Views, affordable, part, room
from hub.queueing.assign import choices
from hub.queueing.demand import Demand
from hub.queueing.fleet.rights import may_take
from hub.queueing.ledger import QuotaLedger
from hub.queueing.objects import ClusterQueue
from hub.queueing.quotas import Denial

# What does not hold up the jobs behind in a StrictFIFO queue: such a job has all that it may have now.
PASSES = (Reason.PARALLELISM_REACHED,)


def plan(snapshot: Snapshot) -> Plan:
    """The admissions, refusals and preemptions of one cycle, in order of decision."""
    cycle = Cycle(snapshot)
    cycle.run()
    return cycle.plan()


def in_order(demands: Iterable[Demand]) -> list[Demand]:
    return sorted(demands, key=attrgetter("order"))


class Cycle:
    """The state of one cycle: what is left of quota and room, and what was decided so far."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.ledger = QuotaLedger(snapshot.quotas, snapshot.usage)
        self.places = Places(snapshot)
        self.preemptions: list[Preemption] = []
        self.progress: dict[str, Progress] = {}
        self._routes: dict[tuple[str, str], ClusterQueue | Denial] = {}
        self._options: dict[tuple[str, int], tuple[Option, ...] | Denial] = {}
        self._possible: dict[tuple[str, int, int], tuple[Option, ...]] = {}
        self._blocked: dict[str, str] = {}
        self._refused: dict[tuple[object, ...], Denial] = {}
        self._numbers: dict[object, int] = {}
        self._seen: dict[int, int] = {}
        self.claims = Claims(snapshot, self.places, self.route, self.options, self._number)
        self.turns: list[Turn | Return] = turns(self.claims, in_order(snapshot.demands), self.route)
        self._next = 0
        self._victims = Victims(snapshot, self.claims)
        self._views = Views(View(self.ledger, self.places), snapshot.held)
        self._reservations = Reservations(snapshot, self._views)
        self._promised: dict[str, None] = {}
        self._leaving = [held.key for held in snapshot.held if held.leaving]
        self._batches = Together(self)

    def run(self, until: str | None = None, through: str | None = None) -> None:
        """Decides turn by turn: all, those before the first turn of job `until`, or up to the last of job `through`."""
        end = len(self.turns)
        if through is not None:
            own = (n for n, turn in enumerate(self.turns) if isinstance(turn, Turn) and turn.demand.key == through)
            end = max(own, default=-1) + 1
        while self._next < end:
            together = self._batches.take(self._next, end, until)
            if together:
                self._next += together
                continue
            turn = self.turns[self._next]
            if isinstance(turn, Return):
                self._keep(turn)
            elif turn.demand.key == until:
                return
            else:
                self.decide(turn)
            self._next += 1

    @property
    def ordered(self) -> list[Demand]:
        """Who is asked, each once, in the order of their first turns."""
        return list({turn.demand.key: turn.demand for turn in self.turns if isinstance(turn, Turn)}.values())

    def slots(self, key: str) -> int:
        """How many the job got."""
        found = self.progress.get(key)
        return found.slots if found is not None else 0

    def plan(self) -> Plan:
        admissions: list[Admission] = []
        refusals: list[Refusal] = []
        for key, progress in self.progress.items():
            admission, denial = progress.outcome(self.places.names)
            if admission is not None:
                admissions.append(admission)
            if denial is not None:
                refusals.append(Refusal(key, denial.reason, denial.facts))
        wake_at = min(self._victims.wake_at, self._reservations.wake_at)
        return Plan(
            tuple(admissions), tuple(refusals), tuple(self.preemptions), None if math.isinf(wake_at) else wake_at
        )

    def decide(self, turn: Turn) -> None:
        """Takes what the job can have, and notes why it has no more."""
        demand = turn.demand
        if not demand.groups:
            return
        progress = self.progress.get(demand.key)
        if progress is None:
            progress = self.progress[demand.key] = self._begin(demand)
        queue = progress.queue
        if queue is None or (progress.denial is not None and not (turn.entitled and progress.promised)):
            return
        ahead = self._blocked.get(queue.name)
        if ahead is not None and ahead != demand.key:
            progress.denial = Denial(Reason.BEHIND_OLDER_JOB, (("queue", queue.name), ("ahead", ahead)))
            return
        if demand.gang:
            self._together(turn, progress, queue)
        else:
            self._apart(turn, progress, queue)
        denial = progress.denial
        if denial is not None and queue.strict and denial.reason not in PASSES:
            self._blocked[queue.name] = demand.key

    def placed(self, turn: Turn, take: Take) -> None:
        """What was decided about the one slot that a job waits for, its quota and room being taken already."""
        progress = self.progress[turn.demand.key] = self._begin(turn.demand)
        progress.note([take], self.places.names)
        progress.parts[0].add([take])

    def known(self, turn: Turn) -> bool:
        """Whether the job cannot get anything, as somebody was told who asked for the same."""
        demand = turn.demand
        queue = self.route(demand)
        if isinstance(queue, Denial) or demand.key in self.progress or not demand.groups or demand.problem:
            return False
        if queue.name in self._blocked:
            return True
        # In a StrictFIFO queue it would hold up jobs that are not decided about yet.
        if queue.strict or demand.gang or len(demand.groups) > 1:
            return False
        wish = Wish(demand, queue, demand.groups[0].avoid, 1, demand.running, demand.placed)
        return self._refusal_key(turn, wish)[0] in self._refused

    @property
    def promises(self) -> bool:
        """Whether anybody must fit in more than what is there now."""
        return self._views.waits or bool(self._views.shadows)

    def waves(self, wish: Wish) -> int:
        """How many tasks a slot may run one after the other."""
        return self._views.for_run(self.snapshot.now, _lasts(wish))[1]

    def route(self, demand: Demand) -> ClusterQueue | Denial:
        key = (demand.namespace, demand.queue)
        found = self._routes.get(key)
        if found is None:
            found = self.snapshot.quotas.route(*key)
            self._routes[key] = found
        return found

    def blocker(self, queue: ClusterQueue) -> str | None:
        """The job that a StrictFIFO queue waits for."""
        return self._blocked.get(queue.name)

    def options(self, queue: ClusterQueue, asking: Demand | HeldSlice) -> tuple[Option, ...] | Denial:
        """Every way to pay for a task of the job, in the order in which they are tried."""
        key = (queue.name, self._number(asking.shape))
        found = self._options.get(key)
        if found is None:
            ways = choices(self.snapshot.quotas, queue, asking.shape)
            if isinstance(ways, Denial):
                found = ways
            else:
                found = tuple(self.places.option(asking.shape, choice) for choice in ways)
            self._options[key] = found
        return found

    def _begin(self, demand: Demand) -> Progress:
        if demand.problem:
            denial = Denial(Reason.INVALID_SPEC, (("detail", demand.problem),))
        else:
            queue = self.route(demand)
            if not isinstance(queue, Denial):
                return Progress(demand, queue)
            denial = queue
        progress = Progress(demand, None)
        progress.denial = denial
        return progress

    def _apart(self, turn: Turn, progress: Progress, queue: ClusterQueue) -> None:
        """Each task on its own: as many as there is quota and room for."""
        slots = turn.slots
        for tasks in progress.parts:
            if slots <= 0:
                return
            wanted = min(slots, tasks.wanted)
            if wanted > 0:
                wish = Wish(turn.demand, queue, tasks.group.avoid, 1, progress.held, progress.placed)
                slots -= self._get(turn, progress, wish, wanted, [tasks])

    def _together(self, turn: Turn, progress: Progress, queue: ClusterQueue) -> None:
        """All tasks that may run at once on one cluster, or none."""
        demand = turn.demand
        together = min(demand.slots, demand.waiting)
        if together <= 0:
            return
        avoid = tuple(sorted({name for group in demand.groups for name in group.avoid}))
        self._get(turn, progress, Wish(demand, queue, avoid, together, demand.running), together, progress.parts)

    def _get(self, turn: Turn, progress: Progress, wish: Wish, wanted: int, parts: Sequence[Part]) -> int:
        """How many slots the parts of the job got, or were promised."""
        key, views, waves = self._refusal_key(turn, wish)
        known = self._refused.get(key)
        if known is not None:
            progress.denial = known
            return 0
        takes = self._take(wish, wanted, turn.option, views, waves)
        got = sum(take.slots for take in takes)
        progress.note(takes, self.places.names)
        if wish.demand.gang:
            for take in takes:
                _share_out(take, parts)
        else:
            parts[0].add(takes)
        if got < wanted and turn.entitled and not self._uneven(replace(wish, placed=progress.placed)):
            got += self._promise(turn, progress, wish, wanted - got, parts[0])
        if got < wanted and (wish.demand.gang or not parts[0].dealt):
            short = replace(wish, placed=progress.placed)
            if turn.entitled and not progress.promised:
                self._reserve(turn, short)
            known = self._kept_for_others(short, len(views)) or shortage(
                self.places, self.ledger, short, self.options(wish.queue, wish.demand)
            )
            if short.placed == wish.placed:
                # Else it is about tasks that another job with the same wish does not have.
                self._refused[key] = known
            progress.denial = progress.denial or known
        return got

    def _refusal_key(self, turn: Turn, wish: Wish) -> tuple[tuple[object, ...], list[View], int]:
        """What a refusal depends on; and in which views the job must fit, with how many tasks a slot.

        What must be kept for others only grows within a cycle, so it is no part of that.
        """
        lasts = _lasts(wish)
        views, waves = self._views.for_run(self.snapshot.now, lasts)
        # Whoever may take from others may do so once somebody else has made others go.
        asked = (len(self.preemptions) if may_take(wish.queue) else 0) if turn.entitled else -1
        return (self.wish_key(wish), lasts, asked), views, waves

    def _promise(self, turn: Turn, progress: Progress, wish: Wish, wanted: int, into: Part) -> int:
        """How many slots the job gets once those who are on their way out, or are sent away now, are gone."""
        got, tried = 0, False
        while got < wanted:
            if self._views.waits:
                spread = replace(wish, placed=progress.placed)
                takes = self._take(spread, wanted - got, turn.option, self._views.then())
                got += sum(take.slots for take in takes)
                tried = tried and not takes
                progress.note(takes, self.places.names)
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
        options = self.ways(wish, turn.option)
        among = self.places.candidates(wish, options) if wish.demand.place else None
        view = self._views.later() if self._views.waits else self._views.now
        found = self._victims.find(wish, options, view, among)
        if found and self._views.shadows and not self._would_do(found, wish, options, among):
            return False
        for victim in found:
            self.preemptions.append(preemption(victim, wish))
            self._views.release(victim.held, victim.kept)
            self._leaving.append(victim.held.key)
        self._victims.take(found)
        return bool(found)

    def _would_do(self, found: Sequence[Victim], wish: Wish, options: Iterable[Option], among: Mask | None) -> bool:
        """Whether the job would start without the victims, promises to others kept."""
        views = [view.apart() for view in self._views.then()]
        for view in views:
            for victim in found:
                view.release(victim.held, victim.kept)
        return any(
            affordable(views, wish.queue.name, option.choice.requests, wish.together) >= wish.together
            and (among is None or (among & (room(views, option) >= wish.together)).any())
            for option in options
        )

    def _keep(self, turn: Return) -> None:
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

    def ways(self, wish: Wish, first: Option | None) -> tuple[Option, ...]:
        """Ways to pay that could ever do, in the order in which they are tried."""
        options = self.options(wish.queue, wish.demand)
        if isinstance(options, Denial):
            return ()
        queue = wish.queue.name
        key = (queue, self._number(wish.demand.shape), wish.together)
        possible = self._possible.get(key)
        if possible is None:
            possible = tuple(o for o in options if self.ledger.possible(queue, o.choice.requests, wish.together))
            self._possible[key] = possible
        options = possible
        if len(options) > 1 and not wish.queue.fungibility.borrowing_stops:
            options = tuple(sorted(options, key=lambda o: self.ledger.borrows(queue, o.choice.requests, wish.together)))
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

    def _reserve(self, turn: Turn, wish: Wish) -> None:
        options = self.ways(wish, turn.option)
        among = self.places.candidates(wish, options) if wish.demand.place else None
        kind = self.wish_key(wish)
        self._reservations.keep(
            wish, kind, options, among, lambda view: bool(self._take(wish, wish.together, turn.option, [view]))
        )

    def _kept_for_others(self, wish: Wish, views: int) -> Denial | None:
        """Where quota and room are there, but promised to others."""
        if views < 2:
            return None
        jobs = [job for job in (*self._promised, *self._reservations.kept_for) if job != wish.demand.key]
        now = [self._views.now]
        options = self.ways(wish, None)
        among = self.places.candidates(wish, options) if wish.demand.place else None
        for option in options:
            if affordable(now, wish.queue.name, option.choice.requests, wish.together) >= wish.together and (
                among is None or (among & (room(now, option) >= wish.together)).any()
            ):
                return kept_for(jobs or self._leaving)
        return None

    def _take(
        self, wish: Wish, wanted: int, first: Option | None, views: Sequence[View], waves: int = WAVES
    ) -> list[Take]:
        """Up to `wanted` slots, charged as they are taken: flavors in their order, the best clusters first."""
        demand, queue = wish.demand, wish.queue.name
        options = self._near(wish, self.ways(wish, first))
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
                    if paid <= 0:
                        break
            if wanted <= 0:
                break
        return takes

    def _uneven(self, wish: Wish) -> bool:
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
        shape, rule = self._number(demand.shape), self._number(demand.rule)
        return (
            wish.queue.name, shape, rule, wish.avoid, wish.together, wish.held, wish.placed, demand.running,
            demand.place,
        )  # fmt: skip

    def _number(self, value: object) -> int:
        """Equal values have equal numbers; an object that was seen before costs no hash."""
        number = self._seen.get(id(value))
        if number is None:
            # The snapshot keeps it alive, so its id stays its own.
            number = self._numbers.setdefault(value, len(self._numbers))
            self._seen[id(value)] = number
        return number


def _share_out(take: Take, parts: Sequence[Part]) -> None:
    """The slots of a gang over its tasks, the first of them first."""
    slots = take.slots
    for tasks in parts:
        here = min(slots, len(tasks.group.tasks))
        if here > 0:
            tasks.add([Take(take.cluster, here, take.option, take.decision)])
            slots -= here


def _lasts(wish: Wish) -> float | None:
    """Seconds that the job holds what it gets at least, if every slot runs one task; None: nobody knows."""
    demand = wish.demand
    if demand.expected is None:
        return None
    return demand.expected * (-(-demand.waiting // wish.together) if demand.gang else 1)
