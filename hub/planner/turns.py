"""In which order jobs are asked, and for how much of each: first what they are entitled to, then the rest.

A job that is entitled to more than it has comes once for each of its grants, so that two arrays that share a fleet grow
together. What is beyond, and who is entitled to nothing, comes after all that, by priority, age and key: it may use
what the entitled cannot use now; last comes what elastic jobs would have beyond their minimum. A StrictFIFO queue keeps
its own order: who is behind somebody that is not entitled waits for that one's turn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from hub.planner.claims import Claims, Holder
from hub.planner.places import Option
from hub.planner.plan import HeldSlice
from hub.planner.standing import ClaimKey
from hub.queueing.demand import Demand
from hub.queueing.fleet.claim import Order
from hub.queueing.objects import ClusterQueue
from hub.queueing.quotas import Denial


@dataclass(frozen=True, slots=True)
class Turn:
    """`slots` more for `demand`. `option`: how what it is entitled to would be paid."""

    demand: Demand
    slots: int
    entitled: bool = False
    option: Option | None = None


@dataclass(frozen=True, slots=True)
class Grow:
    """Up to `slots` more for slices that an elastic job has already, where they are."""

    holder: Holder
    slots: int
    entitled: bool = False


@dataclass(frozen=True, slots=True)
class Return:
    """`slots` that a job is entitled to and has to come back for: the slices that have them are on their way out."""

    leaving: tuple[HeldSlice, ...]
    slots: int


def turns(
    claims: Claims, ordered: list[Demand], route: Callable[[Demand], ClusterQueue | Denial]
) -> list[Turn | Return | Grow]:
    """`ordered`: by priority, age and key."""
    demands: dict[ClaimKey, Demand] = {}
    queues: dict[str, ClusterQueue] = {}
    for demand in ordered:
        queue = route(demand)
        if not isinstance(queue, Denial):
            demands[demand.key, queue.name] = demand
            queues[demand.key] = queue
    first, taken = _entitled(claims, demands)
    late = _late(ordered, queues, taken)
    found: list[Turn | Return | Grow] = [
        turn for turn in first if not isinstance(turn, Turn) or turn.demand.key not in late
    ]
    later: dict[str, list[Turn]] = {}
    for turn in first:
        if isinstance(turn, Turn) and turn.demand.key in late:
            later.setdefault(turn.demand.key, []).append(turn)
    last: list[Turn] = []
    for demand in ordered:
        found += later.get(demand.key, ())
        rest = min(demand.slots, demand.waiting) - taken.get(demand.key, 0)
        if rest > 0 or demand.key not in taken:
            beyond = demand.bounds is not None and (demand.active > 0 or demand.key in taken)
            (last if beyond else found).append(Turn(demand, rest))
    return [*found, *last, *_growing(claims)]


def _growing(claims: Claims) -> list[Grow]:
    """What nobody else takes."""
    able = [holder for holder in claims.elastic if _spare(holder)]
    return [Grow(holder, _spare(holder)) for holder in sorted(able, key=_claimed)]


def _spare(holder: Holder) -> int:
    """Tasks that wait for a slot in slices that are not being made smaller."""
    return sum(held.spare for held in holder.staying if held.kept is None)


def _claimed(holder: Holder) -> Order:
    return holder.claim.order


def _entitled(claims: Claims, demands: Mapping[ClaimKey, Demand]) -> tuple[list[Turn | Return | Grow], dict[str, int]]:
    """What of the grants is still to be had, and how many slots of each demand that is."""
    found: list[Turn | Return | Grow] = []
    taken: dict[str, int] = {}
    back: set[ClaimKey] = set()
    grown: dict[ClaimKey, int] = {}
    has: dict[ClaimKey, int] = {}
    for grant in claims.grants:
        key = grant.claim.key, grant.claim.queue
        slots = grant.slots
        holder = claims.holder(grant.claim)
        had = has.get(key)
        if had is None:
            had = has[key] = holder.slots if holder is not None else 0
        if had:
            used = min(had, slots)
            has[key] = had - used
            slots -= used
        if slots <= 0:
            continue
        if holder is not None and grant.claim.base is not None:
            spare = _spare(holder) - grown.get(key, 0)
            more = min(slots, spare)
            if more > 0:
                grown[key] = grown.get(key, 0) + more
                found.append(Grow(holder, more, entitled=True))
                slots -= more
        demand = demands.get(key)
        if demand is not None:
            asked = min(slots, min(demand.slots, demand.waiting) - taken.get(demand.key, 0))
            if asked > 0:
                taken[demand.key] = taken.get(demand.key, 0) + asked
                found.append(Turn(demand, asked, entitled=True, option=claims.preferred(grant)))
                slots -= asked
        if slots > 0 and holder is not None and holder.leaving and key not in back:
            back.add(key)
            found.append(Return(tuple(holder.leaving), _missing(holder, demand)))
    return found, taken


def _missing(holder: Holder, demand: Demand | None) -> int:
    asked = min(demand.slots, demand.waiting) if demand is not None else 0
    return max(0, holder.entitled - holder.slots - asked)


def _late(ordered: list[Demand], queues: Mapping[str, ClusterQueue], taken: Mapping[str, int]) -> set[str]:
    """Who is behind somebody in a StrictFIFO queue that does not get all it waits for as entitled."""
    late: set[str] = set()
    stuck: set[str] = set()
    for demand in ordered:
        queue = queues.get(demand.key)
        if queue is None or not queue.strict:
            continue
        wanted = min(demand.slots, demand.waiting)
        if demand.bounds is not None:
            # With its minimum it has all that anybody has to wait for.
            wanted = 0 if demand.active else demand.least
        if queue.name in stuck:
            late.add(demand.key)
        elif taken.get(demand.key, 0) < wanted:
            stuck.add(queue.name)
    return late
