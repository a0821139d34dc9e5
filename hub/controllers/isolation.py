"""A decision that fails is made again without whoever made it fail, so that one job of ten thousand costs itself only.

This is for errors of our own; what is wrong with a job is found when it is read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from hub.controllers.logs import logger
from hub.planner.plan import Plan, Snapshot
from hub.queueing.demand import Demand

_log = logger(__name__)
Planner = Callable[[Snapshot], Plan]


def plan_without_culprits(plan: Planner, snapshot: Snapshot) -> tuple[Plan, Sequence[Demand]]:
    """The plan, and the demands it had to be made without. Raises what `plan` raises when no demand is to blame."""
    try:
        return plan(snapshot), ()
    except Exception:
        _log.exception("a decision failed; who made it fail is looked for")
    culprits = _culprits(plan, snapshot)
    sound = tuple(demand for demand in snapshot.demands if demand not in culprits)
    return plan(replace(snapshot, demands=sound)), culprits


def _culprits(plan: Planner, snapshot: Snapshot) -> list[Demand]:
    """Demands that no plan survives, found by halving."""
    plan(replace(snapshot, demands=()))
    found: list[Demand] = []
    parts = [snapshot.demands]
    while parts:
        part = parts.pop()
        try:
            plan(replace(snapshot, demands=part))
        except Exception:
            if len(part) == 1:
                found.append(part[0])
            else:
                parts += [part[len(part) // 2 :], part[: len(part) // 2]]
    return found
