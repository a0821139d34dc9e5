"""What is used of all quotas while a cycle decides, by ClusterQueue. How usage adds up is hub/queueing/usage.py."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from hub.queueing.amount import minus
from hub.queueing.objects import FlavorResource
from hub.queueing.quotas import Quotas
from hub.queueing.tree import QuotaTree
from hub.queueing.usage import TreeUsage

Usage = Mapping[str, Mapping[FlavorResource, int]]


def change(
    usage: dict[str, dict[FlavorResource, int]], queue: str, amounts: Iterable[tuple[FlavorResource, int]], sign: int
) -> None:
    """Adds (`sign` 1) or takes away (−1) what one holder has of a ClusterQueue; what comes to nothing is not kept."""
    used = usage.setdefault(queue, {})
    for key, amount in amounts:
        left = used.get(key, 0) + sign * amount
        if left:
            used[key] = left
        else:
            used.pop(key, None)


def summed(*usages: Usage) -> dict[str, dict[FlavorResource, int]]:
    """What several kinds of holders have together, by ClusterQueue."""
    total: dict[str, dict[FlavorResource, int]] = {}
    for usage in usages:
        for queue, used in usage.items():
            change(total, queue, used.items(), 1)
    return total


class QuotaLedger:
    """Usage over `quotas`, beginning with what `usage` (by ClusterQueue) holds. Queues that are not known are skipped.

    A tree is only filled when one of its queues is asked about, so a cycle pays for the trees it touches.
    """

    def __init__(self, quotas: Quotas, usage: Usage) -> None:
        self._quotas = quotas
        self._initial = usage
        self._used: dict[int, TreeUsage] = {}

    def available(self, queue: str, resource: FlavorResource) -> int:
        """How much more the queue may use now, borrowing included; never negative."""
        tree = self._quotas.trees[queue]
        return self.of(tree).available(tree.position[queue], resource)

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

    def borrows(self, queue: str, requests: Iterable[tuple[FlavorResource, int]], count: int) -> bool:
        """Whether the queue would use more than its own with `count` tasks more."""
        tree = self._quotas.trees[queue]
        usage, position = self.of(tree), tree.position[queue]
        return any(usage.borrows(position, resource, each * count) for resource, each in requests)

    def used(self, queue: str, resource: FlavorResource) -> int:
        tree = self._quotas.trees[queue]
        return self.of(tree).used[tree.position[queue]].get(resource, 0)

    def borrowed(self, queue: str, resource: FlavorResource) -> int:
        """What the queue uses beyond its nominal quota."""
        tree = self._quotas.trees[queue]
        position = tree.position[queue]
        nominal = tree.nodes[position].nominal.get(resource, 0)
        return max(0, minus(self.of(tree).used[position].get(resource, 0), nominal))

    def usage_at(self, tree: QuotaTree, position: int) -> Mapping[FlavorResource, int]:
        """Usage of any node; of a cohort: what reached it from below."""
        return self.of(tree).used[position]

    def available_at(self, tree: QuotaTree, position: int, resource: FlavorResource) -> int:
        """What a queue there could use more if nothing below limited it."""
        return self.of(tree).available(position, resource)

    def add(self, queue: str, amounts: Iterable[tuple[FlavorResource, int]]) -> None:
        tree = self._quotas.trees[queue]
        self.of(tree).add(tree.position[queue], amounts)

    def remove(self, queue: str, amounts: Iterable[tuple[FlavorResource, int]]) -> None:
        tree = self._quotas.trees[queue]
        self.of(tree).remove(tree.position[queue], amounts)

    def apart(self) -> QuotaLedger:
        """The same, to try things on."""
        other = QuotaLedger(self._quotas, self._initial)
        other._used = {number: used.apart() for number, used in self._used.items()}
        return other

    def of(self, tree: QuotaTree) -> TreeUsage:
        used = self._used.get(id(tree))
        if used is None:
            used = self._used[id(tree)] = TreeUsage(tree)
            for name, position in tree.position.items():
                initial = self._initial.get(name)
                if initial:
                    used.add(position, initial.items())
        return used
