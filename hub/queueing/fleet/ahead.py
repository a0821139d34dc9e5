"""The beginning of a filling, all at once: the heads that win one after the other for as long as every winner fits.

Below one cohort, what a head changes by winning is seen by its own queue only, for as long as everything fits. So the
order of winners follows from each queue's own line: the lines are merged by the keys of the tournament in
hub/queueing/fleet/entitlement.py. That is sorting, and sorting ten thousand claims is quicker than asking them one by
one. It ends before the first that does not fit, when he wins or when his turn at the head of his line comes; from there
on one has to ask. Cohorts in cohorts are not handled: there, keys change with what others win.

The outcome is that of asking, to the last bit, since ties decide: a test holds the two equal.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hub.queueing.amount import UNLIMITED, minus, plus
from hub.queueing.fleet.claim import Option, Roll
from hub.queueing.objects import ClusterQueue, FlavorResource
from hub.queueing.tree import QuotaTree
from hub.queueing.usage import TreeUsage

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

STEP: Final = 8
"""An array that has n slots is offered n / 8 more at a time: a thousand slots cost some fifty steps."""
# Sums above this could run over, and float keys would no longer be those of the tournament.
_SAFE: Final = float(1 << 52)


@dataclass(frozen=True, slots=True, eq=False)
class Lines:
    """What stands in every line, as places in the roll, line after line; the first of each is its head.

    `starts`: where each line begins. `special`: what heads take that have aimed at something else than their next step
    in their first way to pay, by line: nobody of these wins unasked.
    """

    claims: Ints
    starts: Ints
    special: Mapping[int, Option]


@dataclass(frozen=True, slots=True, eq=False)
class Winners:
    """Steps, each in its first way to pay: `claims` (places in the roll) and `slots`, line after line; `line` of each.

    `order`: who wins, as positions among the steps. `starts`: where each line begins.
    """

    claims: Ints
    slots: Ints
    line: Ints
    starts: Ints
    order: Ints

    def behind(self) -> Ints:
        """By winner: the step behind him in his line, −1: he is the last."""
        following = self.order + 1
        last = np.append(self.starts[1:], len(self.claims))[self.line[self.order]] <= following
        return np.where(last, -1, following)

    def heads(self, count: int) -> Iterator[tuple[int, int, int]]:
        """(line, claim, slots): who is at the head of each line where any of the first `count` has won; claim −1:
        nobody is left there."""
        taken = np.bincount(self.line[self.order[:count]], minlength=len(self.starts))
        ends = np.append(self.starts[1:], len(self.claims))
        for line in taken.nonzero()[0].tolist():
            at = int(self.starts[line] + taken[line])
            if at < ends[line]:
                yield line, int(self.claims[at]), int(self.slots[at])
            else:
                yield line, -1, 0


def ahead(
    usage: TreeUsage, queues: Sequence[ClusterQueue | None], roll: Roll, lines: Lines, *, fair: bool
) -> Winners | None:
    """None: nothing can be told. `usage` is not changed. Claims have what their `entitled` says."""
    tree = usage.tree
    if tree.heights[0] > 1 or not len(lines.claims):
        return None
    table = _Table.of(usage, roll, lines)
    if table is None:
        return None
    claims, slots, starts = _steps_of(roll, lines)
    kind = table.row[roll.kind[claims]]
    amounts = table.each[kind] * slots[:, None]
    if float(amounts.sum(axis=0, dtype=np.float64).max(initial=0.0)) + table.used_at_most > _SAFE:
        return None
    present: Flags = table.present[kind]
    for number, option in lines.special.items():
        amounts[starts[number]], present[starts[number]] = table.row_of(option)
    node = roll.position[claims]
    line = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(claims))))

    # What each queue uses once it has won so far.
    used = _running(amounts, starts, line) + table.used[node]
    local, owned = table.local[node], table.owned[node]
    if tree.nodes[0].is_queue:
        rising, wrong = amounts, np.zeros(len(claims), np.bool_)
        borrows = np.any(present & (used > owned), axis=1)
        order = np.arange(len(claims))
    else:
        over = np.maximum(used - local, 0)
        rising = over - np.maximum(used - amounts - local, 0)
        wrong = ((rising > 0) & (over > table.most[node])).any(axis=1)
        borrows = np.any(present & (used > owned), axis=1)
        order = _merged(claims, line, borrows, *(table.shares(used - owned, node) if fair else (None, None)))
    wrong |= borrows & table.several[kind] & _wants_own(queues)[node]
    stops = wrong.copy()
    stops[starts[list(lines.special)]] = True

    # What the root has lent or holds by then, and who does not fit in it when he wins, or when he comes to the head.
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    total = np.cumsum(rising[order], axis=0) + table.used[0]
    late = stops[order] | ((rising[order] > 0) & (total > table.owned[0])).any(axis=1)
    end = int(late.argmax()) if late.any() else len(order)
    heads = np.zeros(len(claims), np.bool_)
    heads[starts] = True
    behind = (~heads).nonzero()[0]
    if len(behind):
        before = place[behind - 1]
        then = total[before] + rising[behind]
        unfit = wrong[behind] | ((rising[behind] > 0) & (then > table.owned[0])).any(axis=1)
        if unfit.any():
            end = min(end, int(before[unfit].min()) + 1)
    return Winners(claims, slots, line, starts, order[:end])


def _merged(
    claims: Ints, line: Ints, borrows: Flags, share: NDArray[np.float64] | None, weightless: Flags | None
) -> Ints:
    """The order in which all would win: of the heads the least key, again and again."""
    keys = (claims, borrows) if share is None or weightless is None else (claims, share, weightless, borrows)
    rank = np.empty(len(claims), np.int64)
    rank[np.lexsort(keys)] = np.arange(len(claims))
    # Nobody wins before who is ahead of him in his line; steps of one claim stay in order, as sorting is stable.
    offset = line * len(claims)
    rank = np.maximum.accumulate(rank + offset) - offset
    return np.argsort(rank, kind="stable")


def _running(amounts: Ints, starts: Ints, line: Ints) -> Ints:
    """Sums down each column, beginning anew with each line."""
    sums = np.cumsum(amounts, axis=0)
    return sums - (sums[starts] - amounts[starts])[line]


def _steps_of(roll: Roll, lines: Lines) -> tuple[Ints, Ints, Ints]:
    """(claim, slots, where lines start): what each claim takes step by step."""
    claims = lines.claims
    if roll.whole[claims].all():
        return claims, roll.count[claims], lines.starts
    steps = [
        (count,) if whole else _steps(count, roll.claims[at].entitled)
        for at, count, whole in zip(
            claims.tolist(), roll.count[claims].tolist(), roll.whole[claims].tolist(), strict=True
        )
    ]
    many = np.fromiter(map(len, steps), np.int64, len(steps))
    ends = np.cumsum(many)
    return (
        np.repeat(claims, many),
        np.fromiter((slots for entry in steps for slots in entry), np.int64, int(ends[-1])),
        (ends - many)[lines.starts],
    )


@lru_cache(maxsize=4096)
def _steps(count: int, taken: int) -> tuple[int, ...]:
    found: list[int] = []
    while taken < count:
        found.append(min(count - taken, max(1, taken // STEP)))
        taken += found[-1]
    return tuple(found)


def _wants_own(queues: Sequence[ClusterQueue | None]) -> Flags:
    """Whose owner prefers another flavor to borrowing."""
    wants = (queue is not None and not queue.fungibility.borrowing_stops for queue in queues)
    return np.fromiter(wants, np.bool_, len(queues))


class _Table:
    """Queues and kinds of claims in columns, one for each flavor and resource that is claimed or used.

    By kind (`row` says which row): `each` slot's amounts in the first way to pay, which of them are `present`, whether
    there are `several` ways. By node: what it has `owned`, keeps `local`, has of others at `most`, and `used`.
    """

    row: Ints
    each: Ints
    present: Flags
    several: Flags
    owned: Ints
    local: Ints
    most: Ints
    used: Ints
    used_at_most: float
    _column: dict[FlavorResource, int]

    @classmethod
    def of(cls, usage: TreeUsage, roll: Roll, lines: Lines) -> _Table | None:
        kinds = np.unique(roll.kind[lines.claims])
        ways = [roll.options[kind] for kind in kinds.tolist()]
        asked = {key for option in (*(way[0] for way in ways), *lines.special.values()) for key, _ in option}
        keys = sorted(asked.union(*usage.used))
        made = cls()
        column = made._column = {key: number for number, key in enumerate(keys)}
        made.row = np.zeros(int(kinds[-1]) + 1, np.int64)
        made.row[kinds] = np.arange(len(kinds))
        made.each = np.zeros((len(kinds), len(keys)), np.int64)
        made.present = np.zeros((len(kinds), len(keys)), np.bool_)
        for number, way in enumerate(ways):
            for key, value in way[0]:
                if not 0 <= value < _SAFE:
                    return None
                made.each[number, column[key]] = value
                made.present[number, column[key]] = True
        made.several = np.fromiter((len(way) > 1 for way in ways), np.bool_, len(ways))
        return made if made._follow(usage, keys) else None

    def _follow(self, usage: TreeUsage, keys: Sequence[FlavorResource]) -> bool:
        """Whether nobody has more than there is: then fitting is a matter of what is added."""
        tree = usage.tree
        ground = tree.tables.get(tuple(keys))
        if ground is None:
            ground = tree.tables[tuple(keys)] = _ground(tree, keys)
        self.owned, self.local, self.most, self._lendable = ground
        self.used = np.zeros(self.owned.shape, np.int64)
        column = self._column
        for number, taken in enumerate(usage.used):
            for key, value in taken.items():
                self.used[number, column[key]] = max(min(value, UNLIMITED), -UNLIMITED)
        self._weight = np.array(usage.weights)
        names = sorted({resource for _, resource in keys})
        self._resource = [names.index(resource) for _, resource in keys]
        used = self.used.astype(np.float64)
        self.used_at_most = float(used.max(initial=0.0))
        return bool(
            (used >= 0).all()
            and (self.used[0] <= self.owned[0]).all()
            and (np.maximum(used - self.local, 0) <= self.most).all()
        )

    def row_of(self, option: Option) -> tuple[Ints, Flags]:
        """Amounts, and which of them there are."""
        amounts, present = np.zeros(len(self._column), np.int64), np.zeros(len(self._column), np.bool_)
        for key, value in option:
            amounts[self._column[key]], present[self._column[key]] = value, True
        return amounts, present

    def shares(self, excess: Ints, node: Ints) -> tuple[NDArray[np.float64], Flags]:
        """Dominant resource share over weight, and whether the weight is 0: as TreeUsage.share has it."""
        over = np.zeros((len(node), len(self._lendable)), np.int64)
        for number, resource in enumerate(self._resource):
            over[:, resource] += np.maximum(excess[:, number], 0)
        lends = self._lendable > 0
        ratio = (over[:, lends] * 1000.0 / self._lendable[lends]).max(axis=1, initial=0.0)
        weight = self._weight[node]
        weighs = weight > 0
        return np.where(weighs, ratio / np.where(weighs, weight, 1.0), ratio), ~weighs & (ratio > 0)


def _ground(tree: QuotaTree, keys: Sequence[FlavorResource]) -> tuple[NDArray[Any], ...]:
    """What does not depend on usage. By node and key: what it owns, never lends, and can have of others at most; by
    resource: what a child of the root could have at most."""
    nodes = tree.nodes
    shape = len(nodes), len(keys)
    owned, local, most = np.zeros(shape, np.int64), np.zeros(shape, np.int64), np.full(shape, UNLIMITED, np.int64)
    for number, node in enumerate(nodes):
        for at, key in enumerate(keys):
            mine, kept, limit = node.subtree.get(key, 0), node.local.get(key, 0), node.limits.get(key)
            owned[number, at], local[number, at] = mine, kept
            if limit is not None and node.parent >= 0:
                most[number, at] = plus(minus(mine, kept), limit)
    lendable = [float(tree.lendable(0, name)) for name in sorted({resource for _, resource in keys})]
    return owned, local, most, np.array(lendable)
