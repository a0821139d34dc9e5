"""The two ways in which a hub decides, as far as answers for people need them: who is next, why, what would change it.

Whoever lists what waits, explains a job or estimates its start is given a `Way` and never asks which one it is, so that
answers are those of the mode that decides. How mode kueue answers is hub/planner/kueue_answers.py.
"""

from __future__ import annotations

from typing import Protocol

from hub.planner.course import Decide
from hub.planner.cycle import Cycle, in_order, plan
from hub.planner.explain import explain
from hub.planner.explanation import Explanation
from hub.planner.plan import Plan, Snapshot
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
