"""Placements with equal rules and equal sets are one class: who is in which, and what was found out for it last."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field

from hub.placement.classes import PlacementClass
from hub.placement.rule import ClusterRule

# The sets bound to the namespace, and the number of the rule.
ClassKey = tuple[tuple[str, ...], int]


@dataclass(slots=True, eq=False)
class Class:
    rule: ClusterRule
    members: set[str] = field(default_factory=set)
    view: PlacementClass | None = None
    # The tally's version that `view` counts with.
    counted: int = -1


class Classes:
    """By ``namespace/name`` of a Placement."""

    def __init__(self) -> None:
        # Equal rules have equal numbers, for as long as some Placement has them.
        self._rules: dict[ClusterRule, int] = {}
        self._numbers = itertools.count()
        self._classes: dict[ClassKey, Class] = {}
        self._of: dict[str, ClassKey] = {}

    def __iter__(self) -> Iterator[Class]:
        return iter(self._classes.values())

    def number(self, rule: ClusterRule) -> int:
        return self._rules.setdefault(rule, next(self._numbers))

    def of(self, key: str) -> Class:
        """Raises KeyError for a Placement that is in none."""
        return self._classes[self._of[key]]

    def join(self, key: str, rule: ClusterRule, bound: tuple[str, ...], number: int) -> bool:
        """True when it was in another class before, or in none; it has left that."""
        at = (bound, number)
        if self._of.get(key) == at:
            return False
        self.leave(key)
        found = self._classes.get(at)
        if found is None:
            found = self._classes[at] = Class(rule)
        found.members.add(key)
        self._of[key] = at
        return True

    def leave(self, key: str) -> None:
        at = self._of.pop(key, None)
        if at is None:
            return
        members = self._classes[at].members
        members.discard(key)
        if members:
            return
        del self._classes[at]
        if all(number != at[1] for _, number in self._classes):
            self._rules = {rule: number for rule, number in self._rules.items() if number != at[1]}
