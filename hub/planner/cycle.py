"""One decision over the whole fleet: who gets quota, and where. `plan` is pure; the shell carries out what it returns.

Jobs are asked in their order; each takes what quota and room allow, at once, so the next sees what is left. Quota and
room only shrink within a cycle: what was refused stays refused, which is why ten thousand equal jobs that do not fit
cost one look. For the same reason nothing is left to decide once a plan is carried out.

What it does not do: take quota back from anyone, or order by anything but priority, age and name. How a "no" is put
into words is hub/planner/refusals.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter

from hub.api.indexset import IndexSet
from hub.api.reasons import Reason
from hub.planner.places import Option, Places, Wish
from hub.planner.plan import Admission, Plan, Refusal, Slice, Snapshot
from hub.planner.record import choice_of
from hub.planner.refusals import shortage
from hub.planner.split import deal, shares
from hub.queueing.assign import choices
from hub.queueing.demand import Demand, TaskGroup
from hub.queueing.ledger import QuotaLedger
from hub.queueing.objects import ClusterQueue
from hub.queueing.quotas import Denial

# What does not hold up the jobs behind in a StrictFIFO queue: such a job has all that it may have now.
_PASSES = (Reason.PARALLELISM_REACHED,)


def plan(snapshot: Snapshot) -> Plan:
    """The admissions and refusals of one cycle, in order of decision."""
    cycle = Cycle(snapshot)
    for demand in in_order(snapshot.demands):
        cycle.decide(demand)
    return Plan(tuple(cycle.admissions), tuple(cycle.refusals))


def in_order(demands: Iterable[Demand]) -> list[Demand]:
    return sorted(demands, key=attrgetter("order"))


@dataclass(frozen=True, slots=True)
class _Take:
    """`slots` of one cluster (its position; −1: no place was asked for)."""

    cluster: int
    slots: int
    option: Option
    decision: str = ""


class Cycle:
    """The state of one cycle: what is left of quota and room, and what was decided so far."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.ledger = QuotaLedger(snapshot.quotas, snapshot.usage)
        self.places = Places(snapshot)
        self.admissions: list[Admission] = []
        self.refusals: list[Refusal] = []
        self._routes: dict[tuple[str, str], ClusterQueue | Denial] = {}
        self._options: dict[tuple[str, int], tuple[Option, ...] | Denial] = {}
        self._blocked: dict[str, str] = {}
        self._refused: dict[tuple[object, ...], Denial] = {}
        self._numbers: dict[object, int] = {}
        self._seen: dict[int, int] = {}

    def decide(self, demand: Demand) -> None:
        """Takes what the job can have, and notes why it has no more."""
        denial, queue = self._answer(demand)
        if denial is None:
            return
        self.refusals.append(Refusal(demand.key, denial.reason, denial.facts))
        if queue is not None and queue.strict and denial.reason not in _PASSES:
            self._blocked[queue.name] = demand.key

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

    def options(self, queue: ClusterQueue, demand: Demand) -> tuple[Option, ...] | Denial:
        """Every way to pay for a task of the job, in the order in which they are tried."""
        key = (queue.name, self._number(demand.shape))
        found = self._options.get(key)
        if found is None:
            ways = choices(self.snapshot.quotas, queue, demand.shape)
            if isinstance(ways, Denial):
                found = ways
            else:
                found = tuple(self.places.option(demand.shape, choice) for choice in ways)
            self._options[key] = found
        return found

    def _answer(self, demand: Demand) -> tuple[Denial | None, ClusterQueue | None]:
        if not demand.groups:
            return None, None
        if demand.problem:
            return Denial(Reason.INVALID_SPEC, (("detail", demand.problem),)), None
        queue = self.route(demand)
        if isinstance(queue, Denial):
            return queue, None
        ahead = self._blocked.get(queue.name)
        if ahead is not None:
            return Denial(Reason.BEHIND_OLDER_JOB, (("queue", queue.name), ("ahead", ahead))), None
        if demand.gang:
            return self._together(demand, queue), queue
        return self._apart(demand, queue), queue

    def _apart(self, demand: Demand, queue: ClusterQueue) -> Denial | None:
        """Each task on its own: as many as there is quota and room for. None when no task waits any more."""
        slots, held, slices = demand.slots, demand.running, list[Slice]()
        left, denial = False, None
        for group in demand.groups if len(demand.groups) == 1 else sorted(demand.groups, key=_group_order):
            if slots <= 0:
                left = left or bool(group.tasks)
                continue
            key = self._key(demand, queue, group.avoid, 1, held)
            known = self._refused.get(key)
            if known is None:
                wish = Wish(demand, queue, group.avoid, 1, held)
                takes = self._take(wish, min(slots, len(group.tasks)))
                parts = self._slices(group, takes)
                slices += parts
                held += tuple(part.cluster for part in parts if part.cluster not in held)
                slots -= sum(take.slots for take in takes)
                if sum(len(part.tasks) for part in parts) == len(group.tasks):
                    continue
                left = True
                if slots <= 0:
                    continue
                known = shortage(self.places, self.ledger, wish, self.options(queue, demand))
                self._refused[key] = known
            left = True
            denial = denial or known
        if slices:
            self.admissions.append(Admission(demand.key, queue.name, tuple(slices)))
        if left and denial is None:
            denial = Denial(Reason.PARALLELISM_REACHED, (("active", demand.active + demand.slots - slots),))
        return denial

    def _together(self, demand: Demand, queue: ClusterQueue) -> Denial | None:
        """All tasks that may run at once on one cluster, or none."""
        together = min(demand.slots, demand.waiting)
        if together <= 0:
            return Denial(Reason.PARALLELISM_REACHED, (("active", demand.active),)) if demand.waiting else None
        avoid = tuple(sorted({name for group in demand.groups for name in group.avoid}))
        key = self._key(demand, queue, avoid, together, demand.running)
        known = self._refused.get(key)
        if known is not None:
            return known
        wish = Wish(demand, queue, avoid, together, demand.running)
        takes = self._take(wish, together)
        if not takes:
            known = shortage(self.places, self.ledger, wish, self.options(queue, demand))
            self._refused[key] = known
            return known
        slices: list[Slice] = []
        slots = together
        for group in sorted(demand.groups, key=_group_order):
            part = min(slots, len(group.tasks))
            if part > 0:
                slices.append(self._slice(group.tasks, group.attempt, replace(takes[0], slots=part)))
                slots -= part
        self.admissions.append(Admission(demand.key, queue.name, tuple(slices)))
        if sum(len(part.tasks) for part in slices) < demand.waiting:
            return Denial(Reason.PARALLELISM_REACHED, (("active", demand.active + together),))
        return None

    def _take(self, wish: Wish, wanted: int) -> list[_Take]:
        """Up to `wanted` slots, charged as they are taken: flavors in their order, the best clusters first."""
        options = self.options(wish.queue, wish.demand)
        if isinstance(options, Denial):
            return []
        demand, queue = wish.demand, wish.queue.name
        options = tuple(o for o in options if self.ledger.possible(queue, o.choice.requests, wish.together))
        takes: list[_Take] = []
        held = set(wish.held)
        among = self.places.candidates(wish, options) if demand.place else None
        for option in options:
            paid = self.ledger.affordable(queue, option.choice.requests, wanted)
            if paid < wish.together:
                continue
            if among is None:
                self._charge(queue, _Take(-1, paid, option), takes)
                wanted -= paid
            else:
                room = self.places.room(option)
                fits = among & (room >= wish.together)
                order, ranking = self.places.best_first(demand.rule, option, paid, fits)
                for index, cluster in enumerate(order):
                    name = self.places.names[cluster]
                    if demand.rule.limit is not None and name not in held and len(held) >= demand.rule.limit:
                        continue
                    slots = min(paid, int(room[cluster]))
                    decision = choice_of(order, index, ranking, self.places.names).text()
                    self._charge(queue, _Take(cluster, slots, option, decision), takes)
                    held.add(name)
                    paid -= slots
                    wanted -= slots
                    if paid <= 0:
                        break
            if wanted <= 0:
                break
        return takes

    def _charge(self, queue: str, take: _Take, takes: list[_Take]) -> None:
        self.ledger.add(queue, ((resource, each * take.slots) for resource, each in take.option.choice.requests))
        if take.cluster >= 0:
            self.places.charge(take.cluster, take.option, take.slots)
        takes.append(take)

    def _slices(self, group: TaskGroup, takes: Sequence[_Take]) -> list[Slice]:
        if not takes:
            return []
        counts = shares(len(group.tasks), [take.slots for take in takes])
        dealt = deal(group.tasks, counts)
        return [self._slice(tasks, group.attempt, take) for tasks, take in zip(dealt, takes, strict=True)]

    def _slice(self, tasks: IndexSet, attempt: int, take: _Take) -> Slice:
        name = self.places.names[take.cluster] if take.cluster >= 0 else ""
        return Slice(name, tasks, attempt, take.slots, take.option.choice.flavors, take.decision)

    def _key(
        self, demand: Demand, queue: ClusterQueue, avoid: tuple[str, ...], together: int, held: tuple[str, ...]
    ) -> tuple[object, ...]:
        shape, rule = self._number(demand.shape), self._number(demand.rule)
        return (queue.name, shape, rule, avoid, together, held, demand.running, demand.place)

    def _number(self, value: object) -> int:
        """Equal values have equal numbers; an object that was seen before costs no hash."""
        number = self._seen.get(id(value))
        if number is None:
            # The snapshot keeps it alive, so its id stays its own.
            number = self._numbers.setdefault(value, len(self._numbers))
            self._seen[id(value)] = number
        return number


def _group_order(group: TaskGroup) -> tuple[int, tuple[str, ...], tuple[tuple[int, int], ...]]:
    """Retries first, so that what fails for good is known early."""
    return (-group.attempt, group.avoid, group.tasks.ranges)
