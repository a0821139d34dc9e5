"""The two ways in which a hub decides, as far as answers for people need them: who is next, why, what would change it.

Whoever lists what waits, explains a job or estimates its start is given a `Way` and never asks which one it is, so that
answers are those of the mode that decides. How mode kueue answers is hub/planner/kueue_answers.py.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from hub.api.reasons import Reason
from hub.planner.course import Decide
from hub.planner.cycle import Cycle, in_order, plan
from hub.planner.explain import explain
from hub.planner.explanation import Explanation
from hub.planner.plan import Plan, Refusal, Snapshot
from hub.planner.turns import Turn
from hub.queueing.demand import Demand


class Way(Protocol):
    def begin(self) -> Decide:
        """A planner that has decided nothing yet, for one course of decisions over one fleet."""

    def outlook(self, snapshot: Snapshot) -> Plan:
        """What happens at this moment, whatever of it takes several cycles, and why everybody else waits."""

    def first_come(self, snapshot: Snapshot) -> list[Demand]:
        """All that waits in the order in which it is asked; who is never asked is last."""

    def explain(self, snapshot: Snapshot, key: str) -> Explanation:
        """Raises `UsageError` when `key` asks for nothing."""


class FleetWay:
    """Mode fleet: one decision over everything (hub/planner/cycle.py)."""

    def begin(self) -> Decide:
        return plan

    def outlook(self, snapshot: Snapshot) -> Plan:
        return plan(snapshot)

    def first_come(self, snapshot: Snapshot) -> list[Demand]:
        asked = {turn.demand.key: turn.demand for turn in Cycle(snapshot).turns if isinstance(turn, Turn)}
        return [*asked.values(), *(demand for demand in in_order(snapshot.demands) if demand.key not in asked)]

    def explain(self, snapshot: Snapshot, key: str) -> Explanation:
        return explain(snapshot, key)


class Blocked:
    """Either mode while nothing may start, because something that was admitted is not up yet (`late`, in words)."""

    def __init__(self, way: Way, late: str) -> None:
        self._way, self._why = way, (("detail", late),)

    def begin(self) -> Decide:
        return self.outlook

    def outlook(self, snapshot: Snapshot) -> Plan:
        return Plan(refusals=tuple(self._refusal(demand.key) for demand in in_order(snapshot.demands)))

    def first_come(self, snapshot: Snapshot) -> list[Demand]:
        return self._way.first_come(snapshot)

    def explain(self, snapshot: Snapshot, key: str) -> Explanation:
        found = self._way.explain(snapshot, key)
        return replace(found, admission=None, refusal=self._refusal(key), change="", next_best=None, flip=None)

    def _refusal(self, key: str) -> Refusal:
        return Refusal(key, Reason.WAITING_FOR_PODS_READY, self._why)
