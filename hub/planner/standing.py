"""Who wants what, kept from one decision to the next: what runs and waits is compared with what ran and waited.

Ten thousand slices run, and between two decisions some of them change. The claims they make on quota follow from the
slices and demands alone (hub/planner/claims.py says how), so only those are made again whose slices or demands are
others. It decides nothing, and a decision without it comes out the same, only later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from hub.placement.rule import ClusterRule
from hub.planner.plan import HeldSlice
from hub.queueing.assign import FlavorChoice
from hub.queueing.demand import Demand
from hub.queueing.fleet.claim import Claim, Grant, Roll
from hub.queueing.fleet.claim import Option as Amounts
from hub.queueing.fleet.rights import may_take
from hub.queueing.ledger import change
from hub.queueing.objects import ClusterQueue, FlavorResource
from hub.queueing.quotas import Denial, Quotas
from hub.queueing.tree import QuotaTree

ClaimKey = tuple[str, str]
"""(job, ClusterQueue)"""
Apart = Mapping[str, Mapping[FlavorResource, int]]


@dataclass(slots=True, eq=False)
class Wants:
    """Of one job and one queue. `held` in the order of epochs. `claim` None: nothing could ever pay for it. `alike`:
    equal for all that are paid and placed alike. `extra` and `more_alike`: of what an elastic job wants beyond its
    minimum.
    """

    queue: ClusterQueue
    demand: Demand | None = None
    held: list[HeldSlice] = field(default_factory=list)
    claim: Claim | None = None
    extra: Claim | None = None
    alike: tuple[object, ...] = ()
    more_alike: tuple[object, ...] = ()

    @property
    def claims(self) -> list[Claim]:
        return [claim for claim in (self.claim, self.extra) if claim is not None]


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """What decides how a claim may be paid and placed. `rule` None: no place is asked for."""

    queue: ClusterQueue
    one: Demand | HeldSlice
    rule: ClusterRule | None
    together: int


@dataclass(slots=True, eq=False)
class Filled:
    """What followed from all claims. `grants` are of those that ask. `apart`: what was taken beside them."""

    grants: list[Grant]
    apart: Apart
    fair: bool


class Standing:
    """`wants` by job and queue; `rolls` of claims by tree; `asked` and `kind` numbers of what claims have alike."""

    def __init__(self, quotas: Quotas | None = None) -> None:
        self.quotas = quotas if quotas is not None else Quotas()
        self.wants: dict[ClaimKey, Wants] = {}
        self.leaving: dict[str, HeldSlice] = {}
        self.elastic: set[ClaimKey] = set()
        self.trees: dict[int, QuotaTree] = {}
        self.rolls: dict[int, Roll] = {}
        self.asked: dict[tuple[object, ...], Asked] = {}
        self.amounts: dict[tuple[object, ...], tuple[Amounts, ...]] = {}
        self._uses: dict[tuple[object, ...], int] = {}
        self.kinds: dict[object, int] = {}
        self.alike: dict[int, tuple[object, ...]] = {}
        self.contested = any(may_take(queue) for queue in self.quotas.queues.values())
        self.filled: Filled | None = None
        self.numbers = Numbers()
        # How a shape may be paid follows from quotas alone.
        self.choices: dict[tuple[str, int], tuple[FlavorChoice, ...] | Denial] = {}
        self._held: tuple[HeldSlice, ...] = ()
        self._slices: dict[int, HeldSlice] = {}
        self._demands: dict[int, tuple[Demand, ClaimKey | None]] = {}
        self._paid: dict[str, dict[FlavorResource, int]] = {}

    @property
    def crowded(self) -> bool:
        """Whether more is remembered than is worth it."""
        return len(self.kinds) > 4096 + 4 * len(self.wants) or len(self.numbers) > 4096 + 4 * len(self.wants)

    def follow(
        self,
        held: tuple[HeldSlice, ...],
        demands: Iterable[Demand],
        route: Callable[[Demand], ClusterQueue | Denial],
    ) -> set[ClaimKey]:
        """Whose slices or demands are others than they were."""
        changed: set[ClaimKey] = set()
        if held is not self._held:
            self._follow_held(held, changed)
        now = {id(demand): demand for demand in demands}
        for number in self._demands.keys() - now.keys():
            _, key = self._demands.pop(number)
            if key is not None:
                self.wants[key].demand = None
                changed.add(key)
        for number in now.keys() - self._demands.keys():
            demand = now[number]
            paying = route(demand) if demand.groups and not demand.problem else None
            key = None
            if paying is not None and not isinstance(paying, Denial):
                key = demand.key, paying.name
                self._of(key, paying).demand = demand
                changed.add(key)
            self._demands[number] = demand, key
        return changed

    def apart(self, usage: Apart) -> Apart:
        """What of `usage` is of no slice that is known: it stays whatever is decided."""
        found = {}
        for queue, used in usage.items():
            paid = self._paid.get(queue, {})
            found[queue] = {key: used.get(key, 0) - paid.get(key, 0) for key in used.keys() | paid.keys()}
        return found

    def ask(self, wants: Wants, alike: tuple[object, ...]) -> None:
        """`wants` is paid and placed as others of the same `alike`; empty: as nobody."""
        before, wants.alike = wants.alike, alike
        self._use(alike, before)
        before, wants.more_alike = wants.more_alike, ()
        self._use((), before)

    def ask_more(self, wants: Wants, alike: tuple[object, ...]) -> None:
        before, wants.more_alike = wants.more_alike, alike
        self._use(alike, before)

    def _use(self, alike: tuple[object, ...], before: tuple[object, ...]) -> None:
        if alike:
            self._uses[alike] = self._uses.get(alike, 0) + 1
        if before:
            left = self._uses[before] = self._uses[before] - 1
            if not left:
                del self._uses[before]
                self.asked.pop(before, None)
                self.amounts.pop(before, None)

    def _follow_held(self, held: tuple[HeldSlice, ...], changed: set[ClaimKey]) -> None:
        self._held = held
        now = {id(one): one for one in held}
        for number in self._slices.keys() - now.keys():
            one = self._slices.pop(number)
            self._pay(one, -1)
            if self.leaving.get(one.work) is one:
                del self.leaving[one.work]
            wants = self.wants.get((one.key, one.queue))
            if wants is not None:
                wants.held = [other for other in wants.held if other is not one]
                changed.add((one.key, one.queue))
        for number in now.keys() - self._slices.keys():
            one = self._slices[number] = now[number]
            self._pay(one, 1)
            if one.stays < one.slots:
                self.leaving[one.work] = one
            queue = self.quotas.queues.get(one.queue)
            if queue is None or one.queue not in self.quotas.trees or one.slots <= 0:
                continue
            wants = self._of((one.key, one.queue), queue)
            wants.held.append(one)
            wants.held.sort(key=lambda held: (held.epoch, held.work))
            changed.add((one.key, one.queue))

    def _pay(self, one: HeldSlice, sign: int) -> None:
        change(self._paid, one.queue, one.amounts, sign)

    def _of(self, key: ClaimKey, queue: ClusterQueue) -> Wants:
        found = self.wants.get(key)
        if found is None:
            found = self.wants[key] = Wants(queue)
        return found


class Numbers:
    """Equal values have equal numbers; an object that was seen before costs no hash."""

    def __init__(self) -> None:
        self._numbers: dict[object, int] = {}
        self._seen: dict[int, tuple[int, object]] = {}

    def __len__(self) -> int:
        return len(self._seen)

    def of(self, value: object) -> int:
        known = self._seen.get(id(value))
        if known is None:
            # It is kept alive, so its id stays its own.
            known = self._seen[id(value)] = self._numbers.setdefault(value, len(self._numbers)), value
        return known[0]
