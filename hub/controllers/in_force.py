"""Derived quota that stays in force for what runs: it grows with the clusters at once, and shrinks only as jobs end.

A ClusterQueue whose clusters report less than before keeps as much of what it owned as is in use: otherwise what was
started within its guarantee would count as borrowed from one moment to the next, and others could send it away. What a
Cohort owns belongs to no queue, and shrinks at once. A hub that takes over knows from the queues' conditions which of
them kept something; until it has looked at all that runs, what they use is what they keep.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from hub.api.conditions import find_condition
from hub.api.reasons import Reason
from hub.queueing.derived import Drift
from hub.queueing.ledger import Usage
from hub.queueing.objects import FlavorResource

CONDITION: Final = "NominalQuotaDerived"
_Key = tuple[str, FlavorResource]


class InForce:
    """`used()`: what is held, by ClusterQueue."""

    def __init__(self) -> None:
        self.used: Callable[[], Usage] = dict
        self._before: dict[_Key, int] = {}
        # Of a hub before this one: queues that kept something, and nothing is known yet of what they use.
        self._recalled: set[str] = set()
        self._seen: set[str] = set()
        self._kept: dict[_Key, int] = {}

    def counts(self, kind: str, name: str, key: FlavorResource, derived: int) -> int:
        if kind != "ClusterQueue":
            return derived
        if name in self._recalled:
            return max(derived, self._used(name, key))
        before = self._before.get((name, key), derived)
        return derived if derived >= before else max(derived, min(before, self._used(name, key)))

    def begin(self, queues: Mapping[str, Mapping[str, Any] | None]) -> None:
        """Before quotas are derived: the objects of the queues that derive theirs, by name."""
        for name, obj in queues.items():
            if name not in self._seen:
                self._seen.add(name)
                if _kept_something(obj):
                    self._recalled.add(name)
        for name in self._seen - queues.keys():
            self._forget(name)

    def recall(self, queues: Mapping[str, Mapping[str, Any]]) -> None:
        """Somebody else led until now: the queues' objects as they are, by name, say what it kept."""
        self._before.clear()
        self._recalled = {name for name, obj in queues.items() if _kept_something(obj)}

    def derived(self, drift: Iterable[Drift]) -> None:
        """What came of it."""
        self._kept = {}
        for one in drift:
            if one.kind != "ClusterQueue":
                continue
            key = (one.name, (one.flavor, one.resource))
            if one.name not in self._recalled:
                self._before[key] = one.in_force
            if one.kept or one.name in self._recalled:
                self._kept[key] = self._used(*key)

    def looked(self) -> bool:
        """All that runs is known. Whether that makes a difference."""
        if not self._recalled:
            return False
        self._before |= {key: self._used(*key) for key in self._kept if key[0] in self._recalled}
        self._recalled.clear()
        return True

    @property
    def moved(self) -> bool:
        """Whether something that is kept is in use no more, or more of it than was known."""
        return any(self._used(*key) != used for key, used in self._kept.items())

    def _used(self, name: str, key: FlavorResource) -> int:
        return self.used().get(name, {}).get(key, 0)

    def _forget(self, name: str) -> None:
        self._seen.discard(name)
        self._recalled.discard(name)
        for key in [key for key in self._before if key[0] == name]:
            del self._before[key]


def _kept_something(obj: Mapping[str, Any] | None) -> bool:
    said = find_condition(((obj or {}).get("status") or {}).get("conditions"), CONDITION)
    return said is not None and said.get("reason") == Reason.QUOTA_KEPT.code
