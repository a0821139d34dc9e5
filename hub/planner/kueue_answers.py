"""What a hub in mode kueue answers: the order of Kueue's visibility API, what its cycles come to, and what would help.

One head of every queue is asked a cycle, so an answer is what comes of as many cycles as it takes until nothing more
happens at this moment, decided by a planner of its own that starts from how things stand. Where clusters come in,
mode kueue chooses as mode fleet does, and so is explained.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from hub.api.reasons import Reason
from hub.planner.course import Course, Decide
from hub.planner.explain import explain, quota_lines
from hub.planner.explanation import Explanation
from hub.planner.kueue import KueuePlanner
from hub.planner.line import cluster_queue_of
from hub.planner.plan import Plan, Refusal, Snapshot
from hub.planner.whatif import smallest_change
from hub.queueing.demand import Demand
from hub.queueing.kueue.history import History
from hub.queueing.kueue.settings import Settings
from hub.queueing.ledger import QuotaLedger
from hub.queueing.quotas import Denial

# A change is tried by as many cycles as the line is long, so fewer are tried than in mode fleet.
_BUDGET: Final = 10_000


class KueueWay:
    """`history`: what LocalQueues used before, where that orders anything. `sticky`: who stays at the head of its queue
    because its victims are on their way out, by key."""

    def __init__(
        self, settings: Settings, history: History | None = None, sticky: frozenset[str] = frozenset()
    ) -> None:
        self._settings, self._sticky = settings, sticky
        # Of its own: it may be asked in a thread while the hub goes on.
        self._history = history.apart() if history is not None and settings.history is not None else None

    @staticmethod
    def of(planner: KueuePlanner) -> KueueWay:
        """As that planner would go on from here."""
        return KueueWay(planner.settings, planner.history, planner.sticky)

    def begin(self) -> Decide:
        history = self._history.apart() if self._history is not None else None
        return KueuePlanner(replace(self._settings, block=False), history).rounds

    def outlook(self, snapshot: Snapshot) -> Plan:
        return Course(snapshot, self.begin()).settle()

    def first_come(self, snapshot: Snapshot) -> list[Demand]:
        """Each queue by itself is in Kueue's order: past usage where its owner wants that, who preempts now, priority,
        age, uid. Queues are asked side by side, so the second of one comes after the first of all others."""
        queues: dict[str, list[Demand]] = {}
        nobodys: list[Demand] = []
        for demand in snapshot.demands:
            name = cluster_queue_of(snapshot, demand.namespace, demand.queue)
            (queues.setdefault(name, []) if name in snapshot.quotas.queues else nobodys).append(demand)
        ranked: list[tuple[int, tuple[int, float, str, str], Demand]] = []
        for name, members in queues.items():
            by_usage = snapshot.quotas.queues[name].by_usage
            members.sort(key=lambda demand: self._rank(demand, by_usage=by_usage))
            ranked += [(number, _order(demand), demand) for number, demand in enumerate(members)]
        ranked.sort(key=lambda entry: entry[:2])
        return [demand for _, _, demand in ranked] + sorted(nobodys, key=_order)

    def explain(self, snapshot: Snapshot, key: str) -> Explanation:
        found = explain(snapshot, key)
        course = Course(snapshot, self.begin())
        outcome = course.settle()
        line = self.first_come(snapshot)
        demand = next(demand for demand in line if demand.key == key)
        queue = cluster_queue_of(snapshot, demand.namespace, demand.queue)
        ahead = 0
        for other in line[: line.index(demand)]:
            ahead += cluster_queue_of(snapshot, other.namespace, other.queue) == queue
        admission = next((one for one in outcome.admissions if one.key == key), None)
        refusal = next((one for one in outcome.refusals if one.key == key), None)
        change = None
        if refusal is not None:
            basis = self._basis(snapshot, demand, refusal)
            change = smallest_change(snapshot, demand, basis, self._slots, budget=_BUDGET)
        quota = found.quota
        if queue in snapshot.quotas.trees:
            wanted = dict.fromkeys((one.flavor, one.resource) for one in found.quota)
            quota = tuple(
                quota_lines(snapshot.quotas, QuotaLedger(snapshot.quotas, course.snapshot.usage), queue, wanted)
            )
        return replace(
            found,
            queue=queue,
            position=line.index(demand) + 1,
            ahead=ahead,
            admission=admission,
            refusal=refusal,
            change="" if change is None else change.words,
            quota=quota,
            next_best=found.next_best if admission is not None else None,
            flip=found.flip if admission is not None else None,
        )

    def _slots(self, snapshot: Snapshot, key: str) -> int:
        course = Course(snapshot, self.begin())
        course.settle()
        return course.given.get(key, 0)

    def _basis(self, snapshot: Snapshot, demand: Demand, refusal: Refusal) -> Refusal:
        """What to try changes by: Kueue has one word for what has several causes."""
        route = snapshot.quotas.route(demand.namespace, demand.queue)
        if isinstance(route, Denial):
            return Refusal(refusal.key, route.reason, route.facts)
        if refusal.reason is Reason.PENDING_EVALUATION and route.strict:
            return Refusal(refusal.key, Reason.BEHIND_OLDER_JOB, (("queue", route.name), ("ahead", "")))
        return refusal

    def _rank(self, demand: Demand, *, by_usage: bool) -> tuple[float, bool, tuple[int, float, str, str]]:
        heavy = 0.0
        if by_usage and self._history is not None:
            heavy = self._history.heaviness((demand.namespace, demand.queue))
        return heavy, demand.key not in self._sticky, _order(demand)


def _order(demand: Demand) -> tuple[int, float, str, str]:
    return -demand.priority, demand.created if demand.queued is None else demand.queued, demand.uid, demand.key
