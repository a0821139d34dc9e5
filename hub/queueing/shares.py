"""How much more than its own a queue or cohort uses: Kueue's dominant resource share, exact. Pure.

What it owns is free; only what it borrows counts, relative to what the tree could lend in all, over its weight. Who
goes next by it is not decided here.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from hub.queueing.amount import UNLIMITED, minus, plus
from hub.queueing.ledger import QuotaLedger
from hub.queueing.tree import QuotaTree

_INFINITE: Final = UNLIMITED


@dataclass(frozen=True, slots=True)
class Share:
    """`ratio`: thousandths of what can be lent that are borrowed of `resource`, the dominant one; not yet weighted."""

    ratio: Fraction
    resource: str
    weight: Fraction

    @property
    def weighted(self) -> int:
        """What status reports: rounded up; the largest int64 when the weight is 0 and anything is borrowed."""
        if not self.ratio:
            return 0
        if not self.weight:
            return _INFINITE
        exact = self.ratio / self.weight
        return min(-(-exact.numerator // exact.denominator), _INFINITE)


def share(ledger: QuotaLedger, tree: QuotaTree, position: int) -> Share:
    """Of one node of the tree; a root borrows from nobody."""
    node = tree.nodes[position]
    weight = Fraction(node.weight.nano, 10**9)
    if node.parent < 0:
        return Share(Fraction(0), "", weight)
    borrowed: dict[str, int] = {}
    for (flavor, resource), used in ledger.usage_at(tree, position).items():
        over = max(0, minus(used, node.subtree.get((flavor, resource), 0)))
        if over:
            borrowed[resource] = plus(borrowed.get(resource, 0), over)
    lendable: dict[str, int] = dict.fromkeys(borrowed, 0)
    for key in tree.flavor_resources():
        if key[1] in lendable:
            lendable[key[1]] = plus(lendable[key[1]], tree.potential(node.parent, key))
    ratio, dominant = Fraction(0), ""
    for resource in sorted(borrowed):
        if lendable[resource] > 0:
            this = Fraction(borrowed[resource] * 1000, lendable[resource])
            if this > ratio:
                ratio, dominant = this, resource
    return Share(ratio, dominant, weight)
