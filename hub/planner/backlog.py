"""A queue of a million: who waits is in lanes of those that fare alike, and a decision looks at the heads of lanes.

Of jobs that are alike in all but name and age, the first that is entitled to nothing and refused speaks for all behind
it: they would be asked the same question and get the same answer (hub/planner/cycle.py), and take nothing. So a
decision about the first few of each lane is the decision about everyone. What it costs follows from how many kinds of
jobs wait and how many run, not from how many wait.

It decides by `Cycle`, and `whole` says what `plan` would have said of everybody (a test holds the two equal).
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import replace
from operator import attrgetter
from typing import Final

from hub.api.reasons import Reason
from hub.planner.cycle import PASSES, Cycle
from hub.planner.plan import Plan, Refusal, Snapshot
from hub.planner.standing import Standing
from hub.queueing.assign import counted
from hub.queueing.demand import Demand
from hub.queueing.fleet.claim import Order
from hub.queueing.objects import FlavorResource
from hub.queueing.quotas import Denial

_ORDER: Final = attrgetter("order")
# So many of a lane are looked at first.
_SHOWN: Final = 1
_FIRST: Final = 24


class _Lane:
    """`waiting`: in the order of the queue. `spokesman`: the order of who was refused for all behind, with what those
    are told (`told`: what they were, when last asked); None: everybody was looked at."""

    __slots__ = ("denial", "shown", "spokesman", "told", "waiting")

    def __init__(self) -> None:
        self.waiting: list[Demand] = []
        self.shown = _SHOWN
        self.spokesman: Order | None = None
        self.denial: Denial | None = None
        self.told: Denial | None = None

    @property
    def hides(self) -> bool:
        return len(self.waiting) > self.shown

    def place_of(self, demand: Demand) -> int:
        return bisect_left(self.waiting, demand.order, key=_ORDER)


class Backlog:
    """Demands by key. Whoever changes what waits says so by `put` and `drop`, and then asks for a decision."""

    def __init__(self, demands: Iterable[Demand] = ()) -> None:
        self._lanes: dict[Hashable, _Lane] = {}
        self._known: dict[str, tuple[Demand, Hashable]] = {}
        self._numbers: dict[Hashable, int] = {}
        self._cycle: Cycle | None = None
        self._standing: Standing | None = None
        self._uses: frozenset[tuple[int, FlavorResource]] = frozenset()
        for demand in demands:
            self.put(demand)

    def __len__(self) -> int:
        return len(self._known)

    def __iter__(self) -> Iterator[Demand]:
        return (demand for demand, _ in self._known.values())

    def put(self, demand: Demand) -> Denial | None:
        """As it is now. What it is refused with, where that follows from the last decision; None: decide anew."""
        if demand.key in self._known:
            self.drop(demand.key)
        likeness = self._likeness(demand)
        self._known[demand.key] = (demand, likeness)
        lane = self._lanes.get(likeness)
        if lane is None:
            lane = self._lanes[likeness] = _Lane()
        insort(lane.waiting, demand, key=_ORDER)
        if self._cycle is None or lane.spokesman is None or demand.order < lane.spokesman:
            self._cycle = None
            return None
        return lane.denial

    def drop(self, key: str) -> None:
        demand, likeness = self._known.pop(key)
        lane = self._lanes[likeness]
        del lane.waiting[lane.place_of(demand)]
        if lane.spokesman is None or demand.order <= lane.spokesman:
            self._cycle = None
        if not lane.waiting:
            del self._lanes[likeness]

    def decide(self, snapshot: Snapshot) -> Plan:
        """About everyone that waits, whatever `snapshot.demands` says. Refusals are of those that were looked at."""
        standing, self._standing = self._standing, None
        if standing is None or standing.quotas is not snapshot.quotas or standing.crowded:
            standing = Standing(snapshot.quotas)
        while True:
            shown = tuple(demand for lane in self._lanes.values() for demand in lane.waiting[: lane.shown])
            cycle = Cycle(replace(snapshot, demands=shown), standing)
            cycle.run()
            roomy = self._roomy(cycle)
            short = [lane for lane in self._lanes.values() if not self._closed(lane, cycle, roomy) and lane.hides]
            if not short:
                break
            for lane in _foremost(short):
                lane.shown = max(4 * lane.shown, self._guess(lane, snapshot))
        self._cycle, self._standing = cycle, standing
        self._uses = self._wants(cycle)
        decided = cycle.plan()
        for lane in self._lanes.values():
            # Next time as many as it took, and one who is refused.
            taken = sum(1 for demand in lane.waiting[: lane.shown] if cycle.slots(demand.key))
            lane.shown = max(_SHOWN, taken + taken // 4 + 1)
        return decided

    @staticmethod
    def _guess(lane: _Lane, snapshot: Snapshot) -> int:
        """How many of a lane its queue's own quota may hold, and one more."""
        first = lane.waiting[0]
        queue = snapshot.quotas.route(first.namespace, first.queue)
        if isinstance(queue, Denial) or first.problem:
            return _SHOWN
        slots = max(1, min(first.slots, first.waiting))
        most = _FIRST
        for resource, each in counted(queue, first.shape).items():
            owned = sum(quota.nominal for key, quota in queue.quotas.items() if key[1] == resource)
            most = min(most, owned // (each * slots))
        return max(_SHOWN, most + 1)

    def refusal(self, key: str) -> Refusal | None:
        """Why a job waits, by the last decision; None: it has all it wants, or nothing was decided since it changed."""
        if self._cycle is None or key not in self._known:
            return None
        progress = self._cycle.progress.get(key)
        if progress is not None:
            denial = progress.outcome(self._cycle.places.names)[1]
        else:
            denial = self._lanes[self._known[key][1]].denial
        return None if denial is None else Refusal(key, denial.reason, denial.facts)

    def whole(self, decided: Plan) -> Plan:
        """`decided` with a refusal for everyone who waits, those that were not looked at by name."""
        said = {refusal.key for refusal in decided.refusals}
        behind = (self.refusal(key) for key in sorted(self._known) if key not in said)
        gone = {admission.key for admission in decided.admissions}
        more = tuple(found for found in behind if found is not None and found.key not in gone)
        return replace(decided, refusals=(*decided.refusals, *more))

    def told_otherwise(self) -> Iterator[Refusal]:
        """For everybody behind a spokesman who says something else than when this was last asked."""
        for lane in self._lanes.values():
            denial = lane.denial
            if denial is not None and denial != lane.told and lane.spokesman is not None:
                for demand in lane.waiting[bisect_left(lane.waiting, lane.spokesman, key=_ORDER) + 1 :]:
                    yield Refusal(demand.key, denial.reason, denial.facts)
            lane.told = denial

    def concerns(self, queue: str, keys: Iterable[FlavorResource], cluster: str) -> bool:
        """Whether somebody could start, or take from others, for what a slice there gives back: quota of the queue's
        tree, and room on the cluster (empty: none). False: a decision would say what the last one said."""
        cycle = self._cycle
        if cycle is None:
            return True
        tree = cycle.snapshot.quotas.trees.get(queue)
        if tree is not None and any((id(tree), key) in self._uses for key in keys):
            return True
        return bool(cluster) and self._goes_to(cycle, cluster)

    def _roomy(self, cycle: Cycle) -> set[str]:
        """Queues on their own that have quota for everyone who waits, so that nobody's right depends on another's."""
        wanted: dict[str, dict[FlavorResource, int]] = {}
        for lane in () if cycle.claims.contested else self._lanes.values():
            first = lane.waiting[0]
            queue = cycle.route(first)
            if isinstance(queue, Denial) or cycle.snapshot.quotas.trees[queue.name].root.name != queue.name:
                continue
            options = cycle.options(queue, first)
            if isinstance(options, Denial):
                continue
            total = wanted.setdefault(queue.name, {})
            slots = min(first.slots, first.waiting) * len(lane.waiting)
            for option in options:
                for key, each in option.choice.requests:
                    total[key] = total.get(key, 0) + each * slots
        for one in cycle.claims.held if wanted else ():
            for key, value in one.amounts if one.queue in wanted else ():
                wanted[one.queue][key] = wanted[one.queue].get(key, 0) + value
        roomy: set[str] = set()
        for name, total in wanted.items():
            apart = cycle.claims.apart.get(name, {})
            if all(cycle.ledger.potential(name, key) - apart.get(key, 0) >= value for key, value in total.items()):
                roomy.add(name)
        return roomy

    def _closed(self, lane: _Lane, cycle: Cycle, roomy: set[str]) -> bool:
        """Finds who speaks for those behind."""
        lane.spokesman = lane.denial = None
        for demand in lane.waiting[: lane.shown]:
            progress = cycle.progress.get(demand.key)
            if progress is None or progress.denial is None or progress.slots or progress.promised:
                continue
            queue = progress.queue
            claim = cycle.claims.of(demand.key, queue.name) if queue is not None else None
            if claim is not None and claim.most and not (queue is not None and queue.name in roomy):
                continue
            denial = progress.denial
            if queue is not None and queue.strict:
                if denial.reason in PASSES:
                    continue
                if denial.reason is not Reason.BEHIND_OLDER_JOB:
                    denial = Denial(Reason.BEHIND_OLDER_JOB, (("queue", queue.name), ("ahead", demand.key)))
            lane.spokesman, lane.denial = demand.order, denial
            return True
        return False

    def _wants(self, cycle: Cycle) -> frozenset[tuple[int, FlavorResource]]:
        """What quota those that wait could use, by tree."""
        found: set[tuple[int, FlavorResource]] = set()
        for lane in self._lanes.values():
            first = lane.waiting[0]
            queue = cycle.route(first)
            if isinstance(queue, Denial) or first.problem:
                continue
            options = cycle.options(queue, first)
            if isinstance(options, Denial):
                continue
            tree = id(cycle.snapshot.quotas.trees[queue.name])
            found.update((tree, key) for option in options for key, _ in option.choice.requests)
        return frozenset(found)

    def _goes_to(self, cycle: Cycle, cluster: str) -> bool:
        if cluster not in cycle.places.fleet:
            return False
        position = cycle.places.fleet.position(cluster)
        for lane in self._lanes.values():
            first = lane.waiting[0]
            if first.place and not first.problem and cycle.places.allowed(first.rule, first.running)[position]:
                return True
        return False

    def _likeness(self, demand: Demand) -> Hashable:
        """Equal for demands that are asked the same question, but for when it is their turn."""
        groups = tuple((len(group.tasks), group.attempt, group.avoid) for group in demand.groups)
        return (
            demand.namespace, demand.queue, demand.priority, self._number(demand.shape), self._number(demand.rule),
            groups, demand.slots, demand.gang, demand.problem, demand.active, demand.running, demand.place,
            demand.expected, demand.placed, demand.bounds,
        )  # fmt: skip

    def _number(self, value: Hashable) -> int:
        return self._numbers.setdefault(value, len(self._numbers))


def _foremost(lanes: Iterable[_Lane]) -> Iterator[_Lane]:
    """Of each queue those with the highest priority: what they take the others need not be looked at for."""
    by_queue: dict[tuple[str, str], list[_Lane]] = {}
    for lane in lanes:
        by_queue.setdefault((lane.waiting[0].namespace, lane.waiting[0].queue), []).append(lane)
    for same in by_queue.values():
        highest = max(lane.waiting[0].priority for lane in same)
        yield from (lane for lane in same if lane.waiting[0].priority == highest)


class Heads:
    """`plan` as hub/planner/cycle.py has it, for a caller that decides again and again about much the same backlog.

    Of refusals a plan has the news: those of all that were looked at, and of everybody else who is to be told something
    else than before.
    """

    def __init__(self) -> None:
        self.forget()

    def plan(self, snapshot: Snapshot) -> Plan:
        try:
            self._follow(snapshot.demands)
            decided = self._backlog.decide(replace(snapshot, demands=()))
            return replace(decided, refusals=tuple(self._news(decided)))
        except Exception:
            # Somebody may look for who made it fail: what is asked next must not depend on how far this one got.
            self.forget()
            raise

    def arrive(self, demand: Demand) -> Refusal | None:
        """What a demand that is new or changed is refused with, where that follows from the last plan; None: plan."""
        known = self._known.get(demand.key)
        if known is not None:
            self._seen.pop(id(known), None)
        self._known[demand.key], self._seen[id(demand)] = demand, demand
        denial = self._backlog.put(demand)
        if denial is None:
            self._untold.add(demand.key)
            return None
        self._untold.discard(demand.key)
        return Refusal(demand.key, denial.reason, denial.facts)

    def concerns(self, queue: str, keys: Iterable[FlavorResource], cluster: str) -> bool:
        """As Backlog.concerns."""
        return self._backlog.concerns(queue, keys, cluster)

    def forget(self) -> None:
        """Everybody is to be told again, and nothing is known of earlier plans."""
        self._backlog = Backlog()
        self._known: dict[str, Demand] = {}
        self._seen: dict[int, Demand] = {}
        # Who was told nothing yet, and who was last told something of his own.
        self._untold: set[str] = set()
        self._named: set[str] = set()

    def _follow(self, demands: Iterable[Demand]) -> None:
        now = {id(demand): demand for demand in demands}
        for number in self._seen.keys() - now.keys():
            demand = self._seen.pop(number)
            if self._known.get(demand.key) is demand:
                del self._known[demand.key]
                self._backlog.drop(demand.key)
        for number in now.keys() - self._seen.keys():
            demand = self._seen[number] = now[number]
            self._known[demand.key] = demand
            self._backlog.put(demand)
            self._untold.add(demand.key)

    def _news(self, decided: Plan) -> Iterator[Refusal]:
        said = {refusal.key for refusal in decided.refusals}
        gone = {admission.key for admission in decided.admissions}
        yield from decided.refusals
        told = said | gone
        for key in sorted((self._untold | self._named) - told):
            refusal = self._backlog.refusal(key)
            if refusal is not None:
                told.add(key)
                yield refusal
        for refusal in self._backlog.told_otherwise():
            if refusal.key not in told:
                yield refusal
        self._untold, self._named = set(), said
