"""Where tasks may go now, as one cycle sees it: what rules allow, what could ever fit, what fits with all that this
cycle has placed already, and which is best.

The fleet is immutable; this holds the newest one of the cycle, and remembers what does not change within it. It knows
nothing of quota but which flavors' labels and tolerations go with a shape.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hub.fleet.changes import Charge, Release
from hub.fleet.facts import ClusterFacts
from hub.fleet.shape import TaskShape, on_domain
from hub.placement.filters import avoided, eligible, verdicts
from hub.placement.prioritizers import scorers_for
from hub.placement.rule import ClusterRule
from hub.planner.plan import Snapshot
from hub.queueing.assign import FlavorChoice
from hub.queueing.demand import Demand
from hub.queueing.objects import ClusterQueue
from hub.scoring.combine import Ranking, admit, most, rank
from hub.scoring.interface import ScoreRequest, WeightedScorer
from hub.scoring.reserving import limits

Mask = NDArray[np.bool_]
Counts = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Variant:
    """What is asked of the nodes of some clusters (`where` None: of all). A flavor's label that a whole cluster has
    need not be on its nodes too, so one shape can become several questions."""

    shape: TaskShape
    where: Mask | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Option:
    """One shape paid from certain flavors: `asked` is what scorers are shown, `capacity` what empty clusters hold.

    `domain`: the node label and its value by which it is bound to one part of its cluster.
    """

    shape: TaskShape
    choice: FlavorChoice
    variants: tuple[Variant, ...]
    asked: TaskShape
    capacity: Counts
    domain: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Wish:
    """What decides about some tasks of a job: equal wishes get equal answers.

    `together`: how many must start at once on one cluster; 1 where each may start alone. `held`: clusters the job has
    already, where its rule limits how many. `placed`: tasks it has on clusters, where its rule spreads them.
    """

    demand: Demand
    queue: ClusterQueue
    avoid: tuple[str, ...]
    together: int
    held: tuple[str, ...]
    placed: tuple[tuple[str, int], ...] = ()


class Places:
    def __init__(self, snapshot: Snapshot) -> None:
        self.fleet = snapshot.fleet
        self.names = snapshot.fleet.names
        self._snapshot = snapshot
        self._allowed: dict[tuple[ClusterRule, tuple[str, ...]], Mask] = {}
        self._workers: dict[str, Mask] = {}
        self._verdicts: dict[tuple[ClusterRule, tuple[str, ...]], Mapping[str, str]] = {}
        self._scorers: dict[ClusterRule, tuple[WeightedScorer, ...]] = {}
        self._admitted: dict[tuple[ClusterRule, TaskShape], tuple[Mask | None, Mapping[int, str]]] = {}
        self._options: dict[tuple[TaskShape, FlavorChoice], Option] = {}
        # Scorers that limit how much may run somewhere do so whoever asks, and whatever else a rule weighs.
        self._limiting = tuple(entry for entry in snapshot.scorers if limits(entry.scorer))
        self._charges = 0

    def apart(self) -> Places:
        """The same, to try things on; what never changes within a cycle is shared."""
        return copy(self)

    def allowed(self, rule: ClusterRule, current: tuple[str, ...] = ()) -> Mask:
        """Clusters that the rule admits and that may be given work; `current` are those that the job is on already."""
        mask = self._allowed.get((rule, current))
        if mask is None:
            mask = eligible(self.fleet, self._snapshot.sets, rule, self._snapshot.now, current)
            self._allowed[rule, current] = mask
        return mask

    def workers(self, queue: str) -> Mask | None:
        """The clusters that the queue's owner names; None: any."""
        named = self._snapshot.quotas.workers.get(queue)
        if named is None:
            return None
        mask = self._workers.get(queue)
        if mask is None:
            mask = self._workers[queue] = self.mask(named)
        return mask

    def verdicts(self, rule: ClusterRule, current: tuple[str, ...] = ()) -> Mapping[str, str]:
        """The same, cluster by cluster in the order of `names`, with why not in words; empty: allowed."""
        found = self._verdicts.get((rule, current))
        if found is None:
            answers = verdicts(self.fleet, self._snapshot.sets, rule, self._snapshot.now, current)
            found = {name: "" if v is None else v[0].message(**v[1]) for name, v in answers.items()}
            self._verdicts[rule, current] = found
        return found

    def option(self, shape: TaskShape, choice: FlavorChoice) -> Option:
        known = self._options.get((shape, choice))
        if known is None:
            variants = self._variants(shape, choice)
            # Charges do not change what an empty cluster could hold, so the first fleet answers for the whole cycle.
            capacity = self._merge(variants, [self.fleet.capacity(variant.shape) for variant in variants])
            asked = variants[0].shape if len(variants) == 1 else _tolerating(shape, choice)
            known = Option(shape, choice, variants, asked, capacity)
            self._options[shape, choice] = known
        return known

    def within(self, option: Option, label: str) -> Option:
        """The same, for tasks that are to be on nodes with one value of `label`."""
        return self.option(replace(option.shape, domain=label), option.choice)

    def bound(self, option: Option, cluster: int, count: int) -> Option:
        """The same, bound to the smallest of the cluster's domains with room for `count`, of equals to the first by
        value; itself, where it asks for no domain."""
        shape = shape_at(option, cluster)
        label = option.shape.domain
        if not label or shape is None:
            return option
        open_domains = self.fleet.domains(self.names[cluster], shape).items()
        _, value = min((room, value) for value, room in open_domains if room >= count)
        domain = label, value
        variants = tuple(replace(variant, shape=on_domain(variant.shape, domain)) for variant in option.variants)
        return replace(option, shape=on_domain(option.shape, domain), variants=variants, domain=domain)

    def candidates(self, wish: Wish, options: Iterable[Option]) -> Mask:
        """Clusters that may be asked: those the rule allows, less those to avoid while another could ever do."""
        rule = wish.demand.rule
        allowed = self.allowed(rule, wish.demand.running)
        workers = self.workers(wish.queue.name)
        if workers is not None:
            allowed = allowed & workers
        admitted, _ = self.filtered(rule, wish.demand.shape)
        if admitted is not None:
            allowed = allowed & admitted
        if wish.demand.gang and wish.demand.running:
            # Where the others of it are.
            allowed = allowed & self.mask(wish.demand.running)
        if rule.limit is not None and len(wish.held) >= rule.limit:
            allowed = allowed & self.mask(wish.held)
        if not wish.avoid:
            return allowed
        others = allowed & ~self.mask(wish.avoid)
        if any((others & (option.capacity >= wish.together)).any() for option in options):
            return others
        return allowed

    def filtered(self, rule: ClusterRule, shape: TaskShape) -> tuple[Mask | None, Mapping[int, str]]:
        """What the scorers' filters let through (None: all), and which of them keeps out each other cluster."""
        scorers = self.scorers(rule)
        # What counts decisions says something else after each of them.
        fixed = not any(getattr(entry.scorer, "live", False) for entry in scorers)
        found = self._admitted.get((rule, shape)) if fixed else None
        if found is None:
            request = ScoreRequest(shape, 1, self._snapshot.now, rule.data)
            found = self._admitted[rule, shape] = admit(self.fleet, request, scorers)
        return found

    @property
    def limited(self) -> bool:
        """Whether what a cluster may have can change by what another one got."""
        return bool(self._limiting)

    def room(self, option: Option) -> Counts:
        """Tasks more that each cluster could start now."""
        found = self.fit(option)
        if self._limiting:
            allowed, _ = self.limit(option)
            found = found if allowed is None else np.minimum(found, allowed)
        return found

    def fit(self, option: Option) -> Counts:
        """The same, whatever scorers allow."""
        variants = option.variants
        if len(variants) == 1 and variants[0].where is None:
            return self.fleet.fit(variants[0].shape)
        return self._merge(variants, [self.fleet.fit(variant.shape) for variant in variants])

    def limit(self, option: Option) -> tuple[Counts | None, Mapping[int, str]]:
        """How many tasks more scorers allow each cluster, and which of them allows least."""
        return most(self.fleet, ScoreRequest(option.shape, 1, self._snapshot.now), self._limiting)

    def best_first(
        self, rule: ClusterRule, option: Option, count: int, among: Mask
    ) -> tuple[list[int], Ranking | None]:
        """Positions of the clusters of `among` in the order in which they are filled, and the ranking that says so."""
        found: list[int] = among.nonzero()[0].tolist()
        # There is nothing to compare with.
        if len(found) < 2:
            return found, None
        ranking = self.ranking(rule, option, count, among)
        return ranking.order.tolist(), ranking

    def ranking(self, rule: ClusterRule, option: Option, count: int, among: Mask) -> Ranking:
        """The clusters of `among`, best first; those that a taint asks to leave out come after all others."""
        request = ScoreRequest(option.asked, count, self._snapshot.now, rule.data)
        ranking = rank(self.fleet, request, self.scorers(rule), among)
        last = avoided(self.fleet, rule)[ranking.order]
        if not last.any():
            return ranking
        return replace(ranking, order=np.concatenate([ranking.order[~last], ranking.order[last]]))

    def scorers(self, rule: ClusterRule) -> tuple[WeightedScorer, ...]:
        """The hub's scorers, as the rule weighs them."""
        found = self._scorers.get(rule)
        if found is None:
            found = scorers_for(rule, self._snapshot.scorers)
            self._scorers[rule] = found
        return found

    def charge(self, cluster: int, option: Option, count: int) -> None:
        """From now on `count` tasks more are held there."""
        shape = shape_at(option, cluster)
        assert shape is not None, "a cluster that contradicts the flavor has no room"
        self._charges += 1
        # Names of ManifestWorks have no slash, so this is nobody's.
        change = Charge(f"cycle/{self._charges}", self.names[cluster], shape, count)
        self.fleet = self.fleet.apply((change,))

    def charge_all(self, takes: Sequence[tuple[int, Option, int]]) -> list[int]:
        """As `charge` of (cluster, option, count) one after the other, but of each only what nodes have room for now;
        how many that is."""
        first, changes = self._charges + 1, list[Charge]()
        for number, (cluster, option, count) in enumerate(takes, first):
            shape = shape_at(option, cluster)
            assert shape is not None, "a cluster that contradicts the flavor has no room"
            changes.append(Charge(f"cycle/{number}", self.names[cluster], shape, count))
        self._charges += len(takes)
        self.fleet = self.fleet.apply(changes)
        got: list[int] = []
        over: list[Charge | Release] = []
        for change in changes:
            holding = self.fleet.held(change.cluster)[change.key]
            got.append(change.count - holding.waiting)
            if holding.waiting:
                over.append(replace(change, count=got[-1]) if got[-1] else Release(change.key))
        self.fleet = self.fleet.apply(over)
        return got

    def release(self, works: Iterable[str]) -> None:
        """As if these were gone."""
        self.fleet = self.fleet.apply([Release(work) for work in works])

    def keep(self, key: str, cluster: str, shape: TaskShape, count: int) -> None:
        """`count` tasks of what `key` held are still to be held."""
        self.fleet = self.fleet.apply([Charge(kept_name(key), cluster, shape, count)])

    def mask(self, clusters: Iterable[str]) -> Mask:
        wanted = set(clusters)
        return np.array([name in wanted for name in self.names], dtype=np.bool_)

    def _variants(self, shape: TaskShape, choice: FlavorChoice) -> tuple[Variant, ...]:
        shape = _tolerating(shape, choice)
        if not choice.labels:
            return (Variant(shape),)
        count = len(self.names)
        contradicted = np.zeros(count, dtype=np.bool_)
        patterns = np.zeros(count, dtype=np.int64)
        for bit, (key, value) in enumerate(choice.labels):
            agrees = self._agreement(key, value)
            contradicted |= agrees < 0
            patterns |= (agrees == 0).astype(np.int64) << bit
        made: list[Variant] = []
        for pattern in np.unique(patterns[~contradicted]):
            wanted = {key: value for bit, (key, value) in enumerate(choice.labels) if pattern >> bit & 1}
            selector = tuple(sorted({**wanted, **dict(shape.node_selector)}.items()))
            where = (patterns == pattern) & ~contradicted
            made.append(Variant(replace(shape, node_selector=selector), None if where.all() else where))
        return tuple(made) or (Variant(shape, np.zeros(count, dtype=np.bool_)),)

    def _agreement(self, key: str, value: str) -> NDArray[np.int8]:
        """1 where the cluster has this label, −1 where it has another value of it, 0 where it says nothing."""

        def agrees(facts: ClusterFacts) -> int:
            found = facts.labels.get(key)
            return 0 if found is None else 1 if found == value else -1

        return self.fleet.facts_column(("agrees", key, value), agrees, np.int8)

    def _merge(self, variants: Sequence[Variant], counts: Sequence[Counts]) -> Counts:
        merged = np.zeros(len(self.names), dtype=np.int64)
        for variant, count in zip(variants, counts, strict=True):
            merged = count if variant.where is None else np.where(variant.where, count, merged)
        return merged


def kept_name(key: str) -> str:
    """What is still held of what `key` held is charged by."""
    return f"cycle/kept/{key}"


def shape_at(option: Option, cluster: int) -> TaskShape | None:
    """What the nodes of that cluster are asked for; None: the cluster's labels contradict the flavors'."""
    return next((v.shape for v in option.variants if v.where is None or v.where[cluster]), None)


def _tolerating(shape: TaskShape, choice: FlavorChoice) -> TaskShape:
    if not choice.tolerations:
        return shape
    return replace(shape, tolerations=tuple(sorted({*shape.tolerations, *choice.tolerations})))
