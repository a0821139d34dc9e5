"""To what every job of a quota tree is entitled, whoever runs now: the tree filled from empty, head after head.

Progressive filling. The head of every queue says what it would take next; of all heads the tournament's winner takes
it, if it fits; what does not fit is skipped, for good, for the tree only gets fuller. With fair sharing the winner is
who makes its side of every cohort borrow least, by dominant resource share over weight; without it, who has to reach
least high up the tree for quota. Ties go by priority, age and key, so that the result is a function of jobs and quotas.

Where clusters hold less than quotas allow, a claim must also find space on them, as they would be if only those before
it ran (Space): so it is decided by the same order who is entitled to the room, too.

A claim that is cut down to what it was given changes nothing about what the others are given: a job is offered slots
in steps that depend on what it has, never on what it asks. What is done with the result is not decided here.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from hub.queueing.objects import ClusterQueue, FlavorResource
from hub.queueing.tree import QuotaTree
from hub.queueing.usage import TreeUsage, fits

Order = tuple[int, float, str, str]
"""Minus the priority, creation, key, uid."""
Option = tuple[tuple[FlavorResource, int], ...]
"""What one slot takes, one way to pay for it."""

# An array that has n slots is offered n / 8 more at a time: a thousand slots cost some fifty steps.
_STEP = 8
# So often all is filled again; a queue in whose way more large heads are has to wait for them.
_RETRIES = 3


@dataclass(slots=True, eq=False)
class Claim:
    """All that one job wants of one queue, running or not: `count` slots, or with `gang` all of them or none.

    `position`: of the queue in its tree. `options`: in the owner's order. `kind`: equal for claims that fit alike.
    `entitled` is the outcome, in slots; `most` is what it had at any time on the way there. `base`: what the same job
    must have first; this is what it takes beyond, and comes after all of its queue that is not such.
    """

    key: str
    order: Order
    position: int
    options: tuple[Option, ...]
    count: int
    gang: bool
    kind: int
    entitled: int = 0
    most: int = 0
    base: Claim | None = None

    @property
    def idle(self) -> bool:
        """Whether what it would add to is not there."""
        return self.base is not None and self.base.entitled < self.base.count


@dataclass(frozen=True, slots=True)
class Grant:
    """`option`: which of the claim's ways to pay was free."""

    claim: Claim
    slots: int
    option: int


class Space(Protocol):
    """Room on clusters that run nothing but what was taken here."""

    def empty(self) -> Space:
        """The same, with nothing taken."""
        ...

    def slots(self, claim: Claim, option: int, wanted: int) -> int:
        """How many of `wanted` would find a place; of a gang all or 0."""
        ...

    def take(self, claim: Claim, option: int, slots: int) -> None: ...


@dataclass(frozen=True, slots=True)
class Tree:
    """`usage`: what is taken whatever the claims are. `queues`: by position, None for cohorts."""

    usage: TreeUsage
    queues: Sequence[ClusterQueue | None]
    claims: Sequence[Claim]


def fill(trees: Iterable[Tree], *, fair: bool, space: Space | None = None) -> list[Grant]:
    """Grants in the order of decision: in each tree its tournament's, between trees by priority, age and key.

    `claims` may be in any order; their `entitled` is set.

    A head that is too large for what is left must not cost those behind it what their queue owns: where others have
    borrowed that while the head was in the way, all is filled again without the head.
    """
    trees = list(trees)
    without: set[tuple[int, int]] = set()
    for left in range(_RETRIES, -1, -1):
        there = space.empty() if space is not None else None
        grants = _Grants(there)
        lines = _run(trees, grants, frozenset(without), fair=fair)
        robbed = {entry for line in lines if left for entry in line.in_the_way()}
        if not robbed - without:
            break
        without |= robbed
    return grants.found


def _run(trees: Sequence[Tree], grants: _Grants, without: frozenset[tuple[int, int]], *, fair: bool) -> list[_Line]:
    """`without`: (tree, kind of claim) that are not looked at."""
    lines: list[_Line] = []
    heap: list[tuple[Order, int, Iterator[Order]]] = []
    for number, tree in enumerate(trees):
        steps = _steps(number, tree, grants, lines, without, fair=fair)
        for order in steps:
            heap.append((order, number, steps))
            break
    heapq.heapify(heap)
    while heap:
        _, number, steps = heap[0]
        following = next(steps, None)
        if following is None:
            heapq.heappop(heap)
        else:
            heapq.heapreplace(heap, (following, number, steps))
    return lines


def _steps(
    number: int,
    tree: Tree,
    grants: _Grants,
    all_lines: list[_Line],
    without: frozenset[tuple[int, int]],
    *,
    fair: bool,
) -> Iterator[Order]:
    """Says who is next before it takes."""
    usage = tree.usage.apart()
    lines: dict[int, _Line] = {}
    for claim in sorted(tree.claims, key=lambda claim: (claim.base is not None, claim.order)):
        claim.entitled = 0
        line = lines.get(claim.position)
        if line is None:
            queue = tree.queues[claim.position]
            stops = queue is None or queue.fungibility.borrowing_stops
            line = lines[claim.position] = _Line(usage, claim.position, stops, grants.space)
            line.tree, line.strict = number, queue is not None and queue.strict
            all_lines.append(line)
        if (number, claim.kind) not in without:
            line.claims.append(claim)
    if usage.tree.nodes[0].is_queue:
        return _alone(lines.values(), grants)
    return _fair(usage, lines.values(), grants) if fair else _classical(lines.values(), grants)


class _Grants:
    __slots__ = ("found", "space")

    def __init__(self, space: Space | None) -> None:
        self.found: list[Grant] = []
        self.space = space

    def add(self, claim: Claim, slots: int, option: int) -> None:
        claim.entitled += slots
        claim.most = max(claim.most, claim.entitled)
        if self.space is not None:
            self.space.take(claim, option, slots)
        if self.found:
            last = self.found[-1]
            if last.claim is claim and last.option == option:
                self.found[-1] = Grant(claim, last.slots + slots, option)
                return
        self.found.append(Grant(claim, slots, option))


class _Line:
    """The claims of one queue. `head` with `slots`, `option` and `amounts` is what it would take next, after `aim`."""

    __slots__ = (
        "_at", "_closed", "_space", "_stops", "amounts", "claims", "head", "option", "position", "slots", "strict",
        "tree", "usage",
    )  # fmt: skip

    def __init__(self, usage: TreeUsage, position: int, stops: bool, space: Space | None) -> None:
        self.usage, self.position, self._stops, self._space = usage, position, stops, space
        self.claims: list[Claim] = []
        self.head: Claim
        self.slots = self.option = 0
        self.amounts: Option = ()
        self.tree, self.strict = 0, False
        self._at = 0
        self._closed: set[int] = set()

    def aim(self) -> bool:
        """Whether anybody is left who fits."""
        claims, closed = self.claims, self._closed
        while self._at < len(claims):
            claim = claims[self._at]
            left = claim.count - claim.entitled
            if left > 0 and claim.kind not in closed and not claim.idle:
                wanted = left if claim.gang else min(left, max(1, claim.entitled // _STEP))
                if self._choose(claim, wanted):
                    self.head = claim
                    return True
                closed.add(claim.kind)
            self._at += 1
        return False

    def in_the_way(self) -> list[tuple[int, int]]:
        """Kinds of claims that were too large, if somebody behind lost what the queue owns for it."""
        usage, position = self.usage, self.position
        # A StrictFIFO queue gives nobody anything before its head.
        if self.strict or not self._closed or usage.tree.nodes[0].is_queue:
            return []
        stuck: list[tuple[int, int]] = []
        seen: set[int] = set()
        for claim in self.claims:
            # Of those that are alike the first that did not fit says when that was; before it nobody was in the way.
            if claim.entitled >= claim.count or claim.kind in seen or claim.base is not None:
                continue
            seen.add(claim.kind)
            slots = claim.count if claim.gang else 1
            for option in claim.options:
                amounts = [(key, each * slots) for key, each in option]
                owned = not any(usage.borrows(position, key, value) for key, value in amounts)
                if owned and not fits(usage, position, amounts) and stuck:
                    return stuck
            if claim.kind in self._closed:
                stuck.append((self.tree, claim.kind))
        return []

    def fits(self) -> bool:
        if not fits(self.usage, self.position, self.amounts):
            return False
        return self._space is None or self._space.slots(self.head, self.option, self.slots) == self.slots

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
            if paid >= least and self._space is not None:
                paid = self._space.slots(claim, number, paid)
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


def _alone(lines: Iterable[_Line], grants: _Grants) -> Iterator[Order]:
    """A queue without cohort."""
    for line in lines:
        while line.aim():
            yield line.head.order
            if line.fits():
                line.take(grants)


def _classical(lines: Iterable[_Line], grants: _Grants) -> Iterator[Order]:
    """Who reaches least high first. As the tree fills a head only has to reach higher: the stale is looked at anew."""
    heap = [(*_rank(line), line.position, line) for line in lines if line.aim()]
    heapq.heapify(heap)
    while heap:
        reach, _, order, position, line = heap[0]
        yield order
        if line.fits() and _reach(line) == reach:
            line.take(grants)
        if line.aim():
            heapq.heapreplace(heap, (*_rank(line), position, line))
        else:
            heapq.heappop(heap)


def _rank(line: _Line) -> tuple[int, bool, Order]:
    return _reach(line), line.head.base is not None, line.head.order


def _reach(line: _Line) -> int:
    usage, position = line.usage, line.position
    return max((usage.reach(position, key, value)[0] for key, value in line.amounts), default=0)


_Key = tuple[bool, int, float, bool, int, float, str, str]


def _fair(usage: TreeUsage, lines: Iterable[_Line], grants: _Grants) -> Iterator[Order]:
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
        yield winner.head.order
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
    return borrows, *share, line.head.base is not None, *line.head.order


def queues_of(tree: QuotaTree, queues: dict[str, ClusterQueue]) -> list[ClusterQueue | None]:
    return [queues.get(node.name) if node.is_queue else None for node in tree.nodes]
