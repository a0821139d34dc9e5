"""To what every job of a quota tree is entitled, whoever runs now: the tree filled from empty, head after head.

Progressive filling. The head of every queue says what it would take next; of all heads the tournament's winner takes
it, if it fits; what does not fit is skipped, for good, for the tree only gets fuller. With fair sharing the winner is
who makes its side of every cohort borrow least, by dominant resource share over weight; without it, who has to reach
least high up the tree for quota. Ties go by priority, age and key, so that the result is a function of jobs and quotas.

A claim that is cut down to what it was given changes nothing about what the others are given: a job is offered slots
in steps that depend on what it has, never on what it asks. What is done with the result is not decided here.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hub.queueing.objects import ClusterQueue, FlavorResource
from hub.queueing.tree import QuotaTree
from hub.queueing.usage import TreeUsage, fits

Order = tuple[int, float, str, str]
"""Minus the priority, creation, key, uid."""
Option = tuple[tuple[FlavorResource, int], ...]
"""What one slot takes, one way to pay for it."""

# An array that has n slots is offered n / 8 more at a time: a thousand slots cost some fifty steps.
_STEP = 8


@dataclass(slots=True, eq=False)
class Claim:
    """All that one job wants of one queue, running or not: `count` slots, or with `gang` all of them or none.

    `position`: of the queue in its tree. `options`: in the owner's order. `kind`: equal for claims that fit alike.
    `entitled` is the outcome, in slots.
    """

    key: str
    order: Order
    position: int
    options: tuple[Option, ...]
    count: int
    gang: bool
    kind: int
    entitled: int = 0


@dataclass(frozen=True, slots=True)
class Grant:
    """`option`: which of the claim's ways to pay was free."""

    claim: Claim
    slots: int
    option: int


def fill(
    usage: TreeUsage, queues: Sequence[ClusterQueue | None], claims: Iterable[Claim], *, fair: bool
) -> list[Grant]:
    """Grants in the order of the tournament. `usage` is what is taken whatever the claims are, and afterwards full.

    `queues`: by position, None for cohorts. `claims` may be in any order; their `entitled` is set.
    """
    lines: dict[int, _Line] = {}
    for claim in sorted(claims, key=lambda claim: claim.order):
        claim.entitled = 0
        line = lines.get(claim.position)
        if line is None:
            queue = queues[claim.position]
            stops = queue is None or queue.fungibility.borrowing_stops
            line = lines[claim.position] = _Line(usage, claim.position, stops)
        line.claims.append(claim)
    grants = _Grants()
    if usage.tree.nodes[0].is_queue:
        for line in lines.values():
            while line.aim():
                line.take(grants)
    elif fair:
        _fair(usage, lines.values(), grants)
    else:
        _classical(lines.values(), grants)
    return grants.found


def merged(trees: Iterable[Sequence[Grant]]) -> list[Grant]:
    """The grants of several trees as one order: within a tree as they are, between trees by priority, age and key."""
    found: list[Grant] = []
    heap: list[tuple[Order, int, int]] = []
    lists = [grants for grants in trees if grants]
    if len(lists) == 1:
        return list(lists[0])
    for number, grants in enumerate(lists):
        heap.append((grants[0].claim.order, number, 0))
    heapq.heapify(heap)
    while heap:
        _, number, at = heap[0]
        grants = lists[number]
        found.append(grants[at])
        if at + 1 < len(grants):
            heapq.heapreplace(heap, (grants[at + 1].claim.order, number, at + 1))
        else:
            heapq.heappop(heap)
    return found


class _Grants:
    __slots__ = ("found",)

    def __init__(self) -> None:
        self.found: list[Grant] = []

    def add(self, claim: Claim, slots: int, option: int) -> None:
        claim.entitled += slots
        if self.found:
            last = self.found[-1]
            if last.claim is claim and last.option == option:
                self.found[-1] = Grant(claim, last.slots + slots, option)
                return
        self.found.append(Grant(claim, slots, option))


class _Line:
    """The claims of one queue. `head` with `slots`, `option` and `amounts` is what it would take next, after `aim`."""

    __slots__ = ("_at", "_closed", "_stops", "amounts", "claims", "head", "option", "position", "slots", "usage")

    def __init__(self, usage: TreeUsage, position: int, stops: bool) -> None:
        self.usage, self.position, self._stops = usage, position, stops
        self.claims: list[Claim] = []
        self.head: Claim
        self.slots = self.option = 0
        self.amounts: Option = ()
        self._at = 0
        self._closed: set[int] = set()

    def aim(self) -> bool:
        """Whether anybody is left who fits."""
        claims, closed = self.claims, self._closed
        while self._at < len(claims):
            claim = claims[self._at]
            left = claim.count - claim.entitled
            if left > 0 and claim.kind not in closed:
                wanted = left if claim.gang else min(left, max(1, claim.entitled // _STEP))
                if self._choose(claim, wanted):
                    self.head = claim
                    return True
                closed.add(claim.kind)
            self._at += 1
        return False

    def fits(self) -> bool:
        return fits(self.usage, self.position, self.amounts)

    def take(self, grants: _Grants) -> None:
        self.usage.add(self.position, self.amounts)
        grants.add(self.head, self.slots, self.option)

    def _choose(self, claim: Claim, wanted: int) -> bool:
        """The first way to pay, or where the owner prefers that, the first without borrowing."""
        usage, position, found = self.usage, self.position, False
        least = wanted if claim.gang else 1
        for number, option in enumerate(claim.options):
            paid = wanted
            for key, each in option:
                paid = min(paid, usage.available(position, key) // each)
                if paid < least:
                    break
            if paid < least:
                continue
            if found and any(usage.borrows(position, key, each * paid) for key, each in option):
                continue
            self.option, self.slots = number, paid
            self.amounts = option if paid == 1 else tuple([(key, each * paid) for key, each in option])
            if self._stops or not any(usage.borrows(position, key, value) for key, value in self.amounts):
                return True
            found = True
        return found


def _classical(lines: Iterable[_Line], grants: _Grants) -> None:
    """Who reaches least high first. As the tree fills a head only has to reach higher: the stale is looked at anew."""
    heap = [(_reach(line), line.head.order, line.position, line) for line in lines if line.aim()]
    heapq.heapify(heap)
    while heap:
        reach, _, position, line = heap[0]
        if line.fits() and _reach(line) == reach:
            line.take(grants)
        if line.aim():
            heapq.heapreplace(heap, (_reach(line), line.head.order, position, line))
        else:
            heapq.heappop(heap)


def _reach(line: _Line) -> int:
    usage, position = line.usage, line.position
    return max((usage.reach(position, key, value)[0] for key, value in line.amounts), default=0)


_Key = tuple[bool, int, float, int, float, str, str]


def _fair(usage: TreeUsage, lines: Iterable[_Line], grants: _Grants) -> None:
    """The tournament up the tree. Only on the winner's way up do shares change, so only there keys are made anew."""
    tree = usage.tree
    heaps: dict[int, list[tuple[_Key, int, _Line]]] = {}
    for line in lines:
        if line.aim():
            above = tree.nodes[line.position].parent
            heaps.setdefault(above, []).append((_key(usage, line, line.position), line.position, line))
    involved = {node for cohort in heaps for node in tree.paths[cohort]}
    for cohort in sorted(involved, reverse=True):
        heap = heaps.setdefault(cohort, [])
        heapq.heapify(heap)
        if cohort and heap:
            _, _, best = heap[0]
            heaps.setdefault(tree.nodes[cohort].parent, []).append((_key(usage, best, cohort), cohort, best))
    root = heaps.get(0, [])
    while root:
        winner = root[0][2]
        if winner.fits():
            winner.take(grants)
        below, left = winner.position, winner.aim()
        for cohort in tree.paths[winner.position][1:]:
            heap = heaps[cohort]
            if left:
                best = winner if below == winner.position else heaps[below][0][2]
                heapq.heapreplace(heap, (_key(usage, best, below), below, best))
            else:
                heapq.heappop(heap)
            below, left = cohort, bool(heap)


def _key(usage: TreeUsage, line: _Line, node: int) -> _Key:
    """Of a child of a cohort, as it would be with that head: who borrows nothing of it comes first."""
    usage.add(line.position, line.amounts)
    borrows = not usage.within(node, (key for key, _ in line.amounts))
    share = usage.share(node)
    usage.remove(line.position, line.amounts)
    return borrows, *share, *line.head.order


def queues_of(tree: QuotaTree, queues: dict[str, ClusterQueue]) -> list[ClusterQueue | None]:
    return [queues.get(node.name) if node.is_queue else None for node in tree.nodes]
