"""To what every job of a quota tree is entitled, whoever runs now: the tree filled from empty, head after head.

Progressive filling. The head of every queue says what it would take next; of all heads the tournament's winner takes
it, if it fits; what does not fit is skipped, for good, for the tree only gets fuller. With fair sharing the winner is
who makes its side of every cohort borrow least, by dominant resource share over weight; without it, who has to reach
least high up the tree for quota. Ties go by priority, age and key, so that the result is a function of jobs and quotas.

Where clusters hold less than quotas allow, a claim must also find space on them, as they would be if only those before
it ran (Space): so it is decided by the same order who is entitled to the room, too.

A claim that is cut down to what it was given changes nothing about what the others are given: a job is offered slots
in steps that depend on what it has, never on what it asks. What is done with the result is not decided here. For as
long as every winner fits nobody needs to be asked: hub/queueing/fleet/ahead.py.
"""

from __future__ import annotations

import heapq
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np

from hub.queueing.fleet.ahead import STEP, Ints, Lines, Winners, ahead
from hub.queueing.fleet.claim import Claim, Grant, Option, Rank, Roll
from hub.queueing.objects import ClusterQueue
from hub.queueing.tree import QuotaTree
from hub.queueing.usage import TreeUsage, fits

# So often all is filled again; a queue in whose way more large heads are has to wait for them.
_RETRIES: Final = 3
# Fewer claims than this are quicker asked than sorted.
_MANY: Final = 96
# So many heads are asked before it is tried again whether all that follow win unasked; then twice as many.
_ASKED: Final = 64


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
    roll: Roll


def fill(trees: Iterable[Tree], *, fair: bool, space: Space | None = None) -> list[Grant]:
    """Grants in the order of decision: in each tree its tournament's, between trees by priority, age and key.

    Every claim's `entitled` is set; there are grants only for those that ask.

    A head that is too large for what is left must not cost those behind it what their queue owns: where others have
    borrowed that while the head was in the way, all is filled again without the head.
    """
    trees = list(trees)
    for tree in trees:
        for claim in tree.roll.claims:
            claim.entitled = claim.most = 0
    without: set[tuple[int, int]] = set()
    for left in range(_RETRIES, -1, -1):
        there = space.empty() if space is not None else None
        grants = _Grants(there)
        runs = [_Run(tree, grants, {kind for at, kind in without if at == n}) for n, tree in enumerate(trees)]
        _between(runs, fair=fair)
        robbed = {(n, kind) for n, run in enumerate(runs) if left for line in run.lines for kind in line.in_the_way()}
        if not robbed - without:
            break
        without |= robbed
        for tree in trees:
            for claim in tree.roll.claims:
                claim.entitled = 0
    return grants.found


def _between(runs: Sequence[_Run], *, fair: bool) -> None:
    """Whose turn it is among the trees."""
    heap: list[tuple[Rank, int, Iterator[Rank]]] = []
    for number, run in enumerate(runs):
        steps = run.steps(fair=fair)
        for order in steps:
            heap.append((order, number, steps))
            break
    heapq.heapify(heap)
    while len(heap) > 1:
        _, number, steps = heap[0]
        following = next(steps, None)
        if following is None:
            heapq.heappop(heap)
        else:
            heapq.heapreplace(heap, (following, number, steps))
    for _, _, steps in heap:
        for _ in steps:
            pass


class _Run:
    """One tree being filled. `without`: kinds of claims that are not looked at."""

    def __init__(self, tree: Tree, grants: _Grants, without: set[int]) -> None:
        self._tree, self._roll, self._grants = tree, tree.roll, grants
        self._usage = tree.usage.apart()
        self.lines = self._line_up(without)

    def steps(self, *, fair: bool) -> Iterator[Rank]:
        """Says who is next before it takes."""
        for line in self.lines:
            line.aim()
        asked, flat = _ASKED, self._usage.tree.heights[0] < 2
        while True:
            many = flat and sum(line.left for line in self.lines) >= _MANY
            if many:
                yield from self._unasked(fair=fair)
            if not (yield from self._ask(asked if many else None, fair=fair)):
                return
            asked *= 2

    def _ask(self, most: int | None, *, fair: bool) -> Generator[Rank, None, bool]:
        """`most` heads or all; whether any are left."""
        usage, grants = self._usage, self._grants
        lines = [line for line in self.lines if line.head is not None]
        if usage.tree.nodes[0].is_queue:
            return (yield from _alone(lines, grants, most))
        return (yield from (_fair(usage, lines, grants, most) if fair else _classical(lines, grants, most)))

    def _unasked(self, *, fair: bool) -> Iterator[Rank]:
        """All that can be told to win."""
        roll, grants = self._roll, self._grants
        lines = [line for line in self.lines if line.head is not None]
        standing = [line.standing() for line in lines]
        if not standing:
            return
        sizes = np.fromiter(map(len, standing), np.int64, len(standing))
        found = ahead(
            self._usage,
            self._tree.queues,
            roll,
            Lines(
                np.concatenate(standing),
                np.cumsum(sizes) - sizes,
                {number: line.amounts for number, line in enumerate(lines) if not line.plain},
            ),
            fair=fair,
        )
        if found is None or not len(found.order):
            return
        if grants.space is None:
            yield from self._announced(found)
            count = len(found.order)
        else:
            count = yield from self._placed(found, grants.space)
        self._take(found.claims[found.order[:count]], found.slots[found.order[:count]])
        last = int(found.line[found.order[count - 1]]) if count else -1
        for number, place, slots in found.heads(count):
            lines[number].go_on(place, slots)
            if number == last:
                lines[number].aim()

    def _announced(self, won: Winners) -> Iterator[Rank]:
        """What they take nobody else could have: only who asks needs to know when."""
        roll = self._roll
        claims, slots = won.claims[won.order], won.slots[won.order]
        # Who asks comes no sooner than those that win before him.
        latest = np.maximum.accumulate(claims)
        shown = roll.asks[claims].nonzero()[0]
        for at, given, late in zip(claims[shown].tolist(), slots[shown].tolist(), latest[shown].tolist(), strict=True):
            yield roll.claims[late].rank
            self._grants.note(roll.claims[at], given, 0)
        if not len(shown) or latest[shown[-1]] != latest[-1]:
            yield roll.claims[int(latest[-1])].rank

    def _placed(self, won: Winners, space: Space) -> Generator[Rank, None, int]:
        """How many of the winners find room, up to the first that does not, when he wins or comes to the head."""
        roll = self._roll
        claims, slots, behind = won.claims.tolist(), won.slots.tolist(), won.behind().tolist()
        for done, (at, following) in enumerate(zip(won.order.tolist(), behind, strict=True)):
            claim, given = roll.claims[claims[at]], slots[at]
            if space.slots(claim, 0, given) != given:
                return done
            yield claim.rank
            if space.slots(claim, 0, given) != given:
                return done
            space.take(claim, 0, given)
            self._grants.note(claim, given, 0)
            if following >= 0:
                given = slots[following]
                if space.slots(roll.claims[claims[following]], 0, given) != given:
                    return done + 1
        return len(won.order)

    def _take(self, claims: Ints, slots: Ints) -> None:
        roll = self._roll
        given = np.bincount(claims, slots, len(roll)).astype(np.int64)
        who = given.nonzero()[0]
        for at, more in zip(who.tolist(), given[who].tolist(), strict=True):
            claim = roll.claims[at]
            has = claim.entitled = claim.entitled + more
            if has > claim.most:
                claim.most = has
        kinds = int(roll.kind.max()) + 1
        pairs, index = np.unique(roll.position[who] * kinds + roll.kind[who], return_inverse=True)
        sums = np.bincount(index, given[who]).astype(np.int64)
        for pair, total in zip(pairs.tolist(), sums.tolist(), strict=True):
            position, kind = divmod(pair, kinds)
            self._usage.add(position, [(key, each * total) for key, each in roll.options[kind][0]])

    def _line_up(self, without: set[int]) -> list[_Line]:
        roll = self._roll
        if not len(roll):
            return []
        here = np.argsort(roll.position, kind="stable")
        if without:
            here = here[~np.isin(roll.kind[here], list(without))]
        position = roll.position[here]
        if not len(here):
            return []
        parts = np.split(here, np.flatnonzero(position[1:] != position[:-1]) + 1)
        space = self._grants.space
        lines: list[_Line] = []
        for places in parts:
            at = roll.claims[places[0]].position
            lines.append(_Line(self._usage, at, self._tree.queues[at], roll.claims, places, without, space))
        return lines


class _Grants:
    __slots__ = ("found", "space")

    def __init__(self, space: Space | None) -> None:
        self.found: list[Grant] = []
        self.space = space

    def add(self, claim: Claim, slots: int, option: int) -> None:
        claim.entitled += slots
        if claim.entitled > claim.most:
            claim.most = claim.entitled
        if self.space is not None:
            self.space.take(claim, option, slots)
        self.note(claim, slots, option)

    def note(self, claim: Claim, slots: int, option: int) -> None:
        if not claim.asks:
            return
        if self.found:
            last = self.found[-1]
            if last.claim is claim and last.option == option:
                self.found[-1] = Grant(claim, last.slots + slots, option)
                return
        self.found.append(Grant(claim, slots, option))


class _Line:
    """The claims of one queue. `head` with `slots`, `option` and `amounts` is what it would take next, after `aim`.

    `claims`: of the whole roll, `places`: of the queue's in there. `left`: so many claims from the head on.
    """

    __slots__ = (
        "_at", "_claims", "_closed", "_elastic", "_places", "_space", "_stops", "_unasked", "_without", "amounts",
        "head", "option", "position", "slots", "strict", "usage",
    )  # fmt: skip

    def __init__(
        self,
        usage: TreeUsage,
        position: int,
        queue: ClusterQueue | None,
        claims: Sequence[Claim],
        places: Ints,
        without: set[int],
        space: Space | None,
    ) -> None:
        self.usage, self.position, self._claims, self._places, self._space = usage, position, claims, places, space
        self._stops = queue is None or queue.fungibility.borrowing_stops
        self.strict = queue is not None and queue.strict
        self.head: Claim | None = None
        self.slots = self.option = 0
        self.amounts: Option = ()
        self._at = 0
        # So many of the first in line have all they want.
        self._unasked = 0
        self._closed: set[int] = set()
        self._without = without
        # What is beyond a minimum comes last.
        self._elastic = claims[places[-1]].base is not None

    def aim(self) -> bool:
        """Whether anybody is left who fits."""
        claims, places, closed = self._claims, self._places, self._closed
        while self._at < len(places):
            claim = claims[places[self._at]]
            left = claim.count - claim.entitled
            if left > 0 and claim.kind not in closed and not claim.idle:
                if self._choose(claim, _step(claim)):
                    self.head = claim
                    return True
                closed.add(claim.kind)
            self._at += 1
        self.head = None
        return False

    @property
    def left(self) -> int:
        return len(self._places) - self._at if self.head is not None else 0

    @property
    def plain(self) -> bool:
        """Whether the head takes its whole next step in its first way to pay."""
        assert self.head is not None
        return not self.option and self.slots == _step(self.head)

    def standing(self) -> Ints:
        """Places in the roll of the head and of those behind that may still fit."""
        rest = self._places[self._at :]
        if not self._closed and not self._elastic:
            return rest
        head = self.head
        assert head is not None
        return rest[[self._may_follow(head, self._claims[place]) for place in rest]]

    def _may_follow(self, head: Claim, claim: Claim) -> bool:
        if claim.kind in self._closed:
            return False
        base = claim.base
        if base is None or base.entitled >= base.count:
            return True
        # Its minimum is still to come.
        return base.rank >= head.rank and base.kind not in self._closed and base.kind not in self._without

    def go_on(self, place: int, slots: int) -> None:
        """All before `place` have won (−1: all there are), whose claim has aimed at so many slots."""
        if place < 0:
            self._at, self.head = len(self._places), None
        else:
            self._at = int(np.searchsorted(self._places, place))
        if not self._closed:
            self._unasked = self._at
        if place < 0:
            return
        self.head, self.slots, self.option = self._claims[place], slots, 0
        self.amounts = tuple([(key, each * slots) for key, each in self.head.options[0]])

    def in_the_way(self) -> list[int]:
        """Kinds of claims that were too large, if somebody behind lost what the queue owns for it."""
        usage, position = self.usage, self.position
        # A StrictFIFO queue gives nobody anything before its head.
        if self.strict or not self._closed or usage.tree.nodes[0].is_queue:
            return []
        stuck: list[int] = []
        seen: set[int] = set()
        for place in self._places[self._unasked :]:
            claim = self._claims[place]
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
                stuck.append(claim.kind)
        return []

    def fits(self) -> bool:
        assert self.head is not None
        if not fits(self.usage, self.position, self.amounts):
            return False
        return self._space is None or self._space.slots(self.head, self.option, self.slots) == self.slots

    def take(self, grants: _Grants) -> None:
        assert self.head is not None
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


def _step(claim: Claim) -> int:
    left = claim.count - claim.entitled
    return left if claim.gang else min(left, max(1, claim.entitled // STEP))


def _alone(lines: Iterable[_Line], grants: _Grants, most: int | None) -> Generator[Rank, None, bool]:
    """A queue without cohort. Lines have aimed, here and below."""
    asked = 0
    for line in lines:
        while line.head is not None:
            if asked == most:
                return True
            asked += 1
            yield line.head.rank
            if line.fits():
                line.take(grants)
            line.aim()
    return False


def _classical(lines: Iterable[_Line], grants: _Grants, most: int | None) -> Generator[Rank, None, bool]:
    """Who reaches least high first. As the tree fills a head only has to reach higher: the stale is looked at anew."""
    heap = [(_reach(line), line.head.rank, line.position, line) for line in lines if line.head is not None]
    heapq.heapify(heap)
    asked = 0
    while heap:
        if asked == most:
            return True
        asked += 1
        reach, rank, position, line = heap[0]
        yield rank
        if line.fits() and _reach(line) == reach:
            line.take(grants)
        if line.aim() and line.head is not None:
            heapq.heapreplace(heap, (_reach(line), line.head.rank, position, line))
        else:
            heapq.heappop(heap)
    return False


def _reach(line: _Line) -> int:
    usage, position = line.usage, line.position
    return max((usage.reach(position, key, value)[0] for key, value in line.amounts), default=0)


_Key = tuple[bool, int, float, Rank]


def _fair(usage: TreeUsage, lines: Iterable[_Line], grants: _Grants, most: int | None) -> Generator[Rank, None, bool]:
    """The tournament up the tree. Only on the winner's way up do shares change, so only there keys are made anew."""
    tree = usage.tree
    heaps: dict[int, list[tuple[_Key, int, _Line]]] = {}
    for line in lines:
        if line.head is not None:
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
    asked = 0
    while root:
        if asked == most:
            return True
        asked += 1
        winner = root[0][2]
        assert winner.head is not None
        yield winner.head.rank
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
    return False


def _key(usage: TreeUsage, line: _Line, node: int) -> _Key:
    """Of a child of a cohort, as it would be with that head: who borrows nothing of it comes first."""
    usage.add(line.position, line.amounts)
    borrows = not usage.within(node, (key for key, _ in line.amounts))
    share = usage.share(node)
    usage.remove(line.position, line.amounts)
    assert line.head is not None
    return borrows, *share, line.head.rank


def queues_of(tree: QuotaTree, queues: dict[str, ClusterQueue]) -> list[ClusterQueue | None]:
    return [queues.get(node.name) if node.is_queue else None for node in tree.nodes]
