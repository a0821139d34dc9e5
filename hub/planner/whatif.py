"""The smallest change that would have let a job in: changes are tried one after the other by deciding again.

Each is one thing that one person could do, from the least to the most; the first that admits (more of) the job is the
answer. Nothing is claimed that was not tried, so where too many jobs are ahead to decide again often, fewer are tried.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

from hub.api.reasons import Reason
from hub.planner.cycle import Cycle
from hub.planner.edits import Edit, job_edits, place_edits, queue_edits, room_edits, spread_edits
from hub.planner.plan import Refusal, Snapshot
from hub.queueing.amount import UNLIMITED, quantity, readable
from hub.queueing.demand import Demand
from hub.queueing.objects import FlavorResource

# Decisions about single jobs that one answer may cost.
_BUDGET: Final = 50_000
_LEAST_TRIES: Final = 8
# Quotas are searched to this step: nobody sets a memory quota to the byte.
_STEPS: Final = {"cpu": 1, "memory": 2**20, "ephemeral-storage": 2**20}


Slots = Callable[[Snapshot, str], int]
"""How many slots a job would get, by its key."""


def slots_in_cycle(snapshot: Snapshot, key: str) -> int:
    """In one cycle of mode fleet."""
    cycle = Cycle(snapshot)
    cycle.run(through=key)
    return cycle.slots(key)


def smallest_change(
    snapshot: Snapshot, demand: Demand, refusal: Refusal, slots: Slots = slots_in_cycle, *, budget: int = _BUDGET
) -> Edit | None:
    """The least change found with which the job gets more; None: none of those that were tried."""
    jobs = len(snapshot.demands) + len(snapshot.held)
    trial = _Trial(snapshot, demand, slots, max(_LEAST_TRIES, budget // (jobs + 1)))
    if refusal.reason in (Reason.WAITING_FOR_QUOTA, Reason.EXCEEDS_MAX_QUOTA):
        return trial.first(job_edits(snapshot, demand, refusal)) or _more_quota(trial, refusal)
    edits: dict[Reason, Callable[[Snapshot, Demand, Refusal], Iterator[Edit]]] = {
        Reason.WAITING_FOR_CAPACITY: room_edits,
        Reason.NO_CLUSTER_FITS: place_edits,
        Reason.SPREAD_UNEVEN: spread_edits,
    }
    return trial.first(edits.get(refusal.reason, queue_edits)(snapshot, demand, refusal))


@dataclass(slots=True)
class _Trial:
    snapshot: Snapshot
    demand: Demand
    slots: Slots
    tries: int
    baseline: int = -1

    def first(self, edits: Iterator[Edit]) -> Edit | None:
        return next((edit for edit in edits if self.admits(edit.snapshot, edit.demand)), None)

    def admits(self, snapshot: Snapshot, demand: Demand) -> bool:
        """Whether the job would get more than it got; False once too much was tried."""
        if self.baseline < 0:
            self.baseline = self._slots(self.snapshot, self.demand)
        if self.tries <= 0:
            return False
        self.tries -= 1
        return self._slots(snapshot, demand) > self.baseline

    def _slots(self, snapshot: Snapshot, demand: Demand) -> int:
        demands = tuple(demand if known.key == demand.key else known for known in snapshot.demands)
        return self.slots(replace(snapshot, demands=demands), demand.key)


def _more_quota(trial: _Trial, refusal: Refusal) -> Edit | None:
    facts = dict(refusal.facts)
    queue, key = str(facts["queue"]), (str(facts["flavor"]), str(facts["resource"]))
    known = trial.snapshot.quotas.queues[queue].quotas.get(key)
    if known is None:
        return None

    def with_quota(nominal: int, limit: int | None) -> Snapshot:
        return _with_quota(trial.snapshot, queue, key, nominal, limit)

    def said(field: str, amount: int, after: Snapshot) -> Edit:
        shown = readable(key[1], amount, up=True)
        words = f"raise the {field} of {key[1]} in flavor {key[0]} of ClusterQueue {queue} to {shown}"
        return Edit(words, after, trial.demand)

    if known.borrowing_limit is not None and trial.admits(with_quota(known.nominal, None), trial.demand):
        limit = _least(
            known.borrowing_limit, key[1], lambda v: trial.admits(with_quota(known.nominal, v), trial.demand)
        )
        return said("borrowingLimit", limit, with_quota(known.nominal, limit)) if limit else None
    nominal = _least(known.nominal, key[1], lambda v: trial.admits(with_quota(v, known.borrowing_limit), trial.demand))
    return said("nominalQuota", nominal, with_quota(nominal, known.borrowing_limit)) if nominal else None


def _least(now: int, resource: str, enough: Callable[[int], bool]) -> int:
    """The least amount above `now` that is enough; 0 when none was found."""
    step = _STEPS.get(resource, 1)
    low, distance = now, step if resource != "cpu" else 1000
    while not enough(min(now + distance, UNLIMITED)):
        low = now + distance
        distance *= 2
        if distance >= UNLIMITED:
            return 0
    high = now + distance
    while high - low > step:
        middle = low + (high - low) // (2 * step) * step
        if middle <= low:
            break
        if enough(middle):
            high = middle
        else:
            low = middle
    return high


def _with_quota(snapshot: Snapshot, queue: str, key: FlavorResource, nominal: int, limit: int | None) -> Snapshot:
    obj: dict[str, Any] = copy.deepcopy(dict(snapshot.quotas.object("ClusterQueue", queue) or {}))
    for group in obj["spec"]["resourceGroups"]:
        for flavor in group["flavors"]:
            for resource in flavor["resources"]:
                if (flavor["name"], resource["name"]) == key:
                    resource["nominalQuota"] = str(quantity(key[1], nominal))
                    resource.pop("borrowingLimit", None)
                    if limit is not None:
                        resource["borrowingLimit"] = str(quantity(key[1], limit))
    return replace(snapshot, quotas=snapshot.quotas.updated([obj]))
