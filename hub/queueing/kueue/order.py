"""In which order the heads of the queues are decided about, after each knows what it would take.

Without fair sharing: who borrows least, then by priority and age. With it: a tournament up every tree, at each cohort
between the shares its children would have, were their best one admitted.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from hub.queueing.kueue.assignment import Assignment
from hub.queueing.kueue.preemption import Victim
from hub.queueing.kueue.standing import Standing
from hub.queueing.kueue.workload import Workload
from hub.queueing.objects import FlavorResource

_Key = tuple[bool, int, float, int, float, str, str]


@dataclass(slots=True)
class Entry:
    """One head: `assignment` is what it would take, `victims` who would have to go for it.

    `replaced`: the slice that ends when it is admitted; no victim, but out of the way like one.
    """

    workload: Workload
    queue: str
    standing: Standing
    position: int
    assignment: Assignment
    victims: list[Victim] = field(default_factory=list)
    replaced: Victim | None = None

    @property
    def leave(self) -> list[Victim]:
        return self.victims if self.replaced is None else [self.replaced, *self.victims]

    @property
    def usage(self) -> dict[FlavorResource, int]:
        return {key: value for key, value in self.assignment.usage.items() if value}


def classical_order(entries: Iterable[Entry]) -> Iterator[Entry]:
    return iter(sorted(entries, key=lambda entry: (entry.assignment.reach, *entry.workload.order)))


def fair_order(entries: Iterable[Entry]) -> Iterator[Entry]:
    """Shares follow what the caller adds to the standing between two entries."""
    trees: dict[int, list[Entry]] = {}
    for entry in entries:
        trees.setdefault(id(entry.standing), []).append(entry)
    for members in trees.values():
        yield from _tournament(members[0].standing, members)


def _tournament(standing: Standing, entries: list[Entry]) -> Iterator[Entry]:
    tree = standing.tree
    if tree.nodes[0].is_queue:
        yield from entries
        return
    heaps: dict[int, list[tuple[_Key, int, Entry]]] = {}
    for entry in entries:
        cohort = tree.nodes[entry.position].parent
        heaps.setdefault(cohort, []).append((_key(entry, entry.position), entry.position, entry))
    involved = {node for cohort in heaps for node in tree.paths[cohort]}
    for cohort in sorted(involved, reverse=True):
        heap = heaps.setdefault(cohort, [])
        heapq.heapify(heap)
        if cohort:
            above = heaps.setdefault(tree.nodes[cohort].parent, [])
            above.append((_key(heap[0][2], cohort), cohort, heap[0][2]))
    root = heaps[0]
    while root:
        winner = root[0][2]
        yield winner
        # The winner was on top at every cohort on its way; only there shares have changed.
        below = -1
        for cohort in tree.paths[winner.position][1:]:
            heap = heaps[cohort]
            heapq.heappop(heap)
            if below >= 0 and heaps[below]:
                best = heaps[below][0][2]
                heapq.heappush(heap, (_key(best, below), below, best))
            below = cohort


def _key(entry: Entry, node: int) -> _Key:
    """Of the child `node` of a cohort, as it would be with the entry: who borrows nothing of it comes first."""
    usage, amounts = entry.standing.usage, entry.usage
    usage.add(entry.position, amounts.items())
    borrows = not usage.within(node, amounts)
    share = usage.share(node)
    usage.remove(entry.position, amounts.items())
    return borrows, *share, *entry.workload.order
