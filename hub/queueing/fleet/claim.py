"""All that one job wants of one queue, as a claim on its quota tree, and the roll of all claims of a tree in columns.

Ten thousand claims are looked at in every decision, and few of them change from one to the next: a roll is kept, sorted
by the order of claims, and only what changed is taken in. What claims are entitled to is not decided here.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hub.queueing.objects import FlavorResource

Order = tuple[int, float, str, str]
"""Minus the priority, creation, key, uid."""
Rank = tuple[bool, Order]
"""In which order claims of one queue come: what is beyond a minimum is last."""
Option = tuple[tuple[FlavorResource, int], ...]
"""What one slot takes, one way to pay for it."""

_RANK: Final = attrgetter("rank")
# With more changes than this at once sorting anew is quicker than finding the place of each.
_FEW: Final = 64


@dataclass(slots=True, eq=False)
class Claim:
    """`count` slots, running or not, or with `gang` all of them or none.

    `position`: of the queue in its tree, `queue` its name. `options`: in the owner's order. `kind`: equal for claims
    that fit alike.
    `asks`: whether somebody wants to know when its slots come; where not, only how many they are is said.
    `entitled` is the outcome, in slots; `most` is what it had at any time on the way there. `base`: what the same job
    must have first; this is what it takes beyond, and comes after all of its queue that is not such.
    """

    key: str
    order: Order
    position: int
    options: tuple[Option, ...]
    count: int
    gang: bool
    kind: int
    queue: str = ""
    asks: bool = True
    entitled: int = 0
    most: int = 0
    base: Claim | None = None

    @property
    def rank(self) -> Rank:
        return self.base is not None, self.order

    @property
    def idle(self) -> bool:
        """Whether what it would add to is not there."""
        return self.base is not None and self.base.entitled < self.base.count


@dataclass(frozen=True, slots=True)
class Grant:
    """`option`: which of the claim's ways to pay was free."""

    claim: Claim
    slots: int
    option: int


class Roll:
    """The claims of one tree. Columns are aligned with `claims`, which is sorted; `whole`: taken in one step."""

    __slots__ = ("asks", "claims", "count", "kind", "options", "position", "whole")

    def __init__(self, claims: Iterable[Claim] = ()) -> None:
        self.claims: list[Claim] = sorted(claims, key=_RANK)
        self.options: dict[int, tuple[Option, ...]] = {}
        self._columns()

    def __len__(self) -> int:
        return len(self.claims)

    def change(self, gone: Collection[Claim], came: Sequence[Claim]) -> None:
        """Takes claims out, which must be there, and others in."""
        for claim in came:
            self.options.setdefault(claim.kind, claim.options)
        if len(gone) + len(came) > _FEW:
            lost = set(map(id, gone))
            self.claims = [claim for claim in self.claims if id(claim) not in lost] if lost else self.claims
            self.claims += came
            self.claims.sort(key=_RANK)
            self._columns()
            return
        for claim in gone:
            at = bisect_left(self.claims, claim.rank, key=_RANK)
            while self.claims[at] is not claim:
                at += 1
            del self.claims[at]
            for name in _COLUMNS:
                setattr(self, name, np.delete(getattr(self, name), at))
        for claim in came:
            at = bisect_left(self.claims, claim.rank, key=_RANK)
            self.claims.insert(at, claim)
            for name, value in zip(_COLUMNS, _row(claim), strict=True):
                setattr(self, name, np.insert(getattr(self, name), at, value))

    def _columns(self) -> None:
        claims = self.claims
        count = len(claims)
        for claim in claims:
            self.options.setdefault(claim.kind, claim.options)
        self.position: NDArray[np.int64] = np.fromiter((claim.position for claim in claims), np.int64, count)
        self.kind: NDArray[np.int64] = np.fromiter((claim.kind for claim in claims), np.int64, count)
        self.count: NDArray[np.int64] = np.fromiter((claim.count for claim in claims), np.int64, count)
        self.whole: NDArray[np.bool_] = np.fromiter((c.gang or c.count == 1 for c in claims), np.bool_, count)
        self.asks: NDArray[np.bool_] = np.fromiter((claim.asks for claim in claims), np.bool_, count)


_COLUMNS: Final = ("position", "kind", "count", "whole", "asks")


def _row(claim: Claim) -> tuple[int, int, int, bool, bool]:
    return claim.position, claim.kind, claim.count, claim.gang or claim.count == 1, claim.asks
