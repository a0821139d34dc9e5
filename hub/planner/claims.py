"""What every job wants in all, running and waiting together, as claims on its quota tree; and what it is entitled to.

Nothing here may depend on who runs now: a job that is placed or taken back must not change anyone's entitlement. So a
claim is made of what the job says, of quotas, and of what empty clusters could hold.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from hub.placement.rule import ClusterRule
from hub.planner.empty import Empty, Way
from hub.planner.places import Option, Places
from hub.planner.plan import HeldSlice, Snapshot
from hub.planner.views import part
from hub.queueing.demand import Demand
from hub.queueing.fleet.claim import Claim, Grant, Roll
from hub.queueing.fleet.claim import Option as Amounts
from hub.queueing.fleet.entitlement import Tree, fill, queues_of
from hub.queueing.fleet.rights import may_take
from hub.queueing.objects import ClusterQueue, FlavorResource
from hub.queueing.quotas import Denial
from hub.queueing.tree import QuotaTree
from hub.queueing.usage import TreeUsage

_ANYWHERE = ClusterRule()
ClaimKey = tuple[str, str]
"""(job, ClusterQueue)"""
Ways = tuple[Way, ...]


@dataclass(slots=True, eq=False)
class Holder:
    """One job that runs in one queue: its slices that stay, those on their way out, and its claim."""

    claim: Claim
    staying: list[HeldSlice] = field(default_factory=list)
    leaving: list[HeldSlice] = field(default_factory=list)

    @property
    def slots(self) -> int:
        return sum(held.slots for held in self.staying)

    @property
    def surplus(self) -> int:
        """Slots beyond what it is entitled to."""
        return max(0, self.slots - self.claim.entitled)


@dataclass(slots=True, eq=False)
class _Wants:
    queue: ClusterQueue
    demand: Demand | None = None
    held: list[HeldSlice] = field(default_factory=list)


class Claims:
    """`grants`: all that is entitled, in the order in which it comes. `holders`: by claim, those who have something."""

    def __init__(
        self,
        snapshot: Snapshot,
        places: Places,
        route: Callable[[Demand], ClusterQueue | Denial],
        options: Callable[[ClusterQueue, Demand | HeldSlice], tuple[Option, ...] | Denial],
        number: Callable[[object], int],
    ) -> None:
        self._snapshot, self._places, self._options, self._number = snapshot, places, options, number
        self.holders: dict[ClaimKey, Holder] = {}
        self.claims: dict[ClaimKey, Claim] = {}
        self._ways: dict[int, Ways] = {}
        self._kinds: dict[object, int] = {}
        self._sets: dict[tuple[object, ...], tuple[tuple[Amounts, ...], Ways]] = {}
        trees: dict[int, tuple[QuotaTree, list[Claim]]] = {}
        for key, wants in self._wants(route).items():
            tree = snapshot.quotas.trees[wants.queue.name]
            claim = self._claim(key, wants, tree)
            if claim is None:
                continue
            self.claims[key] = claim
            trees.setdefault(id(tree), (tree, []))[1].append(claim)
            if wants.held:
                self.holders[key] = Holder(
                    claim,
                    [held for held in wants.held if not held.leaving],
                    [held for held in wants.held if held.leaving],
                )
        apart = self.apart = self._apart()
        queues = dict(snapshot.quotas.queues)
        ordered = sorted(trees.values(), key=lambda entry: (entry[0].root.is_queue, entry[0].root.name))
        parts = [Tree(self._base(tree, apart), queues_of(tree, queues), Roll(claims)) for tree, claims in ordered]
        # Whether it can matter to whom room belongs: somebody may take from others.
        self.contested = any(may_take(queue) for queue in snapshot.quotas.queues.values())
        placed = any(way.allowed is not None for ways in self._ways.values() for way in ways)
        space = Empty(places.fleet, self._ways) if self.contested and placed else None
        self.grants: list[Grant] = fill(parts, fair=snapshot.policy.fair, space=space)

    def preferred(self, grant: Grant) -> Option | None:
        """How the grant would be paid; None: as the slice that runs already is."""
        ways = self._ways[grant.claim.kind]
        return ways[grant.option].option if grant.option < len(ways) else None

    def _wants(self, route: Callable[[Demand], ClusterQueue | Denial]) -> dict[ClaimKey, _Wants]:
        quotas = self._snapshot.quotas
        found: dict[ClaimKey, _Wants] = {}
        for held in sorted(self._snapshot.held, key=lambda held: (held.key, held.epoch, held.work)):
            queue = quotas.queues.get(held.queue)
            if queue is None or held.queue not in quotas.trees or held.slots <= 0:
                continue
            key = (held.key, queue.name)
            wants = found.get(key)
            if wants is None:
                wants = found[key] = _Wants(queue)
            wants.held.append(held)
        for demand in self._snapshot.demands:
            if demand.problem or not demand.groups:
                continue
            paying = route(demand)
            if isinstance(paying, Denial):
                continue
            key = (demand.key, paying.name)
            wants = found.get(key)
            if wants is None:
                wants = found[key] = _Wants(paying)
            wants.demand = demand
        return found

    def _claim(self, key: ClaimKey, wants: _Wants, tree: QuotaTree) -> Claim | None:
        demand, held = wants.demand, wants.held
        waiting = min(demand.slots, demand.waiting) if demand is not None else 0
        count = sum(one.slots for one in held) + max(0, waiting)
        if count <= 0:
            return None
        if demand is not None:
            gang, order = demand.gang, demand.order
        else:
            gang = held[0].gang
            order = (-held[0].priority, held[0].created, held[0].key, held[0].uid)
        amounts, ways, alike = self._payable(wants, count if gang else 1)
        if not amounts:
            return None
        kind = self._kinds.setdefault((alike, count if gang else 0), len(self._kinds))
        self._ways.setdefault(kind, ways)
        return Claim(key[0], order, tree.position[wants.queue.name], amounts, count, gang, kind)

    def _payable(self, wants: _Wants, together: int) -> tuple[tuple[Amounts, ...], Ways, object]:
        """What a slot takes in each way in which the job could ever run, and what is equal for all that are alike."""
        one: Demand | HeldSlice = wants.demand if wants.demand is not None else wants.held[0]
        rule = (one.rule or _ANYWHERE) if one.place else None
        key = (wants.queue.name, self._number(one.shape), self._number(rule), one.place, together)
        known = self._sets.get(key)
        if known is None:
            known = self._sets[key] = self._possible(wants.queue, one, rule, together)
        if known[0] or not wants.held:
            return *known, key
        # It runs, whatever queues and clusters say now.
        amounts = (part(wants.held[0], 1),)
        return amounts, (), amounts

    def _possible(
        self, queue: ClusterQueue, one: Demand | HeldSlice, rule: ClusterRule | None, together: int
    ) -> tuple[tuple[Amounts, ...], Ways]:
        found = self._options(queue, one)
        if isinstance(found, Denial):
            return (), ()
        if rule is None:
            ways = tuple(Way(option, None) for option in found)
        else:
            allowed = self._places.allowed(rule)
            workers = self._places.workers(queue.name)
            if workers is not None:
                allowed = allowed & workers
            ways = tuple(Way(o, allowed) for o in found if (allowed & (o.capacity >= together)).any())
        return tuple(way.option.choice.requests for way in ways), ways

    def _apart(self) -> Mapping[str, Mapping[FlavorResource, int]]:
        """What is used but by no slice that is known: it stays whatever is decided."""
        found = {queue: dict(used) for queue, used in self._snapshot.usage.items()}
        for held in self._snapshot.held:
            used = found.get(held.queue)
            if used is not None:
                for key, value in held.amounts:
                    used[key] = used.get(key, 0) - value
        return found

    @staticmethod
    def _base(tree: QuotaTree, apart: Mapping[str, Mapping[FlavorResource, int]]) -> TreeUsage:
        usage = TreeUsage(tree)
        for name, position in tree.position.items():
            usage.add(position, ((key, value) for key, value in apart.get(name, {}).items() if value > 0))
        return usage
