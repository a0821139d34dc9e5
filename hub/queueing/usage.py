"""How much of one quota tree is used, node by node, and what follows from it. The one mutable thing of the queue.

Usage is added at a queue; what the queue's guaranteed part does not hold goes to its parent, and so on. Adding and
removing the same amounts, in any order, leaves everything as it was. Who may use how much is hub/queueing/tree.py.
"""

from __future__ import annotations

from collections.abc import Iterable

from hub.queueing.amount import UNLIMITED, minus, plus
from hub.queueing.objects import FlavorResource
from hub.queueing.tree import QuotaTree

Amounts = Iterable[tuple[FlavorResource, int]]
Share = tuple[int, float]
"""Orders nodes by how much they borrow: (1 when the weight is 0, thousandths over the weight or as they are)."""

NOTHING: Share = (0, 0.0)


class TreeUsage:
    """Everything is by position in `tree.nodes`. Amounts are in the unit of hub/queueing/amount.py."""

    __slots__ = ("_shares", "tree", "used", "weights")

    def __init__(self, tree: QuotaTree) -> None:
        self.tree = tree
        self.used: list[dict[FlavorResource, int]] = [{} for _ in tree.nodes]
        self._shares: list[Share | None] = [None] * len(tree.nodes)
        self.weights = [node.weight.nano / 1e9 for node in tree.nodes]

    def apart(self) -> TreeUsage:
        """The same usage, to try things on."""
        other = TreeUsage.__new__(TreeUsage)
        other.tree, other.weights = self.tree, self.weights
        other.used = [dict(used) for used in self.used]
        other._shares = list(self._shares)
        return other

    def add(self, position: int, amounts: Amounts) -> None:
        """A negative amount stays at the queue itself: nothing of it reaches its cohorts, as in Kueue."""
        nodes, used, shares = self.tree.nodes, self.used, self._shares
        for key, value in amounts:
            at = position
            if value < 0:
                used[at][key] = used[at].get(key, 0) + value
                shares[at] = None
                continue
            while at >= 0 and value > 0:
                node, here = nodes[at], used[at]
                before = here.get(key, 0)
                here[key] = before + value
                shares[at] = None
                local = node.local.get(key, 0)
                if local > before:
                    value -= local - before
                at = node.parent

    def remove(self, position: int, amounts: Amounts) -> None:
        nodes, used, shares = self.tree.nodes, self.used, self._shares
        for key, value in amounts:
            at = position
            if value < 0:
                used[at][key] = used[at].get(key, 0) - value
                shares[at] = None
                continue
            while at >= 0 and value > 0:
                node, here = nodes[at], used[at]
                before = here.get(key, 0)
                if before == value:
                    here.pop(key, None)
                else:
                    here[key] = before - value
                shares[at] = None
                stored = before - node.local.get(key, 0)
                if stored < value:
                    value = stored
                at = node.parent

    def resume(self, other: TreeUsage) -> None:
        """As things stand in another of the same tree."""
        self.used = [dict(used) for used in other.used]
        self._shares = [None] * len(self._shares)

    def available(self, position: int, key: FlavorResource) -> int:
        """How much more a queue there could use now, borrowing included; never negative."""
        free = self.slack(position, key)
        return free if free > 0 else 0

    def slack(self, position: int, key: FlavorResource) -> int:
        """As `available`, but below zero by as much as has to be given back before anything is."""
        tree, used = self.tree, self.used
        nodes, path = tree.nodes, tree.paths[position]
        root = path[-1]
        free = minus(nodes[root].subtree.get(key, 0), used[root].get(key, 0))
        for number in path[-2::-1]:
            node = nodes[number]
            local, taken = node.local.get(key, 0), used[number].get(key, 0)
            limit = node.limits.get(key)
            if limit is not None:
                lent = minus(node.subtree.get(key, 0), local)
                free = min(free, plus(minus(lent, max(0, taken - local)), limit))
            if local > taken:
                free = plus(minus(local, taken), free)
        return free

    def unlent(self, position: int, key: FlavorResource) -> int:
        """What is left of the part that the node never lends."""
        return max(0, minus(self.tree.nodes[position].local.get(key, 0), self.used[position].get(key, 0)))

    def borrows(self, position: int, key: FlavorResource, more: int = 0) -> bool:
        """Whether it uses more than its own, or would with `more`."""
        taken = self.used[position].get(key, 0) + more
        return self.tree.nodes[position].subtree.get(key, 0) < (taken if taken < UNLIMITED else UNLIMITED)

    def within(self, position: int, keys: Iterable[FlavorResource]) -> bool:
        """Whether it borrows none of `keys`."""
        subtree, used = self.tree.nodes[position].subtree, self.used[position]
        return all(used.get(key, 0) <= subtree.get(key, 0) for key in keys)

    def reach(self, position: int, key: FlavorResource, value: int) -> tuple[int, bool]:
        """How high up the tree `value` more of a queue reaches, and whether that is lower than the whole tree.

        0: the queue's own quota holds it; else the height of the lowest cohort whose quota would.
        """
        tree = self.tree
        path = tree.paths[position]
        if len(path) == 1:
            return 0, False
        if not self.borrows(position, key, value):
            return 0, True
        rest = value - self.unlent(position, key)
        for number in path[1:]:
            if not self.borrows(number, key, rest):
                return tree.heights[number], tree.nodes[number].parent >= 0
            rest -= self.unlent(number, key)
        return tree.heights[path[-1]], False

    def overdrawn(self, position: int) -> bool:
        """Whether it uses more than its own of anything, be it that nobody can lend it any, which makes no share."""
        subtree = self.tree.nodes[position].subtree
        return any(taken > subtree.get(key, taken) for key, taken in self.used[position].items())

    def share(self, position: int) -> Share:
        """The dominant resource share over the weight, in floating point as Kueue has it, so that ties are ties."""
        known = self._shares[position]
        if known is None:
            known = self._shares[position] = self._share(position)
        return known

    def _share(self, position: int) -> Share:
        tree = self.tree
        node = tree.nodes[position]
        if node.parent < 0:
            return NOTHING
        over: dict[str, int] = {}
        subtree = node.subtree
        for key, taken in self.used[position].items():
            # What no quota is left of, because its flavor was taken out, is no part of a share.
            excess = taken - subtree.get(key, taken)
            if excess > 0:
                over[key[1]] = over.get(key[1], 0) + excess
        ratio = 0.0
        for resource, excess in over.items():
            lendable = tree.lendable(node.parent, resource)
            if lendable > 0:
                ratio = max(ratio, excess * 1000.0 / lendable)
        if not ratio:
            return NOTHING
        weight = self.weights[position]
        return (0, ratio / weight) if weight else (1, ratio)


def fits(usage: TreeUsage, position: int, amounts: Amounts) -> bool:
    """Whether all of `amounts` is available to a queue at once."""
    return all(value <= usage.available(position, key) for key, value in amounts)
