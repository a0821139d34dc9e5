"""What is used of the quotas, kept up the tree while a cycle decides. The one mutable thing of the queue.

Usage is added at a queue; what its guaranteed part does not hold goes to its parent, and so on. Adding and removing
the same amount leaves everything as it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from hub.queueing.amount import minus, plus
from hub.queueing.objects import FlavorResource
from hub.queueing.quotas import Quotas
from hub.queueing.tree import QuotaTree

Usage = Mapping[str, Mapping[FlavorResource, int]]


class QuotaLedger:
    """Usage over `quotas`, beginning with what `usage` (by ClusterQueue) holds. Queues that are not known are skipped.

    A tree is only filled when one of its queues is asked about, so a cycle pays for the trees it touches.
    """

    def __init__(self, quotas: Quotas, usage: Usage) -> None:
        self._quotas = quotas
        self._initial = usage
        self._used: dict[int, list[dict[FlavorResource, int]]] = {}

    def available(self, queue: str, resource: FlavorResource) -> int:
        """How much more the queue may use now, borrowing included; never negative."""
        tree = self._quotas.trees[queue]
        return _available(tree, self._nodes(tree), tree.position[queue], resource)

    def potential(self, queue: str, resource: FlavorResource) -> int:
        """How much the queue could use were everything idle."""
        tree = self._quotas.trees[queue]
        return tree.potential(tree.position[queue], resource)

    def affordable(self, queue: str, requests: Iterable[tuple[FlavorResource, int]], wanted: int) -> int:
        """How many tasks that take `requests` each, up to `wanted`, what is available pays for."""
        for resource, each in requests:
            wanted = min(wanted, self.available(queue, resource) // each)
            if wanted <= 0:
                return 0
        return wanted

    def possible(self, queue: str, requests: Iterable[tuple[FlavorResource, int]], count: int) -> bool:
        """Whether the queue could ever pay for `count` tasks at once."""
        return all(self.potential(queue, resource) >= each * count for resource, each in requests)

    def used(self, queue: str, resource: FlavorResource) -> int:
        tree = self._quotas.trees[queue]
        return self._nodes(tree)[tree.position[queue]].get(resource, 0)

    def borrowed(self, queue: str, resource: FlavorResource) -> int:
        """What the queue uses beyond its nominal quota."""
        tree = self._quotas.trees[queue]
        position = tree.position[queue]
        nominal = tree.nodes[position].nominal.get(resource, 0)
        return max(0, minus(self._nodes(tree)[position].get(resource, 0), nominal))

    def usage_at(self, tree: QuotaTree, position: int) -> Mapping[FlavorResource, int]:
        """Usage of any node; of a cohort: what reached it from below."""
        return self._nodes(tree)[position]

    def available_at(self, tree: QuotaTree, position: int, resource: FlavorResource) -> int:
        """What a queue there could use more if nothing below limited it."""
        return _available(tree, self._nodes(tree), position, resource)

    def add(self, queue: str, amounts: Iterable[tuple[FlavorResource, int]]) -> None:
        tree = self._quotas.trees[queue]
        used = self._nodes(tree)
        for resource, value in amounts:
            _add(tree, used, tree.position[queue], resource, value)

    def remove(self, queue: str, amounts: Iterable[tuple[FlavorResource, int]]) -> None:
        tree = self._quotas.trees[queue]
        used = self._nodes(tree)
        for resource, value in amounts:
            _remove(tree, used, tree.position[queue], resource, value)

    def _nodes(self, tree: QuotaTree) -> list[dict[FlavorResource, int]]:
        used = self._used.get(id(tree))
        if used is None:
            used = [{} for _ in tree.nodes]
            self._used[id(tree)] = used
            for name, position in tree.position.items():
                for resource, value in self._initial.get(name, {}).items():
                    _add(tree, used, position, resource, value)
        return used


def _available(tree: QuotaTree, used: list[dict[FlavorResource, int]], position: int, resource: FlavorResource) -> int:
    path = tree.paths[position]
    root = path[-1]
    free = minus(tree.nodes[root].subtree.get(resource, 0), used[root].get(resource, 0))
    for number in reversed(path[:-1]):
        node = tree.nodes[number]
        local = node.local.get(resource, 0)
        taken = used[number].get(resource, 0)
        limit = node.limits.get(resource)
        if limit is not None:
            lent = minus(node.subtree.get(resource, 0), local)
            free = min(free, plus(minus(lent, max(0, taken - local)), limit))
        free = plus(max(0, minus(local, taken)), free)
    return max(0, free)


def _add(
    tree: QuotaTree, used: list[dict[FlavorResource, int]], position: int, resource: FlavorResource, value: int
) -> None:
    while position >= 0 and value > 0:
        node, here = tree.nodes[position], used[position]
        before = here.get(resource, 0)
        here[resource] = before + value
        value -= max(0, node.local.get(resource, 0) - before)
        position = node.parent


def _remove(
    tree: QuotaTree, used: list[dict[FlavorResource, int]], position: int, resource: FlavorResource, value: int
) -> None:
    while position >= 0 and value > 0:
        node, here = tree.nodes[position], used[position]
        before = here.get(resource, 0)
        if before == value:
            here.pop(resource, None)
        else:
            here[resource] = before - value
        value = min(value, before - node.local.get(resource, 0))
        position = node.parent
