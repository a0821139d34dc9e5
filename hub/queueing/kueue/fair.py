"""Victims under fair sharing: from whoever has the largest share, as long as the rule in force allows it.

The tree is walked down from the root to the child with the largest share, again after every victim. Shares are
compared where the ways to preemptor and victim part.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence

from hub.queueing.kueue.preemption import (
    Victim,
    Why,
    candidates,
    fill_back,
    queue_at,
    restore,
    room,
    take_out,
)
from hub.queueing.kueue.settings import FINAL, Strategy
from hub.queueing.kueue.standing import Candidate, Needed, Standing
from hub.queueing.kueue.workload import Workload
from hub.queueing.objects import FlavorResource
from hub.queueing.usage import NOTHING, Amounts, Share

Request = Mapping[FlavorResource, int]
_Key = tuple[int, float, int, int, int, tuple[object, ...], int]


class Lane:
    """Candidates of one queue, looked at one by one."""

    __slots__ = ("_rest", "front")

    def __init__(self, found: Iterator[Candidate]) -> None:
        self._rest = found
        self.front: Candidate | None = next(found, None)

    def advance(self) -> None:
        self.front = next(self._rest, None)


class FairSearch:
    """See `Search`. `strategies`: the rules, the second for those whom the first refused."""

    def __init__(self, strategies: Sequence[Strategy]) -> None:
        self._strategies = tuple(strategies)

    def __call__(
        self, standing: Standing, position: int, workload: Workload, needed: Needed, request: Request
    ) -> list[Victim]:
        found = _candidates(standing, position, workload, needed)
        if not found:
            return []
        # Shares are those that would be, were the workload admitted.
        standing.usage.add(position, request.items())
        search = _Attempt(standing, position, needed, request)
        fitting = search.first(self._strategies[0], found)
        if not fitting and len(self._strategies) > 1:
            fitting = search.second()
        standing.usage.remove(position, request.items())
        if not fitting:
            restore(standing, search.victims)
            return []
        return fill_back(standing, position, request, search.victims, borrowing=True)


def _candidates(standing: Standing, position: int, workload: Workload, needed: Needed) -> dict[int, Lane]:
    """By queue, whom the policies allow to take, in the order in which they would have to go."""
    policy, tree, usage = queue_at(standing, position).preemption, standing.tree, standing.usage
    found: dict[int, Lane] = {}
    if policy.within != "Never":
        found[position] = Lane(candidates(standing, position, workload, needed, policy.within))
    if policy.reclaim != "Never":
        for other in tree.position.values():
            borrows = other != position and other in standing.open and standing.has_holders(other)
            if borrows and not usage.within(other, needed):
                found[other] = Lane(candidates(standing, other, workload, needed, policy.reclaim))
    return {number: lane for number, lane in found.items() if lane.front is not None}


class _Attempt:
    def __init__(self, standing: Standing, position: int, needed: Needed, request: Request) -> None:
        self._standing, self._position, self._request = standing, position, request
        self._entitled = standing.usage.within(position, needed)
        self._refused: dict[int, list[Candidate]] = {}
        self.victims: list[Victim] = []

    def first(self, strategy: Strategy, found: Mapping[int, Lane]) -> bool:
        """Whether the request fits; whom the rule refuses is kept for the second."""
        standing, order = self._standing, _Largest(self._standing, self._position, found)
        while (target := order.next()) is not None:
            if target == self._position:
                if self._take(order, target, "InClusterQueue"):
                    return True
                continue
            if self._entitled:
                if self._take(order, target, "InCohortReclamation"):
                    return True
                continue
            mine, theirs = _parting(standing, self._position, target)
            share, before = standing.usage.share(mine), standing.usage.share(theirs)
            judged: dict[object, bool] = {}
            while order.left(target):
                amounts = order.front(target)[1].amounts
                allowed = judged.get(amounts)
                if allowed is None:
                    allowed = judged[amounts] = self._allowed(strategy, share, before, amounts, target, theirs)
                if allowed:
                    if self._take(order, target, "InCohortFairSharing"):
                        return True
                    break
                self._refused.setdefault(target, []).append(order.drop(target))
            order.seen(target)
        return False

    def second(self) -> bool:
        """The same by the initial share, and one victim a queue."""
        order = _Largest(
            self._standing, self._position, {queue: Lane(iter(some)) for queue, some in self._refused.items()}
        )
        while (target := order.next()) is not None:
            mine, theirs = _parting(self._standing, self._position, target)
            usage = self._standing.usage
            allowed = usage.share(mine) < usage.share(theirs)
            if allowed and self._take(order, target, "InCohortFairSharing"):
                return True
            order.close(target)
        return False

    def _allowed(
        self,
        strategy: Strategy,
        share: Share,
        before: Share,
        amounts: Amounts,
        target: int,
        theirs: int,
    ) -> bool:
        if strategy != FINAL:
            return share < before
        usage = self._standing.usage
        usage.remove(target, amounts)
        after = usage.share(theirs)
        usage.add(target, amounts)
        return share <= after

    def _take(self, order: _Largest, target: int, why: Why) -> bool:
        """Whether the request fits without that one as well."""
        victim = Victim(order.drop(target)[1], target, why)
        take_out(self._standing, victim)
        self.victims.append(victim)
        order.seen(target)
        usage, position = self._standing.usage, self._position
        usage.remove(position, self._request.items())
        enough = room(self._standing, position, self._request, borrowing=True)
        usage.add(position, self._request.items())
        return enough


class _Largest:
    """The queue to take from next: a heap of children by share for every cohort with candidates below it.

    Only what is on the way to a victim changes its share, so only that is put in anew; `_current` tells what is stale.
    """

    def __init__(self, standing: Standing, own: int, found: Mapping[int, Lane]) -> None:
        self._standing, self._own = standing, own
        self._above = frozenset(standing.tree.paths[own][1:])
        self._lanes = dict(found)
        self._heaps: dict[int, list[tuple[_Key, int]]] = {}
        self._current: dict[int, _Key] = {}
        paths = standing.tree.paths
        for position in sorted({node for queue in found for node in paths[queue][:-1]}, reverse=True):
            self._put(position)

    def next(self) -> int | None:
        """None when nobody is left to take from."""
        nodes, root = self._standing.tree.nodes, self._standing.tree.paths[self._own][-1]
        if nodes[root].is_queue:
            return root if self.left(root) else None
        at = root
        while True:
            chosen = self._best(at)
            if chosen is None:
                if at == root:
                    return None
                # Nobody below it is left.
                self._current.pop(at, None)
                at = root
            elif nodes[chosen].is_queue:
                return chosen
            else:
                at = chosen

    def left(self, queue: int) -> bool:
        lane = self._lanes.get(queue)
        return lane is not None and lane.front is not None

    def front(self, queue: int) -> Candidate:
        front = self._lanes[queue].front
        assert front is not None, "asked only where somebody is left"
        return front

    def drop(self, queue: int) -> Candidate:
        dropped = self.front(queue)
        self._lanes[queue].advance()
        return dropped

    def close(self, queue: int) -> None:
        self._lanes.pop(queue, None)
        self._current.pop(queue, None)
        self.seen(queue)

    def seen(self, queue: int) -> None:
        """Something about the queue changed."""
        for position in self._standing.tree.paths[queue][:-1]:
            if position == queue or position in self._current:
                self._put(position)

    def _put(self, position: int) -> None:
        node = self._standing.tree.nodes[position]
        usage = self._standing.usage
        share = usage.share(position)
        kept = share != NOTHING or position == self._own or position in self._above
        if (node.is_queue and not self.left(position)) or not (kept or usage.overdrawn(position)):
            self._current.pop(position, None)
            return
        # Cohorts win over queues; of equal queues the one whose candidate would have to go first.
        live, *rest = self.front(position)[0] if node.is_queue else (0, 0, 0.0, "")
        key = (-share[0], -share[1], int(node.is_queue), live, int(position == self._own), tuple(rest), position)
        if self._current.get(position) != key:
            self._current[position] = key
            heapq.heappush(self._heaps.setdefault(node.parent, []), (key, position))

    def _best(self, cohort: int) -> int | None:
        heap = self._heaps.get(cohort, [])
        while heap:
            key, position = heap[0]
            if self._current.get(position) == key:
                return position
            heapq.heappop(heap)
        return None


def _parting(standing: Standing, one: int, other: int) -> tuple[int, int]:
    """The last nodes on the ways down to two queues that are not the same."""
    left, right = standing.tree.paths[one], standing.tree.paths[other]
    together = 0
    while together < min(len(left), len(right)) and left[-1 - together] == right[-1 - together]:
        together += 1
    return left[-1 - together], right[-1 - together]
