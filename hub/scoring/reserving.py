"""Scorers that count what decisions take: licences, a power budget, anything that no node reports.

Such a scorer has ``reserve(cluster, request)`` and ``unreserve(cluster, request)`` and keeps a ledger of its own. What
is held is written in the fleet: every slice that lives is charged there, and a decision charges each choice before it
makes the next one. So before the scorer is asked about a fleet, its ledger is brought to that fleet: what is held there
and was not in the one before is reserved, what is held no more is given back. A decision that is thrown away is taken
back by that alone, and `plan` stays a function of its snapshot.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hub.api.errors import PluginError
from hub.fleet.fleet import Fleet
from hub.fleet.held import Holding
from hub.scoring.interface import ScoreRequest, lower_is_better, normaliser_of


class Reserving:
    """The scorer that `make` makes, with its ledger always that of the fleet that it is asked about.

    When it raises in the midst of it, nobody knows what its ledger says: the next question makes a new one, which is
    told everything. Not for several threads at once.
    """

    # What it says changes with each choice, so it is asked for each.
    live = True

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._scorer: Any = make()
        self._at = Fleet.empty()
        self._held: dict[str, Mapping[str, Holding]] = {}
        self.name: str = self._scorer.name
        self.lower_is_better = lower_is_better(self._scorer)
        self.normaliser = normaliser_of(self._scorer)
        self.publish = bool(getattr(self._scorer, "publish", True))
        if not callable(getattr(self._scorer, "unreserve", None)):
            raise PluginError("a scorer with reserve needs unreserve too: decisions are taken back")
        if callable(getattr(self._scorer, "filter", None)):
            self.filter = self._filter
        if callable(getattr(self._scorer, "limit", None)):
            self.limit = self._limit
        if callable(getattr(self._scorer, "concerns", None)):
            self.concerns = self._concerns

    def score(self, fleet: Fleet, request: ScoreRequest) -> NDArray[np.float64]:
        found: NDArray[np.float64] = self._ready(fleet, request.now).score(fleet, request)
        return found

    def _filter(self, fleet: Fleet, request: ScoreRequest) -> NDArray[np.bool_]:
        found: NDArray[np.bool_] = self._ready(fleet, request.now).filter(fleet, request)
        return found

    def _limit(self, fleet: Fleet, request: ScoreRequest) -> NDArray[np.int64]:
        found: NDArray[np.int64] = self._ready(fleet, request.now).limit(fleet, request)
        return found

    def _concerns(self, fleet: Fleet) -> NDArray[np.bool_]:
        found: NDArray[np.bool_] = self._scorer.concerns(fleet)
        return found

    def _ready(self, fleet: Fleet, now: float) -> Any:
        if fleet is self._at:
            return self._scorer
        try:
            self._move(fleet, now)
        # An interruption too leaves a ledger that is neither the one nor the other.
        except BaseException:
            self._at, self._held = Fleet.empty(), {}
            self._scorer = self._make()
            raise
        self._at = fleet
        return self._scorer

    def _move(self, fleet: Fleet, now: float) -> None:
        for name in fleet.held_otherwise(self._at):
            before = self._held.get(name, {})
            after: Mapping[str, Holding] = fleet.held(name) if name in fleet else {}
            if after is before:
                continue
            for key in sorted(before):
                known = before[key]
                if not _same(known, after.get(key)):
                    self._scorer.unreserve(name, ScoreRequest(known.shape, known.count, now))
            for key in sorted(after):
                new = after[key]
                if not _same(new, before.get(key)):
                    self._scorer.reserve(name, ScoreRequest(new.shape, new.count, now))
            if after:
                self._held[name] = after
            else:
                self._held.pop(name, None)


def reserves(scorer: Any) -> bool:
    """Whether it wants to be told of decisions."""
    return callable(getattr(scorer, "reserve", None))


def ready_made(make: Callable[[], Any]) -> Any:
    """What `make` makes, as the hub asks it. Raises `PluginError` for half of a pair, and whatever `make` raises."""
    scorer = make()
    return Reserving(make) if reserves(scorer) else scorer


def limits(scorer: Any) -> bool:
    return callable(getattr(scorer, "limit", None))


def _same(one: Holding, other: Holding | None) -> bool:
    return other is not None and (one is other or (one.count == other.count and one.shape == other.shape))
