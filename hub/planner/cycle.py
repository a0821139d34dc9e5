"""One decision over the whole fleet: who gets quota, where, and who makes way. `plan` is pure; the shell acts on it.

Jobs are asked turn by turn (hub/planner/turns.py): first for what they are entitled to, which follows from all jobs and
quotas whoever runs, then for more. Each takes what quota and room allow, at once, so the next sees what is left. Quota
and room only shrink within a cycle: what was refused stays refused, which is why ten thousand equal jobs that do not
fit cost one look. Only who is entitled may send others away, and only those who are not: why that cannot go on for ever
is in docs/no-livelock.md.

How clusters are filled is hub/planner/filling.py, what is promised to whom hub/planner/promises.py, how a "no" is put
into words hub/planner/refusals.py.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterable, Sequence
from dataclasses import replace
from operator import attrgetter

from hub.api.reasons import Reason
from hub.planner.claims import Claims
from hub.planner.filling import Filling
from hub.planner.growing import Growing
from hub.planner.places import Option, Wish
from hub.planner.plan import Admission, HeldSlice, Plan, Refusal, Snapshot
from hub.planner.progress import Part, Progress, Take
from hub.planner.promises import Promises
from hub.planner.refusals import shortage
from hub.planner.standing import Standing
from hub.planner.together import Together
from hub.planner.turns import Grow, Return, Turn, turns
from hub.planner.views import View, Views
from hub.queueing.demand import Demand
from hub.queueing.fleet.rights import may_take
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

    def __init__(self, snapshot: Snapshot, standing: Standing | None = None) -> None:
        """`standing`: what is kept of earlier decisions about the same quotas; it is brought up to date."""
        self.snapshot = snapshot
        standing = standing or Standing(snapshot.quotas)
        self.filling = Filling(snapshot, standing)
        self.ledger, self.places = self.filling.ledger, self.filling.places
        self.progress: dict[str, Progress] = {}
        self._routes: dict[tuple[str, str], ClusterQueue | Denial] = {}
        self._blocked: dict[str, str] = {}
        self._refused: dict[tuple[object, ...], Denial] = {}
        # Of single slots that ask for quota only, by queue and shape: how they are paid, and why no more are.
        self._payable: dict[tuple[str, int], tuple[Option, ...]] = {}
        self._short: dict[tuple[str, int], Denial] = {}
        # What is part of a cycle knows it only weakly: ten thousand jobs' worth of it goes with the last reference, and
        # not when somebody collects garbage.
        me = weakref.proxy(self)
        self.claims = Claims(
            snapshot,
            self.places,
            lambda demand: me.route(demand),
            lambda queue, demand: me.options(queue, demand),
            standing,
        )
        self.turns: list[Turn | Return | Grow] = turns(self.claims, in_order(snapshot.demands), self.route)
        self._next = 0
        self._views = Views(View(self.ledger, self.places), self.claims.leaving)
        self._promises = Promises(snapshot, self.filling, self._views, self.claims)
        self._growing = Growing(snapshot, self.filling, self._views, self._promises, snapshot.quotas.route)
        self._growing.within_bounds(self.claims.elastic)

    def run(self, until: str | None = None, through: str | None = None) -> None:
        """Decides turn by turn: all, those before the first turn of job `until`, or up to the last of job `through`."""
        end, batches = len(self.turns), Together(self)
        if through is not None:
            own = (n for n, turn in enumerate(self.turns) if isinstance(turn, Turn) and turn.demand.key == through)
            end = max(own, default=-1) + 1
        while self._next < end:
            turn = self.turns[self._next]
            together = batches.take(self._next, end, until) if _placed(turn) else 0
            if together:
                self._next += together
                continue
            if isinstance(turn, Return):
                self._promises.keep(turn)
            elif isinstance(turn, Grow):
                self._grow(turn)
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
        preemptions, wake_at = tuple(self._promises.preemptions), self._promises.wake_at
        wakes = None if math.isinf(wake_at) else wake_at
        return Plan(tuple(admissions), tuple(refusals), preemptions, wakes, self._growing.growths)

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
        if demand.bounds is not None and not demand.active and (demand.gang or demand.least > 1):
            self._elastic(turn, progress, queue)
        elif demand.gang and demand.bounds is None:
            self._together(turn, progress, queue)
        else:
            self._apart(turn, progress, queue)
        denial = progress.denial
        beyond = demand.bounds is not None and (demand.active > 0 or progress.slots > 0)
        if denial is not None and queue.strict and denial.reason not in PASSES and not beyond:
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
        if demand.bounds is not None:
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
        return self.filling.options(queue, asking)

    def ways(self, wish: Wish, first: Option | None) -> tuple[Option, ...]:
        """Those that could ever do."""
        return self.filling.ways(wish, first)

    def wish_key(self, wish: Wish) -> tuple[object, ...]:
        return self.filling.wish_key(wish)

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
        alone = slots == 1 and not turn.demand.place and not self.promises
        if alone and self._paid(turn, progress, queue):
            return
        if turn.demand.bounds is not None:
            # Its slices that run may have grown.
            got = progress.slots + progress.promised + self._growing.got(turn.demand.key)
            slots = min(slots, turn.demand.slots - got)
        for tasks in progress.parts:
            if slots <= 0:
                return
            wanted = min(slots, tasks.wanted)
            if wanted > 0:
                wish = Wish(turn.demand, queue, tasks.group.avoid, 1, progress.held, progress.placed)
                slots -= self._get(turn, progress, wish, wanted, [tasks])
        denial = progress.denial
        if (
            alone
            and denial is not None
            and not progress.slots
            and not self.promises
            and not turn.demand.groups[0].avoid
        ):
            self._short.setdefault((queue.name, self.filling.number(turn.demand.shape)), denial)

    def _paid(self, turn: Turn, progress: Progress, queue: ClusterQueue) -> bool:
        """Decides about one slot that asks for nothing but quota, where that is simple; False: the long way."""
        demand, part = turn.demand, progress.parts[0]
        if demand.bounds is not None or demand.gang or len(progress.parts) > 1 or part.takes or part.promised:
            return False
        key = (queue.name, self.filling.number(demand.shape))
        known = self._short.get(key)
        if known is not None and not (turn.entitled and may_take(queue)):
            progress.denial = known
            return True
        ways = self._payable.get(key)
        if ways is None:
            simple = queue.fungibility.borrowing_stops and len(part.group.tasks) == 1
            ways = self._payable[key] = self.filling.ways(Wish(demand, queue, (), 1, ()), None) if simple else ()
        if len(ways) != 1 or len(part.group.tasks) != 1:
            return False
        requests = ways[0].choice.requests
        if not self.ledger.affordable(queue.name, requests, 1):
            return False
        self.ledger.add(queue.name, requests)
        part.takes.append(Take(-1, 1, ways[0]))
        return True

    def _together(self, turn: Turn, progress: Progress, queue: ClusterQueue) -> None:
        """All tasks that may run at once on one cluster, or none."""
        demand = turn.demand
        together = min(demand.slots, demand.waiting)
        if together <= 0:
            return
        avoid = tuple(sorted({name for group in demand.groups for name in group.avoid}))
        self._get(turn, progress, Wish(demand, queue, avoid, together, demand.running), together, progress.parts)

    def _elastic(self, turn: Turn, progress: Progress, queue: ClusterQueue) -> None:
        """As many as it starts with together on one cluster, or none; then more, those of a gang in the same place."""
        demand, slots = turn.demand, turn.slots
        if not progress.slots:
            least = demand.least
            if slots < least:
                return
            avoid = tuple(sorted({name for group in demand.groups for name in group.avoid}))
            wish = Wish(demand, queue, avoid, least, demand.running, demand.placed)
            later = min(demand.slots, demand.waiting) if demand.gang else 0
            self._get(turn, progress, wish, least, progress.parts, later)
            slots -= least
        if not progress.slots or slots <= 0:
            return
        if demand.gang:
            self._widen(progress, queue, min(slots, demand.slots - progress.slots))
        else:
            self._apart(replace(turn, slots=slots), progress, queue)

    def _widen(self, progress: Progress, queue: ClusterQueue, wanted: int) -> None:
        """More slots for what a gang was given, where that is."""
        take = next(take for part in progress.parts for take in part.takes)
        views, _ = self._views.for_run(self.snapshot.now, None)
        slots = self.filling.widen(queue.name, take, wanted, views)
        for part in progress.parts:
            here = min(slots, len(part.group.tasks) - part.slots)
            if here > 0:
                part.add([replace(take, slots=here)])
                slots -= here

    def _grow(self, turn: Grow) -> None:
        holder, claim = turn.holder, turn.holder.claim
        held = next((one for one in holder.staying if one.bounds is not None), None)
        if held is None or held.bounds is None or (not turn.entitled and self._blocked.get(held.queue)):
            return
        progress = self.progress.get(claim.key)
        got = progress.slots + progress.promised if progress is not None else 0
        has = sum(one.slots for one in (*holder.staying, *holder.leaving))
        self._growing.grow(turn, held.bounds[1] - has - got - self._growing.got(claim.key))

    def _get(
        self, turn: Turn, progress: Progress, wish: Wish, wanted: int, parts: Sequence[Part], later: int = 0
    ) -> int:
        """How many slots the parts of the job got, or were promised. `later`: how many it may have in all there."""
        key, views, waves = self._refusal_key(turn, wish)
        known = self._refused.get(key)
        if known is not None:
            progress.denial = known
            return 0
        takes = self.filling.take(wish, wanted, self.ways(wish, turn.option), views, waves, later)
        got = sum(take.slots for take in takes)
        progress.note(takes, self.places.names)
        if wish.demand.gang or wish.together > 1:
            for take in takes:
                _share_out(take, parts)
        else:
            parts[0].add(takes)
        if got < wanted and turn.entitled and not self.filling.uneven(replace(wish, placed=progress.placed)):
            got += self._promises.promise(turn, progress, wish, wanted - got, parts[0])
        if got < wanted and (wish.together > 1 or wish.demand.gang or not parts[0].dealt):
            short = replace(wish, placed=progress.placed)
            if turn.entitled and not progress.promised:
                self._promises.reserve(turn, short)
            known = self._promises.kept_for_others(short, len(views)) or shortage(
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
        asked = (len(self._promises.preemptions) if may_take(wish.queue) else 0) if turn.entitled else -1
        return (self.wish_key(wish), lasts, asked), views, waves


def _placed(turn: Turn | Return | Grow) -> bool:
    return isinstance(turn, Turn) and turn.demand.place


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
