"""What every job wants in all, running and waiting together, as claims on its quota tree; and what it is entitled to.

Nothing here may depend on who runs now: a job that is placed or taken back must not change anyone's entitlement. So a
claim is made of what the job says, of quotas, and of what empty clusters could hold. Claims that were made for an
earlier decision are kept where nothing about them changed (hub/planner/standing.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from hub.placement.rule import ClusterRule
from hub.planner.empty import Empty, Way
from hub.planner.places import Option, Places
from hub.planner.plan import HeldSlice, Snapshot
from hub.planner.standing import Asked, ClaimKey, Counts, Filled, Standing, Wants
from hub.planner.views import part
from hub.queueing.demand import Demand
from hub.queueing.fleet.claim import Claim, Grant, Roll
from hub.queueing.fleet.claim import Option as Amounts
from hub.queueing.fleet.entitlement import Tree, fill, queues_of
from hub.queueing.objects import ClusterQueue
from hub.queueing.quotas import Denial
from hub.queueing.tree import QuotaTree
from hub.queueing.usage import TreeUsage

_ANYWHERE = ClusterRule()
Ways = tuple[Way, ...]


@dataclass(slots=True, eq=False)
class Holder:
    """One job that runs in one queue: its slices that stay, those on their way out, and its claim.

    `extra`: what an elastic job claims beyond its minimum.
    """

    claim: Claim
    staying: list[HeldSlice] = field(default_factory=list)
    leaving: list[HeldSlice] = field(default_factory=list)
    extra: Claim | None = None

    @property
    def slots(self) -> int:
        return sum(held.stays for held in self.staying)

    @property
    def entitled(self) -> int:
        return self.claim.entitled + (self.extra.entitled if self.extra is not None else 0)

    @property
    def surplus(self) -> int:
        """Slots beyond what it is entitled to."""
        return max(0, self.slots - self.entitled)


class Claims:
    """Of one cycle. `grants`: what those that ask are entitled to, in the order in which it comes.

    `standing` is brought up to date, and `options` and `route` are asked about what is new in it.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        places: Places,
        route: Callable[[Demand], ClusterQueue | Denial],
        options: Callable[[ClusterQueue, Demand | HeldSlice], tuple[Option, ...] | Denial],
        standing: Standing,
    ) -> None:
        self._snapshot, self._places, self._options = snapshot, places, options
        self._standing = standing
        self._ways: dict[int, Ways] = {}
        self._possible: dict[tuple[object, ...], tuple[tuple[Amounts, ...], Ways]] = {}
        self._holders: dict[ClaimKey, Holder] = {}
        changed = standing.follow(snapshot.held, snapshot.demands, route)
        self.apart = standing.apart(snapshot.usage)
        changed |= self._paid_otherwise()
        touched = self._enroll(changed)
        # Whether it can matter to whom room belongs: somebody may take from others, or is given back to.
        self.contested = standing.contested or bool(standing.elastic)
        self.grants: list[Grant] = self._fill(touched)

    def of(self, job: str, queue: str) -> Claim | None:
        wants = self._standing.wants.get((job, queue))
        return wants.claim if wants is not None else None

    @property
    def claims(self) -> dict[ClaimKey, Claim]:
        return {key: wants.claim for key, wants in self._standing.wants.items() if wants.claim is not None}

    @property
    def extras(self) -> dict[ClaimKey, Claim]:
        """What elastic jobs want beyond their minimum."""
        return {key: wants.extra for key, wants in self._standing.wants.items() if wants.extra is not None}

    def holder(self, claim: Claim) -> Holder | None:
        """None: nothing of it runs."""
        key = claim.key, claim.queue
        found = self._holders.get(key)
        if found is None:
            held = self._standing.wants[key].held
            if not held:
                return None
            found = self._holder(key, self._standing.wants[key])
        return found

    def holding(self, held: HeldSlice) -> Holder:
        """Whose slice it is. Raises KeyError for a slice of a queue that is not known."""
        key = held.key, held.queue
        return self._holders.get(key) or self._holder(key, self._standing.wants[key])

    def _holder(self, key: ClaimKey, wants: Wants) -> Holder:
        assert wants.claim is not None, "who has no claim has no slice that counts"
        found = self._holders[key] = Holder(
            wants.claim,
            [one for one in wants.held if not one.leaving],
            [one for one in wants.held if one.leaving],
            wants.extra,
        )
        return found

    @property
    def elastic(self) -> list[Holder]:
        """Who runs and claims, or has, something beyond a minimum, in the order of jobs and queues."""
        wants = self._standing.wants
        keys = [key for key in sorted(self._standing.elastic) if wants[key].held]
        return [self._holders.get(key) or self._holder(key, wants[key]) for key in keys]

    @property
    def held(self) -> Iterator[HeldSlice]:
        """All slices that somebody pays for."""
        return (one for wants in self._standing.wants.values() if wants.claim is not None for one in wants.held)

    def beyond(self, tree: QuotaTree) -> Iterator[Holder]:
        """Who runs with more than he is entitled to, in the order of claims."""
        roll = self._standing.rolls.get(id(tree))
        seen: set[int] = set()
        for claim in roll.claims if roll is not None else ():
            if claim.entitled < claim.count:
                holder = self.holder(claim)
                if holder is not None and holder.surplus and id(holder) not in seen:
                    seen.add(id(holder))
                    yield holder

    @property
    def leaving(self) -> list[HeldSlice]:
        """Every slice that was told to go, or to give slots back."""
        return sorted(self._standing.leaving.values(), key=lambda held: (held.key, held.epoch, held.work))

    def preferred(self, grant: Grant) -> Option | None:
        """How the grant would be paid; None: as the slice that runs already is."""
        ways = self.ways(grant.claim.kind)
        return ways[grant.option].option if grant.option < len(ways) else None

    def ways(self, kind: int) -> Ways:
        """In which claims of that kind may be paid and placed, in the order of their options."""
        found = self._ways.get(kind)
        if found is None:
            alike = self._standing.alike[kind]
            found = self._ways[kind] = self._possibly(alike)[1] if alike else ()
        return found

    def _paid_otherwise(self) -> set[ClaimKey]:
        """Whose ways to pay are others because clusters are."""
        standing = self._standing
        moved = set()
        for alike, asked in standing.asked.items():
            if asked.rule is not None and self._possibly(alike)[0] != standing.amounts[alike]:
                moved.add(alike)
        if not moved:
            return set()
        for alike in moved:
            standing.amounts[alike] = self._possibly(alike)[0]
        return {key for key, wants in standing.wants.items() if wants.alike in moved or wants.more_alike in moved}

    def _enroll(self, changed: set[ClaimKey]) -> bool:
        """Makes the claims anew that follow from what changed; whether any did."""
        standing = self._standing
        gone: dict[int, list[Claim]] = {}
        came: dict[int, list[Claim]] = {}
        for key in sorted(changed):
            wants = standing.wants[key]
            tree = standing.quotas.trees[key[1]]
            standing.trees[id(tree)] = tree
            gone.setdefault(id(tree), []).extend(wants.claims)
            wants.claim = self._claim(key, wants, tree)
            wants.extra = self._extra(wants)
            came.setdefault(id(tree), []).extend(wants.claims)
            if wants.extra is not None or _too_large(wants):
                standing.elastic.add(key)
            else:
                standing.elastic.discard(key)
            if wants.claim is not None:
                continue
            if wants.demand is None and not wants.held:
                del standing.wants[key]
        for number in gone.keys() | came.keys():
            roll = standing.rolls.get(number)
            if roll is None:
                roll = standing.rolls[number] = Roll()
            roll.change(gone.get(number, ()), came.get(number, ()))
        return bool(gone or came)

    def _fill(self, touched: bool) -> list[Grant]:
        standing, fair = self._standing, self._snapshot.policy.fair
        claimed = {number: roll for number, roll in standing.rolls.items() if len(roll)}
        fleet, rooms = self._places.fleet, dict[tuple[object, ...], list[Counts]]()
        if self.contested:
            rooms = {
                alike: [way.room for way in self._possibly(alike)[1]]
                for alike, asked in standing.asked.items()
                if asked.rule is not None
            }
        known = standing.filled
        if known is not None and not touched and known.holds(self.apart, fair, fleet, rooms):
            return known.grants
        queues = dict(standing.quotas.queues)
        ordered = sorted((standing.trees[number] for number in claimed), key=lambda t: (t.root.is_queue, t.root.name))
        parts = [Tree(self._base(tree), queues_of(tree, queues), claimed[id(tree)]) for tree in ordered]
        grants = fill(parts, fair=fair, space=Empty(fleet, self.ways) if rooms else None)
        standing.filled = Filled(grants, self.apart, fair, fleet, rooms)
        return grants

    def _claim(self, key: ClaimKey, wants: Wants, tree: QuotaTree) -> Claim | None:
        demand, held = wants.demand, wants.held
        count = _count(wants)
        standing = self._standing
        if count <= 0:
            standing.ask(wants, ())
            return None
        one: Demand | HeldSlice = demand if demand is not None else held[0]
        gang = one.gang
        if one.bounds is not None:
            # What it starts with, and is never made smaller than; the rest is its extra claim.
            gang, count = True, max(1, min(count, one.bounds[0]))
        rule = (one.rule or _ANYWHERE) if one.place else None
        number, together = standing.numbers.of, count if gang else 1
        alike: tuple[object, ...] = (wants.queue.name, number(one.shape), number(rule), one.place, together)
        standing.ask(wants, alike)
        amounts = standing.amounts.get(alike)
        if amounts is None:
            standing.asked[alike] = Asked(wants.queue, one, rule, together)
            amounts = standing.amounts[alike] = self._possibly(alike)[0]
        known: object = alike
        if not amounts:
            if not held:
                return None
            # It runs, whatever queues and clusters say now.
            amounts = (part(held[0], 1),)
            alike, known = (), amounts
        kind = standing.kinds.setdefault((known, count if gang else 0), len(standing.kinds))
        standing.alike.setdefault(kind, alike)
        # A job that was moved to another queue has claims in both.
        order = (-one.priority, one.created, one.key, f"{one.uid}/{key[1]}")
        asks = demand is not None or any(one.leaving or one.spare for one in held)
        return Claim(key[0], order, tree.position[key[1]], amounts, count, gang, kind, key[1], asks)

    def _extra(self, wants: Wants) -> Claim | None:
        base = wants.claim
        one: Demand | HeldSlice | None = wants.demand or next(iter(wants.held), None)
        if base is None or one is None or one.bounds is None:
            return None
        more = min(_count(wants), one.bounds[1]) - base.count
        if more <= 0:
            return None
        standing = self._standing
        alike = (*wants.alike[:-1], 1)
        standing.ask_more(wants, alike)
        amounts = standing.amounts.get(alike)
        if amounts is None:
            before = standing.asked[wants.alike]
            standing.asked[alike] = Asked(before.queue, before.one, before.rule, 1)
            amounts = standing.amounts[alike] = self._possibly(alike)[0]
        known: object = alike
        if not amounts:
            if not wants.held:
                return None
            amounts = (part(wants.held[0], 1),)
            alike, known = (), amounts
        kind = standing.kinds.setdefault((known, 0), len(standing.kinds))
        standing.alike.setdefault(kind, alike)
        return replace(base, options=amounts, count=more, gang=False, kind=kind, base=base)

    def _possibly(self, alike: tuple[object, ...]) -> tuple[tuple[Amounts, ...], Ways]:
        """What a slot takes in each way in which it could ever run."""
        found = self._possible.get(alike)
        if found is None:
            found = self._possible[alike] = self._ways_of(self._standing.asked[alike])
        return found

    def _ways_of(self, asked: Asked) -> tuple[tuple[Amounts, ...], Ways]:
        found = self._options(asked.queue, asked.one)
        if isinstance(found, Denial):
            return (), ()
        if asked.rule is None:
            ways = tuple(Way(option, None) for option in found)
        else:
            allowed = self._places.allowed(asked.rule)
            workers = self._places.workers(asked.queue.name)
            if workers is not None:
                allowed = allowed & workers
            ways = tuple(Way(o, allowed) for o in found if (allowed & (o.capacity >= asked.together)).any())
        return tuple(way.option.choice.requests for way in ways), ways

    def _base(self, tree: QuotaTree) -> TreeUsage:
        usage = TreeUsage(tree)
        for name, position in tree.position.items():
            taken = self.apart.get(name)
            if taken:
                usage.add(position, ((key, value) for key, value in taken.items() if value > 0))
        return usage


def _too_large(wants: Wants) -> bool:
    """Whether an elastic job runs with more than its maximum is now."""
    bounds = wants.held[0].bounds if wants.held else None
    return bounds is not None and sum(one.stays for one in wants.held) > bounds[1]


def _count(wants: Wants) -> int:
    """Slots that it could use at once."""
    demand = wants.demand
    waiting = min(demand.slots, demand.waiting) if demand is not None else 0
    return sum(one.slots + one.spare for one in wants.held) + max(0, waiting)
