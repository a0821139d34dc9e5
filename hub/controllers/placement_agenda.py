"""Which Placements are to be decided, and when: at once, when the rate of their scores allows, when time alone could
change something. Plain bookkeeping; what is decided is hub/controllers/placements.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

_LONGEST_NAP: Final = 3600.0


class Agenda:
    """Keys are ``namespace/name``, moments epoch seconds."""

    def __init__(self) -> None:
        self.dirty: set[str] = set()
        self._scored: dict[str, float] = {}
        self._due: dict[str, float] = {}

    def now(self, keys: Iterable[str]) -> None:
        self.dirty.update(keys)

    def due(self, key: str, moment: float) -> None:
        """At `moment` time alone could change it; inf: never."""
        if math.isfinite(moment):
            self._due[key] = min(moment, self._due.get(key, math.inf))

    def scored(self, key: str, moment: float) -> None:
        """Its scores have changed, and may change it from `moment` on."""
        self._scored[key] = min(moment, self._scored.get(key, math.inf))

    def decided(self, key: str) -> None:
        """What was to cause that it is decided is done, or does not matter any more."""
        self._due.pop(key, None)
        self._scored.pop(key, None)

    def drop(self, key: str) -> None:
        """It is gone."""
        self.decided(key)
        self.dirty.discard(key)

    def late(self, now: float) -> list[str]:
        """For which time has come; they are not due any more."""
        late = [key for key, at in self._due.items() if at <= now]
        for key in late:
            del self._due[key]
        return late

    def take(self, now: float) -> list[str]:
        """What is to be decided now, in the order of the keys."""
        self.dirty.update(key for key, at in self._scored.items() if at <= now)
        found = sorted(self.dirty)
        self.dirty = set()
        for key in found:
            self._scored.pop(key, None)
        return found

    def nap(self, now: float) -> float:
        """Seconds until something is due."""
        soonest = min(min(self._due.values(), default=math.inf), min(self._scored.values(), default=math.inf))
        return max(0.0, min(_LONGEST_NAP, soonest - now))
