"""Who holds what in one quota tree: usage, and the holders of each queue in the order in which they would have to go.

Mutable, and kept from cycle to cycle, so that a cycle costs what it looks at. Who must go is decided elsewhere.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator, Sequence

from hub.queueing.kueue.workload import Held
from hub.queueing.objects import ClusterQueue, FlavorResource
from hub.queueing.tree import QuotaTree
from hub.queueing.usage import TreeUsage

Rank = tuple[int, int, float, str]
"""Evicted ones first, then the lowest priority, the newest, and the uid."""
Candidate = tuple[Rank, Held]
Needed = frozenset[FlavorResource]


def rank(held: Held) -> Rank:
    return (0 if held.evicted else 1, held.workload.priority, -held.reserved, held.workload.uid or held.key)


class Standing:
    """`queues`: by position, None for cohorts. `open`: positions of queues that decide at all now.

    `absent`: keys of holders whose usage is taken out for now. `generation` grows whenever usage really changes.
    """

    __slots__ = ("_heaviness", "_holders", "absent", "generation", "open", "queues", "tree", "usage")

    def __init__(self, tree: QuotaTree, queues: Sequence[ClusterQueue | None], open_: Iterable[int]) -> None:
        self.tree = tree
        self.queues = tuple(queues)
        self.open = frozenset(open_)
        self.usage = TreeUsage(tree)
        self.absent: set[str] = set()
        self.generation = 0
        self._holders: list[list[Candidate]] = [[] for _ in tree.nodes]
        self._heaviness: Callable[[Held], float] | None = None

    def weigh(self, heaviness: Callable[[Held], float] | None) -> None:
        """How much the LocalQueue of a holder used before; asked of queues whose owner orders by it."""
        self._heaviness = heaviness

    def admit(self, position: int, held: Held) -> None:
        self.usage.add(position, held.amounts)
        insort(self._holders[position], (rank(held), held), key=_rank)
        self.generation += 1

    def release(self, position: int, held: Held) -> None:
        self.usage.remove(position, held.amounts)
        holders, key = self._holders[position], rank(held)
        at = bisect_left(holders, key, key=_rank)
        while holders[at][1] is not held:
            at += 1
        del holders[at]
        self.generation += 1

    def apart(self) -> Standing:
        """The same, with usage of its own to try things on; the holders are shared."""
        other = Standing.__new__(Standing)
        other.tree, other.queues, other.open = self.tree, self.queues, self.open
        other.usage = TreeUsage(self.tree)
        other.usage.used = [dict(used) for used in self.usage.used]
        other.absent, other.generation = set(self.absent), self.generation
        other._holders, other._heaviness = self._holders, self._heaviness
        return other

    def has_holders(self, position: int) -> bool:
        return bool(self._holders[position])

    def holders(self, position: int) -> Sequence[Candidate]:
        """In the order in which they would have to go."""
        queue = self.queues[position]
        if self._heaviness is None or queue is None or not queue.by_usage:
            return self._holders[position]
        heaviness = self._heaviness
        # Of what is not on its way out, that of the LocalQueue which used most goes first.
        return sorted(self._holders[position], key=lambda c: (c[0][0], -heaviness(c[1]), *c[0][1:]))

    def sorted_by_rank(self, position: int) -> bool:
        queue = self.queues[position]
        return self._heaviness is None or queue is None or not queue.by_usage

    def present(self, position: int, needed: Needed) -> Iterator[Candidate]:
        """Holders that use any of `needed`."""
        absent = self.absent
        for candidate in self.holders(position):
            held = candidate[1]
            if held.key not in absent and any(key in needed for key, _ in held.amounts):
                yield candidate


def _rank(candidate: Candidate) -> Rank:
    return candidate[0]
