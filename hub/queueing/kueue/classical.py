"""Victims without fair sharing: by priority, and by who has the better right to the quota in the tree.

Of the cohort's other queues, walking up from the preemptor's, those are asked that use more than their own. Where a
subtree of the preemptor's own could hold the request, its right comes before theirs whatever the priorities.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

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
from hub.queueing.kueue.standing import Candidate, Needed, Rank, Standing
from hub.queueing.kueue.workload import Held, Workload
from hub.queueing.objects import FlavorResource
from hub.queueing.policies import Preemption

Request = Mapping[FlavorResource, int]


@dataclass(frozen=True, slots=True)
class _Source:
    """A queue to take from. `below`: its ancestors under the one that it shares with the preemptor."""

    position: int
    below: tuple[int, ...] = ()


class _Stream:
    """Candidates of several queues as one order. A queue is dropped as soon as it uses no more than its own."""

    def __init__(self, standing: Standing, preemptor: _Preemptor, sources: list[_Source], policy: str) -> None:
        self._standing, self._needed = standing, preemptor.needed
        self._heap: list[tuple[Rank, Held, _Source, Iterator[Candidate]]] = []
        for source in sources:
            found = candidates(standing, source.position, preemptor.workload, preemptor.needed, policy)
            for first in found:
                self._heap.append((*first, source, found))
                break
        heapq.heapify(self._heap)

    def __bool__(self) -> bool:
        return bool(self._heap)

    @property
    def evicted_next(self) -> bool:
        return bool(self._heap) and not self._heap[0][0][0]

    def next(self, own: int) -> tuple[Held, int] | None:
        """The next that may still be taken; None when the one at the front may not."""
        _, held, source, rest = self._heap[0]
        if source.position != own and self._spared(source):
            heapq.heappop(self._heap)
            return None
        following = next(rest, None)
        if following is None:
            heapq.heappop(self._heap)
        else:
            heapq.heapreplace(self._heap, (*following, source, rest))
        return held, source.position

    def _spared(self, source: _Source) -> bool:
        usage = self._standing.usage
        return usage.within(source.position, self._needed) or any(usage.within(n, self._needed) for n in source.below)


@dataclass(frozen=True, slots=True)
class _Preemptor:
    workload: Workload
    position: int
    needed: Needed
    policy: Preemption


def classical_victims(
    standing: Standing, position: int, workload: Workload, needed: Needed, request: Request
) -> list[Victim]:
    """See `Search`. A list is in no order that means anything."""
    policy = queue_at(standing, position).preemption
    preemptor = _Preemptor(workload, position, needed, policy)
    entitled, others = _sources(standing, preemptor, request)
    own = [_Source(position)] if policy.within != "Never" else []

    def streams() -> tuple[_Stream, _Stream, _Stream]:
        return (
            _Stream(standing, preemptor, entitled, policy.reclaim),
            _Stream(standing, preemptor, others, policy.reclaim),
            _Stream(standing, preemptor, own, policy.within),
        )

    current = streams()
    for borrowing in _attempts(standing, preemptor, bool(current[0]), bool(current[1])):
        victims: list[Victim] = []
        for victim in _in_order(preemptor, current, borrowing):
            take_out(standing, victim)
            victims.append(victim)
            if room(standing, position, request, borrowing=borrowing):
                return fill_back(standing, position, request, victims, borrowing=borrowing)
        restore(standing, victims)
        current = streams()
    return []


def _attempts(standing: Standing, preemptor: _Preemptor, entitled: bool, others: bool) -> tuple[bool, ...]:
    """Whether to borrow meanwhile: in the order in which it is tried."""
    if not entitled and not others:
        return (True,)
    if preemptor.policy.borrow:
        return (True, False)
    node, used = standing.tree.nodes[preemptor.position], standing.usage.used[preemptor.position]
    if any(used.get(key, 0) >= node.subtree.get(key, 0) for key in preemptor.needed):
        return (True,)
    return (True, False) if entitled else (False, True)


def _in_order(preemptor: _Preemptor, streams: tuple[_Stream, _Stream, _Stream], borrowing: bool) -> Iterator[Victim]:
    for on_their_way_out in (True, False):
        for number, stream in enumerate(streams):
            while stream and (stream.evicted_next or not on_their_way_out):
                found = stream.next(preemptor.position)
                if found is None:
                    continue
                held, position = found
                why = _why(preemptor, held, number)
                if not (borrowing and why is None):
                    yield Victim(held, position, why or "InCohortReclamation")


def _why(preemptor: _Preemptor, held: Held, number: int) -> Why | None:
    """None: only for who does not borrow."""
    if number == 2:
        return "InClusterQueue"
    if number == 0:
        return "InCohortReclamation"
    priority, threshold = held.workload.priority, preemptor.policy.threshold
    too_high = priority >= preemptor.workload.priority or (threshold is not None and priority > threshold)
    return None if too_high or not preemptor.policy.borrow else "InCohortReclaimWhileBorrowing"


def _sources(standing: Standing, preemptor: _Preemptor, request: Request) -> tuple[list[_Source], list[_Source]]:
    """Queues of the tree that use more than their own: those against which the preemptor has the better right, others.

    The better right is that of a subtree whose quota holds what lower ones could not hold.
    """
    entitled: list[_Source] = []
    others: list[_Source] = []
    path = standing.tree.paths[preemptor.position]
    if len(path) == 1 or preemptor.policy.reclaim == "Never":
        return entitled, others
    right, rest = _held_by(standing, path[0], request)
    for below, cohort in pairwise(path):
        _collect(standing, preemptor, cohort, below, (), entitled if right else others)
        holds, rest = _held_by(standing, cohort, rest)
        right = right or holds
    return entitled, others


def _held_by(standing: Standing, position: int, request: Request) -> tuple[bool, Request]:
    usage = standing.usage
    holds = not any(usage.borrows(position, key, value) for key, value in request.items())
    return holds, {key: max(0, value - usage.unlent(position, key)) for key, value in request.items()}


def _collect(
    standing: Standing, preemptor: _Preemptor, cohort: int, skip: int, below: tuple[int, ...], into: list[_Source]
) -> None:
    usage, tree = standing.usage, standing.tree
    for child in tree.children[cohort]:
        if child == skip or usage.within(child, preemptor.needed):
            continue
        if not tree.nodes[child].is_queue:
            _collect(standing, preemptor, child, skip, (child, *below), into)
        elif child in standing.open and standing.has_holders(child):
            into.append(_Source(child, below))
