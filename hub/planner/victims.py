"""Who makes way for a job that is entitled to run: the cheapest of those who are not, as few as do.

A victim runs beyond what its job is entitled to, the owner of the preemptor's queue lets it be taken (by Kueue's
policies, hub/queueing/fleet/rights.py), it ran for the minimum, and its job was not sent away too often. Together the
victims free quota and room where the preemptor goes. A slice that is too large is replaced: what its job is entitled to
of it is kept for it. Nothing is decided about whom others wait for; the views are left as they were.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from hub.planner.claims import Claims, Holder
from hub.planner.places import Mask, Option, Wish, shape_at
from hub.planner.plan import HeldSlice, Snapshot
from hub.planner.views import View, part
from hub.queueing.fleet.cost import lost_seconds
from hub.queueing.fleet.entitlement import queues_of
from hub.queueing.fleet.rights import Party, may_take, right
from hub.queueing.kueue.preemption import Why
from hub.queueing.objects import ClusterQueue, FlavorResource
from hub.queueing.tree import QuotaTree
from hub.queueing.usage import TreeUsage, fits

# So many clusters where it would do are compared; the first ones hold the cheapest single victims.
COMPARED: Final = 8


@dataclass(frozen=True, slots=True)
class Victim:
    """`kept`: slots of it that its job is entitled to, which must not be lost to it. `shrinks`: it is an elastic job's
    (hub/planner/shrinking.py), and what it keeps goes on; then there is no `why`."""

    held: HeldSlice
    why: Why | None
    kept: int = 0
    shrinks: bool = False


@dataclass(frozen=True, slots=True)
class _Candidate:
    rank: tuple[int, float, float, str, int, str]
    held: HeldSlice
    holder: Holder

    @property
    def kept(self) -> int:
        return max(0, self.held.slots - self.holder.surplus)


_Chosen = dict[str, tuple[_Candidate, Why]]
"""By name of the work."""


class Victims:
    """Of one cycle. `wake_at`: when the next slice that somebody waits for has run for the minimum."""

    def __init__(self, snapshot: Snapshot, claims: Claims) -> None:
        self._snapshot, self._claims = snapshot, claims
        self._by_tree: dict[int, list[_Candidate]] = {}
        self._queues: dict[int, list[ClusterQueue | None]] = {}
        self._gone: set[str] = set()
        self.wake_at = math.inf

    def find(
        self, wish: Wish, options: Sequence[Option], view: View, among: Mask | None, spared: Container[str] = ()
    ) -> list[Victim]:
        """Who has to go so that `wish.together` tasks fit in `view`; nobody: it cannot be had so.

        `among`: the clusters that may be asked; None: no place is asked for. `spared`: works that stay.
        """
        queue = wish.queue
        if not may_take(queue):
            return []
        tree = self._snapshot.quotas.trees[queue.name]
        candidates = [one for one in self._allowed(tree, wish) if one.held.work not in spared]
        for option in options if candidates else ():
            search = _Search(self, wish, option, view, tree, candidates)
            found = search.best(among)
            if found:
                return found
        return []

    def take(self, victims: Iterable[Victim]) -> None:
        """They are on their way out from now on."""
        for victim in victims:
            holder = self._claims.holding(victim.held)
            self._gone.add(victim.held.work)
            holder.staying = [held for held in holder.staying if held.work != victim.held.work]
            if victim.shrinks and victim.kept:
                holder.staying.append(replace(victim.held, kept=victim.kept, spare=0))
            else:
                holder.leaving.append(victim.held)

    def queues(self, tree: QuotaTree) -> list[ClusterQueue | None]:
        found = self._queues.get(id(tree))
        if found is None:
            found = self._queues[id(tree)] = queues_of(tree, dict(self._snapshot.quotas.queues))
        return found

    def _allowed(self, tree: QuotaTree, wish: Wish) -> list[_Candidate]:
        """Whom the job could ever take, the cheapest first."""
        policy, priority = wish.queue.preemption, wish.demand.priority
        found: list[_Candidate] = []
        for candidate in self._of(tree):
            held = candidate.held
            if held.work in self._gone or not candidate.holder.surplus:
                continue
            rule = policy.within if held.queue == wish.queue.name else policy.reclaim
            if rule == "Never" or (rule != "Any" and held.priority > priority):
                continue
            if self._young(held):
                self.wake_at = min(self.wake_at, self._since(held) + self._snapshot.policy.minimum_runtime)
            else:
                found.append(candidate)
        return found

    def _of(self, tree: QuotaTree) -> list[_Candidate]:
        found = self._by_tree.get(id(tree))
        if found is None:
            budget = self._snapshot.policy.budget
            found = [
                _Candidate(self._rank(held), held, holder)
                for holder in self._claims.beyond(tree)
                for held in holder.staying
                if held.amounts and held.kept is None and (budget is None or held.preempted < budget)
            ]
            found.sort(key=lambda candidate: candidate.rank)
            self._by_tree[id(tree)] = found
        return found

    def _rank(self, held: HeldSlice) -> tuple[int, float, float, str, int, str]:
        """Lowest priority, least work lost, newest; then its name."""
        lost = lost_seconds(self._snapshot.now, self._since(held), held.checkpoint, held.restart, held.slots)
        return held.priority, lost, -held.admitted, held.key, held.epoch, held.work

    def _since(self, held: HeldSlice) -> float:
        return held.started if held.started is not None else held.admitted

    def _young(self, held: HeldSlice) -> bool:
        return self._snapshot.now < self._since(held) + self._snapshot.policy.minimum_runtime


class _Search:
    """For one way to pay. Usage is changed on the way, and put back."""

    def __init__(
        self, victims: Victims, wish: Wish, option: Option, view: View, tree: QuotaTree, candidates: list[_Candidate]
    ) -> None:
        self._victims, self._option, self._view = victims, option, view
        self._candidates = candidates
        self._together = wish.together
        self._queues = victims.queues(tree)
        self._usage: TreeUsage = view.ledger.of(tree)
        self._tree = tree
        amounts = tuple((key, each * wish.together) for key, each in option.choice.requests)
        demand = wish.demand
        self._party = Party(tree.position[wish.queue.name], demand.priority, demand.created, amounts)
        self._strategies = victims._snapshot.policy.strategies

    def best(self, among: Mask | None) -> list[Victim]:
        if among is None:
            return self._found(self._try(-1)) or []
        places = self._view.places
        rooms = places.room(self._option)
        able = among & (self._option.capacity >= self._together)
        if (able & (rooms >= self._together)).any():
            # There is room; it is only quota that is short.
            return self._found(self._try(-1)) or []
        here: dict[int, int] = {}
        for number, candidate in enumerate(self._candidates):
            name = candidate.held.cluster
            if name in places.fleet:
                position = places.fleet.position(name)
                if able[position]:
                    here.setdefault(position, number)
        tried: list[tuple[tuple[int, float, int, int], list[Victim]]] = []
        for cluster in sorted(here, key=lambda c: here[c]):
            chosen = self._try(cluster)
            if chosen is not None:
                tried.append((self._price(chosen, here[cluster]), self._found(chosen) or []))
                if len(tried) >= COMPARED:
                    break
        return min(tried, key=lambda entry: entry[0])[1] if tried else []

    def _found(self, chosen: _Chosen | None) -> list[Victim] | None:
        if chosen is None:
            return None
        return [Victim(candidate.held, why, candidate.kept) for candidate, why in chosen.values()]

    def _price(self, chosen: _Chosen, first: int) -> tuple[int, float, int, int]:
        ranks = [candidate.rank for candidate, _ in chosen.values()]
        return max(rank[0] for rank in ranks), sum(rank[1] for rank in ranks), len(ranks), first

    def _try(self, cluster: int) -> _Chosen | None:
        """Victims so that it fits on that cluster (−1: wherever there is room already, or no place is asked for)."""
        chosen: _Chosen = {}
        try:
            if cluster >= 0:
                name = self._view.places.names[cluster]
                self._gather([c for c in self._candidates if c.held.cluster == name], chosen, cluster)
                if not self._roomy(chosen, cluster):
                    return None
            self._gather(self._candidates, chosen, -1)
            if not chosen or not self._pays():
                return None
            self._spare(chosen, cluster)
            return chosen
        finally:
            for candidate, _ in chosen.values():
                self._put(candidate)

    def _gather(self, candidates: Iterable[_Candidate], chosen: _Chosen, cluster: int) -> None:
        """Takes one after the other until there is enough: of room with a cluster, else of quota."""
        surplus: dict[int, int] = {}
        for candidate in candidates:
            if self._roomy(chosen, cluster) if cluster >= 0 else self._pays():
                return
            held, holder = candidate.held, candidate.holder
            if held.work in chosen:
                continue
            left = surplus.get(id(holder))
            if left is None:
                left = holder.surplus - sum(c.held.slots for c, _ in chosen.values() if c.holder is holder)
            # Of one job only what it is not entitled to; a slice that is too large goes alone.
            if left <= 0 or (left < held.slots and left < holder.surplus):
                continue
            short = frozenset(key for key, _ in self._lacking()) or frozenset(key for key, _ in self._party.amounts)
            if cluster < 0 and not any(key in short for key, _ in held.amounts):
                continue
            theirs = self._tree.position[held.queue]
            given = held.amounts if not candidate.kept else part(held, held.slots - candidate.kept)
            victim = Party(theirs, held.priority, held.created, given)
            why = right(self._usage, self._queues, self._party, victim, short, self._strategies)
            if why is not None:
                surplus[id(holder)] = left - held.slots
                chosen[held.work] = (candidate, why)
                self._usage.remove(theirs, given)

    def _spare(self, chosen: _Chosen, cluster: int) -> None:
        """Whom it can do without, the dearest first."""
        for work in sorted(chosen, key=lambda work: chosen[work][0].rank, reverse=True):
            if len(chosen) == 1:
                return
            entry = chosen.pop(work)
            self._put(entry[0])
            if not self._pays() or (cluster >= 0 and not self._roomy(chosen, cluster)):
                self._remove(entry[0])
                chosen[work] = entry

    def _pays(self) -> bool:
        return fits(self._usage, self._party.position, self._party.amounts)

    def _lacking(self) -> list[tuple[FlavorResource, int]]:
        usage, position = self._usage, self._party.position
        return [(key, value) for key, value in self._party.amounts if value > usage.available(position, key)]

    def _roomy(self, chosen: _Chosen, cluster: int) -> bool:
        """Whether there is room on the cluster once the chosen are gone from it."""
        shape = shape_at(self._option, cluster)
        if shape is None:
            return False
        places = self._view.places.apart()
        name = places.names[cluster]
        here = [candidate for candidate, _ in chosen.values() if candidate.held.cluster == name]
        places.release(candidate.held.work for candidate in here)
        for candidate in here:
            if candidate.kept:
                places.keep(candidate.held.work, name, candidate.held.shape, candidate.kept)
        return int(places.fleet.fit(shape)[cluster]) >= self._together

    def _put(self, candidate: _Candidate) -> None:
        held = candidate.held
        self._usage.add(self._tree.position[held.queue], self._given(candidate))

    def _remove(self, candidate: _Candidate) -> None:
        held = candidate.held
        self._usage.remove(self._tree.position[held.queue], self._given(candidate))

    @staticmethod
    def _given(candidate: _Candidate) -> tuple[tuple[FlavorResource, int], ...]:
        held = candidate.held
        return held.amounts if not candidate.kept else part(held, held.slots - candidate.kept)
